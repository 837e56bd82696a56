#include "worker.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>

namespace aiomq {
namespace {

constexpr std::uint32_t kJobIndexBits = 20;
constexpr std::uint32_t kJobIndexMask = (1U << kJobIndexBits) - 1;
constexpr std::uint64_t kDataBlockBytes = 16 << 10;
/// Results of this size and above get a block of their own.
constexpr std::uint64_t kLargeBytes = kDataBlockBytes / 4;

/// Messages that name a slot of one generation: {generation:32, slot:20}.
constexpr unsigned kSlotBits = 20;
constexpr std::uint64_t kSlotMask = (1U << kSlotBits) - 1;

constexpr std::uint32_t kPublicFlags = 0xff;
/// How often the process's private memory is looked at, while items complete.
constexpr std::uint64_t kMemoryLookNs = 100'000'000;
/// How many hints ahead a task's lines are fetched into the cache.
constexpr std::uint32_t kPrefetch = 3;
/// Small, but with room for the thread-local storage of whatever libraries the program loads.
constexpr std::size_t kWatchdogStackBytes = 512 << 10;

bool is_data(std::uint16_t kind) { return kind >= AIOMQ_KIND_BYTES; }

/// Ends this process when the dispatcher is gone, whatever its loop is doing. It is cancelled in the
/// middle, so it has nothing on its stack: AddressSanitizer would take that for still in use.
void *watch_dispatcher(void *argument) {
    for (;;)
        if (poll(static_cast<pollfd *>(argument), 1, -1) > 0) kill(getpid(), SIGKILL);
    return nullptr;
}

}  // namespace

Worker::~Worker() {
    if (watchdog_ != 0 && !forked()) {
        pthread_cancel(watchdog_);
        pthread_join(watchdog_, nullptr);
    }
    if (fork_guard_ != nullptr) munmap(fork_guard_, sys::page_size());
}

int Worker::open(std::unique_ptr<Worker> &ret_worker, std::string &ret_text) {
    const char *variable = std::getenv(kWorkerVariable);
    if (variable == nullptr) {
        ret_text = "this process was not started by a pool (AIOMQ_WORKER is not set)";
        return -ENOENT;
    }
    // "<index>.<incarnation>", nothing else.
    char *end = nullptr;
    const unsigned long index = std::strtoul(variable, &end, 10);
    const char *second = end != variable && *end == '.' ? end + 1 : variable;
    const unsigned long incarnation = std::strtoul(second, &end, 10);
    if (second == variable || end == second || *end != '\0' || index > kMaxWorkers) {
        ret_text = std::string("AIOMQ_WORKER=") + variable + " is not what a pool sets";
        return -EINVAL;
    }
    for (int fd = inherited::kMemory; fd < inherited::kCount; ++fd)
        if (!sys::is_open(fd)) {
            ret_text = "descriptor " + std::to_string(fd) +
                       " is not open: call aiomq_worker_open() first thing in main, and have "
                       "wrappers of the worker program pass descriptors on";
            return -EINVAL;
        }
    std::unique_ptr<Worker> worker(new Worker());
    worker->index_ = static_cast<std::uint32_t>(index);
    worker->incarnation_ = static_cast<std::uint32_t>(incarnation);
    worker->event_fd_.reset(inherited::kOwnEvent);
    worker->application_fd_.reset(inherited::kApplicationEvent);
    worker->supervisor_fd_.reset(inherited::kSupervisorEvent);
    worker->dispatcher_fd_.reset(inherited::kDispatcher);
    worker->stderr_fd_.reset(inherited::kStderr);
    for (int fd = inherited::kMemory; fd < inherited::kCount; ++fd) sys::set_cloexec(fd, true);
    int error = worker->start_watchdog();
    if (error == 0) error = worker->open_memory(ret_text);
    if (error != 0) return error;
    unsetenv(kWorkerVariable);  // a program that a task starts is not a worker of this pool
    ret_worker = std::move(worker);
    return 0;
}

int Worker::start_watchdog() {
    // The thread serves a running process, the signal a stopped one. It was asked for when we were
    // spawned; a wrapper may have lost it. The thread that started us is the supervisor, which outlives
    // us; if the dispatcher went before this call, that descriptor says so.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (sys::poll_readable(dispatcher_fd_.get(), 0) > 0) kill(getpid(), SIGKILL);
    void *guard =
        mmap(nullptr, sys::page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guard == MAP_FAILED) return -errno;
    fork_guard_ = static_cast<unsigned char *>(guard);
    if (madvise(guard, sys::page_size(), MADV_WIPEONFORK) != 0) return -errno;
    *fork_guard_ = 1;

    watched_ = {dispatcher_fd_.get(), POLLIN, 0};
    return sys::start_thread("aiomq-watchdog", kWatchdogStackBytes, watch_dispatcher, &watched_,
                             watchdog_);
}

int Worker::open_memory(std::string &ret_text) {
    auto segment = Segment::attach(UniqueFd(inherited::kMemory), index_, ret_text);
    if (!segment) return segment.error();
    segment_ = std::move(*segment);
    const Layout &layout = segment_->layout();
    area_ = &segment_->area(index_);
    WorkerRecord &record = segment_->record(index_);
    has_limits_ = record.max_tasks != 0 || record.max_memory_bytes != 0;
    outbox_ = LaneWriter(segment_->outbox(index_), layout.outbox_cells, &area_->outbox_tail,
                         &record.outbox_head);
    inbox_ = LaneReader(record.inbox, kInboxCells, &record.inbox_tail, &area_->inbox_head);
    for (std::uint32_t i = 0; i < record.served_count && i < kMaxQueues; ++i) {
        const std::uint32_t queue = record.served[i];
        if (queue >= layout.queues) continue;
        served_.push_back({queue,
                           Ring(segment_->ring_cells(queue), layout.ring_cells,
                                &segment_->queue_head(queue).head, &segment_->queue(queue).tail),
                           {}});
    }
    std::vector<BlockRange> taken;
    if (record.takeover_count > 0 &&
        segment_->in_request_arena(record.takeover_offset,
                                   sizeof(BlockRange) * record.takeover_count)) {
        const auto *blocks = segment_->at<BlockRange>(record.takeover_offset);
        taken.assign(blocks, blocks + record.takeover_count);
    }
    arena_ = Arena(segment_->fd(), segment_->result_arena_offset(index_), layout.arena_bytes);
    const int error = arena_.start(segment_->header().arena_start_bytes,
                                   area_->committed_bytes.load_relaxed(), taken);
    if (error != 0) {
        ret_text = error == -ENOMEM ? "can't commit arena_start_bytes of shared memory"
                                    : "can't take over the memory of this worker's predecessor";
        return error;
    }
    count_memory();
    spin_ = SpinBudget(segment_->header().spin_ns, layout.workers + 1, sys::usable_cpus());
    return 0;
}

int Worker::ready() {
    if (is_ready_) return -EALREADY;
    // The pipe to the supervisor was for start-up errors only.
    if (dup2(stderr_fd_.get(), STDERR_FILENO) < 0) return -errno;
    stderr_fd_.reset();
    is_ready_ = true;
    area_->state.store_seq(AIOMQ_WORKER_RUNNING);
    if (retiring()) area_->state.store_seq(AIOMQ_WORKER_RETIRING);
    return sys::event_signal(supervisor_fd_.get());
}

int Worker::abort(const char *text) {
    if (is_ready_) return -EALREADY;
    std::strncpy(area_->abort_text, text, kAbortTextBytes - 1);
    area_->abort_text[kAbortTextBytes - 1] = '\0';
    area_->state.store_seq(AIOMQ_WORKER_FAILED);
    return 0;  // the exit that follows wakes the supervisor
}

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
        return -ESHUTDOWN;
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
        const std::uint64_t hint = served.keyed.front();
        served.keyed.pop_front();
        const auto slot = static_cast<std::uint32_t>(hint & kSlotMask);
        const auto generation = static_cast<std::uint32_t>(hint >> kSlotBits);
        SlotWord word;
        if (!aiomq::claim_keyed(segment_->slot(slot), generation, index_, incarnation_, word))
            continue;
        ret_job = &begin_job(slot, word).view;
        return true;
    }
    return false;
}

