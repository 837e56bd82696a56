#include "format.hpp"

#include <algorithm>
#include <bit>

namespace aiomq {
namespace {

/// Hands out ranges one after the other.
class Planner {
  public:
    explicit Planner(std::uint64_t page_bytes) : page_bytes_(page_bytes) {}

    std::uint64_t take(std::uint64_t bytes, std::uint64_t alignment = kLineBytes) {
        align(alignment);
        const std::uint64_t offset = next_;
        next_ += bytes;
        return offset;
    }
    std::uint64_t start_class() {
        align(page_bytes_);
        return next_;
    }

  private:
    void align(std::uint64_t alignment) { next_ = (next_ + alignment - 1) / alignment * alignment; }

    std::uint64_t page_bytes_;
    std::uint64_t next_ = 0;
};

}  // namespace

bool plan_layout(const LayoutRequest &request, Layout &ret_layout) {
    Layout layout{};
    layout.page_bytes = request.page_bytes;
    layout.reserved_slots = reserved_slots(request.capacity);
    layout.slots = request.capacity + layout.reserved_slots;
    layout.workers = request.workers;
    layout.queues = request.queues;
    // Twice the capacity: withdrawn tasks leave stale hints, and a full ring costs a drain. Never less
    // than all slots.
    layout.ring_cells = std::bit_ceil(std::max(request.capacity * 2, layout.slots));
    // One hint per slot and then some for progress; what does not fit sets `rescan`.
    layout.outbox_cells = std::bit_ceil(std::max(request.capacity, 64U));
    if (layout.outbox_cells > 8192) layout.outbox_cells = 8192;

    Planner planner(request.page_bytes);
    planner.take(sizeof(Header));
    layout.queues_offset = planner.take(sizeof(QueueRecord) * request.queues);
    layout.rings_offset = planner.take(8ULL * layout.ring_cells * request.queues);
    layout.requests_offset = planner.take(sizeof(Request) * layout.slots);
    layout.records_offset = planner.take(sizeof(WorkerRecord) * request.workers);
    layout.events_offset = planner.take(sizeof(EventRecord) * kEventCount);
    // Last of its class, on pages of its own: it is committed as it grows.
    layout.functions_offset = planner.start_class();
    planner.take(sizeof(FunctionRecord) * kMaxFunctions);
    layout.dispatcher_end = planner.start_class();

    layout.common_offset = layout.dispatcher_end;
    layout.slots_offset = planner.take(sizeof(Slot) * layout.slots);
    layout.heads_offset = planner.take(sizeof(QueueHead) * request.queues);
    layout.flags_offset = planner.take(sizeof(SleepFlags));
    layout.common_end = planner.start_class();

    const std::uint64_t area = sizeof(WorkerArea) + 8ULL * layout.outbox_cells;
    layout.worker_area_bytes = static_cast<std::uint32_t>((area + request.page_bytes - 1) /
                                                          request.page_bytes * request.page_bytes);
    layout.workers_offset = layout.common_end;
    planner.take(static_cast<std::uint64_t>(layout.worker_area_bytes) * request.workers);
    layout.workers_end = planner.start_class();

    if (request.arena_bytes > (1ULL << 46) / (request.workers + 1ULL)) return false;
    layout.arena_bytes =
        (request.arena_bytes + request.page_bytes - 1) / request.page_bytes * request.page_bytes;
    layout.request_arena_offset = planner.start_class();
    planner.take(layout.arena_bytes);
    layout.result_arenas_offset = planner.start_class();
    planner.take(layout.arena_bytes * request.workers);
    layout.segment_bytes = planner.start_class();
    ret_layout = layout;
    return true;
}

}  // namespace aiomq
