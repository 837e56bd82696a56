// LoopWatch: finds workers whose event loop does not turn while they run items.
//
// A worker only counts its turns, in its own area; the supervisor compares counts from time to time.
// The timer for that is the pool's watch_fd(): the first submit after an idle time arms it, each look
// arms it again while a task waits or runs. So a worker pays one store per turn,
// a task nothing, and an idle pool is not woken.
//
// Thread safety: the supervisor's thread, under the pool's mutex.
#pragma once

#include <string>
#include <vector>

#include "pool.hpp"

namespace aiomq {

class LoopWatch {
  public:
    explicit LoopWatch(Pool &pool);

    /// Looks at every worker once. Raises AIOMQ_EVENT_BLOCKED when a loop has not turned for too long,
    /// and takes `blocked_since_ns` back when it does.
    void locked_look(std::uint64_t now_ns);

  private:
    /// What was seen of one worker's loop.
    struct Seen {
        std::uint64_t turns = 0;     ///< of the loop, and starts of items
        std::uint32_t looks = 0;     ///< in a row that found it where it was; 0: not looked at yet
        std::uint64_t since_ns = 0;  ///< of the first of them
    };

    bool locked_busy(std::uint32_t worker) const;
    void locked_report(std::uint32_t worker, std::uint64_t for_ns);
    std::string locked_place(std::uint32_t worker) const;

    Pool &pool_;
    std::vector<Seen> seen_;
};

}  // namespace aiomq
