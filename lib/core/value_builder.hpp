// ValueBuilder: takes down values one by one and makes a message of them: a Value, a Call or a Chunk.
//
// Texts, bytes and arrays are borrowed until reset(). What comes out is, bit for bit, what Python's codec
// writes of equal values. When not to use: for objects with a codec of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "value_writer.hpp"

namespace aiomq {

class ValueBuilder {
  public:
    /// Forgets all values.
    void reset();

    /// Each: 0, or -EINVAL where no value may stand, -EMSGSIZE for what no message can hold.
    int add(ValueKind kind, std::int64_t integer);
    int add_data(ValueKind kind, const void *data, std::uint64_t bytes);
    /// A list of @count 8-byte numbers of @kind, INTS or FLOATS, which are copied by store().
    int add_numbers(ColumnKind kind, const void *numbers, std::uint64_t count);
    /// LIST, TUPLE, SET, FROZENSET or DICT, whose keys and values take turns.
    int begin(ValueKind kind);
    int end();
    /// The next value is the keyword argument called @name.
    int keyword(std::string_view name);
    /// What comes is of the next call of a Chunk.
    int next_call();

    /// The only value if nothing else was added, so that it may travel without a message.
    const Node *single() const {
        return nodes_.size() == 1 && calls_.empty() && open_.empty() ? &nodes_[0] : nullptr;
    }
    bool empty() const { return nodes_.empty() && calls_.empty(); }
    /// Calls that the values are for.
    std::size_t calls() const { return calls_.size() + 1; }

    /// Bytes of the message of this AIOMQ_KIND, VALUE, CALL or CHUNK; or -EINVAL (something is not closed,
    /// or not what such a message holds), -EMSGSIZE.
    std::int64_t measure(unsigned kind);
    /// Writes what measure() has measured last. @words: room for it, 8-byte aligned.
    void store(std::uint64_t *words) const;

  private:
    enum class Shape { kNone, kValue, kCall, kColumns, kCalls };
    struct Container {
        std::size_t node;
        std::vector<std::size_t> elements;  ///< where each begins
    };

    bool closed() const { return open_.empty() && !named_; }
    int note_value();
    void append(std::vector<Node> &nodes, std::size_t value) const;
    std::size_t after(std::size_t value) const;
    template <class Start>
    void append_column(std::uint64_t count, Start start);
    int lay_out(unsigned kind);
    int lay_out_chunk();
    std::uint64_t measure_value(const Node *&next, bool &ret_content) const;
    std::uint64_t measure_column(const Node *&next) const;
    std::uint64_t measure_elements(const Node *&next) const;

    std::vector<Node> nodes_;
    std::vector<Container> open_;
    std::vector<std::size_t> starts_;  ///< of values at the top
    std::vector<std::size_t> calls_;   ///< starts_.size() at each next_call()
    std::vector<std::string_view> names_;
    bool named_ = false;  ///< a keyword waits for its value

    std::vector<Node> laid_out_;
    Shape shape_ = Shape::kNone;
    std::uint32_t width_ = 0;
};

}  // namespace aiomq
