// Census: what the kernel knows of processes, descriptors and threads, read from /proc.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace chaos {

/// Entries of a folder, its own two left out; 0 when it can't be read.
int entries_of(const std::string &folder);
inline int descriptors_of(pid_t pid) { return entries_of("/proc/" + std::to_string(pid) + "/fd"); }
inline int threads_of(pid_t pid) { return entries_of("/proc/" + std::to_string(pid) + "/task"); }

/// Every process whose parent is @pid, zombies too.
std::vector<pid_t> children_of(pid_t pid);
/// The parent of a process; 0 when there is no such process.
pid_t parent_of(pid_t pid);
/// Whether the process is gone, or has been killed and only needs the CPU to go.
bool is_dying(pid_t pid);
/// Every process, this one excepted, that has @mark ("NAME=value") in its environment.
std::vector<pid_t> marked(const std::string &mark);
/// Names in /dev/shm and /tmp that contain @text.
std::vector<std::string> files_with(const std::string &text);
/// How many of a process's descriptors have links that contain @text.
int links_of(pid_t pid, const std::string &text);
/// The same over all processes.
int links_with(const std::string &text);
/// A number of /proc/<pid>/status, such as VmRSS in KiB; 0 when it is not there.
long status_of(pid_t pid, const std::string &name);

}  // namespace chaos
