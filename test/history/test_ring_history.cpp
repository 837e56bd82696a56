// The real ring between processes that take turns at every access and are killed at any of them: each
// history is one of a bounded queue.
#include "games.hpp"
#include "ring_game.hpp"
#include "table.hpp"

using namespace aiomq_test;  // NOLINT(google-build-using-namespace)

namespace {

template <std::uint32_t Capacity>
using Shared = Table<RingGame<Capacity, false>>;
template <std::uint32_t Capacity>
using OnePusher = Table<RingGame<Capacity, true>>;

}  // namespace

TEST(RingHistory, IsThatOfABoundedQueueWithManyPushers) {
    expect_sound<Shared<2>>("ring", 400, 100000);
    expect_sound<Shared<1>>("ring-of-one", 100, 30000);
}

TEST(RingHistory, IsThatOfABoundedQueueWithOnePusher) {
    expect_sound<OnePusher<2>>("ring-one-pusher", 300, 50000);
}

TEST(RingHistory, IsTheSameForTheSameSeed) { expect_repeatable<Shared<2>>(30); }

TEST(RingHistory, ShowsEachMutantOfTheRing) {
    using Game = Shared<2>::Played;
    constexpr std::size_t kCells = offsetof(Game, cells);
    constexpr std::size_t kHead = offsetof(Game, head);
    constexpr std::size_t kTail = offsetof(Game, tail);
    expect_found<Shared<2>>("cell looked at, then written", Fault::kCasInTwo, kCells, kHead);
    expect_found<Shared<2>>("cell written over", Fault::kCasBlind, kCells, kHead);
    expect_found<Shared<2>>("cell's cycle written before its value", Fault::kUpperHalfFirst, kCells,
                            kHead);
    expect_found<Shared<2>>("head looked at, then written", Fault::kCasInTwo, kHead, kTail);
    expect_found<Shared<2>>("head written over", Fault::kCasBlind, kHead, kTail);
    expect_found<Shared<2>>("tail looked at, then written", Fault::kCasInTwo, kTail, sizeof(Game));
    expect_found<Shared<2>>("tail written over", Fault::kCasBlind, kTail, sizeof(Game));
    expect_found<Shared<2>>("tail not moved", Fault::kCasNever, kTail, sizeof(Game));
}

TEST(RingHistory, ShowsACellWrittenInTwoByTheOnlyPusher) {
    using Game = OnePusher<2>::Played;
    expect_found<OnePusher<2>>("cycle before value", Fault::kUpperHalfFirst, offsetof(Game, cells),
                               offsetof(Game, head));
}
