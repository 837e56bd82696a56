// What is run again after a worker's death, how often, and what those it took with it are told.
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <random>

#include "../support/go_signal.hpp"
#include "../support/pool_fixture.hpp"
#include "../unit/seeded.hpp"

using aiomq_test::GoSignal;
using aiomq_test::Outcome;
using aiomq_test::PoolOptions;
using aiomq_test::TestPool;

namespace {

/// How often each item ran, counted by the bodies below in memory that outlives workers.
class Runs {
  public:
    Runs() : fd_(memfd_create("aiomq-test-runs", MFD_CLOEXEC)) {
        EXPECT_EQ(ftruncate(fd_, kItems), 0);
    }
    ~Runs() { close(fd_); }
    int fd() const { return fd_; }
    int of(std::uint32_t item) const {
        unsigned char count = 0;
        EXPECT_EQ(pread(fd_, &count, 1, item), 1);
        return count;
    }
    static constexpr off_t kItems = 65536;

  private:
    int fd_;
};

/// Counts a run. Returns how many there were before.
int count_run(std::uint32_t item) {
    unsigned char count = 0;
    if (pread(AIOMQ_EXTRA_FD_BASE, &count, 1, item) != 1) abort();
    const int before = count++;
    if (pwrite(AIOMQ_EXTRA_FD_BASE, &count, 1, item) != 1) abort();
    return before;
}

/// Dies in as many attempts as the payload says.
int die_until(const aiomq_call *call, aiomq_item *ret) {
    const auto deaths = std::strtol(aiomq_test::payload_of(call).c_str(), nullptr, 10);
    if (call->job->attempt <= deaths) kill(getpid(), SIGKILL);
    return aiomq_test::return_integer(call->job->attempt, ret);
}

/// Every tenth item dies in its first run.
int die_in_first_run(const aiomq_call *call, aiomq_item *ret) {
    if (count_run(call->item) == 0 && call->item % 10 == 0) kill(getpid(), SIGKILL);
    return aiomq_test::return_integer(call->item, ret);
}

/// At first item 37 is never completed and item 60 dies.
int hold_37_die_at_60(const aiomq_call *call, aiomq_item *ret) {
    const int before = count_run(call->item);
    if (before == 0 && call->item == 37) return 1;
    if (before == 0 && call->item == 60) kill(getpid(), SIGKILL);
    return aiomq_test::return_integer(call->item, ret);
}

/// Item 0 is never completed; items 1 and 2 die in their first runs.
int hold_0_die_at_1_and_2(const aiomq_call *call, aiomq_item *ret) {
    const int before = count_run(call->item);
    if (call->item == 0) return 1;
    if (before == 0 && call->item <= 2) kill(getpid(), SIGKILL);
    return aiomq_test::return_integer(call->item, ret);
}

int never(const aiomq_call *, aiomq_item *) { return 1; }

const aiomq_test::MoreBodies kMore{{"die_until", die_until, nullptr},
                                   {"die_in_first_run", die_in_first_run, nullptr},
                                   {"hold_37_die_at_60", hold_37_die_at_60, nullptr},
                                   {"hold_0_die_at_1_and_2", hold_0_die_at_1_and_2, nullptr},
                                   {"never", never, nullptr}};

aiomq_task with_retries(std::uint32_t retries, std::uint32_t items = 1) {
    aiomq_task task{};
    task.items = items;
    task.retries = retries;
    return task;
}

aiomq_task with_payload(aiomq_task task, const std::string &payload) {
    task.kind = AIOMQ_KIND_BYTES;
    task.payload = payload.data();
    task.payload_bytes = payload.size();
    return task;
}

}  // namespace

TEST(Retries, ARunAfterADeathIsTheNextAttempt) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string twice = "2";
    const auto id = pool.submit_task("die_until", with_payload(with_retries(2), twice));
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
    EXPECT_EQ(pool.outcome(id).integer, 3) << "the worker sees the attempt";
    EXPECT_EQ(pool.outcome(id).attempt, 3U) << "and so does the application";
    EXPECT_EQ(pool.pool_stats().retried, 2U);
}

