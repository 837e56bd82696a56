// Runner: the item loop. Starts items of a job, drives each to its end, publishes its outcome.
//
// Why in C++: one Python call per item, or per step of one, would cost as much as everything done here.
// Python sees only items with a timeout and what fails. The GIL is held throughout; nothing blocks.
// Order within a step: enter_task, enter context, call, leave context, leave_task, publish. Plain calls that
// are isolated may stay in their context till after the next one: see ItemContext. No step of a task runs
// inside another's, nor while an exception is being handled.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "aiomq/aiomq.h"
#include "arguments.hpp"
#include "functions.hpp"
#include "item.hpp"
#include "item_context.hpp"
#include "parameters.hpp"
#include "python.hpp"
#include "suspended.hpp"

namespace aiomq::py {

/// What the Runner needs of the worker process. Strong references; see `_bridge.Runner`.
struct RunnerHooks {
    Ref loop;
    Ref item_class;
    Ref enter_task;
    Ref leave_task;
    Ref register_task;
    Ref report;
    Ref on_suspend;
    Ref on_end;
    Ref on_free;
    Ref on_over;
    Ref on_failure;
    Ref base_context;
};

/// A job whose items have started. When aiomq_worker_start() has no item left, the job is over exactly
/// if nothing of it runs any more, which the C ABI does not say.
struct Account {
    std::uint32_t job = 0;
    std::uint32_t function = 0;
    std::uint32_t running = 0;  ///< items without an outcome
    bool timed = false;         ///< its items have a timeout
    bool over = false;          ///< the last item has its outcome: the handle is invalid
    Suspended *suspended = nullptr;
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
        bool timed;   // items have a timeout
        bool shared;  // plain calls share a context
    };

    struct Result {
        int reason;
        std::uint32_t suspended;
    };

    /// @self: the Python object around it, which holds it.
    Runner(PyObject *self, aiomq_worker *worker, RunnerHooks hooks, FunctionTable table)
        : self_(self), worker_(worker), table_(table), hooks_(std::move(hooks)) {}

    // --- below, false: an exception is set, which no item has raised ---

    bool init();
    bool run(const Job &job, std::uint32_t permits, std::uint64_t deadline_ns, Result &ret);
    /// Goes on with the items that had just let others run, when the loop calls for the oldest batch.
    bool resume();
    /// What @suspended awaited is done.
    bool wake(Suspended &suspended, PyObject *future);
    /// Runs @body, which is one of the two above: called by the loop, which would only log what went wrong
    /// and lose items. So the owner is told. New reference or NULL.
    template <class Body>
    PyObject *go_on(Body body) {
        PyObject *done = guarded([&] { return body() ? Ref::borrow(Py_None).release() : nullptr; });
        return done != nullptr ? done : fail();
    }
    /// Publishes what found no room before; what still finds none stays.
    bool publish_waiting();

    /// The items of a job that have suspended, as a list; new reference or NULL.
    PyObject *items_of(std::uint32_t job) const;
    /// How many items have suspended, and have not ended.
    std::uint32_t suspended() const { return suspended_; }
    /// How many outcomes wait for room.
    std::size_t waiting() const { return waiting_.size(); }
    /// CLOCK_MONOTONIC at the start of the newest item of a timed job.
    std::uint64_t started_ns() const { return started_ns_; }
    /// Index of the item that was started last.
    std::uint32_t index() const { return index_; }

    RunnerHooks &hooks() { return hooks_; }
    /// For the garbage collector.
    int traverse(visitproc visit, void *arg) const;
    /// Drops everything, to break reference cycles.
    void clear();

  private:
    /// How a step ended.
    enum class End { kReturned, kRaised, kSuspended };
    struct Step {
        End end;
        Ref value;  // result, exception, what was yielded
    };
    struct Outcome {
        std::uint16_t status = AIOMQ_OK;
        bool touched = false;  // somebody has dealt with the item
        Ref value;             // the exception if the status is AIOMQ_ERROR
    };
    struct Waiting {
        Account *account;
        std::uint32_t index;
        Outcome outcome;  // with a report instead of an exception
    };
    struct Resumption {
        Ref suspended;
        Ref error;  // to be raised in it
    };
    class Hold;

    Suspended &suspended_of(const Ref &ref) const {
        return *reinterpret_cast<Suspended *>(ref.get());
    }

    // runner.cpp: from the start of an item to the end of its first step, and every outcome
    bool loop(const Job &job, Account &account, std::uint32_t permits, std::uint64_t deadline_ns,
              Result &ret);
    bool run_in_shared_context(const Job &job, Account &account, std::uint32_t permits,
                               std::uint64_t deadline_ns, Result &ret);
    bool run_item(const Job &job, Account &account, std::uint32_t index);
    bool run_plain(const Job &job, Account &account, std::uint32_t index, CallArguments &call);
    bool run_task(const Job &job, Account &account, std::uint32_t index, CallArguments &call);
    bool run_awaitable(Account &account, std::uint32_t index, Ref context, Ref awaitable);
    Step first_step(PyObject *item, Ref result);
    bool settle(Account &account, std::uint32_t index, Ref item, Step step);
    bool outcome_of(PyObject *item, Step step, Outcome &ret);
    bool retire(Ref item, Outcome &outcome);
    bool tell_item(PyObject *item, Outcome &outcome);
    bool publish(Account &account, std::uint32_t index, Outcome outcome);
    bool put(Account &account, std::uint32_t index, Outcome &outcome);
    bool report(const Account &account, Outcome &outcome);
    bool tell_over(Account &account);
    void close(Account &account) { accounts_.erase(account.job); }
    Ref take_item();
    bool enter(PyObject *item);
    bool leave(PyObject *item);
    Ref copy_context() const;

    // resume.cpp: items that suspend, from there to their end
    bool suspend(Account &account, std::uint32_t index, Ref item, const Ref &yielded);
    bool park(Suspended &suspended, PyObject *yielded);
    bool await_future(Suspended &suspended, PyObject *future);
    bool resume_soon(Suspended &suspended, Ref error);
    bool is_newest_in_loop(PyObject *handle) const;
    bool step(Suspended &suspended, Ref error);
    Step advance(PyObject *coroutine, Ref error);
    bool cancel_at_once(PyObject *item, Ref &error);
    bool end(Suspended &suspended, Step step);
    void unlink(Suspended &suspended);
    bool tell_owner();
    PyObject *fail();

    PyObject *self_;
    aiomq_worker *worker_;
    FunctionTable table_;
    RunnerHooks hooks_;
    ItemSlots slots_;
    ItemContext item_context_;  // of plain calls that are isolated; entered in run() only
    Ref shared_context_;        // of plain calls that are not isolated, once there was one
    Ref spare_;                 // an item that nobody kept, to be used again
    std::unordered_map<std::uint32_t, Account> accounts_;
    std::deque<Waiting> waiting_;  // outcomes that found no room
    // Items that let others run. Each batch has a handle in the loop; items that follow each other there
    // share one.
    std::deque<std::vector<Resumption>> batches_;
    Ref newest_handle_;
    Ref loop_queue_;  // of handles, if the loop shows it
    std::uint32_t suspended_ = 0;
    std::uint64_t started_ns_ = 0;
    std::uint64_t looked_ns_ = 0;  // at the last look at the clock before the newest item
    std::uint32_t index_ = 0;
    std::uint32_t next_ = UINT32_MAX;  // what has started when the item before was completed
    Account *followed_ = nullptr;      // its item index_ may be completed like that
    bool active_ = false;
    bool freed_ = false;  // suspended items have ended since the owner was told
};

}  // namespace aiomq::py
