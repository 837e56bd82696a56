// Chunks whose unstarted items go to idle workers: still one outcome each, wherever they run.
#include <fcntl.h>
#include <sys/mman.h>

#include <atomic>
#include <random>

#include "../support/pool_fixture.hpp"

using aiomq_test::TestPool;

namespace {

constexpr std::uint32_t kMost = 4096;

/// What the items of all workers and the test share.
struct Board {
    std::atomic<std::uint32_t> workers;  ///< bits of those that have run an item
    std::atomic<std::uint32_t> open;     ///< 1: nobody needs to wait any more
    std::atomic<std::uint32_t> runs[kMost];
};

Board *map_board(int fd) {
    void *memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<Board *>(memory);
}
Board *board_of_worker() {
    static Board *board = map_board(AIOMQ_EXTRA_FD_BASE);
    return board;
}

/// Waits until as many workers as the payload says have an item of the chunk.
int meet(const aiomq_call *call, aiomq_item *ret) {
    Board *board = board_of_worker();
    if (board == nullptr) return -ENOMEM;
    ++board->runs[call->item];
    board->workers |= 1U << aiomq_worker_index(call->worker);
    const int wanted = std::stoi(aiomq_test::payload_of(call));
    while (__builtin_popcount(board->workers) < wanted && board->open == 0) usleep(100);
    return aiomq_test::return_integer(call->item, ret);
}
/// Takes a while, without the CPU.
int nap(const aiomq_call *call, aiomq_item *ret) {
    ++board_of_worker()->runs[call->item];
    usleep(200);
    return aiomq_test::return_integer(call->item, ret);
}
const aiomq_test::MoreBodies kMore{{"meet", meet, nullptr}, {"nap", nap, nullptr}};

class Split : public testing::Test {
  protected:
    Split() : fd_(memfd_create("board", MFD_CLOEXEC)) {
        if (ftruncate(fd_, sizeof(Board)) == 0) board_ = map_board(fd_);
    }
    ~Split() override {
        munmap(static_cast<void *>(board_), sizeof(Board));
        close(fd_);
    }
    void expect_each_ran_once(std::uint32_t items) {
        for (std::uint32_t i = 0; i < items; ++i) EXPECT_EQ(board_->runs[i], 1U) << i;
    }

    int fd_;
    Board *board_ = nullptr;
};

}  // namespace

