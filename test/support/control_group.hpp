// A control group (version 1) of the test's own, where this user may make one.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <functional>
#include <string>

namespace aiomq_test {

/// A control group below this process's own in the hierarchy of @controller, with @file set to @value;
/// empty when this user or system can't have one.
class ControlGroup {
  public:
    ControlGroup(const std::string &controller, const std::string &file, const std::string &value) {
        const std::string name = "/aiomq-test-" + std::to_string(getpid());
        std::ifstream groups("/proc/self/cgroup");
        for (std::string line; std::getline(groups, line);) {
            if (line.find(":" + controller + ":") == std::string::npos) continue;
            path_ = "/sys/fs/cgroup/" + controller + line.substr(line.rfind(':') + 1);
            if (mkdir((path_ + name).c_str(), 0755) != 0)
                path_ = "/sys/fs/cgroup/" + controller;  // the hierarchy is shown from its middle
            if (access((path_ + name).c_str(), F_OK) == 0 ||
                mkdir((path_ + name).c_str(), 0755) == 0)
                path_ += name;
            else
                path_.clear();
        }
        if (!path_.empty() && !write_to(file, value)) {
            rmdir(path_.c_str());
            path_.clear();
        }
    }
    ~ControlGroup() {
        if (!path_.empty()) rmdir(path_.c_str());
    }
    explicit operator bool() const { return !path_.empty(); }

    /// The number after @key in a file of "key number" lines; 0 when it is not there.
    std::uint64_t number(const std::string &file, const std::string &key) const {
        std::ifstream stream(path_ + "/" + file);
        std::string name;
        for (std::uint64_t value = 0; stream >> name >> value;)
            if (name == key) return value;
        return 0;
    }

    /// What @body gives in a process that belongs to the group.
    std::string ask(const std::function<std::string()> &body) const {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0) return "no pipe";
        const pid_t pid = fork();
        if (pid == 0) {
            close(ends[0]);
            if (!write_to("cgroup.procs", "0")) _exit(1);
            const std::string answer = body();
            const auto length = static_cast<ssize_t>(answer.size());
            _exit(write(ends[1], answer.data(), answer.size()) == length ? 0 : 1);
        }
        close(ends[1]);
        std::string answer;
        char bytes[4096];
        for (ssize_t count = 0; (count = read(ends[0], bytes, sizeof bytes)) > 0;)
            answer.append(bytes, static_cast<std::size_t>(count));
        close(ends[0]);
        waitpid(pid, nullptr, 0);
        return answer;
    }

  private:
    bool write_to(const std::string &file, const std::string &value) const {
        std::ofstream stream(path_ + "/" + file);
        stream << value << std::flush;
        return stream.good();
    }
    std::string path_;
};

}  // namespace aiomq_test
