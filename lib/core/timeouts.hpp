// Timeouts: tells the handlers of a native worker when the time of an item is over.
//
// When to use: for items that a handler completes later; one that blocks the loop can't be told, the
// supervisor deals with it. Handlers complete items behind our back, so entries of items that have ended
// are thrown away when they are met, or when they have become the majority.
//
// Thread safety: none; the worker's thread.
#pragma once

#include <event2/event.h>

#include <memory>
#include <vector>

#include "worker.hpp"

namespace aiomq {

class Timeouts {
  public:
    /// @base outlives it.
    Timeouts(Worker &worker, const aiomq_run_options &options, event_base *base);

    /// False: no memory for the timer.
    bool sound() const { return timer_ != nullptr; }
    /// An item with a timeout was started and will be completed later.
    void add(std::uint32_t job, std::uint32_t item, std::uint64_t timeout_ns);
    /// Without a running item there is no timer. Call it before sleeping.
    void settle();

  private:
    struct EventDeleter {
        void operator()(event *entry) const { event_free(entry); }
    };
    struct Entry {
        std::uint64_t due_ns;
        std::uint32_t job;
        std::uint32_t item;
    };

    bool runs(const Entry &entry) const { return worker_.started_ns(entry.job, entry.item) != 0; }
    void on_time();
    void arm();

    Worker &worker_;
    const aiomq_run_options &options_;
    std::unique_ptr<event, EventDeleter> timer_;
    std::vector<Entry> entries_;  ///< a heap, the earliest first
    std::uint64_t armed_ns_ = UINT64_MAX;
};

}  // namespace aiomq
