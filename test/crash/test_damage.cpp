// Single words of shared memory that the dispatcher once followed too far. Each is damaged at a chosen
// moment, by a write that a worker could have made.
#include <fstream>

#include "../support/go_signal.hpp"
#include "../support/memory.hpp"
#include "../support/pool_fixture.hpp"

using aiomq::ItemRange;
using aiomq::SlotWord;
using aiomq_test::GoSignal;
using aiomq_test::Memory;
using aiomq_test::TestPool;

namespace {

constexpr std::uint64_t kNoQueue = 0x7fULL << 53;  // the queue field of a slot word, all ones

std::uint64_t private_kib() {
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("RssAnon:")) return std::stoull(line.substr(8));
    return 0;
}

/// One worker runs the first item of a task for as long as the test likes.
class Damage : public testing::Test {
  protected:
    // Nobody looks at the words meanwhile.
    Damage() : pool({.arena_max = 4ULL << 30, .blocked_after_ns = UINT64_MAX}) {
        EXPECT_EQ(pool.created(), 0) << pool.error_text();
    }

    void start(std::uint32_t items, std::uint32_t flags = 0, std::uint32_t retries = 0) {
        aiomq_task task{};
        task.items = items;
        task.flags = flags;
        task.retries = retries;
        id = pool.submit_task(task, "wait_for_file", go.path());
        pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
    }
    aiomq::Slot &slot() { return memory.slot_of(id); }
    /// The pool ends because it is damaged, and every item has one outcome.
    void expect_corrupt() {
        pool.collect_all();
        (void)aiomq_pool_close(pool.get(), 0);  // else one that is sound would not end
        EXPECT_EQ(aiomq_pool_join(pool.get(), 20'000'000'000), 0);
        while (pool.collect_some(0)) continue;
        for (const auto &[item, outcome] : pool.outcomes())
            EXPECT_EQ(outcome.times, 1) << "item " << item.second;
        char text[256] = "";
        EXPECT_EQ(aiomq_pool_state(pool.get(), text, sizeof text), AIOMQ_POOL_BROKEN);
        EXPECT_TRUE(std::string(text).starts_with("shared memory is damaged")) << text;
    }

    GoSignal go;
    TestPool pool;
    Memory memory;
    std::uint64_t id = 0;
};

}  // namespace

TEST_F(Damage, OfTheQueueOfAKeyedTaskSendsItBackToItsOwnQueue) {
    start(1, AIOMQ_TASK_KEYED, 1);
    slot().word.store_seq(slot().word.load_seq() | kNoQueue);
    pool.signal_worker(0, SIGKILL);
    pool.wait_until([&] { return pool.pool_stats().retried == 1; });
    go.give();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
    EXPECT_EQ(pool.outcome(id).attempt, 2U);
}

TEST_F(Damage, OfARangeGivesNoSecondOutcomeToItemsThatWereTakenBack) {
    start(6);
    ASSERT_EQ(aiomq_pool_cancel(pool.get(), id), 0);
    while (pool.outcomes().size() < 5) ASSERT_TRUE(pool.collect_some());
    const pid_t worker = memory.record(0).pid;
    slot().range.store_seq(ItemRange{3, 5}.pack());
    (void)aiomq_pool_cancel(pool.get(), id);
    kill(worker, SIGKILL);  // it may be dead already: its pool is over
    expect_corrupt();
}

TEST_F(Damage, OfAChainOfBlocksThatComesBackTakesNoMemory) {
    start(2);
    pool.wait_until([&] { return slot().block_offset.load_seq() != 0; });
    const std::uint64_t block = slot().block_offset.load_seq();
    const std::uint64_t chain = block + (1 << 20);  // where nothing is
    memory.at<aiomq::DataBlock>(chain) = {chain, sizeof(aiomq::DataBlock)};
    memory.at<aiomq::OutcomeBlock>(block).data_offset.store_seq(chain);
    const std::uint64_t before = private_kib();
    go.give();
    expect_corrupt();
    EXPECT_LT(private_kib(), before + (64 << 10));
}