/// Sorts a hint to its queue; what is stale already is dropped.
void Worker::take_hint(std::uint64_t hint) {
    const std::uint64_t slot = hint & kSlotMask;
    if (slot >= segment_->layout().slots) {
        damaged();
        return;
    }
    const SlotWord word(segment_->slot(static_cast<std::uint32_t>(slot)).word.load_acquire());
    if (word.generation() != static_cast<std::uint32_t>(hint >> kSlotBits)) return;
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
    job.nested = (request.flags & request_flag::kNested) != 0;
    job.started = job.finished = 0;
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
    if (!job.many || job.block != 0) return true;
    const Request &request = segment_->request(job.slot);
    const std::uint32_t count = request.items - request.item_base;
    const std::uint64_t bytes = sizeof(OutcomeBlock) + std::uint64_t{count} * sizeof(ItemOutcome);
    // Submit has checked that it fits an arena; what fills this one goes back, or its jobs end.
    auto block = take_block(job, bytes);
    if (!block) return false;
    auto *outcomes = segment_->at<OutcomeBlock>(*block);
    std::memset(static_cast<void *>(outcomes), 0, bytes);
    outcomes->first_item = request.item_base;
    outcomes->count = count;
    job.block = *block;
    segment_->slot(job.slot).block_offset.store_release(*block);
    return true;
}

