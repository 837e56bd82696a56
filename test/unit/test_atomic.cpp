// The memory orders that the protocols above rely on.
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "atomic.hpp"
#include "seeded.hpp"

using aiomq::Atomic;

TEST(Atomic, GivesBackWhatItFoundWhenAnExchangeFails) {
    Atomic<std::uint64_t> word(5);
    std::uint64_t expected = 4;
    EXPECT_FALSE(word.compare_exchange(expected, 9));
    EXPECT_EQ(expected, 5U);
    EXPECT_TRUE(word.compare_exchange(expected, 9));
    EXPECT_EQ(word.load_relaxed(), 9U);
    expected = 1;
    EXPECT_FALSE(word.compare_exchange_seq(expected, 2));
    EXPECT_EQ(expected, 9U);
    EXPECT_TRUE(word.compare_exchange_seq(expected, 2));
    EXPECT_EQ(word.load_seq(), 2U);
}

TEST(Atomic, ReturnsTheValueFromBeforeAChange) {
    Atomic<std::uint32_t> word(0b0011);
    EXPECT_EQ(word.fetch_or_seq(0b0100), 0b0011U);
    EXPECT_EQ(word.fetch_and_seq(0b0101), 0b0111U);
    EXPECT_EQ(word.exchange_seq(7), 0b0101U);
    EXPECT_EQ(word.fetch_add_relaxed(3), 7U);
    word.add_by_single_writer(1);
    EXPECT_EQ(word.load_acquire(), 11U);
}

TEST(Atomic, StartsAtZero) { EXPECT_EQ(Atomic<std::uint64_t>().load_relaxed(), 0U); }

// Dekker's pattern, which sleeping and waking stand on: with anything weaker than seq_cst operations
// both sides can miss what the other stored, on x86 too.
TEST(Atomic, NeverLetsBothSidesOfAHandshakeMissEachOther) {
    struct Round {
        alignas(64) Atomic<std::uint32_t> word[2 * 16];  // sides on lines of their own
        std::uint32_t seen[2] = {};
    };
    constexpr std::size_t kRounds = 4096;
    const std::uint64_t repeats = aiomq_test::rounds(10, 1000);
    for (std::uint64_t repeat = 0; repeat < repeats; ++repeat) {
        const std::unique_ptr<Round[]> play(new Round[kRounds]);
        Atomic<std::uint64_t> turn[2];
        const auto side = [&](std::size_t self) {
            for (std::size_t i = 0; i < kRounds; ++i) {
                turn[self].store_release(i);
                // On one CPU waiting would take a time slice each; rounds then merely overlap less.
                for (int look = 0; look < 200 && turn[1 - self].load_acquire() < i; ++look)
                    aiomq::cpu_relax();
                play[i].word[self * 16].store_seq(1);
                play[i].seen[self] = play[i].word[(1 - self) * 16].load_seq();
            }
        };
        std::thread other(side, 1);
        side(0);
        other.join();
        for (std::size_t i = 0; i < kRounds; ++i)
            ASSERT_TRUE(play[i].seen[0] == 1 || play[i].seen[1] == 1) << "round " << i;
    }
}
