// Page: one host's answer in the Prometheus text format 0.0.4, rendered once with a field of fixed
// width for each value. Serving a host copies the text and patches digits: tens of microseconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "evolution.hpp"
#include "samples.hpp"

namespace fleet {

class Page {
  public:
    explicit Page(const SampleSet &set);

    [[nodiscard]] std::size_t size() const { return text_.size(); }
    [[nodiscard]] const std::vector<Series> &series() const { return series_; }
    // name{labels}, as it stands in the text before any rename.
    [[nodiscard]] std::string_view name(std::size_t index) const;
    // Whether a rename would change this series' labels.
    [[nodiscard]] bool renamed(std::size_t index) const { return rename_at_[index] != kNoRename; }

    // Writes size() bytes: the host's page in `sweep` with nothing wrong. `with_rename` turns one
    // device into another, the way a replaced disk does: same page, other labels.
    void render(char *out, const Evolution &evolution, std::int64_t sweep, bool with_rename) const;

    // Overwrites one value of a page that render() wrote.
    void put(char *out, std::size_t index, std::int64_t mantissa) const;
    void put_nan(char *out, std::size_t index) const;

  private:
    static constexpr std::size_t kNoRename = 0;  // no label stands at the start of a page

    void find_renames();

    std::string text_;
    std::vector<Series> series_;
    std::vector<std::uint8_t> decimals_;
    std::vector<std::size_t> name_at_;
    std::vector<std::size_t> field_at_;
    std::vector<std::size_t> rename_at_;
};

}  // namespace fleet
