// process.hpp - what /proc tells about one process, and a descriptor that closes itself.
//
// Every function answers with something empty when the process is gone or may not be looked into:
// between two reads a process can always end.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <vector>

namespace aiomq_stat {

class UniqueFd {
  public:
    explicit UniqueFd(int fd) noexcept : fd_(fd) {}
    UniqueFd(const UniqueFd &) = delete;
    UniqueFd &operator=(const UniqueFd &) = delete;
    ~UniqueFd() {
        if (fd_ >= 0) ::close(fd_);
    }
    [[nodiscard]] int get() const noexcept { return fd_; }
    [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }

  private:
    int fd_;
};

/// "/proc/<pid>/<name>"
std::string process_path(pid_t pid, std::string_view name);

/// The contents of a small file below /proc/<pid>; "" when it can't be read.
std::string read_process_file(pid_t pid, const char *name);

/// The process's pids from this namespace inward; the last is its own. Empty when it is gone.
std::vector<pid_t> namespace_pids(pid_t pid);

/// Parent's pid; 0 when it is gone or outside this namespace.
pid_t parent_of(pid_t pid);

/// The user that the process belongs to; (uid_t)-1 when it is gone.
uid_t owner_of(pid_t pid);

}  // namespace aiomq_stat
