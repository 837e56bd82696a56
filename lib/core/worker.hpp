// Worker: a spawned process's side of the pool: open, claim, start, complete, sleep.
//
// Thread safety: none; one thread at a time, as asyncio and libevent loops are. The watchdog thread
// touches nothing but the descriptor that says whether the dispatcher lives.
// Crash windows: see slots.hpp; this file keeps the order that they rely on: outcome block named in the
// slot before `next` advances, data linked before its outcome, outcome before DONE, DONE before hint.
#pragma once

#include <aiomq/aiomq.h>
#include <poll.h>

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "arena.hpp"
#include "lane.hpp"
#include "message.hpp"
#include "ring.hpp"
#include "segment.hpp"
#include "slots.hpp"
#include "wait.hpp"

namespace aiomq {

/// Descriptors of a worker, fixed numbers in the new process.
namespace inherited {
inline constexpr int kMemory = 3;
inline constexpr int kOwnEvent = 4;
inline constexpr int kApplicationEvent = 5;
inline constexpr int kSupervisorEvent = 6;
inline constexpr int kDispatcher = 7;  ///< readable once it has ended
inline constexpr int kStderr = 8;      ///< the dispatcher's, put in place by ready()
inline constexpr int kCount = 9;
inline constexpr int kExtraBase = AIOMQ_EXTRA_FD_BASE;
}  // namespace inherited

/// "AIOMQ_WORKER=<index>.<incarnation>" tells a program that it was started by a pool.
inline constexpr const char *kWorkerVariable = "AIOMQ_WORKER";
inline constexpr const char *kIndexVariable = "AIOMQ_WORKER_INDEX";

class Worker {
  public:
    static int open(std::unique_ptr<Worker> &ret_worker, std::string &ret_text);
    ~Worker();
    Worker(const Worker &) = delete;
    Worker &operator=(const Worker &) = delete;

    int index() const { return static_cast<int>(index_); }
    /// What the group's options allow; 0: the program's own choice.
    int concurrency() const { return static_cast<int>(segment_->record(index_).concurrency); }
    const char *label() const { return segment_->header().statistics.label; }
    const Segment &segment() const { return *segment_; }
    int fd() const { return event_fd_.get(); }
    bool forked() const { return *fork_guard_ == 0; }

    int ready();
    int abort(const char *text);

    std::int64_t claim(aiomq_job *jobs, std::size_t count);
    /// Takes one task: 1 and its view, which lives as long as the job; 0; or -errno as claim().
    int claim_one(const aiomq_job *&ret_job);
    int start(std::uint32_t job, std::uint32_t &ret_item);
    /// When an item with a timeout started, at the latest; 0: it does not run, or has no timeout.
    std::uint64_t started_ns(std::uint32_t job, std::uint32_t item);
    int allocate(std::uint32_t job, std::uint64_t bytes, void **ret_data);
    int complete(std::uint32_t job, const aiomq_item &item);
    /// complete() and, if the job goes on, start(): UINT32_MAX if nothing has started.
    int next(std::uint32_t job, const aiomq_item &item, std::uint32_t &ret_item);
    int fail(std::uint32_t job, std::uint32_t item, const ErrorText &error);
    /// Says what the thread runs now; @job UINT32_MAX: the loop.
    int enter(std::uint32_t job, std::uint32_t item);
    /// Says that the loop turns.
    void turn() { area_->turns.store_relaxed(area_->turns.load_relaxed() + 1); }
    int flush();
    int cancelled(std::uint32_t &ret_job);
    /// Finishes what runs and takes no more. Safe in a signal handler.
    int retire();
    int sleep(bool wants_tasks);
    int wake(bool fd_readable);
    int function(std::uint32_t number, const char **ret_name, std::size_t *ret_bytes);
    /// Looks at the queues for the spin budget. True: something is there.
    bool spin();
    const aiomq_job *job_view(std::uint32_t job);
    bool retiring() const { return retiring_.load_relaxed() != 0; }
    // Nested work and loans (worker_nested.cpp).
    int submit(std::uint32_t job, std::uint32_t item, const aiomq_task &task,
               std::string_view function);
    std::int64_t collect(aiomq_completion *completions, std::size_t count);
    int cancel_nested(std::uint64_t user);
    int retain(std::uint32_t job, std::uint64_t &ret_loan);
    int release(std::uint64_t loan);

