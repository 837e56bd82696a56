// The slot word and the item range: who may do what when, and that of two who try only one does.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "seeded.hpp"
#include "slots.hpp"

using namespace aiomq;  // NOLINT(google-build-using-namespace)

namespace {

SlotWord word_of(const Slot &slot) { return SlotWord(slot.word.load_acquire()); }

constexpr std::uint64_t kMeetings = 50;

/// Races need two CPUs at the same time. Where these are not to be had a test gives up, and passes.
class Patience {
  public:
    bool lasts() const { return aiomq_test::stress() || std::chrono::steady_clock::now() < end_; }

  private:
    std::chrono::steady_clock::time_point end_ =
        std::chrono::steady_clock::now() + std::chrono::seconds(10);
};

/// About @cycles long: finer than the window between a load and the compare-and-swap after it.
void pause(std::uint64_t cycles) {
    for (; cycles > 0; --cycles) asm volatile("");
}

/// A thread that plays one move per round against the caller, both starting together.
template <typename Move>
class Opponent {
  public:
    explicit Opponent(Move move) : move_(move), thread_([this] { run(); }) {}
    ~Opponent() {
        go_.store_seq(UINT64_MAX);
        thread_.join();
    }
    void start(std::uint64_t round) {
        go_.store_seq(round);
        while (at_.load_acquire() < round) std::this_thread::yield();
    }
    void finish(std::uint64_t round) {
        while (done_.load_acquire() < round) std::this_thread::yield();
    }

  private:
    void run() {
        for (std::uint64_t round = 1;; ++round) {
            std::uint64_t go = 0;
            while ((go = go_.load_acquire()) < round) std::this_thread::yield();
            if (go == UINT64_MAX) return;
            at_.store_release(round);
            move_();
            done_.store_release(round);
        }
    }
    Move move_;
    Atomic<std::uint64_t> go_;
    Atomic<std::uint64_t> at_;
    Atomic<std::uint64_t> done_;
    std::thread thread_;
};

}  // namespace

TEST(SlotWord, KeepsEachFieldApart) {
    struct Fields {
        std::uint32_t queue, worker, incarnation, generation;
    };
    for (const Phase phase : {Phase::kFree, Phase::kReady, Phase::kClaimed, Phase::kDone})
        for (const Fields &fields :
             {Fields{0, 0, 0, 0}, Fields{127, 1023, 2047, UINT32_MAX}, Fields{1, 2, 3, 4},
              Fields{127, 0, 2047, 0}, Fields{0, 1023, 0, UINT32_MAX}}) {
            const auto word = SlotWord::make(phase, fields.queue, fields.worker, fields.incarnation,
                                             fields.generation);
            const SlotWord back(word.bits());
            EXPECT_EQ(back.phase(), phase);
            EXPECT_EQ(back.queue(), fields.queue);
            EXPECT_EQ(back.worker(), fields.worker);
            EXPECT_EQ(back.incarnation(), fields.incarnation);
            EXPECT_EQ(back.generation(), fields.generation);
            const SlotWord done = word.with_phase(Phase::kDone);
            EXPECT_EQ(done.phase(), Phase::kDone);
            EXPECT_EQ(done.with_phase(phase).bits(), word.bits()) << "the rest stays";
        }
    const SlotWord claimed = SlotWord::make(Phase::kReady, 7, 0, 0, 9).claimed_by(1022, 2048 + 5);
    EXPECT_EQ(claimed.bits(), SlotWord::make(Phase::kClaimed, 7, 1022, 5, 9).bits());
    EXPECT_GE(1023U, kMaxWorkers) << "every worker has a number";
}

TEST(SlotWord, KnowsItsHolderByWorkerAndIncarnation) {
    const SlotWord word = SlotWord::make(Phase::kClaimed, 0, 5, 3, 1);
    EXPECT_TRUE(word.held_by(5, 3));
    EXPECT_TRUE(word.held_by(5, 3 + 2048)) << "incarnations count modulo their bits";
    EXPECT_FALSE(word.held_by(5, 4));
    EXPECT_FALSE(word.held_by(4, 3));
}

