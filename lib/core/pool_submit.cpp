// Pool: the way in. Function names, payload memory, submit, hints, cancel.
#include <sys/types.h>

#include <algorithm>
#include <cstring>

#include "pool.hpp"

namespace aiomq {
namespace {

/// How many tasks ahead the lines that a submit writes are fetched into the cache.
constexpr std::size_t kPrefetch = 3;
/// The attempt that a worker sees has 16 bits.
constexpr std::uint32_t kMaxRetries = UINT16_MAX - 1;

}  // namespace

int Pool::locked_refusal() const {
    if (state_ == AIOMQ_POOL_BROKEN) return -EPIPE;
    return closing_ ? -ESHUTDOWN : 0;
}

int Pool::function(std::string_view name, std::uint32_t &ret_function) {
    const Lock lock(*this);
    if (const int refusal = locked_refusal(); refusal != 0) return refusal;
    return locked_function(name, ret_function);
}

int Pool::locked_function(std::string_view name, std::uint32_t &ret_function) {
    const std::string key(name);
    if (const auto known = functions_.find(key); known != functions_.end()) {
        ret_function = known->second;
        return 0;
    }
    Header &header = segment_->header();
    const std::uint32_t number = header.functions.load_relaxed();
    if (number == kMaxFunctions) return -ENOSPC;
    if (number == functions_committed_) {
        const std::uint64_t page = segment_->layout().page_bytes;
        const int error = sys::commit(
            segment_->fd(),
            segment_->layout().functions_offset + std::uint64_t{number} * sizeof(FunctionRecord),
            page);
        if (error != 0) return error;
        functions_committed_ += static_cast<std::uint32_t>(page / sizeof(FunctionRecord));
    }
    auto block = requests_.allocate(key.size());
    if (!block) return block.error();
    key.copy(segment_->at<char>(*block), key.size());
    segment_->function(number) = {*block, key.size()};
    header.functions.store_release(number + 1);
    functions_.emplace(key, number);
    ret_function = number;
    return 0;
}

int Pool::allocate(std::uint64_t bytes, void **ret_payload) {
    const Lock lock(*this);
    if (const int refusal = locked_refusal(); refusal != 0) return refusal;
    auto block = requests_.allocate(bytes);
    if (!block) {
        if (block.error() == -ENOMEM) want_room_ = true;
        return block.error();
    }
    handed_out_.insert(*block);
    locked_count_requests();
    *ret_payload = segment_->at<void>(*block);
    return 0;
}

/// For statistics: how full the request arena is.
void Pool::locked_count_requests() {
    counters().request_used_bytes.store_relaxed(requests_.used_bytes());
    counters().request_committed_bytes.store_relaxed(requests_.committed_bytes());
}

int Pool::free_payload(void *payload) {
    const Lock lock(*this);
    const std::uint64_t block = segment_->offset_of(payload);
    if (handed_out_.erase(block) == 0) return -EINVAL;
    locked_free_payload(block);
    locked_room();
    return 0;
}

int Pool::in_use(const void *payload) {
    const Lock lock(*this);
    const std::uint64_t block = segment_->offset_of(payload);
    if (!handed_out_.contains(block)) return -EINVAL;
    return shared_.contains(block) ? 1 : 0;
}

/// Memory or a slot became free: a submit that was refused may be tried again.
void Pool::locked_room() {
    freed_ = false;
    if (!nested_waiting_.empty()) locked_retry_nested();  // before the application may take it
    counters().request_used_bytes.store_relaxed(requests_.used_bytes());
    if (!std::exchange(want_room_, false)) return;
    room_ = true;
    wake_application();
}

int Pool::check_task(const aiomq_task &task) const {
    constexpr std::uint32_t kFlags = AIOMQ_TASK_ADOPT | AIOMQ_TASK_PROGRESS | AIOMQ_TASK_KEYED |
                                     AIOMQ_TASK_KEEP | AIOMQ_TASK_FOLLOW;
    const bool data = task.kind >= AIOMQ_KIND_BYTES;
    if (task.struct_bytes != sizeof(aiomq_task) || task.kind > AIOMQ_KIND_ERROR ||
        (task.flags & ~kFlags) != 0 ||
        (task.flags & (AIOMQ_TASK_KEYED | AIOMQ_TASK_FOLLOW)) == AIOMQ_TASK_FOLLOW ||
        (task.flags & (AIOMQ_TASK_ADOPT | AIOMQ_TASK_KEEP)) == AIOMQ_TASK_KEEP || task.items == 0 ||
        task.items > kMaxItems || task.retries > kMaxRetries || task.queue >= rings_.size() ||
        task.function >= segment_->header().functions.load_relaxed() ||
        (!data && task.payload_bytes != 0) || (task.payload == nullptr && task.payload_bytes != 0))
        return -EINVAL;
    return 0;
}

/// Memory for a task that needs some outside its request. Takes all of it or nothing.
int Pool::locked_take_memory(const aiomq_task &task, Request &request, std::uint64_t &ret_block) {
    const bool adopt = (task.flags & AIOMQ_TASK_ADOPT) != 0;
    if (adopt) {
        ret_block = task.payload == nullptr ? 0 : segment_->offset_of(task.payload);
        if (handed_out_.count(ret_block) == 0 || task.payload_bytes == 0 ||
            requests_.block_bytes(ret_block) < task.payload_bytes)
            return -EINVAL;
    }
    if (task.retries != 0 && task.items > 1)
        if (const int error = locked_take_attempt_block(request, task.items); error != 0)
            return error;
    if ((task.flags & AIOMQ_TASK_KEEP) != 0) {
        locked_share_payload(ret_block);
    } else if (adopt) {
        handed_out_.erase(ret_block);
    } else if (task.payload_bytes > kInlinePayloadBytes) {
        auto memory = requests_.allocate(task.payload_bytes);
        if (!memory) {
            locked_drop_attempt_block(request);
            return memory.error();
        }
        ret_block = *memory;
        std::memcpy(segment_->at<void>(ret_block), task.payload, task.payload_bytes);
    } else if (task.payload_bytes > 0) {
        std::memcpy(request.inline_payload, task.payload, task.payload_bytes);
    }
    return 0;
}

int Pool::locked_submit(const aiomq_task &task, std::uint64_t now_ns, std::uint64_t *ret_id,
                        std::uint16_t nested) {
    if (const int error = check_task(task); error != 0) return error;
    // Its outcomes must fit a worker's arena, or no worker could ever start it.
    if (task.items > 1 &&
        sizeof(OutcomeBlock) + task.items * sizeof(ItemOutcome) > segment_->layout().arena_bytes)
        return -EMSGSIZE;
    if (free_slots_.size() <= (nested != 0 ? 0 : kept_free_)) {
        want_room_ = true;
        return -EAGAIN;
    }
    const std::uint32_t index = free_slots_.back();
    if (free_slots_.size() > kPrefetch) {
        const std::uint32_t soon = free_slots_[free_slots_.size() - 1 - kPrefetch];
        __builtin_prefetch(&segment_->slot(soon), 1);
        __builtin_prefetch(&segment_->request(soon), 1);
        if ((task.start_within_ns | task.timeout_ns) != 0)
            __builtin_prefetch(&segment_->request(soon).start_by_ns, 1);
        __builtin_prefetch(&tasks_[soon], 1);
    }
    Request &request = segment_->request(index);
    request.attempt_block = 0;
    std::uint64_t block = 0;
    if ((task.flags & AIOMQ_TASK_ADOPT) != 0 || task.payload_bytes > kInlinePayloadBytes ||
        (task.retries != 0 && task.items > 1)) {
        if (const int error = locked_take_memory(task, request, block); error != 0) {
            if (error == -ENOMEM) want_room_ = true;
            return error;
        }
    } else if (task.payload_bytes > 0) {
        std::memcpy(request.inline_payload, task.payload, task.payload_bytes);
    }
    free_slots_.pop_back();
    ++in_use_;

    request.task_id = next_serial_++ << kTaskSlotBits | index;
    request.function = task.function;
    request.kind = task.kind;
    request.flags = static_cast<std::uint16_t>(task.flags | nested);
    request.items = task.items;
    request.item_base = 0;
    request.attempt = 1;
    request.payload_bytes = task.payload_bytes;
    request.payload_offset = block;
    request.integer = task.integer;
    request.submitted_ns = now_ns;
    TaskRecord &record = tasks_[index];
    record.id = request.task_id;
    record.user = task.user;
    record.payload_offset = block;
    record.items = record.upto = record.left = task.items;
    record.flags = task.flags;
    record.attempt = 1;
    record.retries = static_cast<std::uint16_t>(task.retries);
    record.queue = static_cast<std::uint8_t>(task.queue);
    record.in_use = true;
    record.cancelled = record.split = false;
    if (task.items > 1) ++chunks_;
    if ((task.start_within_ns | task.timeout_ns) != 0) locked_limit(index, task);
    if ((task.flags & AIOMQ_TASK_KEYED) == 0) {
        publish_ready(segment_->slot(index), task.queue, {0, task.items});
        locked_push_hint(index, task.queue);
    } else {
        locked_keep_key(index, task.key);
        locked_make_keyed_ready(index, {0, task.items});
    }
    if (ret_id != nullptr) *ret_id = request.task_id;
    return 0;
}

std::int64_t Pool::submit(const aiomq_task *tasks, std::size_t count, std::uint64_t *ret_ids) {
    const Lock lock(*this);
    if (const int refusal = locked_refusal(); refusal != 0) return refusal;
    std::size_t done = 0;
    std::uint64_t items = 0;
    int error = 0;
    const std::size_t stride = tasks[0].struct_bytes;
    const std::uint64_t now_ns = sys::monotonic_coarse_ns();
    for (; done < count; ++done) {
        const auto &task = *reinterpret_cast<const aiomq_task *>(
            reinterpret_cast<const char *>(tasks) + done * stride);
        error = locked_submit(task, now_ns, ret_ids == nullptr ? nullptr : ret_ids + done);
        if (error != 0) break;
        items += task.items;
    }
    locked_publish_hints();
    if (done == 0) return error;
    if (chunks_ > 0 && worker_count() > 1) locked_arm_audit();  // which looks for idle workers too
    if (!watch_armed_) locked_arm_watch();
    counters().submitted.add_by_single_writer(items);
    locked_count_requests();
    return static_cast<std::int64_t>(done);
}

/// A hint could not be put. Withdrawn tasks leave stale hints, so a ring can fill: then it is emptied
/// and filled anew.
void Pool::locked_not_put(std::uint32_t queue, RingStatus status) {
    if (status != RingStatus::kFull) {
        locked_corrupt("queue " + std::to_string(queue) + " can't be pushed to");
        return;
    }
    locked_rehint();
    // While the rings were empty anyone may have looked and gone to sleep.
    for (std::uint32_t other = 0; other < rings_.size(); ++other)
        if (!rings_[other].empty()) pushed_[other] = worker_count();
}

void Pool::locked_rehint() {
    std::uint32_t dropped = 0;
    for (Ring &ring : rings_) {
        // Hints put behind a head that has run ahead would never be popped.
        if (!ring.sound()) {
            locked_corrupt("the head of a queue");
            return;
        }
        // More than its capacity comes out only of one whose head is set back again and again.
        std::uint32_t most = 2 * ring.capacity();
        while (most > 0 && ring.pop(dropped) == RingStatus::kOk) --most;
    }
    std::vector<std::uint32_t> ready;
    for (std::uint32_t slot = 0; slot < slot_count(); ++slot)
        if (tasks_[slot].in_use &&
            SlotWord(segment_->slot(slot).word.load_acquire()).phase() == Phase::kReady)
            ready.push_back(slot);
    std::sort(ready.begin(), ready.end(),
              [this](auto a, auto b) { return tasks_[a].id < tasks_[b].id; });
    for (const std::uint32_t slot : ready) {
        const SlotWord word(segment_->slot(slot).word.load_relaxed());
        if (word.phase() != Phase::kReady) continue;  // claimed just now
        const std::uint32_t queue = tasks_[slot].queue;
        const bool keyed = (tasks_[slot].flags & AIOMQ_TASK_KEYED) != 0;
        if (keyed && word.keyed()) continue;  // its worker has been told, or will be when it starts
        if (keyed != word.keyed() || word.queue() != queue ||
            rings_[queue].put(slot) != RingStatus::kOk) {
            locked_corrupt("queue " + std::to_string(queue) + " can't be filled again");
            return;
        }
    }
    for (Ring &ring : rings_) ring.publish();
}

/// Takes back the items of a slot that have not started, but for those below @from: they get @outcome.
/// True if that was all of it, so that the slot is free.
bool Pool::locked_withdraw(std::uint32_t index, int outcome, const ErrorText *error,
                           std::uint32_t from) {
    Slot &slot = segment_->slot(index);
    TaskRecord &record = tasks_[index];
    const std::uint32_t base = segment_->request(index).item_base;
    if (from > base && SlotWord(slot.word.load_acquire()).phase() == Phase::kReady) {
        if (from >= record.upto || !withdraw(slot)) return false;
        const std::uint32_t upto = std::exchange(record.upto, from);
        locked_deliver_same(index, from, upto, outcome, error, AIOMQ_NO_WORKER);
        locked_make_ready(index, {base, from});
        if ((record.flags & AIOMQ_TASK_KEYED) == 0) locked_push_hint(index, record.queue);
        locked_publish_hints();
        return false;
    }
    if (from <= base && withdraw(slot)) {
        locked_deliver_same(index, base, record.upto, outcome, error, AIOMQ_NO_WORKER);
        locked_free_slot(index);
        return true;
    }
    if (record.items == 1 || SlotWord(slot.word.load_acquire()).phase() != Phase::kClaimed)
        return false;
    const ItemRange withdrawn = withdraw_unstarted(slot, from);
    if (withdrawn.next >= withdrawn.end) return false;
    // What lies beyond `upto` has had its outcome.
    if (withdrawn.end != record.upto || withdrawn.next < base) {
        locked_corrupt("the item range of slot " + std::to_string(index));
    } else {
        const std::uint32_t upto = std::exchange(record.upto, withdrawn.next);
        locked_deliver_same(index, withdrawn.next, upto, outcome, error, AIOMQ_NO_WORKER);
    }
    return false;
}

void Pool::locked_cancel(std::uint32_t index) {
    tasks_[index].cancelled = true;
    if (locked_withdraw(index, AIOMQ_CANCELLED, nullptr)) return;
    const SlotWord word(segment_->slot(index).word.load_acquire());
    if (word.phase() != Phase::kClaimed || word.worker() >= worker_count()) return;
    locked_post(word.worker(), {Notice::kCancel, NamedSlot{index, word.generation()}.pack()});
}

int Pool::cancel(std::uint64_t task_id) {
    const Lock lock(*this);
    const std::uint32_t index = slot_of(task_id);
    if (index >= tasks_.size()) return -ENOENT;
    if (!locked_cancel_task(task_id)) return -ENOENT;
    locked_room();
    wake_application();
    return 0;
}

/// False: it has ended already.
bool Pool::locked_cancel_task(std::uint64_t task_id) {
    const std::uint32_t index = slot_of(task_id);
    if (const auto split = splits_.find(task_id); split != splits_.end())
        for (const std::uint32_t part : std::vector(split->second.slots)) locked_cancel(part);
    else if (tasks_[index].in_use && tasks_[index].id == task_id)
        locked_cancel(index);
    else
        return false;
    return true;
}

void Pool::locked_post(std::uint32_t worker, Message message) {
    WorkerSeat &seat = seats_[worker];
    if (!seat.alive) return;  // what it would have released or stopped went with it
    const LaneStatus status =
        seat.inbox_overflow.empty() ? seat.inbox.push(message.pack()) : LaneStatus::kFull;
    if (status == LaneStatus::kCorrupt) {
        locked_corrupt("the inbox of worker " + std::to_string(worker));
        return;
    }
    if (status != LaneStatus::kOk) {
        seat.inbox_overflow.push_back(message.pack());
        locked_flush_inbox(worker);
    }
    if (WorkerBits(segment_->flags().asleep).clear(worker)) {
        sys::event_signal(seat.event_fd.get());
        counters().wakeups_sent.fetch_add_relaxed(1);
    }
}

/// Moves what waits for a worker's inbox into it, as far as there is room. When something is left, the
/// worker's next look at its inbox wakes the supervisor. Both announce first and look again after:
/// here `inbox_waiting`, then the lane; there the lane's head, then `inbox_waiting`.
void Pool::locked_flush_inbox(std::uint32_t worker) {
    WorkerSeat &seat = seats_[worker];
    const auto push_all = [&seat] {
        while (!seat.inbox_overflow.empty() &&
               seat.inbox.push(seat.inbox_overflow.front()) == LaneStatus::kOk)
            seat.inbox_overflow.pop_front();
        return seat.inbox_overflow.empty();
    };
    auto &waiting = segment_->record(worker).inbox_waiting;
    if (!push_all()) {
        waiting.store_seq(1);
        if (!push_all()) {
            overflow_ = true;
            return;
        }
    }
    waiting.store_relaxed(0);
}

void Pool::locked_flush_inboxes() {
    if (!std::exchange(overflow_, false)) return;
    for (std::uint32_t worker = 0; worker < seats_.size(); ++worker) {
        if (seats_[worker].inbox_overflow.empty()) continue;
        locked_flush_inbox(worker);
        if (WorkerBits(segment_->flags().asleep).clear(worker))
            sys::event_signal(seats_[worker].event_fd.get());
    }
}

}  // namespace aiomq
