// Withdrawn tasks leave their hints behind. When these have filled a ring, all rings are emptied and filled
// anew, and whoever looked meanwhile has seen an empty one: the sleepers of every queue with hints are
// woken. The model withdraw.pml found that waking those of the full queue is not enough.
#include <sys/mman.h>

#include <atomic>

#include "../support/clock.hpp"
#include "../support/memory.hpp"
#include "../support/pool_fixture.hpp"
#include "../support/process.hpp"
#include "../unit/seeded.hpp"

using aiomq_test::GroupOptions;
using aiomq_test::Memory;
using aiomq_test::now_ns;
using aiomq_test::TestPool;

namespace {

constexpr std::uint32_t kFull = 0;         // the queue whose ring overflows; its worker is busy
constexpr std::uint32_t kOther = 1;        // the queue beside it, and the number of its worker
constexpr std::uint32_t kCapacity = 4096;  // its rings take some 100 µs to fill anew

/// What tells the workers to go on.
struct Board {
    std::atomic<std::uint32_t> over;   ///< 1: the busy worker may end
    std::atomic<std::uint32_t> round;  ///< tasks of rounds up to this may end
};

Board *map_board(int fd) {
    void *memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<Board *>(memory);
}
Board *board_of_worker() {
    static Board *board = map_board(AIOMQ_EXTRA_FD_BASE);
    return board;
}

int until_over(const aiomq_call *, aiomq_item *) {
    while (board_of_worker()->over == 0) sched_yield();
    return 0;
}

/// Payload "round cycles": from the round's start on it takes so many cycles.
int until_round(const aiomq_call *call, aiomq_item *) {
    unsigned round = 0;
    unsigned long long cycles = 0;
    if (std::sscanf(aiomq_test::payload_of(call).c_str(), "%u %llu", &round, &cycles) != 2)
        return -EINVAL;
    while (board_of_worker()->round < round) {
    }
    for (; cycles > 0; --cycles) asm volatile("");
    return 0;
}

const aiomq_test::MoreBodies kMore{{"until_over", until_over, nullptr},
                                   {"until_round", until_round, nullptr}};

GroupOptions group(std::uint32_t queue) {
    GroupOptions result;
    result.queues = {queue};
    return result;
}

class Withdrawn : public testing::Test {
  protected:
    Withdrawn()
        : fd_(memfd_create("board", MFD_CLOEXEC)),
          pool({.capacity = kCapacity,
                .spin_ns = 0,
                .blocked_after_ns = UINT64_MAX,
                .extra_fds = {fd_},
                .queues = {"full", "other"},
                .groups = {group(kFull), group(kOther)}}) {
        EXPECT_EQ(ftruncate(fd_, sizeof(Board)), 0);
        board = map_board(fd_);
        EXPECT_EQ(pool.created(), 0) << pool.error_text();
        memory = std::make_unique<Memory>();
        EXPECT_EQ(aiomq_pool_function(pool.get(), "nothing", &flood_.function), 0);
        flood_.struct_bytes = sizeof flood_;
        flood_.items = 1;
        flood_.queue = kFull;
        submit_to(kFull, "until_over");
        pool.wait_until([&] { return pool.worker_stats(kFull).running == 1; });
    }
    ~Withdrawn() override {
        board->over = 1;
        pool.destroy();
        munmap(static_cast<void *>(board), sizeof(Board));
        close(fd_);
    }

