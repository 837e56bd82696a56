#include "snapshot.hpp"

#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <string_view>

namespace aiomq_stat {
namespace {

constexpr std::uint64_t kEventsKept = 64;
constexpr double kNanosecondsPerSecond = 1e9;

/// Strings from shared memory may lack their terminator.
template <std::size_t kSize>
void terminate(char (&text)[kSize]) {
    text[kSize - 1] = '\0';
}

template <std::size_t kCount>
std::string name_of(const std::array<std::string_view, kCount> &names, std::uint32_t value) {
    if (value < kCount) return std::string(names[value]);
    return "unknown " + std::to_string(value);
}

void note_problem(Snapshot &snapshot, const std::string &what, int error) {
    if (snapshot.problem.empty()) snapshot.problem = what + ": " + aiomq_strerror(error);
}

void read_queues(aiomq_view *view, Snapshot &snapshot) {
    for (std::uint32_t i = 0; i < snapshot.pool.queues; ++i) {
        aiomq_queue_stats queue{};
        queue.struct_bytes = sizeof queue;
        if (const int error = aiomq_view_queue(view, i, &queue); error < 0) {
            return note_problem(snapshot, "queue " + std::to_string(i), error);
        }
        terminate(queue.name);
        snapshot.queues.push_back(queue);
    }
}

void read_workers(aiomq_view *view, Snapshot &snapshot) {
    for (std::uint32_t i = 0; i < snapshot.pool.workers; ++i) {
        aiomq_worker_stats worker{};
        worker.struct_bytes = sizeof worker;
        if (const int error = aiomq_view_worker(view, i, &worker); error < 0) {
            return note_problem(snapshot, "worker " + std::to_string(i), error);
        }
        terminate(worker.group_name);
        snapshot.workers.push_back(worker);
    }
}

void read_tasks(aiomq_view *view, Snapshot &snapshot) {
    // More than the capacity, which leaves out what is kept for nested tasks.
    for (std::uint32_t slot = 0;; ++slot) {
        aiomq_task_stats task{};
        task.struct_bytes = sizeof task;
        const int error = aiomq_view_task(view, slot, &task);
        if (error == -ENOENT) break;
        if (error == -ENODATA) continue;
        if (error < 0) {
            note_problem(snapshot, "slot " + std::to_string(slot), error);
            continue;
        }
        terminate(task.function);
        snapshot.tasks.push_back(task);
    }
    std::ranges::stable_sort(snapshot.tasks, std::ranges::greater{}, &aiomq_task_stats::age_ns);
}

/// A counter that went backwards is another pool's, or damaged: no rate then.
double per_second(std::uint64_t older, std::uint64_t newer, double seconds) {
    return newer > older ? static_cast<double>(newer - older) / seconds : 0.0;
}

}  // namespace

std::uint64_t monotonic_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(now.tv_nsec);
}

Snapshot take_snapshot(aiomq_view *view) {
    Snapshot snapshot;
    snapshot.pool.struct_bytes = sizeof snapshot.pool;
    snapshot.taken_ns = monotonic_ns();
    if (const int error = aiomq_view_pool(view, &snapshot.pool); error < 0) {
        snapshot.pool = {};
        note_problem(snapshot, "totals", error);
        return snapshot;
    }
    terminate(snapshot.pool.label);
    read_queues(view, snapshot);
    read_workers(view, snapshot);
    snapshot.events = read_events(view, 0, snapshot.pool.events);
    return snapshot;
}

Snapshot take_task_snapshot(aiomq_view *view) {
    Snapshot snapshot = take_snapshot(view);
    if (snapshot.problem.empty()) read_tasks(view, snapshot);
    return snapshot;
}

std::vector<aiomq_event> read_events(aiomq_view *view, std::uint64_t after, std::uint64_t newest) {
    std::vector<aiomq_event> events;
    const std::uint64_t kept = newest > kEventsKept ? newest - kEventsKept : 0;
    const std::uint64_t before = std::max(after, kept);
    for (std::uint64_t i = 1; newest > before && i <= newest - before; ++i) {
        aiomq_event event{};
        if (aiomq_view_event(view, before + i, &event) < 0) continue;  // overwritten since
        terminate(event.text);
        events.push_back(event);
    }
    return events;
}

std::uint64_t newest_event(aiomq_view *view) {
    aiomq_pool_stats pool{};
    pool.struct_bytes = sizeof pool;
    return aiomq_view_pool(view, &pool) < 0 ? 0 : pool.events;
}

std::optional<Rates> rates_between(const std::optional<Snapshot> &older, const Snapshot &newer) {
    if (!older || newer.taken_ns <= older->taken_ns) return std::nullopt;
    const aiomq_pool_stats &before = older->pool;
    const aiomq_pool_stats &now = newer.pool;
    Rates rates;
    rates.seconds = static_cast<double>(newer.taken_ns - older->taken_ns) / kNanosecondsPerSecond;
    const auto rate = [&](std::uint64_t from, std::uint64_t to) {
        return per_second(from, to, rates.seconds);
    };
    rates.submitted = rate(before.submitted, now.submitted);
    rates.finished = rate(finished_items(before), finished_items(now));
    rates.failed = rate(finished_items(before) - before.ok, finished_items(now) - now.ok);
    rates.wakeups_sent = rate(before.wakeups_sent, now.wakeups_sent);
    rates.wakeups_elided = rate(before.wakeups_elided, now.wakeups_elided);
    const std::size_t workers = std::min(older->workers.size(), newer.workers.size());
    for (std::size_t i = 0; i < workers; ++i) {
        rates.completed.push_back(rate(older->workers[i].completed, newer.workers[i].completed));
    }
    return rates;
}

std::int32_t pid_of(const Snapshot &snapshot, const aiomq_task_stats &task) {
    return task.worker < snapshot.workers.size() ? snapshot.workers[task.worker].pid : 0;
}

std::string queue_of(const Snapshot &snapshot, const aiomq_task_stats &task) {
    return task.queue < snapshot.queues.size() ? snapshot.queues[task.queue].name
                                               : std::to_string(task.queue);
}

std::uint64_t finished_items(const aiomq_pool_stats &pool) {
    return pool.ok + pool.failed + pool.cancelled + pool.worker_died + pool.other_outcomes;
}

std::string state_name(const aiomq_pool_stats &pool) {
    constexpr std::array<std::string_view, 5> kNames = {"starting", "running", "closing", "ended",
                                                        "broken"};
    return name_of(kNames, pool.state);
}

std::string state_name(const aiomq_worker_stats &worker) {
    constexpr std::array<std::string_view, 5> kNames = {"absent", "starting", "running", "failed",
                                                        "retiring"};
    return name_of(kNames, worker.state);
}

std::string kind_name(const aiomq_event &event) {
    constexpr std::array<std::string_view, 12> kNames = {
        "none",   "spawned", "ready",  "died",    "left",    "killed",
        "broken", "corrupt", "closed", "retired", "blocked", "poisoned"};
    return name_of(kNames, event.kind);
}

}  // namespace aiomq_stat
