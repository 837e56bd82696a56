// report.hpp - what list and show print, as text or as JSON.
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

/// One JSON value, without a newline at the end.
std::string list_json(const std::vector<PoolReport> &reports, bool indented);
std::string show_json(const PoolReport &report, bool indented);

}  // namespace aiomq_stat
