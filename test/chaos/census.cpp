#include "census.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

namespace chaos {
namespace {

void each_entry(const std::string &folder, const std::function<void(const std::string &)> &take) {
    DIR *entries = opendir(folder.c_str());
    if (entries == nullptr) return;
    while (const dirent *entry = readdir(entries)) {
        const std::string name = entry->d_name;
        if (name != "." && name != "..") take(name);
    }
    closedir(entries);
}

void each_process(const std::function<void(pid_t)> &take) {
    each_entry("/proc", [&](const std::string &name) {
        if (name.find_first_not_of("0123456789") == std::string::npos) take(atoi(name.c_str()));
    });
}

/// Close-on-exec, or a worker that is spawned just now would keep it.
std::string content_of(const std::string &path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    std::string text;
    if (fd < 0) return text;
    char bytes[4096];
    for (ssize_t count = 0; (count = read(fd, bytes, sizeof bytes)) > 0;)
        text.append(bytes, static_cast<std::size_t>(count));
    close(fd);
    return text;
}

}  // namespace

int entries_of(const std::string &folder) {
    int count = 0;
    each_entry(folder, [&](const std::string &) { ++count; });
    // Our own look is one of our descriptors.
    return folder == "/proc/" + std::to_string(getpid()) + "/fd" ? count - 1 : count;
}

pid_t parent_of(pid_t pid) {
    const std::string text = content_of("/proc/" + std::to_string(pid) + "/stat");
    const auto name_end = text.rfind(')');  // the name may contain anything
    return name_end == std::string::npos ? 0 : atoi(text.c_str() + name_end + 4);
}

bool is_dying(pid_t pid) {
    constexpr unsigned kExiting = 0x4;  // PF_EXITING of linux/sched.h
    constexpr unsigned long long kKill = 1ULL << (SIGKILL - 1);
    const std::string folder = "/proc/" + std::to_string(pid);
    const std::string stat = content_of(folder + "/stat");
    const auto name_end = stat.rfind(')');
    char state = 'X';
    unsigned flags = 0;
    if (name_end == std::string::npos ||
        sscanf(stat.c_str() + name_end + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
        return true;
    const std::string status = content_of(folder + "/status");
    const auto pending = [&status](const char *name) {
        const auto place = status.find(name);
        return place == std::string::npos
                   ? 0
                   : strtoull(status.c_str() + place + strlen(name), nullptr, 16);
    };
    return state == 'Z' || state == 'X' || (flags & kExiting) != 0 ||
           ((pending("SigPnd:") | pending("ShdPnd:")) & kKill) != 0;
}

std::vector<pid_t> children_of(pid_t pid) {
    std::vector<pid_t> children;
    each_process([&](pid_t other) {
        if (parent_of(other) == pid) children.push_back(other);
    });
    return children;
}

std::vector<pid_t> marked(const std::string &mark) {
    std::vector<pid_t> found;
    each_process([&](pid_t pid) {
        const std::string text = '\0' + content_of("/proc/" + std::to_string(pid) + "/environ");
        if (pid != getpid() && text.find('\0' + mark + '\0') != std::string::npos)
            found.push_back(pid);
    });
    return found;
}

std::vector<std::string> files_with(const std::string &text) {
    std::vector<std::string> found;
    for (const char *folder : {"/dev/shm", "/tmp"})
        each_entry(folder, [&](const std::string &name) {
            if (name.find(text) != std::string::npos)
                found.push_back(std::string(folder) + "/" + name);
        });
    return found;
}

int links_of(pid_t pid, const std::string &text) {
    const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
    int count = 0;
    each_entry(folder, [&](const std::string &name) {
        char link[256];
        const ssize_t length = readlink((folder + "/" + name).c_str(), link, sizeof link);
        if (length > 0 &&
            std::string(link, static_cast<std::size_t>(length)).find(text) != std::string::npos)
            ++count;
    });
    return count;
}

int links_with(const std::string &text) {
    int count = 0;
    each_process([&](pid_t pid) { count += links_of(pid, text); });
    return count;
}

long status_of(pid_t pid, const std::string &name) {
    const std::string text = '\n' + content_of("/proc/" + std::to_string(pid) + "/status");
    const auto place = text.find('\n' + name + ':');
    return place == std::string::npos ? 0 : atol(text.c_str() + place + name.size() + 2);
}

}  // namespace chaos
