// Audit: compares, as it goes, what was asked for, what the ledger says was run, and what came back.
//
// One thread, the dispatcher's. Completions must be shown after the ledger was read: then everything that
// led to them is known, and an entry that comes later belongs to a run that should not have been.
#pragma once

#include <aiomq/aiomq.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ledger.hpp"
#include "order.hpp"

namespace chaos {

/// One execution. Rings are read one after the other, so its notes come before or after those of others.
struct RunState {
    std::uint64_t number;
    std::uint64_t begin_ns = 0;
    std::uint64_t end_ns = 0;  ///< 0: it did not come so far
    bool ended = false;        ///< with a result
};

struct ItemState {
    std::vector<RunState> runs{};
    bool done = false;
    bool stopped = false;
    bool ended() const {
        return std::any_of(runs.begin(), runs.end(), [](const auto &run) { return run.ended; });
    }
};

/// A task that was submitted and has items without an outcome.
struct Live {
    std::uint64_t task_id = 0;
    std::uint32_t items = 1;
    std::uint32_t retries = 0;
    bool may_expire = false;
    bool may_time_out = false;
    bool cancelled = false;
    Order order{};  ///< also of a task whose payload has none
    std::vector<ItemState> states{};
    std::uint32_t left = 1;
};

/// What was found; everything from `lost` on must be 0.
struct Findings {
    std::uint64_t tasks = 0;
    std::uint64_t items = 0;
    std::uint64_t executions = 0;
    std::uint64_t nested = 0;
    std::uint64_t reruns = 0;  ///< that were asked for
    std::uint64_t payload_bytes = 0;
    std::map<int, std::uint64_t> outcomes{};
    std::uint64_t lost = 0;
    std::uint64_t twice = 0;           ///< run twice, or after its outcome, unasked
    std::uint64_t told_twice = 0;      ///< more than one outcome
    std::uint64_t wrong_results = 0;   ///< or payloads
    std::uint64_t wrong_outcomes = 0;  ///< such as CANCELLED when nobody cancelled
    std::uint64_t wrong_deaths = 0;    ///< of workers that nobody killed
    std::uint64_t violations() const {
        return lost + twice + told_twice + wrong_results + wrong_outcomes + wrong_deaths;
    }
};

class Audit {
  public:
    explicit Audit(Ledger &ledger) : ledger_(ledger) {}

    /// Keys of tasks count from 1.
    std::uint64_t next_key() { return ++last_key_; }
    void submitted(const Live &live);
    Live *find(std::uint64_t key);
    std::size_t live() const { return live_.size(); }
    /// Some live task, by a random number; null when there is none.
    Live *any(std::uint64_t random);

    /// Reads what workers have noted.
    void read_ledger();
    /// Read the ledger first.
    void take(const aiomq_completion &completion);
    /// Looks at a result once more, when its loan ends. Read nothing, say what is wrong.
    void look_again(std::uint64_t key, const Order &order, const aiomq_item &item);
    void event(const aiomq_event &event);
    /// A process that is about to be killed.
    void killed(std::int32_t pid) { killed_.insert(pid); }
    /// Forgets the deaths that are explained by now: over hours their texts would be most of the memory.
    void forget_explained();
    /// Everything that should come has come: what is live is lost.
    void finish();

    const Findings &findings() const { return findings_; }

  private:
    void take_entry(const Entry &entry);
    void take_nested(const Entry &entry);
    void begin(Live &live, const Entry &entry);
    void check_runs(const Live &live, const ItemState &state, std::uint32_t item);
    void take_item(Live &live, const aiomq_completion &completion, const aiomq_item &item);
    bool outcome_fits(const Live &live, const ItemState &state, const aiomq_completion &completion,
                      const aiomq_item &item, std::string &why);
    bool death_fits(const Live &live, const ItemState &state, const aiomq_completion &completion,
                    const aiomq_item &item, std::string &why);
    bool result_fits(const Order &order, const ItemState *state, const aiomq_item &item) const;
    void complain(std::uint64_t &count, const std::string &what);

    struct Death {
        std::int32_t pid;
        std::string text;
    };

    Ledger &ledger_;
    std::uint64_t last_key_ = 0;
    std::unordered_map<std::uint64_t, Live> live_;
    std::unordered_map<std::uint64_t, std::uint64_t> key_of_id_;
    /// Keys of nested tasks are random numbers: each stands at its own modulo the size until another
    /// comes there. All of its memory is taken at the start: a soak shall see that of the pool.
    std::vector<std::uint64_t> nested_ = std::vector<std::uint64_t>(65536);
    std::unordered_set<std::int32_t> killed_;
    std::vector<Death> deaths_;  ///< to be explained at the end
    Findings findings_;
    unsigned complaints_ = 0;
};

}  // namespace chaos
