#include "checkup.hpp"

#include <bit>

namespace aiomq {

/// What the word and range of a task in flight may be, whoever is about to change them.
bool Checkup::locked_is_possible(std::uint32_t slot, SlotWord word) {
    if (word.phase() == Phase::kReady) {
        const ItemRange range = ItemRange::unpack(pool_.segment().slot(slot).range.load_acquire());
        return range.next <= range.end && range.end <= pool_.task(slot).items &&
               (!word.keyed() || word.worker() < pool_.worker_count());
    }
    return (word.phase() == Phase::kClaimed || word.phase() == Phase::kDone) &&
           word.worker() < pool_.worker_count() && pool_.seat(word.worker()).alive &&
           word.held_by(word.worker(), pool_.seat(word.worker()).incarnation);
}

bool Checkup::locked_look() {
    std::uint32_t unfinished = 0;
    std::uint32_t left = pool_.locked_in_use();
    std::uint32_t oldest = pool_.slot_count();
    for (std::uint32_t slot = 0; left > 0 && slot < pool_.slot_count(); ++slot) {
        const TaskRecord &task = pool_.task(slot);
        if (!task.in_use) continue;
        --left;
        const SlotWord word(pool_.segment().slot(slot).word.load_acquire());
        if (!locked_is_possible(slot, word)) {
            pool_.locked_corrupt("the word of slot " + std::to_string(slot));
            return false;
        }
        if (word.phase() == Phase::kDone) {
            if (pool_.locked_completion_is_lost(word.worker())) pool_.locked_deliver_done(slot);
            continue;
        }
        ++unfinished;
        if (oldest == pool_.slot_count() || task.id < pool_.task(oldest).id) oldest = slot;
    }
    if (unfinished == 0) {
        pool_.locked_nudge_application();  // it may wait without its announcement
        oldest_id_ = 0;
        return false;
    }
    Slot &line = pool_.segment().slot(oldest);
    const SlotWord word(line.word.load_acquire());
    const std::uint64_t range = line.range.load_relaxed();
    if (pool_.task(oldest).id == oldest_id_ && oldest == oldest_ &&
        word.bits() == oldest_word_.bits() && range == oldest_range_) {
        if (std::has_single_bit(++looks_)) locked_tell_again();
    } else {
        looks_ = 0;
    }
    oldest_id_ = pool_.task(oldest).id;
    oldest_ = oldest;
    oldest_word_ = word;
    oldest_range_ = range;
    return true;
}

void Checkup::locked_tell_again() {
    pool_.locked_rehint();
    pool_.locked_wake_everyone();
    pool_.locked_nudge_application();
    // Not only about the oldest: that one may be sound and run for ever.
    for (std::uint32_t worker = 0; worker < pool_.worker_count(); ++worker) {
        pool_.locked_hint_keyed(worker);
        pool_.locked_ask(worker);
    }
}

}  // namespace aiomq
