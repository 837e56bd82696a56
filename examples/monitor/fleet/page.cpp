#include "page.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace fleet {
namespace {

constexpr std::size_t kFieldWidth = 16;  // fifteen digits, and a sign or a decimal point
constexpr char kRenamedEnd = 'x';

constexpr auto kDigitPairs = [] {
    std::array<char, 200> pairs{};
    for (std::size_t i = 0; i < 100; ++i) {
        pairs[2 * i] = static_cast<char>('0' + i / 10);
        pairs[2 * i + 1] = static_cast<char>('0' + i % 10);
    }
    return pairs;
}();

// Writes digits backwards from `end`, at least `least` of them; returns where the first one stands.
char *write_digits(char *end, std::uint64_t number, std::size_t least) {
    char *const widest = end - least;
    while (number >= 100) {
        end -= 2;
        std::memcpy(end, &kDigitPairs[2 * (number % 100)], 2);
        number /= 100;
    }
    if (number >= 10) {
        end -= 2;
        std::memcpy(end, &kDigitPairs[2 * number], 2);
    } else if (number > 0) {
        *--end = static_cast<char>('0' + number);
    }
    while (end > widest) *--end = '0';
    return end;
}

void write_number(char *field, std::int64_t mantissa, std::uint8_t decimals) {
    constexpr std::array<std::uint64_t, 7> kPowers = {1, 10, 100, 1000, 10000, 100000, 1000000};
    const auto size = static_cast<std::uint64_t>(mantissa < 0 ? -mantissa : mantissa);
    char *at = field + kFieldWidth;
    if (decimals > 0) {
        at = write_digits(at, size % kPowers[decimals], decimals);
        *--at = '.';
    }
    at = write_digits(at, size / kPowers[decimals], 1);
    if (mantissa < 0) *--at = '-';
    std::memset(field, ' ', static_cast<std::size_t>(at - field));
}

}  // namespace

Page::Page(const SampleSet &set) {
    for (const Family &family : set.families()) {
        const char *type = family.kind == Kind::kCounter ? "counter" : "gauge";
        text_ += "# HELP " + family.name + ' ' + family.help + "\n# TYPE " + family.name + ' ' +
                 type + '\n';
        for (const Sample &sample : family.samples) {
            name_at_.push_back(text_.size());
            text_ += family.name + sample.labels + ' ';
            field_at_.push_back(text_.size());
            text_.append(kFieldWidth, ' ') += '\n';
            series_.push_back({sample.mantissa, family.kind});
            decimals_.push_back(sample.decimals);
        }
    }
    find_renames();
}

std::string_view Page::name(std::size_t index) const {
    const std::size_t length = field_at_[index] - 1 - name_at_[index];
    return std::string_view(text_).substr(name_at_[index], length);
}

// The last disk in use is the one that hosts may replace.
void Page::find_renames() {
    constexpr std::string_view kDisk = "node_disk_";
    constexpr std::string_view kLabel = "{device=\"";
    rename_at_.assign(series_.size(), kNoRename);
    std::string_view device;
    for (std::size_t i = 0; i < series_.size(); ++i) {
        const std::size_t label = name(i).find(kLabel);
        if (name(i).substr(0, kDisk.size()) != kDisk || label == std::string_view::npos) continue;
        if (series_[i].base >= kMovingBase) device = name(i).substr(label);
    }
    if (device.empty()) return;
    for (std::size_t i = 0; i < series_.size(); ++i) {
        const std::size_t label = name(i).find(device);
        if (label == std::string_view::npos) continue;
        constexpr std::size_t kAfterLastLetter = 2;  // the closing quote and brace
        rename_at_[i] = name_at_[i] + label + device.size() - kAfterLastLetter - 1;
    }
}

void Page::render(char *out, const Evolution &evolution, std::int64_t sweep,
                  bool with_rename) const {
    std::memcpy(out, text_.data(), text_.size());
    for (std::size_t i = 0; i < series_.size(); ++i) {
        put(out, i, evolution.value(series_[i], i, sweep));
    }
    if (!with_rename) return;
    for (const std::size_t at : rename_at_) {
        if (at != kNoRename) out[at] = kRenamedEnd;
    }
}

void Page::put(char *out, std::size_t index, std::int64_t mantissa) const {
    write_number(out + field_at_[index], mantissa, decimals_[index]);
}

void Page::put_nan(char *out, std::size_t index) const {
    constexpr std::string_view kNan = "NaN";
    char *const field = out + field_at_[index];
    std::memset(field, ' ', kFieldWidth - kNan.size());
    std::memcpy(field + kFieldWidth - kNan.size(), kNan.data(), kNan.size());
}

}  // namespace fleet
