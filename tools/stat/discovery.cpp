#include "discovery.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

#include "process.hpp"

namespace aiomq_stat {
namespace {

constexpr std::string_view kLinkPrefix = "/memfd:aiomq:";
constexpr std::string_view kDeletedSuffix = " (deleted)";
constexpr std::string_view kTitlePrefix = "aiomq: ";  // how Python workers name themselves

struct DirectoryCloser {
    void operator()(DIR *directory) const noexcept { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, DirectoryCloser>;

/// One descriptor of one process that refers to a pool's memory.
struct Holder {
    pid_t pid;
    int fd;
    std::string label;
};

using MemoryId = std::pair<dev_t, ino_t>;

struct Scan {
    std::map<MemoryId, std::vector<Holder>> holders;
    std::vector<FoundPool> refused;
    std::size_t closed_processes = 0;
};

std::optional<int> parse_number(std::string_view text) {
    int number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size() || number < 0) {
        return std::nullopt;
    }
    return number;
}

std::string descriptor_path(pid_t pid, int fd) {
    return process_path(pid, "fd") + "/" + std::to_string(fd);
}

/// The label in "/memfd:aiomq:<label> (deleted)", or nothing for another kind of link.
std::optional<std::string> label_of_link(std::string_view link) {
    if (!link.starts_with(kLinkPrefix)) return std::nullopt;
    link.remove_prefix(kLinkPrefix.size());
    if (link.ends_with(kDeletedSuffix)) link.remove_suffix(kDeletedSuffix.size());
    return std::string(link);
}

/// A worker may not be looked into, but its title, which everyone may read, can name its pool.
void note_titled_worker(pid_t pid, Scan &scan) {
    std::string title = read_process_file(pid, "cmdline");
    title.resize(std::strlen(title.c_str()));
    const std::size_t slash = title.rfind('/');
    if (!title.starts_with(kTitlePrefix) || slash == std::string::npos ||
        slash < kTitlePrefix.size() || !parse_number(std::string_view(title).substr(slash + 1))) {
        return;
    }
    FoundPool pool;
    pool.label = title.substr(kTitlePrefix.size(), slash - kTitlePrefix.size());
    pool.pid = parent_of(pid);
    pool.uid = owner_of(pid);
    pool.access = Access::kNotPermitted;
    pool.problem = "not permitted to list the descriptors of process " + std::to_string(pid);
    const bool known = std::ranges::any_of(scan.refused, [&](const FoundPool &other) {
        return other.label == pool.label && other.pid == pool.pid;
    });
    if (!known) scan.refused.push_back(std::move(pool));
}

void scan_descriptor(pid_t pid, int directory, const char *name, Scan &scan) {
    std::array<char, 512> link{};
    const ssize_t length = ::readlinkat(directory, name, link.data(), link.size());
    if (length <= 0) return;
    const auto label = label_of_link({link.data(), static_cast<std::size_t>(length)});
    const auto fd = parse_number(name);
    if (!label || !fd) return;
    struct stat status {};
    if (::fstatat(directory, name, &status, 0) != 0) return;  // closed since
    scan.holders[{status.st_dev, status.st_ino}].push_back({pid, *fd, *label});
}

void scan_process(pid_t pid, Scan &scan) {
    const Directory directory(::opendir(process_path(pid, "fd").c_str()));
    if (!directory) {
        if (errno == EACCES || errno == EPERM) {
            ++scan.closed_processes;
            note_titled_worker(pid, scan);
        }
        return;  // else it has ended since
    }
    const int fd = ::dirfd(directory.get());
    while (const dirent *entry = ::readdir(directory.get())) {
        if (entry->d_name[0] != '.') scan_descriptor(pid, fd, entry->d_name, scan);
    }
}

Scan scan_processes() {
    const Directory proc(::opendir("/proc"));
    if (!proc) throw std::system_error(errno, std::generic_category(), "/proc");
    Scan scan;
    const pid_t self = ::getpid();
    while (const dirent *entry = ::readdir(proc.get())) {
        const auto pid = parse_number(entry->d_name);
        if (pid && *pid != self) scan_process(*pid, scan);
    }
    return scan;
}

/// Open the memory through one holder. True when this settles what the pool is.
bool open_through(const Holder &holder, const MemoryId &memory, FoundPool &pool) {
    const std::string path = descriptor_path(holder.pid, holder.fd);
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat status {};
    if (!fd.valid() || ::fstat(fd.get(), &status) != 0) {
        const int error = errno;
        const bool refused = error == EACCES || error == EPERM;
        pool.access = refused ? Access::kNotPermitted : Access::kUnreadable;
        pool.problem =
            refused ? "not permitted to open " + path : path + ": " + std::strerror(error);
        return false;
    }
    if (MemoryId{status.st_dev, status.st_ino} != memory) return false;  // replaced since
    pool.uid = status.st_uid;
    aiomq_view *view = nullptr;
    const int result = aiomq_view_open(fd.get(), &view);
    if (result < 0) {
        pool.access = Access::kUnreadable;
        pool.problem = aiomq_strerror(result);
        return true;
    }
    pool.view.reset(view);
    pool.access = Access::kReadable;
    pool.problem.clear();
    return true;
}

/// Find the dispatcher among the holders. The header has its pid as the pool's own pid namespace
/// counts; a holder further down (a fork into another namespace) may bear the same number there,
/// so the one that is nested least is taken.
void find_dispatcher(const std::vector<Holder> &holders, std::int32_t pid_inside, FoundPool &pool) {
    std::size_t best_depth = SIZE_MAX;
    for (const Holder &holder : holders) {
        const std::vector<pid_t> pids = namespace_pids(holder.pid);
        if (pids.empty() || pids.back() != pid_inside || pids.size() >= best_depth) continue;
        best_depth = pids.size();
        pool.dispatcher_found = true;
        pool.pid = pool.holder_pid = holder.pid;
        pool.holder_fd = holder.fd;
    }
}

FoundPool open_pool(const MemoryId &memory, const std::vector<Holder> &holders) {
    FoundPool pool;
    std::tie(pool.device, pool.inode) = memory;
    pool.label = holders.front().label;
    pool.pid = pool.holder_pid = holders.front().pid;
    pool.holder_fd = holders.front().fd;
    pool.uid = owner_of(pool.pid);
    for (const Holder &holder : holders) {
        if (!open_through(holder, memory, pool)) continue;
        pool.pid = pool.holder_pid = holder.pid;
        pool.holder_fd = holder.fd;
        break;
    }
    if (pool.access != Access::kReadable) return pool;
    aiomq_pool_stats stats{};
    stats.struct_bytes = sizeof stats;
    if (aiomq_view_pool(pool.view.get(), &stats) == 0) {
        stats.label[sizeof stats.label - 1] = '\0';
        pool.label = stats.label;
        find_dispatcher(holders, stats.pid, pool);
    }
    return pool;
}

}  // namespace

Discovery discover_pools() {
    Scan scan = scan_processes();
    Discovery discovery;
    discovery.closed_processes = scan.closed_processes;
    discovery.pools = std::move(scan.refused);
    for (const auto &[memory, holders] : scan.holders) {
        FoundPool pool = open_pool(memory, holders);
        // A memfd that went away while we looked is no pool any more.
        if (pool.access == Access::kUnreadable && !still_held(pool)) continue;
        discovery.pools.push_back(std::move(pool));
    }
    std::ranges::sort(discovery.pools, [](const FoundPool &a, const FoundPool &b) {
        return std::tie(a.label, a.pid, a.inode) < std::tie(b.label, b.pid, b.inode);
    });
    return discovery;
}

bool still_held(const FoundPool &pool) {
    struct stat status {};
    const std::string path = descriptor_path(pool.holder_pid, pool.holder_fd);
    return ::stat(path.c_str(), &status) == 0 && status.st_dev == pool.device &&
           status.st_ino == pool.inode;
}

std::string pool_name(const FoundPool &pool) { return pool.label + "@" + std::to_string(pool.pid); }

}  // namespace aiomq_stat
