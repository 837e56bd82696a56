// The lane: order, full and empty, cursors that are checked, and a writer against a reader.
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <thread>

#include "lane.hpp"
#include "seeded.hpp"

using aiomq::Atomic;
using aiomq::LaneReader;
using aiomq::LaneStatus;
using aiomq::LaneWriter;

namespace {

struct Fixture {
    explicit Fixture(std::uint32_t size, std::uint64_t start = 0)
        : capacity(size), cells(new std::uint64_t[size]()) {
        head.store_relaxed(start);
        tail.store_relaxed(start);
        writer = LaneWriter(cells.get(), capacity, &tail, &head);
        reader = LaneReader(cells.get(), capacity, &tail, &head);
    }

    std::uint32_t capacity;
    std::unique_ptr<std::uint64_t[]> cells;
    alignas(64) Atomic<std::uint64_t> head;
    alignas(64) Atomic<std::uint64_t> tail;
    LaneWriter writer;
    LaneReader reader;
};

}  // namespace

TEST(Lane, GivesMessagesBackInOrder) {
    Fixture lane(8);
    std::uint64_t message = 0;
    EXPECT_TRUE(lane.reader.empty());
    EXPECT_EQ(lane.reader.pop(message), LaneStatus::kEmpty);
    for (std::uint64_t i = 0; i < 8; ++i) ASSERT_EQ(lane.writer.push(i << 50 | i), LaneStatus::kOk);
    EXPECT_FALSE(lane.reader.empty());
    for (std::uint64_t i = 0; i < 8; ++i) {
        ASSERT_EQ(lane.reader.pop(message), LaneStatus::kOk);
        ASSERT_EQ(message, i << 50 | i);
    }
    EXPECT_EQ(lane.reader.pop(message), LaneStatus::kEmpty);
    EXPECT_TRUE(lane.reader.empty());
}

TEST(Lane, ShowsAMessageToItsReaderBeforeItIsPublishedToSleepers) {
    Fixture lane(4);
    ASSERT_EQ(lane.writer.put(5), LaneStatus::kOk);
    std::uint64_t message = 0;
    ASSERT_EQ(lane.reader.pop(message), LaneStatus::kOk);
    EXPECT_EQ(message, 5U);
    lane.writer.publish();
    EXPECT_EQ(lane.reader.pop(message), LaneStatus::kEmpty) << "published, not pushed twice";
}

TEST(Lane, KeepsACellUntilTheReaderHasPublished) {
    Fixture lane(4);
    std::uint64_t message = 0;
    for (std::uint64_t i = 0; i < 4; ++i) ASSERT_EQ(lane.writer.push(i), LaneStatus::kOk);
    EXPECT_EQ(lane.writer.push(4), LaneStatus::kFull);
    ASSERT_EQ(lane.reader.pop(message), LaneStatus::kOk);
    EXPECT_EQ(lane.writer.push(4), LaneStatus::kFull) << "read, not given back yet";
    lane.reader.publish();
    EXPECT_EQ(lane.writer.push(4), LaneStatus::kOk);
    EXPECT_EQ(lane.writer.push(5), LaneStatus::kFull);
}

TEST(Lane, AgreesWithAQueueOverManyLapsAlsoWhereItsCursorsWrap) {
    aiomq_test::Random random;
    for (const std::uint64_t start : {std::uint64_t{0}, UINT64_MAX - 5000})
        for (const std::uint32_t capacity : {1U, 2U, 16U}) {
            Fixture lane(capacity, start);
            std::deque<std::uint64_t> model;
            std::uint64_t held = 0;  // popped, not published
            std::uint64_t next = 0;
            for (std::uint64_t step = 0; step < aiomq_test::rounds(40000, 4000000); ++step) {
                std::uint64_t message = 0;
                switch (random.below(3)) {
                    case 0: {
                        const LaneStatus status = lane.writer.push(next);
                        ASSERT_EQ(status, model.size() + held == capacity ? LaneStatus::kFull
                                                                          : LaneStatus::kOk);
                        if (status == LaneStatus::kOk) model.push_back(next++);
                        break;
                    }
                    case 1:
                        ASSERT_EQ(lane.reader.pop(message),
                                  model.empty() ? LaneStatus::kEmpty : LaneStatus::kOk);
                        if (model.empty()) break;
                        ASSERT_EQ(message, model.front());
                        model.pop_front();
                        ++held;
                        break;
                    default:
                        lane.reader.publish();
                        held = 0;
                }
                ASSERT_EQ(lane.reader.empty(), model.empty());
            }
        }
}

