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
#include "config.hpp"
#include "exit_watch.hpp"
#include "lane.hpp"
#include "message.hpp"
#include "ring.hpp"
#include "segment.hpp"
#include "slots.hpp"
#include "wait.hpp"

namespace aiomq {

using PoolState = enum aiomq_pool_state;  // a function has the plain name
using EventKind = enum aiomq_event_kind;

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

/// An item that ran longer than its timeout and the grace after it.
struct Overdue {
    std::uint32_t slot;
    std::uint32_t item;
    std::uint64_t task_id;
};

/// The last item that the claimer of a chunk has started, when a look found no stamp of that.
struct Unstamped {
    std::uint64_t task_id;
    std::uint32_t attempt;
    std::uint32_t item;
    std::uint64_t seen_ns;  ///< the first such look
};

/// How workers ended that were running a task which has retries.
struct Deaths {
    std::uint32_t count = 0;
    std::vector<std::string> exits;  ///< the first of them, in words
};

/// The dispatcher's private half of a slot; one cache line.
struct alignas(kLineBytes) TaskRecord {
    std::uint64_t id = 0;
    std::uint64_t user = 0;
    std::uint64_t payload_offset = 0;  ///< block in the request arena, or 0
    std::uint32_t items = 0;
    std::uint32_t upto = 0;     ///< items from here on have been withdrawn and delivered
    std::uint32_t left = 0;     ///< items not delivered yet
    std::uint32_t flags = 0;    ///< of the request
    std::uint32_t attempt = 1;  ///< as in the request, whose line delivery need not touch
    bool in_use = false;
    bool cancelled = false;
    bool mourned = false;  ///< workers' deaths are counted for it, see Deaths
    bool split = false;    ///< other slots have items of this task too, see SplitTask
    std::uint16_t retries = 0;
    std::uint8_t queue = 0;  ///< the slot's word says it too, but workers can write that
    std::unique_ptr<std::vector<bool>> delivered;  ///< per item, once some were delivered early
};

static_assert(sizeof(TaskRecord) == kLineBytes);

/// A task whose items are spread over several slots; they share its id and its payload.
struct SplitTask {
    std::vector<std::uint32_t> slots;
    std::uint64_t payload_offset = 0;  ///< goes back with the last slot
};

/// High bits of TaskRecord.flags.
namespace task_relation {
inline constexpr std::uint32_t kOwned = 1U << 30;   ///< a worker's nested task: see NestedTask
inline constexpr std::uint32_t kParent = 1U << 31;  ///< it has, or had, nested tasks
}  // namespace task_relation

/// The slot whose item asked for a nested task. Another generation: it has ended.
struct ParentSlot {
    std::uint32_t slot = UINT32_MAX;
    std::uint32_t generation = 0;
};
struct NestedCount {
    std::uint32_t generation = 0;
    std::uint32_t tasks = 0;
};

/// What the dispatcher knows of a nested task.
struct NestedTask {
    std::uint32_t owner = AIOMQ_NO_WORKER;  ///< no worker: it has died
    std::uint64_t ticket = 0;
    ParentSlot parent;
    std::uint64_t answer_block = 0;         ///< kept, so that its last answer needs no memory
    std::vector<aiomq_completion> parts{};  ///< that no answer has told yet
};

/// A nested task without a slot; name and payload wait in its owner's arena.
struct WaitingRequest {
    std::uint32_t owner;
    std::uint64_t offset;
    ParentSlot parent;
    NestedRequest request;  ///< a checked copy
};

/// An answer that its owner has not given back.
struct GivenAnswer {
    std::uint32_t owner;
    std::vector<std::uint64_t> loans;
};

/// The dispatcher's private half of a worker.
struct WorkerSeat {
    UniqueFd event_fd;  ///< wakes the worker
    bool alive = false;
    bool ready_once = false;
    bool avoided = false;  ///< starts fail: keyed tasks go elsewhere
    std::uint32_t incarnation = 0;
    std::uint64_t committed_bytes =
        0;  ///< of its arena, taken over from incarnation to incarnation
    LaneReader outbox;
    LaneWriter inbox;
    std::deque<std::uint64_t> inbox_overflow;  ///< what did not fit; never dropped
    std::vector<Overdue> overdue;              ///< not empty: it is to be killed for these
    std::unordered_map<std::uint64_t, std::uint64_t> nested;  ///< task ids by ticket
    /// Payloads of ended jobs that it still reads; how many returns of each are to come.
    std::unordered_map<std::uint64_t, std::uint32_t> retained;
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
    int in_use(const void *payload);
    std::int64_t collect(aiomq_completion *completions, std::size_t count);
    int release(std::uint64_t loan);
    int cancel(std::uint64_t task_id);
    int close(std::uint32_t flags);
    int queue(std::string_view name, std::uint32_t &ret_queue) const;
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
    int watch_fd() const { return watch_fd_.get(); }
    int limits_fd() const { return limits_fd_.get(); }
    int own_exit_fd() const { return own_exit_.fd(); }

