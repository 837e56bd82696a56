// Writer: values that are measured and flattened to nodes, as the words of a message. Every word of the message is written, once and in
// order but for the pointers back in the parents, so the memory needs no zeroing and may be shared.
#pragma once

#include <cstdint>
#include <cstring>

#include "value_layout.hpp"

namespace aiomq {

namespace py {
struct Pickled;
}

/// One value, or the head of one column. Containers are followed by their columns (a dict by two),
/// columns by their elements: the order in which everything is written.
struct Node {
    union {
        std::int64_t integer;        ///< kind INT; BOOL as 0 or 1; the bits of FLOAT
        const void *data;            ///< BIGINT, TEXT, BYTES, PICKLE: `count` bytes; see `array`
        const py::Pickled *pickled;  ///< BUFFERED: with `count` buffers
        std::uint64_t joined;        ///< column of texts or bytes: their length together
    };
    std::uint32_t count;  ///< bytes; elements of a column; entries of a dict
    std::uint16_t kind;   ///< ValueKind, or ColumnKind in the head of a column
    std::uint16_t
        array;  ///< 1 in the head of a column of numbers: they lie at `data`; no nodes follow
};
static_assert(sizeof(Node) == 16);

class Writer {
  public:
    /// @nodes: what the calls below write, in order. @words: room for as many words as they take, root
    /// pointer included.
    Writer(const Node *nodes, std::uint64_t *words) : next_(nodes), end_(words) {}
    Writer(const Writer &) = delete;
    Writer &operator=(const Writer &) = delete;
    virtual ~Writer() = default;

    /// A message with one Value.
    void write_value_root();
    /// A Call: nodes are the column of arguments and, if @keywords, those of a dict.
    void write_call_root(bool keywords);
    /// A Chunk: nodes are @columns columns.
    void write_chunk_columns(std::uint32_t count, std::uint32_t columns);
    /// A Chunk: nodes are one column of arguments for each of @count calls.
    void write_chunk_calls(std::uint32_t count);

    /// One past the last word written.
    const std::uint64_t *end() const { return end_; }

  protected:
    /// A Value of kind BUFFERED, whose pointer is at @pointer. Only a writer that is given such nodes has
    /// one.
    virtual void write_buffered(const Node &node, std::uint64_t *pointer);
    void write_bytes(const Node &node, std::uint64_t *pointer);
    std::uint64_t *take(std::uint64_t words);

  private:
    void write_value(std::uint64_t *at);
    void write_column(std::uint64_t *pointer);
    /// A Column at @at; leaves its second pointer alone when there is nothing to join.
    void write_column_fields(const Node &head, std::uint64_t *at);
    void write_mapping(std::uint32_t count, std::uint64_t *pointer);
    void write_mapping_fields(std::uint64_t *at);
    void write_text(const Node &node, std::uint64_t *pointer);
    void write_values(std::uint32_t count, std::uint64_t *pointer);
    void write_scalars(const Node &head, std::uint64_t *pointer);
    void write_joined(const Node &head, std::uint64_t *pointers);

    const Node *next_;
    std::uint64_t *end_;
};

/// The struct of a column that is not an element of a list: without trailing null pointers.
inline StructSize column_size(const Node &head) {
    const auto kind = static_cast<ColumnKind>(head.kind);
    const bool joined =
        (kind == ColumnKind::TEXTS || kind == ColumnKind::BYTES) && head.joined != 0;
    return {kColumnSize.data_words, static_cast<std::uint16_t>(joined ? 2 : 1)};
}

/// How many words lie between a pointer's word and what it points to.
inline std::uint64_t distance(const std::uint64_t *pointer, const std::uint64_t *target) {
    return static_cast<std::uint64_t>(target - pointer - 1);
}

/// Copies @bytes bytes to @words and fills the last of these @count words up with zeros.
inline void fill(std::uint64_t *words, const void *data, std::uint64_t bytes, std::uint64_t count) {
    if (count != 0) words[count - 1] = 0;
    std::memcpy(words, data, bytes);
}

}  // namespace aiomq
