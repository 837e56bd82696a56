// Worker: nested tasks and loans. See pool_nested.cpp for the other side.
//
// Order: a message to the dispatcher is never dropped and never overtakes an earlier one of its kind; a
// payload is marked as kept before its job's DONE, and given back after it.
#include <cerrno>
#include <cstring>

#include "worker.hpp"

namespace aiomq {
namespace {

constexpr std::uint32_t kMostFlags = AIOMQ_TASK_PROGRESS | AIOMQ_TASK_KEYED | AIOMQ_TASK_FOLLOW;

bool is_data(std::uint16_t kind) { return kind >= AIOMQ_KIND_BYTES; }

constexpr std::uint64_t rounded(std::uint64_t bytes) { return (bytes + 7) / 8 * 8; }

constexpr std::uint64_t item_key(std::uint32_t job, std::uint32_t item) {
    return std::uint64_t{job} << 32 | item;
}

/// What an item says whose own words found no room.
ErrorText words_for(std::uint16_t status) {
    ErrorText error;
    error.type = status == AIOMQ_WORKER_DIED ? "aiomq.WorkerDied" : "aiomq.ResultTooLarge";
    error.message = status == AIOMQ_WORKER_DIED
                        ? "a worker died while it ran this task"
                        : "the pool's memory had no room for the result of a nested task";
    return error;
}

}  // namespace

/// For messages that must arrive: what does not fit the outbox waits here, in order.
void Worker::post(Message message) {
    outbox_backlog_.push_back(message.pack());
    flush_outbox();
}

/// When something is left, the dispatcher's next look at the lane wakes this worker. Both announce first
/// and look again after: here `outbox_waiting`, then the lane; there the lane's head, then the flag.
void Worker::flush_outbox() {
    const auto put_all = [this] {
        while (!outbox_backlog_.empty() && outbox_.put(outbox_backlog_.front()) == LaneStatus::kOk)
            outbox_backlog_.pop_front();
        outbox_.publish();
        return outbox_backlog_.empty();
    };
    if (!put_all()) {
        area_->outbox_waiting.store_seq(1);
        if (!put_all()) {
            // Completions for the application have filled the lane, and it need not look.
            sys::event_signal(supervisor_fd_.get());
            return;
        }
    }
    if (area_->outbox_waiting.load_relaxed() == 0) return;
    area_->outbox_waiting.store_seq(0);
    sys::event_signal(supervisor_fd_.get());
}

bool Worker::runs(const Job &job, std::uint32_t item) {
    if (!job.many) return item == 0 && job.started == 1 && job.finished == 0;
    const ItemOutcome *outcome = outcome_of(job, item);
    return outcome != nullptr &&
           OutcomeHead::unpack(outcome->head.load_relaxed()).status == AIOMQ_PENDING;
}

int Worker::submit(std::uint32_t handle, std::uint32_t item, const aiomq_task &task,
                   std::string_view function) {
    const Job *job = find(handle);
    const Layout &layout = segment_->layout();
    if (job == nullptr || !runs(*job, item) || task.struct_bytes != sizeof task ||
        (task.flags & ~kMostFlags) != 0 || task.kind > AIOMQ_KIND_ERROR || task.items == 0 ||
        task.items > kMaxItems || task.queue >= layout.queues ||
        (!is_data(task.kind) && task.payload_bytes != 0) ||
        (task.payload == nullptr && task.payload_bytes != 0))
        return -EINVAL;
    if (segment_->header().leave.load_seq() != 0) return -ESHUTDOWN;
    const std::uint64_t start = sizeof(NestedRequest) + rounded(function.size());
    if (task.payload_bytes > layout.arena_bytes || answer_bytes(task.items) > layout.arena_bytes)
        return -EMSGSIZE;
    take_inbox();
    auto block = arena_.allocate(start + task.payload_bytes);
    if (!block)
        return block.error() == -ENOMEM && arena_.used_bytes() == held_ ? -EMSGSIZE : block.error();
    NestedRequest request{};
    request.ticket = next_ticket_++;
    request.integer = task.integer;
    request.payload_bytes = task.payload_bytes;
    request.key = task.key;
    request.start_within_ns = task.start_within_ns;
    request.timeout_ns = task.timeout_ns;
    request.flags = task.flags;
    request.items = task.items;
    request.retries = task.retries;
    request.name_bytes = static_cast<std::uint32_t>(function.size());
    request.parent_slot = job->slot;
    request.parent_generation = job->word.generation();
    request.kind = task.kind;
    request.queue = task.queue;
    *segment_->at<NestedRequest>(*block) = request;
    function.copy(segment_->at<char>(*block + sizeof request), function.size());
    if (task.payload_bytes > 0)
        std::memcpy(segment_->at<void>(*block + start), task.payload, task.payload_bytes);
    nested_.emplace(request.ticket, Nested{task.user, handle, item, task.items});
    if (++waiting_items_[item_key(handle, item)] == 1) ++waiting_;
    count_memory();
    post({Notice::kSubmit, *block / kBlockAlign});
    sys::event_signal(supervisor_fd_.get());
    return 0;
}

int Worker::cancel_nested(std::uint64_t user) {
    bool any = false;
    for (const auto &[ticket, nested] : nested_) {
        if (nested.user != user) continue;
        post({Notice::kCancelNested, ticket});
        any = true;
    }
    if (!any) return -ENOENT;
    return sys::event_signal(supervisor_fd_.get());
}

/// An item has no more nested tasks under way, or has ended without waiting for them.
void Worker::stop_waiting(std::uint32_t job, std::uint32_t item) {
    if (waiting_items_.erase(item_key(job, item)) == 1) --waiting_;
}

void Worker::end_nested(std::uint64_t ticket) {
    const auto nested = nested_.find(ticket);
    const auto [user, job, item, items] = nested->second;
    nested_.erase(nested);
    const auto count = waiting_items_.find(item_key(job, item));
    if (count != waiting_items_.end() && --count->second == 0) stop_waiting(job, item);
}

std::int64_t Worker::collect(aiomq_completion *completions, std::size_t count) {
    take_inbox();
    answers_unseen_ = false;
    std::size_t taken = 0;
    while (taken < count && !answers_.empty()) {
        const Message message = answers_.front();
        answers_.pop_front();
        const bool sound = message.notice == Notice::kAnswer
                               ? read_answer(message.value * kBlockAlign, completions[taken])
                               : read_refusal(message.value, completions[taken]);
        if (!sound) return damaged();
        ++taken;
    }
    return static_cast<std::int64_t>(taken);
}

/// The items are copied, their data stays where it is.
bool Worker::read_answer(std::uint64_t offset, aiomq_completion &ret) {
    if (!segment_->in_request_arena(offset, sizeof(Answer))) return false;
    const Answer answer = *segment_->at<const Answer>(offset);
    const auto nested = nested_.find(answer.ticket);
    if (nested == nested_.end() || answer.item_count == 0 || answer.item_count > kMaxItems ||
        !segment_->in_request_arena(
            offset, sizeof(Answer) + std::uint64_t{answer.item_count} * sizeof(AnswerItem)))
        return false;
    ret.task_id = answer.task_id;
    ret.user = nested->second.user;
    ret.item_count = answer.item_count;
    ret.items_left = answer.items_left;
    ret.attempt = answer.attempt;
    ret.worker = answer.worker;
    NestedLoan loan;
    loan.block = offset;
    loan.items.reserve(answer.item_count);
    const auto *entry = segment_->at<const AnswerItem>(offset + sizeof(Answer));
    bool held = answer.item_count > 1;
    for (std::uint32_t i = 0; i < answer.item_count; ++i, ++entry) {
        aiomq_item item{entry->index, entry->status, entry->kind, entry->bytes, {}};
        item.value.integer = static_cast<std::int64_t>(entry->value);
        if (is_data(item.kind)) {
            if (!segment_->in_request_arena(entry->value, item.bytes) &&
                !segment_->in_result_arenas(entry->value, item.bytes))
                return false;
            item.value.data = segment_->at<const void>(entry->value);
            held = true;
        } else if (item.kind == AIOMQ_KIND_NONE &&
                   (item.status == AIOMQ_ERROR || item.status == AIOMQ_WORKER_DIED)) {
            give_error(item, words_for(item.status), loan);
            held = true;
        }
        loan.items.push_back(item);
    }
    if (answer.items_left == 0) end_nested(answer.ticket);
    give_items(ret, std::move(loan), held);
    return true;
}

bool Worker::read_refusal(std::uint64_t value, aiomq_completion &ret) {
    const std::uint64_t ticket = value & ((1ULL << kTicketBits) - 1);
    const int error = static_cast<int>(value >> kTicketBits);
    const auto nested = nested_.find(ticket);
    if (nested == nested_.end()) return false;
    ErrorText text;
    const std::string what =
        std::string("the pool can't take this nested task: ") + std::strerror(error);
    aiomq_item item{};
    item.status = AIOMQ_ERROR;
    if (error == ECANCELED) {
        item.status = AIOMQ_CANCELLED;
    } else if (error == ESHUTDOWN) {
        item.status = AIOMQ_POOL_CLOSED;
        text.type = "aiomq.PoolClosed";
        text.message = "the pool was closed before this nested task started";
    } else if (error == EAGAIN) {
        text.type = "aiomq.QueueFull";
        text.message =
            "no room for this nested task, and every task in the pool waits for nested tasks "
            "itself: "
            "raise capacity or arena_max_bytes, or nest less deep";
    } else {
        text.type = "aiomq.SubmitFailed";
        text.message = what;
    }
    NestedLoan loan;
    if (error != ECANCELED) give_error(item, text, loan);
    ret.task_id = 0;
    ret.user = nested->second.user;
    ret.item_count = nested->second.items;
    ret.items_left = 0;
    ret.attempt = 1;
    ret.worker = AIOMQ_NO_WORKER;
    for (item.index = 0; item.index < ret.item_count; ++item.index) loan.items.push_back(item);
    end_nested(ticket);
    give_items(ret, std::move(loan), true);
    return true;
}

/// An error envelope in private memory that @loan keeps.
void Worker::give_error(aiomq_item &item, const ErrorText &error, NestedLoan &loan) {
    const std::size_t bytes = error_bytes(error);
    loan.copies.emplace_back(new std::uint64_t[bytes / 8 + 1]);
    item.kind = AIOMQ_KIND_ERROR;
    item.bytes = build_error(error, loan.copies.back().get(), bytes);
    item.value.data = loan.copies.back().get();
}

/// @held: not only a scalar, so that memory is kept until release().
void Worker::give_items(aiomq_completion &ret, NestedLoan loan, bool held) {
    ret.loan = 0;
    ret.items = &ret.item;
    if (loan.items.size() == 1) ret.item = loan.items[0];
    if (!held) {
        give_back(loan.block);
        return;
    }
    ret.loan = next_loan_++;
    NestedLoan &kept = loans_.emplace(ret.loan, std::move(loan)).first->second;
    if (kept.items.size() > 1) ret.items = kept.items.data();
}

void Worker::give_back(std::uint64_t block) {
    post({Notice::kReturn, block / kBlockAlign});
    given_back_ = true;
}

int Worker::retain(std::uint32_t handle, std::uint64_t &ret_loan) {
    const Job *job = find(handle);
    if (job == nullptr) return -EINVAL;
    const std::uint64_t block = segment_->request(job->slot).payload_offset;
    if (block == 0) return -ENODATA;
    ++retained_[block].loans;
    NestedLoan loan;
    loan.payload = block;
    ret_loan = next_loan_++;
    loans_.emplace(ret_loan, std::move(loan));
    return 0;
}

/// Before a job's DONE: says whether its payload is still read here.
void Worker::keep_payload(const Job &job) {
    const auto kept = retained_.find(segment_->request(job.slot).payload_offset);
    // One mark for each return, also when parts of a split task share the payload.
    if (kept == retained_.end() || kept->second.job_ended) return;
    kept->second.job_ended = true;
    segment_->slot(job.slot).retained = 1;
}

int Worker::release(std::uint64_t loan_id) {
    if (loan_id == 0) return 0;
    const auto found = loans_.find(loan_id);
    if (found == loans_.end()) return -EINVAL;
    const std::uint64_t block = found->second.block;
    const std::uint64_t payload = found->second.payload;
    loans_.erase(found);
    if (block != 0) give_back(block);
    if (payload == 0) return 0;
    const auto kept = retained_.find(payload);
    if (--kept->second.loans > 0) return 0;
    const bool told = kept->second.job_ended;
    retained_.erase(kept);
    if (told) give_back(payload);
    return 0;
}

}  // namespace aiomq
