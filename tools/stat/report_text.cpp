#include <algorithm>
#include <cstdint>
#include <string_view>

#include "report.hpp"
#include "text.hpp"

namespace aiomq_stat {
namespace {

constexpr std::size_t kEventsShown = 10;
constexpr const char *kNothing = "-";

std::string rate_cell(const std::optional<Rates> &rates, double Rates::*member) {
    return rates ? human_rate((*rates).*member) : kNothing;
}

std::string line(const char *name, const std::string &text) {
    std::string padded(name);
    padded.resize(11, ' ');
    return "  " + padded + text + "\n";
}

std::string items_text(const aiomq_pool_stats &pool) {
    return human_count(pool.submitted) + " submitted, " + human_count(pool.ok) + " ok, " +
           human_count(pool.failed) + " failed, " + human_count(pool.cancelled) + " cancelled, " +
           human_count(pool.worker_died) + " worker died, " + human_count(pool.other_outcomes) +
           " other; " + human_count(pool.requeued) + " requeued, " + human_count(pool.retried) +
           " retried, " + human_count(pool.nested) + " nested; " + human_count(pool.splits) +
           " splits";
}

std::string rates_text(const Rates &rates) {
    return human_rate(rates.submitted) + " submitted, " + human_rate(rates.finished) +
           " finished, " + human_rate(rates.failed) + " not ok; wake-ups " +
           human_rate(rates.wakeups_sent) + " sent, " + human_rate(rates.wakeups_elided) +
           " elided";
}

std::string totals_text(const PoolReport &report, bool with_rates) {
    const aiomq_pool_stats &pool = report.snapshot->pool;
    std::string text;
    text += line("state", state_of(report));
    text += line("uid", std::to_string(report.found->uid));
    text += line("age", human_duration(pool.age_ns));
    text += line("capacity", human_count(pool.capacity) + " tasks");
    text += line("items", items_text(pool));
    text += line("wake-ups", human_count(pool.wakeups_sent) + " sent, " +
                                 human_count(pool.wakeups_elided) + " elided; " +
                                 human_count(pool.audits) + " audits");
    text += line("restarts", human_count(pool.restarts));
    if (with_rates) {
        text += line("rates", report.rates ? rates_text(*report.rates) : kNothing);
    }
    return text;
}

std::string memory_text(const aiomq_pool_stats &pool) {
    Table table({"<MEMORY", "USED", "COMMITTED", "MAXIMUM"});
    table.add({"requests", human_bytes(pool.request_used_bytes),
               human_bytes(pool.request_committed_bytes), human_bytes(pool.request_maximum_bytes)});
    table.add({"results", human_bytes(pool.result_used_bytes),
               human_bytes(pool.result_committed_bytes), human_bytes(pool.result_maximum_bytes)});
    return table.str("  ");
}

std::string queues_text(const std::vector<aiomq_queue_stats> &queues) {
    Table table({"<QUEUE", "READY", "CLAIMED", "DONE", "OLDEST"});
    for (const aiomq_queue_stats &queue : queues) {
        table.add({printable(queue.name), human_count(queue.ready), human_count(queue.claimed),
                   human_count(queue.done),
                   queue.ready > 0 ? human_duration(queue.oldest_ns) : kNothing});
    }
    return table.str("  ");
}

/// The item that its thread runs.
std::string current_text(const aiomq_worker_stats &worker) {
    if (worker.current_id == 0) return kNothing;
    return "item " + std::to_string(worker.current_item) + " of task " +
           std::to_string(worker.current_id);
}

std::string workers_text(const PoolReport &report, bool with_rates) {
    std::vector<std::string> headings = {
        "WORKER",    "PID",    "<GROUP",   "<STATE", "<SLEEPING", "RUNNING", "KEYED",
        "COMPLETED", "FAILED", "RESTARTS", "USED",   "COMMITTED", "BLOCKED", "<CURRENT"};
    if (with_rates) headings.emplace_back("COMPLETED/s");
    Table table(std::move(headings));
    std::size_t index = 0;
    for (const aiomq_worker_stats &worker : report.snapshot->workers) {
        std::vector<std::string> cells = {
            std::to_string(index),
            worker.pid != 0 ? std::to_string(worker.pid) : kNothing,
            printable(worker.group_name),
            state_name(worker),
            worker.sleeping != 0 ? "yes" : "no",
            human_count(worker.running),
            human_count(worker.keyed),
            human_count(worker.completed),
            human_count(worker.failed),
            human_count(worker.restarts),
            human_bytes(worker.used_bytes),
            human_bytes(worker.committed_bytes),
            worker.blocked_ns != 0 ? human_duration(worker.blocked_ns) : kNothing,
            current_text(worker),
        };
        if (with_rates) {
            const bool known = report.rates && index < report.rates->completed.size();
            cells.push_back(known ? human_rate(report.rates->completed[index]) : kNothing);
        }
        table.add(std::move(cells));
        ++index;
    }
    return table.str("  ");
}

/// The last @shown of them.
std::string events_table(const std::vector<aiomq_event> &events, std::size_t shown,
                         std::string_view indent) {
    Table table({"EVENT", "<TIME", "<KIND", "WORKER", "PID", "<TEXT"});
    const std::size_t skipped = events.size() - std::min(events.size(), shown);
    for (std::size_t i = skipped; i < events.size(); ++i) {
        const aiomq_event &event = events[i];
        table.add({std::to_string(event.sequence), human_time(event.time_ns), kind_name(event),
                   event.worker != AIOMQ_NO_WORKER ? std::to_string(event.worker) : kNothing,
                   event.pid != 0 ? std::to_string(event.pid) : kNothing, printable(event.text)});
    }
    return table.str(indent);
}

std::vector<std::string> list_cells(const PoolReport &report) {
    const FoundPool &found = *report.found;
    std::vector<std::string> cells = {printable(found.label), std::to_string(found.pid),
                                      std::to_string(found.uid), state_of(report)};
    if (!report.snapshot) {
        cells.resize(10, kNothing);
        return cells;
    }
    std::uint64_t ready = 0;
    std::uint64_t claimed = 0;
    for (const aiomq_queue_stats &queue : report.snapshot->queues) {
        ready += queue.ready;
        claimed += queue.claimed;
    }
    const aiomq_pool_stats &pool = report.snapshot->pool;
    cells.push_back(human_duration(pool.age_ns));
    cells.push_back(human_count(pool.workers));
    cells.push_back(human_count(ready));
    cells.push_back(human_count(claimed));
    cells.push_back(human_count(finished_items(pool)));
    cells.push_back(human_count(pool.restarts));
    return cells;
}

}  // namespace

std::string state_of(const PoolReport &report) {
    if (report.found->access == Access::kNotPermitted) return "not permitted";
    if (!report.snapshot) return "unreadable";
    if (!report.found->dispatcher_found) return "gone";
    return state_name(report.snapshot->pool);
}

std::string list_text(const std::vector<PoolReport> &reports, bool with_rates) {
    std::vector<std::string> headings = {"<LABEL",  "PID",   "UID",     "<STATE",   "AGE",
                                         "WORKERS", "READY", "CLAIMED", "FINISHED", "RESTARTS"};
    if (with_rates) headings.emplace_back("FINISHED/s");
    Table table(std::move(headings));
    std::string problems;
    for (const PoolReport &report : reports) {
        std::vector<std::string> cells = list_cells(report);
        if (with_rates) cells.push_back(rate_cell(report.rates, &Rates::finished));
        table.add(std::move(cells));
        const std::string &problem =
            report.snapshot ? report.snapshot->problem : report.found->problem;
        if (!problem.empty()) {
            problems += printable(pool_name(*report.found)) + ": " + printable(problem) + "\n";
        }
    }
    return table.str("") + problems;
}

std::string show_text(const PoolReport &report, bool with_rates) {
    const Snapshot &snapshot = *report.snapshot;
    std::string text = printable(pool_name(*report.found)) + "\n";
    text += totals_text(report, with_rates);
    if (!snapshot.problem.empty()) text += line("problem", printable(snapshot.problem));
    text += "\n" + memory_text(snapshot.pool);
    text += "\n" + queues_text(snapshot.queues);
    text += "\n" + workers_text(report, with_rates);
    if (!snapshot.events.empty()) {
        text += "\n" + events_table(snapshot.events, kEventsShown, "  ");
    }
    return text;
}

std::string tasks_text(const Snapshot &snapshot) {
    Table table({"TASK", "<FUNCTION", "WORKER", "PID", "AGE", "ATTEMPT", "STARTED", "<QUEUE"});
    for (const aiomq_task_stats &task : snapshot.tasks) {
        const std::int32_t pid = pid_of(snapshot, task);
        table.add({std::to_string(task.task_id), printable(task.function),
                   std::to_string(task.worker), pid != 0 ? std::to_string(pid) : kNothing,
                   human_duration(task.age_ns), std::to_string(task.attempt),
                   human_count(task.started) + " of " + human_count(task.items),
                   printable(queue_of(snapshot, task))});
    }
    return table.str("");
}

std::string events_text(const std::vector<aiomq_event> &events) {
    return events_table(events, events.size(), "");
}

std::string event_line(const aiomq_event &event) {
    std::string kind = kind_name(event);
    kind.resize(std::max<std::size_t>(kind.size(), 8), ' ');
    return human_time(event.time_ns) + "  " + kind + "  " + printable(event.text) + "\n";
}

}  // namespace aiomq_stat
