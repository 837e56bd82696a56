// Segment: one pool's memory, mapped into this process.
//
// The dispatcher creates it and may write all of it; a worker attaches and may write only the common
// class, its own area and its own arena, so that a wild pointer in a task can't scribble on another
// task's payload; a viewer may write nothing. Attaching validates everything it later relies on.
#pragma once

#include <boost/interprocess/mapped_region.hpp>
#include <memory>
#include <string>

#include "format.hpp"
#include "sys.hpp"

namespace aiomq {

class Segment {
  public:
    /// Makes and maps a segment for @layout and commits all but the arenas. The header is filled but
    /// for its magic, which publish() writes.
    static Result<std::unique_ptr<Segment>> create(const std::string &label, const Layout &layout);
    /// Maps @fd as worker @worker. -EPROTO: another format, with the reason in @ret_text.
    static Result<std::unique_ptr<Segment>> attach(UniqueFd fd, std::uint32_t worker,
                                                   std::string &ret_text);

    Header &header() { return *at<Header>(0); }
    const Layout &layout() const { return layout_; }
    int fd() const { return fd_.get(); }
    const void *start() const { return base_; }
    std::uint64_t size() const { return layout_.segment_bytes; }

    template <typename T>
    T *at(std::uint64_t offset) {
        return reinterpret_cast<T *>(base_ + offset);  // NOLINT: the segment is raw memory
    }
    /// Offset of an address inside the segment.
    std::uint64_t offset_of(const void *address) const {
        return static_cast<std::uint64_t>(static_cast<const unsigned char *>(address) - base_);
    }

    Slot &slot(std::uint32_t index) { return slots_[index]; }
    Request &request(std::uint32_t index) { return requests_[index]; }
    WorkerRecord &record(std::uint32_t worker) { return records_[worker]; }
    WorkerArea &area(std::uint32_t worker) {
        return *at<WorkerArea>(layout_.workers_offset +
                               std::uint64_t{layout_.worker_area_bytes} * worker);
    }
    std::uint64_t *outbox(std::uint32_t worker) {
        return reinterpret_cast<std::uint64_t *>(&area(worker) + 1);  // NOLINT
    }
    QueueRecord &queue(std::uint32_t queue) {
        return at<QueueRecord>(layout_.queues_offset)[queue];
    }
    QueueHead &queue_head(std::uint32_t queue) {
        return at<QueueHead>(layout_.heads_offset)[queue];
    }
    Atomic<std::uint64_t> *ring_cells(std::uint32_t queue) {
        return at<Atomic<std::uint64_t>>(layout_.rings_offset) +
               std::size_t{layout_.ring_cells} * queue;
    }
    SleepFlags &flags() { return *flags_; }
    FunctionRecord &function(std::uint32_t number) {
        return at<FunctionRecord>(layout_.functions_offset)[number];
    }
    EventRecord &event(std::uint64_t sequence) {
        return at<EventRecord>(layout_.events_offset)[sequence % kEventCount];
    }
    std::uint64_t result_arena_offset(std::uint32_t worker) const {
        return layout_.result_arenas_offset + layout_.arena_bytes * worker;
    }
    /// True when [offset, offset+bytes) lies inside worker's result arena.
    bool in_result_arena(std::uint32_t worker, std::uint64_t offset, std::uint64_t bytes) const {
        return in_range(result_arena_offset(worker), offset, bytes);
    }
    /// True when it lies inside any worker's.
    bool in_result_arenas(std::uint64_t offset, std::uint64_t bytes) const {
        return offset >= layout_.result_arenas_offset && offset <= layout_.segment_bytes &&
               bytes <= layout_.segment_bytes - offset;
    }
    bool in_request_arena(std::uint64_t offset, std::uint64_t bytes) const {
        return in_range(layout_.request_arena_offset, offset, bytes);
    }

    /// Ends create(): from here on others may attach.
    void publish() { header().magic = kMagic; }

  private:
    Segment(UniqueFd fd, const Layout &layout);
    int map(bool writable);
    bool in_range(std::uint64_t start, std::uint64_t offset, std::uint64_t bytes) const {
        return offset >= start && bytes <= layout_.arena_bytes &&
               offset - start <= layout_.arena_bytes - bytes;
    }

    UniqueFd fd_;
    Layout layout_;
    boost::interprocess::mapped_region region_;
    unsigned char *base_ = nullptr;
    Slot *slots_ = nullptr;
    Request *requests_ = nullptr;
    WorkerRecord *records_ = nullptr;
    SleepFlags *flags_ = nullptr;
};

/// True when @layout is what plan_layout() gives for its own numbers, hence in bounds throughout.
bool layout_is_sound(const Layout &layout);

/// "aiomq:" and @label made safe for a file name and a terminal, at most kLabelBytes - 1 long.
std::string sanitised_label(const std::string &label);

}  // namespace aiomq
