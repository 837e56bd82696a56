// The hint ring: order, full and empty, laps, a stale tail, damage, and many threads at once.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "ring.hpp"
#include "seeded.hpp"

using aiomq::Atomic;
using aiomq::Ring;
using aiomq::RingStatus;

namespace {

/// A ring and its memory, head and tail on lines of their own.
struct Fixture {
    explicit Fixture(std::uint32_t capacity)
        : cells(new Atomic<std::uint64_t>[capacity]), ring(cells.get(), capacity, &head, &tail) {
        ring.initialise();
    }
    /// Starts at position @lap * capacity, as after that many laps.
    void start_at_lap(std::uint64_t lap) {
        const std::uint64_t position = lap * ring.capacity();
        for (std::uint32_t i = 0; i < ring.capacity(); ++i)
            cells[i].store_relaxed(static_cast<std::uint64_t>(static_cast<std::uint32_t>(lap - 1))
                                   << 32);
        head.store_relaxed(position);
        tail.store_relaxed(position);
    }

    std::unique_ptr<Atomic<std::uint64_t>[]> cells;
    alignas(64) Atomic<std::uint64_t> head;
    alignas(64) Atomic<std::uint64_t> tail;
    Ring ring;
};

/// Pushes as any number of pushers do, or as the only pusher does.
enum class Way { kPush, kPut };

RingStatus push(Fixture &fixture, Way way, std::uint32_t value) {
    if (way == Way::kPush) return fixture.ring.push(value);
    const RingStatus status = fixture.ring.put(value);
    fixture.ring.publish();
    return status;
}

class RingBothWays : public testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(Ways, RingBothWays, testing::Values(Way::kPush, Way::kPut),
                         [](const auto &way) {
                             return way.param == Way::kPush ? "ManyPushers" : "OnePusher";
                         });

}  // namespace

TEST_P(RingBothWays, GivesValuesBackInOrder) {
    Fixture fixture(8);
    std::uint32_t value = 0;
    EXPECT_TRUE(fixture.ring.empty());
    EXPECT_EQ(fixture.ring.pop(value), RingStatus::kEmpty);
    for (std::uint32_t i = 0; i < 5; ++i) ASSERT_EQ(push(fixture, GetParam(), i), RingStatus::kOk);
    EXPECT_FALSE(fixture.ring.empty());
    for (std::uint32_t i = 0; i < 5; ++i) {
        ASSERT_EQ(fixture.ring.pop(value), RingStatus::kOk);
        ASSERT_EQ(value, i);
    }
    EXPECT_EQ(fixture.ring.pop(value), RingStatus::kEmpty);
    EXPECT_TRUE(fixture.ring.empty());
}

TEST_P(RingBothWays, IsFullAtItsCapacityAndNotBefore) {
    for (const std::uint32_t capacity : {1U, 2U, 8U, 1024U}) {
        Fixture fixture(capacity);
        for (std::uint32_t lap = 0; lap < 5; ++lap) {
            for (std::uint32_t i = 0; i < capacity; ++i)
                ASSERT_EQ(push(fixture, GetParam(), i), RingStatus::kOk) << capacity;
            ASSERT_EQ(push(fixture, GetParam(), 99), RingStatus::kFull);
            ASSERT_EQ(push(fixture, GetParam(), 99), RingStatus::kFull);
            std::uint32_t value = 0;
            for (std::uint32_t i = 0; i < capacity; ++i) {
                ASSERT_EQ(fixture.ring.pop(value), RingStatus::kOk);
                ASSERT_EQ(value, i) << "a refused push must leave nothing behind";
            }
            ASSERT_EQ(fixture.ring.pop(value), RingStatus::kEmpty);
        }
    }
}

TEST_P(RingBothWays, AgreesWithAQueueOverManyLaps) {
    aiomq_test::Random random;
    for (const std::uint32_t capacity : {1U, 2U, 4U, 16U}) {
        Fixture fixture(capacity);
        std::deque<std::uint32_t> model;
        std::uint32_t next = 0;
        for (std::uint64_t step = 0; step < aiomq_test::rounds(40000, 4000000); ++step) {
            if (random.one_in(2)) {
                const RingStatus status = push(fixture, GetParam(), next);
                ASSERT_EQ(status, model.size() == capacity ? RingStatus::kFull : RingStatus::kOk);
                if (status == RingStatus::kOk) model.push_back(next++);
            } else {
                std::uint32_t value = 0;
                const RingStatus status = fixture.ring.pop(value);
                ASSERT_EQ(status, model.empty() ? RingStatus::kEmpty : RingStatus::kOk);
                if (status == RingStatus::kOk) {
                    ASSERT_EQ(value, model.front());
                    model.pop_front();
                }
            }
            ASSERT_EQ(fixture.ring.empty(), model.empty());
        }
    }
}

