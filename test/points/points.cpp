// What an instrumented libaiomq does at each access of a worker to shared memory: count it, and act at
// the one that the test has chosen.
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "../support/access.hpp"
#include "control.hpp"
#include "prove.hpp"

namespace points {
namespace {

Control *control = nullptr;

/// The library that this is a part of.
std::uintptr_t own_base() {
    Dl_info info{};
    dladdr(reinterpret_cast<const void *>(&own_base), &info);  // NOLINT
    return reinterpret_cast<std::uintptr_t>(info.dli_fbase);   // NOLINT
}

class Points : public accesses::Observer {
  public:
    bool covers(const void *address) const override {
        const auto place = reinterpret_cast<std::uintptr_t>(address);  // NOLINT
        return place - begin_ < bytes_;
    }
    void cover(const void *memory, std::size_t bytes) {
        begin_ = reinterpret_cast<std::uintptr_t>(memory);  // NOLINT
        bytes_ = bytes;
    }

    // Code between an access and the next one can be told apart from the access only by system calls,
    // and those come after atomic operations: a plain access has one point, the others two.
    void plain(const void *address, std::size_t bytes, bool, const void *site) override {
        pass(site);
        announce(address, bytes);
    }
    void copied(const void *, const void *site) override { pass(site); }
    std::uint64_t load(const void *address, std::size_t bytes, int, const void *site) override {
        pass(site);
        announce(address, bytes);
        const std::uint64_t value = accesses::real_load(address, bytes);
        pass(site);
        return value;
    }
    void store(void *address, std::size_t bytes, std::uint64_t value, int,
               const void *site) override {
        pass(site);
        announce(address, bytes);
        accesses::real_store(address, bytes, value);
        pass(site);
    }
    std::uint64_t change(void *address, std::size_t bytes, accesses::Change change,
                         std::uint64_t operand, int, const void *site) override {
        pass(site);
        announce(address, bytes);
        const std::uint64_t before = accesses::real_change(address, bytes, change, operand);
        pass(site);
        return before;
    }
    bool compare_exchange(void *address, std::size_t bytes, std::uint64_t &expected,
                          std::uint64_t desired, int, int, const void *site) override {
        pass(site);
        announce(address, bytes);
        const bool done = accesses::real_compare_exchange(address, bytes, expected, desired);
        pass(site);
        return done;
    }

  private:
    void announce(const void *address, std::size_t bytes) const {
        if (control->action == Action::kProve) prove::announce(address, bytes);
    }
    /// The watchdog thread makes no access, so there is one thread that counts.
    void pass(const void *site) {
        if (!counts_) {
            if (control->armed.load() == 0 || control->armed.exchange(0) == 0) return;
            counts_ = true;
        }
        if (control->passed.fetch_add(1) != control->at) return;
        if (control->action != Action::kKill && control->action != Action::kStop) return;
        control->site = reinterpret_cast<std::uintptr_t>(site) - own_base();  // NOLINT
        control->fired = static_cast<std::uint32_t>(getpid());
        kill(getpid(), control->action == Action::kKill ? SIGKILL : SIGSTOP);
    }

    std::uintptr_t begin_ = 0;
    std::size_t bytes_ = 0;
    bool counts_ = false;
};

Points points;

/// "<index>.<incarnation>" in a worker; see worker.hpp.
[[gnu::constructor]] void start() {
    const char *path = std::getenv(kVariable);
    if (path == nullptr) return;
    control = map_control(path, false);
    const char *worker = std::getenv("AIOMQ_WORKER");
    if (control == nullptr || worker == nullptr) return;
    const bool chosen = std::strtoul(worker, nullptr, 10) == control->worker;
    constexpr timespec kMoment{0, 1000000};
    while (control->hold.load() != 0 && (!chosen || control->armed.load() == 0))
        nanosleep(&kMoment, nullptr);
    if (chosen) accesses::observer = &points;
}

/// What the dispatcher's test wants now, which it may have said after this library was loaded.
bool no_repair() {
    const char *path = std::getenv(kVariable);
    Control *now = path == nullptr ? nullptr : map_control(path, false);
    if (now == nullptr) return false;
    const bool wanted = now->no_repair != 0;
    munmap(now, sizeof(Control));
    return wanted;
}

bool is_pool_memory(int fd) {
    char path[64];
    char target[64] = {};
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return readlink(path, target, sizeof target - 1) > 0 &&
           std::strncmp(target, "/memfd:aiomq:", 13) == 0;
}

}  // namespace
}  // namespace points

// NOLINTBEGIN: names and shapes are the linker's
extern "C" {

void *__real_mmap64(void *address, std::size_t bytes, int protection, int flags, int fd,
                    off64_t start);
int __real_mprotect(void *address, std::size_t bytes, int protection);
int __real_timerfd_settime(int fd, int flags, const itimerspec *next, itimerspec *before);

void *__wrap_mmap64(void *address, std::size_t bytes, int protection, int flags, int fd,
                    off64_t start) {
    void *memory = __real_mmap64(address, bytes, protection, flags, fd, start);
    if (accesses::observer == nullptr || memory == MAP_FAILED || fd < 0 ||
        !points::is_pool_memory(fd))
        return memory;
    points::points.cover(memory, bytes);
    if (points::control->action == points::Action::kProve)
        prove::cover(memory, bytes, protection, points::control->trouble);
    return memory;
}

void *__wrap_mmap(void *address, std::size_t bytes, int protection, int flags, int fd,
                  off_t start) {
    return __wrap_mmap64(address, bytes, protection, flags, fd, start);
}

int __wrap_mprotect(void *address, std::size_t bytes, int protection) {
    if (prove::active()) return prove::protect(address, bytes, protection);
    return __real_mprotect(address, bytes, protection);
}

/// Repairing timers are relative ones, limits have absolute times.
int __wrap_timerfd_settime(int fd, int flags, const itimerspec *next, itimerspec *before) {
    if (flags == 0 && points::no_repair()) return 0;
    return __real_timerfd_settime(fd, flags, next, before);
}
}
// NOLINTEND
