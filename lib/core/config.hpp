// PoolConfig: the options of a pool, checked and with every default filled in.
#pragma once

#include <aiomq/aiomq.h>

#include <string>
#include <vector>

#include "sys.hpp"

namespace aiomq {

/// Workers of one kind; see aiomq_group.
struct GroupConfig {
    std::string name;
    std::uint32_t workers = 0;
    std::vector<std::string> argv;
    std::vector<std::string> environment;
    std::vector<std::uint8_t> queues;  ///< served first to last
    std::uint32_t concurrency = 0;
    std::uint64_t max_tasks = 0;
    std::uint64_t max_memory_bytes = 0;
    int stuck_signal = 0;
};

struct PoolConfig {
    std::string label;
    std::uint32_t workers = 0;  ///< of all groups
    std::uint32_t capacity = 0;
    std::vector<std::string> queues;
    std::vector<GroupConfig> groups;
    std::vector<UniqueFd> extra_fds;
    std::uint32_t start_limit = 0;
    std::uint32_t poison_limit = 0;
    std::uint64_t arena_start_bytes = 0;
    std::uint64_t arena_max_bytes = 0;
    std::uint64_t spin_ns = 0;
    std::uint64_t grace_ns = 0;
    std::uint64_t blocked_after_ns = 0;
    aiomq_log_function log = nullptr;
    void *log_user = nullptr;

    /// The number of the group that worker number @worker belongs to.
    std::uint32_t group_of(std::uint32_t worker) const;
};

/// The defaults of aiomq_pool_options_init().
aiomq_pool_options default_options();
/// Checks @options and fills @ret_config. -EINVAL with the option at fault in @ret_text.
int check_options(const aiomq_pool_options &options, PoolConfig &ret_config, std::string &ret_text);

}  // namespace aiomq