TEST(Words, ComeBackAsTheyWerePacked) {
    const ItemRange range = ItemRange::unpack(ItemRange{7, UINT32_MAX}.pack());
    EXPECT_EQ(range.next, 7U);
    EXPECT_EQ(range.end, UINT32_MAX);
    const OutcomeHead head = OutcomeHead::unpack(OutcomeHead{2, 9, UINT32_MAX}.pack());
    EXPECT_EQ(head.status, 2);
    EXPECT_EQ(head.kind, 9);
    EXPECT_EQ(head.bytes, UINT32_MAX);
}

TEST(Slot, GoesThroughItsLife) {
    Slot slot{};
    EXPECT_EQ(word_of(slot).phase(), Phase::kFree) << "zeroed memory is a free slot";
    SlotWord claimed;
    EXPECT_FALSE(claim(slot, 0, 3, 1, claimed)) << "nothing there";
    publish_ready(slot, 2, {0, 10});
    EXPECT_EQ(word_of(slot).phase(), Phase::kReady);
    EXPECT_EQ(word_of(slot).generation(), 1U);
    EXPECT_FALSE(claim(slot, 1, 3, 1, claimed)) << "a hint of another queue is stale";
    ASSERT_TRUE(claim(slot, 2, 3, 2049, claimed));
    EXPECT_TRUE(word_of(slot).held_by(3, 2049));
    EXPECT_FALSE(claim(slot, 2, 4, 1, claimed)) << "taken";
    EXPECT_FALSE(withdraw(slot)) << "taken";
    ASSERT_TRUE(finish(slot, claimed));
    EXPECT_EQ(word_of(slot).phase(), Phase::kDone);
    EXPECT_TRUE(word_of(slot).held_by(3, 1));
    EXPECT_FALSE(finish(slot, claimed)) << "only once";
    EXPECT_FALSE(withdraw(slot));
    make_free(slot);
    EXPECT_EQ(word_of(slot).phase(), Phase::kFree);
    publish_ready(slot, 2, {0, 1});
    EXPECT_EQ(word_of(slot).generation(), 2U) << "an old word never comes back";
    EXPECT_TRUE(withdraw(slot));
    EXPECT_FALSE(withdraw(slot));
    EXPECT_FALSE(claim(slot, 2, 3, 1, claimed)) << "a withdrawn task leaves a stale hint";
}

TEST(Slot, ForgetsItsLastResultBeforeItIsReadyAgain) {
    Slot slot{};
    slot.block_offset.store_relaxed(4096);
    slot.status = 1;
    publish_ready(slot, 0, {3, 9});
    EXPECT_EQ(slot.block_offset.load_relaxed(), 0U);
    EXPECT_EQ(slot.status, 0);
    EXPECT_EQ(slot.range.load_relaxed(), (ItemRange{3, 9}.pack()));
}

TEST(Slot, CountsItsGenerationsAroundTheEnd) {
    Slot slot{};
    slot.word.store_relaxed(SlotWord::make(Phase::kFree, 9, 9, 9, UINT32_MAX).bits());
    publish_ready(slot, 0, {0, 1});
    EXPECT_EQ(word_of(slot).generation(), 0U);
    EXPECT_EQ(word_of(slot).queue(), 0U);
    EXPECT_EQ(word_of(slot).worker(), 0U);
}

TEST(Slot, TellsAWorkerThatItsWordWasScribbledOn) {
    Slot slot{};
    SlotWord claimed;
    publish_ready(slot, 0, {0, 1});
    ASSERT_TRUE(claim(slot, 0, 1, 1, claimed));
    slot.word.store_relaxed(slot.word.load_relaxed() ^ 1);
    EXPECT_FALSE(finish(slot, claimed));
}

TEST(Slot, IsClaimedByOneOfTwoWhoTryAtTheSameMoment) {
    const std::uint64_t enough = aiomq_test::rounds(100000, 10000000);
    Slot slot{};
    bool claimed = false;
    SlotWord word;
    SlotWord other_word;
    aiomq_test::Random random(1);
    aiomq_test::Random other_random(2);
    Opponent worker([&] {
        pause(other_random.below(800));
        claimed = claim(slot, 0, 1, 1, other_word);
    });
    const Patience patience;
    std::uint64_t wins[2] = {};
    for (std::uint64_t round = 1;
         (round <= enough || std::min(wins[0], wins[1]) < kMeetings) && patience.lasts(); ++round) {
        publish_ready(slot, 0, {0, 1});
        worker.start(round);
        pause(random.below(400));
        const bool mine = claim(slot, 0, 2, 1, word);
        worker.finish(round);
        ASSERT_NE(claimed, mine);
        ASSERT_TRUE(word_of(slot).held_by(mine ? 2 : 1, 1));
        ++wins[mine ? 1 : 0];
        make_free(slot);
    }
}

