// Evolution: what series `s` of host `h` reads in sweep `k` when nothing is wrong with it.
//
// A pure function of (seed, host, series, sweep), so a page asked for twice is the same page twice.
// Noise is bounded, and the monitor's thresholds (monitor/checks) rest on the bounds kept here:
//   * a counter that moves grows by its own rate each sweep, give or take a fifth: 0.8 to 1.2
//   rates;
//   * a gauge stays within 1.5 % of its own level;
//   * a counter that is zero on this machine stays zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "samples.hpp"

namespace fleet {

// A counter below this base is not told apart from an idle one, and no anomaly is put on it.
inline constexpr std::int64_t kMovingBase = 2000;

struct Series {
    std::int64_t base;  // this machine's value, as a mantissa
    Kind kind;
};

class Evolution {
  public:
    Evolution(std::uint64_t seed, std::size_t host);

    [[nodiscard]] std::int64_t value(const Series &series, std::size_t index,
                                     std::int64_t sweep) const;

    // The host's own variation of the machine's value: 0.5 to 1.5 times.
    [[nodiscard]] std::int64_t level(const Series &series, std::size_t index) const;
    // How far a counter moves in a sweep on average.
    [[nodiscard]] std::int64_t rate(const Series &series, std::size_t index) const;
    // The part of value() that changes without a trend: of a counter 0 to a fifth of its rate.
    [[nodiscard]] std::int64_t noise(const Series &series, std::size_t index,
                                     std::int64_t sweep) const;

  private:
    std::uint64_t host_seed_;
};

}  // namespace fleet
