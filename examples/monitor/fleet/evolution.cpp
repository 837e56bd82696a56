#include "evolution.hpp"

#include <algorithm>

namespace fleet {
namespace {

constexpr std::int64_t kSmallestRate = 20;  // a fifth of it is still several whole units of noise
constexpr std::int64_t kSweepsInBase = 1024;
constexpr std::int64_t kRateNoiseParts = 5;
constexpr std::int64_t kGaugeNoisePerMille = 15;
constexpr unsigned kFractionBits = 16;

// The finalizer of splitmix64.
constexpr std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

// A pseudo-random share of `range`, in [0, range).
constexpr std::int64_t share(std::int64_t range, std::uint64_t random) {
    const auto fraction = static_cast<std::int64_t>(random >> (64 - kFractionBits));
    return (range * fraction) >> kFractionBits;
}

}  // namespace

Evolution::Evolution(std::uint64_t seed, std::size_t host)
    : host_seed_(mix(mix(seed + 1) + host)) {}

std::int64_t Evolution::level(const Series &series, std::size_t index) const {
    return series.base / 2 + share(series.base, mix(host_seed_ + index));
}

std::int64_t Evolution::rate(const Series &series, std::size_t index) const {
    if (series.kind != Kind::kCounter || series.base == 0) return 0;
    return std::max(kSmallestRate, level(series, index) / kSweepsInBase);
}

std::int64_t Evolution::noise(const Series &series, std::size_t index, std::int64_t sweep) const {
    const std::uint64_t random =
        mix(mix(host_seed_ + index) + static_cast<std::uint64_t>(sweep) + 1);
    if (series.kind == Kind::kCounter) {
        return share(rate(series, index) / kRateNoiseParts, random);
    }
    const std::int64_t bound = level(series, index) * kGaugeNoisePerMille / 1000;
    return share(2 * bound + 1, random) - bound;
}

std::int64_t Evolution::value(const Series &series, std::size_t index, std::int64_t sweep) const {
    if (series.base == 0) return 0;
    return level(series, index) + rate(series, index) * sweep + noise(series, index, sweep);
}

}  // namespace fleet
