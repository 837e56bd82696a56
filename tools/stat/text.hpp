// text.hpp - numbers and labels as people read them, and tables whose columns line up.
//
// Lines are as long as their contents: nothing asks how wide a terminal is. Strings that come from
// shared memory go through printable(), so that a label can't send a terminal commands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aiomq_stat {

/// 1234567 → "1,234,567"
std::string human_count(std::uint64_t count);

/// 1536 → "1.5 KiB"
std::string human_bytes(std::uint64_t bytes);

/// Two units at most: "850 ms", "4.2 s", "3 m 12 s", "5 d 3 h".
std::string human_duration(std::uint64_t nanoseconds);

/// 1234.5 → "1,235/s", 3.14 → "3.1/s"
std::string human_rate(double per_second);

/// CLOCK_REALTIME as local time, to the millisecond.
std::string human_time(std::uint64_t realtime_ns);

/// Control characters and bytes that are not UTF-8 become "?".
std::string printable(std::string_view text);

/// Length of the UTF-8 sequence at the start of `text`; 0 when it is not a valid one.
std::size_t utf8_sequence_bytes(std::string_view text);

class Table {
  public:
    /// A heading that starts with '<' is of a column that lines up on the left.
    explicit Table(std::vector<std::string> headings);

    /// One cell for each heading.
    void add(std::vector<std::string> cells);

    /// Each line behind `indent`, ended by a newline.
    [[nodiscard]] std::string str(std::string_view indent) const;

  private:
    std::vector<bool> left_;
    std::vector<std::vector<std::string>> rows_;
};

}  // namespace aiomq_stat
