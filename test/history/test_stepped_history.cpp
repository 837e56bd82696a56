// Ring and slot word as they are released, between processes that go on by single instructions and are
// killed after any of them.
#include "games.hpp"
#include "ring_game.hpp"
#include "slot_game.hpp"
#include "steps.hpp"

using namespace aiomq_test;  // NOLINT(google-build-using-namespace)

namespace {

class SteppedHistory : public testing::Test {
  protected:
    void SetUp() override {
        if (!Stepper<SlotGame>::is_possible())
            GTEST_SKIP() << "processes can't be stepped here (ptrace, x86-64)";
    }
};

}  // namespace

TEST_F(SteppedHistory, OfTheRingIsThatOfABoundedQueueWithManyPushers) {
    expect_sound<Stepper<RingGame<2, false>>>("stepped-ring", 50, 1000);
}

TEST_F(SteppedHistory, OfTheRingIsThatOfABoundedQueueWithOnePusher) {
    expect_sound<Stepper<RingGame<2, true>>>("stepped-ring-one-pusher", 50, 1000);
}

TEST_F(SteppedHistory, OfTheSlotIsThatOfOneTransitionAtATime) {
    expect_sound<Stepper<SlotGame>>("stepped-slot", 50, 1000);
}

TEST_F(SteppedHistory, IsTheSameForTheSameSeed) { expect_repeatable<Stepper<SlotGame>>(10); }
