// Pool: limits of time, and what one attempt leaves to the next.
//
// Two enforce `start_within`: a worker, before it starts an item, and the supervisor for what nobody
// claims. A timeout is first the worker's own affair, which cancels; the supervisor only looks for items
// that run on after the grace. It is woken by one timer, set to the earliest time at which something can
// be due. Tasks are bounded by the slots, so a look goes through those instead of keeping a heap.
//
// No limit fires early. A batch of submits reads the exact clock once. A worker stamps starts with the
// coarse clock, which is cheap and may lag, so that much is added before it is killed.
#include <sys/timerfd.h>

#include <algorithm>
#include <cstring>

#include "pool.hpp"

namespace aiomq {
namespace {

/// Two looks are at least so far apart, and looking takes at most this part of the time.
constexpr std::uint64_t kLookApartNs = 1000000;
constexpr std::uint64_t kLookShare = 16;
constexpr std::uint64_t kNsPerSecond = 1000000000;

}  // namespace

/// Writes down the limits of a task that is about to be READY.
void Pool::locked_limit(std::uint32_t slot, const aiomq_task &task) {
    Request &request = segment_->request(slot);
    TaskRecord &record = tasks_[slot];
    if (now_ns_ == 0) now_ns_ = sys::monotonic_ns();
    request.flags |= request_flag::kLimited;
    record.flags |= request_flag::kLimited;
    request.timeout_ns = task.timeout_ns;
    request.start_by_ns =
        task.start_within_ns == 0 ? UINT64_MAX : later_by(now_ns_, task.start_within_ns);
    ++limited_;
    locked_look_by(request.start_by_ns);
    if (task.timeout_ns != 0)
        locked_look_by(later_by(now_ns_, later_by(task.timeout_ns, config_.grace_ns)));
}

void Pool::locked_look_by(std::uint64_t time_ns) {
    if (time_ns >= look_at_) return;
    look_at_ = time_ns;
    itimerspec once{};
    once.it_value.tv_sec = static_cast<time_t>(time_ns / kNsPerSecond);
    once.it_value.tv_nsec = static_cast<long>(time_ns % kNsPerSecond);
    timerfd_settime(limits_fd_.get(), TFD_TIMER_ABSTIME, &once, nullptr);
}

std::vector<std::uint32_t> Pool::locked_look_at_limits() {
    std::vector<std::uint32_t> stuck;
    const std::uint64_t now_ns = sys::monotonic_ns();
    look_at_ = UINT64_MAX;
    std::uint64_t next = UINT64_MAX;
    std::uint32_t left = limited_;
    for (std::uint32_t slot = 0; slot < slot_count() && left > 0; ++slot) {
        const TaskRecord &record = tasks_[slot];
        if (!record.in_use || (record.flags & request_flag::kLimited) == 0) continue;
        --left;
        next = std::min(next, locked_look_at(slot, now_ns, stuck));
    }
    const std::uint64_t took = sys::monotonic_ns() - now_ns;
    if (next != UINT64_MAX)
        locked_look_by(std::max(next, now_ns + std::max(kLookApartNs, kLookShare * took)));
    return stuck;
}

/// Enforces the limits of one task. Returns when something of it can be due next.
std::uint64_t Pool::locked_look_at(std::uint32_t slot, std::uint64_t now_ns,
                                   std::vector<std::uint32_t> &stuck) {
    const Request &request = segment_->request(slot);
    const Phase phase = SlotWord(segment_->slot(slot).word.load_acquire()).phase();
    if (phase == Phase::kDone) return UINT64_MAX;
    if (now_ns >= request.start_by_ns && locked_expire(slot)) return UINT64_MAX;
    std::uint64_t next = now_ns < request.start_by_ns ? request.start_by_ns : UINT64_MAX;
    if (request.timeout_ns == 0) return next;
    // What has not started can't be overdue before this.
    next = std::min(next, later_by(now_ns, later_by(request.timeout_ns, config_.grace_ns)));
    if (phase == Phase::kClaimed)
        next = std::min(next, locked_look_at_running(slot, now_ns, stuck));
    return next;
}

std::uint64_t Pool::locked_look_at_running(std::uint32_t slot, std::uint64_t now_ns,
                                           std::vector<std::uint32_t> &stuck) {
    const SlotWord word(segment_->slot(slot).word.load_acquire());
    const std::uint32_t worker = word.worker();
    if (worker >= worker_count()) {
        locked_corrupt("the word of slot " + std::to_string(slot));
        return UINT64_MAX;
    }
    WorkerSeat &seat = seats_[worker];
    const bool found_now = std::find(stuck.begin(), stuck.end(), worker) != stuck.end();
    // What a worker held that has ended, or is to be killed, is up to recovery.
    if (!seat.alive || !word.held_by(worker, seat.incarnation) ||
        (!seat.overdue.empty() && !found_now))
        return UINT64_MAX;
    const TaskRecord &task = tasks_[slot];
    const Request &request = segment_->request(slot);
    const std::uint64_t limit =
        later_by(later_by(request.timeout_ns, config_.grace_ns), sys::kCoarseLagNs);
    const ItemRange range = ItemRange::unpack(segment_->slot(slot).range.load_acquire());
    std::uint64_t next = UINT64_MAX;
    for (std::uint32_t item = request.item_base; item < std::min(range.next, task.items); ++item) {
        const std::uint64_t started = locked_started_ns(slot, item);
        if (started == 0) continue;
        const std::uint64_t due = later_by(started, limit);
        next = std::min(next, due > now_ns ? due : UINT64_MAX);
        if (due > now_ns) continue;
        if (seat.overdue.empty()) stuck.push_back(worker);
        seat.overdue.push_back({slot, item, task.id});
    }
    return next;
}

/// When an item of a claimed task with a timeout started, at the latest; 0: it does not run.
std::uint64_t Pool::locked_started_ns(std::uint32_t slot, std::uint32_t item) {
    const Slot &line = segment_->slot(slot);
    const Request &request = segment_->request(slot);
    const TaskRecord &task = tasks_[slot];
    const SlotWord word(line.word.load_acquire());
    const ItemRange range = ItemRange::unpack(line.range.load_acquire());
    if (word.phase() != Phase::kClaimed || item < request.item_base || item >= task.items ||
        item >= range.next)
        return 0;
    std::uint32_t stamp = range.end;
    if (task.items > 1) {
        const std::uint64_t offset = line.block_offset.load_acquire();
        const std::uint32_t count = task.items - request.item_base;
        const std::uint64_t bytes =
            sizeof(OutcomeBlock) + std::uint64_t{count} * sizeof(ItemOutcome);
        if (offset % kBlockAlign != 0 || !segment_->in_result_arena(word.worker(), offset, bytes))
            return 0;
        const auto *outcomes = reinterpret_cast<const ItemOutcome *>(
            segment_->at<OutcomeBlock>(offset) + 1);  // NOLINT
        const OutcomeHead head =
            OutcomeHead::unpack(outcomes[item - request.item_base].head.load_acquire());
        stamp = head.status == AIOMQ_PENDING ? head.bytes : 0;
        if (head.status == AIOMQ_PENDING && stamp == 0 && item + 1 == range.next &&
            !is_delivered(task, item))
            return locked_unstamped_ns(slot, item);
    }
    return stamp == 0 ? 0 : stamped_ns(stamp, request.submitted_ns);
}

/// The worker is between raising `next` and the stamp. It may have been stopped there, so the time counts
/// from when that was seen; when it goes on, its stamp counts again.
std::uint64_t Pool::locked_unstamped_ns(std::uint32_t slot, std::uint32_t item) {
    const std::uint64_t id = tasks_[slot].id;
    const std::uint32_t attempt = segment_->request(slot).attempt;
    Unstamped &seen = unstamped_[slot];
    if (seen.task_id != id || seen.attempt != attempt || seen.item != item)
        seen = {id, attempt, item, sys::monotonic_ns()};
    return seen.seen_ns;
}

/// Takes back what is late and has not started. True: that was all of it, the slot is free.
bool Pool::locked_expire(std::uint32_t slot) {
    const AttemptBlock *earlier = locked_attempt_block(slot);
    const bool all = locked_withdraw(slot, AIOMQ_EXPIRED, nullptr,
                                     earlier == nullptr ? 0 : earlier->started_before);
    locked_room();
    wake_application();
    return all;
}

std::optional<Overdue> Pool::locked_culprit(std::uint32_t worker) {
    const WorkerSeat &seat = seats_[worker];
    std::optional<Overdue> found;
    for (const Overdue &overdue : seat.overdue) {
        const TaskRecord &task = tasks_[overdue.slot];
        const SlotWord word(segment_->slot(overdue.slot).word.load_acquire());
        if (!task.in_use || task.id != overdue.task_id || !word.held_by(worker, seat.incarnation) ||
            locked_started_ns(overdue.slot, overdue.item) == 0)
            continue;
        const auto current = locked_current(worker);
        const bool on_thread =
            current && current->slot == overdue.slot && current->item == overdue.item;
        if (!found || on_thread) found = overdue;
    }
    return found;
}

std::optional<Overdue> Pool::locked_current(std::uint32_t worker) {
    const std::uint64_t current = segment_->area(worker).current.load_acquire();
    const auto item = static_cast<std::uint32_t>(current);
    if (current >> 32 == 0 || current >> 32 > slot_count()) return std::nullopt;
    const auto slot = static_cast<std::uint32_t>((current >> 32) - 1);
    const TaskRecord &task = tasks_[slot];
    const SlotWord word(segment_->slot(slot).word.load_acquire());
    if (!task.in_use || item >= task.items || word.phase() != Phase::kClaimed ||
        !word.held_by(worker, seats_[worker].incarnation))
        return std::nullopt;
    return Overdue{slot, item, task.id};
}

std::string Pool::locked_item_name(const Overdue &item) {
    const FunctionRecord &function = segment_->function(segment_->request(item.slot).function);
    return "item " + std::to_string(item.item) + " of \"" +
           std::string(segment_->at<const char>(function.offset), function.bytes) + "\"";
}

AttemptBlock *Pool::locked_attempt_block(std::uint32_t slot) {
    const Request &request = segment_->request(slot);
    if (request.attempt_block == 0) return nullptr;
    return segment_->at<AttemptBlock>(attempt_block_offset(segment_->layout(), request));
}

/// Gives a task of many with retries its attempt block, empty. -ENOMEM, -EMSGSIZE.
int Pool::locked_take_attempt_block(Request &request, std::uint32_t items) {
    const std::uint64_t bytes = attempt_block_bytes(items);
    auto block = requests_.allocate(bytes);
    if (!block) return block.error();
    const std::uint64_t number =
        (*block - segment_->layout().request_arena_offset) / kBlockAlign + 1;
    if (number > UINT32_MAX) {
        requests_.release(*block);
        return -ENOMEM;
    }
    std::memset(segment_->at<void>(*block), 0, bytes);
    request.attempt_block = static_cast<std::uint32_t>(number);
    return 0;
}

void Pool::locked_drop_attempt_block(Request &request) {
    if (request.attempt_block == 0) return;
    requests_.release(attempt_block_offset(segment_->layout(), request));
    request.attempt_block = 0;
}

/// A task with retries has ended.
void Pool::locked_forget_attempts(std::uint32_t slot) {
    locked_drop_attempt_block(segment_->request(slot));
    locked_forget_deaths(slot);
}

}  // namespace aiomq
