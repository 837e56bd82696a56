#include "json.hpp"

#include <array>
#include <cmath>
#include <cstdio>

#include "text.hpp"

namespace aiomq_stat {

void JsonWriter::key(std::string_view name) {
    separate();
    quote(name);
    text_ += indented_ ? ": " : ":";
    after_key_ = true;
}

void JsonWriter::value(std::string_view text) {
    separate();
    quote(text);
}

void JsonWriter::value(double number) {
    if (!std::isfinite(number)) return scalar("null");
    std::array<char, 64> buffer{};
    std::snprintf(buffer.data(), buffer.size(), "%.3f", number);
    scalar(buffer.data());
}

void JsonWriter::begin(char bracket) {
    separate();
    text_ += bracket;
    has_members_.push_back(false);
}

void JsonWriter::end(char bracket) {
    const bool had_members = has_members_.back();
    has_members_.pop_back();
    if (had_members) new_line();
    text_ += bracket;
}

void JsonWriter::scalar(std::string_view text) {
    separate();
    text_ += text;
}

void JsonWriter::separate() {
    if (after_key_) {
        after_key_ = false;
        return;
    }
    if (has_members_.empty()) return;
    if (has_members_.back()) text_ += ',';
    has_members_.back() = true;
    new_line();
}

void JsonWriter::new_line() {
    if (!indented_) return;
    text_ += '\n';
    text_.append(2 * has_members_.size(), ' ');
}

void JsonWriter::quote(std::string_view text) {
    text_ += '"';
    while (!text.empty()) {
        const std::size_t length = utf8_sequence_bytes(text);
        const auto first = static_cast<unsigned char>(text.front());
        if (length == 0) {
            text_ += "\\ufffd";
        } else if (first == '"' || first == '\\') {
            text_ += '\\';
            text_ += text.front();
        } else if (first < 0x20 || first == 0x7F) {
            std::array<char, 8> escape{};
            std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(first));
            text_ += escape.data();
        } else {
            text_ += text.substr(0, length);
        }
        text.remove_prefix(length == 0 ? 1 : length);
    }
    text_ += '"';
}

}  // namespace aiomq_stat