TEST(Lane, GuessesOnlyWhatIsThere) {
    Fixture lane(4);
    std::uint64_t message = 0;
    for (std::uint64_t i = 1; i <= 3; ++i) lane.writer.push(i);
    lane.reader.pop(message);
    EXPECT_EQ(lane.reader.guess(0), 2U);
    EXPECT_EQ(lane.reader.guess(1), 3U);
    EXPECT_EQ(lane.reader.guess(2), 0U);
    EXPECT_EQ(lane.reader.guess(1000), 0U);
}

TEST(Lane, TakesAScribbledTailForDamageAndReadsNothing) {
    for (const std::uint64_t tail : {std::uint64_t{7}, std::uint64_t{15}, UINT64_MAX}) {
        Fixture lane(4);
        std::uint64_t message = 77;
        for (std::uint64_t i = 0; i < 4; ++i) lane.writer.push(i);
        for (int i = 0; i < 4; ++i) lane.reader.pop(message);
        lane.reader.publish();
        lane.tail.store_relaxed(tail == 7 ? 3
                                          : tail);  // behind, or further ahead than there is room
        message = 77;
        EXPECT_EQ(lane.reader.pop(message), LaneStatus::kCorrupt) << tail;
        EXPECT_EQ(lane.reader.pop(message), LaneStatus::kCorrupt) << tail;
        EXPECT_EQ(message, 77U);
    }
}

TEST(Lane, TakesAScribbledHeadForDamageAndWritesNothing) {
    for (const std::uint64_t head : {std::uint64_t{5}, std::uint64_t{1} << 40, UINT64_MAX}) {
        Fixture lane(4);
        for (std::uint64_t i = 0; i < 4; ++i) lane.writer.push(i);
        lane.head.store_relaxed(head);
        EXPECT_EQ(lane.writer.push(99), LaneStatus::kCorrupt) << head;
        EXPECT_EQ(lane.tail.load_relaxed(), 4U);
        for (std::uint64_t i = 0; i < 4; ++i) EXPECT_EQ(lane.cells[i], i);
    }
}

TEST(Lane, CarriesASequenceIntactBetweenTwoThreads) {
    const std::uint64_t count = aiomq_test::rounds(300000, 100000000);
    for (const std::uint32_t capacity : {1U, 4U, 256U}) {
        Fixture lane(capacity);
        // What a message stands for is visible with it: the edge that results rely on.
        const std::unique_ptr<std::uint64_t[]> payload(new std::uint64_t[count]());
        std::thread writer([&] {
            for (std::uint64_t i = 0; i < count;) {
                payload[i] = i * 3;
                if (lane.writer.push(i) == LaneStatus::kOk)
                    ++i;
                else
                    std::this_thread::yield();
            }
        });
        std::uint64_t wrong = 0;
        for (std::uint64_t i = 0; i < count;) {
            std::uint64_t message = 0;
            const LaneStatus status = lane.reader.pop(message);
            if (status == LaneStatus::kOk) {
                wrong += message != i || payload[i] != i * 3;
                ++i;
                if (i % 3 == 0) lane.reader.publish();
            } else {
                wrong += status != LaneStatus::kEmpty;
                lane.reader.publish();
                std::this_thread::yield();
            }
        }
        writer.join();
        EXPECT_EQ(wrong, 0U);
    }
}
