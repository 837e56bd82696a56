// Pool: tasks with a key, which wait for one worker.
//
// The worker is chosen by rendezvous hashing (D. Thaler, C. Ravishankar, "Using name-based mappings to
// increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998): of all that may run it the one
// with the highest score for this key. So each key has a place of its own without a table, and when a
// place can't be filled only its own keys move. Scores are mixed by the finaliser of splitmix64 (Steele,
// Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
//
// A keyed task is in no ring: its slot word names the worker, and the hint is a message in that worker's
// inbox, which is lost with it. Its successor gets all hints anew when it is spawned.
#include <algorithm>

#include "pool.hpp"

namespace aiomq {
namespace {

constexpr std::uint64_t mixed(std::uint64_t bits) {
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111eb;
    return bits ^ bits >> 31;
}

constexpr std::uint64_t score(std::uint64_t key, std::uint32_t worker) {
    constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;
    return mixed(mixed(key + kGolden) + (worker + 1) * kGolden);
}

}  // namespace

/// The worker that @key belongs to among those that serve @queue; places that can't be filled now are
/// left out, unless there are no others.
std::uint32_t Pool::locked_worker_of(std::uint64_t key, std::uint32_t queue) const {
    std::uint32_t best = AIOMQ_NO_WORKER;
    for (std::uint32_t worker = 0; worker < seats_.size(); ++worker) {
        if ((serving_[queue][worker / 64] >> (worker % 64) & 1) == 0) continue;
        const bool better =
            best == AIOMQ_NO_WORKER || (seats_[worker].avoided != seats_[best].avoided
                                            ? seats_[best].avoided
                                            : score(key, worker) > score(key, best));
        if (better) best = worker;
    }
    return best;
}

void Pool::locked_keep_key(std::uint32_t slot, std::uint64_t key) {
    if (keys_.empty()) {
        keys_.resize(slot_count());
        segment_->header().keyed.store_seq(1);
    }
    keys_[slot] = key;
}

void Pool::locked_make_keyed_ready(std::uint32_t slot, ItemRange range) {
    const std::uint32_t queue = tasks_[slot].queue;
    publish_keyed(segment_->slot(slot), queue, locked_worker_of(keys_[slot], queue), range);
    locked_post_hint(slot);
}

void Pool::locked_make_ready(std::uint32_t slot, ItemRange range) {
    if ((tasks_[slot].flags & AIOMQ_TASK_KEYED) != 0)
        locked_make_keyed_ready(slot, range);
    else
        publish_ready(segment_->slot(slot), tasks_[slot].queue, range);
}

void Pool::locked_post_hint(std::uint32_t slot) {
    const SlotWord word(segment_->slot(slot).word.load_relaxed());
    if (word.worker() < worker_count())
        locked_post(word.worker(), {Notice::kHint, NamedSlot{slot, word.generation()}.pack()});
}

/// Slots whose keyed task waits, in submit order.
std::vector<std::uint32_t> Pool::locked_waiting_keyed() const {
    std::vector<std::uint32_t> slots;
    if (keys_.empty()) return slots;
    for (std::uint32_t slot = 0; slot < slot_count(); ++slot) {
        if (!tasks_[slot].in_use || (tasks_[slot].flags & AIOMQ_TASK_KEYED) == 0) continue;
        const SlotWord word(segment_->slot(slot).word.load_acquire());
        if (word.phase() == Phase::kReady && word.keyed()) slots.push_back(slot);
    }
    std::sort(slots.begin(), slots.end(),
              [this](auto a, auto b) { return tasks_[a].id < tasks_[b].id; });
    return slots;
}

void Pool::locked_hint_keyed(std::uint32_t worker) {
    for (const std::uint32_t slot : locked_waiting_keyed())
        if (SlotWord(segment_->slot(slot).word.load_relaxed()).worker() == worker)
            locked_post_hint(slot);
}

void Pool::locked_avoid(std::uint32_t worker, bool avoid) {
    if (std::exchange(seats_[worker].avoided, avoid) == avoid) return;
    for (const std::uint32_t slot : locked_waiting_keyed()) {
        Slot &line = segment_->slot(slot);
        const SlotWord word(line.word.load_relaxed());
        if (word.worker() == locked_worker_of(keys_[slot], tasks_[slot].queue)) continue;
        if (!withdraw(line)) continue;  // claimed just now
        locked_make_keyed_ready(slot, {segment_->request(slot).item_base, tasks_[slot].upto});
    }
}

}  // namespace aiomq
