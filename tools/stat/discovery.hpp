// discovery.hpp - finds pools without any file or registry: by the memfds that processes hold.
//
// A pool's memory is a memfd called "aiomq:<label>", which shows under /proc/<pid>/fd of the
// dispatcher, of each worker and of forks. One memfd is one pool, whoever holds it. Nothing here
// needs the pool's processes to run: they may be stopped or hung.
//
// Threads: one at a time. Not for use inside a library: a scan visits every process.
#pragma once

#include <aiomq/aiomq.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace aiomq_stat {

struct ViewCloser {
    void operator()(aiomq_view *view) const noexcept { aiomq_view_close(&view); }
};
using View = std::unique_ptr<aiomq_view, ViewCloser>;

/// What could be done with a memfd that looks like a pool's.
enum class Access {
    kReadable,      // `view` is open
    kNotPermitted,  // the kernel said no: `problem` says to what
    kUnreadable,    // opened, but it is not a pool's memory that this build can read
};

struct FoundPool {
    std::string label;
    pid_t pid = 0;                  // of the dispatcher, as this process sees it; else any holder's
    bool dispatcher_found = false;  // false: the dispatcher is gone, or may not be looked into
    uid_t uid = 0;                  // owner of the memory, as the kernel says
    dev_t device = 0;
    ino_t inode = 0;  // 0: not known, because not permitted
    pid_t holder_pid = 0;
    int holder_fd = -1;
    Access access = Access::kUnreadable;
    std::string problem;  // why not, when not readable
    View view;
};

struct Discovery {
    std::vector<FoundPool> pools;    // sorted by label, pid, inode
    std::size_t closed_processes{};  // processes whose descriptors may not be listed
};

/// Look at every process that this one may see. Throws std::system_error without /proc.
Discovery discover_pools();

/// Whether the process that was found to hold the pool's memory still holds it.
bool still_held(const FoundPool &pool);

/// "label@pid": what names a pool on the command line.
std::string pool_name(const FoundPool &pool);

}  // namespace aiomq_stat
