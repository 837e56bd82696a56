// One pool used by many threads at once, with kills, cancels and few slots: every item of every task gets
// exactly one outcome, and at the end nothing is in use.
#include <atomic>
#include <mutex>
#include <random>
#include <thread>

#include "../support/pool_fixture.hpp"
#include "../unit/seeded.hpp"

using aiomq_test::Random;
using aiomq_test::TestPool;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// Who is owed what. Locked: the test's own bookkeeping must be beyond doubt.
class Ledger {
  public:
    void owe(std::uint64_t id, std::uint32_t items) {
        const std::lock_guard<std::mutex> lock(mutex_);
        auto &task = tasks_[id];  // its first items may have come before this call
        task.items = items;
        due_ += items;
    }
    void take(const aiomq_completion &completion) {
        const std::lock_guard<std::mutex> lock(mutex_);
        auto &task = tasks_[completion.task_id];
        for (std::uint32_t i = 0; i < completion.item_count; ++i) {
            const aiomq_item &item = completion.items[i];
            if (!task.seen.insert(item.index).second) wrong_ += "an item came twice; ";
            const bool known = item.status == AIOMQ_OK || item.status == AIOMQ_CANCELLED ||
                               item.status == AIOMQ_WORKER_DIED;
            if (!known) wrong_ += std::string(aiomq_outcome_name(item.status)) + "; ";
            ++by_status_[item.status];
        }
        came_ += completion.item_count;
        if (completion.items_left == 0) ++ended_;
    }
    bool settled() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return came_ == due_ || !wrong_.empty();
    }
    std::string verdict() {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (const auto &[id, task] : tasks_)
            if (task.seen.size() != task.items || *task.seen.rbegin() >= task.items)
                wrong_ += "task " + std::to_string(id) + " has " +
                          std::to_string(task.seen.size()) + " of " + std::to_string(task.items) +
                          " outcomes; ";
        if (ended_ != tasks_.size()) wrong_ += "last completions: " + std::to_string(ended_);
        return wrong_;
    }
    int count(int status) { return by_status_[status]; }

  private:
    struct Task {
        std::uint32_t items = 0;
        std::set<std::uint32_t> seen;
    };
    std::mutex mutex_;
    std::map<std::uint64_t, Task> tasks_;
    std::map<int, int> by_status_;
    std::uint64_t due_ = 0;
    std::uint64_t came_ = 0;
    std::uint64_t ended_ = 0;
    std::string wrong_;
};

class Stress {
  public:
    explicit Stress(TestPool &pool) : pool_(pool) {
        for (const char *name : {"nothing", "item_number", "make_bytes", "echo", "later"})
            EXPECT_EQ(aiomq_pool_function(pool.get(), name, &functions_[count_++]), 0);
    }

