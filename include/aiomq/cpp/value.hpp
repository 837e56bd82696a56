// Value, Writer and Codec: C++ types as the values that all languages of a pool share.
//
// A type takes part when Codec<T> knows it: bool, integers, floating point, enums, text, bytes, vectors,
// arrays, spans, tuples, pairs, optionals, maps, sets, and structs that a specialisation of Struct
// describes. Types are exact, as in aiomq/value.h, but that a float may be given as an int.
#pragma once

#include <aiomq/cpp/error.hpp>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace aiomq {

/// Owned bytes; std::span<const std::byte> is the view.
using Bytes = std::vector<std::byte>;

/// A value is not of the type that it is read as.
class TypeMismatch : public std::exception {
  public:
    TypeMismatch(std::string expected, std::string found)
        : expected_(std::move(expected)),
          found_(std::move(found)),
          text_("expected " + expected_ + ", got " + found_) {}
    const char *what() const noexcept override { return text_.c_str(); }
    const std::string &expected() const { return expected_; }
    const std::string &found() const { return found_; }

  private:
    std::string expected_;
    std::string found_;
    std::string text_;
};

/// A value where it lies, in the memory of its message: as long as that stays.
class Value {
  public:
    Value() = default;
    explicit Value(const aiomq_value &raw) : raw_(raw) {}

    const aiomq_value &raw() const { return raw_; }
    /// enum aiomq_type.
    unsigned type() const { return raw_.type; }
    /// Elements, entries or bytes.
    std::uint32_t size() const { return raw_.count; }
    std::int64_t integer() const { return raw_.value.integer; }
    double real() const { return raw_.value.real; }
    std::string_view text() const { return {static_cast<const char *>(data()), raw_.count}; }
    std::span<const std::byte> bytes() const {
        return {static_cast<const std::byte *>(data()), raw_.count};
    }
    /// Element @index of a container, or the value of that entry of a dict.
    Value operator[](std::uint32_t index) const {
        Value element;
        detail::check(aiomq_value_element(&raw_, index, &element.raw_), "an element of a value");
        return element;
    }
    Value key(std::uint32_t index) const {
        Value key;
        detail::check(aiomq_value_key(&raw_, index, &key.raw_), "a key of a value");
        return key;
    }
    /// The value of the entry whose key is the text @name, if there is one.
    std::optional<Value> find(const char *name) const {
        Value found;
        const int error = aiomq_value_find(&raw_, name, &found.raw_);
        if (error == -ENOENT) return std::nullopt;
        detail::check(error, "an entry of a value");
        return found;
    }
    /// The numbers of a packed list in place; empty if it is not one of @type.
    template <class Number>
    std::span<const Number> packed(unsigned type) const {
        if (raw_.packed != type) return {};
        return {static_cast<const Number *>(raw_.value.data), raw_.count};
    }
    bool is(unsigned type) const { return raw_.type == type; }
    bool is_sequence() const {
        return is(AIOMQ_TYPE_LIST) || is(AIOMQ_TYPE_TUPLE) || is(AIOMQ_TYPE_SET) ||
               is(AIOMQ_TYPE_FROZENSET);
    }
    /// For messages: "text", or "int 7".
    std::string describe() const {
        std::string text = aiomq_type_name(static_cast<int>(raw_.type));
        if (is(AIOMQ_TYPE_INT)) text += " " + std::to_string(raw_.value.integer);
        return text;
    }

  private:
    const void *data() const { return raw_.count == 0 ? "" : raw_.value.data; }

    aiomq_value raw_{};
};

/// Writes values for a message. Texts, bytes and arrays are borrowed until it is stored.
class Writer {
  public:
    Writer() { detail::check(aiomq_value_writer_create(&handle_), "a writer of values"); }
    ~Writer() { aiomq_value_writer_destroy(&handle_); }
    Writer(const Writer &) = delete;
    Writer &operator=(const Writer &) = delete;

