// report.hpp - what list, show, tasks and events print, as text or as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "discovery.hpp"
#include "snapshot.hpp"

namespace aiomq_stat {

/// One pool of a report; without a snapshot when it could not be read.
struct PoolReport {
    const FoundPool *found = nullptr;
    std::optional<Snapshot> snapshot;
    std::optional<Rates> rates;  // only from the second report of -i on
};

/// "running", …, "gone" when the dispatcher is, "not permitted", "unreadable".
std::string state_of(const PoolReport &report);

std::string list_text(const std::vector<PoolReport> &reports, bool with_rates);
std::string show_text(const PoolReport &report, bool with_rates);

/// The tasks of a snapshot that has them.
std::string tasks_text(const Snapshot &snapshot);
/// A table of all of them.
std::string events_text(const std::vector<aiomq_event> &events);
/// One of them as a line of its own.
std::string event_line(const aiomq_event &event);

/// One JSON value, without a newline at the end.
std::string list_json(const std::vector<PoolReport> &reports, bool indented);
std::string show_json(const PoolReport &report, bool indented);
std::string tasks_json(const Snapshot &snapshot);
std::string events_json(const std::vector<aiomq_event> &events);
std::string event_json(const aiomq_event &event);

}  // namespace aiomq_stat