TEST(Retries, NothingIsRunMoreOftenThanAllowed) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string often = "100";
    const auto never_again = pool.submit_task("die_until", with_payload(with_retries(0), often));
    const auto once_more = pool.submit_task("die_until", with_payload(with_retries(1), often));
    pool.collect_all();
    EXPECT_EQ(pool.outcome(never_again).status, AIOMQ_WORKER_DIED);
    EXPECT_EQ(pool.outcome(never_again).attempt, 1U);
    EXPECT_EQ(pool.outcome(once_more).status, AIOMQ_WORKER_DIED);
    EXPECT_EQ(pool.outcome(once_more).attempt, 2U);
    aiomq_task task = with_retries(65535);
    task.struct_bytes = sizeof task;
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -EINVAL);
}

TEST(Retries, DeliveredItemsOfAChunkNeverRunTwice) {
    for (const std::uint32_t flags : {0U, static_cast<std::uint32_t>(AIOMQ_TASK_PROGRESS)}) {
        Runs runs;
        TestPool pool({.environment = {"AIOMQ_TEST_CONCURRENCY=4"}, .extra_fds = {runs.fd()}});
        ASSERT_EQ(pool.created(), 0) << pool.error_text();
        aiomq_task task = with_retries(1, 100);
        task.flags = flags;
        const auto chunk = pool.submit_task("hold_37_die_at_60", task);
        pool.collect_all();
        for (std::uint32_t i = 0; i < 100; ++i) {
            ASSERT_EQ(pool.outcome(chunk, i).status, AIOMQ_OK) << i;
            ASSERT_EQ(pool.outcome(chunk, i).integer, i);
            ASSERT_EQ(pool.outcome(chunk, i).times, 1) << i;
            ASSERT_EQ(runs.of(i), i == 37 || i == 60 ? 2 : 1) << i;
        }
        EXPECT_EQ(pool.pool_stats().retried, 2U);
        pool.wait_until([&] { return pool.nothing_in_use(); });
        EXPECT_LT(pool.pool_stats().request_used_bytes, 1024U) << "only functions' names stay";
    }
}

TEST(Retries, EveryItemOfAChunkHasItsOwn) {
    for (const std::uint32_t workers : {1U, 2U}) {
        Runs runs;
        TestPool pool({.workers = workers, .extra_fds = {runs.fd()}});
        ASSERT_EQ(pool.created(), 0) << pool.error_text();
        const auto chunk = pool.submit_task("die_in_first_run", with_retries(1, 100));
        pool.collect_all();
        for (std::uint32_t i = 0; i < 100; ++i) {
            ASSERT_EQ(pool.outcome(chunk, i).status, AIOMQ_OK) << i;
            ASSERT_EQ(runs.of(i), i % 10 == 0 ? 2 : 1) << i;
            if (workers == 1 && i % 10 == 0) {
                ASSERT_EQ(pool.outcome(chunk, i).attempt, i / 10 + 2);
            }
        }
        EXPECT_EQ(pool.pool_stats().retried, 10U);
    }
}

