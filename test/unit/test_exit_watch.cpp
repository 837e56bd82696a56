// The end of a process is noticed, with pidfds and in sandboxes without them.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "../support/sandbox.hpp"
#include "exit_watch.hpp"

using aiomq::ExitWatch;
using aiomq::UniqueFd;
namespace sys = aiomq::sys;

namespace {

pid_t start_child() {
    const pid_t pid = fork();
    if (pid == 0)
        for (;;) pause();
    return pid;
}

int count_waiters() {
    int waiters = 0;
    for (const auto &task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::string name;
        std::getline(std::ifstream(task.path() / "comm"), name);
        waiters += name == "aiomq-waiter";
    }
    return waiters;
}

void notices_a_child() {
    const pid_t pid = start_child();
    auto watch = ExitWatch::child(pid);
    ASSERT_TRUE(watch) << watch.error();
    EXPECT_EQ(sys::poll_readable(watch->fd(), 0), 0);
    EXPECT_EQ(watch->signal(SIGSTOP), 0);
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
    EXPECT_TRUE(WIFSTOPPED(status));
    EXPECT_EQ(sys::poll_readable(watch->fd(), 0), 0) << "a stopped process has not ended";
    EXPECT_EQ(watch->signal(SIGKILL), 0);
    EXPECT_EQ(sys::poll_readable(watch->fd(), sys::kForever), 1);
    sys::ExitStatus exit;
    ASSERT_TRUE(sys::reap(pid, exit)) << "it was reaped by the watch";
    EXPECT_EQ(exit.signal, SIGKILL);
}

void notices_a_child_that_has_ended_before() {
    const pid_t pid = fork();
    if (pid == 0) _exit(7);
    siginfo_t info{};
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
    auto watch = ExitWatch::child(pid);
    ASSERT_TRUE(watch) << watch.error();
    EXPECT_EQ(sys::poll_readable(watch->fd(), sys::kForever), 1);
    sys::ExitStatus exit;
    ASSERT_TRUE(sys::reap(pid, exit));
    EXPECT_EQ(exit.exit_code, 7);
}

/// A grandchild keeps every descriptor of the child's, and lives on.
void notices_a_child_whose_own_child_lives_on() {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        const pid_t grandchild = start_child();
        if (write(ends[1], &grandchild, sizeof grandchild) != sizeof grandchild) _exit(1);
        for (;;) pause();
    }
    pid_t grandchild = 0;
    auto watch = ExitWatch::child(pid);
    ASSERT_TRUE(watch) << watch.error();
    ASSERT_EQ(read(ends[0], &grandchild, sizeof grandchild),
              static_cast<ssize_t>(sizeof grandchild));
    EXPECT_EQ(watch->signal(SIGKILL), 0);
    EXPECT_EQ(sys::poll_readable(watch->fd(), sys::kForever), 1);
    sys::ExitStatus exit;
    EXPECT_TRUE(sys::reap(pid, exit));
    kill(grandchild, SIGKILL);
    close(ends[0]);
    close(ends[1]);
}

/// Others inherit the descriptor and see this process's end in it.
void tells_others_of_the_own_end() {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        auto self = ExitWatch::self();
        if (!self) _exit(1);
        const pid_t observer = fork();
        if (observer == 0) {
            UniqueFd inherited(dup(self->fd()));
            self->reset();  // as an exec closes it
            char answer = sys::poll_readable(inherited.get(), 0) == 0 ? 'l' : '?';
            if (write(ends[1], &answer, 1) != 1) _exit(1);
            answer = sys::poll_readable(inherited.get(), sys::kForever) == 1 ? 'e' : '?';
            _exit(write(ends[1], &answer, 1) == 1 ? 0 : 1);
        }
        for (;;) pause();
    }
    close(ends[1]);
    char answer = 0;
    ASSERT_EQ(read(ends[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'l');
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    ASSERT_EQ(read(ends[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'e');
    close(ends[0]);
}

void run_all() {
    notices_a_child();
    notices_a_child_that_has_ended_before();
    notices_a_child_whose_own_child_lives_on();
    tells_others_of_the_own_end();
}

}  // namespace

TEST(ExitWatch, NoticesTheEndOfAProcess) { run_all(); }

TEST(ExitWatch, NoticesTheEndOfAProcessWithoutPidfds) {
    for (const int error : {ENOSYS, EPERM}) {
        std::thread sandboxed([&] {
            ASSERT_TRUE(aiomq_test::forbid_pidfds(error));
            run_all();
        });
        sandboxed.join();
        while (count_waiters() > 0) sched_yield();  // or this test is ended by its time limit
    }
}

TEST(ExitWatch, SaysWhyAProcessCantBeWatched) {
    auto watch = ExitWatch::child(0);
    ASSERT_FALSE(watch);
    EXPECT_EQ(watch.error(), -EINVAL);
}
