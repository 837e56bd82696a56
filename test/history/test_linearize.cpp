// The checker itself: on histories made by hand that have an order and that have none, and against all
// orders of short random ones.
#include <algorithm>
#include <numeric>

#include "../unit/seeded.hpp"
#include "linearize.hpp"
#include "ring_spec.hpp"

using namespace aiomq_test;  // NOLINT(google-build-using-namespace)

namespace {

using Queue = RingSpecification<2>;

Operation call(RingOperation kind, std::uint64_t argument, std::uint64_t result,
               std::uint64_t start, std::uint64_t end) {
    Operation operation;
    operation.kind = kind;
    operation.argument = argument;
    operation.result = result;
    operation.start = start;
    operation.end = end;
    return operation;
}
Operation push(std::uint64_t value, std::uint64_t start, std::uint64_t end) {
    return call(kPush, value, kStatusOk, start, end);
}
Operation pop(std::uint64_t value, std::uint64_t start, std::uint64_t end) {
    return call(kPop, 0, kPopped + value, start, end);
}
Operation pop_nothing(std::uint64_t start, std::uint64_t end) {
    return call(kPop, 0, kStatusEmpty, start, end);
}
Operation killed(Operation operation) {
    operation.returned = false;
    operation.result = 0;
    return operation;
}
bool has_order(const History &history) { return Linearization<Queue>(history).exists(); }

}  // namespace

TEST(Linearization, TakesCallsThatFollowEachOtherInTheirOrder) {
    EXPECT_TRUE(has_order({}));
    EXPECT_TRUE(has_order({push(1, 1, 2), push(2, 3, 4), pop(1, 5, 6), pop(2, 7, 8)}));
    EXPECT_FALSE(has_order({push(1, 1, 2), push(2, 3, 4), pop(2, 5, 6), pop(1, 7, 8)}));
    EXPECT_FALSE(has_order({pop(1, 1, 2), push(1, 3, 4)}));
}

TEST(Linearization, TakesCallsThatOverlapInAnyOrder) {
    EXPECT_TRUE(has_order({push(1, 1, 4), push(2, 2, 3), pop(1, 5, 6), pop(2, 7, 8)}));
    EXPECT_TRUE(has_order({push(1, 1, 4), push(2, 2, 3), pop(2, 5, 6), pop(1, 7, 8)}));
    EXPECT_TRUE(has_order({push(1, 2, 3), pop(1, 1, 4)}));
    EXPECT_TRUE(has_order({push(1, 2, 3), pop_nothing(1, 4)}));
}

TEST(Linearization, FindsThatAValueCameTwiceOrWasLost) {
    EXPECT_FALSE(has_order({push(1, 1, 2), pop(1, 3, 6), pop(1, 4, 5)}));
    EXPECT_FALSE(has_order({push(1, 1, 2), pop_nothing(3, 4)}));
    EXPECT_FALSE(has_order({push(1, 1, 4), push(2, 2, 3), pop(1, 5, 6), pop_nothing(7, 8)}));
}

TEST(Linearization, FindsThatFullOrEmptyWasNotSo) {
    const Operation refused = call(kPush, 3, kStatusFull, 5, 6);
    EXPECT_TRUE(has_order({push(1, 1, 2), push(2, 3, 4), refused}));
    EXPECT_FALSE(has_order({push(1, 1, 2), refused}));
    EXPECT_FALSE(has_order({push(1, 1, 2), push(2, 3, 4), push(3, 5, 6)}));
    EXPECT_TRUE(has_order({push(1, 1, 2), push(2, 3, 4), push(3, 5, 8), pop(1, 6, 7)}));
    EXPECT_TRUE(has_order({push(1, 1, 2), push(2, 3, 7), refused, pop(1, 8, 9), pop(2, 10, 11)}));
}

TEST(Linearization, GoesBackFromAnOrderThatEndsNowhere) {
    // The first pop looks as if it could be last, the pushes as if they could change places.
    EXPECT_TRUE(has_order({push(1, 1, 10), push(2, 2, 3), pop(2, 4, 5), pop(1, 6, 9),
                           pop_nothing(7, 8), push(3, 11, 12)}));
    EXPECT_FALSE(
        has_order({push(1, 1, 10), push(2, 2, 3), pop(1, 4, 5), pop_nothing(6, 7), pop(2, 8, 9)}));
}

