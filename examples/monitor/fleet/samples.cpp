#include "samples.hpp"

#include <algorithm>
#include <cctype>

namespace fleet {
namespace {

// Fifteen digits and a sign fit every field of a page; room is left for growth over many sweeps.
constexpr std::int64_t kLargestMantissa = 100'000'000'000'000;

std::string render_labels(const Labels &labels) {
    if (labels.empty()) return {};
    std::string text = "{";
    for (const auto &[name, value] : labels) {
        if (text.size() > 1) text += ',';
        text.append(name).append("=\"");
        for (const char c : value) {
            if (c == '\n') {
                text += "\\n";
                continue;
            }
            if (c == '\\' || c == '"') text += '\\';
            text += c;
        }
        text += '"';
    }
    return text + '}';
}

}  // namespace

void SampleSet::add(std::string_view family, std::string_view help, Kind kind, const Labels &labels,
                    std::int64_t mantissa, std::uint8_t decimals) {
    if (full() || mantissa < 0) return;
    const std::string name = std::string(family) + (kind == Kind::kCounter ? "_total" : "");
    std::string rendered = render_labels(labels);
    if (!seen_.insert(name + rendered).second) return;
    const auto [place, is_new] = index_.try_emplace(name, families_.size());
    if (is_new) families_.push_back({name, std::string(help), kind, {}});
    families_[place->second].samples.push_back(
        {std::move(rendered), std::min(mantissa, kLargestMantissa), decimals});
    ++count_;
}

std::string metric_name(std::string_view text) {
    std::string name;
    for (const char c : text) {
        const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0;
        if (plain) {
            name += c;
        } else if (!name.empty() && name.back() != '_') {
            name += '_';
        }
    }
    while (!name.empty() && name.back() == '_') name.pop_back();
    return name;
}

}  // namespace fleet
