// The plan of the segment: page classes in order, parts that do not overlap, sizes that fit.
#include <gtest/gtest.h>

#include <bit>
#include <vector>

#include "format.hpp"
#include "seeded.hpp"

using aiomq::Layout;
using aiomq::Message;
using aiomq::Notice;
using aiomq::plan_layout;

namespace {

struct Part {
    const char *name;
    std::uint64_t offset;
    std::uint64_t bytes;
};

/// Every part in the order of the file.
std::vector<Part> parts_of(const Layout &layout) {
    using namespace aiomq;  // NOLINT(google-build-using-namespace)
    return {
        {"header", 0, sizeof(Header)},
        {"queues", layout.queues_offset, sizeof(QueueRecord) * layout.queues},
        {"rings", layout.rings_offset, 8ULL * layout.ring_cells * layout.queues},
        {"requests", layout.requests_offset, sizeof(Request) * layout.slots},
        {"records", layout.records_offset, sizeof(WorkerRecord) * layout.workers},
        {"events", layout.events_offset, sizeof(EventRecord) * kEventCount},
        {"functions", layout.functions_offset, sizeof(FunctionRecord) * kMaxFunctions},
        {"slots", layout.slots_offset, sizeof(Slot) * layout.slots},
        {"heads", layout.heads_offset, sizeof(QueueHead) * layout.queues},
        {"flags", layout.flags_offset, sizeof(SleepFlags)},
        {"areas", layout.workers_offset, std::uint64_t{layout.worker_area_bytes} * layout.workers},
        {"request arena", layout.request_arena_offset, layout.arena_bytes},
        {"result arenas", layout.result_arenas_offset, layout.arena_bytes * layout.workers},
        {"end", layout.segment_bytes, 0},
    };
}

void check(const Layout &layout) {
    const auto parts = parts_of(layout);
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        EXPECT_LE(parts[i].offset + parts[i].bytes, parts[i + 1].offset)
            << parts[i].name << " runs into " << parts[i + 1].name;
        EXPECT_EQ(parts[i].offset % aiomq::kLineBytes, 0U) << parts[i].name;
    }
    // What different processes may write lies on different pages.
    for (const std::uint64_t boundary :
         {layout.functions_offset, layout.dispatcher_end, layout.common_offset, layout.common_end,
          layout.workers_offset, std::uint64_t{layout.worker_area_bytes}, layout.workers_end,
          layout.request_arena_offset, layout.result_arenas_offset, layout.arena_bytes,
          layout.segment_bytes})
        EXPECT_EQ(boundary % layout.page_bytes, 0U);
    EXPECT_TRUE(std::has_single_bit(layout.ring_cells));
    EXPECT_GE(layout.ring_cells, layout.slots);
    EXPECT_GE(layout.ring_cells, 2 * (layout.slots - layout.reserved_slots))
        << "room for the stale hints of withdrawn tasks";
    EXPECT_TRUE(std::has_single_bit(layout.outbox_cells));
    EXPECT_GE(layout.worker_area_bytes, sizeof(aiomq::WorkerArea) + 8ULL * layout.outbox_cells);
}

}  // namespace

TEST(Layout, PlacesItsPartsOnTheirPagesForEveryPageSize) {
    for (const std::uint64_t page : {4096, 16384, 65536, 1 << 21})
        for (const std::uint32_t slots : {1U, 2U, 3U, 64U, 4096U, 5000U, aiomq::kMaxSlots})
            for (const std::uint32_t workers : {1U, 2U, 65U, aiomq::kMaxWorkers}) {
                SCOPED_TRACE(testing::Message() << page << " " << slots << " " << workers);
                Layout layout{};
                ASSERT_TRUE(plan_layout({slots, workers, 1, 1 << 20, page}, layout));
                check(layout);
            }
}

TEST(Layout, HoldsForRandomNumbers) {
    aiomq_test::Random random;
    for (int i = 0; i < 300; ++i) {
        const auto slots = static_cast<std::uint32_t>(1 + random.below(aiomq::kMaxSlots));
        const auto workers = static_cast<std::uint32_t>(1 + random.below(aiomq::kMaxWorkers));
        const auto queues = static_cast<std::uint32_t>(1 + random.below(aiomq::kMaxQueues));
        Layout layout{};
        ASSERT_TRUE(
            plan_layout({slots, workers, queues, 1 + random.below(1ULL << 35), 4096}, layout));
        check(layout);
    }
}

TEST(Layout, RefusesArenasThatNoAddressSpaceHolds) {
    Layout layout{};
    EXPECT_FALSE(plan_layout({64, 1, 1, UINT64_MAX, 4096}, layout));
    EXPECT_FALSE(plan_layout({64, 1, 1, 1ULL << 46, 4096}, layout));
    EXPECT_FALSE(plan_layout({64, 1023, 1, 1ULL << 40, 4096}, layout));
    EXPECT_EQ(layout.segment_bytes, 0U) << "untouched";
}

TEST(Layout, RoundsAnArenaUpToWholePages) {
    Layout layout{};
    ASSERT_TRUE(plan_layout({64, 2, 1, 1, 4096}, layout));
    EXPECT_EQ(layout.arena_bytes, 4096U);
    EXPECT_EQ(layout.segment_bytes - layout.result_arenas_offset, 2 * 4096U);
}

TEST(Message, ComesBackAsItWasPacked) {
    for (const Notice notice :
         {Notice::kDone, Notice::kProgress, Notice::kRelease, Notice::kCancel})
        for (const std::uint64_t value : {0ULL, 1ULL, 0x1234567890abULL, (1ULL << 56) - 1}) {
            const Message back = Message::unpack(Message{notice, value}.pack());
            EXPECT_EQ(back.notice, notice);
            EXPECT_EQ(back.value, value);
        }
}
