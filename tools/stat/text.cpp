#include "text.hpp"

#include <time.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

namespace aiomq_stat {
namespace {

constexpr std::uint64_t kMicrosecond = 1'000;
constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kMinute = 60 * kSecond;
constexpr std::uint64_t kHour = 60 * kMinute;
constexpr std::uint64_t kDay = 24 * kHour;

template <typename... Arguments>
std::string print(const char *format, Arguments... arguments) {
    std::array<char, 128> buffer{};
    std::snprintf(buffer.data(), buffer.size(), format, arguments...);
    return buffer.data();
}

std::string two_units(std::uint64_t value, std::uint64_t large, const char *large_name,
                      std::uint64_t small, const char *small_name) {
    std::string text = std::to_string(value / large) + large_name;
    if (const std::uint64_t rest = value % large / small; rest > 0) {
        text += " " + std::to_string(rest) + small_name;
    }
    return text;
}

/// Columns that a string takes, counting one for each code point.
std::size_t columns(std::string_view text) {
    return static_cast<std::size_t>(std::ranges::count_if(
        text, [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U; }));
}

}  // namespace

std::string human_count(std::uint64_t count) {
    std::string digits = std::to_string(count);
    for (std::size_t i = digits.size(); i > 3;) {
        i -= 3;
        digits.insert(i, 1, ',');
    }
    return digits;
}

std::string human_bytes(std::uint64_t bytes) {
    constexpr std::array<const char *, 7> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) return std::to_string(bytes) + " B";
    double value = static_cast<double>(bytes);
    std::size_t unit = 0;
    // 1023.95 would print as "1024.0": that is one of the next unit.
    while (value >= 1023.95 && unit + 1 < kUnits.size()) {
        value /= 1024;
        ++unit;
    }
    return print("%.1f %s", value, kUnits[unit]);
}

std::string human_duration(std::uint64_t nanoseconds) {
    if (nanoseconds == 0) return "0 s";
    if (nanoseconds < kMicrosecond) return std::to_string(nanoseconds) + " ns";
    if (nanoseconds < kMillisecond) return std::to_string(nanoseconds / kMicrosecond) + " us";
    if (nanoseconds < kSecond) return std::to_string(nanoseconds / kMillisecond) + " ms";
    if (nanoseconds < kMinute) {
        const std::uint64_t tenths = nanoseconds / (kSecond / 10);
        return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
    }
    if (nanoseconds < kHour) return two_units(nanoseconds, kMinute, " m", kSecond, " s");
    if (nanoseconds < kDay) return two_units(nanoseconds, kHour, " h", kMinute, " m");
    return two_units(nanoseconds, kDay, " d", kHour, " h");
}

std::string human_rate(double per_second) {
    if (per_second < 99.95) return print("%.1f/s", per_second);
    return human_count(static_cast<std::uint64_t>(std::llround(per_second))) + "/s";
}

std::string human_time(std::uint64_t realtime_ns) {
    const auto seconds = static_cast<time_t>(realtime_ns / kSecond);
    const auto milliseconds = static_cast<unsigned>(realtime_ns % kSecond / kMillisecond);
    tm local{};
    if (::localtime_r(&seconds, &local) == nullptr) return std::to_string(realtime_ns) + " ns";
    std::array<char, 64> buffer{};
    const std::size_t length =
        ::strftime(buffer.data(), buffer.size(), "%Y-%m-%d %H:%M:%S", &local);
    return std::string(buffer.data(), length) + print(".%03u", milliseconds);
}

std::size_t utf8_sequence_bytes(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    if (text.empty()) return 0;
    const unsigned char first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0U) != 0x80U) return 0;
    }
    const unsigned char second = byte(1);
    const bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
    const bool surrogate = first == 0xED && second >= 0xA0;
    const bool too_large = first == 0xF4 && second >= 0x90;
    return overlong || surrogate || too_large ? 0 : length;
}

std::string printable(std::string_view text) {
    std::string result;
    while (!text.empty()) {
        const std::size_t length = utf8_sequence_bytes(text);
        const auto first = static_cast<unsigned char>(text.front());
        // U+0080 to U+009F are control characters too: terminals take them as escapes.
        const bool control =
            first < 0x20 || first == 0x7F ||
            (length == 2 && first == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0);
        const std::size_t used = std::max<std::size_t>(length, 1);
        if (length == 0 || control) {
            result += '?';
        } else {
            result += text.substr(0, used);
        }
        text.remove_prefix(used);
    }
    return result;
}

Table::Table(std::vector<std::string> headings) {
    for (std::string &heading : headings) {
        left_.push_back(heading.starts_with('<'));
        if (left_.back()) heading.erase(0, 1);
    }
    rows_.push_back(std::move(headings));
}

void Table::add(std::vector<std::string> cells) {
    cells.resize(left_.size());
    rows_.push_back(std::move(cells));
}

std::string Table::str(std::string_view indent) const {
    std::vector<std::size_t> widths(left_.size());
    for (const auto &row : rows_) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            widths[i] = std::max(widths[i], columns(row[i]));
        }
    }
    std::string text;
    for (const auto &row : rows_) {
        std::string line(indent);
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::string padding(widths[i] - columns(row[i]), ' ');
            if (i > 0) line += "  ";
            line += left_[i] ? row[i] + padding : padding + row[i];
        }
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + "\n";
    }
    return text;
}

}  // namespace aiomq_stat
