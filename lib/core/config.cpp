#include "config.hpp"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "format.hpp"
#include "segment.hpp"

namespace aiomq {
namespace {

constexpr std::uint64_t kDefaultArenaStart = 1ULL << 20;
constexpr std::uint32_t kDefaultCapacity = 4096;
constexpr std::uint32_t kDefaultStartLimit = 3;
constexpr std::uint32_t kDefaultPoisonLimit = 3;
constexpr std::uint64_t kDefaultGraceNs = 2'000'000'000;
constexpr std::uint64_t kDefaultBlockedAfterNs = 1'000'000'000;
constexpr std::uint32_t kMaxExtraFds = 64;

std::vector<std::string> strings(const char *const *list) {
    std::vector<std::string> result;
    for (; list != nullptr && *list != nullptr; ++list) result.emplace_back(*list);
    return result;
}

bool names_a_program(const char *const *argv) {
    return argv != nullptr && argv[0] != nullptr && argv[0][0] != '\0';
}

/// Turns options into a PoolConfig; the first thing that is wrong stays in text().
class Checker {
  public:
    Checker(const aiomq_pool_options &options, PoolConfig &ret_config)
        : options_(options), config_(ret_config) {}

    bool check() { return scalars() && queues() && groups() && descriptors(); }
    const std::string &text() const { return text_; }

  private:
    bool wrong(const std::string &text) {
        text_ = text;
        return false;
    }
    bool within(const char *name, std::uint64_t value, std::uint64_t least, std::uint64_t most) {
        if (value >= least && value <= most) return true;
        return wrong(std::string(name) + " is " + std::to_string(value) + ", must be " +
                     std::to_string(least) + " to " + std::to_string(most));
    }
    bool positive(const char *name, std::uint64_t value) {
        return value != 0 || wrong(std::string(name) + " is 0, must be 1 or more");
    }

    bool scalars() {
        if ((options_.flags & ~static_cast<std::uint32_t>(AIOMQ_POOL_NOWAIT)) != 0)
            return wrong("flags has unknown bits (" + std::to_string(options_.flags) + ")");
        if (options_.reserved != 0) return wrong("reserved is not 0");
        if (!within("capacity", options_.capacity, 1, AIOMQ_CAPACITY_MAX) ||
            !positive("start_limit", options_.start_limit) ||
            !positive("poison_limit", options_.poison_limit) ||
            !positive("blocked_after_ns", options_.blocked_after_ns) ||
            !positive("arena_start_bytes", options_.arena_start_bytes))
            return false;
        if (options_.arena_max_bytes < options_.arena_start_bytes)
            return wrong("arena_max_bytes (" + std::to_string(options_.arena_max_bytes) +
                         ") is less than arena_start_bytes (" +
                         std::to_string(options_.arena_start_bytes) + ")");
        if (options_.error_text == nullptr && options_.error_text_bytes != 0)
            return wrong("error_text is NULL though error_text_bytes is not 0");
        config_.label =
            sanitised_label(options_.label == nullptr ? sys::program_name() : options_.label);
        config_.capacity = options_.capacity;
        config_.start_limit = options_.start_limit;
        config_.poison_limit = options_.poison_limit;
        config_.arena_start_bytes = options_.arena_start_bytes;
        config_.arena_max_bytes = options_.arena_max_bytes;
        config_.spin_ns = options_.spin_ns;
        config_.grace_ns = options_.grace_ns;
        config_.blocked_after_ns = options_.blocked_after_ns;
        config_.log = options_.log;
        config_.log_user = options_.log_user;
        return true;
    }

    bool queues() {
        if (options_.queue_count > 0 && options_.queues == nullptr)
            return wrong("queues is NULL though queue_count is not 0");
        if (!within("queue_count", options_.queue_count, 0, AIOMQ_QUEUES_MAX)) return false;
        for (std::uint32_t i = 0; i < options_.queue_count; ++i) {
            const char *name = options_.queues[i];
            const std::string which = "queues[" + std::to_string(i) + "]";
            if (name == nullptr || name[0] == '\0') return wrong(which + " has no name");
            if (std::strlen(name) >= kQueueNameBytes)
                return wrong(which + " (" + name + ") is longer than " +
                             std::to_string(kQueueNameBytes - 1) + " bytes");
            if (sanitised_label(name) != name)
                return wrong(which + " has other characters than letters, digits and ._+:=,-");
            if (std::find(config_.queues.begin(), config_.queues.end(), name) !=
                config_.queues.end())
                return wrong(which + " (" + name + ") is there twice");
            config_.queues.emplace_back(name);
        }
        if (config_.queues.empty()) config_.queues.emplace_back("default");
        return true;
    }

    bool groups() {
        if (options_.group_count == 0) {
            aiomq_group only{};
            only.struct_bytes = sizeof only;
            only.workers = options_.workers;
            return within("workers", options_.workers, 1, AIOMQ_WORKERS_MAX) && group("", only);
        }
        if (options_.groups == nullptr) return wrong("groups is NULL though group_count is not 0");
        if (!within("group_count", options_.group_count, 1, AIOMQ_WORKERS_MAX)) return false;
        const std::size_t stride = options_.groups[0].struct_bytes;
        for (std::uint32_t i = 0; i < options_.group_count; ++i) {
            const std::string prefix = "groups[" + std::to_string(i) + "].";
            const auto &one = *reinterpret_cast<const aiomq_group *>(  // NOLINT
                reinterpret_cast<const char *>(options_.groups) + i * stride);
            if (one.struct_bytes != sizeof one)
                return wrong(prefix + "struct_bytes is " + std::to_string(one.struct_bytes) +
                             ", not " + std::to_string(sizeof one));
            if (!group(prefix, one)) return false;
        }
        return everything_is_served();
    }

