// Load: random tasks of every kind for a mixed pool, submitted, cancelled, collected and kept on loan.
//
// What is chosen follows from the seed; when it happens does not.
#pragma once

#include <deque>
#include <random>
#include <string>

#include "audit.hpp"
#include "mixed_pool.hpp"

namespace chaos {

/// Which kinds of tasks there are.
enum class Temper {
    kWild,   ///< also those that fail, time out, block their loop, or kill their worker
    kSteady  ///< what has about the same cost whenever it is run: for the soak
};

class Load {
  public:
    Load(MixedPool &pool, Audit &audit, std::uint64_t seed, Temper temper);

    /// One turn: submits up to what is wanted now, cancels some, collects, gives loans back.
    void turn();
    /// Collects without submitting until every task has ended; false after @seconds of no progress.
    bool drain(double seconds);
    /// Whatever the pool had no room for.
    std::uint64_t refused() const { return refused_; }

  private:
    struct Draft {
        Live live{};
        aiomq_task task{};
        std::string payload{};
    };
    /// A result that is looked at again when its loan ends.
    struct Held {
        std::uint64_t loan;
        std::uint64_t due_ns;
        std::uint64_t key;
        Order order;
        std::vector<aiomq_item> items;
    };

    std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
    bool one_in(std::uint64_t chances) { return below(chances) == 0; }
    std::uint64_t some_bytes();
    Draft draft();
    void draft_native(Draft &draft);
    void draft_python(Draft &draft);
    void draft_cells(Draft &draft);
    void choose_deed(Draft &draft);
    void choose_limits(Draft &draft);
    bool submit(Draft &draft);
    void cancel_some();
    void choose_pace();
    bool collect();
    void hold(const aiomq_completion &completion, const Order &order);
    void release_due(std::uint64_t now_ns);

    MixedPool &pool_;
    Audit &audit_;
    Temper temper_;
    std::mt19937_64 random_;
    std::deque<Held> held_;
    std::size_t wanted_ = 0;  ///< tasks under way
    std::uint64_t pace_until_ns_ = 0;
    std::uint64_t refused_ = 0;
};

}  // namespace chaos
