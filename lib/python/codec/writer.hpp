// Writer: a plan's nodes as the words of a message. Every word of the message is written, once and in
// order but for the pointers back in the parents, so the memory needs no zeroing and may be shared.
#pragma once

#include <cstdint>

#include "layout.hpp"
#include "plan.hpp"

namespace aiomq::py {

class Writer {
  public:
    /// @words: room for as many words as the plan has counted, root pointer included.
    Writer(const Plan &plan, std::uint64_t *words)
        : plan_(plan), next_(plan.nodes()), end_(words), buffers_(words + plan.words_in_order()) {
        if (plan.words() != plan.words_in_order()) {
            buffers_ = fill_up(buffers_, words + aligned_words(plan.words_in_order()));
        }
    }

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

  private:
    static std::uint64_t *fill_up(std::uint64_t *from, std::uint64_t *to);
    std::uint64_t *take(std::uint64_t words);
    void write_value(std::uint64_t *at);
    void write_column(std::uint64_t *pointer);
    /// A Column at @at; leaves its second pointer alone when there is nothing to join.
    void write_column_fields(const Node &head, std::uint64_t *at);
    void write_mapping(std::uint32_t count, std::uint64_t *pointer);
    void write_mapping_fields(std::uint64_t *at);
    void write_text(const Node &node, std::uint64_t *pointer);
    void write_bytes(const Node &node, std::uint64_t *pointer);
    void write_buffered(const Node &node, std::uint64_t *pointer);
    void write_values(std::uint32_t count, std::uint64_t *pointer);
    void write_scalars(std::uint32_t count, std::uint64_t *pointer);
    void write_joined(const Node &head, std::uint64_t *pointers);

    const Plan &plan_;
    const Node *next_;
    std::uint64_t *end_;
    std::uint64_t *buffers_;  // where the next one goes
};

}  // namespace aiomq::py
