// Faults: the seeded list of what is wrong in the fleet, and when. The list is the truth that a
// monitor's database is compared with, so everything on it can be told from noise (evolution.hpp),
// and everything else that happens (slow answers, single failures, replaced disks) must raise
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "evolution.hpp"
#include "page.hpp"

namespace fleet {

// Named as the monitor's checks. The first five cannot be seen in a single page.
enum class Check : std::uint8_t {
    kRateSpike,
    kCounterReset,
    kStuck,
    kDrift,
    kSilent,
    kLimits,
    kNotANumber,
};

struct Anomaly {
    Check check;
    std::size_t host;
    std::size_t series;     // of the page; meaningless for kSilent
    std::int64_t onset;     // the first sweep in which a monitor can know
    std::int64_t span;      // for how many sweeps it is there to be seen
    std::int64_t strength;  // a factor, a percentage or a share, by check
};

enum class Answer : std::uint8_t { kPage, kError, kSilence };

class Dice;

struct FleetSize {
    std::uint64_t seed;
    std::size_t hosts;
    std::int64_t sweeps;
};

class Faults {
  public:
    // `page` must outlive this object.
    Faults(const FleetSize &size, const Page &page);

    [[nodiscard]] Answer answer(std::size_t host, std::int64_t sweep) const;
    [[nodiscard]] int delay_ms(std::size_t host, std::int64_t sweep) const;
    [[nodiscard]] bool renamed(std::size_t host, std::int64_t sweep) const;

    // Puts the host's anomalies into a page that was rendered for (host, sweep).
    void apply(char *out, std::size_t host, std::int64_t sweep) const;

    // [{"check", "host", "series", "onset", "last"}, ...]: onset and last sweep of each anomaly.
    [[nodiscard]] std::string truth_json() const;

  private:
    struct Host {
        std::vector<Answer> answers;  // by sweep
        std::int64_t renamed_from;
    };

    void plan_hosts(Dice &dice);
    void plan_anomalies(Dice &dice);
    bool plan_one(Dice &dice, Check check, const std::vector<std::size_t> &candidates);
    [[nodiscard]] std::vector<std::size_t> candidates(Check check) const;
    [[nodiscard]] bool free_to_carry(const Anomaly &anomaly) const;
    [[nodiscard]] std::int64_t value(const Anomaly &anomaly, std::int64_t sweep) const;

    FleetSize size_;
    const Page &page_;
    std::vector<Host> hosts_;
    std::vector<Anomaly> anomalies_;
    std::vector<std::vector<Anomaly>> by_host_;
};

}  // namespace fleet