TEST(Slot, IsClaimedByExactlyOneOfThreeWhoTry) {
    const std::uint64_t count = aiomq_test::rounds(20000, 2000000);
    Slot slot{};
    std::vector<std::uint64_t> wins(3);
    Atomic<std::uint64_t> round_at;  // the round that may be played
    Atomic<std::uint64_t> moved[3];  // the round that each has played
    std::uint64_t plain = 0;         // written by the submitter, read by the claimer: slot.submit
    std::vector<std::uint64_t> unseen_by(3);
    std::vector<std::thread> threads;
    for (std::uint32_t worker = 0; worker < 3; ++worker)
        threads.emplace_back([&, worker] {
            for (std::uint64_t round = 1; round <= count; ++round) {
                while (round_at.load_acquire() < round) std::this_thread::yield();
                SlotWord word;
                if (claim(slot, 0, worker, 1, word)) {
                    ++wins[worker];
                    unseen_by[worker] += plain != round;
                    plain = 0;  // the task is this worker's alone: TSan tells if it is not
                }
                moved[worker].store_release(round);
            }
        });
    for (std::uint64_t round = 1; round <= count; ++round) {
        SlotWord word = word_of(slot);
        if (word.phase() == Phase::kClaimed) {
            ASSERT_TRUE(finish(slot, word));
            make_free(slot);
        }
        plain = round;
        publish_ready(slot, 0, {0, 1});
        round_at.store_release(round);
        for (const auto &played : moved)
            while (played.load_acquire() < round) std::this_thread::yield();
    }
    for (auto &thread : threads) thread.join();
    EXPECT_EQ(unseen_by[0] + unseen_by[1] + unseen_by[2], 0U);
    EXPECT_EQ(wins[0] + wins[1] + wins[2], count);
}

TEST(Slot, IsEitherClaimedOrWithdrawnNeverBoth) {
    const std::uint64_t enough = aiomq_test::rounds(100000, 10000000);
    Slot slot{};
    bool claimed = false;
    SlotWord word;
    aiomq_test::Random random(1);
    aiomq_test::Random other_random(2);
    Opponent worker([&] {
        pause(other_random.below(800));
        claimed = claim(slot, 0, 1, 1, word);
    });
    const Patience patience;
    std::uint64_t wins[2] = {};
    // Both must have won often, or they never met.
    for (std::uint64_t round = 1;
         (round <= enough || std::min(wins[0], wins[1]) < kMeetings) && patience.lasts(); ++round) {
        claimed = false;
        publish_ready(slot, 0, {0, 1});
        worker.start(round);
        pause(random.below(400));
        const bool withdrawn = withdraw(slot);
        worker.finish(round);
        ASSERT_NE(claimed, withdrawn);
        ASSERT_EQ(word_of(slot).phase(), claimed ? Phase::kClaimed : Phase::kFree);
        ++wins[withdrawn ? 1 : 0];
        if (claimed) make_free(slot);
    }
}

TEST(Range, StartsItemsInOrderUntilNoneIsLeft) {
    Slot slot{};
    publish_ready(slot, 0, {3, 6});
    std::uint32_t item = 99;
    for (std::uint32_t i = 3; i < 6; ++i) {
        ASSERT_TRUE(start_item(slot, item));
        EXPECT_EQ(item, i);
    }
    EXPECT_FALSE(start_item(slot, item));
    const ItemRange before = withdraw_unstarted(slot);
    EXPECT_EQ(before.next, 6U) << "nothing to withdraw";
    EXPECT_EQ(before.end, 6U);
}

TEST(Range, OfATaskOfOneIsStartedByAStore) {
    Slot slot{};
    publish_ready(slot, 0, {0, 1});
    start_only_item(slot);
    const ItemRange range = ItemRange::unpack(slot.range.load_acquire());
    EXPECT_EQ(range.next, 1U) << "recovery must see that it started";
    EXPECT_EQ(range.end, 1U);
}

