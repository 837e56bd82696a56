// The arena: against a model, and at its limits.
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <vector>

#include "arena.hpp"
#include "seeded.hpp"

using aiomq::Arena;
using aiomq::BlockRange;
using aiomq::kBlockAlign;

namespace {

constexpr std::uint64_t kStart = 1 << 16;  // where the arena begins in the file
constexpr std::uint64_t kMiB = 1 << 20;

/// A file that an arena of @maximum bytes lies in.
class Memory {
  public:
    explicit Memory(std::uint64_t maximum) : maximum_(maximum) {
        auto fd = aiomq::sys::sealed_memfd("aiomq:test", kStart + maximum);
        EXPECT_TRUE(fd);
        fd_ = std::move(*fd);
    }
    Arena arena() const { return {fd_.get(), kStart, maximum_}; }

  private:
    std::uint64_t maximum_;
    aiomq::UniqueFd fd_;
};

std::uint64_t rounded(std::uint64_t bytes) {
    return (std::max<std::uint64_t>(bytes, 1) + kBlockAlign - 1) / kBlockAlign * kBlockAlign;
}

}  // namespace

TEST(Arena, HandsOutAlignedBlocksFromTheLowestAddress) {
    const Memory memory(16 * kMiB);
    Arena arena = memory.arena();
    ASSERT_EQ(arena.start(kMiB, 0, {}), 0);
    EXPECT_EQ(arena.committed_bytes(), kMiB);
    auto first = arena.allocate(10000);
    auto second = arena.allocate(1);
    ASSERT_TRUE(first);
    ASSERT_TRUE(second);
    EXPECT_EQ(*first, kStart);
    EXPECT_EQ(*second, kStart + rounded(10000));
    EXPECT_EQ(arena.block_bytes(*first), rounded(10000));
    EXPECT_EQ(arena.block_bytes(*second), kBlockAlign);
    EXPECT_EQ(arena.used_bytes(), rounded(10000) + kBlockAlign);
    ASSERT_TRUE(arena.release(*first));
    auto again = arena.allocate(9000);
    EXPECT_EQ(*again, kStart) << "warm memory first";
}

TEST(Arena, RefusesToReleaseWhatItDidNotHandOut) {
    const Memory memory(kMiB);
    Arena arena = memory.arena();
    ASSERT_EQ(arena.start(kMiB, 0, {}), 0);
    auto block = arena.allocate(1000);
    ASSERT_TRUE(block);
    const std::uint64_t used = arena.used_bytes();
    for (const std::uint64_t wrong :
         {std::uint64_t{0}, *block + 1, *block + kBlockAlign, *block - kBlockAlign, UINT64_MAX})
        EXPECT_FALSE(arena.release(wrong));
    EXPECT_EQ(arena.used_bytes(), used);
    EXPECT_TRUE(arena.release(*block));
    EXPECT_FALSE(arena.release(*block)) << "twice";
    EXPECT_EQ(arena.used_bytes(), 0U);
    EXPECT_EQ(arena.block_bytes(*block), 0U);
}

TEST(Arena, TellsNeverFromNotNow) {
    const Memory memory(kMiB);
    Arena arena = memory.arena();
    ASSERT_EQ(arena.start(4096, 0, {}), 0);
    EXPECT_EQ(arena.allocate(kMiB + 1).error(), -EMSGSIZE);
    EXPECT_EQ(arena.allocate(UINT64_MAX).error(), -EMSGSIZE);
    EXPECT_EQ(arena.allocate(UINT64_MAX - 10).error(), -EMSGSIZE);
    auto all = arena.allocate(kMiB);
    ASSERT_TRUE(all);
    EXPECT_EQ(arena.allocate(1).error(), -ENOMEM);
    ASSERT_TRUE(arena.release(*all));
    EXPECT_TRUE(arena.allocate(1));
}

TEST(Arena, GivesOutTheLastByteInSmallBlocks) {
    const Memory memory(kMiB);
    Arena arena = memory.arena();
    ASSERT_EQ(arena.start(4096, 0, {}), 0);
    std::vector<std::uint64_t> blocks;
    for (;;) {
        auto block = arena.allocate(kBlockAlign);
        if (!block) {
            EXPECT_EQ(block.error(), -ENOMEM);
            break;
        }
        blocks.push_back(*block);
    }
    EXPECT_EQ(blocks.size(), kMiB / kBlockAlign);
    EXPECT_EQ(arena.used_bytes(), kMiB);
    // All of it comes back as one: also what lay in the stacks of small blocks.
    for (const std::uint64_t block : blocks) ASSERT_TRUE(arena.release(block));
    EXPECT_TRUE(arena.allocate(kMiB));
}

TEST(Arena, JoinsNeighboursInWhateverOrderTheyComeBack) {
    aiomq_test::Random random;
    for (int round = 0; round < 50; ++round) {
        const Memory memory(kMiB);
        Arena arena = memory.arena();
        ASSERT_EQ(arena.start(kMiB, 0, {}), 0);
        std::vector<std::uint64_t> blocks;
        for (int i = 0; i < 16; ++i) blocks.push_back(*arena.allocate(kMiB / 16));
        while (!blocks.empty()) {
            const std::size_t pick = random.below(blocks.size());
            ASSERT_TRUE(arena.release(blocks[pick]));
            blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(pick));
        }
        ASSERT_TRUE(arena.allocate(kMiB));
    }
}

