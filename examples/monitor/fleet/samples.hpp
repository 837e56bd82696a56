// Samples: what a page is made from, before it is rendered. Values are integers with a fixed number
// of decimals, because a page's digits are patched in place and never formatted by printf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fleet {

enum class Kind : std::uint8_t { kCounter, kGauge };

struct Sample {
    std::string labels;  // rendered: {device="lo"}, or empty
    std::int64_t mantissa;
    std::uint8_t decimals;
};

struct Family {
    std::string name;
    std::string help;
    Kind kind;
    std::vector<Sample> samples;
};

using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

// Collects samples family by family, in the order families first appear, up to a limit. A series
// that is already there, a negative value or one past the limit is dropped.
class SampleSet {
  public:
    explicit SampleSet(std::size_t limit) : limit_(limit) {}

    void add(std::string_view family, std::string_view help, Kind kind, const Labels &labels,
             std::int64_t mantissa, std::uint8_t decimals = 0);

    [[nodiscard]] bool full() const { return count_ >= limit_; }
    [[nodiscard]] std::size_t count() const { return count_; }
    [[nodiscard]] const std::vector<Family> &families() const { return families_; }

  private:
    std::size_t limit_;
    std::size_t count_ = 0;
    std::vector<Family> families_;
    std::map<std::string, std::size_t> index_;
    std::set<std::string> seen_;
};

// `text` with everything that a metric name may not hold turned into an underscore.
std::string metric_name(std::string_view text);

}  // namespace fleet
