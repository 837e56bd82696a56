// A worker scribbles over all that it may write, and the dispatcher still gives every item one outcome.
// Values may be wrong, tasks may be lost to the damage, the pool may break: never a crash, a hang, or a
// read outside of the memory, in the dispatcher or in a view.
//
// AIOMQ_TEST_ROUNDS sets how many rounds each test has, AIOMQ_TEST_SEED the first one's seed.
#include <time.h>

#include <atomic>
#include <thread>

#include "../support/scribbler.hpp"

using namespace aiomq_test;  // NOLINT(google-build-using-namespace)

namespace {

constexpr std::uint32_t kWorkers = 3;
constexpr std::uint32_t kCapacity = 64;
const aiomq_test::MoreBodies kMore{aiomq_test::kScribble};

/// Reads all that a view has until it is told to stop.
class Onlooker {
  public:
    explicit Onlooker(aiomq_pool *pool) {
        EXPECT_EQ(aiomq_pool_view(pool, &view_), 0);
        thread_ = std::thread([this] {
            while (!stop_.load()) look();
        });
    }
    ~Onlooker() {
        stop_.store(true);
        thread_.join();
        aiomq_view_close(&view_);
    }
    Onlooker(const Onlooker &) = delete;
    Onlooker &operator=(const Onlooker &) = delete;