    PoolState locked_state() const { return state_; }
    const std::string &locked_state_text() const { return state_text_; }
    void locked_set_state(PoolState state, const std::string &text = {});
    bool locked_closing() const { return closing_; }
    bool locked_terminating() const { return terminating_; }
    /// Takes no more tasks; with AIOMQ_CLOSE_DISCARD what has not started gets POOL_CLOSED. @why: a line.
    void locked_close(std::uint32_t flags, const std::string &why);
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
    /// Takes what workers have told, as if the application had asked, and wakes it if there is something.
    void locked_drain_lanes();
    /// Cancels what a dead worker had asked for and frees what it held.
    void locked_forget_worker(std::uint32_t worker);
    /// Gives items that have not started in busy workers to idle ones, when these have nothing else.
    void locked_split();
    bool locked_withdraw(std::uint32_t slot, int outcome, const ErrorText *error,
                         std::uint32_t from = 0);

    // Limits of time and what an attempt leaves to the next (pool_limits.cpp).
    /// Expires what is late. Returns the workers that are to be killed for what their seats name.
    std::vector<std::uint32_t> locked_look_at_limits();
    /// Has the supervisor look at the limits at @time_ns or before.
    void locked_look_by(std::uint64_t time_ns);
    bool locked_has_limits() const { return limited_ != 0; }
    /// The item that worker is to be killed for; empty: what was overdue has ended meanwhile.
    std::optional<Overdue> locked_culprit(std::uint32_t worker);
    /// The item that a worker's thread says it runs, if the worker has it.
    std::optional<Overdue> locked_current(std::uint32_t worker);
    /// 'item 3 of "module:function"'.
    std::string locked_item_name(const Overdue &item);
    /// Of a task of many items with retries, else null.
    AttemptBlock *locked_attempt_block(std::uint32_t slot);
    Deaths &locked_deaths(std::uint32_t slot) {
        tasks_[slot].mourned = true;
        return deaths_[slot];
    }
    void locked_forget_deaths(std::uint32_t slot) {
        tasks_[slot].mourned = false;
        deaths_.erase(slot);
    }
    /// Tells a submit that was refused of room, if there was one; after slots or memory became free.
    void locked_room();
    /// The caller ends its batch with locked_publish_hints().
    void locked_push_hint(std::uint32_t slot, std::uint32_t queue) {
        const RingStatus status = rings_[queue].put(slot);
        if (status == RingStatus::kOk) [[likely]]
            ++pushed_[queue];
        else
            locked_not_put(queue, status);
    }
    void locked_publish_hints();
    /// What was taken back of a slot is READY again; a plain task's hint comes with locked_rehint().
    void locked_make_ready(std::uint32_t slot, ItemRange range);
    /// Tells a worker about to be spawned of the keyed tasks that wait for it.
    void locked_hint_keyed(std::uint32_t worker);
    /// A place can't be filled for now, or is filled again: its keys go to others, or come back.
    void locked_avoid(std::uint32_t worker, bool avoid);
    /// Empties the rings and hints every READY slot again, in submit order, but for keyed tasks.
    void locked_rehint();
    void locked_wake_everyone();
    /// Moves messages that wait for room in workers' inboxes, as far as there is some.
    void locked_flush_inboxes();
    bool locked_wake_sleepers_with_hints();
    /// Arms watch_fd(), which is readable half of blocked_after_ns later; see LoopWatch.
    void locked_arm_watch();
    void locked_watch_ended() { watch_armed_ = false; }
    /// The application found nothing. When the last look saw every task done, it is to look again: a
    /// hint among those that were left may have been lost.
    void locked_watch_what_is_left() {
        if (in_use_ > 0 && !watch_armed_) locked_arm_watch();
    }
    /// No hint tells of what worker has completed; or it is about to put one.
    bool locked_completion_is_lost(std::uint32_t worker) const {
        return seats_[worker].outbox.empty() && segment_->area(worker).rescan.load_seq() == 0;
    }
    /// Makes the fd readable if there is something to collect or the pool is over, whatever the
    /// application announced: that word can be scribbled on.
    void locked_nudge_application();
    /// Asks the worker whether it knows of every slot that says it is claimed by it.
    void locked_ask(std::uint32_t worker) { locked_post(worker, {Notice::kAsk, 0}); }
    void locked_event(EventKind kind, std::uint32_t worker, std::int32_t pid, std::int32_t status,
                      std::string text);
    void locked_corrupt(const std::string &what);
    void wake_application();
    void locked_wake_application_anyway();
    void wake_supervisor() { sys::event_signal(supervisor_fd_.get()); }