TEST_F(Split, IdleWorkersTakeItemsOfABusyOne) {
    TestPool pool({.workers = 4, .extra_fds = {fd_}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto chunk = pool.submit("meet", "4", 64);
    pool.collect_all();
    for (std::uint32_t i = 0; i < 64; ++i) EXPECT_EQ(pool.outcome(chunk, i).integer, i);
    expect_each_ran_once(64);
    EXPECT_GE(pool.pool_stats().splits, 3U);
    pool.wait_until([&] { return pool.nothing_in_use(); });
    EXPECT_LT(pool.pool_stats().request_used_bytes, 4096U) << "names of functions only";
}

/// Each of the chunk's items waits until all of them run, each in a worker of its own.
TEST_F(Split, NoItemWaitsBehindAnotherOneWhileAWorkerIsIdle) {
    for (const std::uint32_t items : {2U, 3U, 4U, 5U}) {
        board_->workers = 0;
        for (std::uint32_t i = 0; i < items; ++i) board_->runs[i] = 0;
        TestPool pool({.workers = items, .extra_fds = {fd_}});
        ASSERT_EQ(pool.created(), 0) << pool.error_text();
        pool.submit("meet", std::to_string(items), items);
        pool.collect_all();
        expect_each_ran_once(items);
        EXPECT_EQ(__builtin_popcount(board_->workers), items);
        pool.wait_until([&] { return pool.nothing_in_use(); });
    }
}

TEST_F(Split, TheSharedPayloadLivesUntilTheLastPart) {
    TestPool pool({.workers = 3, .extra_fds = {fd_}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string payload = "3" + std::string(100000, ' ');
    const auto chunk = pool.submit("meet", payload, 500, AIOMQ_TASK_PROGRESS);
    const auto other = pool.submit("meet", payload, 500);
    pool.collect_all();
    for (std::uint32_t i = 0; i < 500; ++i) {
        EXPECT_EQ(pool.outcome(chunk, i).status, AIOMQ_OK) << i;
        EXPECT_EQ(pool.outcome(other, i).status, AIOMQ_OK) << i;
    }
    pool.wait_until([&] { return pool.nothing_in_use(); });
    EXPECT_LT(pool.pool_stats().request_used_bytes, 4096U) << "names of functions only";
}

TEST_F(Split, CancelReachesEveryPart) {
    TestPool pool({.workers = 3, .extra_fds = {fd_}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto chunk = pool.submit("meet", "4", 300);  // one more than there are: nobody gets on
    pool.wait_until([&] { return __builtin_popcount(board_->workers) == 3; });
    EXPECT_EQ(aiomq_pool_cancel(pool.get(), chunk), 0);
    board_->open = 1;
    pool.collect_all();
    std::map<int, int> by_status;
    for (std::uint32_t i = 0; i < 300; ++i) {
        EXPECT_EQ(pool.outcome(chunk, i).times, 1) << i;
        ++by_status[pool.outcome(chunk, i).status];
        EXPECT_EQ(board_->runs[i], pool.outcome(chunk, i).status == AIOMQ_OK ? 1U : 0U) << i;
    }
    EXPECT_EQ(by_status[AIOMQ_OK], 3);
    EXPECT_EQ(by_status[AIOMQ_CANCELLED], 297);
    EXPECT_EQ(aiomq_pool_cancel(pool.get(), chunk), -ENOENT);
}

TEST_F(Split, AWorkersDeathCostsOnlyWhatItRan) {
    std::random_device random;
    TestPool pool({.workers = 3, .extra_fds = {fd_}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    int died = 0;
    int split = 0;
    for (int round = 0; round < 20; ++round) {
        for (auto &runs : board_->runs) runs = 0;
        const std::uint64_t splits = pool.pool_stats().splits;
        const auto chunk = pool.submit("nap", "", 400, round % 2 ? AIOMQ_TASK_PROGRESS : 0);
        // On a starved machine it may be over before the supervisor has run.
        pool.wait_until(
            [&] { return pool.pool_stats().splits > splits || board_->runs[399] != 0; });
        split += pool.pool_stats().splits > splits;
        pool.signal_worker(random() % 3, SIGKILL);
        pool.collect_all();
        for (std::uint32_t i = 0; i < 400; ++i) {
            const auto &outcome = pool.outcome(chunk, i);
            ASSERT_EQ(outcome.times, 1) << i;
            ASSERT_LE(board_->runs[i], 1U) << i;
            died += outcome.status == AIOMQ_WORKER_DIED;
            ASSERT_TRUE(outcome.status == AIOMQ_OK || outcome.status == AIOMQ_WORKER_DIED);
        }
    }
    EXPECT_GT(split, 0);
    EXPECT_GT(died, 0);
    EXPECT_LE(died, 20);
    pool.wait_until([&] { return pool.nothing_in_use(); });
}

TEST_F(Split, ATaskIsOverOnce) {
    TestPool pool({.workers = 4, .extra_fds = {fd_}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto chunk = pool.submit("meet", "4", 200, AIOMQ_TASK_PROGRESS);
    std::uint32_t items = 0;
    int ends = 0;
    while (items < 200) {
        aiomq_completion completion;
        if (aiomq_pool_collect(pool.get(), &completion, 1) == 0) {
            ASSERT_GT(aiomq_pool_wait(pool.get(), 20'000'000'000), 0);
            continue;
        }
        EXPECT_EQ(completion.task_id, chunk);
        EXPECT_EQ(ends, 0) << "something came after the last completion";
        items += completion.item_count;
        ends += completion.items_left == 0;
        EXPECT_EQ(completion.items_left, 200 - items);
        aiomq_pool_release(pool.get(), completion.loan);
    }
    EXPECT_EQ(ends, 1);
}