TEST(Ring, GoesOnWhenItsLapsExceedThirtyTwoBits) {
    Fixture fixture(2);
    fixture.start_at_lap((1ULL << 32) - 2);
    std::uint32_t value = 0;
    EXPECT_EQ(fixture.ring.pop(value), RingStatus::kEmpty);
    for (std::uint32_t i = 0; i < 20; ++i) {
        ASSERT_EQ(fixture.ring.push(i), RingStatus::kOk);
        ASSERT_EQ(fixture.ring.push(i + 100), RingStatus::kOk);
        ASSERT_EQ(fixture.ring.push(7), RingStatus::kFull);
        ASSERT_EQ(fixture.ring.pop(value), RingStatus::kOk);
        ASSERT_EQ(value, i);
        ASSERT_EQ(fixture.ring.pop(value), RingStatus::kOk);
        ASSERT_EQ(value, i + 100);
        ASSERT_EQ(fixture.ring.pop(value), RingStatus::kEmpty);
    }
}

TEST(Ring, HelpsATailThatItsPusherDidNotLiveToMove) {
    Fixture fixture(4);
    ASSERT_EQ(fixture.ring.push(1), RingStatus::kOk);
    fixture.tail.store_relaxed(fixture.tail.load_relaxed() - 1);  // killed before the tail's CAS
    std::uint32_t value = 0;
    ASSERT_EQ(fixture.ring.push(2), RingStatus::kOk);
    ASSERT_EQ(fixture.ring.pop(value), RingStatus::kOk);
    EXPECT_EQ(value, 1U);
    ASSERT_EQ(fixture.ring.pop(value), RingStatus::kOk);
    EXPECT_EQ(value, 2U);
}

TEST(Ring, TakesAStaleTailBehindTheHeadForEmptyNotForFull) {
    Fixture fixture(4);
    ASSERT_EQ(fixture.ring.push(1), RingStatus::kOk);
    fixture.tail.store_relaxed(fixture.tail.load_relaxed() - 1);
    std::uint32_t value = 0;
    ASSERT_EQ(fixture.ring.pop(value), RingStatus::kOk);
    ASSERT_GT(fixture.head.load_relaxed(), fixture.tail.load_relaxed());
    EXPECT_TRUE(fixture.ring.empty());
    EXPECT_EQ(fixture.ring.pop(value), RingStatus::kEmpty);
    for (std::uint32_t i = 0; i < 4; ++i) ASSERT_EQ(fixture.ring.push(i), RingStatus::kOk);
    EXPECT_EQ(fixture.ring.push(4), RingStatus::kFull);
}

TEST(Ring, ShowsABatchToPoppersAtOnceAndToSleepersAfterPublish) {
    Fixture fixture(4);
    ASSERT_EQ(fixture.ring.put(1), RingStatus::kOk);
    ASSERT_EQ(fixture.ring.put(2), RingStatus::kOk);
    EXPECT_TRUE(fixture.ring.empty());
    std::uint32_t value = 0;
    ASSERT_EQ(fixture.ring.pop(value), RingStatus::kOk);
    EXPECT_EQ(value, 1U);
    fixture.ring.publish();
    EXPECT_FALSE(fixture.ring.empty());
}

// A peer may write anything to a ring's head, and damage may hit any word: each operation ends, with
// kCorrupt where it would otherwise look for ever, and touches no memory but the ring's.
TEST(Ring, EndsInsteadOfSpinningWhenACellIsScribbled) {
    Fixture fixture(4);
    const std::uint64_t at = fixture.head.load_relaxed() % 4;
    fixture.cells[at].store_relaxed(0x1234567800000000);
    std::uint32_t value = 0;
    EXPECT_EQ(fixture.ring.pop(value), RingStatus::kCorrupt);
    EXPECT_EQ(fixture.ring.push(1), RingStatus::kCorrupt);
}

TEST_P(RingBothWays, EndsInsteadOfSpinningWhenTheHeadIsScribbled) {
    for (const std::uint64_t head : {std::uint64_t{0}, std::uint64_t{3}, std::uint64_t{1} << 20,
                                     std::uint64_t{1} << 63, UINT64_MAX - 1, UINT64_MAX}) {
        Fixture fixture(4);
        for (std::uint32_t i = 0; i < 4; ++i)
            ASSERT_EQ(push(fixture, GetParam(), i), RingStatus::kOk);
        fixture.head.store_relaxed(head);
        std::uint32_t value = 0;
        const RingStatus popped = fixture.ring.pop(value);
        EXPECT_TRUE(popped == RingStatus::kCorrupt || popped == RingStatus::kEmpty) << head;
        if (GetParam() == Way::kPush) {
            (void)fixture.ring.push(1);  // it may take its tail for stale, but it returns
            continue;
        }
        fixture.head.store_relaxed(head);
        EXPECT_EQ(fixture.ring.put(1), RingStatus::kCorrupt) << head;
    }
}

