// Worker: from the start of its process to READY, and its end.
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>

#include "worker.hpp"

namespace aiomq {
namespace {

/// Small, but with room for the thread-local storage of whatever libraries the program loads.
constexpr std::size_t kWatchdogStackBytes = 512 << 10;

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

}  // namespace aiomq
