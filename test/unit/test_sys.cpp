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
#include "sys.hpp"

using namespace aiomq;  // NOLINT(google-build-using-namespace)

namespace {

std::string output_of(const std::vector<std::string> &argv,
                      const std::vector<std::string> &environment,
                      std::vector<sys::InheritedFd> inherited, int close_from) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    UniqueFd high(fcntl(ends[1], F_DUPFD_CLOEXEC, 50));
    close(ends[1]);
    inherited.push_back({high.get(), STDOUT_FILENO});
    auto pid = sys::spawn(argv, environment, inherited, close_from);
    EXPECT_TRUE(pid) << strerror(-pid.error());
    high.reset();
    std::string text;
    char bytes[4096];
    for (ssize_t count = 0; (count = read(ends[0], bytes, sizeof bytes)) > 0;)
        text.append(bytes, static_cast<std::size_t>(count));
    close(ends[0]);
    waitpid(*pid, nullptr, 0);
    return text;
}

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

TEST(Spawn, NamesAProgramThatIsMissing) {
    EXPECT_EQ(sys::spawn({"/nonexistent/program"}, {}, {}, 3).error(), -ENOENT);
    EXPECT_EQ(sys::spawn({"no-such-program-in-path"}, {}, {}, 3).error(), -ENOENT);
    EXPECT_EQ(sys::spawn({"/"}, {}, {}, 3).error(), -EACCES);
}

TEST(Spawn, PassesItsArgumentsAndEnvironmentAndNothingElse) {
    EXPECT_EQ(output_of({"/bin/sh", "-c", "echo $0 $1 $NAME $HOME", "one", "two words"},
                        {"NAME=value"}, {}, 3),
              "one two words value\n");
}

TEST(Spawn, PassesTheNamedDescriptorsAndClosesTheRest) {
    // Left open on purpose, not close-on-exec: closed all the same, above and below the targets.
    const UniqueFd low(fcntl(STDIN_FILENO, F_DUPFD, 3));
    const UniqueFd high(fcntl(STDIN_FILENO, F_DUPFD, 40));
    const UniqueFd passed(open("/dev/zero", O_RDONLY | O_CLOEXEC));
    auto source = sys::duplicate(passed.get(), 50);
    const std::string list =
        output_of({"/bin/sh", "-c", "readlink /proc/$$/fd/5; ls /proc/$$/fd | tr '\\n' ' '"},
                  {"PATH=/bin:/usr/bin"}, {{source->get(), 5}}, 6);
    EXPECT_EQ(list.substr(0, 10), "/dev/zero\n") << list;
    EXPECT_EQ(list.find(" 40 "), std::string::npos) << list;
}

TEST(Spawn, ResetsSignalMaskAndDispositions) {
    sigset_t block;
    sigset_t before;
    sigemptyset(&block);
    sigaddset(&block, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &block, &before);
    const auto ignored = std::signal(SIGPIPE, SIG_IGN);
    const std::string text =
        output_of({"grep", "Sig[BI]", "/proc/self/status"}, {"PATH=/bin:/usr/bin"}, {}, 3);
    std::signal(SIGPIPE, ignored);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    unsigned long blocked = 1;
    unsigned long ignores = 1;
    ASSERT_EQ(std::sscanf(text.c_str(), "SigBlk: %lx SigIgn: %lx", &blocked, &ignores), 2) << text;
    EXPECT_EQ(blocked, 0U);
    EXPECT_EQ(ignores & 0x7fffffff, 0U) << "glibc ignores its own two real-time signals";
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
