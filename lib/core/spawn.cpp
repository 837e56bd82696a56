// posix_spawn(3) can't ask for the parent-death signal, and a program that asks for it itself is nobody's
// until it does. So the child is made here, in the way of glibc's posix_spawn: it borrows its parent's
// memory until it runs the program, and the parent's thread waits for that (clone(2), CLONE_VFORK). It
// may allocate nothing and changes nothing but its own place in the plan. It makes its system calls
// directly: a sanitizer would take what it does with descriptors and signals for its parent's doing.
#include "spawn.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <memory>

#define AIOMQ_IN_CHILD [[gnu::no_sanitize("address", "thread", "undefined")]]

#ifdef __SANITIZE_THREAD__
// ThreadSanitizer takes clone(3) for a fork, and goes on as if the parent were its child: the memory is the
// same. It does not know the C library's other name.
extern "C" int __clone(int (*body)(void *), void *stack, int flags, void *argument, ...);  // NOLINT
#define clone __clone
#endif

namespace aiomq::sys {
namespace {

constexpr std::size_t kStackBytes = 64U << 10;
constexpr int kCouldNotRun = 127;  // the shell's word for it
/// The kernel's struct sigaction, as zeros: the default disposition.
constexpr std::size_t kKernelActionBytes = 64;
constexpr std::size_t kKernelSetBytes = 8;

/// All that the child needs, as plain arrays of its parent.
struct Plan {
    pid_t parent;
    char *const *files;  ///< to try in this order; ends with a null pointer
    char *const *argv;
    char *const *environment;
    const InheritedFd *inherited;
    std::size_t inherited_count;
    const int *closed;
    std::size_t closed_count;
    int close_from;
    int error;  ///< what came of it
};

AIOMQ_IN_CHILD int run_one_of(Plan &plan) {
    int error = ENOENT;
    for (char *const *file = plan.files; *file != nullptr; ++file) {
        syscall(SYS_execve, *file, plan.argv, plan.environment);
        if (errno == EACCES) {
            error = EACCES;  // more telling than that the others are not there
        } else if (errno != ENOENT && errno != ENOTDIR) {
            return errno;
        }
    }
    return error;
}

AIOMQ_IN_CHILD int prepare_and_run(Plan &plan) {
    if (syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return errno;
    // It may have died before. Nobody reads the error then.
    if (syscall(SYS_getppid) != plan.parent) return ESRCH;
    const unsigned char by_default[kKernelActionBytes] = {};
    for (int signal = 1; signal < NSIG; ++signal)
        syscall(SYS_rt_sigaction, signal, by_default, nullptr, kKernelSetBytes);
    for (std::size_t i = 0; i < plan.inherited_count; ++i)
        if (syscall(SYS_dup3, plan.inherited[i].source, plan.inherited[i].target, 0) < 0)
            return errno;
    for (std::size_t i = 0; i < plan.closed_count; ++i) syscall(SYS_close, plan.closed[i]);
    closefrom(plan.close_from);
    const unsigned char none[kKernelSetBytes] = {};
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, none, nullptr, kKernelSetBytes);
    return run_one_of(plan);
}

AIOMQ_IN_CHILD int be_the_child(void *context) {
    auto &plan = *static_cast<Plan *>(context);
    plan.error = prepare_and_run(plan);
    syscall(SYS_exit_group, kCouldNotRun);
    return kCouldNotRun;
}

/// The files that execvp(3) would try for @name.
std::vector<std::string> files_named(const std::string &name) {
    if (name.empty()) return {};
    if (name.find('/') != std::string::npos) return {name};
    const char *variable = getenv("PATH");
    const std::string path = variable != nullptr ? variable : "/bin:/usr/bin";
    std::vector<std::string> files;
    for (std::size_t begin = 0; begin <= path.size();) {
        const std::size_t end = std::min(path.find(':', begin), path.size());
        files.push_back(path.substr(begin, end - begin));
        if (end > begin) files.back() += '/';
        files.back() += name;
        begin = end + 1;
    }
    return files;
}

std::vector<char *> pointers(const std::vector<std::string> &strings) {
    std::vector<char *> result;
    result.reserve(strings.size() + 1);
    for (const auto &string : strings) result.push_back(const_cast<char *>(string.c_str()));
    result.push_back(nullptr);
    return result;
}

/// clone(2) without a signal handler that could run in both.
Result<pid_t> run_child(Plan &plan) {
    const auto stack =
        std::make_unique_for_overwrite<std::max_align_t[]>(kStackBytes / sizeof(std::max_align_t));
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t pid = clone(be_the_child, stack.get() + kStackBytes / sizeof(std::max_align_t),
                            CLONE_VM | CLONE_VFORK | SIGCHLD, &plan);
    const int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) return Result<pid_t>::failure(-error);
    return pid;
}

}  // namespace

Result<pid_t> spawn(const std::vector<std::string> &argv,
                    const std::vector<std::string> &environment,
                    const std::vector<InheritedFd> &inherited, int close_from) {
    const std::vector<std::string> files = files_named(argv[0]);
    const std::vector<char *> file_pointers = pointers(files);
    const std::vector<char *> argv_pointers = pointers(argv);
    const std::vector<char *> environment_pointers = pointers(environment);
    std::vector<int> closed;
    for (int fd = 0; fd < close_from; ++fd)
        if (std::none_of(inherited.begin(), inherited.end(),
                         [fd](const auto &entry) { return entry.target == fd; }))
            closed.push_back(fd);
    Plan plan{.parent = getpid(),
              .files = file_pointers.data(),
              .argv = argv_pointers.data(),
              .environment = environment_pointers.data(),
              .inherited = inherited.data(),
              .inherited_count = inherited.size(),
              .closed = closed.data(),
              .closed_count = closed.size(),
              .close_from = close_from,
              .error = 0};
    auto pid = run_child(plan);
    if (!pid || plan.error == 0) return pid;
    ExitStatus ignored;
    while (!reap(*pid, ignored)) sched_yield();
    return Result<pid_t>::failure(-plan.error);
}

}  // namespace aiomq::sys
