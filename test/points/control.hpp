// Control: what a test tells the instrumented library of its workers, and what comes back. A file that
// both map; its path is in the environment variable AIOMQ_POINTS.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <new>

namespace points {

inline constexpr const char *kVariable = "AIOMQ_POINTS";

enum class Action : std::uint32_t {
    kCount,  ///< only count
    kKill,   ///< SIGKILL itself
    kStop,   ///< SIGSTOP itself
    kProve,  ///< show that no access of the library to shared memory is left out, see prove.hpp
};

/// A point is what lies before or after an access of a worker to shared memory: point 2n before access
/// n, 2n + 1 after it.
struct Control {
    /// 1: the process that is `worker` counts its points from now on, and acts at point `at`.
    std::atomic<std::uint32_t> armed;
    std::uint32_t worker;
    Action action;
    /// 1: the timers of the dispatcher that repair what should not be lost (the wake audit, the look for
    /// blocked loops and lost tasks) are never set. Not those for limits.
    std::uint32_t no_repair;
    std::uint64_t at;
    std::atomic<std::uint64_t> passed;  ///< points so far
    std::atomic<std::uint32_t> fired;   ///< the process that acted
    /// 1: processes that start, but for the armed one, wait: as if there was no respawn.
    std::atomic<std::uint32_t> hold;
    std::atomic<std::uint64_t> site;  ///< where it was: offset in the library
    char trouble[256];
    std::atomic<std::uint32_t> runs[64];  ///< how often each call of the scenario has begun
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// Maps the file; nullptr if it can't.
inline Control *map_control(const char *path, bool create) {
    const int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0), 0600);
    if (fd < 0) return nullptr;
    if (create && ftruncate(fd, sizeof(Control)) != 0) {
        close(fd);
        return nullptr;
    }
    void *memory = mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return memory == MAP_FAILED ? nullptr : static_cast<Control *>(memory);
}

}  // namespace points
