// The orders in the core that are stronger than what ./test_orders can tell apart, each with its reason.
// Any other order that can be weakened without a scenario's failing is an error, and so is one here that
// can't.
#pragma once

#include <array>
#include <string_view>

namespace weak {

struct Stronger {
    std::string_view line;   ///< "file: text"
    std::string_view order;  ///< of what, as what
    std::string_view reason;
};

namespace because {
inline constexpr std::string_view kExchanged =
    "the compare-exchange that follows orders too; acquiring here spares the reader that argument";
inline constexpr std::string_view kOneKind =
    "Atomic has one compare_exchange(), which acquires and releases: here one half is enough";
inline constexpr std::string_view kOnlyCompared = "what a failing exchange finds is only compared";
inline constexpr std::string_view kBuffering =
    "keeps later stores behind it: load buffering, which this machine does not have";
inline constexpr std::string_view kAlone = "nobody else looks yet, or no more";
inline constexpr std::string_view kOtherLook =
    "the other of the two looks is in the total order; both are, so that neither needs the "
    "argument";
inline constexpr std::string_view kForRecovery =
    "read by the dispatcher after the kernel has confirmed a death, which orders all";
}  // namespace because

inline constexpr auto kStronger = std::to_array<Stronger>({
    {"lane.hpp: seen_head_(head->load_acquire()) {}", "acquire as relaxed", because::kAlone},
    {"lane_scenarios.cpp: if (memory_.asleep.load_seq() != 0 && memory_.asleep.exchange_seq(0) != "
     "0) "
     "event_.signal();",
     "seq_cst as acq_rel", because::kOtherLook},
    {"ring.hpp: const std::uint64_t head = head_->load_acquire();", "acquire as relaxed",
     because::kBuffering},
    {"ring.hpp: const std::uint64_t head = head_->load_seq();", "seq_cst as acquire",
     because::kOtherLook},
    {"ring.hpp: if (cell.compare_exchange(found, std::uint64_t{lap} << 32 | value)) {",
     "acquire of failing as relaxed", because::kOnlyCompared},
    {"ring.hpp: if (cell.compare_exchange(found, std::uint64_t{lap} << 32 | value)) {",
     "acq_rel as release", because::kOneKind},
    {"ring.hpp: if (head_->compare_exchange_seq(head, head + 1)) {",
     "seq_cst of failing as acquire", because::kOnlyCompared},
    {"ring.hpp: std::uint64_t found = cell.load_acquire();", "acquire as relaxed",
     because::kExchanged},
    {"ring.hpp: std::uint64_t head = head_->load_acquire();", "acquire as relaxed",
     because::kExchanged},
    {"ring.hpp: std::uint64_t tail = tail_->load_acquire();", "acquire as relaxed",
     because::kExchanged},
    {"ring.hpp: tail_->compare_exchange_seq(tail, tail + 1);", "seq_cst of failing as acquire",
     because::kOnlyCompared},
    {"ring.hpp: tail_->store_release(capacity());", "release as relaxed", because::kAlone},
    {"slot_scenarios.cpp: const ItemRange range = "
     "ItemRange::unpack(memory_.slot.range.load_acquire());",
     "acquire as relaxed", because::kAlone},
    {"slots.hpp: if (!slot.word.compare_exchange(found, claimed.bits())) return false;",
     "acquire of failing as relaxed", because::kOnlyCompared},
    {"slots.hpp: if (!slot.word.compare_exchange(found, claimed.bits())) return false;",
     "acq_rel as acquire", because::kOneKind},
    {"slots.hpp: if (!slot.word.compare_exchange(found, claimed.bits())) return false;",
     "acq_rel as release", because::kExchanged},
    {"slots.hpp: if (slot.range.compare_exchange(found, ItemRange{before.next, end}.pack()))",
     "acquire of failing as relaxed", because::kOnlyCompared},
    {"slots.hpp: if (slot.range.compare_exchange(found, ItemRange{before.next, end}.pack()))",
     "acq_rel as acquire", because::kOneKind},
    {"slots.hpp: if (slot.range.compare_exchange(found, ItemRange{before.next, end}.pack()))",
     "acq_rel as release", because::kOneKind},
    {"slots.hpp: if (slot.range.compare_exchange(found, range.pack())) return true;",
     "acquire of failing as relaxed", because::kOnlyCompared},
    {"slots.hpp: if (slot.range.compare_exchange(found, range.pack())) return true;",
     "acq_rel as acquire", because::kOneKind},
    {"slots.hpp: if (slot.range.compare_exchange(found, range.pack())) return true;",
     "acq_rel as release", because::kOneKind},
    {"slots.hpp: return slot.word.compare_exchange(found, word.with_phase(Phase::kFree).bits());",
     "acquire of failing as relaxed", because::kOnlyCompared},
    {"slots.hpp: return slot.word.compare_exchange(found, word.with_phase(Phase::kFree).bits());",
     "acq_rel as acquire", because::kOneKind},
    {"slots.hpp: return slot.word.compare_exchange(found, word.with_phase(Phase::kFree).bits());",
     "acq_rel as release", because::kOneKind},
    {"slots.hpp: slot.range.store_release(ItemRange{1, stamp}.pack());", "release as relaxed",
     because::kForRecovery},
    {"slots.hpp: "
     "slot.word.store_release(SlotWord(slot.word.load_relaxed()).with_phase(Phase::kFree).bits());",
     "release as relaxed", because::kAlone},
    {"slots.hpp: std::uint64_t found = slot.word.load_acquire();", "acquire as relaxed",
     because::kExchanged},
    {"wait.hpp: if ((word.load_seq() & bit(worker)) == 0) return false;", "seq_cst as acquire",
     because::kOtherLook},
    {"wait.hpp: return (word.fetch_and_seq(~bit(worker)) & bit(worker)) != 0;",
     "seq_cst as acq_rel", because::kOtherLook},
});

}  // namespace weak
