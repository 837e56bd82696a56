// run: the loop of a native worker: libevent for the user's events, the pool's queues beside it.
//
// When to use: behind aiomq_worker_run(). Programs with a loop of their own drive Worker directly.
// It asks the kernel nothing while there is work, unless handlers added events of their own.
#pragma once

#include <deque>
#include <vector>

#include "worker.hpp"

namespace aiomq {

class RunLoop {
  public:
    RunLoop(Worker &worker, aiomq_worker *handle, const aiomq_run_options &options);

    /// Serves tasks until the pool ends. 0, or -errno.
    int run();

  private:
    /// An outcome that the arena had no room for yet.
    struct Held {
        std::uint32_t job;
        aiomq_item item;
        std::vector<unsigned char> data;
    };

    int serve();
    int run_item(const aiomq_job &job, std::uint32_t item);
    int complete(std::uint32_t job, const aiomq_item &item);
    int fail(std::uint32_t job, std::uint32_t item, const std::string &type,
             const std::string &message);
    int retry_held();
    int take_cancels();
    const aiomq_handler *handler_of(std::uint32_t function);
    std::string name_of(std::uint32_t function);
    bool may_start() const;

    Worker &worker_;
    aiomq_worker *handle_;
    const aiomq_run_options &options_;
    std::vector<const aiomq_handler *> handlers_;  ///< by function number
    std::vector<std::uint32_t> backlog_;           ///< claimed jobs with items not started yet
    std::deque<Held> held_;
    bool blocked_ = false;  ///< no room for outcomes: wait for releases
    bool ended_ = false;
    bool readable_ = false;  ///< the worker's fd was seen readable
};

}  // namespace aiomq
