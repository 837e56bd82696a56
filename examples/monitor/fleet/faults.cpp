#include "faults.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string_view>

namespace fleet {

// Seeded draws that come out the same with every standard library.
class Dice {
  public:
    explicit Dice(std::uint64_t seed) : random_(seed) {}

    // In [low, high].
    std::int64_t between(std::int64_t low, std::int64_t high) {
        const auto range = static_cast<std::uint64_t>(high - low + 1);
        return low + static_cast<std::int64_t>(random_() % range);
    }

    std::size_t below(std::size_t count) { return static_cast<std::size_t>(random_() % count); }

  private:
    std::mt19937_64 random_;
};

namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kLongestSpan = 3;
constexpr std::int64_t kSweepsToBeSilent = 2;  // what the monitor's check asks for
constexpr std::size_t kHostsPerAnomaly = 12;   // of each kind
constexpr std::size_t kHostsPerSlowOne = 10;   // in each sweep
constexpr std::int64_t kOneAsRatio = 10000;    // ratios carry four decimals
constexpr std::int64_t kDriftPerSweep = 5;     // per cent, on top of the first step

constexpr std::array<std::string_view, 7> kCheckNames = {
    "rate_spike", "counter_reset", "stuck", "drift", "silent", "limits", "not_a_number"};

bool ends_with(std::string_view name, std::string_view suffix) {
    const std::string_view family = name.substr(0, name.find('{'));
    return family.size() >= suffix.size() && family.substr(family.size() - suffix.size()) == suffix;
}

// The first sweep in which the check has the history it needs.
std::int64_t first_onset(Check check) {
    switch (check) {
        case Check::kRateSpike:
        case Check::kStuck:
        case Check::kDrift:
            return 2;
        case Check::kCounterReset:
            return 1;
        default:
            return 0;
    }
}

std::int64_t draw_strength(Dice &dice, Check check) {
    switch (check) {
        case Check::kRateSpike:
            return dice.between(12, 40);  // times the rate
        case Check::kDrift:
            return dice.between(30, 50) * (dice.below(2) == 0 ? 1 : -1);  // per cent
        case Check::kLimits:
            return dice.between(kOneAsRatio * 3 / 2, kOneAsRatio * 6);
        default:
            return 0;
    }
}

std::string json_text(std::string_view text) {
    std::string quoted = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') quoted += '\\';
        quoted += c;
    }
    return quoted + '"';
}

}  // namespace

Faults::Faults(const FleetSize &size, const Page &page)
    : size_(size), page_(page), hosts_(size.hosts), by_host_(size.hosts) {
    Dice dice(size.seed);
    plan_hosts(dice);
    plan_anomalies(dice);
    for (const Anomaly &anomaly : anomalies_) by_host_[anomaly.host].push_back(anomaly);
}

// Every host gets at most one of: silence, a single silent sweep, a single error.
void Faults::plan_hosts(Dice &dice) {
    const auto sweeps = static_cast<std::size_t>(size_.sweeps);
    for (Host &host : hosts_) host = {std::vector<Answer>(sweeps, Answer::kPage), kNever};
    std::vector<std::size_t> order(size_.hosts);
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[dice.below(i)]);
    std::size_t taken = 0;
    const auto take = [&](std::size_t one_in) {
        const std::size_t begin = taken;
        taken = std::min(taken + std::max<std::size_t>(1, size_.hosts / one_in), order.size());
        return std::vector<std::size_t>(order.begin() + static_cast<std::ptrdiff_t>(begin),
                                        order.begin() + static_cast<std::ptrdiff_t>(taken));
    };

    if (size_.sweeps >= kSweepsToBeSilent) {
        for (const std::size_t host : take(16)) {
            const std::int64_t start = dice.between(0, size_.sweeps - kSweepsToBeSilent);
            const std::int64_t length =
                dice.between(kSweepsToBeSilent,
                             std::min(size_.sweeps - start, kSweepsToBeSilent + kLongestSpan - 1));
            std::fill_n(hosts_[host].answers.begin() + start, length, Answer::kSilence);
            anomalies_.push_back({Check::kSilent, host, 0, start + kSweepsToBeSilent - 1,
                                  length - kSweepsToBeSilent + 1, 0});
        }
    }
    for (const std::size_t host : take(32)) {
        hosts_[host].answers[dice.below(sweeps)] = Answer::kSilence;
    }
    for (const std::size_t host : take(16)) {
        hosts_[host].answers[dice.below(sweeps)] = Answer::kError;
    }
    for (std::size_t i = 0; size_.sweeps > 1 && i < size_.hosts / 20 + 1; ++i) {
        hosts_[dice.below(size_.hosts)].renamed_from = dice.between(1, size_.sweeps - 1);
    }
}

void Faults::plan_anomalies(Dice &dice) {
    for (const Check check : {Check::kRateSpike, Check::kCounterReset, Check::kStuck, Check::kDrift,
                              Check::kLimits, Check::kNotANumber}) {
        if (first_onset(check) >= size_.sweeps) continue;
        const std::vector<std::size_t> fit = candidates(check);
        if (fit.empty()) continue;
        const std::size_t wanted = std::max<std::size_t>(1, size_.hosts / kHostsPerAnomaly);
        for (std::size_t done = 0, tries = 0; done < wanted && tries < 100 * wanted; ++tries) {
            if (plan_one(dice, check, fit)) ++done;
        }
    }
}