    aiomq_value_writer *handle() { return handle_; }
    void reset() {
        aiomq_value_writer_reset(handle_);
        borrowed_ = 0;
        calls_ = 1;
    }
    /// Bytes of what it has borrowed; and calls that the values are for.
    std::size_t borrowed() const { return borrowed_; }
    std::size_t calls() const { return calls_; }
    void none() { check(aiomq_value_write_none(handle_)); }
    void boolean(bool value) { check(aiomq_value_write_bool(handle_, value ? 1 : 0)); }
    void integer(std::int64_t value) { check(aiomq_value_write_int(handle_, value)); }
    void real(double value) { check(aiomq_value_write_float(handle_, value)); }
    void text(std::string_view value) {
        check(aiomq_value_write_text(handle_, value.data(), value.size()));
        borrowed_ += value.size();
    }
    void bytes(std::span<const std::byte> value) {
        check(aiomq_value_write_bytes(handle_, value.data(), value.size()));
        borrowed_ += value.size();
    }
    void array(std::span<const std::int64_t> values) {
        check(aiomq_value_write_ints(handle_, values.data(), values.size()));
        borrowed_ += values.size_bytes();
    }
    void array(std::span<const double> values) {
        check(aiomq_value_write_floats(handle_, values.data(), values.size()));
        borrowed_ += values.size_bytes();
    }
    void begin(int type) { check(aiomq_value_write_begin(handle_, type)); }
    void end() { check(aiomq_value_write_end(handle_)); }
    void keyword(const char *name) { check(aiomq_value_write_keyword(handle_, name)); }
    void next_call() {
        check(aiomq_value_write_call(handle_));
        ++calls_;
    }

  private:
    static void check(int error) {
        if (error == -EILSEQ)
            throw Error::of_call(error, "a value", "a text that is not UTF-8: give bytes instead");
        detail::check(error, "a value");
    }

    aiomq_value_writer *handle_ = nullptr;
    std::size_t borrowed_ = 0;
    std::size_t calls_ = 1;
};

/// How T is written and read: `static void write(Writer &, const T &)`, `static T read(const Value &)`,
/// which throws TypeMismatch, and `static std::string name()`, for its message. Specialise it for types of
/// your own that Struct does not fit.
template <class T>
struct Codec;

/// Describes a struct: `template <> struct aiomq::Struct<Point> { static constexpr auto fields =
/// std::tuple(aiomq::field("x", &Point::x), aiomq::field("y", &Point::y)); };`. It travels as a dict.
template <class T>
struct Struct;

template <class Class, class Member>
struct Field {
    const char *name;
    Member Class::*member;
};
template <class Class, class Member>
constexpr Field<Class, Member> field(const char *name, Member Class::*member) {
    return {name, member};
}

namespace detail {

template <class T>
concept Described = requires {
    Struct<T>::fields;
};
template <class T>
concept Text = std::is_same_v<T, std::string> || std::is_same_v<T, std::string_view>;
template <class T>
concept Number64 =
    (std::is_integral_v<T> && std::is_signed_v<T> && sizeof(T) == 8) || std::is_same_v<T, double>;
template <class T>
inline constexpr bool is_view = false;
template <>
inline constexpr bool is_view<std::string_view> = true;
template <>
inline constexpr bool is_view<const char *> = true;
template <>
inline constexpr bool is_view<Value> = true;
template <class T, std::size_t N>
inline constexpr bool is_view<std::span<T, N>> = true;

inline void expect(const Value &value, unsigned type, const char *name) {
    if (!value.is(type)) throw TypeMismatch(name, value.describe());
}
inline void expect_sequence(const Value &value, const std::string &name) {
    if (!value.is_sequence()) throw TypeMismatch(name, value.describe());
}

/// Lists of 8-byte numbers are copied whole.
template <class Number>
inline constexpr unsigned packed_type =
    std::is_same_v<Number, double> ? AIOMQ_TYPE_FLOAT : AIOMQ_TYPE_INT;
template <Number64 Number>
void write_numbers(Writer &writer, const Number *numbers, std::size_t count) {
    if constexpr (std::is_same_v<Number, double>)
        writer.array(std::span<const double>(numbers, count));
    else
        writer.array(std::span(reinterpret_cast<const std::int64_t *>(numbers), count));
}

template <class Container>
void write_elements(Writer &writer, const Container &container, int type) {
    writer.begin(type);
    for (const typename Container::value_type &element : container)
        Codec<typename Container::value_type>::write(writer, element);
    writer.end();
}

}  // namespace detail