TEST(Range, WithdrawsWhatHasNotStarted) {
    Slot slot{};
    publish_ready(slot, 0, {0, 10});
    std::uint32_t item = 0;
    start_item(slot, item);
    start_item(slot, item);
    const ItemRange before = withdraw_unstarted(slot);
    EXPECT_EQ(before.next, 2U);
    EXPECT_EQ(before.end, 10U);
    EXPECT_FALSE(start_item(slot, item));
    EXPECT_EQ(withdraw_unstarted(slot).end, 2U);
}

TEST(Range, StartsNothingOfARangeThatWasScribbledOn) {
    Slot slot{};
    slot.range.store_relaxed(ItemRange{9, 5}.pack());
    std::uint32_t item = 0;
    EXPECT_FALSE(start_item(slot, item));
    EXPECT_EQ(withdraw_unstarted(slot).next, 9U);
}

TEST(Range, EitherStartsOrWithdrawsEachItem) {
    constexpr std::uint32_t kItems = 400;
    const std::uint64_t enough = aiomq_test::rounds(5000, 500000);
    aiomq_test::Random random;
    Slot slot{};
    std::vector<std::uint32_t> started;
    started.reserve(kItems);
    Opponent worker([&] {
        started.clear();
        for (std::uint32_t item = 0; start_item(slot, item);) started.push_back(item);
    });
    const Patience patience;
    std::uint64_t split = 0;  // rounds in which both had some
    for (std::uint64_t round = 1; (round <= enough || split < kMeetings) && patience.lasts();
         ++round) {
        publish_ready(slot, 0, {0, kItems});
        worker.start(round);
        pause(random.below(1ULL << random.below(17)));
        const ItemRange before = withdraw_unstarted(slot);
        worker.finish(round);
        // Started: [0, next); withdrawn: [next, end). Together all, and none twice.
        ASSERT_EQ(before.end, kItems);
        ASSERT_EQ(started.size(), before.next);
        for (std::uint32_t i = 0; i < started.size(); ++i) ASSERT_EQ(started[i], i);
        split += before.next > 0 && before.next < kItems;
    }
}

TEST(Range, GivesEachItemToOneOfTwoWhoStart) {
    constexpr std::uint32_t kItems = 200000;
    Slot slot{};
    publish_ready(slot, 0, {0, kItems});
    std::vector<std::uint32_t> counts(kItems);
    std::vector<std::uint32_t> items[2];
    const auto run = [&](int self) {
        for (std::uint32_t item = 0; start_item(slot, item);) items[self].push_back(item);
    };
    std::thread other(run, 1);
    run(0);
    other.join();
    for (const auto &list : items)
        for (const std::uint32_t item : list) ++counts[item];
    for (const std::uint32_t times : counts) ASSERT_EQ(times, 1U);
}

TEST(Keyed, IsClaimedByItsWorkerAndOnlyInItsGeneration) {
    Slot slot{};
    publish_keyed(slot, 5, 3, {0, 1});
    const SlotWord ready(slot.word.load_relaxed());
    EXPECT_EQ(ready.phase(), Phase::kReady);
    EXPECT_TRUE(ready.keyed());
    EXPECT_EQ(ready.queue(), 5U);
    EXPECT_EQ(ready.worker(), 3U);
    SlotWord word;
    EXPECT_FALSE(claim(slot, 5, 3, 9, word)) << "no task of the queue at large";
    EXPECT_FALSE(claim_keyed(slot, ready.generation(), 2, 9, word)) << "of another worker";
    EXPECT_FALSE(claim_keyed(slot, ready.generation() - 1, 3, 9, word)) << "a stale hint";
    ASSERT_TRUE(claim_keyed(slot, ready.generation(), 3, 9, word));
    EXPECT_EQ(word.bits(), SlotWord::make(Phase::kClaimed, 5, 3, 9, ready.generation()).bits());
    EXPECT_FALSE(claim_keyed(slot, ready.generation(), 3, 9, word)) << "once";
}

TEST(Keyed, IsWithdrawnAsAnyOther) {
    Slot slot{};
    publish_keyed(slot, 0, 1022, {0, 1});
    const SlotWord ready(slot.word.load_relaxed());
    EXPECT_TRUE(withdraw(slot));
    SlotWord word;
    EXPECT_FALSE(claim_keyed(slot, ready.generation(), 1022, 1, word));
    publish_ready(slot, 0, {0, 1});
    EXPECT_FALSE(SlotWord(slot.word.load_relaxed()).keyed());
    EXPECT_FALSE(claim_keyed(slot, ready.generation() + 1, 0, 1, word)) << "for everybody";
}