bool Faults::plan_one(Dice &dice, Check check, const std::vector<std::size_t> &candidates) {
    Anomaly anomaly{check, dice.below(size_.hosts), candidates[dice.below(candidates.size())], 0, 1,
                    0};
    anomaly.onset = dice.between(first_onset(check), size_.sweeps - 1);
    if (check != Check::kCounterReset) {  // which is over as soon as it has happened
        anomaly.span = dice.between(1, std::min(kLongestSpan, size_.sweeps - anomaly.onset));
    }
    anomaly.strength = draw_strength(dice, check);
    if (!free_to_carry(anomaly)) return false;
    anomalies_.push_back(anomaly);
    return true;
}

// One anomaly at most on each series, and the host answers from the first sweep to the one after
// the anomaly: then what a monitor should see of it does not depend on other faults.
bool Faults::free_to_carry(const Anomaly &anomaly) const {
    for (std::int64_t sweep = 0; sweep <= anomaly.onset + anomaly.span; ++sweep) {
        if (answer(anomaly.host, sweep) != Answer::kPage) return false;
    }
    return std::none_of(anomalies_.begin(), anomalies_.end(), [&](const Anomaly &other) {
        return other.check != Check::kSilent && other.host == anomaly.host &&
               other.series == anomaly.series;
    });
}

std::vector<std::size_t> Faults::candidates(Check check) const {
    std::vector<std::size_t> fit;
    for (std::size_t i = 0; i < page_.series().size(); ++i) {
        const Series &series = page_.series()[i];
        const bool counter = series.kind == Kind::kCounter;
        const bool ratio = !counter && ends_with(page_.name(i), "_ratio");
        const bool bytes = !counter && ends_with(page_.name(i), "_bytes");
        bool good = !page_.renamed(i) && (ratio || series.base >= kMovingBase);
        if (check == Check::kLimits) {
            good = good && (ratio || bytes);
        } else if (check == Check::kDrift) {
            good = good && !counter && !ratio;
        } else if (check != Check::kNotANumber) {
            good = good && counter;
        }
        if (good) fit.push_back(i);
    }
    return fit;
}

Answer Faults::answer(std::size_t host, std::int64_t sweep) const {
    return sweep < size_.sweeps ? hosts_[host].answers[static_cast<std::size_t>(sweep)]
                                : Answer::kPage;
}

int Faults::delay_ms(std::size_t host, std::int64_t sweep) const {
    Dice dice(size_.seed + host * 1'000'003 + static_cast<std::uint64_t>(sweep));
    if (dice.below(kHostsPerSlowOne) != 0) return 0;
    // From 5 to 200 ms with a long tail: half are below 8 ms, one in fifteen is above 100.
    constexpr double kShortest = 5.0;
    constexpr double kRatio = 40.0;
    const double part = static_cast<double>(dice.between(0, 1000)) / 1000.0;
    return static_cast<int>(kShortest * std::pow(kRatio, part * part * part));
}

bool Faults::renamed(std::size_t host, std::int64_t sweep) const {
    return sweep >= hosts_[host].renamed_from;
}

std::int64_t Faults::value(const Anomaly &anomaly, std::int64_t sweep) const {
    const Evolution evolution(size_.seed, anomaly.host);
    const std::size_t index = anomaly.series;
    const Series &series = page_.series()[index];
    const std::int64_t normal = evolution.value(series, index, sweep);
    const std::int64_t since = sweep - anomaly.onset;
    const bool now = since >= 0 && since < anomaly.span;
    switch (anomaly.check) {
        case Check::kRateSpike: {
            const std::int64_t spikes = std::clamp<std::int64_t>(since + 1, 0, anomaly.span);
            return normal + spikes * (anomaly.strength - 1) * evolution.rate(series, index);
        }
        case Check::kCounterReset:
            if (since < 0) return normal;
            return normal - evolution.value(series, index, anomaly.onset) +
                   evolution.noise(series, index, anomaly.onset);
        case Check::kStuck:
            if (since < 0) return normal;
            // Time stands still, then goes on from there: no jump afterwards.
            return evolution.value(series, index, now ? anomaly.onset - 1 : sweep - anomaly.span);
        case Check::kDrift: {
            if (!now) return normal;
            const std::int64_t step = kDriftPerSweep * since;
            const std::int64_t percent = anomaly.strength + (anomaly.strength > 0 ? step : -step);
            return normal + evolution.level(series, index) * percent / 100;
        }
        case Check::kLimits:
            if (!now) return normal;
            return ends_with(page_.name(index), "_ratio") ? anomaly.strength : -normal;
        default:
            return normal;
    }
}

void Faults::apply(char *out, std::size_t host, std::int64_t sweep) const {
    for (const Anomaly &anomaly : by_host_[host]) {
        if (anomaly.check == Check::kSilent) continue;
        const std::int64_t since = sweep - anomaly.onset;
        if (anomaly.check != Check::kNotANumber) {
            page_.put(out, anomaly.series, value(anomaly, sweep));
        } else if (since >= 0 && since < anomaly.span) {
            page_.put_nan(out, anomaly.series);
        }
    }
}

std::string Faults::truth_json() const {
    std::string json = "[";
    for (const Anomaly &anomaly : anomalies_) {
        if (json.size() > 1) json += ",\n ";
        const bool whole_host = anomaly.check == Check::kSilent;
        const std::string_view series = whole_host ? "" : page_.name(anomaly.series);
        json += R"({"check": ")";
        json += kCheckNames[static_cast<std::size_t>(anomaly.check)];
        json += R"(", "host": )" + std::to_string(anomaly.host);
        json += R"(, "series": )" + json_text(series);
        json += R"(, "onset": )" + std::to_string(anomaly.onset);
        json += R"(, "last": )" + std::to_string(anomaly.onset + anomaly.span - 1) + '}';
    }
    return json + "]\n";
}

}  // namespace fleet
