// FunctionTable: what one process counts of each function of a pool. The layout is that of
// aiomq/_board.py, which says what the numbers are.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <ctime>

#include "aiomq/aiomq.h"
#include "parameters.hpp"

namespace aiomq::py {

inline std::uint64_t monotonic_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

class FunctionTable {
  public:
    static constexpr std::uint32_t kRows = 256;
    static constexpr std::uint32_t kBuckets = 40;
    /// Cells of a row.
    enum Cell : std::uint32_t {
        kCalls = 0,
        kErrors = 1,
        kBytesIn = 1,
        kBytesOut = 2,
        kFirstNs = 3,
        kSecondNs = 4,
        kBusyNs = 5,
        kFirst = 8,  // histograms
        kSecond = kFirst + kBuckets,
        kRowCells = kSecond + kBuckets
    };

    FunctionTable() = default;
    /// @table: 8-byte aligned, ours to write; null: nothing is counted.
    explicit FunctionTable(void *table) : cells_(static_cast<std::uint64_t *>(table)) {}

    explicit operator bool() const { return cells_ != nullptr; }

    void add(std::uint32_t function, std::uint32_t cell, std::uint64_t value) const {
        const std::uint32_t row = std::min(function, kRows - 1);
        // One writer; whoever reads may do so at any time, and must find whole words.
        volatile std::uint64_t &sum = cells_[row * kRowCells + cell];
        sum = sum + value;
    }
    /// @count times that took @ns together: their mean counts for each.
    void add_times(std::uint32_t function, Cell histogram, Cell total, std::uint64_t ns,
                   std::uint32_t count) const {
        const auto bits = static_cast<std::uint32_t>(std::bit_width(ns / count));
        add(function, histogram + std::min(bits, kBuckets - 1), count);
        add(function, total, ns);
    }

    /// A task of the dispatcher's.
    void add_encoded(std::uint32_t function, std::uint64_t bytes, std::uint64_t ns) const {
        add(function, kCalls, 1);
        add(function, kBytesIn, bytes);
        add_times(function, kFirst, kFirstNs, ns, 1);
    }

  private:
    std::uint64_t *cells_ = nullptr;
};

/// The dispatcher's table of a pool.
FunctionTable table_of(const aiomq_pool *pool);
/// set_table(pool, address): 0 as the address takes it away.
PyObject *set_table(const RawCall &call);

/// count_encoded(pool, function, nbytes, nanoseconds)
PyObject *count_encoded(const RawCall &call);

/// The function of a task, which its `user` tells; see Submitter.user_of().
constexpr std::uint32_t function_of(std::uint64_t user) {
    return static_cast<std::uint32_t>(user >> 48);
}

}  // namespace aiomq::py
