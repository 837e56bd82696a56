// Runner: the item loop. Starts items of a job, runs each to its end or first suspension, publishes.
//
// Why in C++: one Python call per item would cost as much as everything done here. Python sees only items
// that suspend (on_suspend) and items that fail (on_trouble). The GIL is held throughout; nothing blocks.
// Order within an item: enter_task, enter context, call, first step, leave context, leave_task, publish.
// No item starts while another is between enter and leave, nor while an exception is being handled.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "aiomq/aiomq.h"
#include "arguments.hpp"
#include "functions.hpp"
#include "item.hpp"
#include "ledger.hpp"
#include "python.hpp"

namespace aiomq::py {

/// What the Runner needs of the worker process. Strong references.
struct RunnerHooks {
    Ref loop;
    Ref item_class;    // item_class(loop) makes an item
    Ref enter_task;    // enter_task(loop, item)
    Ref leave_task;    // leave_task(loop, item)
    Ref on_suspend;    // on_suspend(item, job, index, yielded)
    Ref on_trouble;    // on_trouble(job, index, exception)
    Ref base_context;  // copied for each item
};

class Runner {
  public:
    /// Why run() came back; negative: an errno.
    enum Reason { kOver = 0, kAllStarted = 1, kPermitsUsed = 2, kDeadline = 3 };

    struct Job {
        std::uint32_t number;
        std::uint32_t function_number;
        PyObject *function;    // borrowed
        Arguments *arguments;  // borrowed
        std::uint32_t first_index;
        bool plain;   // calling the function is known to make no coroutine
        bool timed;   // note when each item starts
        bool shared;  // plain calls share a context
    };

    struct Result {
        int reason;
        std::uint32_t suspended;
    };

    Runner(aiomq_worker *worker, RunnerHooks hooks, FunctionTable table)
        : worker_(worker), table_(table), hooks_(std::move(hooks)) {}

    /// False with an exception set.
    bool init() { return slots_.init(hooks_.item_class.get()); }
    /// False with an exception set: a hook raised.
    bool run(const Job &job, std::uint32_t permits, std::uint64_t deadline_ns, Result &ret);

    /// Says which item runs in this worker now; @job UINT32_MAX: none.
    int enter_item(std::uint32_t job, std::uint32_t index) {
        return aiomq_worker_enter(worker_, job, index);
    }
    /// Counts an item that had suspended and has ended now.
    void count_ended(std::uint32_t function, std::uint64_t started_ns, std::uint64_t busy_ns,
                     bool raised) const;
    /// CLOCK_MONOTONIC at the start of the newest item of a timed job.
    std::uint64_t started_ns() const { return started_ns_; }
    /// CLOCK_MONOTONIC at the last look at the clock before the newest item.
    std::uint64_t looked_ns() const { return looked_ns_; }
    /// Index of the item that was started last.
    std::uint32_t index() const { return index_; }

    RunnerHooks &hooks() { return hooks_; }
    PyObject *spare() const { return spare_.get(); }
    PyObject *shared_context() const { return shared_context_.get(); }
    /// Drops everything, to break reference cycles.
    void clear();

  private:
    /// How an item's first step ended, or what became of the item.
    enum class End { kReturned, kRaised, kSuspended, kBroken };
    struct Step {
        End end;
        Ref value;  // result, exception, what was yielded
    };
    struct Waiting {
        std::uint32_t index;
        std::uint16_t status;
        Ref value;
    };

    bool loop(const Job &job, JobAccount &account, std::uint32_t permits, std::uint64_t deadline_ns,
              Result &ret);
    bool run_item(const Job &job, std::uint32_t index, Result &ret);
    bool run_plain(const Job &job, std::uint32_t index, CallArguments &call, Result &ret);
    bool run_task(const Job &job, std::uint32_t index, CallArguments &call, Result &ret);
    bool run_awaitable(const Job &job, std::uint32_t index, Ref context, Ref awaitable,
                       Result &ret);
    Step first_step(PyObject *item, Ref result);
    bool settle(const Job &job, std::uint32_t index, Ref item, Step step, Result &ret);
    bool suspend(const Job &job, std::uint32_t index, Ref item, const Ref &yielded, Result &ret);
    bool retire(Ref item, bool touched, int status, PyObject *value);
    bool finish(const Job &job, std::uint32_t index, std::uint16_t status, Ref value, Result &ret);
    bool trouble(const Job &job, std::uint32_t index, Ref exception);
    bool publish_waiting(const Job &job, Result &ret);
    Ref take_item();
    bool enter(PyObject *item);
    bool leave(PyObject *item);
    Ref copy_context() const;
    bool run_in_shared_context(const Job &job, JobAccount &account, std::uint32_t permits,
                               std::uint64_t deadline_ns, Result &ret);

    aiomq_worker *worker_;
    FunctionTable table_;
    RunnerHooks hooks_;
    ItemSlots slots_;
    Ref shared_context_;  // of plain calls that are not isolated, once there was one
    Ref spare_;           // an item that nobody kept, to be used again
    // Outcomes that found no room, by job; run() of that job publishes them first.
    std::unordered_map<std::uint32_t, std::vector<Waiting>> waiting_;
    std::uint64_t started_ns_ = 0;
    std::uint64_t looked_ns_ = 0;
    std::uint32_t index_ = 0;
    bool active_ = false;
};

}  // namespace aiomq::py
