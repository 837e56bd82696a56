#include "exit_watch.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace aiomq {
namespace {

/// Room for thread-local storage of whatever libraries the program loads, as for the watchdog.
constexpr std::size_t kWaiterStackBytes = 512 << 10;

/// What a kernel or a sandbox without a system call answers.
bool is_unknown_call(int error) { return error == -ENOSYS || error == -EPERM; }

}  // namespace

struct ExitWatch::Waiter {
    pid_t pid;
    UniqueFd end;  ///< closed with this: the other end becomes readable
};

ExitWatch &ExitWatch::operator=(ExitWatch &&other) noexcept {
    reset();
    fd_ = std::move(other.fd_);
    own_end_ = std::move(other.own_end_);
    pid_ = std::exchange(other.pid_, 0);
    thread_ = other.thread_;
    has_thread_ = std::exchange(other.has_thread_, false);
    return *this;
}

Result<ExitWatch> ExitWatch::child(pid_t pid) {
    ExitWatch watch;
    watch.pid_ = pid;
    auto pidfd = sys::open_pidfd(pid);
    if (pidfd) {
        watch.fd_ = std::move(*pidfd);
        return watch;
    }
    if (!is_unknown_call(pidfd.error())) return Result<ExitWatch>::failure(pidfd.error());
    auto waiter = std::make_unique<Waiter>();
    waiter->pid = pid;
    if (const int error = sys::make_pipe(watch.fd_, waiter->end); error != 0)
        return Result<ExitWatch>::failure(error);
    const int error = sys::start_thread(
        "aiomq-waiter", kWaiterStackBytes,
        [](void *argument) -> void * {
            const std::unique_ptr<Waiter> self(static_cast<Waiter *>(argument));
            siginfo_t info{};
            while (waitid(P_PID, static_cast<id_t>(self->pid), &info, WEXITED | WNOWAIT) != 0 &&
                   errno == EINTR) {
            }
            return nullptr;
        },
        waiter.get(), watch.thread_);
    if (error != 0) return Result<ExitWatch>::failure(error);
    static_cast<void>(waiter.release());  // the thread's
    watch.has_thread_ = true;
    return watch;
}

Result<ExitWatch> ExitWatch::self() {
    ExitWatch watch;
    watch.pid_ = getpid();
    auto pidfd = sys::open_pidfd(watch.pid_);
    if (pidfd)
        watch.fd_ = std::move(*pidfd);
    else if (!is_unknown_call(pidfd.error()))
        return Result<ExitWatch>::failure(pidfd.error());
    else if (const int error = sys::make_pipe(watch.fd_, watch.own_end_); error != 0)
        return Result<ExitWatch>::failure(error);
    return watch;
}

int ExitWatch::signal(int number) const {
    const int error = has_thread_ ? -ENOSYS : sys::signal_process(fd_.get(), number);
    if (!is_unknown_call(error)) return error;
    return kill(pid_, number) == 0 ? 0 : -errno;  // not reaped: the pid is its own
}

void ExitWatch::reset() {
    if (std::exchange(has_thread_, false)) pthread_join(thread_, nullptr);
    own_end_.reset();
    fd_.reset();
    pid_ = 0;
}

}  // namespace aiomq
