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
    constexpr std::uint32_t queue() const { return field(kQueueShift, 0xff); }
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
    /// READY, free of an owner, becomes CLAIMED by @worker.
    constexpr SlotWord claimed_by(std::uint32_t worker, std::uint32_t incarnation) const {
        return SlotWord(with_phase(Phase::kClaimed).bits_ |
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

/// {next:32, end:32}: items below next have started, items from end on are withdrawn.
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

/// FREE → READY with a new generation; the request is written, the block fields are cleared here,
/// before anyone can claim (a stale block would be read as this attempt's result).
inline void publish_ready(Slot &slot, std::uint32_t queue, ItemRange range) {
    const SlotWord before(slot.word.load_relaxed());
    slot.range.store_relaxed(range.pack());
    slot.block_offset.store_relaxed(0);
    slot.status = 0;
    slot.word.store_release(
        SlotWord::make(Phase::kReady, queue, 0, 0, before.generation() + 1).bits());
}

/// READY in @queue → CLAIMED by @worker: ONE compare-and-swap both takes the task and records who has
/// it. False: a stale hint, drop it.
inline bool claim(Slot &slot, std::uint32_t queue, std::uint32_t worker, std::uint32_t incarnation,
                  SlotWord &ret_word) {
    std::uint64_t found = slot.word.load_acquire();
    const SlotWord word(found);
    if (word.phase() != Phase::kReady || word.queue() != queue) return false;
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

/// A claimed task of one starts; nobody else writes its range.
inline void start_only_item(Slot &slot) { slot.range.store_release(ItemRange{1, 1}.pack()); }

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

/// Lowers `end` to `next`, so that nothing more of the slot starts. Returns the range from before.
inline ItemRange withdraw_unstarted(Slot &slot) {
    std::uint64_t found = slot.range.load_relaxed();
    for (;;) {
        const ItemRange before = ItemRange::unpack(found);
        if (before.next >= before.end) return before;
        if (slot.range.compare_exchange(found, ItemRange{before.next, before.next}.pack()))
            return before;
    }
}

}  // namespace aiomq
