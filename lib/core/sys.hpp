// System calls, wrapped once: errors as values, descriptors that close themselves, clocks.
//
// Nothing here knows about pools. Every function gives a negative errno instead of setting errno,
// restarts on EINTR, and creates descriptors close-on-exec.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aiomq {

/// A value or a negative errno; what std::expected<T, int> will be.
template <typename T>
class Result {
  public:
    Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
    static Result failure(int error) { return Result(error, nullptr); }

    explicit operator bool() const { return error_ == 0; }
    int error() const { return error_; }
    T &value() { return value_; }
    T &operator*() { return value_; }
    T *operator->() { return &value_; }

  private:
    Result(int error, std::nullptr_t) : error_(error) {}
    T value_{};
    int error_ = 0;
};

/// Owns one file descriptor.
class UniqueFd {
  public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) : fd_(fd) {}
    UniqueFd(UniqueFd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    UniqueFd &operator=(UniqueFd &&other) noexcept {
        reset(std::exchange(other.fd_, -1));
        return *this;
    }
    UniqueFd(const UniqueFd &) = delete;
    UniqueFd &operator=(const UniqueFd &) = delete;
    ~UniqueFd() { reset(); }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    void reset(int fd = -1);

  private:
    int fd_ = -1;
};

namespace sys {

inline constexpr std::uint64_t kForever = UINT64_MAX;

std::uint64_t monotonic_ns();
/// Resolution of some milliseconds, a quarter of the cost: for ages that people read.
std::uint64_t monotonic_coarse_ns();
/// How far monotonic_coarse_ns() may lag behind: not only its resolution, since busy virtual machines
/// take ticks late (22 ms were seen where it is 4).
inline constexpr std::uint64_t kCoarseLagNs = 50000000;
std::uint64_t realtime_ns();

std::size_t page_size();
/// CPUs this process may use: affinity mask, and the cgroup's quota rounded up. At least 1.
unsigned usable_cpus();
std::uint64_t physical_memory_bytes();
/// What the memory cgroups above this process still allow, a reserve for others there left out, or
/// UINT64_MAX without a limit. The kernel does not refuse what is above a limit, but kills: so ask before.
std::uint64_t cgroup_available_bytes();
/// Memory that only this process has (RssAnon): pages of files and shared memory do not count.
std::uint64_t private_memory_bytes();
/// How many processes the kernel's OOM killer has ended in this process's memory cgroup and below it.
std::uint64_t cgroup_oom_kills();

/// A memfd of @bytes, sealed against growing, shrinking and further seals. Sparse: see commit().
Result<UniqueFd> sealed_memfd(const char *name, std::uint64_t bytes);
/// True when @fd is a memfd that can never shrink, so that mapping it can't end in SIGBUS.
bool sealed_against_shrinking(int fd);
/// Gives the range real pages. -ENOMEM or -ENOSPC where none are to be had, never a later SIGBUS.
int commit(int fd, std::uint64_t offset, std::uint64_t bytes);

Result<UniqueFd> event_fd();
/// Makes an eventfd readable. 0, also when it already is.
int event_signal(int fd);
/// Makes an eventfd unreadable again. True if it was readable.
bool event_consume(int fd);

Result<UniqueFd> timer_fd();
int make_pipe(UniqueFd &ret_read, UniqueFd &ret_write);

Result<UniqueFd> open_pidfd(pid_t pid);
/// Sends @signal through a pidfd, which can't hit a recycled pid.
int signal_process(int pidfd, int signal);
/// Starts a thread that has all signals blocked: those are for the user's threads. 0 or -errno.
int start_thread(const char *name, std::size_t stack_bytes, void *(*body)(void *), void *argument,
                 pthread_t &ret_thread);
/// Waits up to @timeout_ns for @fd to become readable: 1, 0 (time is over) or -errno (-EINTR too).
int poll_readable(int fd, std::uint64_t timeout_ns);
/// Duplicate at or above @lowest, close-on-exec.
Result<UniqueFd> duplicate(int fd, int lowest);
int set_cloexec(int fd, bool on);
/// 0 if @count more descriptors can be opened now, else -EMFILE or -ENFILE; @fd: any open one.
int check_spare_fds(int fd, int count);
/// True for an open descriptor.
bool is_open(int fd);
Result<UniqueFd> open_null();
/// Occupies the numbers 0 to 2 that are closed, for as long as the result lives: while a library makes
/// descriptors of its own, which must not become the program's streams.
std::vector<UniqueFd> occupy_closed_streams();

/// How a process ended; status -1 when the kernel no longer knows (the application ignores SIGCHLD
/// or reaped the child itself).
struct ExitStatus {
    bool known = false;
    int exit_code = -1;
    int signal = 0;
    bool out_of_memory = false;  ///< set by who knows: the kernel's OOM killer has struck meanwhile
};
/// Reaps @pid if it has ended. False: it still runs.
bool reap(pid_t pid, ExitStatus &ret_status);

/// "exited with status 3" or "was killed by signal 9 (SIGKILL)".
std::string describe_exit(const ExitStatus &status);
/// The last path component of the running program.
std::string program_name();

}  // namespace sys
}  // namespace aiomq
