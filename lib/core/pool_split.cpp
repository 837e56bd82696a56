// Pool: items of a chunk that a busy worker has not started go to an idle one, as a slot of their own.
//
// When: while a chunk is in flight, a worker that goes to sleep tells the supervisor, and so does the
// audit some milliseconds after a submit; so a chunk that is over by then costs nothing, and nobody polls.
// How: the dispatcher lowers `end` by CAS, against which the worker raises `next` (range.start in
// slots.hpp): what is cut off has not started and never will there. The parts share task id and payload.
#include <algorithm>
#include <cstring>

#include "pool.hpp"

namespace aiomq {
namespace {

/// The worker may start an item at each try; then there is less to give away, and soon nothing.
constexpr int kMostTries = 8;

/// Whether there is an unstarted item that can go without leaving a slot that has none; @base is its first.
bool can_give(const ItemRange &range, std::uint32_t base) {
    if (range.next < base || range.next >= range.end) return false;
    return range.next > base || range.end - range.next > 1;
}

}  // namespace

/// Whether items of the task in @slot may go to others.
bool Pool::locked_divisible(std::uint32_t slot) const {
    const TaskRecord &task = tasks_[slot];
    return task.in_use && task.items > 1 && !task.cancelled && (task.flags & AIOMQ_TASK_KEYED) == 0;
}

/// True for a claimed slot of @queue with items to give away, and how many are unstarted.
bool Pool::locked_unstarted(std::uint32_t slot, std::uint32_t queue,
                            std::uint32_t &ret_items) const {
    const TaskRecord &task = tasks_[slot];
    if (!locked_divisible(slot)) return false;
    if (task.retries != 0 && task.attempt > 1) return false;  // some may be delivered already
    const Slot &line = segment_->slot(slot);
    const SlotWord word(line.word.load_acquire());
    if (word.phase() != Phase::kClaimed || word.queue() != queue) return false;
    const ItemRange range = ItemRange::unpack(line.range.load_acquire());
    if (range.end > task.upto || !can_give(range, segment_->request(slot).item_base)) return false;
    ret_items = range.end - range.next;
    return true;
}

void Pool::locked_split() {
    auto &to_split = segment_->header().to_split;
    to_split.store_seq(chunks_ > 0);  // before the look at who is idle; a sleeper does the reverse
    if (chunks_ == 0 || worker_count() == 1 || state_ == AIOMQ_POOL_BROKEN || terminating_) return;
    const WorkerBits wants(segment_->flags().wants_tasks);
    for (std::uint32_t queue = 0; queue < rings_.size(); ++queue) {
        if (!rings_[queue].empty()) continue;  // there is work for them
        for (std::uint32_t idle = wants.count(serving_[queue], worker_count()); idle > 0; --idle) {
            std::uint32_t most = 0;
            std::uint32_t largest = 0;
            std::uint32_t left = chunks_;
            for (std::uint32_t slot = 0; slot < slot_count() && left > 0; ++slot) {
                if (!tasks_[slot].in_use || tasks_[slot].items == 1) continue;
                --left;
                const SlotWord word(segment_->slot(slot).word.load_acquire());
                // Its hint is taken and its claim to come: nobody will go to sleep for it.
                if (word.phase() == Phase::kReady && word.queue() == queue &&
                    locked_divisible(slot))
                    locked_arm_audit();
                std::uint32_t items = 0;
                if (!locked_unstarted(slot, queue, items) || items <= most) continue;
                most = items;
                largest = slot;
            }
            if (most == 0 || !locked_split_slot(largest)) break;
        }
    }
    locked_publish_hints();
}

/// Moves the later half of a slot's unstarted items, the larger one, to a slot of their own: the worker
/// that has them is busy with an item as it is.
bool Pool::locked_split_slot(std::uint32_t slot) {
    if (free_slots_.size() <= kept_free_) return false;
    TaskRecord &task = tasks_[slot];
    SplitTask &whole = splits_[task.id];
    whole.slots.reserve(whole.slots.size() + 2);  // nothing may fail once `end` is lowered
    const std::uint32_t index = free_slots_.back();
    Request &request = segment_->request(index);
    request.attempt_block = 0;
    if (task.retries != 0 && locked_take_attempt_block(request, task.items) != 0) {
        if (!task.split) splits_.erase(task.id);
        return false;
    }
    Slot &line = segment_->slot(slot);
    std::uint64_t found = line.range.load_acquire();
    ItemRange range;
    const std::uint32_t base = segment_->request(slot).item_base;
    std::uint32_t middle = 0;
    for (int tries = 0;; ++tries) {
        range = ItemRange::unpack(found);
        if (tries == kMostTries || range.end != task.upto || !can_give(range, base)) {
            if (!task.split) splits_.erase(task.id);
            locked_drop_attempt_block(request);
            return false;
        }
        middle = range.next + (range.end - range.next) / 2;
        if (line.range.compare_exchange(found, ItemRange{range.next, middle}.pack())) break;
    }
    free_slots_.pop_back();
    ++in_use_;
    ++chunks_;
    const std::uint32_t attempt_block = request.attempt_block;
    request = segment_->request(slot);
    request.attempt_block = attempt_block;
    request.item_base = middle;
    TaskRecord &part = tasks_[index];
    part.id = task.id;
    part.user = task.user;
    part.payload_offset = 0;
    part.items = task.items;
    part.upto = std::exchange(task.upto, middle);
    part.left = part.upto - middle;
    task.left -= part.left;
    part.flags = task.flags;
    part.attempt = task.attempt;
    part.retries = task.retries;
    part.queue = task.queue;
    if ((part.flags & request_flag::kLimited) != 0) ++limited_;
    part.in_use = true;
    part.cancelled = false;
    if (!task.split) {
        whole.slots.push_back(slot);
        whole.payload_offset = std::exchange(task.payload_offset, 0);
    }
    whole.slots.push_back(index);
    task.split = part.split = true;
    publish_ready(segment_->slot(index), part.queue, {middle, part.upto});
    locked_push_hint(index, part.queue);
    counters().splits.add_by_single_writer(1);
    return true;
}

void Pool::locked_leave_split(TaskRecord &task, std::uint32_t slot) {
    task.split = false;
    const auto whole = splits_.find(task.id);
    std::erase(whole->second.slots, slot);
    if (!whole->second.slots.empty()) return;
    task.payload_offset = whole->second.payload_offset;  // goes with this, the last one
    splits_.erase(whole);
}

/// Items of the task that are to be delivered still, in whatever slot.
std::uint32_t Pool::locked_items_left(const TaskRecord &task) const {
    if (!task.split) return task.left;
    std::uint32_t left = 0;
    for (const std::uint32_t slot : splits_.at(task.id).slots) left += tasks_[slot].left;
    return left;
}

}  // namespace aiomq