    /// Items started and not completed.
    std::uint32_t unfinished() const { return running_; }
    /// Of them, those that do not wait for nested tasks.
    std::uint32_t running() const { return running_ - waiting_; }
    /// The libevent loop while run() serves tasks (see run.hpp).
    event_base *loop = nullptr;
    /// What keeps that for which there is no room, likewise.
    class RunLoop *run_loop = nullptr;

  private:
    /// The private half of a claimed slot.
    struct Job {
        std::uint32_t handle = 0;
        std::uint32_t slot = 0;
        SlotWord word;
        bool in_use = false;
        bool many = false;
        bool guarded = false;     ///< some items may not be started, see start_guarded()
        bool cancelled = false;   ///< none of those that are left
        bool nested = false;      ///< another worker waits for it
        bool unreported = false;  ///< finished items that no hint has told of
        std::uint32_t started = 0;
        std::uint32_t finished = 0;
        std::uint32_t base = 0;           ///< first item of this attempt
        std::uint32_t next = 0;           ///< of many: no item from here on has started
        std::uint32_t end = 0;            ///< of many: `outcomes` ends here
        ItemOutcome *outcomes = nullptr;  ///< of many: from `base` on
        std::uint64_t block = 0;          ///< OutcomeBlock, or the result block of one item
        std::uint64_t data = 0;           ///< current DataBlock of many
        std::uint64_t data_used = 0;      ///< bytes of it
        std::uint64_t data_bytes = 0;
        std::uint64_t held = 0;              ///< bytes of all its blocks
        std::vector<std::uint64_t> unnamed;  ///< allocated, not named by an outcome yet
        aiomq_job view{};
    };

    /// A job's handle: its place in `jobs_` is the low 20 bits.
    static constexpr std::uint32_t kJobIndexBits = 20;
    static constexpr std::uint32_t kJobIndexMask = (1U << kJobIndexBits) - 1;

    /// A queue that this worker takes from.
    struct Served {
        std::uint32_t queue;
        Ring ring;
        std::deque<NamedSlot> keyed;  ///< hints for this worker alone
    };

    /// A nested task under way.
    struct Nested {
        std::uint64_t user;
        std::uint32_t job;
        std::uint32_t item;
        std::uint32_t items;
    };
    /// What release() gives back: an answer's block, or a payload.
    struct NestedLoan {
        std::uint64_t block = 0;
        std::uint64_t payload = 0;
        std::vector<aiomq_item> items{};
        std::vector<std::unique_ptr<std::uint64_t[]>> copies{};
    };
    struct Retained {
        std::uint32_t loans = 0;
        bool job_ended = false;  ///< the dispatcher knows of it
    };

