// The slot word and its transitions: the truth about who has a task.
//
//      submit / re-queue         claim                 finish               deliver
//   FREE ───────────────▶ READY ───────▶ CLAIMED(w,i) ───────▶ DONE(w,i) ───────────▶ FREE
//     ▲                     │                 │ worker w died: deliver, or READY again │
//     └──── withdraw ◀──────┘                 └────────────────────────────────────────┘
//
// Who may make a transition: dispatcher: FREE→READY, READY→FREE, DONE→FREE, and, once the kernel has
// confirmed that worker w is gone, CLAIMED(w)→READY or FREE. Worker: READY→CLAIMED, CLAIMED→DONE.
//
// Edges:
//   slot.submit   publish_ready's store (release) → claim's CAS (acquire): request and payload.
//   slot.finish   finish's store (release) → the dispatcher's load (acquire): result and block.
//   range.start   of a task of many items every change of the range word is a CAS: the worker raises
//                 `next` before it starts an item, the dispatcher lowers `end` to withdraw items; neither
//                 can miss the other. Of a task of one only the claimer writes it, with a store.
//   item.publish  ItemOutcome.head's store (release) → load (acquire): the item's value and data.
// Crash windows:
//   W-slot-1  killed between pop and claim: READY without a hint; recovery re-hints.
//   W-slot-2  killed between claim and `next`: claimed, not started; re-queued by recovery.
//   W-slot-3  killed after `next`, before the outcome: WORKER_DIED for that item.
//   W-slot-4  killed between outcome and DONE: of a task of many items recovery delivers what is
//             published; a task of one is published by DONE itself, so that it is WORKER_DIED.
//   W-slot-5  killed between DONE and the completion hint: recovery finds DONE(w).
#pragma once

#include <cstdint>

#include "format.hpp"

namespace aiomq {

enum class Phase : std::uint8_t { kFree = 0, kReady = 1, kClaimed = 2, kDone = 3 };

/// {phase:3, queue:8, worker:10, incarnation:11, generation:32}, kept in one register.
class SlotWord {
  public:
    static constexpr std::uint32_t kIncarnationMask = (1U << 11) - 1;
    /// Bit of the queue field of a READY word that names its worker.
    static constexpr std::uint32_t kKeyed = 0x80;

    constexpr SlotWord() = default;
    constexpr explicit SlotWord(std::uint64_t bits) : bits_(bits) {}
    static constexpr SlotWord make(Phase phase, std::uint32_t queue, std::uint32_t worker,
                                   std::uint32_t incarnation, std::uint32_t generation) {
        return SlotWord(static_cast<std::uint64_t>(phase) << kPhaseShift |
                        std::uint64_t{queue & 0xffU} << kQueueShift |
                        std::uint64_t{worker & 0x3ffU} << kWorkerShift |
                        std::uint64_t{incarnation & kIncarnationMask} << kIncarnationShift |
                        generation);
    }

    constexpr std::uint64_t bits() const { return bits_; }
    constexpr Phase phase() const { return static_cast<Phase>(bits_ >> kPhaseShift); }
    constexpr std::uint32_t queue() const { return field(kQueueShift, 0x7f); }
    /// Of a READY word: only worker() may claim it.
    constexpr bool keyed() const { return field(kQueueShift, kKeyed) != 0; }
    /// READY, and for any worker that serves @queue.
    constexpr bool ready_in(std::uint32_t in_queue) const {
        return bits_ >> kQueueShift == (static_cast<std::uint64_t>(Phase::kReady) << 8 | in_queue);
    }
    constexpr std::uint32_t worker() const { return field(kWorkerShift, 0x3ff); }
    constexpr std::uint32_t incarnation() const {
        return field(kIncarnationShift, kIncarnationMask);
    }
    constexpr std::uint32_t generation() const { return static_cast<std::uint32_t>(bits_); }
    constexpr bool held_by(std::uint32_t by_worker, std::uint32_t by_incarnation) const {
        return worker() == by_worker && incarnation() == (by_incarnation & kIncarnationMask);
    }

