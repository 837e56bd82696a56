// Processes that are started: what they inherit, and when they end.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <thread>

#include "spawn.hpp"

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

}  // namespace

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

TEST(Spawn, LooksThroughThePathAsAShellDoes) {
    const char *before = getenv("PATH");
    const std::string path = before != nullptr ? before : "";
    // A folder that is not there, one in which it is no program, an empty entry, one in which it is.
    setenv("PATH", "/nonexistent:/etc/passwd::/usr/share:/bin", 1);
    EXPECT_EQ(output_of({"echo", "found"}, {}, {}, 3), "found\n");
    setenv("PATH", "/nonexistent", 1);
    EXPECT_EQ(sys::spawn({"echo"}, {}, {}, 3).error(), -ENOENT);
    EXPECT_EQ(sys::spawn({""}, {}, {}, 3).error(), -ENOENT);
    setenv("PATH", path.c_str(), 1);
}

TEST(Spawn, LeavesNothingBehindOfWhatCouldNotBeStarted) {
    EXPECT_EQ(sys::spawn({"/nonexistent/program"}, {}, {}, 3).error(), -ENOENT);
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
}

TEST(Spawn, IsKilledWithTheThreadThatStartedItWhateverItDoes) {
    // One that never asks for it, and one that can't ask, because it is stopped.
    for (const bool stopped : {false, true}) {
        pid_t pid = -1;
        std::thread([&] {
            auto child = sys::spawn({"/bin/sleep", "100"}, {}, {}, 3);
            ASSERT_TRUE(child);
            pid = *child;
            if (!stopped) return;
            kill(pid, SIGSTOP);
            siginfo_t info{};
            waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOWAIT);
        }).join();
        int status = 0;
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        EXPECT_TRUE(WIFSIGNALED(status));
        EXPECT_EQ(WTERMSIG(status), SIGKILL);
    }
}
