#include "worker.hpp"

#include <fcntl.h>
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

/// How many hints ahead a task's lines are fetched into the cache.
constexpr std::uint32_t kPrefetch = 3;
/// Small, but with room for the thread-local storage of whatever libraries the program loads.
constexpr std::size_t kWatchdogStackBytes = 512 << 10;

bool is_data(std::uint16_t kind) { return kind >= AIOMQ_KIND_BYTES; }

/// Ends this process when the dispatcher is gone, whatever its loop is doing.
void *watch_dispatcher(void *argument) {
    const int pidfd = static_cast<int>(reinterpret_cast<std::intptr_t>(argument));  // NOLINT
    pthread_setname_np(pthread_self(), "aiomq-watchdog");
    for (;;)
        if (sys::poll_readable(pidfd, sys::kForever) > 0) kill(getpid(), SIGKILL);
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
    worker->dispatcher_pidfd_.reset(inherited::kDispatcherPidfd);
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
    // The thread serves a running process, the signal a stopped one. The thread that started us is the
    // supervisor, which outlives us; if the dispatcher went before this call, the pidfd says so.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (sys::poll_readable(dispatcher_pidfd_.get(), 0) > 0) kill(getpid(), SIGKILL);
    void *guard =
        mmap(nullptr, sys::page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guard == MAP_FAILED) return -errno;
    fork_guard_ = static_cast<unsigned char *>(guard);
    if (madvise(guard, sys::page_size(), MADV_WIPEONFORK) != 0) return -errno;
    *fork_guard_ = 1;

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, kWatchdogStackBytes);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the user's threads
    const int error = pthread_create(
        &watchdog_, &attributes, watch_dispatcher,
        reinterpret_cast<void *>(static_cast<std::intptr_t>(dispatcher_pidfd_.get())));  // NOLINT
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    return -error;
}

