// Versioned: a value that one writer overwrites at any time and that others copy whole, or not at all.
//
// When to use: for what is shown to processes that only look, and need not see every value.
// When not: where a reader must get a value, or two may write: use a lane or a ring.
//
// Algorithm: a sequence lock, with orders on the value's own words and without fences, after H.-J. Boehm,
// "Can seqlocks get along with programming language memory models?", MSPC 2012. Plain copies between two
// looks at the sequence are not enough: on 64-bit Arm a load may be made after the second look, and a
// store be seen before the first store of the sequence; a compiler may move them likewise.
//
// Thread safety: one writer, any number of readers.
// Invariants:  I1  while the words change the sequence is 0.
// Edges:
//   versioned.begin  a word's store (release) → its load (acquire): who sees a new word sees the sequence
//                    that was stored before it, 0 or later, at the second look.
//   versioned.end    the sequence's store (release) → the first look (acquire): all words.
// Crash windows:
//   W-versioned-1  writer killed between the two stores of the sequence: no reader takes the value, and
//                  there is no other writer whom that could keep waiting.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "atomic.hpp"

namespace aiomq {

template <typename T, template <typename> class AtomicT = Atomic>
class Versioned {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 8 == 0);

  public:
    /// @sequence: never 0.
    void write(std::uint64_t sequence, const T &value) {
        std::uint64_t copy[kWords];
        std::memcpy(copy, &value, sizeof copy);
        sequence_.store_relaxed(0);
        for (std::size_t i = 0; i < kWords; ++i) words_[i].store_release(copy[i]);
        sequence_.store_release(sequence);
    }

    /// The value that was written with @sequence. False: it is not there yet or any more.
    bool read(std::uint64_t sequence, T &ret_value) const {
        if (sequence_.load_acquire() != sequence) return false;
        std::uint64_t copy[kWords];
        for (std::size_t i = 0; i < kWords; ++i) copy[i] = words_[i].load_acquire();
        if (sequence_.load_relaxed() != sequence) return false;  // overwritten meanwhile
        std::memcpy(&ret_value, copy, sizeof copy);
        return true;
    }

  private:
    static constexpr std::size_t kWords = sizeof(T) / 8;

    AtomicT<std::uint64_t> sequence_;
    AtomicT<std::uint64_t> words_[kWords];
};

}  // namespace aiomq