template <>
struct Codec<bool> {
    static std::string name() { return "bool"; }
    static void write(Writer &writer, bool value) { writer.boolean(value); }
    static bool read(const Value &value) {
        detail::expect(value, AIOMQ_TYPE_BOOL, "bool");
        return value.integer() != 0;
    }
};

template <std::integral T>
struct Codec<T> {
    using Limits = std::numeric_limits<T>;
    static std::string name() {
        if (sizeof(T) == 8 && std::is_signed_v<T>) return "int";
        return "int of " + std::to_string(Limits::min()) + " to " + std::to_string(Limits::max());
    }
    static void write(Writer &writer, T value) {
        if (!std::in_range<std::int64_t>(value))
            throw Error(
                AIOMQ_PENDING, "aiomq.ValueError",
                std::to_string(value) + " is above what an int of 64 bits with a sign holds");
        writer.integer(static_cast<std::int64_t>(value));
    }
    static T read(const Value &value) {
        if (!value.is(AIOMQ_TYPE_INT) || !std::in_range<T>(value.integer()))
            throw TypeMismatch(name(), value.describe());
        return static_cast<T>(value.integer());
    }
};

template <std::floating_point T>
struct Codec<T> {
    static std::string name() { return "float"; }
    static void write(Writer &writer, T value) { writer.real(static_cast<double>(value)); }
    static T read(const Value &value) {
        if (value.is(AIOMQ_TYPE_INT)) return static_cast<T>(value.integer());
        detail::expect(value, AIOMQ_TYPE_FLOAT, "float");
        return static_cast<T>(value.real());
    }
};

template <class T>
requires std::is_enum_v<T>
struct Codec<T> {
    using Number = Codec<std::underlying_type_t<T>>;
    static std::string name() { return Number::name(); }
    static void write(Writer &writer, T value) {
        Number::write(writer, static_cast<std::underlying_type_t<T>>(value));
    }
    static T read(const Value &value) { return static_cast<T>(Number::read(value)); }
};

template <detail::Text T>
struct Codec<T> {
    static std::string name() { return "text"; }
    static void write(Writer &writer, const T &value) { writer.text(value); }
    static T read(const Value &value) {
        detail::expect(value, AIOMQ_TYPE_TEXT, "text");
        return T(value.text());
    }
};

/// Only written.
template <>
struct Codec<const char *> {
    static void write(Writer &writer, const char *value) { writer.text(value); }
};

template <>
struct Codec<std::span<const std::byte>> {
    static std::string name() { return "bytes"; }
    static void write(Writer &writer, std::span<const std::byte> value) { writer.bytes(value); }
    static std::span<const std::byte> read(const Value &value) {
        detail::expect(value, AIOMQ_TYPE_BYTES, "bytes");
        return value.bytes();
    }
};

template <>
struct Codec<Bytes> {
    static std::string name() { return "bytes"; }
    static void write(Writer &writer, const Bytes &value) { writer.bytes(value); }
    static Bytes read(const Value &value) {
        detail::expect(value, AIOMQ_TYPE_BYTES, "bytes");
        return {value.bytes().begin(), value.bytes().end()};
    }
};

/// Numbers in place: the argument's own memory, without a copy.
template <detail::Number64 T>
struct Codec<std::span<const T>> {
    static std::string name() { return "list of " + Codec<T>::name(); }
    static void write(Writer &writer, std::span<const T> value) {
        detail::write_numbers(writer, value.data(), value.size());
    }
    static std::span<const T> read(const Value &value) {
        detail::expect_sequence(value, name());
        if (value.size() != 0 && value.raw().packed != detail::packed_type<T>)
            throw TypeMismatch(name(), value.describe() + " of something else");
        return value.packed<T>(detail::packed_type<T>);
    }
};

