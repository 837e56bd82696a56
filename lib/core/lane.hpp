// Lane: a bounded queue of 64-bit messages between exactly two threads of two processes.
//
// When to use: worker → dispatcher and dispatcher → worker messages.
// When not: with two writers or two readers at once; for messages that must not be lost, unless the
// writer keeps what does not fit.
//
// Why not boost::lockfree::spsc_queue: its capacity is a compile-time constant and both indices live
// in one object, so that one scribbled index crashes the other side. Here each side keeps its own
// cursor in private memory, publishes it on a page that only it may write, and checks the other's.
//
// Thread safety: one writer, one reader.
// Invariants:  I1  tail - head is in 0 … capacity; anything else is damage (kCorrupt).
// Edges:
//   lane.publish  push's tail store → pop's tail load: the cell and all the writer wrote before.
//   lane.reuse    pop's head store → push's head load: the cell may be written.
//   lane.full     pop's head store and push's head load are seq_cst: a writer that found the lane full
//                 and then says so elsewhere is seen by a reader that makes room and then looks there.
//   lane.sleep    tail's store and empty()'s load are seq_cst, for the sleeping flags (wait.hpp).
// Crash windows:
//   W-lane-1  writer killed between cell and tail: the message is not there. Completions are hints,
//             recovery scans the slots.
//   W-lane-2  reader killed between reading and publishing head: its successor starts a fresh lane.
#pragma once

#include <cstdint>

#include "atomic.hpp"

namespace aiomq {

enum class LaneStatus { kOk, kEmpty, kFull, kCorrupt };

template <template <typename> class AtomicT = Atomic>
class BasicLaneWriter {
  public:
    using Word = AtomicT<std::uint64_t>;

    BasicLaneWriter() = default;
    BasicLaneWriter(std::uint64_t *cells, std::uint32_t capacity, Word *tail, const Word *head)
        : cells_(cells),
          tail_(tail),
          head_(head),
          capacity_(capacity),
          cursor_(tail->load_relaxed()),
          seen_head_(head->load_acquire()) {}

    LaneStatus push(std::uint64_t message) {
        const LaneStatus status = put(message);
        if (status == LaneStatus::kOk) publish();
        return status;
    }

    /// push() without the total order: a reader that looks sees the message; before the sleeping flags
    /// are looked at, publish() or another seq_cst read-modify-write must come.
    LaneStatus put(std::uint64_t message) {
        if (cursor_ - seen_head_ >= capacity_) {
            const std::uint64_t head = head_->load_seq();
            if (cursor_ - head > capacity_) return LaneStatus::kCorrupt;
            seen_head_ = head;
            if (cursor_ - head == capacity_) return LaneStatus::kFull;
        }
        cells_[cursor_ & (capacity_ - 1)] = message;
        tail_->store_release(++cursor_);
        return LaneStatus::kOk;
    }
    void publish() { tail_->store_seq(cursor_); }

  private:
    std::uint64_t *cells_ = nullptr;
    Word *tail_ = nullptr;
    const Word *head_ = nullptr;
    std::uint64_t capacity_ = 0;  ///< a power of two
    std::uint64_t cursor_ = 0;
    std::uint64_t seen_head_ = 0;
};

template <template <typename> class AtomicT = Atomic>
class BasicLaneReader {
  public:
    using Word = AtomicT<std::uint64_t>;

    BasicLaneReader() = default;
    BasicLaneReader(const std::uint64_t *cells, std::uint32_t capacity, const Word *tail,
                    Word *head)
        : cells_(cells),
          tail_(tail),
          head_(head),
          capacity_(capacity),
          cursor_(head->load_relaxed()),
          published_(cursor_),
          seen_tail_(cursor_) {}

    /// The cell goes back to the writer with the next publish().
    LaneStatus pop(std::uint64_t &ret_message) {
        if (cursor_ == seen_tail_) {
            const std::uint64_t tail = tail_->load_acquire();
            if (tail - cursor_ > capacity_) return LaneStatus::kCorrupt;
            if (tail == cursor_) return LaneStatus::kEmpty;
            seen_tail_ = tail;
        }
        ret_message = cells_[cursor_ & (capacity_ - 1)];
        ++cursor_;
        return LaneStatus::kOk;
    }

    /// The message @ahead places further, if it is known to be there, else 0: for prefetching only.
    std::uint64_t guess(std::uint64_t ahead) const {
        return cursor_ + ahead < seen_tail_ ? cells_[(cursor_ + ahead) & (capacity_ - 1)] : 0;
    }

    /// Gives the cells that were read back to the writer: once per batch, not per message. Seq_cst, so
    /// that a writer who found the lane full and announced it is seen after this, or sees this. False:
    /// nothing had been read.
    bool publish() {
        if (published_ == cursor_) return false;
        head_->store_seq(published_ = cursor_);
        return true;
    }

    /// Seq_cst, for the second look before sleeping.
    bool empty() const { return tail_->load_seq() == cursor_; }

  private:
    const std::uint64_t *cells_ = nullptr;
    const Word *tail_ = nullptr;
    Word *head_ = nullptr;
    std::uint64_t capacity_ = 0;
    std::uint64_t cursor_ = 0;
    std::uint64_t published_ = 0;
    std::uint64_t seen_tail_ = 0;
};

using LaneWriter = BasicLaneWriter<>;
using LaneReader = BasicLaneReader<>;

}  // namespace aiomq
