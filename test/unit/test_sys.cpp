// System calls as values: what each wrapper promises to the layers above.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <thread>

#include "../support/control_group.hpp"
#include "spawn.hpp"
#include "sys.hpp"

using namespace aiomq;  // NOLINT(google-build-using-namespace)

namespace {

/// Blocks until the child has ended, without reaping it.
void wait_for_end(pid_t pid) {
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT);
}

}  // namespace

TEST(UniqueFd, ClosesItsDescriptorOnceWhereverItIsMoved) {
    const int raw = open("/dev/null", O_RDONLY | O_CLOEXEC);
    {
        UniqueFd first(raw);
        UniqueFd second(std::move(first));
        EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): what it promises
        first = std::move(second);
        EXPECT_EQ(first.get(), raw);
        UniqueFd &same = first;
        first = std::move(same);
        EXPECT_TRUE(sys::is_open(raw));
    }
    EXPECT_FALSE(sys::is_open(raw));
}

TEST(Memfd, CanNeitherGrowNorShrinkAndIsRecognised) {
    auto fd = sys::sealed_memfd("aiomq:test", 1 << 20);
    ASSERT_TRUE(fd);
    EXPECT_TRUE(sys::sealed_against_shrinking(fd->get()));
    EXPECT_NE(ftruncate(fd->get(), 1 << 19), 0);
    EXPECT_NE(ftruncate(fd->get(), 1 << 21), 0);
    EXPECT_EQ(fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    const UniqueFd plain(memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_FALSE(sys::sealed_against_shrinking(plain.get()));
    EXPECT_FALSE(sys::sealed_against_shrinking(STDIN_FILENO));
    EXPECT_FALSE(sys::sealed_against_shrinking(-1));
}

TEST(Memfd, HasNoPagesUntilTheyAreCommitted) {
    auto fd = sys::sealed_memfd("aiomq:test", 64 << 20);
    ASSERT_TRUE(fd);
    struct stat before {};
    fstat(fd->get(), &before);
    EXPECT_EQ(before.st_blocks, 0);
    EXPECT_EQ(sys::commit(fd->get(), 8 << 20, 40 << 20), 0);  // more than one step
    struct stat after {};
    fstat(fd->get(), &after);
    EXPECT_EQ(after.st_blocks * 512, 40 << 20);
    EXPECT_LT(sys::commit(fd->get(), 63 << 20, 2 << 20), 0) << "beyond the sealed end";
}

TEST(Memfd, RefusesWhatNoFileCanHold) {
    EXPECT_EQ(sys::sealed_memfd("aiomq:test", UINT64_MAX).error(), -ENOMEM);
}

TEST(EventFd, IsReadableFromSignalToConsume) {
    auto fd = sys::event_fd();
    ASSERT_TRUE(fd);
    EXPECT_FALSE(sys::event_consume(fd->get()));
    EXPECT_EQ(sys::poll_readable(fd->get(), 0), 0);
    EXPECT_EQ(sys::event_signal(fd->get()), 0);
    EXPECT_EQ(sys::event_signal(fd->get()), 0);
    EXPECT_EQ(sys::poll_readable(fd->get(), sys::kForever), 1);
    EXPECT_TRUE(sys::event_consume(fd->get()));
    EXPECT_FALSE(sys::event_consume(fd->get()));
    // Full: it is readable already, which is all that a signal is for.
    const std::uint64_t most = UINT64_MAX - 1;
    ASSERT_EQ(write(fd->get(), &most, sizeof most), 8);
    EXPECT_EQ(sys::event_signal(fd->get()), 0);
    EXPECT_LT(sys::event_signal(-1), 0);
}

TEST(Poll, EndsWhenTheTimeIsOver) {
    auto fd = sys::event_fd();
    const std::uint64_t start = sys::monotonic_ns();
    EXPECT_EQ(sys::poll_readable(fd->get(), 20'000'000), 0);
    EXPECT_GE(sys::monotonic_ns() - start, 20'000'000U);
}

TEST(Duplicate, LiesAboveTheLowestAndClosesOnExec) {
    auto fd = sys::duplicate(STDIN_FILENO, 100);
    ASSERT_TRUE(fd);
    EXPECT_GE(fd->get(), 100);
    EXPECT_EQ(fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    EXPECT_EQ(sys::set_cloexec(fd->get(), false), 0);
    EXPECT_EQ(fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(sys::duplicate(-1, 100).error(), -EBADF);
    EXPECT_EQ(sys::set_cloexec(-1, true), -EBADF);
}

TEST(Reap, TellsHowAProcessEnded) {
    sys::ExitStatus status;
    auto pid = sys::spawn({"/bin/sh", "-c", "exit 7"}, {}, {}, 3);
    ASSERT_TRUE(pid);
    wait_for_end(*pid);
    ASSERT_TRUE(sys::reap(*pid, status));
    EXPECT_EQ(sys::describe_exit(status), "exited with status 7");

    pid = sys::spawn({"/bin/sleep", "100"}, {}, {}, 3);
    ASSERT_TRUE(pid);
    EXPECT_FALSE(sys::reap(*pid, status));
    auto pidfd = sys::open_pidfd(*pid);
    ASSERT_TRUE(pidfd);
    EXPECT_EQ(sys::poll_readable(pidfd->get(), 0), 0);
    EXPECT_EQ(sys::signal_process(pidfd->get(), SIGKILL), 0);
    EXPECT_EQ(sys::poll_readable(pidfd->get(), sys::kForever), 1);
    ASSERT_TRUE(sys::reap(*pid, status));
    EXPECT_EQ(status.signal, SIGKILL);
    EXPECT_EQ(sys::describe_exit(status), "was killed by signal 9 (SIGKILL)");
}

TEST(Reap, CountsAChildThatTheApplicationReapedAsGone) {
    auto pid = sys::spawn({"/bin/true"}, {}, {}, 3);
    ASSERT_TRUE(pid);
    waitpid(*pid, nullptr, 0);
    sys::ExitStatus status;
    EXPECT_TRUE(sys::reap(*pid, status));
    EXPECT_FALSE(status.known);
    EXPECT_EQ(sys::describe_exit(status), "ended with an unknown status");
}

TEST(System, AnswersWithinReason) {
    EXPECT_GE(sys::usable_cpus(), 1U);
    EXPECT_LE(sys::usable_cpus(), static_cast<unsigned>(sysconf(_SC_NPROCESSORS_ONLN)));
    EXPECT_GT(sys::physical_memory_bytes(), 1U << 20);
    EXPECT_GT(sys::cgroup_available_bytes(), 0U);
    EXPECT_NE(sys::program_name().find("test_sys"), std::string::npos);
    const std::uint64_t coarse = sys::monotonic_coarse_ns();
    EXPECT_LT(sys::monotonic_ns() - coarse, 1'000'000'000U);
}

TEST(System, CountsTheCpusOfAControlGroupsQuota) {
    cpu_set_t all;
    CPU_ZERO(&all);
    sched_getaffinity(0, sizeof all, &all);
    if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "one CPU";
    aiomq_test::ControlGroup group("cpu", "cpu.cfs_quota_us", "100000");
    if (!group) GTEST_SKIP() << "no control group can be made here";
    EXPECT_EQ(group.ask([] { return std::to_string(sys::usable_cpus()); }), "1");
}

TEST(System, CountsTheCpusOfAnAffinity) {
    std::uint64_t cpus = 0;
    std::thread narrow([&] {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(static_cast<std::size_t>(sched_getcpu()), &set);
        ASSERT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
        cpus = sys::usable_cpus();
    });
    narrow.join();
    EXPECT_EQ(cpus, 1U);
}

TEST(System, CountsTheMemoryThatAControlGroupLeaves) {
    constexpr std::uint64_t kLimit = 64 << 20;
    aiomq_test::ControlGroup group("memory", "memory.limit_in_bytes", std::to_string(kLimit));
    if (!group) GTEST_SKIP() << "no control group can be made here";
    const std::string answer =
        group.ask([] { return std::to_string(sys::cgroup_available_bytes()); });
    EXPECT_GT(std::stoull(answer), 0U);
    EXPECT_LE(std::stoull(answer), kLimit);
}
