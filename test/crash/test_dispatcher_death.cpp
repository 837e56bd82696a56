// A dispatcher that ends, however it ends: its workers are gone within a second, whatever they do, and
// nothing is left behind.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>

#include "../support/pool_fixture.hpp"
#include "../support/process.hpp"

using aiomq_test::TestPool;

namespace {

constexpr int kWorkers = 4;
constexpr int kAllowedMs = 1000;

int loop_for_ever(const aiomq_call *call, aiomq_item *) {
    aiomq_worker_flush(call->worker);
    for (;;) asm volatile("");
}
/// In a system call that no signal but SIGKILL interrupts.
int block_for_ever(const aiomq_call *, aiomq_item *) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, nullptr);
    int ends[2];
    char byte = 0;
    if (pipe(ends) != 0) return -errno;
    return read(ends[0], &byte, 1) == 1 ? 0 : -EIO;
}
const aiomq_test::MoreBodies kMore{{"loop_for_ever", loop_for_ever, nullptr},
                                   {"block_for_ever", block_for_ever, nullptr}};

struct Pids {
    pid_t workers[kWorkers];
    pid_t heir;  ///< a child that the application forked and that lives on
};

/// Makes a pool whose workers loop, block, are stopped and sleep; tells their pids to @out.
void be_a_dispatcher(int out) {
    auto &pool = *new TestPool({.workers = kWorkers});  // outlives this call
    Pids pids{};
    for (std::uint32_t i = 0; i < kWorkers; ++i) pids.workers[i] = pool.worker_stats(i).pid;
    pids.heir = fork();
    if (pids.heir == 0) {
        alarm(60);  // should the test fail
        for (;;) pause();
    }
    pool.submit("loop_for_ever");
    pool.submit("block_for_ever");
    std::vector<std::uint32_t> idle;
    pool.wait_until([&] {
        idle.clear();
        for (std::uint32_t i = 0; i < kWorkers; ++i)
            if (pool.worker_stats(i).running == 0) idle.push_back(i);
        return idle.size() == 2;
    });
    aiomq_test::stop(pids.workers[idle[0]]);
    if (write(out, &pids, sizeof pids) != sizeof pids) _exit(1);
}

/// Makes a pool whose workers start for ever, half of them stopped in it; tells their pids to @out.
void be_a_dispatcher_of_starters(int out) {
    auto &pool = *new TestPool({.workers = kWorkers,
                                .flags = AIOMQ_POOL_NOWAIT,
                                .arguments = {"100"},
                                .program = "/bin/sleep"});  // outlives this call
    Pids pids{};
    pids.heir = fork();
    if (pids.heir == 0) {
        alarm(60);  // should the test fail
        for (;;) pause();
    }
    for (std::uint32_t i = 0; i < kWorkers; ++i) {
        while ((pids.workers[i] = pool.worker_stats(i).pid) == 0) sched_yield();
        if (i % 2 == 0) aiomq_test::stop(pids.workers[i]);
    }
    if (write(out, &pids, sizeof pids) != sizeof pids) _exit(1);
}

std::vector<std::string> files_in(const char *folder) {
    std::vector<std::string> names;
    DIR *directory = opendir(folder);
    while (const dirent *entry = readdir(directory)) names.emplace_back(entry->d_name);
    closedir(directory);
    std::sort(names.begin(), names.end());
    return names;
}

