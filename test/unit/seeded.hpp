// Randomness that a failure can be repeated with, and how long a test may take.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace aiomq_test {

/// Chosen once per run, or taken from AIOMQ_SEED; printed so that a failure can be run again.
inline unsigned seed() {
    static const unsigned value = [] {
        const char *given = std::getenv("AIOMQ_SEED");
        const unsigned chosen = given != nullptr
                                    ? static_cast<unsigned>(std::strtoul(given, nullptr, 10))
                                    : std::random_device{}();
        std::printf("AIOMQ_SEED=%u\n", chosen);
        std::fflush(stdout);
        return chosen;
    }();
    return value;
}

/// Numbers that follow from the seed alone.
class Random {
  public:
    Random() : engine_(seed()) {}
    explicit Random(unsigned stream) : engine_(seed() + stream) {}
    std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }
    bool one_in(std::uint64_t chances) { return below(chances) == 0; }

  private:
    std::mt19937_64 engine_;
};

inline bool stress() { return std::getenv("AIOMQ_STRESS") != nullptr; }
/// Whether to leave out nothing of what can be counted: `./dev test --full`, and what is long anyway.
inline bool full() { return stress() || std::getenv("AIOMQ_FULL") != nullptr; }
/// How often to do something: @few by default, @many when AIOMQ_STRESS is set.
inline std::uint64_t rounds(std::uint64_t few, std::uint64_t many) { return stress() ? many : few; }

}  // namespace aiomq_test
