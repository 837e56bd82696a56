// Recovery: give back what a dead worker held, and give every task its outcome when a pool ends.
//
// When to use: only after the kernel has confirmed the exit (pidfd readable and waitid returned); no
// heartbeat, no timeout ever reclaims anything. Under the pool's mutex.
//
// Order, each step relying on the one before: what the dead published is delivered first · started items
// without an outcome get WORKER_DIED · what it had claimed and not started is READY again in the same
// slot (so recovery needs no free slot) · the rings are emptied and hinted anew in submit order, because
// the dead may have taken hints with it · everyone is woken, because it may have taken a wake-up.
#pragma once

#include "pool.hpp"

namespace aiomq {

/// Recovers all that @worker held. @pid and @status go into the errors of what it was running.
/// @retired: it left as it should, so nothing of what it held is suspected of its end.
void locked_recover(Pool &pool, std::uint32_t worker, std::int32_t pid,
                    const sys::ExitStatus &status, bool retired);

/// Gives every task still in the pool @outcome; no worker runs any more.
void locked_fail_all(Pool &pool, int outcome, const ErrorText &error);

}  // namespace aiomq
