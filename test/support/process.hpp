// What the kernel says of a process.
#pragma once

#include <sched.h>
#include <signal.h>
#include <sys/types.h>

#include <cstdio>
#include <string>

namespace aiomq_test {

/// As in proc(5): 'S' it sleeps, 'T' it is stopped, 'Z' it is a zombie; 'X' when there is none.
inline char state_of(pid_t pid) {
    FILE *file = fopen(("/proc/" + std::to_string(pid) + "/stat").c_str(), "re");
    char state = 'X';
    if (file == nullptr) return state;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 'X';
    fclose(file);
    return state;
}

/// Whether it has a handler for @signal.
inline bool catches(pid_t pid, int signal) {
    FILE *file = fopen(("/proc/" + std::to_string(pid) + "/status").c_str(), "re");
    unsigned long long caught = 0;
    char line[256];
    while (file != nullptr && fgets(line, sizeof line, file) != nullptr)
        if (sscanf(line, "SigCgt: %llx", &caught) == 1) break;
    if (file != nullptr) fclose(file);
    return (caught >> (signal - 1) & 1) != 0;
}

/// Returns when it has stopped, or is gone.
inline void stop(pid_t pid) {
    kill(pid, SIGSTOP);
    for (char state = 0; state != 'T' && state != 'Z' && state != 'X'; state = state_of(pid))
        sched_yield();
}

}  // namespace aiomq_test