int Worker::open_memory(std::string &ret_text) {
    auto segment = Segment::attach(UniqueFd(inherited::kMemory), index_, ret_text);
    if (!segment) return segment.error();
    segment_ = std::move(*segment);
    const Layout &layout = segment_->layout();
    area_ = &segment_->area(index_);
    WorkerRecord &record = segment_->record(index_);
    outbox_ = LaneWriter(segment_->outbox(index_), layout.outbox_cells, &area_->outbox_tail,
                         &record.outbox_head);
    inbox_ = LaneReader(record.inbox, kInboxCells, &record.inbox_tail, &area_->inbox_head);
    for (std::uint32_t queue = 0; queue < layout.queues; ++queue)
        rings_.emplace_back(segment_->ring_cells(queue), layout.ring_cells,
                            &segment_->queue_head(queue).head, &segment_->queue(queue).tail);
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
    const std::uint32_t slots = segment_->layout().slots;
    for (std::uint32_t queue = 0; queue < rings_.size(); ++queue) {
        std::uint32_t slot = 0;
        RingStatus status = RingStatus::kOk;
        while ((status = rings_[queue].pop(slot)) == RingStatus::kOk) {
            if (untold_) wake_application();  // ordered by the pop's exchange
            if (slot >= slots) return damaged();
            const std::uint32_t soon = rings_[queue].guess(kPrefetch);
            if (soon < slots) {
                __builtin_prefetch(&segment_->slot(soon), 1);
                __builtin_prefetch(&segment_->request(soon));
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
    job.started = job.finished = 0;
    job.block = job.data = job.data_used = job.data_bytes = job.held = 0;
    aiomq_job &view = job.view;
    view.task_id = request.task_id;
    view.job = job.handle;
    view.function = request.function;
    view.flags = request.flags;
    view.kind = request.kind;
    view.attempt = static_cast<std::uint16_t>(request.attempt);
    view.first_item = request.item_base;
    view.end_item = job.many ? ItemRange::unpack(segment_->slot(slot).range.load_acquire()).end : 1;
    view.integer = request.integer;
    view.payload_bytes = request.payload_bytes;
    view.payload = request.payload_offset == 0 ? request.inline_payload
                                               : segment_->at<const void>(request.payload_offset);
    return job;
}

/// Nothing of it has started and nothing will: it needs no outcome block to end.
bool Worker::all_withdrawn(const Job &job) {
    const ItemRange range = ItemRange::unpack(segment_->slot(job.slot).range.load_acquire());
    return job.started == 0 && range.next >= range.end;
}

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
    if (!job->many) {
        if (job->started != 0) return -ENODATA;
        ret_item = 0;
        start_only_item(segment_->slot(job->slot));
    } else if (!all_withdrawn(*job) && !room_in(*job)) {
        return -ENOMEM;
    } else if (!start_item(segment_->slot(job->slot), ret_item)) {
        if (job->finished == job->started) finish_job(*job);
        return -ENODATA;
    }
    ++job->started;
    ++running_;
    area_->started.add_by_single_writer(1);
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
    const int error = job->many ? publish_of_many(*job, item) : publish_one(*job, item);
    if (error != 0) return error;
    ++job->finished;
    --running_;
    area_->completed.add_by_single_writer(1);
    if (item.status != AIOMQ_OK) area_->failed.add_by_single_writer(1);
    if (job->finished < job->started) return 0;
    if (job->many) {
        const ItemRange range = ItemRange::unpack(segment_->slot(job->slot).range.load_acquire());
        if (range.next < range.end) return 0;
    }
    const int damage = finish_job(*job);
    return damage != 0 ? damage : 1;
}

int Worker::publish_one(Job &job, const aiomq_item &item) {
    if (job.started == 0 || item.index != 0) return -EINVAL;
    if (job.finished != 0) return -EALREADY;
    Slot &slot = segment_->slot(job.slot);
    if (!is_data(item.kind)) {
        slot.value = static_cast<std::uint64_t>(item.value.integer);
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
        slot.value = item.bytes;
        slot.block_offset.store_relaxed(block);
        job.block = block;
    }
    slot.kind = item.kind;
    slot.status = item.status;
    return 0;
}

int Worker::publish_of_many(Job &job, const aiomq_item &item) {
    if (job.block == 0) return -EINVAL;
    auto *block = segment_->at<OutcomeBlock>(job.block);
    const std::uint32_t position = item.index - segment_->request(job.slot).item_base;
    const ItemRange range = ItemRange::unpack(segment_->slot(job.slot).range.load_relaxed());
    if (position >= block->count || item.index >= range.next) return -EINVAL;
    auto &outcome = reinterpret_cast<ItemOutcome *>(block + 1)[position];  // NOLINT
    if (outcome.head.load_relaxed() != 0) return -EALREADY;
    OutcomeHead head{item.status, item.kind, 0};
    if (!is_data(item.kind)) {
        outcome.value = static_cast<std::uint64_t>(item.value.integer);
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
        outcome.value = offset;
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
        tell(Notice::kProgress, job->slot);
    }
    unreported_.clear();
    settle();
    return 0;
}

void Worker::take_inbox() {
    std::uint64_t cell = 0;
    bool any = false;
    while (inbox_.pop(cell) == LaneStatus::kOk) {
        any = true;
        const Message message = Message::unpack(cell);
        if (message.notice == Notice::kRelease) {
            arena_.release(message.value * kBlockAlign);
        } else if (message.notice == Notice::kCancel) {
            const auto slot = static_cast<std::uint32_t>(message.value & ((1U << 20) - 1));
            const auto generation = static_cast<std::uint32_t>(message.value >> 20);
            for (const auto &job : jobs_)
                if (job->in_use && job->slot == slot && job->word.generation() == generation)
                    cancelled_.push_back(job->handle);
        }
    }
    if (!any) return;
    inbox_.publish();
    settle();
    count_memory();
    // The dispatcher holds more for us in its own memory: tell it that there is room now.
    if (segment_->record(index_).inbox_waiting.load_seq() != 0) wake_application();
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

bool Worker::something_there(bool wants_tasks) const {
    if (!inbox_.empty() || segment_->header().leave.load_seq() != 0) return true;
    if (!wants_tasks) return false;
    for (const Ring &ring : rings_)
        if (!ring.empty()) return true;
    return false;
}

bool Worker::spin() {
    return spin_.spin([this] { return something_there(true); });
}

int Worker::sleep(bool wants_tasks) {
    if (!is_ready_) return -EPROTO;
    flush();
    SleepFlags &flags = segment_->flags();
    if (wants_tasks) WorkerBits(flags.wants_tasks).set(index_);
    WorkerBits(flags.asleep).set(index_);
    if (!something_there(wants_tasks)) return 0;
    wake(false);
    return 1;
}

int Worker::wake(bool fd_readable) {
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
