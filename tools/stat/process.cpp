#include "process.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <sstream>

namespace aiomq_stat {
namespace {

/// The rest of the line that begins with `key` in /proc/<pid>/status.
std::string status_field(pid_t pid, std::string_view key) {
    std::istringstream status(read_process_file(pid, "status"));
    std::string line;
    while (std::getline(status, line)) {
        if (line.starts_with(key)) return line.substr(key.size());
    }
    return {};
}

}  // namespace

std::string process_path(pid_t pid, std::string_view name) {
    std::string path = "/proc/" + std::to_string(pid) + "/";
    path += name;
    return path;
}

std::string read_process_file(pid_t pid, const char *name) {
    const UniqueFd fd(::open(process_path(pid, name).c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return {};
    std::string contents;
    std::array<char, 4096> buffer{};
    for (;;) {
        const ssize_t length = ::read(fd.get(), buffer.data(), buffer.size());
        if (length < 0 && errno == EINTR) continue;
        if (length <= 0) return contents;
        contents.append(buffer.data(), static_cast<std::size_t>(length));
    }
}

std::vector<pid_t> namespace_pids(pid_t pid) {
    std::istringstream field(status_field(pid, "NSpid:"));
    std::vector<pid_t> pids;
    for (pid_t number = 0; field >> number;) pids.push_back(number);
    // A kernel without pid namespaces has no such line: then there is only this namespace.
    if (pids.empty() && !read_process_file(pid, "status").empty()) pids.push_back(pid);
    return pids;
}

pid_t parent_of(pid_t pid) {
    std::istringstream field(status_field(pid, "PPid:"));
    pid_t parent = 0;
    field >> parent;
    return parent;
}

uid_t owner_of(pid_t pid) {
    std::istringstream field(status_field(pid, "Uid:"));
    uid_t real = 0;
    uid_t effective = 0;
    return field >> real >> effective ? effective : static_cast<uid_t>(-1);
}

}  // namespace aiomq_stat
