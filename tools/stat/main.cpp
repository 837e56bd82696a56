// aiomq-stat - look at the libaiomq pools of this machine from outside.
//
// Reads a pool's statistics out of its shared memory, mapped read-only; asks nothing of the pool's
// processes, so it also works when they are busy, stopped or hung.
#include <time.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "check.hpp"
#include "discovery.hpp"
#include "functions.hpp"
#include "options.hpp"
#include "report.hpp"
#include "select.hpp"
#include "snapshot.hpp"
#include "text.hpp"

namespace aiomq_stat {
namespace {

void complain(const std::string &message) {
    std::fprintf(stderr, "aiomq-stat: %s\n", message.c_str());
}

/// Throws when the reader can't take it, e.g. on a full disk.
void emit(const std::string &text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
        std::fflush(stdout) != 0) {
        throw std::system_error(errno, std::generic_category(), "writing to standard output");
    }
}

/// Paces the reports of -i against the clock, so that they do not drift.
class Repeater {
  public:
    explicit Repeater(const Options &options)
        : interval_(options.interval),
          left_(options.count.value_or(UINT64_MAX)),
          next_ns_(monotonic_ns()) {}

    /// Wait for the next report's time; false when there is none.
    bool next() {
        if (!interval_ || --left_ == 0) return false;
        next_ns_ += static_cast<std::uint64_t>(interval_->count());
        const std::uint64_t now = monotonic_ns();
        if (next_ns_ < now) next_ns_ = now;  // stopped for a while: no burst to catch up
        timespec until{};
        until.tv_sec = static_cast<time_t>(next_ns_ / kNanosecondsPerSecond);
        until.tv_nsec = static_cast<long>(next_ns_ % kNanosecondsPerSecond);
        while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
        }
        return true;
    }

  private:
    static constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;
    std::optional<std::chrono::nanoseconds> interval_;
    std::uint64_t left_;
    std::uint64_t next_ns_;
};

using MemoryId = std::pair<dev_t, ino_t>;

std::vector<PoolReport> report_all(const Discovery &discovery,
                                   std::map<MemoryId, Snapshot> &older) {
    std::vector<PoolReport> reports;
    std::map<MemoryId, Snapshot> newer;
    for (const FoundPool &pool : discovery.pools) {
        PoolReport report;
        report.found = &pool;
        if (pool.view) {
            const MemoryId memory{pool.device, pool.inode};
            report.snapshot = take_snapshot(pool.view.get());
            const auto before = older.find(memory);
            if (before != older.end()) {
                report.rates = rates_between(before->second, *report.snapshot);
            }
            newer.emplace(memory, *report.snapshot);
        }
        reports.push_back(std::move(report));
    }
    older = std::move(newer);
    return reports;
}

int run_list(const Options &options) {
    Repeater repeater(options);
    std::map<MemoryId, Snapshot> older;
    bool first = true;
    do {
        const Discovery discovery = discover_pools();
        const std::vector<PoolReport> reports = report_all(discovery, older);
        if (options.json) {
            emit(list_json(reports, !options.interval) + "\n");
        } else {
            if (!first) emit("\n");
            if (!reports.empty()) emit(list_text(reports, options.interval.has_value()));
            if (reports.empty()) complain("no pool is running");
        }
        const std::string remark = closed_processes_remark(discovery);
        if (first && !remark.empty()) complain(remark);
        first = false;
    } while (repeater.next());
    return kExitOk;
}

int run_show(const Options &options) {
    const FoundPool pool = select_pool(discover_pools(), options.pool);
    Repeater repeater(options);
    std::optional<Snapshot> older;
    bool first = true;
    do {
        // Looked at before the snapshot, so that the last report is not older than the end.
        const bool held = still_held(pool);
        PoolReport report;
        report.found = &pool;
        report.snapshot = take_snapshot(pool.view.get());
        report.rates = rates_between(older, *report.snapshot);
        if (options.json) {
            emit(show_json(report, !options.interval) + "\n");
        } else {
            emit((first ? "" : "\n") + show_text(report, options.interval.has_value()));
        }
        if (!report.snapshot->problem.empty()) return kExitFailure;
        if (options.interval && !held) {
            complain(printable(pool_name(pool)) + " has ended");
            return kExitOk;
        }
        older = std::move(report.snapshot);
        first = false;
    } while (repeater.next());
    return kExitOk;
}

