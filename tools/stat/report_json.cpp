#include <cstdint>

#include "json.hpp"
#include "report.hpp"

namespace aiomq_stat {
namespace {

void write_optional(JsonWriter &json, const char *name, bool known, std::uint64_t value) {
    if (known) {
        json.member(name, value);
    } else {
        json.member(name, nullptr);
    }
}

void write_pid(JsonWriter &json, std::int32_t pid) {
    if (pid != 0) {
        json.member("pid", pid);
    } else {
        json.member("pid", nullptr);
    }
}

void write_identity(JsonWriter &json, const PoolReport &report) {
    const FoundPool &found = *report.found;
    json.member("label", found.label);
    json.member("pid", found.pid);
    json.member("uid", found.uid);
    json.member("state", state_of(report));
    json.member("permitted", found.access != Access::kNotPermitted);
    write_optional(json, "inode", found.inode != 0, found.inode);
    const std::string &problem = report.snapshot ? report.snapshot->problem : found.problem;
    if (problem.empty()) {
        json.member("problem", nullptr);
    } else {
        json.member("problem", problem);
    }
}

void write_items(JsonWriter &json, const aiomq_pool_stats &pool) {
    json.key("items");
    json.begin_object();
    json.member("submitted", pool.submitted);
    json.member("ok", pool.ok);
    json.member("failed", pool.failed);
    json.member("cancelled", pool.cancelled);
    json.member("worker_died", pool.worker_died);
    json.member("other_outcomes", pool.other_outcomes);
    json.member("requeued", pool.requeued);
    json.member("retried", pool.retried);
    json.member("nested", pool.nested);
    json.member("splits", pool.splits);
    json.end_object();
}

void write_wakeups(JsonWriter &json, const aiomq_pool_stats &pool) {
    json.key("wakeups");
    json.begin_object();
    json.member("sent", pool.wakeups_sent);
    json.member("elided", pool.wakeups_elided);
    json.member("audits", pool.audits);
    json.end_object();
}

void write_arena(JsonWriter &json, const char *name, std::uint64_t used, std::uint64_t committed,
                 std::uint64_t maximum) {
    json.key(name);
    json.begin_object();
    json.member("used_bytes", used);
    json.member("committed_bytes", committed);
    json.member("maximum_bytes", maximum);
    json.end_object();
}

void write_arenas(JsonWriter &json, const aiomq_pool_stats &pool) {
    json.key("arenas");
    json.begin_object();
    write_arena(json, "request", pool.request_used_bytes, pool.request_committed_bytes,
                pool.request_maximum_bytes);
    write_arena(json, "result", pool.result_used_bytes, pool.result_committed_bytes,
                pool.result_maximum_bytes);
    json.end_object();
}

void write_queues(JsonWriter &json, const std::vector<aiomq_queue_stats> &queues) {
    json.key("queues");
    json.begin_array();
    for (const aiomq_queue_stats &queue : queues) {
        json.begin_object();
        json.member("name", queue.name);
        json.member("ready", queue.ready);
        json.member("claimed", queue.claimed);
        json.member("done", queue.done);
        json.member("oldest_ns", queue.oldest_ns);
        json.end_object();
    }
    json.end_array();
}

void write_current(JsonWriter &json, const aiomq_worker_stats &worker) {
    json.key("current");
    if (worker.current_id == 0) return json.value(nullptr);
    json.begin_object();
    json.member("task_id", worker.current_id);
    json.member("item", worker.current_item);
    json.end_object();
}

void write_workers(JsonWriter &json, const std::vector<aiomq_worker_stats> &workers) {
    json.key("workers");
    json.begin_array();
    std::size_t index = 0;
    for (const aiomq_worker_stats &worker : workers) {
        json.begin_object();
        json.member("index", index++);
        write_pid(json, worker.pid);
        json.member("group", worker.group_name);
        json.member("state", state_name(worker));
        json.member("sleeping", worker.sleeping != 0);
        json.member("running", worker.running);
        json.member("keyed", worker.keyed);
        write_current(json, worker);
        json.member("blocked_ns", worker.blocked_ns);
        json.member("started", worker.started);
        json.member("completed", worker.completed);
        json.member("failed", worker.failed);
        json.member("restarts", worker.restarts);
        json.member("wakeups", worker.wakeups);
        json.member("used_bytes", worker.used_bytes);
        json.member("committed_bytes", worker.committed_bytes);
        json.end_object();
    }
    json.end_array();
}

void write_event(JsonWriter &json, const aiomq_event &event) {
    json.begin_object();
    json.member("sequence", event.sequence);
    json.member("time_ns", event.time_ns);
    json.member("kind", kind_name(event));
    write_optional(json, "worker", event.worker != AIOMQ_NO_WORKER, event.worker);
    write_pid(json, event.pid);
    json.member("status", event.status);
    json.member("text", event.text);
    json.end_object();
}

void write_events(JsonWriter &json, const std::vector<aiomq_event> &events) {
    json.begin_array();
    for (const aiomq_event &event : events) write_event(json, event);
    json.end_array();
}

void write_tasks(JsonWriter &json, const Snapshot &snapshot) {
    json.begin_array();
    for (const aiomq_task_stats &task : snapshot.tasks) {
        json.begin_object();
        json.member("id", task.task_id);
        json.member("function", task.function);
        json.member("worker", task.worker);
        write_pid(json, pid_of(snapshot, task));
        json.member("age_ns", task.age_ns);
        json.member("attempt", task.attempt);
        json.member("queue", queue_of(snapshot, task));
        json.member("items", task.items);
        json.member("started", task.started);
        json.end_object();
    }
    json.end_array();
}

void write_rates(JsonWriter &json, const std::optional<Rates> &rates) {
    json.key("rates");
    if (!rates) return json.value(nullptr);
    json.begin_object();
    json.member("seconds", rates->seconds);
    json.member("submitted", rates->submitted);
    json.member("finished", rates->finished);
    json.member("not_ok", rates->failed);
    json.member("wakeups_sent", rates->wakeups_sent);
    json.member("wakeups_elided", rates->wakeups_elided);
    json.key("completed_by_worker");
    json.begin_array();
    for (const double completed : rates->completed) json.value(completed);
    json.end_array();
    json.end_object();
}

void write_totals(JsonWriter &json, const aiomq_pool_stats &pool) {
    json.member("age_ns", pool.age_ns);
    json.member("created_realtime_ns", pool.created_realtime_ns);
    json.member("capacity", pool.capacity);
    json.member("restarts", pool.restarts);
    write_items(json, pool);
}

void write_list_entry(JsonWriter &json, const PoolReport &report) {
    json.begin_object();
    write_identity(json, report);
    if (report.snapshot) {
        std::uint64_t ready = 0;
        std::uint64_t claimed = 0;
        std::uint64_t done = 0;
        for (const aiomq_queue_stats &queue : report.snapshot->queues) {
            ready += queue.ready;
            claimed += queue.claimed;
            done += queue.done;
        }
        write_totals(json, report.snapshot->pool);
        json.member("workers", report.snapshot->pool.workers);
        json.member("ready", ready);
        json.member("claimed", claimed);
        json.member("done", done);
        write_rates(json, report.rates);
    }
    json.end_object();
}

}  // namespace

std::string list_json(const std::vector<PoolReport> &reports, bool indented) {
    JsonWriter json(indented);
    json.begin_array();
    for (const PoolReport &report : reports) write_list_entry(json, report);
    json.end_array();
    return json.str();
}

std::string show_json(const PoolReport &report, bool indented) {
    const Snapshot &snapshot = *report.snapshot;
    JsonWriter json(indented);
    json.begin_object();
    write_identity(json, report);
    json.member("namespace_pid", snapshot.pool.pid);
    json.member("statistics_version", snapshot.pool.statistics_version);
    write_totals(json, snapshot.pool);
    write_wakeups(json, snapshot.pool);
    write_arenas(json, snapshot.pool);
    write_queues(json, snapshot.queues);
    write_workers(json, snapshot.workers);
    json.key("events");
    write_events(json, snapshot.events);
    write_rates(json, report.rates);
    json.end_object();
    return json.str();
}

std::string tasks_json(const Snapshot &snapshot) {
    JsonWriter json(true);
    write_tasks(json, snapshot);
    return json.str();
}

std::string events_json(const std::vector<aiomq_event> &events) {
    JsonWriter json(true);
    write_events(json, events);
    return json.str();
}

std::string event_json(const aiomq_event &event) {
    JsonWriter json(false);
    write_event(json, event);
    return json.str();
}

}  // namespace aiomq_stat
