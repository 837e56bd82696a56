// Beats: how many empty tasks a pool runs per second, against a pool that nothing was done to.
//
// A shared machine is fast in one second and slow in the next. So windows of both pools alternate, and
// what counts is the median of the ratios of neighbours.
#pragma once

#include "mixed_pool.hpp"

namespace chaos {

struct Beats {
    double per_second;  ///< of the pool, median
    double ratio;       ///< to the reference pool
};

/// Empty tasks through @pool in a window of @milliseconds, per second. Nothing else may be under way.
double beats_of(MixedPool &pool, std::uint64_t milliseconds);
/// One empty task, from submit to its completion. Nothing else may be under way.
double round_trip_us(MixedPool &pool);
Beats compare(MixedPool &pool, MixedPool &reference, int windows, std::uint64_t milliseconds);

}  // namespace chaos