    constexpr SlotWord with_phase(Phase phase) const {
        return SlotWord((bits_ & kBelowPhase) | static_cast<std::uint64_t>(phase) << kPhaseShift);
    }
    /// READY, free of another owner, becomes CLAIMED by @worker.
    constexpr SlotWord claimed_by(std::uint32_t worker, std::uint32_t incarnation) const {
        return SlotWord(
            (with_phase(Phase::kClaimed).bits_ & ~(std::uint64_t{kKeyed} << kQueueShift)) |
            make(Phase::kFree, 0, worker, incarnation, 0).bits_);
    }

  private:
    static constexpr unsigned kPhaseShift = 61;
    static constexpr unsigned kQueueShift = 53;
    static constexpr unsigned kWorkerShift = 43;
    static constexpr unsigned kIncarnationShift = 32;
    static constexpr std::uint64_t kBelowPhase = (1ULL << kPhaseShift) - 1;

    constexpr std::uint32_t field(unsigned shift, std::uint32_t mask) const {
        return static_cast<std::uint32_t>(bits_ >> shift) & mask;
    }

    std::uint64_t bits_ = 0;
};

/// {next:32, end:32}: items below next have started, items from end on are withdrawn. Of a task of one
/// that runs with a timeout `end` is the start stamp.
struct ItemRange {
    std::uint32_t next = 0;
    std::uint32_t end = 0;

    constexpr std::uint64_t pack() const { return std::uint64_t{next} << 32 | end; }
    static constexpr ItemRange unpack(std::uint64_t word) {
        return {static_cast<std::uint32_t>(word >> 32), static_cast<std::uint32_t>(word)};
    }
};

/// {status:16, kind:16, bytes:32} of an ItemOutcome.
struct OutcomeHead {
    std::uint16_t status = 0;
    std::uint16_t kind = 0;
    std::uint32_t bytes = 0;