template <class T, class Allocator>
struct Codec<std::vector<T, Allocator>> {
    static std::string name() { return "list of " + Codec<T>::name(); }
    static void write(Writer &writer, const std::vector<T, Allocator> &value) {
        if constexpr (detail::Number64<T>)
            detail::write_numbers(writer, value.data(), value.size());
        else
            detail::write_elements(writer, value, AIOMQ_TYPE_LIST);
    }
    static std::vector<T, Allocator> read(const Value &value) {
        detail::expect_sequence(value, name());
        std::vector<T, Allocator> result;
        if constexpr (detail::Number64<T>) {
            const auto numbers = value.packed<T>(detail::packed_type<T>);
            if (!numbers.empty()) return {numbers.begin(), numbers.end()};
        }
        result.reserve(value.size());
        for (std::uint32_t i = 0; i < value.size(); ++i) result.push_back(Codec<T>::read(value[i]));
        return result;
    }
};

template <class T, std::size_t N>
struct Codec<std::array<T, N>> {
    static std::string name() { return "list of " + std::to_string(N) + " " + Codec<T>::name(); }
    static void write(Writer &writer, const std::array<T, N> &value) {
        detail::write_elements(writer, value, AIOMQ_TYPE_LIST);
    }
    static std::array<T, N> read(const Value &value) {
        detail::expect_sequence(value, name());
        if (value.size() != N)
            throw TypeMismatch(name(), value.describe() + " of " + std::to_string(value.size()));
        std::array<T, N> result{};
        for (std::uint32_t i = 0; i < N; ++i) result[i] = Codec<T>::read(value[i]);
        return result;
    }
};

template <class T>
struct Codec<std::optional<T>> {
    static std::string name() { return Codec<T>::name() + " or none"; }
    static void write(Writer &writer, const std::optional<T> &value) {
        value ? Codec<T>::write(writer, *value) : writer.none();
    }
    static std::optional<T> read(const Value &value) {
        if (value.is(AIOMQ_TYPE_NONE)) return std::nullopt;
        return Codec<T>::read(value);
    }
};

template <class... T>
struct Codec<std::tuple<T...>> {
    static std::string name() {
        std::string text = "tuple of (";
        ((text += Codec<T>::name() + ", "), ...);
        return text.substr(0, text.size() - (sizeof...(T) == 0 ? 0 : 2)) + ")";
    }
    static void write(Writer &writer, const std::tuple<T...> &value) {
        writer.begin(AIOMQ_TYPE_TUPLE);
        std::apply([&](const T &...element) { (Codec<T>::write(writer, element), ...); }, value);
        writer.end();
    }
    static std::tuple<T...> read(const Value &value) {
        detail::expect_sequence(value, name());
        if (value.size() != sizeof...(T))
            throw TypeMismatch(name(), value.describe() + " of " + std::to_string(value.size()));
        return read_each(value, std::index_sequence_for<T...>());
    }

  private:
    template <std::size_t... I>
    static std::tuple<T...> read_each([[maybe_unused]] const Value &value,
                                      std::index_sequence<I...>) {
        return {Codec<T>::read(value[static_cast<std::uint32_t>(I)])...};
    }
};

template <class First, class Second>
struct Codec<std::pair<First, Second>> {
    using Tuple = Codec<std::tuple<First, Second>>;
    static std::string name() { return Tuple::name(); }
    static void write(Writer &writer, const std::pair<First, Second> &value) {
        writer.begin(AIOMQ_TYPE_TUPLE);
        Codec<First>::write(writer, value.first);
        Codec<Second>::write(writer, value.second);
        writer.end();
    }
    static std::pair<First, Second> read(const Value &value) {
        auto [first, second] = Tuple::read(value);
        return {std::move(first), std::move(second)};
    }
};

