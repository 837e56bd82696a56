#include "select.hpp"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "text.hpp"

namespace aiomq_stat {
namespace {

std::string full_name(const FoundPool &pool) {
    return pool_name(pool) + ":" + std::to_string(pool.inode);
}

bool is_called(const FoundPool &pool, const std::string &name) {
    return name == pool.label || name == std::to_string(pool.pid) || name == pool_name(pool) ||
           (pool.inode != 0 && name == full_name(pool));
}

/// One line for each candidate, by the shortest name that is its alone.
std::string candidates_text(const std::vector<FoundPool> &pools) {
    std::string text;
    for (const FoundPool &pool : pools) {
        const auto namesakes = std::ranges::count(pools, pool_name(pool), &pool_name);
        text += "\n  " + printable(namesakes > 1 ? full_name(pool) : pool_name(pool));
        if (pool.access == Access::kNotPermitted) text += "  (not permitted)";
    }
    return text;
}

std::string none_text(const Discovery &discovery, const std::optional<std::string> &name) {
    std::string text = name ? "no pool is called '" + printable(*name) + "'" : "no pool is running";
    if (const std::string remark = closed_processes_remark(discovery); !remark.empty()) {
        text += "; " + remark;
    }
    return text;
}

}  // namespace

FoundPool select_pool(Discovery discovery, const std::optional<std::string> &name) {
    std::vector<FoundPool> fitting;
    for (FoundPool &pool : discovery.pools) {
        if (!name || is_called(pool, *name)) fitting.push_back(std::move(pool));
    }
    if (fitting.empty()) throw SelectError(kExitNoPool, none_text(discovery, name));
    if (fitting.size() > 1) {
        const std::string what = name ? "'" + printable(*name) + "' fits several pools"
                                      : std::string("there are several pools");
        throw SelectError(kExitAmbiguous, what + "; name one of" + candidates_text(fitting));
    }
    FoundPool &pool = fitting.front();
    if (pool.access != Access::kReadable) {
        const bool refused = pool.access == Access::kNotPermitted;
        throw SelectError(refused ? kExitNotPermitted : kExitFailure,
                          printable(pool_name(pool)) + ": " + printable(pool.problem));
    }
    return std::move(pool);
}

std::string closed_processes_remark(const Discovery &discovery) {
    const std::size_t count = discovery.closed_processes;
    if (count == 0) return {};
    return "not permitted to look into " + std::to_string(count) +
           (count == 1 ? " process" : " processes") + "; pools in there are not shown";
}

}  // namespace aiomq_stat
