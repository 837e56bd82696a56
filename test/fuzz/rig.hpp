// Rig: a pool without a supervisor, in this process, and the hands of its workers. Everything that the
// dispatcher does with shared memory can be called one step at a time, with whatever a worker could have
// written before.
//
// When not to use: for what happens between processes; test/crash has real ones.
#pragma once

#include <memory>
#include <vector>

#include "input.hpp"
#include "pool.hpp"
#include "recovery.hpp"

namespace aiomq_fuzz {

inline constexpr std::uint32_t kRigWorkers = 3;
inline constexpr std::uint32_t kRigQueues = 2;
inline constexpr std::uint64_t kRigArenaBytes = 64 << 10;

class Rig {
  public:
    explicit Rig(std::uint32_t capacity) {
        aiomq::PoolConfig config;
        config.label = "fuzz";
        config.workers = kRigWorkers;
        config.capacity = capacity;
        config.queues = {"default", "other"};
        aiomq::GroupConfig group;
        group.workers = kRigWorkers;
        group.queues = {0, 1};
        config.groups = {group};
        config.start_limit = config.poison_limit = 3;
        config.arena_start_bytes = kRigArenaBytes;
        config.arena_max_bytes = kRigArenaBytes;
        config.blocked_after_ns = 1'000'000'000;
        std::string text;
        require(aiomq::Pool::create(std::move(config), pool_, text) == 0, "a pool is made");
        for (std::uint32_t worker = 0; worker < kRigWorkers; ++worker) spawn(worker);
        const aiomq::Pool::Lock lock(*pool_);
        pool_->locked_set_state(AIOMQ_POOL_RUNNING);
    }

    aiomq::Pool &pool() { return *pool_; }
    aiomq::Segment &segment() { return pool_->segment(); }
    unsigned char *memory() { return segment().at<unsigned char>(0); }
    std::uint32_t incarnation(std::uint32_t worker) { return pool_->seat(worker).incarnation; }

    /// What the supervisor does before it starts a process, and when that says that it is ready.
    void spawn(std::uint32_t worker) {
        const aiomq::Pool::Lock lock(*pool_);
        aiomq::WorkerSeat &seat = pool_->seat(worker);
        seat.incarnation = (seat.incarnation + 1) & aiomq::SlotWord::kIncarnationMask;
        segment().record(worker).incarnation = seat.incarnation;
        pool_->locked_reset_lanes(worker);
        const int error = pool_->locked_write_takeover(worker, pool_->locked_loaned_blocks(worker));
        seat.alive = error == 0;
        pool_->locked_hint_keyed(worker);
        aiomq::WorkerArea &area = segment().area(worker);
        area.state.store_relaxed(AIOMQ_WORKER_RUNNING);
        outbox_[worker] =
            aiomq::LaneWriter(segment().outbox(worker), segment().layout().outbox_cells,
                              &area.outbox_tail, &segment().record(worker).outbox_head);
        pool_->locked_release_takeover(worker);
    }

    /// What the supervisor does when a process has ended.
    void bury(std::uint32_t worker, int signal) {
        const aiomq::Pool::Lock lock(*pool_);
        pool_->seat(worker).alive = false;
        aiomq::sys::ExitStatus status;
        status.known = true;
        status.signal = signal;
        if (!pool_->locked_terminating())
            aiomq::locked_recover(*pool_, worker, 1, status, signal == 0);
    }

    /// What a worker says to the dispatcher.
    void post(std::uint32_t worker, aiomq::Notice notice, std::uint64_t value) {
        outbox_[worker].push(aiomq::Message{notice, value & ((1ULL << 56) - 1)}.pack());
    }

    /// What a worker does to take the task in @slot. False: it is not to be had.
    bool claim(std::uint32_t slot, std::uint32_t worker) {
        aiomq::Slot &line = segment().slot(slot);
        const aiomq::SlotWord word(line.word.load_relaxed());
        aiomq::SlotWord claimed;
        if (word.keyed())
            return aiomq::claim_keyed(line, word.generation(), worker, incarnation(worker),
                                      claimed);
        return aiomq::claim(line, word.queue(), worker, incarnation(worker), claimed);
    }

  private:
    std::unique_ptr<aiomq::Pool> pool_;
    aiomq::LaneWriter outbox_[kRigWorkers];
};

}  // namespace aiomq_fuzz
