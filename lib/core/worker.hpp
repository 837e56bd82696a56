// Worker: a spawned process's side of the pool: open, claim, start, complete, sleep.
//
// Thread safety: none; one thread at a time, as asyncio and libevent loops are. The watchdog thread
// touches nothing but the dispatcher's pidfd.
// Crash windows: see slots.hpp; this file keeps the order that they rely on: outcome block named in the
// slot before `next` advances, data linked before its outcome, outcome before DONE, DONE before hint.
#pragma once

#include <aiomq/aiomq.h>

#include <memory>
#include <string>
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
inline constexpr int kDispatcherPidfd = 7;
inline constexpr int kStderr = 8;  ///< the dispatcher's, put in place by ready()
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
    const char *label() const { return segment_->header().statistics.label; }
    int fd() const { return event_fd_.get(); }
    bool forked() const { return *fork_guard_ == 0; }

    int ready();
    int abort(const char *text);

    std::int64_t claim(aiomq_job *jobs, std::size_t count);
    /// Takes one task: 1 and its view, which lives as long as the job; 0; or -errno as claim().
    int claim_one(const aiomq_job *&ret_job);
    int start(std::uint32_t job, std::uint32_t &ret_item);
    int allocate(std::uint32_t job, std::uint64_t bytes, void **ret_data);
    int complete(std::uint32_t job, const aiomq_item &item);
    int fail(std::uint32_t job, std::uint32_t item, const ErrorText &error);
    int flush();
    int cancelled(std::uint32_t &ret_job);
    int sleep(bool wants_tasks);
    int wake(bool fd_readable);
    int function(std::uint32_t number, const char **ret_name, std::size_t *ret_bytes);
    /// Looks at the queues for the spin budget. True: something is there.
    bool spin();
    const aiomq_job *job_view(std::uint32_t job);
    /// Items started and not completed.
    std::uint32_t running() const { return running_; }
    /// The libevent loop while run() serves tasks (see run.hpp).
    event_base *loop = nullptr;

  private:
    /// The private half of a claimed slot.
    struct Job {
        std::uint32_t handle = 0;
        std::uint32_t slot = 0;
        SlotWord word;
        bool in_use = false;
        bool many = false;
        bool unreported = false;  ///< finished items that no hint has told of
        std::uint32_t started = 0;
        std::uint32_t finished = 0;
        std::uint64_t block = 0;      ///< OutcomeBlock, or the result block of one item
        std::uint64_t data = 0;       ///< current DataBlock of many
        std::uint64_t data_used = 0;  ///< bytes of it
        std::uint64_t data_bytes = 0;
        std::uint64_t held = 0;              ///< bytes of all its blocks
        std::vector<std::uint64_t> unnamed;  ///< allocated, not named by an outcome yet
        aiomq_job view{};
    };

    Worker() = default;
    int start_watchdog();
    int open_memory(std::string &ret_text);
    Job *find(std::uint32_t handle);
    Job &begin_job(std::uint32_t slot, SlotWord word);
    bool all_withdrawn(const Job &job);
    bool room_in(Job &job);
    Result<std::uint64_t> take_block(Job &job, std::uint64_t bytes);
    int publish_one(Job &job, const aiomq_item &item);
    int publish_of_many(Job &job, const aiomq_item &item);
    int place(Job &job, std::uint64_t bytes, std::uint64_t &ret_offset);
    int finish_job(Job &job);
    void end_job(Job &job);
    void tell(Notice notice, std::uint32_t slot);
    void settle();
    void wake_application();
    void take_inbox();
    void count_memory();
    int damaged();
    bool something_there(bool wants_tasks) const;

    std::unique_ptr<Segment> segment_;
    std::uint32_t index_ = 0;
    std::uint32_t incarnation_ = 0;
    WorkerArea *area_ = nullptr;
    UniqueFd event_fd_;
    UniqueFd application_fd_;
    UniqueFd supervisor_fd_;
    UniqueFd dispatcher_pidfd_;
    UniqueFd stderr_fd_;
    UniqueFd watchdog_stop_;
    unsigned long watchdog_ = 0;
    unsigned char *fork_guard_ = nullptr;

    std::vector<Ring> rings_;
    LaneWriter outbox_;
    LaneReader inbox_;
    Arena arena_;
    std::vector<std::unique_ptr<Job>> jobs_;
    std::vector<std::uint32_t> free_jobs_;
    std::vector<std::uint32_t> cancelled_;
    std::vector<std::uint32_t> unreported_;
    SpinBudget spin_{0, 0, 0};
    std::uint32_t running_ = 0;
    std::uint64_t held_ = 0;  ///< bytes of the arena that jobs hold which have not ended
    bool is_ready_ = false;
    bool untold_ = false;  ///< completions that the dispatcher may sleep through
};

}  // namespace aiomq