class DispatcherDeath : public testing::Test {
  protected:
    /// Starts a dispatcher that ends by @end; when it has, its workers must be gone soon.
    void expect_no_survivors(const std::function<void()> &end,
                             const std::function<void(int)> &begin = be_a_dispatcher) {
        const auto shm = files_in("/dev/shm");
        int ends[2];
        ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
        const pid_t dispatcher = fork();
        if (dispatcher == 0) {
            alarm(60);
            begin(ends[1]);
            char go = 0;  // when the test has looked at everybody
            if (read(go_[0], &go, 1) != 1) _exit(1);
            end();
            _exit(2);
        }
        close(ends[1]);
        Pids pids{};
        ASSERT_EQ(read(ends[0], &pids, sizeof pids), static_cast<ssize_t>(sizeof pids));
        close(ends[0]);
        std::vector<pollfd> watches;
        for (const pid_t pid : pids.workers) {
            const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
            ASSERT_GE(fd, 0) << "pid " << pid << ": " << strerror(errno);
            watches.push_back({fd, POLLIN, 0});
        }
        ASSERT_EQ(write(go_[1], "!", 1), 1);
        waitpid(dispatcher, nullptr, 0);
        const std::uint64_t start = now_ms();
        for (const pollfd &watch : watches) {
            pollfd one = watch;
            const int left = kAllowedMs - static_cast<int>(now_ms() - start);
            EXPECT_EQ(poll(&one, 1, std::max(left, 0)), 1)
                << "worker " << (&watch - watches.data()) << " lives on";
            close(watch.fd);
        }
        EXPECT_EQ(kill(pids.heir, SIGKILL), 0) << "the application's own child was ended too";
        EXPECT_EQ(files_in("/dev/shm"), shm);
    }

    static std::uint64_t now_ms() {
        timespec now{};
        clock_gettime(CLOCK_MONOTONIC, &now);
        return static_cast<std::uint64_t>(now.tv_sec) * 1000 +
               static_cast<std::uint64_t>(now.tv_nsec) / 1000000;
    }

    void SetUp() override { ASSERT_EQ(pipe2(go_, O_CLOEXEC), 0); }
    void TearDown() override {
        close(go_[0]);
        close(go_[1]);
    }

    int go_[2] = {-1, -1};
};

void die_of(int number) {
    signal(number, SIG_DFL);
    raise(number);
}

}  // namespace

TEST_F(DispatcherDeath, ByKill) {
    expect_no_survivors([] { die_of(SIGKILL); });
}

TEST_F(DispatcherDeath, ByKillWhileItsWorkersStart) {
    expect_no_survivors([] { die_of(SIGKILL); }, be_a_dispatcher_of_starters);
}

TEST_F(DispatcherDeath, ByExecWhileItsWorkersStart) {
    expect_no_survivors([] { execl("/bin/true", "true", nullptr); }, be_a_dispatcher_of_starters);
}

TEST_F(DispatcherDeath, BySegmentationFault) {
    expect_no_survivors([] { die_of(SIGSEGV); });
}

TEST_F(DispatcherDeath, ByAbort) {
    expect_no_survivors([] { abort(); });
}

TEST_F(DispatcherDeath, ByExitWithoutCleaningUp) {
    expect_no_survivors([] { _exit(0); });
}

TEST_F(DispatcherDeath, ByExecOfAnotherProgram) {
    expect_no_survivors([] { execl("/bin/true", "true", nullptr); });
}

TEST_F(DispatcherDeath, ByTheEndOfItsTerminal) {
    int master = -1;
    int slave = -1;
    ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
    fcntl(master, F_SETFD, FD_CLOEXEC);
    fcntl(slave, F_SETFD, FD_CLOEXEC);
    int told[2];
    ASSERT_EQ(pipe2(told, O_CLOEXEC), 0);
    const pid_t session = fork();
    if (session == 0) {
        close(master);
        signal(SIGHUP, SIG_DFL);  // whoever started us may ignore it
        alarm(60);
        setsid();
        ioctl(slave, TIOCSCTTY, 0);
        be_a_dispatcher(told[1]);
        for (;;) pause();
    }
    close(slave);
    close(told[1]);
    Pids pids{};
    ASSERT_EQ(read(told[0], &pids, sizeof pids), static_cast<ssize_t>(sizeof pids));
    close(told[0]);
    std::vector<int> watches;
    for (const pid_t pid : pids.workers)
        watches.push_back(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    close(master);
    waitpid(session, nullptr, 0);
    for (const int fd : watches) {
        pollfd one{fd, POLLIN, 0};
        EXPECT_EQ(poll(&one, 1, kAllowedMs), 1);
        close(fd);
    }
    kill(pids.heir, SIGKILL);
}
