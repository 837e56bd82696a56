// Pool: the dispatcher's state: task records, free slots, lanes, loans, and what the application does
// with them (submit, collect, cancel, release). Spawning and watching workers is supervisor.*, giving
// back what the dead held is recovery.*; both work on this state under the same mutex, because two
// deliverers without it would deliver twice.
//
// Thread safety: every public function takes the mutex; it is never held across user code, callbacks,
// process creation or anything that waits. Functions named locked_* expect it held.
#pragma once

#include <aiomq/aiomq.h>

#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/spsc_queue.hpp>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "arena.hpp"
#include "lane.hpp"
#include "message.hpp"
#include "ring.hpp"
#include "segment.hpp"
#include "slots.hpp"
#include "wait.hpp"

namespace aiomq {

using PoolState = enum aiomq_pool_state;  // a function has the plain name
using EventKind = enum aiomq_event_kind;

/// Options of a pool, checked and with every default filled in.
struct PoolConfig {
    std::string label;
    std::uint32_t workers = 0;
    std::uint32_t capacity = 0;
    std::vector<std::string> argv;
    std::vector<std::string> environment;
    std::vector<UniqueFd> extra_fds;
    std::uint32_t start_limit = 0;
    std::uint64_t arena_start_bytes = 0;
    std::uint64_t arena_max_bytes = 0;
    std::uint64_t spin_ns = 0;
    aiomq_log_function log = nullptr;
    void *log_user = nullptr;
};

/// A completed item's memory in a worker's arena.
struct LoanedBlock {
    std::uint32_t worker;
    std::uint64_t offset;
    std::uint64_t bytes;
};

/// What one completion holds until it is released.
struct Loan {
    std::uint32_t nonce = 0;
    bool in_use = false;
    std::vector<aiomq_item> items;
    std::vector<LoanedBlock> blocks;
    std::vector<std::unique_ptr<std::uint64_t[]>> copies;  ///< private data: errors, progress
};

/// The dispatcher's private half of a slot; one cache line.
struct alignas(kLineBytes) TaskRecord {
    std::uint64_t id = 0;
    std::uint64_t user = 0;
    std::uint64_t payload_offset = 0;  ///< block in the request arena, or 0
    std::uint32_t items = 0;
    std::uint32_t upto = 0;  ///< items from here on have been withdrawn and delivered
    std::uint32_t left = 0;  ///< items not delivered yet
    std::uint32_t flags = 0;
    std::uint32_t attempt = 1;  ///< as in the request, whose line delivery need not touch
    bool in_use = false;
    bool cancelled = false;
    std::unique_ptr<std::vector<bool>> delivered;  ///< per item, once some were delivered early
};

/// The dispatcher's private half of a worker.
struct WorkerSeat {
    UniqueFd event_fd;  ///< wakes the worker
    bool alive = false;
    bool ready_once = false;
    std::uint32_t incarnation = 0;
    std::uint64_t committed_bytes =
        0;  ///< of its arena, taken over from incarnation to incarnation
    LaneReader outbox;
    LaneWriter inbox;
    std::deque<std::uint64_t> inbox_overflow;  ///< what did not fit; never dropped
};

class Pool {
  public:
    /// Makes memory and descriptors; no worker yet. 0 or -errno with the reason in @ret_text.
    static int create(PoolConfig config, std::unique_ptr<Pool> &ret_pool, std::string &ret_text);
    ~Pool();
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;

    // What the application does (pool.cpp, pool_submit.cpp, pool_collect.cpp).
    int fd() const { return app_fd_.get(); }
    int dispatch();
    int wait(std::uint64_t timeout_ns);
    int function(std::string_view name, std::uint32_t &ret_function);
    std::int64_t submit(const aiomq_task *tasks, std::size_t count, std::uint64_t *ret_ids);
    int allocate(std::uint64_t bytes, void **ret_payload);
    int free_payload(void *payload);
    std::int64_t collect(aiomq_completion *completions, std::size_t count);
    int release(std::uint64_t loan);
    int cancel(std::uint64_t task_id);
    int close();
    int join(std::uint64_t timeout_ns);
    int state(std::string &ret_text);
    /// True in a child of the process that created the pool.
    bool forked() const { return *fork_guard_ == 0; }