  private:
    explicit Pool(PoolConfig config);
    int open(std::string &ret_text);
    void unlock();

    void locked_cancel(std::uint32_t slot);
    bool locked_divisible(std::uint32_t slot) const;
    bool locked_unstarted(std::uint32_t slot, std::uint32_t queue, std::uint32_t &ret_items) const;
    bool locked_split_slot(std::uint32_t slot);
    void locked_leave_split(TaskRecord &task, std::uint32_t slot);
    std::uint32_t locked_items_left(const TaskRecord &task) const;
    void locked_arm_audit();
    int check_task(const aiomq_task &task) const;
    /// @nested: 0, or request_flag::kNested, which may use the reserved slots.
    int locked_submit(const aiomq_task &task, std::uint64_t now_ns, std::uint64_t *ret_id,
                      std::uint16_t nested = 0);
    void locked_count_requests();
    int locked_function(std::string_view name, std::uint32_t &ret_function);
    bool locked_cancel_task(std::uint64_t task_id);
    int locked_take_memory(const aiomq_task &task, Request &request, std::uint64_t &ret_block);
    void locked_not_put(std::uint32_t queue, RingStatus status);
    int locked_take_attempt_block(Request &request, std::uint32_t items);
    void locked_drop_attempt_block(Request &request);
    void locked_forget_attempts(std::uint32_t slot);
    void locked_limit(std::uint32_t slot, const aiomq_task &task);
    std::uint64_t locked_look_at(std::uint32_t slot, std::uint64_t now_ns,
                                 std::vector<std::uint32_t> &stuck);
    std::uint64_t locked_look_at_running(std::uint32_t slot, std::uint64_t now_ns,
                                         std::vector<std::uint32_t> &stuck);
    std::uint64_t locked_started_ns(std::uint32_t slot, std::uint32_t item);
    std::uint64_t locked_unstamped_ns(std::uint32_t slot, std::uint32_t item);
    bool locked_expire(std::uint32_t slot);
    int locked_refusal() const;
    void enrol(std::uint32_t worker);
    std::uint32_t locked_worker_of(std::uint64_t key, std::uint32_t queue) const;
    void locked_keep_key(std::uint32_t slot, std::uint64_t key);
    void locked_make_keyed_ready(std::uint32_t slot, ItemRange range);
    void locked_post_hint(std::uint32_t slot);
    std::vector<std::uint32_t> locked_waiting_keyed() const;
    void locked_wake_workers(std::uint32_t queue, std::uint64_t tasks);
    void locked_post(std::uint32_t worker, Message message);
    void locked_flush_inbox(std::uint32_t worker);
    void locked_drain_releases();
    void locked_release(std::uint64_t loan);
    bool locked_has_completions() const;
    bool locked_finished() const;
    int locked_flags();
    void locked_maybe_leave();
    void run_log();

