// ExitWatch: a descriptor that becomes readable when a process has ended, and a way to signal it.
//
// A pidfd, where the kernel gives one: it names the process itself, so that nothing here can hit a
// recycled pid. Sandboxes without it (old seccomp profiles, gVisor) get a pipe instead, whose other end
// is closed when the process ends: for a child by a thread that waits for it without reaping it (so
// that a copy of the pipe in a grandchild does not hide the end), for this process by the kernel.
//
// Thread safety: none. A child's watch is destroyed after the child was reaped.
#pragma once

#include <pthread.h>

#include <memory>

#include "sys.hpp"

namespace aiomq {

class ExitWatch {
  public:
    ExitWatch() = default;
    ExitWatch(ExitWatch &&other) noexcept { *this = std::move(other); }
    ExitWatch &operator=(ExitWatch &&other) noexcept;
    ExitWatch(const ExitWatch &) = delete;
    ExitWatch &operator=(const ExitWatch &) = delete;
    ~ExitWatch() { reset(); }

    /// Watches a child that is not reaped yet. Fails with what pidfd_open(2), pipe2(2) or
    /// pthread_create(3) say.
    static Result<ExitWatch> child(pid_t pid);
    /// For others to watch this process: they inherit fd().
    static Result<ExitWatch> self();

    int fd() const { return fd_.get(); }
    /// 0 or -errno. The watched process must not be reaped yet.
    int signal(int number) const;
    void reset();

  private:
    struct Waiter;

    UniqueFd fd_;
    UniqueFd own_end_;  ///< of the pipe, for self()
    pid_t pid_ = 0;
    pthread_t thread_{};
    bool has_thread_ = false;
};

}  // namespace aiomq
