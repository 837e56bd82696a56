// json.hpp - writes one JSON value, either on one line or indented.
//
// Strings may hold any bytes: what is not UTF-8 becomes U+FFFD, so the output always parses.
// Numbers are written whole; a reader that has only doubles loses digits above 2^53.
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace aiomq_stat {

class JsonWriter {
  public:
    explicit JsonWriter(bool indented) : indented_(indented) {}

    void begin_object() { begin('{'); }
    void end_object() { end('}'); }
    void begin_array() { begin('['); }
    void end_array() { end(']'); }

    /// The name of the next value; only inside an object.
    void key(std::string_view name);

    void value(std::string_view text);
    void value(const char *text) { value(std::string_view(text)); }
    void value(bool flag) { scalar(flag ? "true" : "false"); }
    void value(double number);
    void value(std::nullptr_t) { scalar("null"); }
    template <std::integral Number>
    void value(Number number) {
        scalar(std::to_string(number));
    }

    template <typename Value>
    void member(std::string_view name, const Value &content) {
        key(name);
        value(content);
    }

    [[nodiscard]] const std::string &str() const { return text_; }

  private:
    void begin(char bracket);
    void end(char bracket);
    void scalar(std::string_view text);
    void separate();
    void new_line();
    void quote(std::string_view text);

    bool indented_;
    bool after_key_ = false;
    std::vector<bool> has_members_;  // for each open bracket
    std::string text_;
};

}  // namespace aiomq_stat
