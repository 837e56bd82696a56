// Beats: how many empty items a pool runs per second, against a pool that nothing was done to.
//
// A shared machine is fast in one second and slow in the next. So windows of both pools alternate, and
// what counts is the median of the ratios of neighbours. The pool is kept full with tasks of many items:
// with more workers than CPUs the rate of single small tasks is that of the scheduler's choices (measured
// here over windows of 50 ms: the logarithm of the ratio of two equal pools has a standard deviation of
// 1.2 with 64 tasks of one item under way, and of 0.35 with 112 tasks of 64).
#pragma once

#include "mixed_pool.hpp"

namespace chaos {

struct Beats {
    double per_second;  ///< items of the pool, median
    double ratio;       ///< to the reference pool
};

/// Empty items through @pool in a window of @milliseconds, per second. Nothing else may be under way.
double beats_of(MixedPool &pool, std::uint64_t milliseconds);
/// One empty task, from submit to its completion. Nothing else may be under way.
double round_trip_us(MixedPool &pool);
Beats compare(MixedPool &pool, MixedPool &reference, int windows, std::uint64_t milliseconds);

}  // namespace chaos
