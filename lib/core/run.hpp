// run: the loop of a native worker: libevent for the user's events, the pool's queues beside it.
//
// When to use: behind aiomq_worker_run(). Programs with a loop of their own drive Worker directly.
// It asks the kernel nothing while there is work, unless handlers added events of their own.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "timeouts.hpp"
#include "worker.hpp"

namespace aiomq {

class RunLoop {
  public:
    RunLoop(Worker &worker, aiomq_worker *handle, const aiomq_run_options &options);

    /// Serves tasks until the pool ends. 0, or -errno.
    int run();
    /// As those of Worker, but what there is no room for is kept and done later.
    int finish(std::uint32_t job, const aiomq_item &item);
    int finish_with(std::uint32_t job, std::uint32_t item, const ErrorText &error);
    int submit(std::uint32_t job, std::uint32_t item, const aiomq_task &task,
               std::string_view function);
    int cancel_nested(std::uint64_t user);

  private:
    /// An outcome that the arena had no room for yet.
    struct Held {
        std::uint32_t job;
        aiomq_item item;
        std::vector<unsigned char> data;
    };

    /// A nested task likewise.
    struct HeldTask {
        std::uint32_t job;
        std::uint32_t item;
        aiomq_task task;
        std::string function;
        std::vector<unsigned char> payload;
    };

    int serve();
    int run_item(const aiomq_job &job, std::uint32_t item);
    int complete(std::uint32_t job, const aiomq_item &item);
    int fail(std::uint32_t job, std::uint32_t item, const std::string &type,
             const std::string &message);
    int refuse(std::uint32_t job, const aiomq_item &item);
    int retry_held();
    bool retry_tasks();
    int take_cancels();
    bool take_answers();
    const aiomq_handler *handler_of(std::uint32_t function);
    std::string name_of(std::uint32_t function);
    bool may_start() const;

    /// While it lives SIGTERM makes the worker retire, unless the program has a handler of its own.
    class TermHandler {
      public:
        explicit TermHandler(Worker &worker);
        ~TermHandler();
        TermHandler(const TermHandler &) = delete;
        TermHandler &operator=(const TermHandler &) = delete;

      private:
        bool installed_ = false;
    };

    Worker &worker_;
    aiomq_worker *handle_;
    const aiomq_run_options &options_;
    std::uint32_t concurrency_;                    ///< the group's, or else the program's
    std::vector<const aiomq_handler *> handlers_;  ///< by function number
    std::vector<std::uint32_t> backlog_;           ///< claimed jobs with items not started yet
    std::deque<aiomq_handler> resolved_;           ///< of names that are not in the table
    std::deque<Held> held_;
    std::deque<HeldTask> held_tasks_;
    std::deque<std::pair<std::uint64_t, int>>
        refused_;                   ///< held tasks that will not run: user, outcome
    Timeouts *timeouts_ = nullptr;  ///< while run() is running
    bool blocked_ = false;          ///< no room for outcomes: wait for releases
    bool ended_ = false;
};

}  // namespace aiomq
