// Supervisor: a thread of the dispatcher that spawns workers, watches them and replaces them.
//
// It runs a libevent loop of its own over exit watches, start-up stderr pipes and two descriptors of the pool,
// so that a blocked application or a held GIL never stops supervision. It takes no signal and calls no
// user code. It also runs the wake audit: 5 ms after a wake-up it looks whether hints are left
// while a worker sleeps, which means that a wake-up was swallowed by a worker that did not look.
// While tasks are in flight a timer has it look whether the workers' loops turn (loop_watch.hpp)
// and whether a task is lost (checkup.hpp).
// While tasks have limits another has it look for late ones; it kills workers with items that run on
// after timeout and grace.
//
// Thread safety: start() and stop() by the thread that owns the pool; everything else is its own.
#pragma once

#include <event2/event.h>

#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "checkup.hpp"
#include "loop_watch.hpp"
#include "pool.hpp"
#include "spawn.hpp"

namespace aiomq {

class Supervisor {
  public:
    explicit Supervisor(Pool &pool);
    ~Supervisor();
    Supervisor(const Supervisor &) = delete;
    Supervisor &operator=(const Supervisor &) = delete;

    /// Starts the thread, which spawns the workers. 0 or -errno.
    int start();
    /// Waits until every worker has been ready, or the pool broke: 0, or -errno with the pool's state
    /// text saying why.
    int wait_started();
    /// Kills what still runs, waits for its exit and ends the thread.
    void stop();

  private:
    struct EventDeleter {
        void operator()(event *entry) const { event_free(entry); }
    };
    using EventHandle = std::unique_ptr<event, EventDeleter>;

    /// What the supervisor alone knows of a worker.
    struct Child {
        Supervisor *owner = nullptr;
        std::uint32_t worker = 0;
        pid_t pid = 0;
        bool ready = false;
        ExitWatch exit_watch;
        UniqueFd stderr_pipe;
        EventHandle exit_event;  // freed before the descriptor it watches is closed
        EventHandle stderr_event;
        EventHandle respawn_timer;
        EventHandle kill_timer;  // between the stuck signal and the kill
        bool respawn_due = false;
        std::uint64_t asked_ns =
            0;  ///< when the process that left last was asked to; 0: it was not
        std::string stderr_tail;
    };

    const GroupConfig &group_of(const Child &child) const;
    void run();
    bool add_events();
    void on_signal();
    void on_watch();
    void on_limits();
    void end_stuck(Child &child);
    void kill_stuck(Child &child);
    void on_exit(Child &child);
    void spawn(Child &child);
    int launch(Child &child, std::uint32_t incarnation);
    int inherit(Child &child, UniqueFd &ret_stderr_write, std::vector<UniqueFd> &ret_sources,
                std::vector<sys::InheritedFd> &ret_inherited);
    void become_ready(Child &child);
    void read_stderr(Child &child);
    void failed_start(Child &child, const sys::ExitStatus &status);
    bool hopeless(bool reported) const;
    void break_pool(int error, const std::string &text);
    void end_workers();
    void maybe_end();
    void schedule_respawn(Child &child, int delay_ms);
    int backoff_ms() const;
    std::uint64_t asked_ns(const Child &child) const;
    bool all_were_asked(const Child &child) const;
    void depart();
    void started(int error);

    Pool &pool_;
    event_base *base_ = nullptr;
    EventHandle signal_event_;
    EventHandle audit_event_;
    EventHandle watch_event_;
    LoopWatch watch_;
    Checkup checkup_;
    EventHandle limits_event_;
    std::vector<std::unique_ptr<Child>> children_;
    std::thread thread_;
    std::promise<int> started_;
    std::future<int> started_future_;
    bool started_set_ = false;
    bool killing_ = false;
    bool departing_ = false;  ///< every worker was asked to leave: no more are spawned
    Atomic<std::uint32_t> stopping_;
    std::uint64_t oom_kills_ = 0;      ///< when last looked
    std::uint32_t failed_starts_ = 0;  ///< in a row
    bool any_ready_ = false;
    bool all_were_ready_ = false;
};

}  // namespace aiomq
