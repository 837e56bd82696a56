// Stopwatch: the slice of time of one run of the item loop, and what it counts of its items' time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "functions.hpp"

namespace aiomq::py {

/// Looks at the clock after every item while items are slow, after every 16th while they are fast.
/// What a look finds to have ended since the last one has taken the mean of the time in between.
class Stopwatch {
  public:
    /// @last_ns: gets the time of each look.
    Stopwatch(const FunctionTable &table, std::uint32_t function, std::uint64_t end_ns,
              std::uint64_t &last_ns)
        : table_(table), function_(function), end_ns_(end_ns), last_ns_(last_ns) {
        last_ns_ = monotonic_ns();
    }
    ~Stopwatch() {
        if (table_ && ended_ != 0) {
            look();
        }
    }
    Stopwatch(const Stopwatch &) = delete;
    Stopwatch &operator=(const Stopwatch &) = delete;

    /// Before an item: whether the time is over.
    bool passed() {
        if (--left_ != 0) {
            return false;
        }
        const std::uint64_t before = last_ns_;
        look();
        const bool fast = stride_ != 0 && last_ns_ - before < kFastNs;
        stride_ = fast ? std::min(stride_ * 2, kMostItems) : 1;
        left_ = stride_;
        return last_ns_ >= end_ns_;
    }
    /// Whether passed() will look at the clock before the next item.
    bool is_due() const { return left_ == 1; }
    /// An item has ended in its first step.
    void ended() { ++ended_; }

  private:
    static constexpr std::uint64_t kFastNs = 100'000;
    static constexpr unsigned kMostItems = 16;

    void look() {
        const std::uint64_t now = monotonic_ns();
        if (table_ && ended_ != 0) {
            table_.add(function_, FunctionTable::kCalls, ended_);
            table_.add_times(function_, FunctionTable::kSecond, FunctionTable::kSecondNs,
                             now - last_ns_, ended_);
        }
        ended_ = 0;
        last_ns_ = now;
    }

    const FunctionTable &table_;
    std::uint32_t function_;
    std::uint64_t end_ns_;
    std::uint64_t &last_ns_;
    std::uint32_t ended_ = 0;
    unsigned stride_ = 0;  // no item yet
    unsigned left_ = 1;
};

}  // namespace aiomq::py
