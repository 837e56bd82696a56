// What every benchmark program here shares: clocks, pinning, processes, one line of JSON per figure.
//
// A program measures both sides in turn, repeat by repeat, so that a noisy neighbour hits both alike.
// run.py reads the lines and makes the table.
#pragma once

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

namespace bench {

inline constexpr int kRepeats = 7;

inline double now_s() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// CPU number @index of those this process may use at the start, wrapping around.
inline int usable_cpu(int index) {
    static const cpu_set_t all = [] {
        cpu_set_t set;
        CPU_ZERO(&set);
        sched_getaffinity(0, sizeof set, &set);
        return set;
    }();
    const int count = CPU_COUNT(&all);
    int wanted = index % count;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &all) && wanted-- == 0) return cpu;
    return 0;
}

inline void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<std::size_t>(cpu), &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        std::perror("sched_setaffinity");
        std::exit(1);
    }
}

/// One repeat of one side. @unit: "tasks/s", "ns", …; @higher_is_better as the table shows it.
inline void report(const char *row, const char *side, int repeat, double value, const char *unit) {
    std::printf(
        "{\"row\": \"%s\", \"side\": \"%s\", \"repeat\": %d, \"value\": %.6g, "
        "\"unit\": \"%s\"}\n",
        row, side, repeat, value, unit);
    std::fflush(stdout);
}

/// Zeroed memory that children share.
template <typename T>
T *shared() {
    void *memory =
        mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        std::perror("mmap");
        std::exit(1);
    }
    return new (memory) T;
}

/// Runs @body in a child pinned to @cpu; wait_for() collects it.
template <typename Body>
pid_t child(int cpu, Body body) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    pin(cpu);
    body();
    _exit(0);
}

inline void wait_for(pid_t pid) {
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        std::fprintf(stderr, "a benchmark process failed (status %d)\n", status);
        std::exit(1);
    }
}

}  // namespace bench
