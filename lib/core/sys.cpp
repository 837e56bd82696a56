#include "sys.hpp"

#include <fcntl.h>
#include <linux/memfd.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>

#ifndef MFD_NOEXEC_SEAL  // glibc 2.36 does not know it yet (Linux 6.3)
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace aiomq {

void UniqueFd::reset(int fd) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
}

namespace sys {
namespace {

constexpr std::uint64_t kSecond = 1000000000;
/// What is left to the rest of a memory cgroup.
constexpr std::uint64_t kCgroupReserve = 32ULL << 20;

std::uint64_t clock_ns(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * kSecond +
           static_cast<std::uint64_t>(now.tv_nsec);
}

template <typename Call>
auto restarting(Call call) {
    auto result = call();
    while (result == -1 && errno == EINTR) result = call();
    return result;
}

Result<UniqueFd> checked_fd(long fd) {
    if (fd < 0) return Result<UniqueFd>::failure(-errno);
    UniqueFd result(static_cast<int>(fd));
    if (fd > STDERR_FILENO) return result;
    // In a program that closed its streams: what it prints must not land in our memory.
    const int moved = fcntl(result.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (moved < 0) return Result<UniqueFd>::failure(-errno);
    result.reset(moved);
    return result;
}

std::string first_line(const std::string &path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

/// A number from a one-line file; @fallback when the file is missing or says "max".
std::uint64_t number_in(const std::string &path, std::uint64_t fallback) {
    const std::string line = first_line(path);
    if (line.empty() || line[0] < '0' || line[0] > '9') return fallback;
    return std::strtoull(line.c_str(), nullptr, 10);
}

/// The number after @key in a file of "key number" lines; 0 when it is not there.
std::uint64_t number_of(const std::string &path, std::string_view key) {
    std::ifstream file(path);
    std::string name;
    for (std::uint64_t value = 0; file >> name >> value;)
        if (name == key) return value;
    return 0;
}

/// This process's directory in the cgroup hierarchy of @controller, "" for version 2.
std::string cgroup_path(std::string_view controller) {
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
        const auto first = line.find(':');
        const auto second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
        const bool wanted = controller.empty() ? names == ",,"
                                               : names.find("," + std::string(controller) + ",") !=
                                                     std::string::npos;
        if (wanted) return line.substr(second + 1);
    }
    return {};
}

/// Calls @look for the directory @path below @root and each of its parents up to @root.
template <typename Look>
void for_each_ancestor(const std::string &root, std::string path, Look look) {
    for (;;) {
        look(root + path);
        if (path.empty() || path == "/") return;
        path.erase(path.rfind('/'));
    }
}

}  // namespace

std::uint64_t monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }
std::uint64_t monotonic_coarse_ns() { return clock_ns(CLOCK_MONOTONIC_COARSE); }
std::uint64_t realtime_ns() { return clock_ns(CLOCK_REALTIME); }

std::size_t page_size() {
    static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return size;
}

unsigned usable_cpus() {
    unsigned cpus = 1;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cpus = static_cast<unsigned>(CPU_COUNT(&set));
    else  // more CPUs than cpu_set_t holds
        cpus = static_cast<unsigned>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
    std::uint64_t quota_cpus = cpus;
    const auto consider = [&](std::uint64_t quota, std::uint64_t period) {
        if (period > 0 && quota != UINT64_MAX)
            quota_cpus = std::min(quota_cpus, (quota + period - 1) / period);
    };
    for_each_ancestor("/sys/fs/cgroup", cgroup_path(""), [&](const std::string &directory) {
        std::istringstream line(first_line(directory + "/cpu.max"));
        std::string quota;
        std::uint64_t period = 0;
        if (line >> quota >> period && quota != "max")
            consider(std::strtoull(quota.c_str(), nullptr, 10), period);
    });
    for_each_ancestor("/sys/fs/cgroup/cpu", cgroup_path("cpu"), [&](const std::string &directory) {
        consider(number_in(directory + "/cpu.cfs_quota_us", UINT64_MAX),
                 number_in(directory + "/cpu.cfs_period_us", 0));
    });
    return std::max(1U, std::min(cpus, static_cast<unsigned>(quota_cpus)));
}

std::uint64_t physical_memory_bytes() {
    struct sysinfo info {};
    if (sysinfo(&info) != 0) return 0;
    return static_cast<std::uint64_t>(info.totalram) * info.mem_unit;
}

std::uint64_t cgroup_available_bytes() {
    std::uint64_t available = UINT64_MAX;
    const auto consider = [&](std::uint64_t limit, std::uint64_t used) {
        if (limit >= (1ULL << 62)) return;  // version 1 says "no limit" with a huge number
        used += kCgroupReserve;
        available = std::min(available, limit > used ? limit - used : 0);
    };
    for_each_ancestor("/sys/fs/cgroup", cgroup_path(""), [&](const std::string &directory) {
        consider(number_in(directory + "/memory.max", UINT64_MAX),
                 number_in(directory + "/memory.current", 0));
    });
    for_each_ancestor("/sys/fs/cgroup/memory", cgroup_path("memory"),
                      [&](const std::string &directory) {
                          consider(number_in(directory + "/memory.limit_in_bytes", UINT64_MAX),
                                   number_in(directory + "/memory.usage_in_bytes", 0));
                      });
    return available;
}

std::uint64_t cgroup_oom_kills() {
    // Where the hierarchy is shown from its middle, this process's own directory is its root.
    const auto look = [](const std::string &root, const std::string &path, const char *file) {
        const std::uint64_t kills = number_of(root + path + file, "oom_kill");
        return kills != 0 ? kills : number_of(root + file, "oom_kill");
    };
    return look("/sys/fs/cgroup", cgroup_path(""), "/memory.events") +
           look("/sys/fs/cgroup/memory", cgroup_path("memory"), "/memory.oom_control");
}

std::uint64_t private_memory_bytes() {
    std::ifstream file("/proc/self/status");
    std::string line;
    while (std::getline(file, line))
        if (line.starts_with("RssAnon:")) return std::strtoull(line.c_str() + 8, nullptr, 10) << 10;
    return 0;
}

Result<UniqueFd> sealed_memfd(const char *name, std::uint64_t bytes) {
    if (bytes > static_cast<std::uint64_t>(INT64_MAX)) return Result<UniqueFd>::failure(-ENOMEM);
    constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    long fd = syscall(SYS_memfd_create, name, kFlags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) fd = syscall(SYS_memfd_create, name, kFlags);
    auto memfd = checked_fd(fd);
    if (!memfd) return memfd;
    const int raw = memfd->get();
    if (restarting([&] { return ftruncate(raw, static_cast<off_t>(bytes)); }) != 0 ||
        fcntl(raw, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return Result<UniqueFd>::failure(-errno);
    return memfd;
}

bool sealed_against_shrinking(int fd) {
    const int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
}

int commit(int fd, std::uint64_t offset, std::uint64_t bytes) {
    // In steps, because tmpfs gives a whole call's pages back when a signal interrupts it.
    constexpr std::uint64_t kStep = 16ULL << 20;
    while (bytes > 0) {
        const std::uint64_t step = std::min(bytes, kStep);
        if (restarting([&] {
                return fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(step));
            }) != 0)
            return errno == ENOSPC ? -ENOMEM : -errno;
        offset += step;
        bytes -= step;
    }
    return 0;
}

Result<UniqueFd> event_fd() { return checked_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

int event_signal(int fd) {
    const std::uint64_t one = 1;
    if (restarting([&] { return write(fd, &one, sizeof one); }) >= 0 || errno == EAGAIN) return 0;
    return -errno;
}

bool event_consume(int fd) {
    std::uint64_t count = 0;
    return restarting([&] { return read(fd, &count, sizeof count); }) == sizeof count;
}

Result<UniqueFd> timer_fd() {
    return checked_fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
}

int make_pipe(UniqueFd &ret_read, UniqueFd &ret_write) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
    auto read_end = checked_fd(ends[0]);
    auto write_end = checked_fd(ends[1]);
    if (!read_end) return read_end.error();
    if (!write_end) return write_end.error();
    ret_read = std::move(*read_end);
    ret_write = std::move(*write_end);
    return 0;
}

Result<UniqueFd> open_pidfd(pid_t pid) { return checked_fd(syscall(SYS_pidfd_open, pid, 0)); }

int signal_process(int pidfd, int signal) {
    return syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0 ? 0 : -errno;
}

int start_thread(const char *name, std::size_t stack_bytes, void *(*body)(void *), void *argument,
                 pthread_t &ret_thread) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&ret_thread, &attributes, body, argument);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    if (error == 0) pthread_setname_np(ret_thread, name);
    return -error;
}

