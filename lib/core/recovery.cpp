#include "recovery.hpp"

namespace aiomq {
namespace {

/// Delivers what a dead worker had started in @slot, then makes the rest READY again or frees the slot.
void recover_claimed(Pool &pool, std::uint32_t slot, std::uint32_t worker, const ErrorText &error) {
    TaskRecord &task = pool.task(slot);
    Slot &line = pool.segment().slot(slot);
    Request &request = pool.segment().request(slot);
    const ItemRange range = ItemRange::unpack(line.range.load_acquire());
    if (range.next < request.item_base || range.next > task.items || range.end > task.items) {
        pool.locked_corrupt("the item range of slot " + std::to_string(slot));
        return;
    }
    pool.locked_deliver_published(slot, worker);
    pool.locked_deliver_same(slot, request.item_base, std::min(range.next, task.upto),
                             AIOMQ_WORKER_DIED, &error, worker);
    if (range.next >= task.upto) {
        pool.locked_free_slot(slot);
        return;
    }
    pool.counters().requeued.add_by_single_writer(task.upto - range.next);
    const std::uint32_t queue = SlotWord(line.word.load_relaxed()).queue();
    request.item_base = range.next;
    publish_ready(line, queue, {range.next, task.upto});  // its hint comes with the re-hint of all
}

}  // namespace

void locked_recover(Pool &pool, std::uint32_t worker, std::int32_t pid,
                    const sys::ExitStatus &status) {
    const std::string message = "worker " + std::to_string(worker) + " (pid " +
                                std::to_string(pid) + ") " + sys::describe_exit(status) +
                                " while it ran this task";
    ErrorText error;
    error.type = "aiomq.WorkerDied";
    error.message = message;
    error.exit_status = status.exit_code;
    error.signal = status.signal;
    error.pid = pid;
    WorkerArea &area = pool.segment().area(worker);
    pool.segment().record(worker).lost =
        area.started.load_relaxed() - area.completed.load_relaxed();
    SleepFlags &flags = pool.segment().flags();
    WorkerBits(flags.asleep).clear(worker);
    WorkerBits(flags.wants_tasks).clear(worker);
    for (std::uint32_t slot = 0; slot < pool.slot_count(); ++slot) {
        if (!pool.task(slot).in_use) continue;
        const SlotWord word(pool.segment().slot(slot).word.load_acquire());
        if (!word.held_by(worker, pool.seat(worker).incarnation)) continue;
        if (word.phase() == Phase::kDone)
            pool.locked_deliver_done(slot);
        else if (word.phase() == Phase::kClaimed)
            recover_claimed(pool, slot, worker, error);
    }
    pool.locked_rehint();
    pool.locked_room();
    pool.locked_wake_everyone();
    pool.wake_application();
}

void locked_fail_all(Pool &pool, int outcome, const ErrorText &error) {
    for (std::uint32_t slot = 0; slot < pool.slot_count(); ++slot) {
        TaskRecord &task = pool.task(slot);
        if (!task.in_use) continue;
        const SlotWord word(pool.segment().slot(slot).word.load_acquire());
        if (outcome != AIOMQ_POOL_CORRUPT && word.worker() < pool.worker_count()) {
            if (word.phase() == Phase::kDone) pool.locked_deliver_done(slot);
            if (!task.in_use) continue;
            if (word.phase() == Phase::kClaimed) pool.locked_deliver_published(slot, word.worker());
        }
        pool.locked_deliver_same(slot, pool.segment().request(slot).item_base, task.upto, outcome,
                                 &error, UINT32_MAX);
        pool.locked_free_slot(slot);
    }
    pool.wake_application();
}

}  // namespace aiomq
