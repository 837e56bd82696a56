// The real slot word between a dispatcher and workers that take turns at every access and are killed at
// any of them: each history is one of a slot that makes one transition at a time.
#include "games.hpp"
#include "slot_game.hpp"
#include "table.hpp"

using namespace aiomq_test;  // NOLINT(google-build-using-namespace)

TEST(SlotHistory, IsThatOfOneTransitionAtATime) {
    expect_sound<Table<SlotGame>>("slot", 800, 100000);
}

TEST(SlotHistory, ShowsEachMutantOfTheSlot) {
    using aiomq::Slot;
    constexpr std::size_t kWord = offsetof(SlotGame, slot) + offsetof(Slot, word);
    constexpr std::size_t kRange = offsetof(SlotGame, slot) + offsetof(Slot, range);
    constexpr std::size_t kAfter = offsetof(SlotGame, slot) + offsetof(Slot, block_offset);
    expect_found<Table<SlotGame>>("claim and withdraw look, then write", Fault::kCasInTwo, kWord,
                                  kRange);
    expect_found<Table<SlotGame>>("a cancel or claim that overwrites", Fault::kCasBlind, kWord,
                                  kRange);
    expect_found<Table<SlotGame>>("no generation", Fault::kCasUpperHalf, kWord, kRange);
    expect_found<Table<SlotGame>>("claim and owner in two writes", Fault::kTopBitsFirst, kWord,
                                  kRange);
    expect_found<Table<SlotGame>>("range looked at, then written", Fault::kCasInTwo, kRange,
                                  kAfter);
    expect_found<Table<SlotGame>>("range written over", Fault::kCasBlind, kRange, kAfter);
    expect_found<Table<SlotGame>>("ready before its range is there", Fault::kStoreLate, kRange,
                                  kAfter);
}

TEST(SlotHistory, ShowsThatAClaimIsTakenBackByAWordReadBeforeTheDeath) {
    expect_found<Table<BasicSlotGame<true>>>("word read before the death", Fault::kNone, 0, 0);
}
