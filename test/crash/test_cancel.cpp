// A cancel reaches what runs, however much is queued behind it.
#include <sched.h>

#include <algorithm>
#include <cerrno>

#include "../support/clock.hpp"
#include "../support/pool_fixture.hpp"

using aiomq_test::now_ns;
using aiomq_test::return_integer;
using aiomq_test::TestPool;

namespace {

constexpr std::uint32_t kQueued = 10'000;
constexpr int kTries = 5;
constexpr std::uint64_t kSoon = 50'000'000;

struct Running {
    aiomq_worker *worker;
    std::uint32_t job;
    std::uint32_t item;
};
std::vector<Running> running;

/// Ends when it is cancelled.
int wait_for_cancel(const aiomq_call *call, aiomq_item *) {
    running.push_back({call->worker, call->job->job, call->item});
    return 1;
}

void end_cancelled(void *, std::uint32_t job, std::uint32_t) {
    for (const Running &entry : std::exchange(running, {})) {
        if (entry.job != job) {
            running.push_back(entry);
            continue;
        }
        aiomq_item item{};
        item.index = entry.item;
        item.status = AIOMQ_CANCELLED;
        if (aiomq_worker_complete(entry.worker, job, &item) < 0) abort();
    }
}

/// Claims what comes next, waits until that is cancelled, and tells what starting it then says.
int claim_and_wait(const aiomq_call *call, aiomq_item *ret) {
    aiomq_job job{};
    while (aiomq_worker_claim(call->worker, &job, 1) != 1) sched_yield();
    std::uint32_t cancelled = 0;
    while (aiomq_worker_cancelled(call->worker, &cancelled) != 1) sched_yield();
    std::uint32_t item = 0;
    return return_integer(
        cancelled == job.job ? aiomq_worker_start(call->worker, job.job, &item) : -1, ret);
}

/// Takes a cancel out of the inbox without looking at it, as any call may that needs memory; then the worker
/// must not sleep on it. Tells whether it would.
int sleep_on_a_cancel(const aiomq_call *call, aiomq_item *ret) {
    void *data = nullptr;
    std::uint32_t job = 0;
    while (aiomq_worker_sleep(call->worker, 0) != 1) {  // until something is there
        aiomq_worker_wake(call->worker, 0);
        sched_yield();
    }
    if (aiomq_worker_alloc(call->worker, call->job->job, 100, &data) != 0) return -1;
    const int there = aiomq_worker_sleep(call->worker, 0);
    aiomq_worker_wake(call->worker, 0);
    while (aiomq_worker_cancelled(call->worker, &job) != 1) sched_yield();
    return return_integer(there, ret);
}

const aiomq_test::MoreBodies kMore{{"wait_for_cancel", wait_for_cancel, nullptr},
                                   {"claim_and_wait", claim_and_wait, nullptr},
                                   {"sleep_on_a_cancel", sleep_on_a_cancel, nullptr}};
const aiomq_test::OnCancel kCancel(end_cancelled);

/// The shortest time of several that a cancel takes to come back as an outcome of every item: what it takes
/// when the machine does not do something else just then.
std::uint64_t cancel_latency(std::uint32_t items) {
    TestPool pool(
        {.capacity = 16384, .environment = {"AIOMQ_TEST_CONCURRENCY=" + std::to_string(items)}});
    EXPECT_EQ(pool.created(), 0) << pool.error_text();
    std::vector<std::uint64_t> times;
    for (int i = 0; i < kTries; ++i) {
        const auto id = pool.submit("wait_for_cancel", {}, items);
        pool.wait_until([&] { return pool.worker_stats(0).running == items; });
        for (std::uint32_t task = 0; task < kQueued; ++task) pool.submit("nothing");
        EXPECT_EQ(pool.queue_stats(0).ready, kQueued);
        const std::uint64_t start = now_ns();
        EXPECT_EQ(aiomq_pool_cancel(pool.get(), id), 0);
        while (pool.outcome(id, items - 1).times == 0)
            if (!pool.collect_some()) return UINT64_MAX;
        times.push_back(now_ns() - start);
        pool.collect_all();
        EXPECT_EQ(pool.outcome(id).status, AIOMQ_CANCELLED);
    }
    return *std::min_element(times.begin(), times.end());
}

}  // namespace

TEST(Cancel, ReachesATaskPastALongQueue) { EXPECT_LT(cancel_latency(1), kSoon); }
TEST(Cancel, ReachesTheItemsOfAChunkPastALongQueue) { EXPECT_LT(cancel_latency(8), kSoon); }

TEST(Cancel, OfWhatIsClaimedAndHasNotStartedKeepsItFromStarting) {
    for (const std::uint32_t items : {1U, 3U}) {
        TestPool pool;
        ASSERT_EQ(pool.created(), 0) << pool.error_text();
        const auto first = pool.submit("claim_and_wait");
        pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
        const auto second = pool.submit("nothing", {}, items);
        pool.wait_until([&] { return pool.queue_stats(0).ready == 0; });
        ASSERT_EQ(aiomq_pool_cancel(pool.get(), second), 0);
        pool.collect_all();
        EXPECT_EQ(pool.outcome(first).integer, -ENODATA);
        for (std::uint32_t item = 0; item < items; ++item) {
            EXPECT_EQ(pool.outcome(second, item).status, AIOMQ_CANCELLED);
            EXPECT_EQ(pool.outcome(second, item).times, 1);
        }
    }
}

TEST(Cancel, IsNotSleptOn) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto id = pool.submit("sleep_on_a_cancel");
    pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
    ASSERT_EQ(aiomq_pool_cancel(pool.get(), id), 0);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).integer, 1);
}