    bool group(const std::string &prefix, const aiomq_group &group) {
        if (!within((prefix + "workers").c_str(), group.workers, 1,
                    AIOMQ_WORKERS_MAX - config_.workers))
            return false;
        if (group.reserved != 0) return wrong(prefix + "reserved is not 0");
        const char *const *argv = group.argv == nullptr ? options_.argv : group.argv;
        if (!names_a_program(argv)) return wrong(prefix + "argv names no worker program");
        if (group.stuck_signal < 0 || group.stuck_signal > SIGRTMAX)
            return wrong(prefix + "stuck_signal is " + std::to_string(group.stuck_signal) +
                         ", no signal");
        if (group.queue_count > 0 && group.queues == nullptr)
            return wrong(prefix + "queues is NULL though queue_count is not 0");
        GroupConfig result;
        result.argv = strings(argv);
        result.name = sanitised_label(group.name == nullptr
                                          ? result.argv[0].substr(result.argv[0].rfind('/') + 1)
                                          : group.name);
        const char *const *environment =
            group.environment == nullptr ? options_.environment : group.environment;
        result.environment = strings(environment == nullptr ? environ : environment);
        for (std::uint32_t i = 0; i < group.queue_count; ++i) {
            const std::uint32_t queue = group.queues[i];
            if (queue >= config_.queues.size() ||
                std::find(result.queues.begin(), result.queues.end(), queue) != result.queues.end())
                return wrong(prefix + "queues[" + std::to_string(i) + "] is " +
                             std::to_string(queue) + ", no queue of this pool or there twice");
            result.queues.push_back(static_cast<std::uint8_t>(queue));
        }
        if (result.queues.empty())
            for (std::size_t queue = 0; queue < config_.queues.size(); ++queue)
                result.queues.push_back(static_cast<std::uint8_t>(queue));
        result.workers = group.workers;
        result.concurrency = group.concurrency;
        result.max_tasks = group.max_tasks;
        result.max_memory_bytes = group.max_memory_bytes;
        result.stuck_signal = group.stuck_signal;
        config_.workers += group.workers;
        config_.groups.push_back(std::move(result));
        return true;
    }

    /// What is put into a queue that nobody serves would wait for ever.
    bool everything_is_served() {
        for (std::size_t queue = 0; queue < config_.queues.size(); ++queue)
            if (std::none_of(config_.groups.begin(), config_.groups.end(), [&](const auto &group) {
                    return std::find(group.queues.begin(), group.queues.end(), queue) !=
                           group.queues.end();
                }))
                return wrong("no group serves queues[" + std::to_string(queue) + "] (" +
                             config_.queues[queue] + ")");
        return true;
    }

    bool descriptors() {
        if (options_.extra_fd_count > kMaxExtraFds)
            return wrong("extra_fd_count is " + std::to_string(options_.extra_fd_count) +
                         ", must be at most " + std::to_string(kMaxExtraFds));
        if (options_.extra_fd_count > 0 && options_.extra_fds == nullptr)
            return wrong("extra_fds is NULL though extra_fd_count is not 0");
        for (std::uint32_t i = 0; i < options_.extra_fd_count; ++i) {
            auto copy = sys::duplicate(options_.extra_fds[i], 0);
            if (!copy)
                return wrong("extra_fds[" + std::to_string(i) + "] (" +
                             std::to_string(options_.extra_fds[i]) +
                             "): " + std::strerror(-copy.error()));
            config_.extra_fds.push_back(std::move(*copy));
        }
        return true;
    }

    const aiomq_pool_options &options_;
    PoolConfig &config_;
    std::string text_;
};

}  // namespace

std::uint32_t PoolConfig::group_of(std::uint32_t worker) const {
    std::uint32_t group = 0;
    while (group + 1 < groups.size() && worker >= groups[group].workers)
        worker -= groups[group++].workers;
    return group;
}

aiomq_pool_options default_options() {
    aiomq_pool_options options{};
    options.struct_bytes = sizeof options;
    options.workers = std::min(sys::usable_cpus(), AIOMQ_WORKERS_MAX);
    options.capacity = kDefaultCapacity;
    options.start_limit = kDefaultStartLimit;
    options.arena_start_bytes = kDefaultArenaStart;
    options.arena_max_bytes =
        std::max<std::uint64_t>(sys::physical_memory_bytes() / 4, kDefaultArenaStart);
    options.spin_ns = AIOMQ_SPIN_AUTO;
    options.poison_limit = kDefaultPoisonLimit;
    options.grace_ns = kDefaultGraceNs;
    options.blocked_after_ns = kDefaultBlockedAfterNs;
    return options;
}

int check_options(const aiomq_pool_options &options, PoolConfig &ret_config,
                  std::string &ret_text) {
    if (options.struct_bytes != sizeof(aiomq_pool_options)) {
        ret_text = "struct_bytes is " + std::to_string(options.struct_bytes) + ", not " +
                   std::to_string(sizeof(aiomq_pool_options)) +
                   ": fill the options with aiomq_pool_options_init()";
        return -EINVAL;
    }
    Checker checker(options, ret_config);
    if (checker.check()) return 0;
    ret_text = checker.text();
    return -EINVAL;
}

}  // namespace aiomq