TEST(Arena, GrowsInStepsAndNotBeyondItsMaximum) {
    const Memory memory(40 * kMiB);
    Arena arena = memory.arena();
    ASSERT_EQ(arena.start(kMiB, 0, {}), 0);
    std::uint64_t commits = 0;
    std::uint64_t before = arena.committed_bytes();
    while (arena.allocate(100000)) {
        if (arena.committed_bytes() != before) ++commits;
        before = arena.committed_bytes();
        ASSERT_LE(arena.used_bytes(), arena.committed_bytes());
        ASSERT_LE(arena.committed_bytes(), arena.maximum_bytes());
    }
    EXPECT_GT(arena.used_bytes(), 39 * kMiB);
    EXPECT_LT(commits, 40U);
}

TEST(Arena, UsesTheFreeEndWhenItGrows) {
    const Memory memory(4 * kMiB);
    Arena arena = memory.arena();
    ASSERT_EQ(arena.start(2 * kMiB, 0, {}), 0);
    ASSERT_TRUE(arena.allocate(kMiB));
    ASSERT_TRUE(arena.allocate(3 * kMiB)) << "1 MiB is there, 2 more are allowed";
    EXPECT_EQ(arena.committed_bytes(), 4 * kMiB);
}

TEST(Arena, WorksWithAMaximumOfOnePage) {
    const Memory memory(4096);
    Arena arena = memory.arena();
    ASSERT_EQ(arena.start(kMiB, 0, {}), 0) << "more at the start than there can be";
    EXPECT_EQ(arena.committed_bytes(), 4096U);
    EXPECT_TRUE(arena.allocate(4096));
    EXPECT_EQ(arena.allocate(1).error(), -ENOMEM);
}

TEST(Arena, TakesOverWhatAPredecessorsReadersHold) {
    const Memory memory(4 * kMiB);
    std::vector<BlockRange> held;
    {
        Arena dead = memory.arena();
        ASSERT_EQ(dead.start(kMiB, 0, {}), 0);
        std::vector<std::uint64_t> blocks;
        for (int i = 0; i < 8; ++i) blocks.push_back(*dead.allocate(100001));
        held = {{blocks[5], 100001}, {blocks[2], 100001}, {blocks[3], 100001}};  // in any order
    }
    Arena heir = memory.arena();
    ASSERT_EQ(heir.start(kMiB, kMiB, held), 0);
    EXPECT_EQ(heir.used_bytes(), 3 * rounded(100001));
    EXPECT_EQ(heir.committed_bytes(), kMiB);
    std::vector<std::uint64_t> fresh;
    for (;;) {
        auto block = heir.allocate(50000);
        if (!block) break;
        for (const BlockRange &range : held)
            ASSERT_TRUE(*block + 50000 <= range.offset || *block >= range.offset + range.bytes);
        fresh.push_back(*block);
    }
    EXPECT_GT(fresh.size(), 70U) << "everything else can be used";
    for (const BlockRange &range : held) EXPECT_TRUE(heir.release(range.offset));
    for (const std::uint64_t block : fresh) EXPECT_TRUE(heir.release(block));
    EXPECT_EQ(heir.used_bytes(), 0U);
    EXPECT_TRUE(heir.allocate(4 * kMiB));
}

TEST(Arena, RefusesATakeoverListThatMakesNoSense) {
    const Memory memory(kMiB);
    const std::vector<std::vector<BlockRange>> lists = {
        {{kStart - kBlockAlign, 100}},
        {{kStart + kMiB, 100}},
        {{kStart, kMiB + 1}},
        {{kStart, 1000}, {kStart, 1000}},
        {{kStart, 1000}, {kStart + 512, 1000}},
        {{kStart + 4096, UINT64_MAX - 4096}},
    };
    for (const auto &list : lists) {
        Arena arena = memory.arena();
        EXPECT_EQ(arena.start(4096, kMiB, list), -EBADMSG);
    }
}

TEST(Arena, AgreesWithAModelOverRandomCalls) {
    aiomq_test::Random random;
    for (int repeat = 0; repeat < 3; ++repeat) {
        const std::uint64_t maximum = kMiB << random.below(4);
        const Memory memory(maximum);
        Arena arena = memory.arena();
        ASSERT_EQ(arena.start(1 + random.below(maximum), 0, {}), 0);
        std::map<std::uint64_t, std::uint64_t> model;  // offset → bytes
        std::uint64_t used = 0;
        for (std::uint64_t step = 0; step < aiomq_test::rounds(20000, 2000000); ++step) {
            if (model.empty() || random.below(100) < 52) {
                const std::uint64_t bytes =
                    random.one_in(20) ? 1 + random.below(maximum / 4) : 1 + random.below(6000);
                auto block = arena.allocate(bytes);
                if (!block) {
                    ASSERT_EQ(block.error(), -ENOMEM);
                    ASSERT_GT(used + bytes, maximum / 8) << "refused though almost empty";
                    continue;
                }
                ASSERT_EQ(*block % kBlockAlign, 0U);
                ASSERT_GE(*block, kStart);
                ASSERT_LE(*block + bytes, kStart + maximum);
                ASSERT_EQ(arena.block_bytes(*block), rounded(bytes));
                const auto next = model.lower_bound(*block);
                ASSERT_TRUE(next == model.end() || *block + rounded(bytes) <= next->first);
                ASSERT_TRUE(next == model.begin() ||
                            std::prev(next)->first + std::prev(next)->second <= *block);
                model.emplace(*block, rounded(bytes));
                used += rounded(bytes);
            } else {
                auto pick = model.lower_bound(kStart + random.below(maximum));
                if (pick == model.end()) pick = model.begin();
                used -= pick->second;
                ASSERT_TRUE(arena.release(pick->first));
                model.erase(pick);
            }
            ASSERT_EQ(arena.used_bytes(), used);
            ASSERT_LE(arena.used_bytes(), arena.committed_bytes());
        }
        for (const auto &[offset, bytes] : model) ASSERT_TRUE(arena.release(offset));
        ASSERT_TRUE(arena.allocate(maximum)) << "nothing is lost between the pieces";
    }
}
