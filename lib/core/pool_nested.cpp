// Pool: nested work, i.e. tasks that workers submit, and payloads that workers keep beyond a task.
//
// A request waits in its worker's arena until there is a slot and memory for it; it becomes a task like
// any other, whose completions go to the worker that asked instead of to the application. What a worker
// holds of the request arena (answers, payloads) is written down here and freed when the worker gives it
// back or has died. Whoever drains a lane does this work: the application, or the supervisor, which
// workers wake for it, so that a blocked application holds up nobody.
//
// Everything in a request is a worker's memory: it is copied, then checked, and the copy is used.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "pool.hpp"

namespace aiomq {
namespace {

bool is_data(std::uint16_t kind) { return kind >= AIOMQ_KIND_BYTES; }

constexpr std::uint64_t rounded(std::uint64_t bytes) { return (bytes + 7) / 8 * 8; }

}  // namespace

void Pool::locked_take_nested(std::uint32_t worker, Message message) {
    if (!seats_[worker].alive) return;  // recovery has forgotten or will forget all of it
    nested_moved_ = true;
    switch (message.notice) {
        case Notice::kSubmit:
            locked_take_request(worker, message.value * kBlockAlign);
            return;
        case Notice::kReturn:
            locked_take_return(worker, message.value * kBlockAlign);
            return;
        case Notice::kCancelNested:
            locked_cancel_nested(worker, message.value);
            return;
        default:
            locked_corrupt("a message of worker " + std::to_string(worker));
    }
}

void Pool::locked_take_request(std::uint32_t worker, std::uint64_t offset) {
    const auto damaged = [&] {
        locked_corrupt("a nested task of worker " + std::to_string(worker));
    };
    if (!segment_->in_result_arena(worker, offset, sizeof(NestedRequest))) return damaged();
    WaitingRequest waiting{worker, offset, {}, *segment_->at<const NestedRequest>(offset)};
    const NestedRequest &request = waiting.request;
    WorkerSeat &seat = seats_[worker];
    if (request.name_bytes == 0 || request.name_bytes > kMaxNameBytes || request.items == 0 ||
        request.items > kMaxItems || (request.flags & AIOMQ_TASK_ADOPT) != 0 ||
        request.ticket >> kTicketBits != 0 || request.parent_slot >= slot_count() ||
        request.payload_bytes > segment_->layout().arena_bytes ||
        !segment_->in_result_arena(
            worker, offset,
            sizeof(NestedRequest) + rounded(request.name_bytes) + request.payload_bytes) ||
        !seat.nested.emplace(request.ticket, 0).second)
        return damaged();
    const SlotWord word(segment_->slot(request.parent_slot).word.load_acquire());
    if (tasks_[request.parent_slot].in_use && word.phase() == Phase::kClaimed &&
        word.held_by(worker, seat.incarnation) && word.generation() == request.parent_generation) {
        NestedCount &count = parents_[request.parent_slot];
        if (count.generation != word.generation()) count = {word.generation(), 0};
        ++count.tasks;
        waiting.parent = {request.parent_slot, word.generation()};
        tasks_[request.parent_slot].flags |= task_relation::kParent;
    }
    nested_waiting_.push_back(waiting);
    if (nested_waiting_.size() == 1) locked_retry_nested();
}

/// Gives waiting requests slots, oldest first. When there is no room, and nobody but tasks that
/// themselves wait for nested work could make some, the oldest is refused instead of waiting for ever.
void Pool::locked_retry_nested() {
    const bool wanted = want_room_;  // by the application, not by these
    while (!nested_waiting_.empty()) {
        const WaitingRequest waiting = nested_waiting_.front();
        const bool over = terminating_ || discarding_;
        const int error = over ? -ESHUTDOWN : locked_submit_nested(waiting);
        const bool no_room = error == -EAGAIN || error == -ENOMEM;
        if (no_room && parents_.size() < in_use_) break;
        nested_waiting_.pop_front();
        if (error != 0)
            locked_end_request(waiting, no_room ? EAGAIN : -error);
        else
            locked_post(waiting.owner, {Notice::kRelease, waiting.offset / kBlockAlign});
    }
    want_room_ = wanted;
    kept_free_ = nested_waiting_.empty() ? segment_->layout().reserved_slots : SIZE_MAX;
    locked_announce_waiting();
    locked_publish_hints();
    counters().request_used_bytes.store_relaxed(requests_.used_bytes());
    counters().request_committed_bytes.store_relaxed(requests_.committed_bytes());
}

/// While requests wait for room, a worker that completes anything wakes the supervisor: the application
/// need not look. Both announce first and look after: here the flag, then the lanes; there the lane's
/// tail, then the flag.
void Pool::locked_announce_waiting() {
    auto &flag = segment_->header().nested_waiting;
    const std::uint32_t waiting = nested_waiting_.empty() ? 0 : 1;
    if (flag.load_relaxed() == waiting) return;
    flag.store_seq(waiting);
    if (waiting != 0 && locked_has_completions()) wake_supervisor();
}

int Pool::locked_submit_nested(const WaitingRequest &waiting) {
    const NestedRequest &request = waiting.request;
    // Now, so that its answer needs no memory later.
    auto block = requests_.allocate(answer_bytes(request.items));
    if (!block) return block.error();
    const std::uint64_t name = waiting.offset + sizeof(NestedRequest);
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.flags = request.flags;
    task.kind = request.kind;
    task.queue = request.queue;
    task.items = request.items;
    task.retries = request.retries;
    task.integer = request.integer;
    task.payload_bytes = request.payload_bytes;
    if (request.payload_bytes > 0)
        task.payload = segment_->at<const void>(name + rounded(request.name_bytes));
    task.key = request.key;
    task.start_within_ns = request.start_within_ns;
    task.timeout_ns = request.timeout_ns;
    std::uint64_t id = 0;
    int error = locked_function(
        std::string_view(segment_->at<const char>(name), request.name_bytes), task.function);
    if (error == 0)
        error = locked_submit(task, sys::monotonic_coarse_ns(), &id, request_flag::kNested);
    if (error != 0) {
        requests_.release(*block);
        return error;
    }
    tasks_[slot_of(id)].flags |= task_relation::kOwned;
    nested_.emplace(id, NestedTask{waiting.owner, request.ticket, waiting.parent, *block, {}});
    seats_[waiting.owner].nested[request.ticket] = id;
    counters().nested.add_by_single_writer(request.items);
    counters().submitted.add_by_single_writer(request.items);
    return 0;
}

/// Tells the owner that a request will not become a task.
void Pool::locked_end_request(const WaitingRequest &waiting, int error) {
    locked_leave_parent(waiting.parent);
    seats_[waiting.owner].nested.erase(waiting.request.ticket);
    locked_post(waiting.owner, {Notice::kRelease, waiting.offset / kBlockAlign});
    locked_post(waiting.owner, {Notice::kRefused, static_cast<std::uint64_t>(error) << kTicketBits |
                                                      waiting.request.ticket});
}

/// From now on nothing starts that has not started.
void Pool::locked_refuse_nested() {
    discarding_ = true;
    locked_retry_nested();
}

void Pool::locked_cancel_nested(std::uint32_t worker, std::uint64_t ticket) {
    const auto found = seats_[worker].nested.find(ticket);
    if (found == seats_[worker].nested.end()) return;  // it has ended
    if (found->second != 0) {
        locked_cancel_task(found->second);
        return;
    }
    const auto waiting = std::find_if(
        nested_waiting_.begin(), nested_waiting_.end(),
        [&](const auto &other) { return other.owner == worker && other.request.ticket == ticket; });
    if (waiting == nested_waiting_.end()) return;
    const WaitingRequest request = *waiting;
    nested_waiting_.erase(waiting);
    locked_end_request(request, ECANCELED);
}

/// Ends a look at the lanes. True: there was more than completions for the application.
bool Pool::locked_end_nested() {
    if (!std::exchange(nested_moved_, false)) return false;
    locked_retry_nested();
    return true;
}

/// Gives a lane's cells back to the worker, which may have more than fitted: it announces that and looks
/// at the lane again, this moves the lane's head and looks at the announcement.
void Pool::locked_lane_read(std::uint32_t worker) {
    if (seats_[worker].outbox.publish() && segment_->area(worker).outbox_waiting.load_seq() != 0)
        sys::event_signal(seats_[worker].event_fd.get());
}

/// Whether nested tasks are on their way though no slot is in use: then the workers stay.
bool Pool::locked_nested_left() {
    if (!nested_waiting_.empty()) return true;
    for (std::uint32_t worker = 0; worker < seats_.size(); ++worker) {
        if (!seats_[worker].alive) continue;
        if (segment_->area(worker).outbox_waiting.load_seq() != 0) return true;  // it will tell
        if (seats_[worker].outbox.empty()) continue;
        wake_supervisor();
        return true;
    }
    return false;
}

void Pool::locked_leave_parent(ParentSlot parent) {
    const auto count = parents_.find(parent.slot);
    if (count == parents_.end() || count->second.generation != parent.generation) return;
    if (--count->second.tasks == 0) parents_.erase(count);
}

/// A slot becomes free that has, or is, nested work.
void Pool::locked_forget_relations(std::uint32_t slot) {
    const TaskRecord &task = tasks_[slot];
    if ((task.flags & task_relation::kParent) != 0) parents_.erase(slot);
    if ((task.flags & task_relation::kOwned) == 0 || splits_.contains(task.id)) return;
    const auto found = nested_.find(task.id);
    if (found == nested_.end()) return;
    NestedTask &nested = found->second;
    for (const aiomq_completion &part : nested.parts) locked_release(part.loan);
    if (nested.answer_block != 0) requests_.release(nested.answer_block);
    locked_leave_parent(nested.parent);
    if (nested.owner != AIOMQ_NO_WORKER) seats_[nested.owner].nested.erase(nested.ticket);
    nested_.erase(found);
}

/// Sends finished items to the worker that asked for them. The last answer has its memory already; an
/// earlier one that finds none is told with the next.
void Pool::locked_answer(std::uint32_t slot, const aiomq_completion &completion) {
    const auto found = nested_.find(tasks_[slot].id);
    if (found == nested_.end() || found->second.owner == AIOMQ_NO_WORKER ||
        !seats_[found->second.owner].alive) {
        locked_release(completion.loan);
        return;
    }
    nested_moved_ = true;
    NestedTask &nested = found->second;
    nested.parts.push_back(completion);
    const bool last = completion.items_left == 0;
    std::uint64_t bytes = sizeof(Answer);
    for (const aiomq_completion &part : nested.parts)
        for (std::uint32_t i = 0; i < part.item_count; ++i) {
            const aiomq_item &item = part.item_count == 1 ? part.item : part.items[i];
            const bool lent =
                part.loan != 0 && is_data(item.kind) &&
                segment_->in_result_arenas(segment_->offset_of(item.value.data), item.bytes);
            bytes += sizeof(AnswerItem) + (lent || !is_data(item.kind) ? 0 : rounded(item.bytes));
        }
    std::uint64_t block = 0;
    if (last && bytes <= requests_.block_bytes(nested.answer_block))
        block = std::exchange(nested.answer_block, 0);
    else if (auto fresh = requests_.allocate(bytes); fresh)
        block = *fresh;
    else if (last)
        block = std::exchange(nested.answer_block, 0);
    else
        return;
    locked_write_answer(block, nested);
    nested.parts.clear();
    locked_post(nested.owner, {Notice::kAnswer, block / kBlockAlign});
}

/// Data in a worker's arena stays where it is, and its loan with the answer. Other data is copied; what
/// does not fit becomes a bare error, for which the owner has the words.
void Pool::locked_write_answer(std::uint64_t block, const NestedTask &nested) {
    const aiomq_completion &last = nested.parts.back();
    std::uint32_t count = 0;
    for (const aiomq_completion &part : nested.parts) count += part.item_count;
    auto *answer = segment_->at<Answer>(block);
    *answer = {nested.ticket, last.task_id, count, last.items_left, last.attempt, last.worker};
    auto *entry = reinterpret_cast<AnswerItem *>(answer + 1);  // NOLINT
    std::uint64_t cursor = block + sizeof(Answer) + std::uint64_t{count} * sizeof(AnswerItem);
    const std::uint64_t end = block + requests_.block_bytes(block);
    GivenAnswer &given = answers_[block];
    given.owner = nested.owner;
    for (const aiomq_completion &part : nested.parts) {
        bool lent = false;
        for (std::uint32_t i = 0; i < part.item_count; ++i, ++entry) {
            const aiomq_item &item = part.item_count == 1 ? part.item : part.items[i];
            *entry = {item.index, item.status, item.kind, item.bytes,
                      static_cast<std::uint64_t>(item.value.integer)};
            if (!is_data(item.kind)) continue;
            const void *data = part.loan == 0 ? part.bytes : item.value.data;
            const std::uint64_t offset = segment_->offset_of(data);
            if (part.loan != 0 && segment_->in_result_arenas(offset, item.bytes)) {
                entry->value = offset;
                lent = true;
            } else if (rounded(item.bytes) <= end - cursor) {
                std::memcpy(segment_->at<void>(cursor), data, item.bytes);
                entry->value = cursor;
                cursor += rounded(item.bytes);
            } else {
                entry->status = item.status == AIOMQ_OK ? std::uint16_t{AIOMQ_ERROR} : item.status;
                entry->kind = AIOMQ_KIND_NONE;
                entry->bytes = entry->value = 0;
            }
        }
        if (lent)
            given.loans.push_back(part.loan);
        else
            locked_release(part.loan);
    }
}

/// A worker gives back an answer, or a payload that it kept.
void Pool::locked_take_return(std::uint32_t worker, std::uint64_t offset) {
    const auto given = answers_.find(offset);
    if (given != answers_.end() && given->second.owner == worker) {
        for (const std::uint64_t loan : given->second.loans) locked_release(loan);
        answers_.erase(given);
        requests_.release(offset);
        return;
    }
    WorkerSeat &seat = seats_[worker];
    // The task's DONE was before this; when its hint found the lane full it has not been looked at yet.
    if (!seat.retained.contains(offset)) locked_rescan(worker);
    const auto kept = seat.retained.find(offset);
    if (kept == seat.retained.end()) {
        locked_corrupt("what worker " + std::to_string(worker) + " gives back");
    } else if (--kept->second == 0) {
        seat.retained.erase(kept);
        locked_free_payload(offset);
    }
}

/// A task is DONE whose payload its worker goes on reading: the block outlives the task.
void Pool::locked_keep_payload(std::uint32_t slot, SlotWord word) {
    WorkerSeat &seat = seats_[word.worker()];
    const std::uint64_t block = segment_->request(slot).payload_offset;
    if (block == 0 || !seat.alive || !word.held_by(word.worker(), seat.incarnation)) return;
    if (seat.retained[block]++ == 0) locked_share_payload(block);
}

/// One more has a payload that is had already.
void Pool::locked_share_payload(std::uint64_t block) {
    ++shared_.try_emplace(block, 1).first->second;
}

/// A task has ended, or whoever else has its payload needs it no more.
void Pool::locked_free_payload(std::uint64_t block) {
    const auto shared = shared_.empty() ? shared_.end() : shared_.find(block);
    if (shared == shared_.end()) {
        requests_.release(block);
    } else if (--shared->second == 1) {
        shared_.erase(shared);
    }
}

void Pool::locked_forget_worker(std::uint32_t worker) {
    WorkerSeat &seat = seats_[worker];
    std::erase_if(nested_waiting_, [&](const WaitingRequest &waiting) {
        if (waiting.owner != worker) return false;
        locked_leave_parent(waiting.parent);
        return true;
    });
    for (const auto &[ticket, id] : std::exchange(seat.nested, {})) {
        const auto found = nested_.find(id);
        if (found == nested_.end()) continue;
        NestedTask &nested = found->second;
        nested.owner = AIOMQ_NO_WORKER;
        for (const aiomq_completion &part : std::exchange(nested.parts, {}))
            locked_release(part.loan);
        locked_leave_parent(std::exchange(nested.parent, {}));
        locked_cancel_task(id);
    }
    std::erase_if(answers_, [&](const auto &given) {
        if (given.second.owner != worker) return false;
        for (const std::uint64_t loan : given.second.loans) locked_release(loan);
        requests_.release(given.first);
        return true;
    });
    for (const auto &[block, returns] : std::exchange(seat.retained, {}))
        locked_free_payload(block);
    locked_retry_nested();
}

}  // namespace aiomq