    void submit(unsigned stream, std::uint64_t count) {
        Random random(stream);
        std::vector<std::uint64_t> mine;
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::string payload = std::to_string(1 + random.below(9000));
            aiomq_task task{};
            task.struct_bytes = sizeof task;
            task.function = functions_[random.below(count_)];
            task.items = random.one_in(3) ? static_cast<std::uint32_t>(1 + random.below(40)) : 1;
            task.flags = random.one_in(3) ? AIOMQ_TASK_PROGRESS : 0;
            task.kind = AIOMQ_KIND_BYTES;
            task.payload = payload.data();
            task.payload_bytes = payload.size();
            std::uint64_t id = 0;
            int error = 0;
            while ((error = aiomq_pool_submit(pool_.get(), &task, &id)) == -EAGAIN ||
                   error == -ENOMEM)
                std::this_thread::yield();  // the collecting threads make room
            ASSERT_EQ(error, 0) << aiomq_strerror(error);
            ledger_.owe(id, task.items);
            mine.push_back(id);
            if (random.one_in(5)) aiomq_pool_cancel(pool_.get(), mine[random.below(mine.size())]);
        }
    }
    void collect() {
        while (!over_.load() || !ledger_.settled()) {
            aiomq_completion completions[8];
            const std::int64_t count = aiomq_pool_collect(pool_.get(), completions, 8);
            ASSERT_GE(count, 0);
            for (std::int64_t i = 0; i < count; ++i) {
                // The struct may not move, so what it holds is looked at here and released elsewhere.
                ledger_.take(completions[i]);
                const std::lock_guard<std::mutex> lock(loans_mutex_);
                loans_.push_back(completions[i].loan);
            }
            if (count == 0) {
                const int flags = aiomq_pool_wait(pool_.get(), 1'000'000);
                ASSERT_GE(flags, 0);
            }
        }
    }
    void release() {
        while (!released_.load()) {
            std::vector<std::uint64_t> loans;
            {
                const std::lock_guard<std::mutex> lock(loans_mutex_);
                loans.swap(loans_);
            }
            for (const std::uint64_t loan : loans)
                EXPECT_EQ(aiomq_pool_release(pool_.get(), loan), 0);
            if (loans.empty()) std::this_thread::yield();
        }
    }
    void kill_workers(std::uint32_t workers) {
        Random random(99);
        const bool slow_starts = kSanitized || aiomq_test::emulated();
        while (!over_.load()) {
            usleep(
                static_cast<useconds_t>(random.below(20000)));  // where it hits is what is random
            const auto stats =
                pool_.worker_stats(static_cast<std::uint32_t>(random.below(workers)));
            // A start that takes long takes longer than a life here, and nobody would get ready.
            if (slow_starts && stats.state != AIOMQ_WORKER_RUNNING) continue;
            if (stats.pid > 0) kill(stats.pid, SIGKILL);
        }
    }

    TestPool &pool_;
    std::uint32_t functions_[5] = {};
    std::size_t count_ = 0;
    Ledger ledger_;
    std::atomic<bool> over_{false};
    std::atomic<bool> released_{false};
    std::mutex loans_mutex_;
    std::vector<std::uint64_t> loans_;
};

void run(bool with_kills) {
    constexpr std::uint32_t kWorkers = 2;
    TestPool pool({.workers = kWorkers,
                   .capacity = 16,
                   .arena_max = 8 << 20,
                   .start_limit = 100000,
                   .environment = {"AIOMQ_TEST_CONCURRENCY=4"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    Stress stress(pool);
    const std::uint64_t count = aiomq_test::rounds(800, 200000);
    std::vector<std::thread> submitters;
    std::vector<std::thread> others;
    others.emplace_back([&] { stress.collect(); });
    others.emplace_back([&] { stress.collect(); });
    std::thread releaser([&] { stress.release(); });
    if (with_kills) others.emplace_back([&] { stress.kill_workers(kWorkers); });
    for (unsigned stream = 1; stream <= 3; ++stream)
        submitters.emplace_back([&, stream] { stress.submit(stream, count); });
    for (auto &thread : submitters) thread.join();
    stress.over_.store(true);
    for (auto &thread : others) thread.join();
    EXPECT_EQ(stress.ledger_.verdict(), "");
    EXPECT_GT(stress.ledger_.count(AIOMQ_OK), 0);
    printf("%d OK, %d CANCELLED, %d WORKER_DIED\n", stress.ledger_.count(AIOMQ_OK),
           stress.ledger_.count(AIOMQ_CANCELLED), stress.ledger_.count(AIOMQ_WORKER_DIED));
    if (!with_kills) {
        EXPECT_EQ(stress.ledger_.count(AIOMQ_WORKER_DIED), 0);
    }
    // When the last loan is back nothing is held; only the functions' names stay.
    pool.wait_until([&] {
        const std::lock_guard<std::mutex> lock(stress.loans_mutex_);
        return stress.loans_.empty();
    });
    stress.released_.store(true);
    releaser.join();
    pool.wait_until([&] { return pool.pool_stats().result_used_bytes == 0; });
    EXPECT_LT(pool.pool_stats().request_used_bytes, 1024U);
}

}  // namespace

TEST(PoolThreads, GetEveryOutcomeOnce) { run(false); }

TEST(PoolThreads, GetEveryOutcomeOnceWhileWorkersAreKilled) { run(true); }
