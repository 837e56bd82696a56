// Sleeping flags, the spin budget, and the handshake that must not lose a wake-up.
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "lane.hpp"
#include "ring.hpp"
#include "seeded.hpp"
#include "wait.hpp"

using namespace aiomq;  // NOLINT(google-build-using-namespace)

namespace {

const std::uint64_t kCount = aiomq_test::rounds(200000, 10000000);
constexpr std::uint64_t kLongNs = 10'000'000'000;  // for what should take microseconds

const std::vector<std::uint64_t> kAll(16, UINT64_MAX);

/// About @cycles long: finer than the time in which a store becomes visible.
void pause(std::uint64_t cycles) {
    for (; cycles > 0; --cycles) asm volatile("");
}

}  // namespace

TEST(WorkerBits, SetClearAndNameWorkersInEveryWord) {
    Atomic<std::uint64_t> words[16];
    WorkerBits bits(words);
    for (const std::uint32_t worker : {0U, 1U, 63U, 64U, 127U, 1022U}) {
        EXPECT_FALSE(bits.test(worker));
        EXPECT_FALSE(bits.clear(worker));
        bits.set(worker);
        EXPECT_TRUE(bits.test(worker));
        EXPECT_TRUE(bits.any(kAll, kMaxWorkers));
    }
    EXPECT_TRUE(bits.clear(64));
    EXPECT_FALSE(bits.clear(64)) << "only one caller cleared it";
    EXPECT_TRUE(bits.test(63));
    EXPECT_FALSE(bits.test(65));
    std::set<std::uint32_t> taken;
    for (std::uint32_t worker = 0; bits.take_any(kAll, kMaxWorkers, worker);)
        EXPECT_TRUE(taken.insert(worker).second);
    EXPECT_EQ(taken, (std::set<std::uint32_t>{0, 1, 63, 127, 1022}));
    EXPECT_FALSE(bits.any(kAll, kMaxWorkers));
}

TEST(WorkerBits, LookOnlyAtTheWorkersThatThereAre) {
    Atomic<std::uint64_t> words[2];
    WorkerBits bits(words);
    std::uint32_t worker = 99;
    words[0].store_seq(1U << 5);  // scribbled: this pool has three workers
    EXPECT_FALSE(bits.take_any(kAll, 3, worker));
    EXPECT_EQ(worker, 99U);
    words[1].store_seq(1);
    EXPECT_FALSE(bits.any(kAll, 64) && words[0].load_seq() == 0);
}

TEST(WorkerBits, GiveAnAnnouncementToOneTaker) {
    const std::uint64_t count = aiomq_test::rounds(500000, 20000000);
    Atomic<std::uint64_t> words[1];
    Atomic<std::uint32_t> over;
    std::uint64_t taken[2] = {};
    std::uint32_t worker = 0;
    std::thread other([&] {
        for (std::uint32_t found = 0; over.load_acquire() == 0;)
            taken[1] += WorkerBits(words).take_any(kAll, 3, found);
    });
    WorkerBits bits(words);
    aiomq_test::Random random;
    for (std::uint64_t i = 0; i < count; ++i) {
        bits.set(static_cast<std::uint32_t>(i % 3));
        pause(random.below(200));
        taken[0] += bits.take_any(kAll, 3, worker);
        while (bits.any(kAll, 3)) taken[0] += bits.take_any(kAll, 3, worker);
    }
    over.store_release(1);
    other.join();
    EXPECT_EQ(taken[0] + taken[1], count);
}

TEST(SpinBudget, YieldsInsteadOfSpinningWithoutASpareCpu) {
    SpinBudget budget(UINT64_MAX, 3, 2);
    EXPECT_EQ(budget.budget_ns(), 0U);
    int looks = 0;
    EXPECT_FALSE(budget.spin([&] { return ++looks == 0; }));
    EXPECT_EQ(looks, 2) << "before and after the yield";
    EXPECT_TRUE(budget.spin([&] { return ++looks == 3; }));
    EXPECT_EQ(looks, 3) << "no yield when something is there";
}

