// Checkup: sees to it that a task which shared memory has lost does not wait for ever.
//
// The common class is writable by every worker, so a wild pointer in a task can take a hint away, take
// back a sleeper's announcement, or say that a worker has claimed what it knows nothing of. None of this
// is found by those who follow the hints. So while tasks are in flight the supervisor looks at their
// words from time to time: one that can't be is damage, and when the oldest task has not moved since the
// look before, everything that could have been lost is told again: hints, wake-ups, completions; and
// workers are asked whether they know all that is claimed in their name (Notice::kAsk). All of that is
// harmless when nothing was lost, and is done after 1, 2, 4, … looks, so that a long task costs next to
// nothing.
//
// Thread safety: the supervisor's thread, under the pool's mutex.
#pragma once

#include "pool.hpp"

namespace aiomq {

class Checkup {
  public:
    explicit Checkup(Pool &pool) : pool_(pool) {}

    /// Looks at every task once. False: none is waiting or running, no need to look again.
    bool locked_look();

  private:
    bool locked_is_possible(std::uint32_t slot, SlotWord word);
    void locked_tell_again();

    Pool &pool_;
    std::uint64_t oldest_id_ = 0;  ///< of the look before; 0: none
    std::uint32_t oldest_ = 0;     ///< its slot
    SlotWord oldest_word_;
    std::uint64_t oldest_range_ = 0;
    std::uint32_t looks_ = 0;  ///< in a row that found it where it was
};

}  // namespace aiomq