    constexpr std::uint64_t pack() const {
        return std::uint64_t{status} << 48 | std::uint64_t{kind} << 32 | bytes;
    }
    static constexpr OutcomeHead unpack(std::uint64_t word) {
        return {static_cast<std::uint16_t>(word >> 48), static_cast<std::uint16_t>(word >> 32),
                static_cast<std::uint32_t>(word)};
    }
};

/// When an item with a timeout started: milliseconds after the task's submit, rounded up, never 0. It
/// shares a word with what ends it, so that a reader can't take a result for a time.
inline constexpr std::uint64_t kStampNs = 1000000;
constexpr std::uint32_t start_stamp(std::uint64_t now_ns, std::uint64_t submitted_ns) {
    const std::uint64_t age = now_ns > submitted_ns ? now_ns - submitted_ns : 0;
    return age / kStampNs < UINT32_MAX ? static_cast<std::uint32_t>(age / kStampNs) + 1
                                       : UINT32_MAX;
}
constexpr std::uint64_t stamped_ns(std::uint32_t stamp, std::uint64_t submitted_ns) {
    return submitted_ns + stamp * kStampNs;
}
/// @ns later than @time_ns, or never (UINT64_MAX).
constexpr std::uint64_t later_by(std::uint64_t time_ns, std::uint64_t ns) {
    return ns < UINT64_MAX - time_ns ? time_ns + ns : UINT64_MAX;
}

/// What publish_ready() and publish_keyed() do. The request is written, the block fields are cleared here,
/// before anyone can claim (a stale block would be read as this attempt's result).
inline void publish(Slot &slot, std::uint32_t queue_field, std::uint32_t worker, ItemRange range) {
    const SlotWord before(slot.word.load_relaxed());
    slot.range.store_relaxed(range.pack());
    slot.block_offset.store_relaxed(0);
    slot.status = 0;
    slot.retained = 0;
    slot.word.store_release(
        SlotWord::make(Phase::kReady, queue_field, worker, 0, before.generation() + 1).bits());
}

/// FREE → READY with a new generation, for any worker that serves @queue.
inline void publish_ready(Slot &slot, std::uint32_t queue, ItemRange range) {
    publish(slot, queue, 0, range);
}

/// FREE → READY with a new generation, for @worker alone.
inline void publish_keyed(Slot &slot, std::uint32_t queue, std::uint32_t worker, ItemRange range) {
    publish(slot, queue | SlotWord::kKeyed, worker, range);
}

/// READY in @queue → CLAIMED by @worker: ONE compare-and-swap both takes the task and records who has
/// it. False: a stale hint, drop it.
inline bool claim(Slot &slot, std::uint32_t queue, std::uint32_t worker, std::uint32_t incarnation,
                  SlotWord &ret_word) {
    std::uint64_t found = slot.word.load_acquire();
    const SlotWord word(found);
    if (!word.ready_in(queue)) return false;
    const SlotWord claimed = word.claimed_by(worker, incarnation);
    if (!slot.word.compare_exchange(found, claimed.bits())) return false;
    ret_word = claimed;
    return true;
}

/// READY with @generation and for @worker alone → CLAIMED by it. False: a stale hint, drop it.
inline bool claim_keyed(Slot &slot, std::uint32_t generation, std::uint32_t worker,
                        std::uint32_t incarnation, SlotWord &ret_word) {
    std::uint64_t found = slot.word.load_acquire();
    const SlotWord word(found);
    if (word.phase() != Phase::kReady || !word.keyed() || word.worker() != worker ||
        word.generation() != generation)
        return false;
    const SlotWord claimed = word.claimed_by(worker, incarnation);
    if (!slot.word.compare_exchange(found, claimed.bits())) return false;
    ret_word = claimed;
    return true;
}

/// READY → FREE by the dispatcher. False: somebody has claimed it.
inline bool withdraw(Slot &slot) {
    std::uint64_t found = slot.word.load_acquire();
    const SlotWord word(found);
    if (word.phase() != Phase::kReady) return false;
    return slot.word.compare_exchange(found, word.with_phase(Phase::kFree).bits());
}

/// CLAIMED → DONE. A store, not a CAS: while this worker lives nobody else may write the word. False:
/// the word is not what this worker put there (damage).
inline bool finish(Slot &slot, SlotWord claimed) {
    if (slot.word.load_relaxed() != claimed.bits()) return false;
    slot.word.store_release(claimed.with_phase(Phase::kDone).bits());
    return true;
}

/// The dispatcher frees what it has delivered or taken back.
inline void make_free(Slot &slot) {
    slot.word.store_release(SlotWord(slot.word.load_relaxed()).with_phase(Phase::kFree).bits());
}

/// A claimed task of one starts; nobody else writes its range. @stamp: see start_stamp(); without a
/// timeout 1.
inline void start_only_item(Slot &slot, std::uint32_t stamp = 1) {
    slot.range.store_release(ItemRange{1, stamp}.pack());
}

/// Raises `next` by one. False when no item is left.
inline bool start_item(Slot &slot, std::uint32_t &ret_item) {
    std::uint64_t found = slot.range.load_relaxed();
    for (;;) {
        ItemRange range = ItemRange::unpack(found);
        if (range.next >= range.end) return false;
        ret_item = range.next++;
        if (slot.range.compare_exchange(found, range.pack())) return true;
    }
}

/// Lowers `end` to `next`, or to @from if that is more, so that nothing more of the slot starts. Returns
/// the range from before, with the new `end` for `next`: what lies between was withdrawn.
inline ItemRange withdraw_unstarted(Slot &slot, std::uint32_t from = 0) {
    constexpr std::uint32_t kMostItems = kMaxItems + 1;  // each failure is an item that started
    std::uint64_t found = slot.range.load_relaxed();
    for (std::uint32_t tries = 0; tries < kMostItems; ++tries) {
        const ItemRange before = ItemRange::unpack(found);
        const std::uint32_t end = before.next > from ? before.next : from;
        if (end >= before.end) return {end, before.end};
        if (slot.range.compare_exchange(found, ItemRange{before.next, end}.pack()))
            return {end, before.end};
    }
    return {};  // damage: nothing was taken back
}

}  // namespace aiomq