int Worker::start(std::uint32_t handle, std::uint32_t &ret_item) {
    Job *job = find(handle);
    if (job == nullptr) return -EINVAL;
    settle();
    const int error = job->guarded ? start_guarded(*job, ret_item) : start_next(*job, ret_item, 1);
    if (error != 0) return error;
    ++job->started;
    ++running_;
    area_->started.add_by_single_writer(1);
    area_->current.store_relaxed(std::uint64_t{job->slot + 1} << 32 | ret_item);
    return 0;
}

/// Raises `next`: from here on the item counts as started.
int Worker::start_next(Job &job, std::uint32_t &ret_item, std::uint32_t stamp) {
    if (!job.many) {
        if (job.started != 0) return -ENODATA;
        if (retiring()) return -ESHUTDOWN;
        ret_item = 0;
        start_only_item(segment_->slot(job.slot), stamp);
        return 0;
    }
    if (retiring() && !nothing_left(job)) return -ESHUTDOWN;
    if (!all_withdrawn(job) && !room_in(job)) return -ENOMEM;
    if (start_item(segment_->slot(job.slot), ret_item)) return 0;
    if (job.finished == job.started) finish_job(job);
    return -ENODATA;
}

/// The same for a task with limits, or one that is run again: items that are late end here as EXPIRED,
/// and those that an earlier attempt delivered are passed over.
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
        if (!late || starts != 0) break;
        ++job.started;
        aiomq_item expired{};
        expired.index = ret_item;
        expired.status = AIOMQ_EXPIRED;
        if (const int error = publish(job, expired); error != 0) return error;
        const int ended = end_item(job);
        if (ended != 0) return ended < 0 ? ended : -ENODATA;
    }
    if (timed && job.many)
        outcome_of(job, ret_item)->head.store_relaxed(OutcomeHead{0, 0, stamp}.pack());
    return 0;
}