TEST(Retries, AreCountedByItemAlsoWhenADeathHitsDifferentAttempts) {
    Runs runs;
    TestPool pool({.environment = {"AIOMQ_TEST_CONCURRENCY=2"}, .extra_fds = {runs.fd()}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto chunk = pool.submit_task("hold_0_die_at_1_and_2", with_retries(1, 4));
    pool.collect_all();
    EXPECT_EQ(pool.outcome(chunk, 0).status, AIOMQ_WORKER_DIED) << "it had its second run";
    EXPECT_EQ(pool.outcome(chunk, 0).attempt, 2U);
    for (std::uint32_t i = 1; i < 4; ++i) EXPECT_EQ(pool.outcome(chunk, i).status, AIOMQ_OK) << i;
    EXPECT_EQ(pool.outcome(chunk, 2).attempt, 3U) << "one more than its first run";
    for (std::uint32_t i = 0; i < 4; ++i) EXPECT_EQ(runs.of(i), i == 3 ? 1 : 2) << i;
    EXPECT_EQ(pool.pool_stats().retried, 3U);
}

TEST(Retries, ACancelledTaskIsNotRunAgain) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (const std::uint32_t items : {1U, 5U}) {
        const std::string forever = "/nonexistent/aiomq";
        const auto id =
            pool.submit_task("wait_for_file", with_payload(with_retries(5, items), forever));
        pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
        EXPECT_EQ(aiomq_pool_cancel(pool.get(), id), 0);
        pool.signal_worker(0, SIGKILL);
        pool.collect_all();
        EXPECT_EQ(pool.outcome(id).status, AIOMQ_WORKER_DIED);
        for (std::uint32_t i = 1; i < items; ++i)
            EXPECT_EQ(pool.outcome(id, i).status, AIOMQ_CANCELLED);
        pool.wait_until([&] { return pool.worker_stats(0).state == AIOMQ_WORKER_RUNNING; });
    }
    EXPECT_EQ(pool.pool_stats().retried, 0U);
}

TEST(Retries, WhatStartedInTimeIsNotLateTheSecondTime) {
    GoSignal go;
    const std::string path = go.path();
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (const std::uint32_t items : {1U, 10U}) {
        aiomq_task task = with_payload(with_retries(1, items), path);
        task.start_within_ns = 300'000'000;
        const auto before = pool.outcomes().size();
        const auto id = pool.submit_task("wait_for_file", task);
        pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
        // A task behind it, late at the same time, says when that is.
        aiomq_task clock{};
        clock.start_within_ns = 310'000'000;
        pool.submit_task("nothing", clock);
        while (pool.outcomes().size() < before + items) ASSERT_TRUE(pool.collect_some());
        const auto pid = pool.worker_stats(0).pid;
        kill(pid, SIGKILL);
        pool.wait_until([&] {
            const auto stats = pool.worker_stats(0);
            return stats.state == AIOMQ_WORKER_RUNNING && stats.pid != pid;
        });
        go.give();
        pool.collect_all();
        go.take();
        EXPECT_EQ(pool.outcome(id, 0).status, AIOMQ_OK);
        EXPECT_EQ(pool.outcome(id, 0).attempt, 2U);
        for (std::uint32_t i = 1; i < items; ++i)
            EXPECT_EQ(pool.outcome(id, i).status, AIOMQ_EXPIRED) << i;
    }
}

TEST(Poison, ATaskThatKillsTooManyWorkersFailsWithTheListOfExits) {
    TestPool pool({.adjust = [](aiomq_pool_options &options) { options.poison_limit = 2; }});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string often = "100";
    const auto id = pool.submit_task("die_until", with_payload(with_retries(10), often));
    const auto after = pool.submit("item_number");
    pool.collect_all();
    const Outcome &outcome = pool.outcome(id);
    EXPECT_EQ(outcome.status, AIOMQ_WORKER_DIED);
    EXPECT_EQ(outcome.attempt, 2U);
    EXPECT_TRUE(outcome.error_message.starts_with("killed 2 workers: worker 0 (pid "))
        << outcome.error_message;
    EXPECT_NE(outcome.error_message.find("(SIGKILL); worker 0 (pid "), std::string::npos);
    EXPECT_EQ(pool.outcome(after).status, AIOMQ_OK);
    const aiomq_event event = pool.last_event(AIOMQ_EVENT_POISONED);
    EXPECT_NE(strstr(event.text, "item 0 of \"die_until\" killed 2 workers"), nullptr)
        << event.text;
}

TEST(Poison, OnlyTheItemsThatRanAreNotRunAgain) {
    TestPool pool({.adjust = [](aiomq_pool_options &options) { options.poison_limit = 2; }});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string fifth = "5";
    const auto id = pool.submit_task("die_at", with_payload(with_retries(10, 10), fifth));
    pool.collect_all();
    for (std::uint32_t i = 0; i < 10; ++i)
        EXPECT_EQ(pool.outcome(id, i).status, i == 5 ? AIOMQ_WORKER_DIED : AIOMQ_OK) << i;
    EXPECT_EQ(pool.pool_stats().retried, 1U);
}

TEST(Neighbours, LearnWhatWasOnTheThreadOfTheirWorker) {
    TestPool pool({.environment = {"AIOMQ_TEST_CONCURRENCY=4"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto neighbour = pool.submit("never");
    const std::string third = "3";
    const auto culprit = pool.submit_task("die_at", with_payload(with_retries(0, 5), third));
    pool.collect_all();
    EXPECT_EQ(pool.outcome(neighbour).status, AIOMQ_WORKER_DIED);
    EXPECT_NE(
        pool.outcome(neighbour).error_message.find("its thread was running item 3 of \"die_at\""),
        std::string::npos)
        << pool.outcome(neighbour).error_message;
    EXPECT_TRUE(
        pool.outcome(culprit, 3).error_message.ends_with(" while it ran this task on its thread"))
        << pool.outcome(culprit, 3).error_message;
}

TEST(Neighbours, AreNotToldOfItemsThatHadEnded) {
    TestPool pool({.environment = {"AIOMQ_TEST_CONCURRENCY=4"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto waiting = pool.submit("never");
    pool.submit("nothing");
    ASSERT_TRUE(pool.collect_some());
    pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
    pool.signal_worker(0, SIGKILL);
    pool.collect_all();
    EXPECT_TRUE(pool.outcome(waiting).error_message.ends_with(" while it ran this task"))
        << pool.outcome(waiting).error_message;
}

TEST(Retries, RandomKillsCostNothingButTime) {
    TestPool pool({.workers = 3,
                   .start_limit = 1000,
                   .environment = {"AIOMQ_TEST_CONCURRENCY=4"},
                   .adjust = [](aiomq_pool_options &options) { options.poison_limit = 10000; }});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    std::mt19937 engine(aiomq_test::seed());
    const auto random = [&] { return static_cast<std::uint32_t>(engine()); };
    const std::uint64_t rounds = aiomq_test::rounds(60, 3000);
    for (std::uint64_t round = 0; round < rounds; ++round) {
        for (int i = 0; i < 20; ++i) {
            aiomq_task task = with_retries(10000, random() % 3 == 0 ? 1 + random() % 80 : 1);
            if (random() % 2 == 0) task.flags = AIOMQ_TASK_PROGRESS;
            if (random() % 2 == 0) task.timeout_ns = task.start_within_ns = 60'000'000'000;
            pool.submit_task(random() % 2 == 0 ? "later" : "item_number", task);
        }
        const auto pid = pool.worker_stats(random() % 3).pid;
        if (pid > 0) kill(pid, SIGKILL);
    }
    pool.collect_all();
    for (const auto &[id, outcome] : pool.outcomes()) {
        ASSERT_EQ(outcome.times, 1);
        ASSERT_EQ(outcome.status, AIOMQ_OK) << outcome.error_message;
        ASSERT_EQ(outcome.integer, id.second) << "each item's own result";
    }
    pool.wait_until([&] {
        pool.collect_some(0);
        return pool.pool_stats().request_used_bytes < 1024;  // the functions' names
    });
    const auto stats = pool.pool_stats();
    printf("%llu retried, %llu requeued\n", static_cast<unsigned long long>(stats.retried),
           static_cast<unsigned long long>(stats.requeued));
}