int run_tasks(const Options &options) {
    const FoundPool pool = select_pool(discover_pools(), options.pool);
    const Snapshot snapshot = take_task_snapshot(pool.view.get());
    if (options.json) {
        emit(tasks_json(snapshot) + "\n");
    } else if (!snapshot.tasks.empty()) {
        emit(tasks_text(snapshot));
    }
    if (snapshot.problem.empty()) return kExitOk;
    complain(printable(pool_name(pool)) + ": " + printable(snapshot.problem));
    return kExitFailure;
}

/// Writes new events as they come until the pool ends.
int follow_events(const Options &options, const FoundPool &pool) {
    constexpr timespec kPause{0, 100'000'000};
    std::uint64_t told = 0;
    for (bool first = true, held = true; held; first = false) {
        if (!first) ::clock_nanosleep(CLOCK_MONOTONIC, 0, &kPause, nullptr);
        held = still_held(pool);  // before the events, so that the last ones are not missed
        const std::uint64_t newest = newest_event(pool.view.get());
        if (newest <= told) continue;
        const std::vector<aiomq_event> events = read_events(pool.view.get(), told, newest);
        const std::uint64_t missed = newest - told - events.size();
        if (!first && missed > 0) {
            complain(human_count(missed) + " events were overwritten before they were read");
        }
        for (const aiomq_event &event : events) {
            emit(options.json ? event_json(event) + "\n" : event_line(event));
        }
        told = newest;
    }
    complain(printable(pool_name(pool)) + " has ended");
    return kExitOk;
}

int run_events(const Options &options) {
    const FoundPool pool = select_pool(discover_pools(), options.pool);
    if (options.follow) return follow_events(options, pool);
    const std::vector<aiomq_event> events =
        read_events(pool.view.get(), 0, newest_event(pool.view.get()));
    if (options.json) {
        emit(events_json(events) + "\n");
    } else if (!events.empty()) {
        emit(events_text(events));
    }
    return kExitOk;
}

int run_functions(const Options &options) {
    const FoundPool pool = select_pool(discover_pools(), options.pool);
    const std::vector<FunctionCounts> functions = read_functions(pool);
    if (options.json) {
        emit(functions_json(functions) + "\n");
    } else if (!functions.empty()) {
        emit(functions_text(functions));
    }
    return kExitOk;
}

int run_check(const Options &options) {
    const CheckResult result = check_pools(options);
    emit(result.line + "\n");
    return result.status;
}

int run(int argc, char **argv) {
    const Options options = parse_options(argc, argv);
    switch (options.verb) {
        case Verb::kHelp:
            emit(usage_text());
            return kExitOk;
        case Verb::kVersion:
            emit(std::string("aiomq-stat ") + aiomq_version() + "\n");
            return kExitOk;
        case Verb::kList:
            return run_list(options);
        case Verb::kShow:
            return run_show(options);
        case Verb::kTasks:
            return run_tasks(options);
        case Verb::kEvents:
            return run_events(options);
        case Verb::kFunctions:
            return run_functions(options);
        case Verb::kCheck:
            return run_check(options);
    }
    return kExitUsage;
}

int run_and_report(int argc, char **argv) {
    try {
        return run(argc, argv);
    } catch (const UsageError &error) {
        complain(printable(error.what()) + "\nTry 'aiomq-stat --help'.");
        return kExitUsage;
    } catch (const SelectError &error) {
        complain(error.what());
        return error.status();
    } catch (const std::exception &error) {
        complain(error.what());
        return kExitFailure;
    }
}

}  // namespace
}  // namespace aiomq_stat

int main(int argc, char **argv) { return aiomq_stat::run_and_report(argc, argv); }