namespace detail {

template <class Map>
struct MapCodec {
    using Key = typename Map::key_type;
    using Mapped = typename Map::mapped_type;
    static std::string name() {
        return "dict of " + Codec<Key>::name() + " to " + Codec<Mapped>::name();
    }
    static void write(Writer &writer, const Map &value) {
        writer.begin(AIOMQ_TYPE_DICT);
        for (const auto &[key, mapped] : value) {
            Codec<Key>::write(writer, key);
            Codec<Mapped>::write(writer, mapped);
        }
        writer.end();
    }
    static Map read(const Value &value) {
        if (!value.is(AIOMQ_TYPE_DICT)) throw TypeMismatch(name(), value.describe());
        Map result;
        for (std::uint32_t i = 0; i < value.size(); ++i)
            result.emplace(Codec<Key>::read(value.key(i)), Codec<Mapped>::read(value[i]));
        return result;
    }
};

template <class Set>
struct SetCodec {
    using Key = typename Set::key_type;
    static std::string name() { return "set of " + Codec<Key>::name(); }
    static void write(Writer &writer, const Set &value) {
        write_elements(writer, value, AIOMQ_TYPE_SET);
    }
    static Set read(const Value &value) {
        expect_sequence(value, name());
        Set result;
        for (std::uint32_t i = 0; i < value.size(); ++i) result.insert(Codec<Key>::read(value[i]));
        return result;
    }
};

}  // namespace detail

template <class... T>
struct Codec<std::map<T...>> : detail::MapCodec<std::map<T...>> {};
template <class... T>
struct Codec<std::unordered_map<T...>> : detail::MapCodec<std::unordered_map<T...>> {};
template <class... T>
struct Codec<std::set<T...>> : detail::SetCodec<std::set<T...>> {};
template <class... T>
struct Codec<std::unordered_set<T...>> : detail::SetCodec<std::unordered_set<T...>> {};

/// Whatever it is; for arguments, which stay where they are until the task ends.
template <>
struct Codec<Value> {
    static std::string name() { return "any value"; }
    static Value read(const Value &value) { return value; }
};

template <detail::Described T>
struct Codec<T> {
    static std::string name() {
        std::string text = "dict with";
        each([&](const auto &field) { text += std::string(" ") + field.name; });
        return text;
    }
    static void write(Writer &writer, const T &value) {
        writer.begin(AIOMQ_TYPE_DICT);
        each([&](const auto &field) {
            writer.text(field.name);
            write_field(writer, value.*field.member);
        });
        writer.end();
    }
    static T read(const Value &value) {
        if (!value.is(AIOMQ_TYPE_DICT)) throw TypeMismatch(name(), value.describe());
        T result{};
        each([&](const auto &field) {
            const auto found = value.find(field.name);
            if (!found) throw TypeMismatch(name(), std::string("a dict without ") + field.name);
            read_field(*found, result.*field.member);
        });
        return result;
    }

  private:
    template <class Visit>
    static void each(Visit visit) {
        std::apply([&](const auto &...field) { (visit(field), ...); }, Struct<T>::fields);
    }
    template <class Member>
    static void write_field(Writer &writer, const Member &member) {
        Codec<Member>::write(writer, member);
    }
    template <class Member>
    static void read_field(const Value &value, Member &member) {
        member = Codec<Member>::read(value);
    }
};

namespace detail {

/// The type that an argument of type T is written as: std::string for a literal's sake is not made.
template <class T>
struct Written {
    using Type = std::decay_t<T>;
};
template <std::size_t N>
struct Written<const char (&)[N]> {
    using Type = const char *;
};
template <>
struct Written<char *> {
    using Type = const char *;
};

/// Writes @value as the parameter's type where that is known, so that both ends agree.
template <class T>
void write(Writer &writer, const T &value) {
    using Type = typename Written<const T &>::Type;
    if constexpr (std::is_same_v<Type, std::span<std::byte>>)
        Codec<std::span<const std::byte>>::write(writer, value);
    else
        Codec<Type>::write(writer, value);
}

}  // namespace detail
}  // namespace aiomq