    // For supervisor and recovery. The mutex is released through unlock(), which also takes in what
    // was released meanwhile.
    class Lock {
      public:
        explicit Lock(Pool &pool) : pool_(pool) { pool_.mutex_.lock(); }
        ~Lock() { pool_.unlock(); }
        Lock(const Lock &) = delete;
        Lock &operator=(const Lock &) = delete;

      private:
        Pool &pool_;
    };

    Segment &segment() { return *segment_; }
    const PoolConfig &config() const { return config_; }
    WorkerSeat &seat(std::uint32_t worker) { return seats_[worker]; }
    TaskRecord &task(std::uint32_t slot) { return tasks_[slot]; }
    std::uint32_t slot_count() const { return segment_->layout().slots; }
    std::uint32_t worker_count() const { return segment_->layout().workers; }
    PoolCounters &counters() { return segment_->header().statistics.counters; }
    int supervisor_fd() const { return supervisor_fd_.get(); }
    int audit_fd() const { return audit_fd_.get(); }
    int dispatcher_pidfd() const { return own_pidfd_.get(); }

    PoolState locked_state() const { return state_; }
    const std::string &locked_state_text() const { return state_text_; }
    void locked_set_state(PoolState state, const std::string &text = {});
    bool locked_closing() const { return closing_; }
    bool locked_terminating() const { return terminating_; }
    void locked_terminate() { closing_ = terminating_ = true; }
    std::uint32_t locked_in_use() const { return in_use_; }
    /// Blocks of worker's arena that loans still name: what a successor must respect.
    std::vector<BlockRange> locked_loaned_blocks(std::uint32_t worker) const;
    /// Puts worker's lanes into their initial state; the worker must not run.
    void locked_reset_lanes(std::uint32_t worker);
    /// Copies @blocks to the request arena for a worker about to be spawned.
    int locked_write_takeover(std::uint32_t worker, const std::vector<BlockRange> &blocks);
    void locked_release_takeover(std::uint32_t worker);

    /// Delivers the items of a slot that worker has finished, and frees the slot when none is left.
    void locked_deliver_done(std::uint32_t slot);
    /// Delivers items [first, end) that were not delivered yet with the same outcome.
    void locked_deliver_same(std::uint32_t slot, std::uint32_t first, std::uint32_t end,
                             int outcome, const ErrorText *error, std::uint32_t worker);
    /// Delivers what is published of a slot whose worker is gone; then the caller deals with the rest.
    void locked_deliver_published(std::uint32_t slot, std::uint32_t worker);
    /// True if item was delivered already.
    static bool is_delivered(const TaskRecord &task, std::uint32_t item) {
        return task.delivered != nullptr && (*task.delivered)[item];
    }
    void locked_free_slot(std::uint32_t slot);
    /// Tells a submit that was refused of room, if there was one; after slots or memory became free.
    void locked_room();
    void locked_push_hint(std::uint32_t slot, std::uint32_t queue);
    /// Empties the rings and hints every READY slot again, in submit order.
    void locked_rehint();
    void locked_wake_everyone();
    bool locked_wake_sleepers_with_hints();
    void locked_event(EventKind kind, std::uint32_t worker, std::int32_t pid, std::int32_t status,
                      std::string text);
    void locked_corrupt(const std::string &what);
    void wake_application();
    void wake_supervisor() { sys::event_signal(supervisor_fd_.get()); }

  private:
    explicit Pool(PoolConfig config);
    int open(std::string &ret_text);
    void unlock();