TEST(SpinBudget, YieldsLessOftenWhenThatBringsNothing) {
    SpinBudget budget(UINT64_MAX, 3, 2);
    unsigned yields = 0;
    for (int i = 0; i < 100000; ++i) {
        int looks = 0;
        budget.spin([&] { return ++looks == 0; });
        yields += looks == 2;
    }
    EXPECT_GT(yields, 50U);
    EXPECT_LT(yields, 150U);
    // Where others keep the CPU for long, and under memcheck, it takes some tries until one paid.
    int tries = 0;
    do {
        while (budget.calls_without_yield() > 0) budget.spin([] { return false; });
        int looks = 0;
        EXPECT_TRUE(budget.spin([&] { return ++looks == 2; }));
    } while (budget.calls_without_yield() > 0 && ++tries < 1000);
    EXPECT_EQ(budget.calls_without_yield(), 0U) << "it paid: the next call yields too";
}

TEST(SpinBudget, DoesNotYieldAgainWhenItsTurnCameLate) {
    SpinBudget budget(UINT64_MAX, 3, 2);
    int looks = 0;
    EXPECT_TRUE(budget.spin([&] {
        if (++looks == 1) return false;
        const std::uint64_t end = sys::monotonic_ns() + 1'000'000;  // as if others had the CPU
        while (sys::monotonic_ns() < end) {
        }
        return true;
    }));
    EXPECT_GT(budget.calls_without_yield(), 0U);
}

TEST(SpinBudget, FollowsWhatLookingBrings) {
    SpinBudget budget(UINT64_MAX, 2, 2);
    const std::uint64_t cap = budget.budget_ns();
    ASSERT_GT(cap, 0U);
    EXPECT_FALSE(budget.spin([] { return false; }));
    EXPECT_EQ(budget.budget_ns(), cap / 2);
    for (int i = 0; i < 20; ++i) budget.spin([] { return false; });
    const std::uint64_t floor = budget.budget_ns();
    EXPECT_GT(floor, 0U);
    EXPECT_LT(floor, cap / 8);
    EXPECT_TRUE(budget.spin([] { return true; }));
    EXPECT_EQ(budget.budget_ns(), 2 * floor);
    for (int i = 0; i < 20; ++i) budget.spin([] { return true; });
    EXPECT_EQ(budget.budget_ns(), cap);
}

TEST(SpinBudget, StaysWhatWasAskedFor) {
    for (const std::uint64_t asked : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{5000}}) {
        SpinBudget budget(asked, 1000, 1);
        EXPECT_EQ(budget.budget_ns(), asked);
        budget.spin([] { return false; });
        budget.spin([] { return true; });
        budget.spin([] { return false; });
        EXPECT_EQ(budget.budget_ns(), asked);
    }
    SpinBudget longest(UINT64_MAX - 1, 1, 1);
    longest.spin([] { return true; });
    EXPECT_EQ(longest.budget_ns(), UINT64_MAX - 1) << "doubling must not overflow";
}

TEST(SpinBudget, SpinsNoLongerThanItsBudget) {
    SpinBudget budget(2'000'000, 1, 1);
    std::uint64_t shortest = UINT64_MAX;
    // Others may have the CPU for most of the time.
    for (int i = 0; i < 20 || (i < 1000 && shortest >= 4'000'000); ++i) {
        const std::uint64_t start = sys::monotonic_ns();
        budget.spin([] { return false; });
        shortest = std::min(shortest, sys::monotonic_ns() - start);
    }
    EXPECT_GE(shortest, 2'000'000U);
    EXPECT_LT(shortest, 4'000'000U);
}