/// Where an item of many that has started has its outcome; null: it has not started.
ItemOutcome *Worker::outcome_of(const Job &job, std::uint32_t item) {
    if (job.block == 0) return nullptr;
    auto *block = segment_->at<OutcomeBlock>(job.block);
    const std::uint32_t position = item - segment_->request(job.slot).item_base;
    const ItemRange range = ItemRange::unpack(segment_->slot(job.slot).range.load_relaxed());
    if (position >= block->count || item >= range.next) return nullptr;
    return reinterpret_cast<ItemOutcome *>(block + 1) + position;  // NOLINT
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
    if (job == nullptr || item.kind > AIOMQ_KIND_ERROR ||
        !(item.status == AIOMQ_OK || item.status == AIOMQ_ERROR || item.status == AIOMQ_CANCELLED ||
          item.status == AIOMQ_TIMED_OUT) ||
        (is_data(item.kind) && item.value.data == nullptr && item.bytes > 0))
        return -EINVAL;
    if (const int error = publish(*job, item); error != 0) return error;
    --running_;
    area_->completed.add_by_single_writer(1);
    if (item.status != AIOMQ_OK) area_->failed.add_by_single_writer(1);
    if (waiting_ != 0) stop_waiting(handle, item.index);
    // What is said of a dead worker's thread must not name an item that had ended.
    if (area_->current.load_relaxed() == (std::uint64_t{job->slot + 1} << 32 | item.index))
        area_->current.store_relaxed(0);
    if (has_limits_) look_at_limits();
    return end_item(*job);
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

/// A completion is a hint: when the lane is full the dispatcher is told to look at all slots. The
/// dispatcher is woken, if it sleeps, before anything else runs here: see settle().
void Worker::tell(Notice notice, std::uint32_t slot) {
    if (outbox_.put(Message{notice, slot}.pack()) != LaneStatus::kOk) area_->rescan.store_seq(1);
    untold_ = true;
}

/// Ends a series of tell(): the total order that the sleeping protocol needs, then the look at the
/// flag. A pop's exchange serves as well, so that a busy worker pays for one locked instruction less.
void Worker::settle() {
    if (!untold_) return;
    outbox_.publish();
    wake_application();
}

void Worker::wake_application() {
    untold_ = false;
    const bool frees_room = segment_->header().nested_waiting.load_seq() != 0;
    if (std::exchange(for_supervisor_, false) || frees_room) {
        // It wakes the application, if need be.
        sys::event_signal(supervisor_fd_.get());
        return;
    }
    auto &flag = segment_->flags().application;
    if (flag.load_seq() != 0 && flag.exchange_seq(0) != 0) {
        sys::event_signal(application_fd_.get());
        area_->wakes_sent.add_by_single_writer(1);
    } else {
        area_->wakes_elided.add_by_single_writer(1);
    }
}

int Worker::flush() {
    for (const std::uint32_t handle : unreported_) {
        Job *job = find(handle);
        if (job == nullptr || !std::exchange(job->unreported, false)) continue;
        for_supervisor_ |= job->nested;
        tell(Notice::kProgress, job->slot);
    }
    unreported_.clear();
    settle();
    if (!outbox_backlog_.empty()) flush_outbox();
    if (std::exchange(given_back_, false)) sys::event_signal(supervisor_fd_.get());
    return 0;
}

void Worker::take_inbox() {
    if (!outbox_backlog_.empty()) flush_outbox();
    std::uint64_t cell = 0;
    bool any = false;
    while (inbox_.pop(cell) == LaneStatus::kOk) {
        any = true;
        const Message message = Message::unpack(cell);
        if (message.notice == Notice::kRelease) {
            arena_.release(message.value * kBlockAlign);
        } else if (message.notice == Notice::kAsk) {
            check_claims();
        } else if (message.notice == Notice::kCancel) {
            const auto slot = static_cast<std::uint32_t>(message.value & kSlotMask);
            const auto generation = static_cast<std::uint32_t>(message.value >> kSlotBits);
            for (const auto &job : jobs_)
                if (job->in_use && job->slot == slot && job->word.generation() == generation)
                    cancelled_.push_back(job->handle);
        } else if (message.notice == Notice::kHint) {
            take_hint(message.value);
        } else if (message.notice == Notice::kAnswer || message.notice == Notice::kRefused) {
            answers_.push_back(message);
            answers_unseen_ = true;
        }
    }
    if (!any) return;
    inbox_.publish();
    settle();
    count_memory();
    // The dispatcher holds more for us in its own memory: say that there is room now. To the supervisor,
    // since an application that only collects, or is busy, would not look.
    if (segment_->record(index_).inbox_waiting.load_seq() != 0)
        sys::event_signal(supervisor_fd_.get());
}

/// Every slot that says it is claimed by us is one of our jobs.
void Worker::check_claims() {
    std::vector<bool> ours(segment_->layout().slots);
    for (const auto &job : jobs_)
        if (job->in_use) ours[job->slot] = true;
    for (std::uint32_t slot = 0; slot < ours.size(); ++slot) {
        const SlotWord word(segment_->slot(slot).word.load_acquire());
        if (ours[slot] || word.phase() != Phase::kClaimed || !word.held_by(index_, incarnation_))
            continue;
        damaged();
        return;
    }
}

int Worker::cancelled(std::uint32_t &ret_job) {
    take_inbox();
    while (!cancelled_.empty()) {
        const std::uint32_t handle = cancelled_.back();
        cancelled_.pop_back();
        if (find(handle) == nullptr) continue;
        ret_job = handle;
        return 1;
    }
    return 0;
}

int Worker::retire() {
    const int before = errno;
    area_->asked_ns.store_relaxed(sys::monotonic_ns());
    take_no_more();
    sys::event_signal(event_fd_.get());  // a loop that blocks looks
    errno = before;
    return 0;
}

/// What is claimed and not started stays so: the exit gives it back. A handler may come between any two
/// lines of ready(), which looks at `retiring_` last.
void Worker::take_no_more() {
    retiring_.store_seq(1);
    if (is_ready_) area_->state.store_seq(AIOMQ_WORKER_RETIRING);
}

/// After an item, in a group with limits: has this process done its share?
void Worker::look_at_limits() {
    const WorkerRecord &record = segment_->record(index_);
    if (record.max_tasks != 0 && ++completed_ >= record.max_tasks) take_no_more();
    if (record.max_memory_bytes == 0) return;
    const std::uint64_t now = sys::monotonic_coarse_ns();
    if (now - memory_seen_ns_ < kMemoryLookNs) return;
    memory_seen_ns_ = now;
    if (sys::private_memory_bytes() > record.max_memory_bytes) take_no_more();
}

bool Worker::something_there(bool wants_tasks) const {
    if (!inbox_.empty() || segment_->header().leave.load_seq() != 0) return true;
    if (!wants_tasks) return false;
    for (const Served &served : served_)
        if (!served.keyed.empty() || !served.ring.empty()) return true;
    return false;
}

bool Worker::spin() {
    return spin_.spin([this] { return something_there(true); });
}

int Worker::sleep(bool wants_tasks) {
    if (!is_ready_) return -EPROTO;
    turn();
    flush();
    if (area_->current.load_relaxed() != 0) set_current(0);
    wants_tasks = wants_tasks && !retiring();  // what waits is for others
    SleepFlags &flags = segment_->flags();
    if (wants_tasks) WorkerBits(flags.wants_tasks).set(index_);
    WorkerBits(flags.asleep).set(index_);
    if (std::exchange(answers_unseen_, false) || something_there(wants_tasks)) {
        wake(false);
        return 1;
    }
    // Others have chunks with items that this worker could run.
    if (wants_tasks && segment_->header().to_split.load_seq() != 0)
        sys::event_signal(supervisor_fd_.get());
    return 0;
}

int Worker::wake(bool fd_readable) {
    turn();
    SleepFlags &flags = segment_->flags();
    WorkerBits(flags.wants_tasks).clear(index_);
    WorkerBits(flags.asleep).clear(index_);
    if (fd_readable) {
        sys::event_consume(event_fd_.get());
        area_->wakeups.add_by_single_writer(1);
    }
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

void Worker::count_memory() {
    area_->used_bytes.store_relaxed(arena_.used_bytes());
    area_->committed_bytes.store_relaxed(arena_.committed_bytes());
}

}  // namespace aiomq
