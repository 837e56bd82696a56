// functions.hpp - what the Python processes of a pool count of each function.
//
// They keep it on a board, a memfd of its own, which the dispatcher holds; its layout is described in
// aiomq/_board.py. It is read, not mapped: nothing seals its size.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "discovery.hpp"

namespace aiomq_stat {

inline constexpr std::size_t kTimeBuckets = 40;

/// Bucket k counts times of k bits, in nanoseconds.
struct Times {
    std::uint64_t total_ns = 0;
    std::array<std::uint64_t, kTimeBuckets> counts{};

    [[nodiscard]] std::uint64_t count() const;
    /// That @share of the times did not exceed, to the end of its bucket; 0 if there are none.
    [[nodiscard]] std::uint64_t quantile_ns(double share) const;
};

struct FunctionCounts {
    std::string name;  // "" for what functions beyond the table have in common
    std::uint64_t tasks = 0;
    std::uint64_t calls = 0;
    std::uint64_t errors = 0;
    std::uint64_t bytes_in = 0;
    std::uint64_t bytes_out = 0;
    Times encode;
    Times wait;
    Times run;
    Times decode;
};

/// Those that were called, in the order of their first calls. Throws std::runtime_error, with the reason,
/// when there is no board, or none that this build can read.
std::vector<FunctionCounts> read_functions(const FoundPool &pool);

std::string functions_text(const std::vector<FunctionCounts> &functions);
/// One JSON value, without a newline at the end.
std::string functions_json(const std::vector<FunctionCounts> &functions);

}  // namespace aiomq_stat