    Worker() = default;
    void post(Message message);
    void flush_outbox();
    bool runs(const Job &job, std::uint32_t item);
    void stop_waiting(std::uint32_t job, std::uint32_t item);
    void end_nested(std::uint64_t ticket);
    bool read_answer(std::uint64_t offset, aiomq_completion &ret);
    bool read_refusal(std::uint64_t value, aiomq_completion &ret);
    static void give_error(aiomq_item &item, const ErrorText &error, NestedLoan &loan);
    void give_items(aiomq_completion &ret, NestedLoan loan, bool held);
    void give_back(std::uint64_t block);
    void keep_payload(const Job &job);
    int start_watchdog();
    int open_memory(std::string &ret_text);
    Job *find(std::uint32_t handle);
    [[gnu::always_inline]] inline Job &begin_job(std::uint32_t slot, SlotWord word);
    bool nothing_left(const Job &job);
    bool all_withdrawn(const Job &job);
    bool room_in(Job &job);
    [[gnu::always_inline]] inline int start_next(Job &job, std::uint32_t &ret_item,
                                                 std::uint32_t stamp);
    int start_guarded(Job &job, std::uint32_t &ret_item);
    int start(Job &job, std::uint32_t &ret_item);
    [[gnu::always_inline]] inline int complete(Job &job, const aiomq_item &item);
    static ItemOutcome *outcome_of(const Job &job, std::uint32_t item);
    [[gnu::always_inline]] inline int publish(Job &job, const aiomq_item &item);
    [[gnu::always_inline]] inline int end_item(Job &job);
    int end_unrun(Job &job, std::uint32_t item, std::uint16_t status);
    Result<std::uint64_t> take_block(Job &job, std::uint64_t bytes);
    [[gnu::always_inline]] inline int publish_one(Job &job, const aiomq_item &item);
    [[gnu::always_inline]] inline int publish_of_many(Job &job, const aiomq_item &item);
    int place(Job &job, std::uint64_t bytes, std::uint64_t &ret_offset);
    int finish_job(Job &job);
    void end_job(Job &job);
    void set_current(std::uint64_t current);
    void tell(Notice notice, std::uint32_t slot);
    void settle();
    void wake_application();
    void take_inbox();
    void check_claims();
    void take_hint(NamedSlot hint);
    bool claim_keyed(Served &served, const aiomq_job *&ret_job);
    bool claim_follow_up(const aiomq_job *&ret_job);
    void count_memory();
    void look_at_limits(const Job &job);
    void take_no_more();
    int damaged();
    bool something_there(bool wants_tasks) const;

    std::unique_ptr<Segment> segment_;
    std::uint32_t index_ = 0;
    std::uint32_t incarnation_ = 0;
    WorkerArea *area_ = nullptr;
    UniqueFd event_fd_;
    UniqueFd application_fd_;
    UniqueFd supervisor_fd_;
    UniqueFd dispatcher_fd_;
    UniqueFd stderr_fd_;
    pollfd watched_{};  ///< the watchdog's own
    unsigned long watchdog_ = 0;
    unsigned char *fork_guard_ = nullptr;

    std::vector<Served> served_;  ///< first to last
    LaneWriter outbox_;
    LaneReader inbox_;
    Arena arena_;
    std::vector<std::unique_ptr<Job>> jobs_;
    std::vector<std::uint32_t> free_jobs_;
    std::vector<std::uint32_t> cancelled_;
    std::vector<std::uint32_t> unreported_;
    SpinBudget spin_{0, 0, 0};
    std::uint32_t running_ = 0;
    std::uint32_t waiting_ = 0;  ///< items with nested tasks under way
    std::uint64_t held_ = 0;     ///< bytes of the arena that jobs hold which have not ended
    bool is_ready_ = false;
    bool limits_ = false;               ///< the task claimed last has limits: the next may have
    bool has_limits_ = false;           ///< the group has max_tasks or max_memory_bytes
    Atomic<std::uint32_t> retiring_;    ///< also set by signal handlers
    std::uint64_t completed_ = 0;       ///< items, with limits
    std::uint64_t memory_seen_ns_ = 0;  ///< when private memory was last looked at
    bool untold_ = false;               ///< completions that the dispatcher may sleep through
    bool for_supervisor_ = false;       ///< among them one of a nested task
    bool given_back_ = false;           ///< a kReturn that nobody was woken for
    bool answers_unseen_ = false;
    std::uint64_t next_ticket_ = 1;
    std::uint64_t next_loan_ = 1;
    std::unordered_map<std::uint64_t, Nested> nested_;  ///< by ticket
    std::unordered_map<std::uint64_t, std::uint32_t>
        waiting_items_;            ///< nested tasks by item_key()
    std::deque<Message> answers_;  ///< not collected yet
    std::unordered_map<std::uint64_t, NestedLoan> loans_;
    std::unordered_map<std::uint64_t, Retained> retained_;  ///< by payload block
    std::deque<std::uint64_t> outbox_backlog_;
};

}  // namespace aiomq