int poll_readable(int fd, std::uint64_t timeout_ns) {
    pollfd entry{fd, POLLIN, 0};
    timespec timeout{static_cast<time_t>(timeout_ns / kSecond),
                     static_cast<long>(timeout_ns % kSecond)};
    const int ready = ppoll(&entry, 1, timeout_ns == kForever ? nullptr : &timeout, nullptr);
    return ready < 0 ? -errno : ready;
}

Result<UniqueFd> duplicate(int fd, int lowest) {
    auto copy = checked_fd(fcntl(fd, F_DUPFD_CLOEXEC, lowest));
    // The kernel's word for "above the limit of open files".
    if (!copy && copy.error() == -EINVAL && is_open(fd)) return Result<UniqueFd>::failure(-EMFILE);
    return copy;
}

int check_spare_fds(int fd, int count) {
    std::vector<UniqueFd> spare;
    for (int i = 0; i < count; ++i) {
        auto copy = duplicate(fd, 0);
        if (!copy) return copy.error();
        spare.push_back(std::move(*copy));
    }
    return 0;
}

int set_cloexec(int fd, bool on) {
    const int flags = fcntl(fd, F_GETFD);
    if (flags < 0) return -errno;
    return fcntl(fd, F_SETFD, on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC) == 0 ? 0 : -errno;
}

bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

std::vector<UniqueFd> occupy_closed_streams() {
    std::vector<UniqueFd> held;
    for (;;) {
        UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
        if (!null || null.get() > STDERR_FILENO) return held;
        held.push_back(std::move(null));
    }
}

Result<UniqueFd> open_null() { return checked_fd(open("/dev/null", O_RDWR | O_CLOEXEC)); }

bool reap(pid_t pid, ExitStatus &ret_status) {
    siginfo_t info{};
    if (restarting(
            [&] { return waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG); }) != 0) {
        if (errno != ECHILD) return false;
        ret_status = ExitStatus{};  // gone all the same, nobody knows how
        return true;
    }
    if (info.si_pid == 0) return false;
    ret_status.known = true;
    if (info.si_code == CLD_EXITED)
        ret_status.exit_code = info.si_status;
    else
        ret_status.signal = info.si_status;
    return true;
}

std::string describe_exit(const ExitStatus &status) {
    if (!status.known) return "ended with an unknown status";
    if (status.signal == 0) return "exited with status " + std::to_string(status.exit_code);
    std::string text = "was killed by signal " + std::to_string(status.signal);
    if (const char *name = sigabbrev_np(status.signal)) text += std::string(" (SIG") + name + ")";
    if (status.out_of_memory)
        text += ": the kernel's out-of-memory killer has struck in this memory cgroup";
    return text;
}

std::string program_name() {
    char path[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    if (length <= 0) return "program";
    const std::string_view view(path, static_cast<std::size_t>(length));
    return std::string(view.substr(view.rfind('/') + 1));
}

}  // namespace sys
}  // namespace aiomq