    int check_task(const aiomq_task &task) const;
    int locked_submit(const aiomq_task &task, std::uint64_t now_ns, std::uint64_t *ret_id);
    int locked_refusal() const;
    void locked_wake_workers(std::uint64_t tasks);
    void locked_post(std::uint32_t worker, Message message);
    void locked_flush_inboxes();
    void locked_drain_releases();
    void locked_release(std::uint64_t loan);
    bool locked_has_completions() const;
    bool locked_finished() const;
    void locked_drain_lanes();
    int locked_flags();
    void locked_maybe_leave();
    void run_log();

    bool locked_take_message(std::uint32_t worker, std::uint64_t cell, aiomq_completion &ret);
    bool locked_take_done(std::uint32_t slot, aiomq_completion &ret);
    bool locked_take_one(std::uint32_t slot, SlotWord word, aiomq_completion &ret);
    enum class Claimer { kWorking, kDone, kDead };
    bool locked_take_many(std::uint32_t slot, std::uint32_t worker, Claimer claimer,
                          aiomq_completion &ret);
    bool locked_read_outcome(std::uint32_t worker, const ItemOutcome &outcome,
                             aiomq_item &ret_item);
    bool locked_loan_chunk_blocks(std::uint32_t worker, std::uint64_t block, std::uint64_t bytes,
                                  Loan &loan);
    void locked_rescan(std::uint32_t worker);
    void locked_begin_completion(std::uint32_t slot, std::uint32_t worker, aiomq_completion &ret);
    void locked_count(const aiomq_item &item);
    std::uint64_t locked_new_loan(Loan *&ret_loan);
    void locked_set_items(aiomq_completion &completion, std::uint64_t loan_id);

    PoolConfig config_;
    std::unique_ptr<Segment> segment_;
    UniqueFd app_fd_;
    UniqueFd supervisor_fd_;
    UniqueFd audit_fd_;
    UniqueFd own_pidfd_;
    unsigned char *fork_guard_ = nullptr;

    std::mutex mutex_;
    std::vector<Ring> rings_;
    std::vector<WorkerSeat> seats_;
    std::vector<TaskRecord> tasks_;
    std::vector<std::uint32_t> free_slots_;
    std::uint32_t in_use_ = 0;
    std::uint64_t next_serial_ = 1;
    Arena requests_;
    std::unordered_set<std::uint64_t> handed_out_;  ///< from allocate(), not submitted yet
    std::unordered_map<std::string, std::uint32_t> functions_;
    std::uint32_t functions_committed_ = 0;
    std::deque<aiomq_completion> pending_;
    std::deque<Loan> loans_;
    std::vector<std::uint32_t> free_loans_;
    std::uint32_t next_worker_ = 0;  ///< where collect() goes on, so that no lane starves

    PoolState state_ = AIOMQ_POOL_STARTING;
    std::string state_text_;
    bool state_changed_ = false;
    bool closing_ = false;
    bool terminating_ = false;
    bool want_room_ = false;  ///< a submit was refused
    bool room_ = false;       ///< there is room again, not told yet
    bool armed_ = true;       ///< the application may be blocked on the fd
    bool token_due_ = false;  ///< the fd may be readable without a reason
    bool audit_armed_ = false;
    bool overflow_ = false;  ///< some inbox_overflow is not empty
    SpinBudget spin_{0, 0, 0};

    /// Releases from any thread, finalizers too: they must not wait for the mutex.
    boost::lockfree::queue<std::uint64_t, boost::lockfree::capacity<4096>> releases_;
    /// Events for the log callback, which only dispatch calls.
    boost::lockfree::spsc_queue<aiomq_event, boost::lockfree::capacity<256>> log_;
    std::mutex log_mutex_;  ///< one reader of log_ at a time
    std::uint64_t log_dropped_ = 0;
};

/// Splits a task id: the slot is its low 20 bits, the rest is a serial number.
inline constexpr std::uint32_t kTaskSlotBits = 20;
constexpr std::uint32_t slot_of(std::uint64_t task_id) {
    return static_cast<std::uint32_t>(task_id & ((1U << kTaskSlotBits) - 1));
}

}  // namespace aiomq
