#include "stats.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "message.hpp"

namespace aiomq {
namespace {

struct Mapping {
    int fd;
    boost::interprocess::mapping_handle_t get_mapping_handle() const { return {fd, false}; }
    boost::interprocess::mode_t get_mode() const { return boost::interprocess::read_only; }
};

using Word = Atomic<std::uint64_t>;
using HalfWord = Atomic<std::uint32_t>;

/// How often a slot that changes while it is read is read again.
constexpr int kReads = 4;

bool fits(std::uint64_t whole, std::uint64_t offset, std::uint64_t count, std::uint64_t stride) {
    return offset <= whole && (stride == 0 || count <= (whole - offset) / stride);
}

/// True when a field of @bytes bytes lies aligned inside an element of @stride bytes.
bool inside(std::uint32_t stride, std::uint32_t field, std::size_t bytes, std::size_t align) {
    return field % align == 0 && field <= stride && bytes <= stride - field;
}
bool word_inside(std::uint32_t stride, std::uint32_t field) { return inside(stride, field, 8, 8); }
bool half_inside(std::uint32_t stride, std::uint32_t field) { return inside(stride, field, 4, 4); }

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
    std::memcpy(&view->fields_, &statistics.fields, sizeof(FieldOffsets));
    if (!view->sound()) return -EBADMSG;
    ret_view = std::move(view);
    return 0;
}

bool View::sound() const {
    const Layout &l = layout_;
    const FieldOffsets &f = fields_;
    for (const std::uint64_t place :
         {std::uint64_t{f.slot_stride}, std::uint64_t{f.request_stride},
          std::uint64_t{f.record_stride}, std::uint64_t{l.worker_area_bytes},
          std::uint64_t{f.function_stride}, l.slots_offset, l.requests_offset, l.records_offset,
          l.workers_offset, l.queues_offset, l.events_offset, l.flags_offset, l.functions_offset})
        if (place % 8 != 0) return false;
    if (l.queues_offset % alignof(QueueRecord) != 0 || l.flags_offset % alignof(SleepFlags) != 0)
        return false;
    for (const std::uint32_t word : {f.request_task_id, f.request_submitted_ns})
        if (!word_inside(f.request_stride, word)) return false;
    for (const std::uint32_t half : {f.request_function, f.request_items, f.request_attempt})
        if (!half_inside(f.request_stride, half)) return false;
    for (const std::uint32_t word : {f.record_lost, f.record_blocked_since_ns})
        if (!word_inside(f.record_stride, word)) return false;
    for (const std::uint32_t half : {f.record_pid, f.record_restarts, f.record_group})
        if (!half_inside(f.record_stride, half)) return false;
    for (const std::uint32_t word :
         {f.area_started, f.area_completed, f.area_failed, f.area_wakeups, f.area_used_bytes,
          f.area_committed_bytes, f.area_current, f.area_wakes_sent, f.area_wakes_elided})
        if (!word_inside(l.worker_area_bytes, word)) return false;
    for (const std::uint32_t half : {f.area_state, f.area_turns})
        if (!half_inside(l.worker_area_bytes, half)) return false;
    return l.slots <= kMaxSlots && l.reserved_slots < l.slots && l.workers <= kMaxWorkers &&
           l.queues <= kMaxQueues && word_inside(f.slot_stride, 0) &&
           word_inside(f.slot_stride, f.slot_range) &&
           inside(f.record_stride, f.record_group_name, kGroupNameBytes, 1) &&
           f.function_stride >= sizeof(FunctionRecord) && f.header_functions % 4 == 0 &&
           fits(bytes_, f.header_functions, 1, 4) &&
           fits(bytes_, l.slots_offset, l.slots, f.slot_stride) &&
           fits(bytes_, l.requests_offset, l.slots, f.request_stride) &&
           fits(bytes_, l.records_offset, l.workers, f.record_stride) &&
           fits(bytes_, l.workers_offset, l.workers, l.worker_area_bytes) &&
           fits(bytes_, l.queues_offset, l.queues, sizeof(QueueRecord)) &&
           fits(bytes_, l.events_offset, kEventCount, sizeof(EventRecord)) &&
           fits(bytes_, l.flags_offset, 1, sizeof(SleepFlags));
}

SlotWord View::word(std::uint32_t slot) const {
    return SlotWord(in_slot<Word>(slot, 0).load_acquire());
}

/// "" when it is not there: the number and the place come from memory that changes.
std::string_view View::function_name(std::uint32_t function) const {
    if (function >= at<HalfWord>(fields_.header_functions)->load_acquire() ||
        !fits(bytes_, layout_.functions_offset, std::uint64_t{function} + 1,
              fields_.function_stride))
        return {};
    FunctionRecord record{};
    std::memcpy(
        &record,
        at<void>(layout_.functions_offset + std::uint64_t{fields_.function_stride} * function),
        sizeof record);
    if (!fits(bytes_, record.offset, record.bytes, 1)) return {};
    return {at<char>(record.offset), record.bytes};
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
    stats.capacity = layout_.slots - layout_.reserved_slots;
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
    stats.retried = counters.retried.load_relaxed();
    stats.nested = counters.nested.load_relaxed();
    stats.splits = counters.splits.load_relaxed();
    stats.retried = counters.retried.load_relaxed();
    stats.request_used_bytes = counters.request_used_bytes.load_relaxed();
    stats.request_committed_bytes = counters.request_committed_bytes.load_relaxed();
    stats.request_maximum_bytes = layout_.arena_bytes;
    for (std::uint32_t worker = 0; worker < layout_.workers; ++worker) {
        const auto read = [&](std::uint32_t field) {
            return in_area<Word>(worker, field).load_relaxed();
        };
        stats.result_used_bytes += read(fields_.area_used_bytes);
        stats.result_committed_bytes += read(fields_.area_committed_bytes);
        stats.wakeups_sent += read(fields_.area_wakes_sent);
        stats.wakeups_elided += read(fields_.area_wakes_elided);
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
        const SlotWord word = this->word(slot);
        if (word.queue() != queue) continue;
        if (word.phase() == Phase::kClaimed) ++stats.claimed;
        if (word.phase() == Phase::kDone) ++stats.done;
        if (word.phase() != Phase::kReady) continue;
        ++stats.ready;
        oldest =
            std::min(oldest, in_request<Word>(slot, fields_.request_submitted_ns).load_relaxed());
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
    const auto read = [&](std::uint32_t field) {
        return in_area<Word>(worker, field).load_relaxed();
    };
    stats.struct_bytes = sizeof stats;
    stats.pid = in_record<std::int32_t>(worker, fields_.record_pid);
    stats.state = in_area<HalfWord>(worker, fields_.area_state).load_relaxed();
    const auto *flags = at<SleepFlags>(layout_.flags_offset);
    stats.sleeping =
        static_cast<std::uint32_t>(flags->asleep[worker / 64].load_relaxed() >> (worker % 64) & 1);
    stats.restarts = in_record<HalfWord>(worker, fields_.record_restarts).load_relaxed();
    // Completed first: it can't be ahead of started then.
    stats.completed = in_area<Word>(worker, fields_.area_completed).load_acquire();
    stats.failed = read(fields_.area_failed);
    stats.started = read(fields_.area_started);
    const std::uint64_t over =
        stats.completed + in_record<Word>(worker, fields_.record_lost).load_relaxed();
    stats.running = static_cast<std::uint32_t>(stats.started > over ? stats.started - over : 0);
    stats.wakeups = read(fields_.area_wakeups);
    stats.used_bytes = read(fields_.area_used_bytes);
    stats.committed_bytes = read(fields_.area_committed_bytes);
    stats.group = in_record<HalfWord>(worker, fields_.record_group).load_relaxed();
    std::memcpy(stats.group_name, &in_record<char>(worker, fields_.record_group_name),
                sizeof stats.group_name);
    stats.group_name[sizeof stats.group_name - 1] = '\0';
    read_current(worker, stats);
    ret_stats = stats;
    return 0;
}

/// What the worker's thread runs, what waits for it alone, and whether its loop turns.
void View::read_current(std::uint32_t worker, aiomq_worker_stats &stats) const {
    for (std::uint32_t slot = 0; slot < layout_.slots; ++slot) {
        const SlotWord word = this->word(slot);
        if (word.phase() == Phase::kReady && word.keyed() && word.worker() == worker) ++stats.keyed;
    }
    // Left as it was when the item ended, so it counts only while the worker holds the slot.
    const std::uint64_t current = in_area<Word>(worker, fields_.area_current).load_relaxed();
    const std::uint64_t slot = (current >> 32) - 1;
    if (current >> 32 != 0 && slot < layout_.slots) {
        const SlotWord word = this->word(static_cast<std::uint32_t>(slot));
        if (word.phase() == Phase::kClaimed && word.worker() == worker) {
            stats.current_id =
                in_request<Word>(static_cast<std::uint32_t>(slot), fields_.request_task_id)
                    .load_relaxed();
            stats.current_item = static_cast<std::uint32_t>(current);
        }
    }
    stats.turns = in_area<HalfWord>(worker, fields_.area_turns).load_relaxed();
    const std::uint64_t blocked =
        in_record<Word>(worker, fields_.record_blocked_since_ns).load_relaxed();
    if (blocked != 0 && stats.running > 0 && stats.sleeping == 0) stats.blocked_ns = since(blocked);
}

int View::task(std::uint32_t slot, aiomq_task_stats &ret_stats) const {
    if (ret_stats.struct_bytes != sizeof(aiomq_task_stats)) return -EINVAL;
    if (slot >= layout_.slots) return -ENOENT;
    for (int round = 0; round < kReads; ++round) {
        const SlotWord word = this->word(slot);
        if (word.phase() != Phase::kClaimed) return -ENODATA;
        if (word.worker() >= layout_.workers) return -EBADMSG;
        // Acquire: the second look at the word is not made before any of these.
        const auto read = [&](std::uint32_t field) {
            return in_request<HalfWord>(slot, field).load_acquire();
        };
        aiomq_task_stats stats{};
        stats.struct_bytes = sizeof stats;
        stats.worker = word.worker();
        stats.queue = word.queue();
        stats.task_id = in_request<Word>(slot, fields_.request_task_id).load_acquire();
        stats.age_ns = since(in_request<Word>(slot, fields_.request_submitted_ns).load_acquire());
        stats.attempt = read(fields_.request_attempt);
        stats.items = read(fields_.request_items);
        // Counts from the task's first item, in every attempt.
        const ItemRange range =
            ItemRange::unpack(in_slot<Word>(slot, fields_.slot_range).load_acquire());
        stats.started = std::min(range.next, stats.items);
        const std::string_view name =
            cut(function_name(read(fields_.request_function)), sizeof stats.function - 1);
        name.copy(stats.function, name.size());  // which may be none at all, without an address
        if (this->word(slot).bits() != word.bits()) continue;  // it ended meanwhile
        ret_stats = stats;
        return 0;
    }
    return -ENODATA;
}

int View::event(std::uint64_t sequence, aiomq_event &ret_event) const {
    if (sequence == 0) return -ENOENT;
    EventEntry entry;
    if (!at<EventRecord>(layout_.events_offset)[sequence % kEventCount].read(sequence, entry))
        return -ENOENT;
    aiomq_event event{};
    event.sequence = sequence;
    event.time_ns = entry.time_ns;
    event.kind = entry.kind;
    event.worker = entry.worker;
    event.pid = entry.pid;
    event.status = entry.status;
    std::memcpy(event.text, entry.text, sizeof event.text);
    event.text[sizeof event.text - 1] = '\0';
    ret_event = event;
    return 0;
}

}  // namespace aiomq
