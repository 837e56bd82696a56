// Tasks with a key: the same key, the same worker, in order; and no outcome less when that worker dies.
#include <algorithm>
#include <random>

#include "../support/go_signal.hpp"
#include "../support/pool_fixture.hpp"
#include "../unit/seeded.hpp"

using aiomq_test::GoSignal;
using aiomq_test::Outcome;
using aiomq_test::return_integer;
using aiomq_test::TestPool;

namespace {

/// How many times this process has been here.
int stamp(const aiomq_call *, aiomq_item *ret) {
    static std::int64_t count = 0;
    return return_integer(++count, ret);
}

/// Gives the item's number; item 3 kills the worker, unless the file that the payload names exists: it
/// is made first.
int die_once_at_3(const aiomq_call *call, aiomq_item *ret) {
    const std::string path = aiomq_test::payload_of(call);
    if (call->item == 3 && access(path.c_str(), F_OK) != 0) {
        close(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        kill(getpid(), SIGKILL);
    }
    return return_integer(call->item, ret);
}

const aiomq_test::MoreBodies kMore{{"stamp", stamp, nullptr},
                                   {"die_once_at_3", die_once_at_3, nullptr}};

std::uint64_t submit_keyed(TestPool &pool, std::uint64_t key, const std::string &function,
                           const std::string &payload = {}, std::uint32_t items = 1) {
    aiomq_task task{};
    task.flags = AIOMQ_TASK_KEYED;
    task.key = key;
    task.items = items;
    return pool.submit_task(task, function, payload);
}

/// A key that belongs to @worker now.
std::uint64_t key_of(TestPool &pool, std::uint32_t worker, std::uint64_t first = 0) {
    for (std::uint64_t key = first;; ++key) {
        const auto id = submit_keyed(pool, key, "nothing");
        pool.collect_all();
        if (pool.outcome(id).worker == worker) return key;
    }
}

/// Keeps @worker busy with a task of its own, from when it runs until @go is given.
std::uint64_t hold(TestPool &pool, std::uint32_t worker, std::uint64_t key, const GoSignal &go) {
    const auto id = submit_keyed(pool, key, "wait_for_file", go.path());
    pool.wait_until([&] { return pool.worker_stats(worker).running == 1; });
    return id;
}

void expect_in_order(TestPool &pool, const std::vector<std::uint64_t> &ids) {
    std::int64_t last = 0;
    for (const auto id : ids) {
        ASSERT_EQ(pool.outcome(id).status, AIOMQ_OK);
        ASSERT_GT(pool.outcome(id).integer, last);
        last = pool.outcome(id).integer;
    }
}

}  // namespace

TEST(Key, BelongsToOneWorkerAndKeepsItsOrder) {
    TestPool pool({.workers = 4, .capacity = 1024});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    std::map<std::uint64_t, std::vector<std::uint64_t>> by_key;
    for (int i = 0; i < 6000; ++i) {
        const std::uint64_t key = static_cast<std::uint64_t>(i) * 37 % 200;
        by_key[key].push_back(submit_keyed(pool, key, "stamp"));
    }
    pool.collect_all();
    std::map<std::uint32_t, int> keys_of_worker;
    for (const auto &[key, ids] : by_key) {
        ++keys_of_worker[pool.outcome(ids[0]).worker];
        for (const auto id : ids) ASSERT_EQ(pool.outcome(id).worker, pool.outcome(ids[0]).worker);
        expect_in_order(pool, ids);
    }
    ASSERT_EQ(keys_of_worker.size(), 4U);
    for (const auto &[worker, keys] : keys_of_worker) EXPECT_GT(keys, 25) << "of 200";
}

TEST(Key, WaitsForItsWorkerWhileOthersAreIdle) {
    TestPool pool({.workers = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto key = key_of(pool, 0);
    GoSignal go;
    hold(pool, 0, key, go);
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 10; ++i) ids.push_back(submit_keyed(pool, key, "stamp"));
    std::vector<std::uint64_t> plain;
    for (int i = 0; i < 20; ++i) plain.push_back(pool.submit("nothing"));
    while (pool.outcomes().size() + 11 < pool.items_due()) ASSERT_TRUE(pool.collect_some());
    for (const auto id : plain) EXPECT_EQ(pool.outcome(id).worker, 1U);
    EXPECT_EQ(pool.worker_stats(0).keyed, 10U);
    EXPECT_EQ(pool.worker_stats(1).keyed, 0U);
    EXPECT_EQ(pool.queue_stats(0).ready, 10U);
    go.give();
    pool.collect_all();
    for (const auto id : ids) EXPECT_EQ(pool.outcome(id).worker, 0U);
    expect_in_order(pool, ids);
    EXPECT_EQ(pool.worker_stats(0).keyed, 0U);
}

TEST(Key, WakesOnlyItsWorker) {
    TestPool pool({.workers = 2, .spin_ns = 0});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto key = key_of(pool, 0);
    const auto asleep = [&] {
        return pool.worker_stats(0).sleeping == 1 && pool.worker_stats(1).sleeping == 1;
    };
    pool.wait_until(asleep);
    const auto before = pool.worker_stats(1).wakeups;
    for (int i = 0; i < 20; ++i) {
        submit_keyed(pool, key, "nothing");
        pool.collect_all();
        pool.wait_until(asleep);
    }
    EXPECT_EQ(pool.worker_stats(1).wakeups, before);
}

TEST(Key, OfADeadWorkerStaysInItsPlaceWithAllThatIsQueued) {
    TestPool pool({.workers = 3, .capacity = 2048});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto key = key_of(pool, 1);
    GoSignal go;
    const auto held = hold(pool, 1, key, go);
    std::vector<std::uint64_t> ids;  // more than an inbox holds
    for (int i = 0; i < 1000; ++i) ids.push_back(submit_keyed(pool, key, "stamp"));
    pool.signal_worker(1, SIGKILL);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(held).status, AIOMQ_WORKER_DIED);
    for (const auto id : ids) {
        ASSERT_EQ(pool.outcome(id).times, 1);
        ASSERT_EQ(pool.outcome(id).worker, 1U);
    }
    expect_in_order(pool, ids);
}

TEST(Key, OfAChunkKeepsItsRestInThePlaceOfTheDead) {
    TestPool pool({.workers = 3});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto key = key_of(pool, 2);
    GoSignal died;
    const auto chunk = submit_keyed(pool, key, "die_once_at_3", died.path(), 200);
    pool.collect_all();
    for (std::uint32_t item = 0; item < 200; ++item) {
        ASSERT_EQ(pool.outcome(chunk, item).times, 1) << item;
        ASSERT_EQ(pool.outcome(chunk, item).worker, 2U) << item;
        ASSERT_EQ(pool.outcome(chunk, item).status, item == 3 ? AIOMQ_WORKER_DIED : AIOMQ_OK);
    }
}

TEST(Key, OfAQueuedTaskDoesNotKeepItFromBeingCancelled) {
    TestPool pool({.workers = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto key = key_of(pool, 0);
    GoSignal go;
    hold(pool, 0, key, go);
    const auto first = submit_keyed(pool, key, "stamp");
    const auto second = submit_keyed(pool, key, "stamp");
    ASSERT_EQ(aiomq_pool_cancel(pool.get(), first), 0);
    while (pool.outcomes().count({first, 0}) == 0) ASSERT_TRUE(pool.collect_some());
    EXPECT_EQ(pool.outcome(first).status, AIOMQ_CANCELLED);
    // Its slot is used again, which the hint that is left behind must not take for it.
    const auto third = pool.submit("nothing");
    go.give();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(second).integer, 1) << "the cancelled one never ran";
    EXPECT_EQ(pool.outcome(third).status, AIOMQ_OK);
    EXPECT_EQ(pool.outcome(first).times, 1);
}

TEST(Key, OfAPlaceThatCantBeFilledGoesToAnotherAndComesBack) {
    GoSignal refusal;
    TestPool pool({.workers = 2,
                   .start_limit = 1000,
                   .environment = {std::string("AIOMQ_TEST_REFUSE=") + refusal.path()}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto key = key_of(pool, 0);
    const auto other_key = key_of(pool, 1);
    GoSignal go;
    const auto held = hold(pool, 0, key, go);
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(submit_keyed(pool, key, "stamp"));
    refusal.give();
    pool.signal_worker(0, SIGKILL);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(held).status, AIOMQ_WORKER_DIED);
    for (const auto id : ids) EXPECT_EQ(pool.outcome(id).worker, 1U);
    expect_in_order(pool, ids);
    const auto meanwhile = submit_keyed(pool, key, "stamp");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(meanwhile).worker, 1U);
    // What waits for the other worker goes home too.
    GoSignal go_too;
    hold(pool, 1, other_key, go_too);
    const auto waiting = submit_keyed(pool, key, "stamp");
    const auto other = submit_keyed(pool, other_key, "stamp");
    refusal.take();
    pool.wait_until([&] {
        return pool.outcomes().count({waiting, 0}) || (pool.collect_some(0), false);
    });
    EXPECT_EQ(pool.outcome(waiting).worker, 0U);
    go_too.give();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(other).worker, 1U);
    EXPECT_EQ(pool.outcome(submit_keyed(pool, key, "stamp")).times, 0);
    pool.collect_all();
}

TEST(Key, BeyondAnInboxNeedsNoDispatch) {
    TestPool pool({.workers = 1, .capacity = 4096});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go;
    hold(pool, 0, 1, go);
    for (int i = 0; i < 3000; ++i) submit_keyed(pool, 1, "nothing");
    go.give();
    // An application that only collects, and never asks to be woken.
    aiomq_completion completions[64];
    std::int64_t taken = 0;
    for (int looks = 0; taken < 3001 && looks < 20000; ++looks) {
        const auto count = aiomq_pool_collect(pool.get(), completions, 64);
        for (std::int64_t i = 0; i < count; ++i)
            aiomq_pool_release(pool.get(), completions[i].loan);
        taken += count;
        if (count == 0) usleep(1000);
    }
    EXPECT_EQ(taken, 3001);
}

TEST(Key, AndRandomKillsLoseNothing) {
    TestPool pool({.workers = 3,
                   .capacity = 512,
                   .start_limit = 1000,
                   .environment = {"AIOMQ_TEST_CONCURRENCY=4"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    std::mt19937 engine(aiomq_test::seed());
    const auto random = [&] { return static_cast<std::uint32_t>(engine()); };
    const std::uint64_t rounds = aiomq_test::rounds(200, 3000);
    std::vector<std::uint64_t> cancelled;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        for (int i = 0; i < 20; ++i) {
            switch (random() % 4) {
                case 0:
                    submit_keyed(pool, random() % 30, "later");
                    break;
                case 1:
                    submit_keyed(pool, random() % 30, "item_number", "", 1 + random() % 50);
                    break;
                case 2:
                    cancelled.push_back(submit_keyed(pool, random() % 30, "nothing"));
                    aiomq_pool_cancel(pool.get(), cancelled.back());
                    break;
                default:
                    pool.submit("make_bytes", std::to_string(1 + random() % 3000));
            }
        }
        // SIGTERM to all within a short time would close the pool.
        const std::uint32_t worker = random() % 3;
        const auto pid = pool.worker_stats(worker).pid;
        if (pid > 0) kill(pid, worker == 0 ? SIGTERM : SIGKILL);
        char why[512];
        ASSERT_LT(aiomq_pool_state(pool.get(), why, sizeof why), AIOMQ_POOL_CLOSING) << why;
    }
    pool.collect_all();
    std::map<int, int> by_status;
    for (const auto &[id, outcome] : pool.outcomes()) {
        ASSERT_EQ(outcome.times, 1);
        ASSERT_TRUE(outcome.status == AIOMQ_OK || outcome.status == AIOMQ_WORKER_DIED ||
                    outcome.status == AIOMQ_CANCELLED)
            << outcome.status << outcome.error_type << ": " << outcome.error_message;
        ++by_status[outcome.status];
    }
    EXPECT_GT(by_status[AIOMQ_OK], by_status[AIOMQ_WORKER_DIED]);
    EXPECT_LT(pool.pool_stats().request_used_bytes, 1024U) << "only the functions' names stay";
    for (std::uint32_t worker = 0; worker < 3; ++worker)
        EXPECT_EQ(pool.worker_stats(worker).keyed, 0U);
}
