// What scheduled_atomic.hpp can do wrongly, and to which words: this makes a mutant of the code upon it.
#pragma once

namespace aiomq_test {

/// What a mutant does wrongly.
enum class Fault {
    kNone,
    kCasInTwo,        ///< looks, and then writes
    kCasBlind,        ///< writes whatever is there
    kCasNever,        ///< does nothing, and says it did
    kCasUpperHalf,    ///< compares the upper half only: of a slot's word all but the generation
    kUpperHalfFirst,  ///< writes the upper half, then the lower
    kTopBitsFirst,    ///< of a slot's word: the phase, then who has it
    kStoreLate,       ///< relaxed stores take effect after the next store with an order
};

/// Set before a game; children are told through shared memory, see Table.
struct FaultAt {
    Fault fault = Fault::kNone;
    const void *from = nullptr;  ///< words in [from, to)
    const void *to = nullptr;
    bool hits(const void *word) const { return word >= from && word < to; }
};

}  // namespace aiomq_test
