#include "worker.hpp"

#include <cstring>

namespace aiomq {
namespace {

constexpr std::uint32_t kPublicFlags = 0xff;
/// How many hints ahead a task's lines are fetched into the cache.
constexpr std::uint32_t kPrefetch = 3;

}  // namespace

Worker::Job *Worker::find(std::uint32_t handle) {
    const std::uint32_t index = handle & kJobIndexMask;
    if (index >= jobs_.size()) return nullptr;
    Job &job = *jobs_[index];
    return job.in_use && job.handle == handle ? &job : nullptr;
}

const aiomq_job *Worker::job_view(std::uint32_t handle) {
    Job *job = find(handle);
    return job == nullptr ? nullptr : &job->view;
}

int Worker::damaged() {
    segment_->flags().corrupt.store_seq(1);
    sys::event_signal(supervisor_fd_.get());
    return -EBADMSG;
}

std::int64_t Worker::claim(aiomq_job *ret_jobs, std::size_t count) {
    std::size_t taken = 0;
    while (taken < count) {
        const aiomq_job *job = nullptr;
        const int got = claim_one(job);
        if (got < 0 && taken == 0) return got;
        if (got <= 0) break;
        ret_jobs[taken++] = *job;
    }
    return static_cast<std::int64_t>(taken);
}

int Worker::claim_one(const aiomq_job *&ret_job) {
    if (!is_ready_) return -EPROTO;
    if (retiring()) {
        settle();
        return running_ > 0 && claim_follow_up(ret_job) ? 1 : -ESHUTDOWN;
    }
    const std::uint32_t slots = segment_->layout().slots;
    if (segment_->header().keyed.load_relaxed() != 0) take_inbox();
    for (Served &served : served_) {
        if (!served.keyed.empty() && claim_keyed(served, ret_job)) return 1;
        auto &[queue, ring, keyed] = served;
        std::uint32_t slot = 0;
        RingStatus status = RingStatus::kOk;
        while ((status = ring.pop(slot)) == RingStatus::kOk) {
            if (untold_) wake_application();  // ordered by the pop's exchange
            if (slot >= slots) return damaged();
            const std::uint32_t soon = ring.guess(kPrefetch);
            if (soon < slots) {
                __builtin_prefetch(&segment_->slot(soon), 1);
                __builtin_prefetch(&segment_->request(soon));
                if (limits_) __builtin_prefetch(&segment_->request(soon).start_by_ns);
            }
            SlotWord word;
            if (!aiomq::claim(segment_->slot(slot), queue, index_, incarnation_, word)) continue;
            ret_job = &begin_job(slot, word).view;
            return 1;
        }
        if (status != RingStatus::kEmpty) return damaged();
    }
    settle();
    return segment_->header().leave.load_seq() != 0 ? -ESHUTDOWN : 0;
}

/// Takes the next task that waits for this very worker.
bool Worker::claim_keyed(Served &served, const aiomq_job *&ret_job) {
    settle();  // no pop's exchange here to order it
    while (!served.keyed.empty()) {
        const NamedSlot hint = served.keyed.front();
        served.keyed.pop_front();
        SlotWord word;
        if (!aiomq::claim_keyed(segment_->slot(hint.slot), hint.generation, index_, incarnation_,
                                word))
            continue;
        ret_job = &begin_job(hint.slot, word).view;
        return true;
    }
    return false;
}

/// Takes the next task that belongs to what a retiring worker has under way. The others wait for a
/// successor.
bool Worker::claim_follow_up(const aiomq_job *&ret_job) {
    if (segment_->header().keyed.load_relaxed() == 0) return false;
    take_inbox();
    for (Served &served : served_) {
        for (auto hint = served.keyed.begin(); hint != served.keyed.end();) {
            SlotWord word;
            if ((segment_->request(hint->slot).flags & AIOMQ_TASK_FOLLOW) == 0) {
                ++hint;
                continue;
            }
            const NamedSlot named = *hint;
            hint = served.keyed.erase(hint);
            if (!aiomq::claim_keyed(segment_->slot(named.slot), named.generation, index_,
                                    incarnation_, word))
                continue;
            ret_job = &begin_job(named.slot, word).view;
            return true;
        }
    }
    return false;
}

/// Sorts a hint to its queue; what is stale already is dropped.
void Worker::take_hint(NamedSlot hint) {
    if (hint.slot >= segment_->layout().slots) {
        damaged();
        return;
    }
    const SlotWord word(segment_->slot(hint.slot).word.load_acquire());
    if (word.generation() != hint.generation) return;
    for (Served &served : served_)
        if (served.queue == word.queue()) served.keyed.push_back(hint);
}

Worker::Job &Worker::begin_job(std::uint32_t slot, SlotWord word) {
    if (free_jobs_.empty()) {
        free_jobs_.push_back(static_cast<std::uint32_t>(jobs_.size()));
        jobs_.push_back(std::make_unique<Job>());
        jobs_.back()->handle = free_jobs_.back();
    }
    Job &job = *jobs_[free_jobs_.back()];
    free_jobs_.pop_back();
    const Request &request = segment_->request(slot);
    job.handle += 1U << kJobIndexBits;  // so that an old handle is noticed
    job.slot = slot;
    job.word = word;
    job.in_use = true;
    job.many = request.items != 1;
    limits_ = (request.flags & request_flag::kLimited) != 0;
    job.guarded = limits_ || (request.attempt_block != 0 && request.attempt > 1);
    job.cancelled = false;
    job.nested = (request.flags & request_flag::kNested) != 0;
    job.started = job.finished = 0;
    job.base = job.next = job.end = request.item_base;
    job.outcomes = nullptr;
    job.block = job.data = job.data_used = job.data_bytes = job.held = 0;
    aiomq_job &view = job.view;
    view.task_id = request.task_id;
    view.job = job.handle;
    view.function = request.function;
    view.flags = request.flags & kPublicFlags;
    view.kind = request.kind;
    view.attempt = static_cast<std::uint16_t>(std::min<std::uint32_t>(request.attempt, UINT16_MAX));
    view.first_item = request.item_base;
    view.end_item = job.many ? ItemRange::unpack(segment_->slot(slot).range.load_acquire()).end : 1;
    view.integer = request.integer;
    view.payload_bytes = request.payload_bytes;
    view.submitted_ns = request.submitted_ns;
    view.timeout_ns = (request.flags & request_flag::kLimited) != 0 ? request.timeout_ns : 0;
    view.payload = request.payload_offset == 0 ? request.inline_payload
                                               : segment_->at<const void>(request.payload_offset);
    return job;
}

/// Every item of a task of many has started or was withdrawn.
bool Worker::nothing_left(const Job &job) {
    const ItemRange range = ItemRange::unpack(segment_->slot(job.slot).range.load_acquire());
    return range.next >= range.end;
}

/// Nothing of it has started and nothing will: it needs no outcome block to end.
bool Worker::all_withdrawn(const Job &job) { return job.started == 0 && nothing_left(job); }

/// A task of many items needs its outcome block, zeroed and named in the slot, before any item starts.
bool Worker::room_in(Job &job) {
    const std::uint32_t count = segment_->request(job.slot).items - job.base;
    const std::uint64_t bytes = sizeof(OutcomeBlock) + std::uint64_t{count} * sizeof(ItemOutcome);
    // Submit has checked that it fits an arena; what fills this one goes back, or its jobs end.
    auto block = take_block(job, bytes);
    if (!block) return false;
    auto *outcomes = segment_->at<OutcomeBlock>(*block);
    std::memset(static_cast<void *>(outcomes), 0, bytes);
    outcomes->first_item = job.base;
    outcomes->count = count;
    job.outcomes = reinterpret_cast<ItemOutcome *>(outcomes + 1);  // NOLINT
    job.end = job.base + count;
    job.block = *block;
    segment_->slot(job.slot).block_offset.store_release(*block);
    return true;
}

int Worker::start(std::uint32_t handle, std::uint32_t &ret_item) {
    Job *job = find(handle);
    return job == nullptr ? -EINVAL : start(*job, ret_item);
}

int Worker::start(Job &job, std::uint32_t &ret_item) {
    settle();
    const int error = job.guarded ? start_guarded(job, ret_item) : start_next(job, ret_item, 1);
    if (error != 0) return error;
    ++job.started;
    ++running_;
    area_->started.add_by_single_writer(1);
    area_->current.store_relaxed(std::uint64_t{job.slot + 1} << 32 | ret_item);
    return 0;
}

/// Raises `next`: from here on the item counts as started.
int Worker::start_next(Job &job, std::uint32_t &ret_item, std::uint32_t stamp) {
    if (!job.many) {
        if (job.started != 0) return -ENODATA;
        if (retiring() && (job.view.flags & AIOMQ_TASK_FOLLOW) == 0) return -ESHUTDOWN;
        ret_item = 0;
        start_only_item(segment_->slot(job.slot), stamp);
        return 0;
    }
    if (retiring() && (job.view.flags & AIOMQ_TASK_FOLLOW) == 0 && !nothing_left(job))
        return -ESHUTDOWN;
    if (job.block == 0 && !all_withdrawn(job) && !room_in(job)) return -ENOMEM;
    if (start_item(segment_->slot(job.slot), ret_item)) {
        if (ret_item < job.next || ret_item >= job.end) return damaged();
        job.next = ret_item + 1;
        return 0;
    }
    if (job.finished == job.started) finish_job(job);
    return -ENODATA;
}

/// The same for a task with limits, or one that is run again or cancelled: items that are late or cancelled
/// end here, as EXPIRED or CANCELLED, and those that an earlier attempt delivered are passed over.
int Worker::start_guarded(Job &job, std::uint32_t &ret_item) {
    const Request &request = segment_->request(job.slot);
    const bool limited = (request.flags & request_flag::kLimited) != 0;
    const std::uint64_t now_ns = limited ? sys::monotonic_coarse_ns() : 0;
    const bool late = limited && now_ns >= request.start_by_ns;
    const bool timed = job.view.timeout_ns != 0;
    const std::uint32_t stamp = timed ? start_stamp(now_ns, request.submitted_ns) : 1;
    const AttemptBlock *earlier = nullptr;
    if (request.attempt_block != 0 && request.attempt > 1) {
        const std::uint64_t offset = attempt_block_offset(segment_->layout(), request);
        if (!segment_->in_request_arena(offset, attempt_block_bytes(request.items)))
            return damaged();
        earlier = segment_->at<AttemptBlock>(offset);
    }
    const auto starts_of = [earlier](std::uint32_t item) -> std::uint16_t {
        if (earlier == nullptr) return 0;
        return reinterpret_cast<const std::uint16_t *>(earlier + 1)[item];  // NOLINT
    };
    for (;;) {
        if (const int error = start_next(job, ret_item, stamp); error != 0) return error;
        const std::uint16_t starts = starts_of(ret_item);
        if (starts == kDelivered) {
            ++job.started;
            ++job.finished;
            continue;
        }
        if (!job.cancelled && (!late || starts != 0)) break;
        ++job.started;
        const std::uint16_t status = job.cancelled ? AIOMQ_CANCELLED : AIOMQ_EXPIRED;
        if (const int ended = end_unrun(job, ret_item, status); ended != 0)
            return ended < 0 ? ended : -ENODATA;
    }
    if (timed && job.many)
        outcome_of(job, ret_item)->head.store_relaxed(OutcomeHead{0, 0, stamp}.pack());
    return 0;
}

/// Where an item of many that has started has its outcome; null: it has not started.
ItemOutcome *Worker::outcome_of(const Job &job, std::uint32_t item) {
    return item >= job.base && item < job.next ? job.outcomes + (item - job.base) : nullptr;
}

std::uint64_t Worker::started_ns(std::uint32_t handle, std::uint32_t item) {
    const Job *job = find(handle);
    if (job == nullptr || job->view.timeout_ns == 0) return 0;
    std::uint32_t stamp = 0;
    if (job->many) {
        const ItemOutcome *outcome = outcome_of(*job, item);
        if (outcome == nullptr) return 0;
        const OutcomeHead head = OutcomeHead::unpack(outcome->head.load_relaxed());
        if (head.status == AIOMQ_PENDING) stamp = head.bytes;
    } else if (job->started != job->finished) {
        stamp = ItemRange::unpack(segment_->slot(job->slot).range.load_relaxed()).end;
    }
    if (stamp == 0) return 0;
    return stamped_ns(stamp, segment_->request(job->slot).submitted_ns);
}

void Worker::set_current(std::uint64_t current) {
    area_->current.store_relaxed(current);
    turn();
}

int Worker::enter(std::uint32_t handle, std::uint32_t item) {
    if (handle == UINT32_MAX) {
        set_current(0);
        return 0;
    }
    const Job *job = find(handle);
    if (job == nullptr) return -EINVAL;
    set_current(std::uint64_t{job->slot + 1} << 32 | item);
    return 0;
}

int Worker::function(std::uint32_t number, const char **ret_name, std::size_t *ret_bytes) {
    if (number >= segment_->header().functions.load_acquire()) return -ENOENT;
    const FunctionRecord record = segment_->function(number);
    if (!segment_->in_request_arena(record.offset, record.bytes)) return -ENOENT;
    *ret_name = segment_->at<const char>(record.offset);
    *ret_bytes = record.bytes;
    return 0;
}

}  // namespace aiomq
