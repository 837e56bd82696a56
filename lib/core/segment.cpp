#include "segment.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

namespace aiomq {
namespace {

/// What Boost.Interprocess needs to know of a file to map it.
struct Mapping {
    int fd;
    boost::interprocess::mode_t mode;
    boost::interprocess::mapping_handle_t get_mapping_handle() const { return {fd, false}; }
    boost::interprocess::mode_t get_mode() const { return mode; }
};

Result<std::unique_ptr<Segment>> failed(int error) {
    return Result<std::unique_ptr<Segment>>::failure(error);
}

/// As this build places them.
constexpr FieldOffsets own_fields() {
    FieldOffsets fields{};
    fields.slot_stride = sizeof(Slot);
    fields.slot_range = offsetof(Slot, range);
    fields.request_stride = sizeof(Request);
    fields.request_task_id = offsetof(Request, task_id);
    fields.request_function = offsetof(Request, function);
    fields.request_items = offsetof(Request, items);
    fields.request_attempt = offsetof(Request, attempt);
    fields.request_submitted_ns = offsetof(Request, submitted_ns);
    fields.record_stride = sizeof(WorkerRecord);
    fields.record_pid = offsetof(WorkerRecord, pid);
    fields.record_restarts = offsetof(WorkerRecord, restarts);
    fields.record_lost = offsetof(WorkerRecord, lost);
    fields.record_blocked_since_ns = offsetof(WorkerRecord, blocked_since_ns);
    fields.record_group = offsetof(WorkerRecord, group);
    fields.record_group_name = offsetof(WorkerRecord, group_name);
    fields.area_state = offsetof(WorkerArea, state);
    fields.area_started = offsetof(WorkerArea, started);
    fields.area_completed = offsetof(WorkerArea, completed);
    fields.area_failed = offsetof(WorkerArea, failed);
    fields.area_wakeups = offsetof(WorkerArea, wakeups);
    fields.area_used_bytes = offsetof(WorkerArea, used_bytes);
    fields.area_committed_bytes = offsetof(WorkerArea, committed_bytes);
    fields.area_current = offsetof(WorkerArea, current);
    fields.area_wakes_sent = offsetof(WorkerArea, wakes_sent);
    fields.area_wakes_elided = offsetof(WorkerArea, wakes_elided);
    fields.area_turns = offsetof(WorkerArea, turns);
    fields.header_functions = offsetof(Header, functions);
    fields.function_stride = sizeof(FunctionRecord);
    return fields;
}

void fill_header(Header &header, const Layout &layout, const std::string &label) {
    header.version = kFormatVersion;
    header.signature = kFormatSignature;
    header.statistics_offset = offsetof(Header, statistics);
    Statistics &statistics = header.statistics;
    statistics.magic = kMagic;
    statistics.version = kStatisticsVersion;
    statistics.bytes = sizeof(Statistics);
    statistics.pid = getpid();
    statistics.uid = getuid();
    statistics.created_realtime_ns = sys::realtime_ns();
    statistics.created_monotonic_ns = sys::monotonic_ns();
    std::strncpy(statistics.label, label.c_str(), kLabelBytes - 1);
    statistics.fields = own_fields();
    statistics.layout = layout;
}

}  // namespace

Segment::Segment(UniqueFd fd, const Layout &layout) : fd_(std::move(fd)), layout_(layout) {}

int Segment::map(bool writable) {
    namespace ipc = boost::interprocess;
    try {
        const auto mode = writable ? ipc::read_write : ipc::read_only;
        region_ = ipc::mapped_region(Mapping{fd_.get(), mode}, mode, 0, layout_.segment_bytes);
    } catch (const ipc::interprocess_exception &error) {
        return error.get_native_error() != 0 ? -error.get_native_error() : -ENOMEM;
    }
    base_ = static_cast<unsigned char *>(region_.get_address());
    madvise(base_, layout_.segment_bytes, MADV_DONTDUMP);
    slots_ = at<Slot>(layout_.slots_offset);
    requests_ = at<Request>(layout_.requests_offset);
    records_ = at<WorkerRecord>(layout_.records_offset);
    flags_ = at<SleepFlags>(layout_.flags_offset);
    return 0;
}

Result<std::unique_ptr<Segment>> Segment::create(const std::string &label, const Layout &layout) {
    auto fd = sys::sealed_memfd(("aiomq:" + label).c_str(), layout.segment_bytes);
    if (!fd) return failed(fd.error());
    std::unique_ptr<Segment> segment(new Segment(std::move(*fd), layout));
    int error = sys::commit(segment->fd(), 0, layout.functions_offset);
    if (error == 0)
        error = sys::commit(segment->fd(), layout.common_offset,
                            layout.workers_end - layout.common_offset);
    if (error == 0) error = segment->map(true);
    if (error != 0) return failed(error);
    // A fork of the application must not be able to write what it no longer owns.
    madvise(segment->base_, layout.segment_bytes, MADV_DONTFORK);
    fill_header(segment->header(), layout, label);
    return segment;
}

Result<std::unique_ptr<Segment>> Segment::attach(UniqueFd fd, std::uint32_t worker,
                                                 std::string &ret_text) {
    struct stat file {};
    if (fstat(fd.get(), &file) != 0) return failed(-errno);
    if (!sys::sealed_against_shrinking(fd.get()) ||
        file.st_size < static_cast<off_t>(sizeof(Header))) {
        ret_text = "the inherited descriptor is not a pool's memory";
        return failed(-EPROTO);
    }
    alignas(Header) unsigned char bytes[sizeof(Header)];
    if (pread(fd.get(), bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes))
        return failed(-EIO);
    const auto &header = *reinterpret_cast<const Header *>(bytes);  // NOLINT
    if (header.magic != kMagic || header.version != kFormatVersion ||
        header.signature != kFormatSignature) {
        ret_text = "the pool's memory has format version " + std::to_string(header.version) +
                   " (signature " + std::to_string(header.signature) + "), this library has " +
                   std::to_string(kFormatVersion) + " (" + std::to_string(kFormatSignature) +
                   "): dispatcher and workers must use the same build of libaiomq";
        return failed(-EPROTO);
    }
    const Layout &layout = header.statistics.layout;
    if (!layout_is_sound(layout) || layout.page_bytes != sys::page_size() ||
        layout.segment_bytes != static_cast<std::uint64_t>(file.st_size) ||
        worker >= layout.workers) {
        ret_text = "the header of the pool's memory is damaged";
        return failed(-EPROTO);
    }
    std::unique_ptr<Segment> segment(new Segment(std::move(fd), layout));
    int error = segment->map(false);
    const auto allow_writing = [&](std::uint64_t offset, std::uint64_t size) {
        if (error == 0 && mprotect(segment->base_ + offset, size, PROT_READ | PROT_WRITE) != 0)
            error = -errno;
        if (error == 0) madvise(segment->base_ + offset, size, MADV_DONTFORK);
    };
    allow_writing(layout.common_offset, layout.common_end - layout.common_offset);
    allow_writing(segment->offset_of(&segment->area(worker)), layout.worker_area_bytes);
    allow_writing(segment->result_arena_offset(worker), layout.arena_bytes);
    if (error != 0) {
        ret_text = "can't map the pool's memory (" + std::to_string(layout.segment_bytes) +
                   " bytes of address space)";
        return failed(error);
    }
    return segment;
}

bool layout_is_sound(const Layout &layout) {
    if (layout.slots == 0 || layout.slots > kMaxSlots || layout.workers == 0 ||
        layout.workers > kMaxWorkers || layout.queues == 0 || layout.queues > kMaxQueues ||
        layout.reserved_slots >= layout.slots || layout.arena_bytes == 0 ||
        layout.page_bytes < 4096 || (layout.page_bytes & (layout.page_bytes - 1)) != 0 ||
        layout.page_bytes > (1U << 21))
        return false;
    Layout expected{};
    return plan_layout({layout.slots - layout.reserved_slots, layout.workers, layout.queues,
                        layout.arena_bytes, layout.page_bytes},
                       expected) &&
           std::memcmp(&expected, &layout, sizeof layout) == 0;
}

std::string sanitised_label(const std::string &label) {
    std::string safe;
    for (const char character : label) {
        if (safe.size() == kLabelBytes - 1) break;
        const bool plain =
            (character >= '0' && character <= '9') || (character >= 'a' && character <= 'z') ||
            (character >= 'A' && character <= 'Z') || std::strchr("._+:=,-", character) != nullptr;
        safe += plain && character != '\0' ? character : '_';
    }
    return safe.empty() ? "pool" : safe;
}

}  // namespace aiomq
