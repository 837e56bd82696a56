// Ring: a bounded queue of 32-bit hints that any process may push to and pop from, and that stays
// usable when any of them is killed at any instruction.
//
// When to use: for the hints of one queue. When not: for anything that must not be lost; a process
// killed after its pop takes the value with it (the slot word is the truth, recovery re-hints).
//
// Algorithm: NCQ, the "naive circular queue" of R. Nikolaev, "A Scalable, Portable, and
// Memory-Efficient Lock-Free FIFO Queue", DISC 2019, section 4, plus a check for a full ring.
// A cell is {cycle:32, value:32}. A push takes effect with ONE compare-and-swap on its cell, a pop
// with ONE on `head`; `tail` is only a helped hint, which is why nobody can leave the ring half done.
//
// Thread safety: any number of pushers and poppers; or one pusher at a time, which then may use put()
// and publish() instead of push(): no compare-and-swap, and one store of `tail` for a whole batch.
// Invariants:
//   I1  position p lives in cell p % capacity with cycle p / capacity (mod 2^32); a ring of zero
//       bytes with head = tail = capacity is empty, because its cells have cycle 0.
//   I2  head <= true tail <= head + capacity, and `tail` is at most one behind the true tail.
// Edges:
//   ring.publish  push's cell CAS (release) → pop's cell load (acquire): what the pusher wrote before
//                 is visible to the popper.
//   ring.sleep    the tail's CAS or publish() and empty()'s loads are seq_cst: with the sleeping flags
//                 (wait.hpp) no hint is pushed unseen by a consumer that then sleeps.
// Crash windows:
//   W-ring-1  killed between cell CAS and tail CAS: the next pusher helps tail on.
//   W-ring-2  killed after the head CAS: the value is lost; recovery hints every READY slot again.
// Damage: a scribbled head or cell must not spin: every loop is bounded and gives kCorrupt.
// Limits: 2^32 cycles before a cell repeats, and a process stopped that long in mid-operation.
#pragma once

#include <bit>
#include <cstdint>

#include "atomic.hpp"

namespace aiomq {

enum class RingStatus { kOk, kEmpty, kFull, kCorrupt };

template <template <typename> class AtomicT = Atomic>
class BasicRing {
  public:
    using Word = AtomicT<std::uint64_t>;

    BasicRing() = default;
    /// @cells: @capacity words, a power of two. The three may be on pages of different owners.
    BasicRing(Word *cells, std::uint32_t capacity, Word *head, Word *tail)
        : cells_(cells),
          head_(head),
          tail_(tail),
          mask_(capacity - 1),
          shift_(static_cast<std::uint32_t>(std::countr_zero(capacity))) {}

    /// Makes zeroed memory an empty ring; before anyone else looks.
    void initialise() {
        head_->store_relaxed(capacity());
        tail_->store_release(capacity());
        own_tail_ = seen_head_ = capacity();
    }

    RingStatus push(std::uint32_t value) {
        for (std::uint32_t round = 0; round < kMaxRounds; ++round) {
            std::uint64_t tail = tail_->load_acquire();
            const std::uint64_t head = head_->load_acquire();
            // Signed: `tail` may be stale and lie behind a head that moved on since.
            if (static_cast<std::int64_t>(tail - head) >= static_cast<std::int64_t>(capacity()))
                return RingStatus::kFull;
            Word &cell = cells_[index(tail)];
            std::uint64_t found = cell.load_acquire();
            const std::uint32_t lap = cycle(tail);
            if (cycle_of(found) == lap) {  // taken: the true tail is further on
                tail_->compare_exchange_seq(tail, tail + 1);
                continue;
            }
            if (cycle_of(found) + 1 != lap) continue;  // `tail` was stale
            if (cell.compare_exchange(found, std::uint64_t{lap} << 32 | value)) {
                // Failing means that another pusher helped, with a seq_cst exchange of its own.
                tail_->compare_exchange_seq(tail, tail + 1);
                return RingStatus::kOk;
            }
        }
        return RingStatus::kCorrupt;
    }

    /// push() for the only pusher. Poppers see the value at once, sleepers after publish().
    RingStatus put(std::uint32_t value) {
        if (own_tail_ - seen_head_ >= capacity()) {
            const std::uint64_t head = head_->load_acquire();
            if (own_tail_ - head > capacity()) return RingStatus::kCorrupt;
            seen_head_ = head;
            if (own_tail_ - head == capacity()) return RingStatus::kFull;
        }
        cells_[index(own_tail_)].store_release(std::uint64_t{cycle(own_tail_)} << 32 | value);
        ++own_tail_;
        return RingStatus::kOk;
    }
    /// False: the head is where no popper can have brought it. For the only pusher.
    bool sound() const { return own_tail_ - head_->load_acquire() <= capacity(); }
    /// Ends a batch of put(): before the sleeping flags are looked at.
    void publish() { tail_->store_seq(own_tail_); }

    /// The value @ahead places behind the head, right or wrong: for prefetching only.
    std::uint32_t guess(std::uint32_t ahead) const {
        return static_cast<std::uint32_t>(
            cells_[index(head_->load_relaxed() + ahead)].load_relaxed());
    }

    RingStatus pop(std::uint32_t &ret_value) {
        for (std::uint32_t round = 0; round < kMaxRounds; ++round) {
            std::uint64_t head = head_->load_acquire();
            const std::uint64_t found = cells_[index(head)].load_acquire();
            const std::uint32_t lap = cycle(head);
            if (cycle_of(found) == lap) {
                // seq_cst: a worker's put() into its lane before it is ordered by this exchange.
                if (head_->compare_exchange_seq(head, head + 1)) {
                    ret_value = static_cast<std::uint32_t>(found);
                    return RingStatus::kOk;
                }
            } else if (cycle_of(found) + 1 == lap) {
                return RingStatus::kEmpty;
            }  // else another popper and a pusher have been here: look again
        }
        return RingStatus::kCorrupt;
    }

    /// Seq_cst, for the second look before sleeping.
    bool empty() const {
        const std::uint64_t head = head_->load_seq();
        return static_cast<std::int64_t>(tail_->load_seq() - head) <= 0;
    }

    std::uint32_t capacity() const { return mask_ + 1; }

  private:
    // Contention ends a round, and every round that fails means that another one succeeded: with at
    // most some thousand threads this many failures in a row are damage, not bad luck.
    static constexpr std::uint32_t kMaxRounds = 1U << 20;

    std::uint32_t index(std::uint64_t position) const {
        return static_cast<std::uint32_t>(position) & mask_;
    }
    std::uint32_t cycle(std::uint64_t position) const {
        return static_cast<std::uint32_t>(position >> shift_);
    }
    static std::uint32_t cycle_of(std::uint64_t cell) {
        return static_cast<std::uint32_t>(cell >> 32);
    }

    Word *cells_ = nullptr;
    Word *head_ = nullptr;
    Word *tail_ = nullptr;
    std::uint32_t mask_ = 0;
    std::uint32_t shift_ = 0;
    std::uint64_t own_tail_ = 0;  ///< of the only pusher
    std::uint64_t seen_head_ = 0;
};

using Ring = BasicRing<>;

}  // namespace aiomq