    std::uint64_t submit_to(std::uint32_t queue, const std::string &function,
                            const std::string &payload = {}) {
        aiomq_task task{};
        task.queue = static_cast<std::uint16_t>(queue);
        return pool.submit_task(task, function, payload);
    }
    void take_completions() {
        aiomq_completion completions[4];
        std::int64_t count = 0;
        while ((count = aiomq_pool_collect(pool.get(), completions, 4)) > 0)
            for (std::int64_t i = 0; i < count; ++i)
                if (completions[i].item.status == AIOMQ_OK) done_.insert(completions[i].task_id);
    }
    /// Returns when this task has run.
    void wait_for(std::uint64_t id) {
        for (take_completions(); done_.erase(id) == 0; take_completions())
            ASSERT_GT(aiomq_pool_wait(pool.get(), 20'000'000'000), 0) << "the task was forgotten";
    }
    /// Another task of the full queue.
    std::uint64_t submit_one() {
        std::uint64_t id = 0;
        EXPECT_EQ(aiomq_pool_submit(pool.get(), &flood_, &id), 0);
        return id;
    }
    void withdraw_one() {
        ASSERT_EQ(aiomq_pool_cancel(pool.get(), submit_one()), 0);
        take_completions();
    }
    void fill() {
        while (memory->hints(kFull) < memory->layout().ring_cells) withdraw_one();
    }
    void wait_for_sleep() {
        pool.wait_until([&] {
            return memory->sleeps(kOther) &&
                   aiomq_test::state_of(memory->record(kOther).pid) == 'S';
        });
    }
    /// Until no wake-up is due to be looked after.
    void wait_for_audit(std::uint64_t before) {
        pool.wait_until([&] { return pool.pool_stats().audits > before; });
    }

  private:
    int fd_;
    aiomq_task flood_{};
    std::set<std::uint64_t> done_;

  protected:
    Board *board = nullptr;
    TestPool pool;
    std::unique_ptr<Memory> memory;
};

}  // namespace

// The other queue's worker is brought to where it is when it has looked at the wrong moment: asleep, with
// a hint in its ring, and nobody about to wake it. An audit that comes late finds the hint, too: then all
// is done again.
TEST_F(Withdrawn, TasksThatFillARingDoNotLetAnotherQueuesWorkerSleepOn) {
    std::uint64_t id = 0;
    for (int attempt = 0; attempt < 20; ++attempt) {
        wait_for_sleep();
        const std::uint64_t audits = pool.pool_stats().audits;
        aiomq_test::stop(memory->record(kOther).pid);
        id = submit_to(kOther, "nothing");
        auto &head = memory->head(kOther);
        head.store_seq(head.load_seq() + 1);
        kill(memory->record(kOther).pid, SIGCONT);
        wait_for_audit(audits);
        wait_for_sleep();
        head.store_seq(head.load_seq() - 1);
        fill();
        if (memory->hints(kOther) == 1) break;
        wait_for(id);
    }
    ASSERT_EQ(memory->hints(kOther), 1U);
    const std::uint64_t sent = pool.pool_stats().wakeups_sent;
    submit_one();
    EXPECT_GT(pool.pool_stats().wakeups_sent, sent);
    wait_for(id);
}

// The same with a worker that ends one task at a moment that varies, so that it looks for the next one
// while the rings are filled anew. There is no audit under way, and checkups are far between: such a task
// waits for a second or so. Without the wake-up about one round in fifty is late.
TEST_F(Withdrawn, TasksThatFillARingDelayNoOtherQueue) {
    constexpr std::uint64_t kLongest = 500'000'000;  // a loaded machine has made it 200 ms twice
    aiomq_test::Random random;
    const auto rounds = static_cast<std::uint32_t>(aiomq_test::rounds(300, 20000));
    int late = 0;
    for (std::uint32_t round = 1; round <= rounds && late < 2; ++round) {
        wait_for_sleep();
        const aiomq_pool_stats before = pool.pool_stats();
        const std::uint64_t cycles = random.below(300000);
        submit_to(kOther, "until_round", std::to_string(round) + " " + std::to_string(cycles));
        // A worker that somebody else has just woken is not looked after.
        if (pool.pool_stats().wakeups_sent > before.wakeups_sent) wait_for_audit(before.audits);
        pool.wait_until([&] { return pool.worker_stats(kOther).running == 1; });
        const auto id = submit_to(kOther, "nothing");
        fill();
        const std::uint64_t start = now_ns();
        board->round = round;
        withdraw_one();
        wait_for(id);
        if (now_ns() - start > kLongest) ++late;
    }
    EXPECT_LT(late, 2);
}