    // Nested work and payloads that workers keep (pool_nested.cpp).
    void locked_take_nested(std::uint32_t worker, Message message);
    void locked_take_request(std::uint32_t worker, std::uint64_t offset);
    void locked_take_return(std::uint32_t worker, std::uint64_t offset);
    void locked_cancel_nested(std::uint32_t worker, std::uint64_t ticket);
    int locked_submit_nested(const WaitingRequest &waiting);
    void locked_retry_nested();
    void locked_announce_waiting();
    void locked_end_request(const WaitingRequest &waiting, int error);
    void locked_refuse_nested();
    bool locked_end_nested();
    bool locked_nested_left();
    void locked_lane_read(std::uint32_t worker);
    void locked_leave_parent(ParentSlot parent);
    /// True: @completion is for the worker that asked for the task, and was dealt with.
    bool locked_answered(std::uint32_t slot, const aiomq_completion &completion) {
        if ((tasks_[slot].flags & task_relation::kOwned) == 0) return false;
        locked_answer(slot, completion);
        return true;
    }
    void locked_answer(std::uint32_t slot, const aiomq_completion &completion);
    void locked_write_answer(std::uint64_t block, const NestedTask &nested);
    void locked_keep_payload(std::uint32_t slot, SlotWord word);
    void locked_share_payload(std::uint64_t block);
    void locked_free_payload(std::uint64_t block);
    void locked_forget_relations(std::uint32_t slot);

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
    UniqueFd watch_fd_;
    UniqueFd limits_fd_;
    ExitWatch own_exit_;
    unsigned char *fork_guard_ = nullptr;

    std::mutex mutex_;
    std::vector<Ring> rings_;
    std::vector<std::uint32_t> pushed_;                ///< per queue: hints not published yet
    std::vector<std::vector<std::uint64_t>> serving_;  ///< per queue: bits of workers that serve it
    std::vector<WorkerSeat> seats_;
    std::vector<TaskRecord> tasks_;
    std::vector<std::uint64_t> keys_;  ///< by slot; empty until the first keyed task
    std::vector<std::uint32_t> free_slots_;
    std::uint32_t in_use_ = 0;
    /// The application leaves so many slots alone: the reserve, or all while nested work waits for room.
    std::size_t kept_free_ = 0;
    std::uint64_t next_serial_ = 1;
    std::uint64_t now_ns_ = 0;   ///< exact time, once it was asked for, until the mutex is released
    std::uint32_t limited_ = 0;  ///< tasks with limits of time
    std::unordered_map<std::uint32_t, Unstamped> unstamped_;  ///< by slot; maybe of an earlier task
    std::uint64_t look_at_ = UINT64_MAX;  ///< when limits_fd_ fires; UINT64_MAX: never
    std::unordered_map<std::uint32_t, Deaths> deaths_;  ///< by slot
    Arena requests_;
    std::unordered_set<std::uint64_t> handed_out_;  ///< from allocate(), not submitted yet
    std::unordered_map<std::string, std::uint32_t> functions_;
    std::uint32_t functions_committed_ = 0;
    std::unordered_map<std::uint64_t, SplitTask> splits_;  ///< by task id
    std::uint32_t chunks_ = 0;                             ///< slots in use with many items
    std::deque<WaitingRequest> nested_waiting_;
    std::unordered_map<std::uint64_t, NestedTask> nested_;    ///< by task id
    std::unordered_map<std::uint32_t, NestedCount> parents_;  ///< by slot
    std::unordered_map<std::uint64_t, GivenAnswer> answers_;  ///< by block
    /// By block: how many have it, of its tasks, workers that keep it, and the application. The others
    /// are had by one task.
    std::unordered_map<std::uint64_t, std::uint32_t> shared_;
    std::deque<aiomq_completion> pending_;
    std::deque<Loan> loans_;
    std::vector<std::uint32_t> free_loans_;
    std::uint32_t next_worker_ = 0;  ///< where collect() goes on, so that no lane starves

    PoolState state_ = AIOMQ_POOL_STARTING;
    std::string state_text_;
    bool state_changed_ = false;
    bool closing_ = false;
    bool terminating_ = false;
    bool discarding_ = false;    ///< closed with AIOMQ_CLOSE_DISCARD
    bool nested_moved_ = false;  ///< lanes had more than completions for the application
    bool want_room_ = false;     ///< a submit was refused
    bool freed_ = false;         ///< a slot became free since collect last looked
    bool room_ = false;          ///< there is room again, not told yet
    bool armed_ = true;          ///< the application may be blocked on the fd
    bool token_due_ = false;     ///< the fd may be readable without a reason
    bool audit_armed_ = false;
    bool watch_armed_ = false;
    bool overflow_ = false;     ///< some inbox_overflow is not empty
    SpinBudget spin_{0, 0, 0};  ///< of who holds spin_mutex_
    std::mutex spin_mutex_;

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
