// snapshot.hpp - all that a view tells about a pool at one moment, as plain data.
//
// The pool runs on while it is read, so the parts of a snapshot need not add up exactly.
#pragma once

#include <aiomq/aiomq.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace aiomq_stat {

struct Snapshot {
    std::uint64_t taken_ns = 0;  // CLOCK_MONOTONIC, for rates
    aiomq_pool_stats pool{};
    std::vector<aiomq_queue_stats> queues;
    std::vector<aiomq_worker_stats> workers;
    std::vector<aiomq_task_stats> tasks;  // claimed ones, oldest first; if asked for
    std::vector<aiomq_event> events;      // oldest first
    std::string problem;                  // not empty: a part could not be read, and why
};

/// Differences between two snapshots of one pool, per second.
struct Rates {
    double seconds = 0;
    double submitted = 0;
    double finished = 0;
    double failed = 0;  // every outcome but OK
    double wakeups_sent = 0;
    double wakeups_elided = 0;
    std::vector<double> completed;  // by worker
};

/// Read everything but the tasks; `problem` tells what failed.
Snapshot take_snapshot(aiomq_view *view);

/// Read the tasks too. A pool that runs on may have finished some of them before the end.
Snapshot take_task_snapshot(aiomq_view *view);

/// The events behind number `after` up to number `newest`, as far as the pool still has them.
std::vector<aiomq_event> read_events(aiomq_view *view, std::uint64_t after, std::uint64_t newest);

/// Number of the newest event; 0 when there is none.
std::uint64_t newest_event(aiomq_view *view);

/// Nothing without an older snapshot, or when no time has passed.
std::optional<Rates> rates_between(const std::optional<Snapshot> &older, const Snapshot &newer);

/// Pid of the worker that has the task; 0 when it is gone.
std::int32_t pid_of(const Snapshot &snapshot, const aiomq_task_stats &task);

/// Name of the task's queue; its number when there is no such queue.
std::string queue_of(const Snapshot &snapshot, const aiomq_task_stats &task);

/// Items that have got an outcome.
std::uint64_t finished_items(const aiomq_pool_stats &pool);

std::uint64_t monotonic_ns();

std::string state_name(const aiomq_pool_stats &pool);
std::string state_name(const aiomq_worker_stats &worker);
std::string kind_name(const aiomq_event &event);

}  // namespace aiomq_stat
