// Every byte that processes share: structs, their page classes, and the plan that places them.
//
// Rules: fixed-width fields, offsets instead of pointers, sizes asserted, words that two processes
// touch are Atomic. A change of any struct changes kFormatSignature by itself; a change of meaning
// needs kFormatVersion + 1. What aiomq-stat reads has its own version, kStatisticsVersion: append
// fields only, or raise it.
//
// Page classes, in file order (each starts on a page; who may write):
//   dispatcher   the dispatcher only    Header, functions, queues, requests, inboxes, records, events
//   common       every process          slots, ring heads, sleeping flags
//   worker w     worker w (dispatcher while w is not running)     WorkerArea, outbox
//   arenas       request arena: the dispatcher; result arena w: worker w
#pragma once

#include <cstddef>
#include <cstdint>

#include "atomic.hpp"
#include "versioned.hpp"

namespace aiomq {

inline constexpr std::uint64_t kMagic = 0x31'51'4d'4f'49'41'00'7f;  // "\x7f\0AIOMQ1"
inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::uint32_t kStatisticsVersion = 1;

inline constexpr std::uint32_t kMaxSlots = 1U << 20;
inline constexpr std::uint32_t kMaxWorkers = 1023;
inline constexpr std::uint32_t kMaxQueues = 16;
inline constexpr std::uint32_t kMaxItems = 1U << 16;
inline constexpr std::uint32_t kMaxFunctions = 1U << 16;
inline constexpr std::size_t kLineBytes = 64;
inline constexpr std::uint32_t kEventCount = 64;
inline constexpr std::uint32_t kInboxCells = 256;
inline constexpr std::size_t kLabelBytes = 64;
inline constexpr std::size_t kQueueNameBytes = 32;
inline constexpr std::size_t kGroupNameBytes = 32;
inline constexpr std::size_t kAbortTextBytes = 3072;
/// Arena granule: blocks are multiples of this and aligned to it.
inline constexpr std::uint64_t kBlockAlign = 64;

/// One event of the supervisor; behind its sequence, the same layout as aiomq_event.
struct EventEntry {
    std::uint64_t time_ns;
    std::uint32_t kind;
    std::uint32_t worker;
    std::int32_t pid;
    std::int32_t status;
    char text[224];
};
using EventRecord = Versioned<EventEntry>;
static_assert(sizeof(EventRecord) == 256);

/// A function's name in the request arena.
struct FunctionRecord {
    std::uint64_t offset;
    std::uint64_t bytes;
};

/// Queue, as the dispatcher writes it. The ring's head is in QueueHead, its cells follow elsewhere.
struct alignas(kLineBytes) QueueRecord {
    Atomic<std::uint64_t> tail;
    char name[kQueueNameBytes];
};
static_assert(sizeof(QueueRecord) == 64);

struct alignas(kLineBytes) QueueHead {
    Atomic<std::uint64_t> head;
};
static_assert(sizeof(QueueHead) == 64);

inline constexpr std::size_t kInlinePayloadBytes = 48;

/// What is asked for. Written by the dispatcher while the slot is FREE, read-only in workers. A task
/// without payload and limits touches the first line only.
struct alignas(kLineBytes) Request {
    std::uint64_t task_id;
    std::uint32_t function;
    std::uint16_t kind;
    std::uint16_t flags;
    std::uint32_t items;      ///< of the whole task
    std::uint32_t item_base;  ///< first item of this attempt
    std::uint32_t attempt;
    std::uint32_t
        attempt_block;  ///< of a task of many with retries, see attempt_block_offset(); 0: none
    std::uint64_t payload_bytes;
    std::uint64_t payload_offset;  ///< 0: inline
    std::int64_t integer;
    std::uint64_t submitted_ns;  ///< CLOCK_MONOTONIC_COARSE
    // Second line.
    std::uint64_t start_by_ns;  ///< with kLimited: CLOCK_MONOTONIC; UINT64_MAX: no limit
    std::uint64_t timeout_ns;   ///< with kLimited; 0: no limit
    std::uint8_t inline_payload[kInlinePayloadBytes];
};
static_assert(sizeof(Request) == 128 && offsetof(Request, start_by_ns) == kLineBytes);

/// Bits of Request.flags above those of enum aiomq_task_flags.
namespace request_flag {
inline constexpr std::uint16_t kLimited = 1U << 8;  ///< its second line has limits
inline constexpr std::uint16_t kNested = 1U << 9;   ///< a worker waits for it: wake the supervisor
}  // namespace request_flag

inline constexpr std::size_t kInlineResultBytes = 24;

/// The truth about one task, on one cache line. `word` says who may write the rest.
struct alignas(kLineBytes) Slot {
    Atomic<std::uint64_t> word;   ///< SlotWord
    Atomic<std::uint64_t> range;  ///< ItemRange
    /// Result block in the claimer's arena: a large result, or the OutcomeBlock of many items.
    Atomic<std::uint64_t> block_offset;
    std::uint16_t status;  ///< of a task of one item; enum aiomq_outcome
    std::uint16_t kind;
    std::uint32_t retained;  ///< with DONE, 1: the claimer still reads the payload, see kReturn
    Atomic<std::uint64_t> value;  ///< scalar, or the length of the inline or block data
    std::uint8_t inline_result[kInlineResultBytes];
};
static_assert(sizeof(Slot) == 64);

/// Outcome of one item of many. `head` is written last and says that `value` is there.
struct ItemOutcome {
    /// {status:16, kind:16, bytes:32}. Status 0: none yet; then `bytes` is the start stamp of an item
    /// that runs with a timeout.
    Atomic<std::uint64_t> head;
    Atomic<std::uint64_t> value;  ///< scalar, or offset of the data in the segment
};
static_assert(sizeof(ItemOutcome) == 16);

/// Outcomes of a task of many items, at the start of the slot's result block.
struct OutcomeBlock {
    std::uint32_t first_item;
    std::uint32_t count;
    /// First of a chain of blocks with the items' data; each begins with a DataBlock. 0 ends it.
    Atomic<std::uint64_t> data_offset;
    // ItemOutcome outcomes[count];
};
static_assert(sizeof(OutcomeBlock) == 16);

struct DataBlock {
    std::uint64_t next_offset;
    std::uint64_t bytes;  ///< of the whole block, this header included
};
static_assert(sizeof(DataBlock) == 16);

/// Of a task of many items with retries, in the request arena from submit on, so that recovery needs no
/// memory. Written by the dispatcher while the slot is its own.
struct AttemptBlock {
    std::uint32_t started_before;  ///< items below it started in time in an earlier attempt
    std::uint32_t padding;
    // std::uint16_t starts[items]: in earlier attempts; kDelivered: it is not run again
};
static_assert(sizeof(AttemptBlock) == 8);
inline constexpr std::uint16_t kDelivered = UINT16_MAX;
constexpr std::uint64_t attempt_block_bytes(std::uint32_t items) {
    return sizeof(AttemptBlock) + std::uint64_t{items} * sizeof(std::uint16_t);
}

/// Sleeping flags: one bit per worker, and one word each for the dispatcher's two sleepers.
struct alignas(kLineBytes) SleepFlags {
    Atomic<std::uint64_t> asleep[(kMaxWorkers + 63) / 64];
    Atomic<std::uint64_t> wants_tasks[(kMaxWorkers + 63) / 64];
    alignas(kLineBytes) Atomic<std::uint32_t> application;
    alignas(kLineBytes) Atomic<std::uint32_t> corrupt;  ///< set by whoever finds damage
};
static_assert(sizeof(SleepFlags) == 384);

/// What the dispatcher says about a worker.
struct alignas(kLineBytes) WorkerRecord {
    std::int32_t pid;  ///< 0: no process
    std::uint32_t incarnation;
    std::uint32_t restarts;
    std::uint32_t takeover_count;  ///< entries of the list of blocks that the worker must respect
    std::uint64_t takeover_offset;
    std::uint64_t lost;  ///< items that were running when an earlier incarnation died
    Atomic<std::uint64_t> blocked_since_ns;  ///< CLOCK_MONOTONIC; 0: its loop turns
    std::uint64_t max_tasks;                 ///< 0: no limit, as the next two
    std::uint64_t max_memory_bytes;
    std::uint32_t concurrency;
    std::uint32_t group;
    char group_name[kGroupNameBytes];
    std::uint32_t served_count;
    std::uint8_t served[kMaxQueues];  ///< queue numbers, first to last
    std::uint32_t padding;
    Atomic<std::uint64_t> inbox_tail;
    Atomic<std::uint64_t> outbox_head;
    Atomic<std::uint32_t> inbox_waiting;  ///< 1: the dispatcher has more for the inbox than fits
    std::uint32_t reserved;
    std::uint64_t inbox[kInboxCells];
};
static_assert(sizeof(WorkerRecord) % 64 == 0);

/// Slots kept for nested work beside @capacity for the application.
constexpr std::uint32_t reserved_slots(std::uint32_t capacity) {
    const std::uint32_t wanted = capacity < 64 ? 8 : (capacity / 8 < 1024 ? capacity / 8 : 1024);
    return capacity + wanted <= kMaxSlots ? wanted : kMaxSlots - capacity;
}

/// A nested task, as a worker asks for it, in a block of its own arena. The function's name follows, and
/// from the next multiple of 8 on the payload.
struct NestedRequest {
    std::uint64_t ticket;  ///< names it between worker and dispatcher; kTicketBits wide
    std::int64_t integer;
    std::uint64_t payload_bytes;
    std::uint64_t key;
    std::uint64_t start_within_ns;
    std::uint64_t timeout_ns;
    std::uint32_t flags;
    std::uint32_t items;
    std::uint32_t retries;
    std::uint32_t name_bytes;
    std::uint32_t parent_slot;
    std::uint32_t parent_generation;
    std::uint16_t kind;
    std::uint16_t queue;
    std::uint32_t padding;
};
static_assert(sizeof(NestedRequest) == 80);
inline constexpr std::uint32_t kTicketBits = 48;
inline constexpr std::size_t kMaxNameBytes = 4000;

/// One item of an Answer; data is anywhere in the arenas.
struct AnswerItem {
    std::uint32_t index;
    std::uint16_t status;
    std::uint16_t kind;
    std::uint64_t bytes;
    std::uint64_t value;  ///< scalar, or offset of the data in the segment
};
static_assert(sizeof(AnswerItem) == 24);

/// A completion of a nested task, in a block of the request arena; the owner gives it back.
struct Answer {
    std::uint64_t ticket;
    std::uint64_t task_id;
    std::uint32_t item_count;
    std::uint32_t items_left;
    std::uint32_t attempt;
    std::uint32_t worker;
    // AnswerItem items[item_count]; then data that lies nowhere else.
};
static_assert(sizeof(Answer) == 32);
/// In every answer's block, beside the table of its items: a short result or an error's text.
inline constexpr std::uint64_t kAnswerDataBytes = 512;
constexpr std::uint64_t answer_bytes(std::uint32_t items) {
    return sizeof(Answer) + std::uint64_t{items} * sizeof(AnswerItem) + kAnswerDataBytes;
}

/// Takeover list entry: a block of a dead predecessor that is still in use.
struct BlockRange {
    std::uint64_t offset;
    std::uint64_t bytes;
};

/// What a worker says of itself; the outbox cells follow. By line: what it writes for each item and
/// nobody reads for each; what the dispatcher reads whenever it looks for completions; the rest.
struct alignas(kLineBytes) WorkerArea {
    Atomic<std::uint32_t> state;    ///< enum aiomq_worker_state
    Atomic<std::uint32_t> turns;    ///< changes whenever the loop turns
    Atomic<std::uint64_t> started;  ///< items; counters of all incarnations
    Atomic<std::uint64_t> completed;
    Atomic<std::uint64_t> failed;
    Atomic<std::uint64_t> wakeups;
    Atomic<std::uint64_t> current;     ///< {slot + 1:32, item:32} that the thread runs now; 0: none
    Atomic<std::uint64_t> wakes_sent;  ///< to the application
    Atomic<std::uint64_t> wakes_elided;
    alignas(kLineBytes) Atomic<std::uint64_t> outbox_tail;
    Atomic<std::uint32_t> rescan;          ///< 1: a completion hint did not fit the outbox
    Atomic<std::uint32_t> outbox_waiting;  ///< 1: the worker has more for the outbox than fits
    alignas(kLineBytes) Atomic<std::uint64_t> inbox_head;
    Atomic<std::uint64_t> used_bytes;
    Atomic<std::uint64_t> committed_bytes;
    /// When this process was asked to retire, CLOCK_MONOTONIC; 0: it was not, or did so by itself.
    Atomic<std::uint64_t> asked_ns;
    char abort_text[kAbortTextBytes];
    // std::uint64_t outbox[outbox_cells];
};
static_assert(sizeof(WorkerArea) % 64 == 0);

/// Where things are and how many; fixed at create.
struct Layout {
    std::uint64_t segment_bytes;
    std::uint64_t page_bytes;
    std::uint32_t slots;
    std::uint32_t workers;
    std::uint32_t queues;
    std::uint32_t ring_cells;    ///< per queue; a power of two
    std::uint32_t outbox_cells;  ///< per worker; a power of two
    std::uint32_t worker_area_bytes;
    std::uint32_t reserved_slots;  ///< of slots: for nested work only
    std::uint32_t padding;
    // dispatcher class
    std::uint64_t functions_offset;
    std::uint64_t queues_offset;
    std::uint64_t rings_offset;
    std::uint64_t requests_offset;
    std::uint64_t records_offset;
    std::uint64_t events_offset;
    std::uint64_t dispatcher_end;
    // common class
    std::uint64_t common_offset;
    std::uint64_t slots_offset;
    std::uint64_t heads_offset;
    std::uint64_t flags_offset;
    std::uint64_t common_end;
    // worker class
    std::uint64_t workers_offset;
    std::uint64_t workers_end;
    // arenas
    std::uint64_t arena_bytes;  ///< virtual size of each; a multiple of page_bytes
    std::uint64_t request_arena_offset;
    std::uint64_t result_arenas_offset;
};

/// Where Request.attempt_block lies in the segment.
constexpr std::uint64_t attempt_block_offset(const Layout &layout, const Request &request) {
    return layout.request_arena_offset + std::uint64_t{request.attempt_block - 1} * kBlockAlign;
}

/// Counters of the dispatcher; single writer: whoever holds the pool's mutex.
struct PoolCounters {
    Atomic<std::uint64_t> submitted;
    Atomic<std::uint64_t> outcomes[9];  ///< by enum aiomq_outcome
    Atomic<std::uint64_t> requeued;
    Atomic<std::uint64_t> wakeups_sent;
    Atomic<std::uint64_t> wakeups_elided;
    Atomic<std::uint64_t> audits;
    Atomic<std::uint64_t> restarts;
    Atomic<std::uint64_t> request_used_bytes;
    Atomic<std::uint64_t> request_committed_bytes;
    Atomic<std::uint64_t> events;  ///< newest sequence number
    Atomic<std::uint64_t> retried;
    Atomic<std::uint64_t> nested;
    Atomic<std::uint64_t> splits;
};

/// Where a viewer of another build finds what it shows: strides of arrays, and offsets of fields in an
/// element of them.
struct FieldOffsets {
    std::uint32_t slot_stride;
    std::uint32_t slot_range;
    std::uint32_t request_stride;
    std::uint32_t request_task_id;
    std::uint32_t request_function;
    std::uint32_t request_items;
    std::uint32_t request_attempt;
    std::uint32_t request_submitted_ns;
    std::uint32_t record_stride;
    std::uint32_t record_pid;
    std::uint32_t record_restarts;
    std::uint32_t record_lost;
    std::uint32_t record_blocked_since_ns;
    std::uint32_t record_group;
    std::uint32_t record_group_name;
    std::uint32_t area_state;
    std::uint32_t area_started;
    std::uint32_t area_completed;
    std::uint32_t area_failed;
    std::uint32_t area_wakeups;
    std::uint32_t area_used_bytes;
    std::uint32_t area_committed_bytes;
    std::uint32_t area_current;
    std::uint32_t area_wakes_sent;
    std::uint32_t area_wakes_elided;
    std::uint32_t area_turns;
    std::uint32_t header_functions;  ///< of their number in the segment
    std::uint32_t function_stride;
};

/// What a viewer of another build may rely on: found by its own magic and version.
struct Statistics {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t bytes;
    std::int32_t pid;
    std::uint32_t uid;
    std::uint64_t created_realtime_ns;
    std::uint64_t created_monotonic_ns;
    char label[kLabelBytes];
    Atomic<std::uint32_t> state;  ///< enum aiomq_pool_state
    std::uint32_t reserved;
    FieldOffsets fields;
    PoolCounters counters;
    Layout layout;  ///< appended to only
};

/// First bytes of the segment.
struct Header {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t signature;
    std::uint32_t statistics_offset;
    Atomic<std::uint32_t> leave;      ///< 1: closed and drained, workers go
    Atomic<std::uint32_t> functions;  ///< published names
    Atomic<std::uint32_t> to_split;   ///< 1: a worker that goes to sleep tells the supervisor
    Atomic<std::uint32_t> keyed;      ///< 1: hints may be in inboxes, so claiming looks there too
    Atomic<std::uint32_t>
        nested_waiting;  ///< 1: for room, so every completion is for the supervisor
    std::uint64_t spin_ns;
    std::uint64_t arena_start_bytes;
    Statistics statistics;
};
static_assert(sizeof(Header) <= 4096);

/// Changes with every size and offset that matters.
constexpr std::uint32_t format_signature() {
    std::uint32_t hash = 2166136261U;  // FNV-1a
    for (const std::size_t part : {sizeof(EventRecord),
                                   sizeof(QueueRecord),
                                   sizeof(Request),
                                   sizeof(Slot),
                                   sizeof(SleepFlags),
                                   sizeof(WorkerRecord),
                                   sizeof(WorkerArea),
                                   sizeof(Layout),
                                   sizeof(PoolCounters),
                                   sizeof(Statistics),
                                   sizeof(Header),
                                   sizeof(AttemptBlock),
                                   sizeof(NestedRequest),
                                   sizeof(Answer),
                                   sizeof(AnswerItem),
                                   offsetof(Request, inline_payload),
                                   offsetof(Slot, inline_result),
                                   offsetof(WorkerArea, abort_text),
                                   offsetof(WorkerRecord, inbox),
                                   offsetof(Header, statistics)})
        hash = (hash ^ static_cast<std::uint32_t>(part)) * 16777619U;
    return hash ^ kFormatVersion;
}
inline constexpr std::uint32_t kFormatSignature = format_signature();

/// What a lane's 64-bit message means.
enum class Notice : std::uint8_t {
    // worker → dispatcher
    kDone = 1,      ///< slot index: look, it may be DONE
    kProgress = 2,  ///< slot index: items of a claimed slot have finished
    kSubmit = 5,    ///< block offset / kBlockAlign in the worker's arena: a nested task
    kReturn = 6,  ///< block offset / kBlockAlign in the request arena: the worker needs it no more
    kCancelNested = 7,  ///< ticket of a nested task
    // dispatcher → worker
    kRelease = 3,  ///< block offset / kBlockAlign: the reader needs it no more
    kCancel = 4,   ///< a NamedSlot: stop it
    kHint = 8,     ///< a NamedSlot: a keyed task for this worker
    kAnswer = 9,   ///< block offset / kBlockAlign in the request arena: a nested task's completion
    kAsk = 10,  ///< if a slot says that this worker has claimed it and it has not, there is damage
    kRefused = 11,  ///< {errno:8, ticket:48}: a nested task that never became one
};
struct Message {
    Notice notice;
    std::uint64_t value;  ///< 56 bits

    constexpr std::uint64_t pack() const {
        return static_cast<std::uint64_t>(notice) << 56 | value;
    }
    static constexpr Message unpack(std::uint64_t cell) {
        return {static_cast<Notice>(cell >> 56), cell & ((1ULL << 56) - 1)};
    }
};

/// A slot while it is of one generation: what it held then is meant, nothing later.
struct NamedSlot {
    std::uint32_t slot;
    std::uint32_t generation;

    constexpr std::uint64_t pack() const { return std::uint64_t{generation} * kMaxSlots | slot; }
    static constexpr NamedSlot unpack(std::uint64_t value) {
        return {static_cast<std::uint32_t>(value % kMaxSlots),
                static_cast<std::uint32_t>(value / kMaxSlots)};
    }
};

/// Places everything for these numbers. @capacity and the rest must be within their maxima.
struct LayoutRequest {
    std::uint32_t capacity;  ///< slots without the reserved ones
    std::uint32_t workers;
    std::uint32_t queues;
    std::uint64_t arena_bytes;
    std::uint64_t page_bytes;
};
/// False when the sizes do not fit 63 bits.
bool plan_layout(const LayoutRequest &request, Layout &ret_layout);

}  // namespace aiomq
