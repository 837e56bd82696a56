// BufferedWriter: a writer of messages that also knows Python's pickles with buffers out of band.
#pragma once

#include "plan.hpp"
#include "value_writer.hpp"

namespace aiomq::py {

class BufferedWriter final : public Writer {
  public:
    /// @words: room for as many words as the plan has counted, root pointer included.
    BufferedWriter(const Plan &plan, std::uint64_t *words)
        : Writer(plan.nodes(), words), plan_(plan), buffers_(words + plan.words_in_order()) {
        if (plan.words() != plan.words_in_order()) {
            buffers_ = fill_up(buffers_, words + aligned_words(plan.words_in_order()));
        }
    }

  private:
    static std::uint64_t *fill_up(std::uint64_t *from, std::uint64_t *to);
    void write_buffered(const Node &node, std::uint64_t *pointer) override;

    const Plan &plan_;
    std::uint64_t *buffers_;  // where the next one goes
};

}  // namespace aiomq::py
