// Worker: room for results, outcomes, and the end of jobs.
#include <cstring>

#include "worker.hpp"

namespace aiomq {
namespace {

constexpr std::uint64_t kDataBlockBytes = 16 << 10;
/// Results of this size and above get a block of their own.
constexpr std::uint64_t kLargeBytes = kDataBlockBytes / 4;

bool is_data(std::uint16_t kind) { return kind >= AIOMQ_KIND_BYTES; }

}  // namespace

int Worker::allocate(std::uint32_t handle, std::uint64_t bytes, void **ret_data) {
    Job *job = find(handle);
    if (job == nullptr || bytes == 0) return -EINVAL;
    std::uint64_t offset = 0;
    const int error = place(*job, bytes, offset);
    if (error != 0) return error;
    *ret_data = segment_->at<void>(offset);
    return 0;
}

/// A block for a job that runs. -ENOMEM: wait, readers hold blocks that they will give back. -EMSGSIZE:
/// never, since the arena holds nothing but what jobs have made that have not ended.
Result<std::uint64_t> Worker::take_block(Job &job, std::uint64_t bytes) {
    take_inbox();
    auto block = arena_.allocate(bytes);
    if (!block)
        return Result<std::uint64_t>::failure(
            block.error() == -ENOMEM && arena_.used_bytes() == held_ ? -EMSGSIZE : block.error());
    const std::uint64_t size = arena_.block_bytes(*block);
    job.held += size;
    held_ += size;
    count_memory();
    return block;
}

/// Finds room for a result: a block of its own, or the next bytes of the job's current data block.
/// Every data block is linked to the outcome block at once, so that none is lost when we die.
int Worker::place(Job &job, std::uint64_t bytes, std::uint64_t &ret_offset) {
    if (!job.many) {
        auto block = take_block(job, bytes);
        if (!block) return block.error();
        job.unnamed.push_back(*block);
        ret_offset = *block;
        return 0;
    }
    if (job.block == 0) return -EINVAL;  // nothing of it has started
    if (bytes > UINT32_MAX) return -EMSGSIZE;
    const std::uint64_t needed = (bytes + 7) / 8 * 8;
    if (job.data == 0 || needed > job.data_bytes - job.data_used) {
        std::uint64_t size = needed > kLargeBytes ? sizeof(DataBlock) + needed : kDataBlockBytes;
        auto block = take_block(job, size);
        if (!block && size == kDataBlockBytes) {  // then without room for more
            size = sizeof(DataBlock) + needed;
            block = take_block(job, size);
        }
        if (!block) return block.error();
        auto *outcomes = segment_->at<OutcomeBlock>(job.block);
        auto *data = segment_->at<DataBlock>(*block);
        data->next_offset = outcomes->data_offset.load_relaxed();
        data->bytes = size;
        outcomes->data_offset.store_release(*block);
        if (size != kDataBlockBytes) {
            ret_offset = *block + sizeof(DataBlock);
            return 0;
        }
        job.data = *block;
        job.data_bytes = size;
        job.data_used = sizeof(DataBlock);
    }
    ret_offset = job.data + job.data_used;
    job.data_used += needed;
    return 0;
}

int Worker::complete(std::uint32_t handle, const aiomq_item &item) {
    Job *job = find(handle);
    return job == nullptr ? -EINVAL : complete(*job, item);
}

int Worker::next(std::uint32_t handle, const aiomq_item &item, std::uint32_t &ret_item) {
    ret_item = UINT32_MAX;
    Job *job = find(handle);
    if (job == nullptr) return -EINVAL;
    const int completed = complete(*job, item);
    if (completed != 0) return completed;
    std::uint32_t started = 0;
    const int error = start(*job, started);
    if (error == 0) ret_item = started;
    // What was left when the item ended may have been withdrawn meanwhile.
    return error == -ENODATA && find(handle) == nullptr ? 1 : 0;
}

int Worker::complete(Job &job, const aiomq_item &item) {
    if (item.kind > AIOMQ_KIND_ERROR ||
        !(item.status == AIOMQ_OK || item.status == AIOMQ_ERROR || item.status == AIOMQ_CANCELLED ||
          item.status == AIOMQ_TIMED_OUT) ||
        (is_data(item.kind) && item.value.data == nullptr && item.bytes > 0))
        return -EINVAL;
    if (const int error = publish(job, item); error != 0) return error;
    --running_;
    area_->completed.add_by_single_writer(1);
    if (item.status != AIOMQ_OK) area_->failed.add_by_single_writer(1);
    if (waiting_ != 0) stop_waiting(job.handle, item.index);
    // What is said of a dead worker's thread must not name an item that had ended.
    if (area_->current.load_relaxed() == (std::uint64_t{job.slot + 1} << 32 | item.index))
        area_->current.store_relaxed(0);
    if (has_limits_) look_at_limits(job);
    return end_item(job);
}

int Worker::publish(Job &job, const aiomq_item &item) {
    return job.many ? publish_of_many(job, item) : publish_one(job, item);
}

/// A started item has its outcome. 1: it was the job's last; 0; or -errno.
int Worker::end_item(Job &job) {
    if (++job.finished < job.started) return 0;
    if (job.many && !nothing_left(job)) return 0;
    const int damage = finish_job(job);
    return damage != 0 ? damage : 1;
}

/// An item that is not to run has that for its outcome. As end_item().
int Worker::end_unrun(Job &job, std::uint32_t item, std::uint16_t status) {
    aiomq_item unrun{};
    unrun.index = item;
    unrun.status = status;
    if (const int error = publish(job, unrun); error != 0) return error;
    return end_item(job);
}

int Worker::publish_one(Job &job, const aiomq_item &item) {
    if (job.started == 0 || item.index != 0) return -EINVAL;
    if (job.finished != 0) return -EALREADY;
    Slot &slot = segment_->slot(job.slot);
    if (!is_data(item.kind)) {
        slot.value.store_relaxed(static_cast<std::uint64_t>(item.value.integer));
    } else {
        std::uint64_t block = 0;
        for (const std::uint64_t offset : job.unnamed)
            if (segment_->at<void>(offset) == item.value.data) block = offset;
        if (block != 0 && arena_.block_bytes(block) < item.bytes) return -EINVAL;
        if (block != 0 && item.bytes == 0) block = 0;
        if (block == 0 && item.bytes > kInlineResultBytes) {
            const int error = place(job, item.bytes, block);
            if (error != 0) return error;
            std::memcpy(segment_->at<void>(block), item.value.data, item.bytes);
        }
        if (block == 0 && item.bytes > 0)
            std::memcpy(slot.inline_result, item.value.data, item.bytes);
        slot.value.store_relaxed(item.bytes);
        slot.block_offset.store_relaxed(block);
        job.block = block;
    }
    slot.kind = item.kind;
    slot.status = item.status;
    return 0;
}

int Worker::publish_of_many(Job &job, const aiomq_item &item) {
    ItemOutcome *found = outcome_of(job, item.index);
    if (found == nullptr) return -EINVAL;
    ItemOutcome &outcome = *found;
    if (OutcomeHead::unpack(outcome.head.load_relaxed()).status != AIOMQ_PENDING) return -EALREADY;
    OutcomeHead head{item.status, item.kind, 0};
    if (!is_data(item.kind)) {
        outcome.value.store_relaxed(static_cast<std::uint64_t>(item.value.integer));
    } else {
        if (item.bytes > UINT32_MAX) return -EMSGSIZE;
        head.bytes = static_cast<std::uint32_t>(item.bytes);
        std::uint64_t offset = segment_->offset_of(item.value.data);
        if (item.bytes == 0) {
            offset = job.block;
        } else if (!segment_->in_result_arena(index_, offset, item.bytes)) {
            const int error = place(job, item.bytes, offset);
            if (error != 0) return error;
            std::memcpy(segment_->at<void>(offset), item.value.data, item.bytes);
        }
        outcome.value.store_relaxed(offset);
    }
    outcome.head.store_release(head.pack());
    if ((job.view.flags & AIOMQ_TASK_PROGRESS) != 0 && !std::exchange(job.unreported, true))
        unreported_.push_back(job.handle);
    return 0;
}

int Worker::fail(std::uint32_t handle, std::uint32_t item, const ErrorText &error) {
    ErrorText text = bounded(error);
    aiomq_item outcome{};
    outcome.index = item;
    outcome.status = AIOMQ_ERROR;
    outcome.kind = AIOMQ_KIND_ERROR;
    void *memory = nullptr;
    std::size_t bytes = error_bytes(text);
    int result = allocate(handle, bytes, &memory);
    if (result == -EMSGSIZE) {  // at least the first line
        text.traceback = text.pickled = {};
        text.message = text.message.substr(0, 256);
        bytes = error_bytes(text);
        result = allocate(handle, bytes, &memory);
    }
    if (result == -EMSGSIZE) {  // at least the fact: the dispatcher puts it into words
        outcome.kind = AIOMQ_KIND_NONE;
        return complete(handle, outcome);
    }
    if (result != 0) return result;
    outcome.bytes = build_error(text, memory, bytes);
    outcome.value.data = memory;
    return complete(handle, outcome);
}

/// All started items have outcomes and none is left: DONE, then the hint.
int Worker::finish_job(Job &job) {
    const std::uint32_t slot = job.slot;
    if (!retained_.empty()) keep_payload(job);
    for_supervisor_ |= job.nested;
    const bool sound = finish(segment_->slot(slot), job.word);
    end_job(job);
    if (!sound) return damaged();
    tell(Notice::kDone, slot);
    return 0;
}

void Worker::end_job(Job &job) {
    for (const std::uint64_t offset : job.unnamed)
        if (offset != job.block) arena_.release(offset);
    job.unnamed.clear();
    held_ -= job.held;
    job.unreported = false;
    job.in_use = false;
    free_jobs_.push_back(job.handle & kJobIndexMask);
}

}  // namespace aiomq