  private:
    void look() {
        aiomq_pool_stats pool{};
        pool.struct_bytes = sizeof pool;
        EXPECT_EQ(aiomq_view_pool(view_, &pool), 0);
        aiomq_queue_stats queue{};
        queue.struct_bytes = sizeof queue;
        EXPECT_EQ(aiomq_view_queue(view_, 0, &queue), 0);
        for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
            aiomq_worker_stats stats{};
            stats.struct_bytes = sizeof stats;
            EXPECT_EQ(aiomq_view_worker(view_, worker, &stats), 0);
        }
        for (std::uint32_t slot = 0; slot < kCapacity; ++slot) {
            aiomq_task_stats task{};
            task.struct_bytes = sizeof task;
            const int error = aiomq_view_task(view_, slot, &task);
            EXPECT_TRUE(error == 0 || error == -ENODATA || error == -EBADMSG) << error;
            EXPECT_LT(strnlen(task.function, sizeof task.function), sizeof task.function);
        }
        for (std::uint64_t i = 0; i < 70; ++i) {
            aiomq_event event{};
            (void)aiomq_view_event(view_, i, &event);
        }
        poll_a_little();
    }
    static void poll_a_little() {
        const timespec moment{0, 200'000};
        nanosleep(&moment, nullptr);
    }

    aiomq_view *view_ = nullptr;
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

class Round {
  public:
    Round(std::uint64_t seed, std::uint64_t mode)
        : random_(seed),
          pool_({.workers = kWorkers,
                 .capacity = kCapacity,
                 .arena_max = 1 << 20,
                 .blocked_after_ns = 20'000'000}) {
        EXPECT_EQ(pool_.created(), 0) << pool_.error_text();
        if (pool_.created() != 0) return;
        const Onlooker onlooker(pool_.get());
        const std::uint64_t tasks = 8 + random_.below(40);
        const std::uint64_t culprit = random_.below(tasks);
        for (std::uint64_t i = 0; i < tasks; ++i) {
            if (i == culprit || random_.below(16) == 0)
                submit("scribble",
                       std::to_string(random_.next()) + " " + std::to_string(mode) + " " +
                           std::to_string(random_.below(3)),
                       1, 0);
            else
                submit_something();
        }
        collect();
    }

  private:
    void submit_something() {
        const std::uint32_t flags = random_.below(2) == 0 ? 0 : AIOMQ_TASK_PROGRESS;
        const auto items = static_cast<std::uint32_t>(2 + random_.below(100));
        switch (random_.below(6)) {
            case 0:
                return submit("nothing", {}, 1, 0);
            case 1:
                return submit("echo", std::string(random_.below(200), 'e'), 1, 0);
            case 2:
                return submit("make_bytes", std::to_string(1 + random_.below(20000)), 1, 0);
            case 3:
                return submit("echo", std::string(random_.below(200), 'c'), items, flags);
            case 4:
                return submit("item_number", {}, items, flags);
            default:
                return submit("refuse", {}, items, flags);
        }
    }

    /// A pool that has broken meanwhile refuses: then there is nothing to wait for.
    void submit(const std::string &function, const std::string &payload, std::uint32_t items,
                std::uint32_t flags) {
        aiomq_task task{};
        task.struct_bytes = sizeof task;
        const int known = aiomq_pool_function(pool_.get(), function.c_str(), &task.function);
        task.kind = AIOMQ_KIND_BYTES;
        task.items = items;
        task.flags = flags;
        task.payload = payload.empty() ? nullptr : payload.data();
        task.payload_bytes = payload.size();
        std::uint64_t id = 0;
        const int error = known != 0 ? known : aiomq_pool_submit(pool_.get(), &task, &id);
        EXPECT_TRUE(error == 0 || error == -EPIPE) << error;
        if (error == 0) due_ += items;
    }

    void collect() {
        const std::uint64_t end = now_ns() + 20'000'000'000;
        std::set<std::pair<std::uint64_t, std::uint32_t>> seen;
        aiomq_completion completions[8];
        while (seen.size() < due_) {
            const std::int64_t count = aiomq_pool_collect(pool_.get(), completions, 8);
            ASSERT_GE(count, 0);
            for (std::int64_t i = 0; i < count; ++i) take(completions[i], seen);
            if (count > 0) continue;
            ASSERT_LT(now_ns(), end) << "hung: " << seen.size() << " of " << due_ << " outcomes";
            ASSERT_GE(aiomq_pool_wait(pool_.get(), end - now_ns()), 0);
        }
        EXPECT_EQ(aiomq_pool_collect(pool_.get(), completions, 8), 0) << "too many outcomes";
    }

    void take(const aiomq_completion &completion,
              std::set<std::pair<std::uint64_t, std::uint32_t>> &seen) {
        for (std::uint32_t i = 0; i < completion.item_count; ++i) {
            const aiomq_item &item = completion.items[i];
            EXPECT_TRUE(seen.insert({completion.task_id, item.index}).second)
                << "item " << item.index << " has two outcomes";
            EXPECT_TRUE(item.status >= AIOMQ_OK && item.status <= AIOMQ_POOL_CLOSED);
            if (item.kind < AIOMQ_KIND_BYTES) continue;
            unsigned sum = 0;  // every byte can be read
            for (std::uint64_t byte = 0; byte < item.bytes; ++byte)
                sum += static_cast<const unsigned char *>(item.value.data)[byte];
            sum_ += sum;
            std::vector<char> buffer(item.bytes + 64);
            aiomq_error error{};
            if (item.kind == AIOMQ_KIND_ERROR)
                (void)aiomq_error_decode(&item, buffer.data(), buffer.size(), &error);
        }
        EXPECT_EQ(aiomq_pool_release(pool_.get(), completion.loan), 0);
    }

    Splitmix random_;
    TestPool pool_;
    std::uint64_t due_ = 0;
    unsigned sum_ = 0;
};

std::uint64_t variable(const char *name, std::uint64_t otherwise) {
    const char *value = getenv(name);
    return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

void rounds(std::uint64_t mode) {
    const std::uint64_t first = variable("AIOMQ_TEST_SEED", 1 + 1000 * mode);
    const std::uint64_t count = variable("AIOMQ_TEST_ROUNDS", 20);
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        SCOPED_TRACE("AIOMQ_TEST_SEED=" + std::to_string(seed));
        const Round round(seed, mode);
        if (testing::Test::HasFailure()) return;
    }
}

}  // namespace

TEST(HostileWorker, ScribblesOnSlots) { rounds(kSlots); }
TEST(HostileWorker, ScribblesOnWhatAllShare) { rounds(kCommon); }
TEST(HostileWorker, ScribblesOnSleepersAndRings) { rounds(kSleepers); }
TEST(HostileWorker, ScribblesOnItsOwnArea) { rounds(kOwnArea); }
TEST(HostileWorker, ScribblesOnItsResults) { rounds(kOwnArena); }
TEST(HostileWorker, FlipsOneBit) { rounds(kOneBit); }
TEST(HostileWorker, FillsTheSlots) { rounds(kWholeSlots); }
TEST(HostileWorker, FillsEverything) { rounds(kEverything); }
TEST(HostileWorker, ScribblesAgainAndAgain) { rounds(kAgain); }