namespace {

/// One consumer that sleeps on an eventfd and one producer that wakes it, over any queue. The producer
/// sends the next value when the last one has arrived: it would cover up a wake-up that was lost.
template <typename Push, typename Pop, typename Empty>
void handshake(std::uint64_t count, Push push, Pop pop, Empty empty) {
    auto event = sys::event_fd();
    Atomic<std::uint64_t> words[1];
    Atomic<std::uint64_t> arrived;
    Atomic<std::uint32_t> lost;
    std::uint64_t writes = 0;
    std::thread producer([&] {
        aiomq_test::Random random(1);
        WorkerBits sleeping(words);
        for (std::uint64_t i = 0; i < count; ++i) {
            while (arrived.load_acquire() < i) {
                if (lost.load_relaxed() != 0) return;
                cpu_relax();
            }
            pause(random.below(600));  // so that the push meets each point of falling asleep
            ASSERT_TRUE(push(i));
            if (!sleeping.clear(0)) continue;
            ++writes;
            sys::event_signal(event->get());
        }
    });
    aiomq_test::Random random(2);
    WorkerBits sleeping(words);
    std::uint64_t taken = 0;
    std::uint64_t sleeps = 0;
    while (taken < count) {
        std::uint64_t value = 0;
        if (pop(value)) {
            EXPECT_EQ(value, taken);
            arrived.store_release(++taken);
            continue;
        }
        pause(random.below(400));
        sleeping.set(0);
        if (!empty()) {
            sleeping.clear(0);
            continue;
        }
        ++sleeps;
        if (sys::poll_readable(event->get(), kLongNs) != 1) {
            lost.store_relaxed(1);
            break;
        }
        sys::event_consume(event->get());
        sleeping.clear(0);
    }
    producer.join();
    EXPECT_EQ(lost.load_relaxed(), 0U) << "a wake-up was lost after " << taken;
    EXPECT_LE(writes, count) << "at most one for each value";
    testing::Test::RecordProperty("sleeps", std::to_string(sleeps));
}

}  // namespace

TEST(Handshake, LosesNoWakeUpOverARing) {
    constexpr std::uint32_t kCells = 64;
    const std::unique_ptr<Atomic<std::uint64_t>[]> cells(new Atomic<std::uint64_t>[kCells]);
    Atomic<std::uint64_t> head;
    Atomic<std::uint64_t> tail;
    Ring producer(cells.get(), kCells, &head, &tail);
    producer.initialise();
    Ring consumer(cells.get(), kCells, &head, &tail);  // of another process
    handshake(
        kCount,
        [&](std::uint64_t value) {
            const bool done = producer.put(static_cast<std::uint32_t>(value)) == RingStatus::kOk;
            producer.publish();
            return done;
        },
        [&](std::uint64_t &value) {
            std::uint32_t found = 0;
            if (consumer.pop(found) != RingStatus::kOk) return false;
            value = found;
            return true;
        },
        [&] { return consumer.empty(); });
}

TEST(Handshake, LosesNoWakeUpOverARingOfManyPushers) {
    constexpr std::uint32_t kCells = 64;
    const std::unique_ptr<Atomic<std::uint64_t>[]> cells(new Atomic<std::uint64_t>[kCells]);
    Atomic<std::uint64_t> head;
    Atomic<std::uint64_t> tail;
    Ring ring(cells.get(), kCells, &head, &tail);
    ring.initialise();
    handshake(
        kCount,
        [&](std::uint64_t value) {
            return ring.push(static_cast<std::uint32_t>(value)) == RingStatus::kOk;
        },
        [&](std::uint64_t &value) {
            std::uint32_t found = 0;
            if (ring.pop(found) != RingStatus::kOk) return false;
            value = found;
            return true;
        },
        [&] { return ring.empty(); });
}

TEST(Handshake, LosesNoWakeUpOverALane) {
    constexpr std::uint32_t kCells = 64;
    std::uint64_t cells[kCells] = {};
    Atomic<std::uint64_t> head;
    Atomic<std::uint64_t> tail;
    LaneWriter writer(cells, kCells, &tail, &head);
    LaneReader reader(cells, kCells, &tail, &head);
    handshake(
        kCount, [&](std::uint64_t value) { return writer.push(value) == LaneStatus::kOk; },
        [&](std::uint64_t &value) {
            if (reader.pop(value) != LaneStatus::kOk) return false;
            reader.publish();
            return true;
        },
        [&] { return reader.empty(); });
}