TEST(Linearization, LetsAKilledCallHaveHappenedOrNot) {
    EXPECT_TRUE(has_order({killed(push(1, 1, 2)), pop(1, 3, 4)}));
    EXPECT_TRUE(has_order({killed(push(1, 1, 2)), pop_nothing(3, 4)}));
    EXPECT_FALSE(has_order({killed(push(1, 1, 2)), pop(1, 3, 4), pop(1, 5, 6)}));
    EXPECT_TRUE(has_order({push(1, 1, 2), killed(pop(0, 3, 4)), pop_nothing(5, 6)}));
    EXPECT_TRUE(has_order({push(1, 1, 2), killed(pop(0, 3, 4)), pop(1, 5, 6)}));
    EXPECT_FALSE(
        has_order({push(1, 1, 2), push(2, 3, 4), killed(pop(0, 5, 6)), pop_nothing(7, 8)}));
}

TEST(Linearization, DoesNotLetAKilledCallHappenAfterTheDeath) {
    EXPECT_FALSE(has_order({killed(push(1, 1, 2)), pop_nothing(3, 4), pop(1, 5, 6)}));
    EXPECT_TRUE(has_order({killed(push(1, 1, 7)), pop_nothing(3, 4), pop(1, 5, 6)}));
    EXPECT_FALSE(has_order({pop(1, 1, 2), killed(push(1, 3, 4))}));
}

TEST(Linearization, KeepsBothHalvesOfACallInOrder) {
    const auto history = [](Operation shown, std::uint64_t empty) {
        shown.kind = kShow;
        shown.after = 0;
        return History{push(1, 1, shown.end), shown, call(kEmpty, 0, empty, 5, 6)};
    };
    EXPECT_FALSE(has_order(history(push(1, 1, 2), 1))) << "shown when push() has returned";
    EXPECT_TRUE(has_order(history(push(1, 1, 2), 0)));
    EXPECT_TRUE(has_order(history(push(1, 1, 7), 1))) << "its tail may not have moved yet";
    EXPECT_TRUE(has_order(history(push(1, 1, 7), 0)));
    EXPECT_TRUE(has_order(history(killed(push(1, 1, 2)), 1))) << "it may never move";
}

TEST(Linearization, DrawsAHistoryForPeople) {
    const History history{push(7, 1, 3), killed(pop(0, 2, 4))};
    Linearization<Queue> linearization(history);
    ASSERT_TRUE(linearization.exists());
    EXPECT_EQ(drawn<Queue>(history, linearization.order()),
              "0\t[-]   process 0: push(7) = ok\n1\t [-X  process 0: pop()  (killed)\n"
              "longest order: 0\n");
}

namespace {

/// Every choice of which killed calls happened, in every order.
bool has_order_by_trying_all(const History &history) {
    for (std::uint32_t left_out = 0; left_out < 1U << history.size(); ++left_out) {
        std::vector<std::size_t> order;
        bool may_be_left_out = true;
        for (std::size_t i = 0; i < history.size(); ++i)
            if ((left_out >> i & 1U) == 0)
                order.push_back(i);
            else if (history[i].returned)
                may_be_left_out = false;
        if (!may_be_left_out) continue;
        do {
            Queue::State state;
            bool fits = true;
            for (std::size_t i = 0; i < order.size() && fits; ++i) {
                for (std::size_t j = i + 1; j < order.size(); ++j)
                    fits = fits && history[order[j]].end >= history[order[i]].start;
                fits = fits && Queue::apply(state, history[order[i]]);
            }
            if (fits) return true;
        } while (std::next_permutation(order.begin(), order.end()));
    }
    return false;
}

/// Calls with results that might be, at times that do not repeat.
History random_history(Random &random) {
    const std::size_t calls = 2 + random.below(4);
    std::vector<std::uint64_t> times(2 * calls);
    std::iota(times.begin(), times.end(), 1);
    for (std::size_t i = times.size() - 1; i > 0; --i)
        std::swap(times[i], times[random.below(i + 1)]);
    History history;
    for (std::size_t i = 0; i < calls; ++i) {
        const auto [start, end] = std::minmax(times[2 * i], times[2 * i + 1]);
        Operation operation = random.one_in(2) ? push(1 + random.below(2), start, end)
                                               : pop(1 + random.below(2), start, end);
        if (random.one_in(4))
            operation.result = operation.kind == kPush ? kStatusFull : kStatusEmpty;
        history.push_back(random.one_in(4) ? killed(operation) : operation);
    }
    return history;
}

}  // namespace

TEST(Linearization, AgreesWithTryingAllOrders) {
    Random random;
    std::uint64_t with_order = 0;
    const std::uint64_t games = rounds(20000, 2000000);
    for (std::uint64_t game = 0; game < games; ++game) {
        const History history = random_history(random);
        const bool expected = has_order_by_trying_all(history);
        ASSERT_EQ(has_order(history), expected) << drawn<Queue>(history, {});
        with_order += expected;
    }
    EXPECT_GT(with_order, games / 20);
    EXPECT_LT(with_order, games - games / 20);
}
