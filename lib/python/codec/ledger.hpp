// Ledger: how many started items of each job have no outcome yet, in this worker process.
//
// Why: when aiomq_worker_start() has no item left, the job is over exactly if nothing of it runs any more,
// and the C ABI does not say which. Items are started by the Runner but completed by it, by publish() or
// by publish_error(), so the count is kept here. Not thread-safe: the GIL is held by whoever calls.
#pragma once

#include <cstdint>

namespace aiomq::py {

struct JobAccount {
    std::uint32_t running = 0;
    bool over = false;  ///< the last item has its outcome: the handle is invalid
};

/// The account of @job, made when it is new. Valid until ledger_close().
JobAccount &ledger_open(std::uint32_t job);
/// Notes what completing an item of @job returned (1, 0 or -errno). A job that is over is forgotten,
/// unless a Runner is at it (`keep`): that one asks, then closes.
void ledger_note(std::uint32_t job, int completed);
void ledger_close(std::uint32_t job);
/// Which job a Runner is at, by its account; that outlives the job's end.
void ledger_hold(std::uint32_t job, JobAccount &account);
void ledger_unhold();

}  // namespace aiomq::py