TEST(Ring, EndsWhateverIsWrittenOverItsWords) {
    aiomq_test::Random random;
    for (std::uint64_t round = 0; round < aiomq_test::rounds(40, 4000); ++round) {
        Fixture fixture(4);
        for (std::uint32_t i = 0; i < random.below(5); ++i) fixture.ring.push(i);
        const std::uint64_t wild = random.one_in(2) ? random.below(UINT64_MAX) : random.below(16);
        switch (random.below(3)) {
            case 0:
                fixture.head.store_relaxed(wild);
                break;
            case 1:
                fixture.tail.store_relaxed(wild);
                break;
            default:
                fixture.cells[random.below(4)].store_relaxed(wild);
        }
        std::uint32_t value = 0;
        (void)fixture.ring.empty();
        int pops = 0;  // one sound lap at most, then an error or nothing
        while (fixture.ring.pop(value) == RingStatus::kOk) ASSERT_LE(++pops, 4);
        for (int i = 0; i < 8; ++i) (void)fixture.ring.push(1);
    }
}

namespace {

/// What each consumer popped, checked for completeness and for each producer's order.
void check_popped(const std::vector<std::vector<std::uint32_t>> &popped, std::uint32_t producers,
                  std::uint32_t each) {
    std::vector<std::uint8_t> times(std::size_t{producers} * each);
    for (const auto &values : popped) {
        std::vector<std::int64_t> last(producers, -1);
        for (const std::uint32_t value : values) {
            ASSERT_LT(value, times.size());
            ++times[value];
            ASSERT_GT(value % each, last[value / each]) << "a producer's values changed places";
            last[value / each] = value % each;
        }
    }
    ASSERT_TRUE(std::all_of(times.begin(), times.end(), [](auto count) { return count == 1; }))
        << "a value was lost or came twice";
}

void contend(Way way, std::uint32_t capacity, std::uint32_t producers, std::uint32_t consumers,
             std::uint32_t each) {
    Fixture fixture(capacity);
    std::vector<std::vector<std::uint32_t>> popped(consumers);
    Atomic<std::uint64_t> left(std::uint64_t{producers} * each);
    Atomic<std::uint32_t> broken;
    std::vector<std::thread> threads;
    for (std::uint32_t producer = 0; producer < producers; ++producer)
        threads.emplace_back([&, producer] {
            for (std::uint32_t i = 0; i < each && broken.load_relaxed() == 0;) {
                const RingStatus status = push(fixture, way, producer * each + i);
                if (status == RingStatus::kOk)
                    ++i;
                else if (status == RingStatus::kFull)
                    std::this_thread::yield();
                else
                    broken.store_relaxed(1);
            }
        });
    for (std::uint32_t consumer = 0; consumer < consumers; ++consumer)
        threads.emplace_back([&, consumer] {
            std::uint32_t value = 0;
            while (left.load_relaxed() != 0 && broken.load_relaxed() == 0) {
                const RingStatus status = fixture.ring.pop(value);
                if (status == RingStatus::kOk) {
                    popped[consumer].push_back(value);
                    left.fetch_add_relaxed(UINT64_MAX);
                } else if (status == RingStatus::kEmpty) {
                    std::this_thread::yield();
                } else {
                    broken.store_relaxed(1);
                }
            }
        });
    for (auto &thread : threads) thread.join();
    ASSERT_EQ(broken.load_relaxed(), 0U) << "kCorrupt from a sound ring";
    check_popped(popped, producers, each);
    EXPECT_TRUE(fixture.ring.empty());
}

}  // namespace

TEST(Ring, GivesEachValueOnceToTwoProducersAndTwoConsumers) {
    const auto each = static_cast<std::uint32_t>(aiomq_test::rounds(100000, 20000000));
    for (const std::uint32_t capacity : {2U, 16U, 1024U}) contend(Way::kPush, capacity, 2, 2, each);
}

TEST(Ring, GivesEachValueOnceFromTheOnlyPusherToThreeConsumers) {
    const auto each = static_cast<std::uint32_t>(aiomq_test::rounds(200000, 20000000));
    for (const std::uint32_t capacity : {2U, 1024U}) contend(Way::kPut, capacity, 1, 3, each);
}
