#include "check.hpp"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <vector>

#include "discovery.hpp"
#include "select.hpp"
#include "snapshot.hpp"
#include "text.hpp"

namespace aiomq_stat {
namespace {

/// What was found wrong, over all pools.
struct Findings {
    std::vector<std::string> exceeded;
    std::vector<std::string> unknown;
    std::size_t pools = 0;
    std::uint64_t longest_wait_ns = 0;
    std::size_t blocked = 0;
};

/// " (limit 5 s)" behind what is over it; nothing otherwise.
bool is_over(const std::optional<std::chrono::nanoseconds> &limit, std::uint64_t value,
             std::string &ret_text) {
    if (!limit || value <= static_cast<std::uint64_t>(limit->count())) return false;
    ret_text = human_duration(value) + " (limit " +
               human_duration(static_cast<std::uint64_t>(limit->count())) + ")";
    return true;
}

void check_queues(const Options &options, const std::string &name, const Snapshot &snapshot,
                  Findings &findings) {
    std::string value;
    for (const aiomq_queue_stats &queue : snapshot.queues) {
        findings.longest_wait_ns = std::max(findings.longest_wait_ns, queue.oldest_ns);
        if (is_over(options.max_wait, queue.oldest_ns, value)) {
            std::string text = name + " queue " + printable(queue.name);
            text.append(": a task has waited for ").append(value);
            findings.exceeded.push_back(std::move(text));
        }
    }
}

void check_workers(const Options &options, const std::string &name, const Snapshot &snapshot,
                   Findings &findings) {
    std::string value;
    for (std::size_t i = 0; i < snapshot.workers.size(); ++i) {
        const aiomq_worker_stats &worker = snapshot.workers[i];
        if (worker.blocked_ns != 0) ++findings.blocked;
        if (is_over(options.max_blocked, worker.blocked_ns, value)) {
            std::string text = name + " worker " + std::to_string(i);
            text.append(" (pid ").append(std::to_string(worker.pid));
            text.append("): its loop has stood for ").append(value);
            findings.exceeded.push_back(std::move(text));
        }
    }
}

void check_pool(const Options &options, const FoundPool &pool, Findings &findings) {
    const std::string name = printable(pool_name(pool));
    if (pool.access != Access::kReadable) {
        findings.unknown.push_back(name + ": " + printable(pool.problem));
        return;
    }
    const Snapshot snapshot = take_snapshot(pool.view.get());
    if (!snapshot.problem.empty()) {
        findings.unknown.push_back(name + ": " + printable(snapshot.problem));
        return;
    }
    if (!pool.dispatcher_found) {
        findings.unknown.push_back(name + ": its dispatcher is gone");
        return;
    }
    ++findings.pools;
    if (snapshot.pool.state == AIOMQ_POOL_BROKEN) findings.exceeded.push_back(name + ": broken");
    check_queues(options, name, snapshot, findings);
    check_workers(options, name, snapshot, findings);
}

Findings look(const Options &options) {
    Findings findings;
    for (const std::string &name : options.pools) {
        try {
            check_pool(options, select_pool(discover_pools(), name), findings);
        } catch (const SelectError &error) {
            const std::string text = error.what();
            findings.unknown.push_back(text.substr(0, text.find('\n')));
        }
    }
    if (!options.pools.empty()) return findings;
    const Discovery discovery = discover_pools();
    for (const FoundPool &pool : discovery.pools) check_pool(options, pool, findings);
    if (discovery.pools.empty()) {
        const std::string remark = closed_processes_remark(discovery);
        findings.unknown.push_back("no pool is running" + (remark.empty() ? "" : "; " + remark));
    }
    return findings;
}

std::string joined(const std::vector<std::string> &parts) {
    std::string text;
    for (const std::string &part : parts) text += (text.empty() ? "" : "; ") + part;
    return text;
}

}  // namespace

CheckResult check_pools(const Options &options) {
    Findings findings;
    try {
        findings = look(options);
    } catch (const std::exception &error) {
        findings.unknown.emplace_back(error.what());
    }
    if (!findings.exceeded.empty()) {
        std::vector<std::string> all = findings.exceeded;
        all.insert(all.end(), findings.unknown.begin(), findings.unknown.end());
        return {kCheckExceeded, "aiomq CRITICAL: " + joined(all)};
    }
    if (!findings.unknown.empty()) {
        return {kCheckUnknown, "aiomq UNKNOWN: " + joined(findings.unknown)};
    }
    return {kCheckFine, "aiomq OK: " + human_count(findings.pools) +
                            (findings.pools == 1 ? " pool, " : " pools, ") + "longest wait " +
                            human_duration(findings.longest_wait_ns) + ", " +
                            human_count(findings.blocked) + " blocked"};
}

}  // namespace aiomq_stat
