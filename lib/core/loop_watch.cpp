#include "loop_watch.hpp"

#include <cstdio>

namespace aiomq {
namespace {

/// The first look says where the loop is; two more find it there. Fewer would blame a worker for the
/// time that dispatcher and worker were stopped together.
constexpr std::uint32_t kLooks = 3;
/// Of a function's name in an event, whose text is short.
constexpr std::size_t kNameBytes = 96;

std::string duration(std::uint64_t ns) {
    char text[32];
    if (ns < 1000000000)
        std::snprintf(text, sizeof text, "%u ms", static_cast<unsigned>(ns / 1000000));
    else
        std::snprintf(text, sizeof text, "%.1f s", static_cast<double>(ns) * 1e-9);
    return text;
}

}  // namespace

LoopWatch::LoopWatch(Pool &pool) : pool_(pool), seen_(pool.worker_count()) {}

/// It runs items and does not sleep on its descriptor.
bool LoopWatch::locked_busy(std::uint32_t worker) const {
    if (!pool_.seat(worker).alive || WorkerBits(pool_.segment().flags().asleep).test(worker))
        return false;
    const WorkerArea &area = pool_.segment().area(worker);
    const std::uint64_t over = area.completed.load_acquire() + pool_.segment().record(worker).lost;
    return area.started.load_relaxed() > over;
}

void LoopWatch::locked_look(std::uint64_t now_ns) {
    for (std::uint32_t worker = 0; worker < seen_.size(); ++worker) {
        Seen &seen = seen_[worker];
        auto &blocked_since = pool_.segment().record(worker).blocked_since_ns;
        const WorkerArea &area = pool_.segment().area(worker);
        const std::uint64_t turns = area.turns.load_relaxed() + area.started.load_relaxed();
        if (!locked_busy(worker) || turns != seen.turns || seen.looks == 0) {
            seen = {turns, locked_busy(worker) ? 1U : 0U, now_ns};
            if (blocked_since.load_relaxed() != 0) blocked_since.store_relaxed(0);
            continue;
        }
        if (seen.looks < kLooks) ++seen.looks;
        if (seen.looks < kLooks || now_ns - seen.since_ns < pool_.config().blocked_after_ns ||
            blocked_since.load_relaxed() != 0)
            continue;
        blocked_since.store_relaxed(seen.since_ns);
        locked_report(worker, now_ns - seen.since_ns);
    }
}

void LoopWatch::locked_report(std::uint32_t worker, std::uint64_t for_ns) {
    const std::int32_t pid = pool_.segment().record(worker).pid;
    pool_.locked_event(AIOMQ_EVENT_BLOCKED, worker, pid, 0,
                       "worker " + std::to_string(worker) + " (pid " + std::to_string(pid) +
                           ") has not turned its loop for " + duration(for_ns) +
                           locked_place(worker));
}

/// ` in item 7 of "function" (task 42)`; "" when the worker does not say, or says something wrong.
std::string LoopWatch::locked_place(std::uint32_t worker) const {
    Segment &segment = pool_.segment();
    const std::uint64_t current = segment.area(worker).current.load_relaxed();
    const std::uint64_t slot = (current >> 32) - 1;
    if (current >> 32 == 0 || slot >= pool_.slot_count()) return {};
    const auto index = static_cast<std::uint32_t>(slot);
    const SlotWord word(segment.slot(index).word.load_acquire());
    if (!pool_.task(index).in_use || word.phase() != Phase::kClaimed ||
        !word.held_by(worker, pool_.seat(worker).incarnation))
        return {};
    const Request &request = segment.request(index);
    std::string name = "?";
    if (request.function < segment.header().functions.load_relaxed()) {
        const FunctionRecord record = segment.function(request.function);
        if (segment.in_request_arena(record.offset, record.bytes))
            name = cut({segment.at<const char>(record.offset), record.bytes}, kNameBytes);
    }
    return " in item " + std::to_string(current & UINT32_MAX) + " of \"" + name + "\" (task " +
           std::to_string(request.task_id) + ")";
}

}  // namespace aiomq
