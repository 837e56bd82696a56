#include "stats.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "slots.hpp"

namespace aiomq {
namespace {

struct Mapping {
    int fd;
    boost::interprocess::mapping_handle_t get_mapping_handle() const { return {fd, false}; }
    boost::interprocess::mode_t get_mode() const { return boost::interprocess::read_only; }
};

bool fits(std::uint64_t whole, std::uint64_t offset, std::uint64_t count, std::uint64_t stride) {
    return offset <= whole && (stride == 0 || count <= (whole - offset) / stride);
}

std::uint64_t since(std::uint64_t then_ns) {
    const std::uint64_t now = sys::monotonic_ns();
    return now > then_ns ? now - then_ns : 0;
}

}  // namespace

int View::open(int fd, std::unique_ptr<View> &ret_view) {
    struct stat file {};
    if (fstat(fd, &file) != 0) return -errno;
    Header head;  // only its fixed start is looked at
    constexpr std::size_t kStart = offsetof(Header, leave);
    if (!S_ISREG(file.st_mode) ||
        pread(fd, static_cast<void *>(&head), kStart, 0) != static_cast<ssize_t>(kStart) ||
        head.magic != kMagic)
        return -EMEDIUMTYPE;
    if (!sys::sealed_against_shrinking(fd)) return -EPERM;
    const auto bytes = static_cast<std::uint64_t>(file.st_size);
    if (head.statistics_offset % alignof(Statistics) != 0 ||
        !fits(bytes, head.statistics_offset, 1, sizeof(Statistics)))
        return -EBADMSG;
    std::unique_ptr<View> view(new View());
    try {
        view->region_ = boost::interprocess::mapped_region(
            Mapping{fd}, boost::interprocess::read_only, 0, bytes);
    } catch (const boost::interprocess::interprocess_exception &error) {
        return error.get_native_error() != 0 ? -error.get_native_error() : -ENOMEM;
    }
    view->bytes_ = bytes;
    view->base_ = static_cast<const unsigned char *>(view->region_.get_address());
    view->statistics_ = view->at<Statistics>(head.statistics_offset);
    const Statistics &statistics = *view->statistics_;
    if (statistics.magic != kMagic) return -EBADMSG;
    if (statistics.version != kStatisticsVersion || statistics.bytes < sizeof(Statistics))
        return -EPROTO;
    std::memcpy(&view->layout_, &statistics.layout, sizeof(Layout));
    view->slot_stride_ = statistics.slot_stride;
    view->request_stride_ = statistics.request_stride;
    view->record_stride_ = statistics.record_stride;
    view->submitted_offset_ = statistics.request_submitted_offset;
    if (!view->sound()) return -EBADMSG;
    ret_view = std::move(view);
    return 0;
}

bool View::sound() const {
    const Layout &l = layout_;
    return l.slots <= kMaxSlots && l.workers <= kMaxWorkers && l.queues <= kMaxQueues &&
           slot_stride_ >= 8 && slot_stride_ % 8 == 0 && request_stride_ % 8 == 0 &&
           record_stride_ % 8 == 0 && submitted_offset_ % 8 == 0 &&
           submitted_offset_ + 8 <= request_stride_ &&
           record_stride_ >= offsetof(WorkerRecord, inbox_tail) &&
           l.worker_area_bytes >= offsetof(WorkerArea, outbox_tail) &&
           l.worker_area_bytes % 8 == 0 && l.slots_offset % 8 == 0 && l.requests_offset % 8 == 0 &&
           l.records_offset % 8 == 0 && l.workers_offset % 8 == 0 && l.queues_offset % 8 == 0 &&
           l.events_offset % 8 == 0 && l.flags_offset % 8 == 0 &&
           fits(bytes_, l.slots_offset, l.slots, slot_stride_) &&
           fits(bytes_, l.requests_offset, l.slots, request_stride_) &&
           fits(bytes_, l.records_offset, l.workers, record_stride_) &&
           fits(bytes_, l.workers_offset, l.workers, l.worker_area_bytes) &&
           fits(bytes_, l.queues_offset, l.queues, sizeof(QueueRecord)) &&
           fits(bytes_, l.events_offset, kEventCount, sizeof(EventRecord)) &&
           fits(bytes_, l.flags_offset, 1, sizeof(SleepFlags));
}

const WorkerRecord &View::record(std::uint32_t worker) const {
    return *at<WorkerRecord>(layout_.records_offset + std::uint64_t{record_stride_} * worker);
}

const WorkerArea &View::area(std::uint32_t worker) const {
    return *at<WorkerArea>(layout_.workers_offset +
                           std::uint64_t{layout_.worker_area_bytes} * worker);
}

int View::pool(aiomq_pool_stats &ret_stats) const {
    if (ret_stats.struct_bytes != sizeof(aiomq_pool_stats)) return -EINVAL;
    aiomq_pool_stats stats{};
    const PoolCounters &counters = statistics_->counters;
    stats.struct_bytes = sizeof stats;
    stats.statistics_version = kStatisticsVersion;
    stats.pid = statistics_->pid;
    stats.uid = statistics_->uid;
    stats.state = statistics_->state.load_relaxed();
    stats.capacity = layout_.slots;
    stats.workers = layout_.workers;
    stats.queues = layout_.queues;
    stats.created_realtime_ns = statistics_->created_realtime_ns;
    stats.age_ns = since(statistics_->created_monotonic_ns);
    stats.submitted = counters.submitted.load_relaxed();
    stats.ok = counters.outcomes[AIOMQ_OK].load_relaxed();
    stats.failed = counters.outcomes[AIOMQ_ERROR].load_relaxed();
    stats.cancelled = counters.outcomes[AIOMQ_CANCELLED].load_relaxed();
    stats.worker_died = counters.outcomes[AIOMQ_WORKER_DIED].load_relaxed();
    for (const int other : {AIOMQ_EXPIRED, AIOMQ_TIMED_OUT, AIOMQ_POOL_CORRUPT, AIOMQ_POOL_CLOSED})
        stats.other_outcomes += counters.outcomes[other].load_relaxed();
    stats.requeued = counters.requeued.load_relaxed();
    stats.wakeups_sent = counters.wakeups_sent.load_relaxed();
    stats.wakeups_elided = counters.wakeups_elided.load_relaxed();
    stats.audits = counters.audits.load_relaxed();
    stats.restarts = counters.restarts.load_relaxed();
    stats.request_used_bytes = counters.request_used_bytes.load_relaxed();
    stats.request_committed_bytes = counters.request_committed_bytes.load_relaxed();
    stats.request_maximum_bytes = layout_.arena_bytes;
    for (std::uint32_t worker = 0; worker < layout_.workers; ++worker) {
        const WorkerArea &area = this->area(worker);
        stats.result_used_bytes += area.used_bytes.load_relaxed();
        stats.result_committed_bytes += area.committed_bytes.load_relaxed();
        stats.wakeups_sent += area.wakes_sent.load_relaxed();
        stats.wakeups_elided += area.wakes_elided.load_relaxed();
    }
    stats.result_maximum_bytes = layout_.arena_bytes * layout_.workers;
    stats.events = counters.events.load_relaxed();
    std::memcpy(stats.label, statistics_->label, sizeof stats.label);
    stats.label[sizeof stats.label - 1] = '\0';
    ret_stats = stats;
    return 0;
}

int View::queue(std::uint32_t queue, aiomq_queue_stats &ret_stats) const {
    if (ret_stats.struct_bytes != sizeof(aiomq_queue_stats)) return -EINVAL;
    if (queue >= layout_.queues) return -ENOENT;
    aiomq_queue_stats stats{};
    stats.struct_bytes = sizeof stats;
    std::uint64_t oldest = UINT64_MAX;
    for (std::uint32_t slot = 0; slot < layout_.slots; ++slot) {
        const std::uint64_t offset = std::uint64_t{slot_stride_} * slot;
        const SlotWord word(
            at<Atomic<std::uint64_t>>(layout_.slots_offset + offset)->load_acquire());
        if (word.queue() != queue) continue;
        if (word.phase() == Phase::kClaimed) ++stats.claimed;
        if (word.phase() == Phase::kDone) ++stats.done;
        if (word.phase() != Phase::kReady) continue;
        ++stats.ready;
        oldest = std::min(
            oldest, *at<std::uint64_t>(layout_.requests_offset +
                                       std::uint64_t{request_stride_} * slot + submitted_offset_));
    }
    if (stats.ready > 0) stats.oldest_ns = since(oldest);
    const auto &record = at<QueueRecord>(layout_.queues_offset)[queue];
    std::memcpy(stats.name, record.name, sizeof stats.name);
    stats.name[sizeof stats.name - 1] = '\0';
    ret_stats = stats;
    return 0;
}

int View::worker(std::uint32_t worker, aiomq_worker_stats &ret_stats) const {
    if (ret_stats.struct_bytes != sizeof(aiomq_worker_stats)) return -EINVAL;
    if (worker >= layout_.workers) return -ENOENT;
    aiomq_worker_stats stats{};
    const WorkerRecord &record = this->record(worker);
    const WorkerArea &area = this->area(worker);
    stats.struct_bytes = sizeof stats;
    stats.pid = record.pid;
    stats.state = area.state.load_relaxed();
    const auto *flags = at<SleepFlags>(layout_.flags_offset);
    stats.sleeping =
        static_cast<std::uint32_t>(flags->asleep[worker / 64].load_relaxed() >> (worker % 64) & 1);
    stats.restarts = record.restarts;
    // Completed first: it can't be ahead of started then.
    stats.completed = area.completed.load_acquire();
    stats.failed = area.failed.load_relaxed();
    stats.started = area.started.load_relaxed();
    const std::uint64_t over = stats.completed + record.lost;
    stats.running = static_cast<std::uint32_t>(stats.started > over ? stats.started - over : 0);
    stats.wakeups = area.wakeups.load_relaxed();
    stats.used_bytes = area.used_bytes.load_relaxed();
    stats.committed_bytes = area.committed_bytes.load_relaxed();
    ret_stats = stats;
    return 0;
}

int View::event(std::uint64_t sequence, aiomq_event &ret_event) const {
    if (sequence == 0) return -ENOENT;
    const auto &record = at<EventRecord>(layout_.events_offset)[sequence % kEventCount];
    aiomq_event event{};
    if (record.sequence.load_acquire() != sequence) return -ENOENT;
    event.sequence = sequence;
    event.time_ns = record.time_ns;
    event.kind = record.kind;
    event.worker = record.worker;
    event.pid = record.pid;
    event.status = record.status;
    std::memcpy(event.text, record.text, sizeof event.text);
    event.text[sizeof event.text - 1] = '\0';
    if (record.sequence.load_acquire() != sequence) return -ENOENT;  // overwritten meanwhile
    ret_event = event;
    return 0;
}

}  // namespace aiomq
