// Workers that die: every item still gets exactly one outcome, and the pool is as good as before.
#include <fcntl.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "../support/go_signal.hpp"
#include "../support/pool_fixture.hpp"
#include "../support/process.hpp"
#include "../unit/seeded.hpp"

using aiomq_test::GoSignal;
using aiomq_test::Outcome;
using aiomq_test::PoolOptions;
using aiomq_test::seed;
using aiomq_test::TestPool;

namespace {

/// Runs its item and all after it with aiomq_worker_next(), and dies at the one that the payload names.
/// Of what it sees that is wrong it tells by an abort, which is another signal.
int go_on(const aiomq_call *call, aiomq_item *) {
    const std::uint32_t victim =
        static_cast<std::uint32_t>(std::stoul(aiomq_test::payload_of(call)));
    const std::uint32_t job = call->job->job;
    aiomq_item item{};
    item.status = AIOMQ_OK;
    item.kind = AIOMQ_KIND_INT;
    std::uint32_t next = call->item;
    for (int over = 0; over == 0;) {
        if (next == victim) kill(getpid(), SIGKILL);
        item.index = next;
        item.value.integer = next;
        over = aiomq_worker_next(call->worker, job, &item, &next);
        std::uint32_t again = 0;
        const int repeated = aiomq_worker_next(call->worker, job, &item, &again);
        if (over < 0 || repeated != (over == 1 ? -EINVAL : -EALREADY) || again != UINT32_MAX)
            abort();
        if (over == 0 && next != item.index + 1) abort();
    }
    return next == UINT32_MAX ? 1 : -EPROTO;  // 1: this item is completed elsewhere, as it was
}
const aiomq_test::MoreBodies kMore{{"go_on", go_on, nullptr}};

}  // namespace

TEST(Deaths, AStartedTaskGetsWorkerDiedWithTheSignal) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto victim = pool.submit("die_at", "0");
    const auto after = pool.submit("nothing");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(victim).status, AIOMQ_WORKER_DIED);
    EXPECT_EQ(pool.outcome(victim).signal, SIGKILL);
    EXPECT_EQ(pool.outcome(victim).error_type, "aiomq.WorkerDied");
    EXPECT_NE(pool.outcome(victim).error_message.find("SIGKILL"), std::string::npos);
    EXPECT_EQ(pool.outcome(after).status, AIOMQ_OK);
    EXPECT_EQ(pool.pool_stats().restarts, 1U);
}

TEST(Deaths, AnExitIsToldWithItsStatus) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto victim = pool.submit("exit_with", "42");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(victim).status, AIOMQ_WORKER_DIED);
    EXPECT_NE(pool.outcome(victim).error_message.find("status 42"), std::string::npos);
}

TEST(Deaths, OneItemOfAChunkCostsOnlyItself) {
    TestPool pool;  // one worker: nobody splits the chunk
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto chunk = pool.submit("die_at", "500", 1000);
    pool.collect_all();
    for (std::uint32_t i = 0; i < 1000; ++i) {
        const Outcome &outcome = pool.outcome(chunk, i);
        ASSERT_EQ(outcome.times, 1) << i;
        ASSERT_EQ(outcome.status, i == 500 ? AIOMQ_WORKER_DIED : AIOMQ_OK) << i;
        if (i != 500) {
            ASSERT_EQ(outcome.integer, i);
        }
    }
    EXPECT_EQ(pool.pool_stats().requeued, 499U);
}

TEST(Deaths, WhatStartedWithTheEndOfAnotherItemHasStarted) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto whole = pool.submit("go_on", "9999", 1000);
    const auto torn = pool.submit("go_on", "500", 1000);
    pool.collect_all();
    for (std::uint32_t i = 0; i < 1000; ++i) {
        ASSERT_EQ(pool.outcome(whole, i).times, 1) << i;
        ASSERT_EQ(pool.outcome(whole, i).integer, i);
        const Outcome &outcome = pool.outcome(torn, i);
        ASSERT_EQ(outcome.times, 1) << i;
        ASSERT_EQ(outcome.status, i == 500 ? AIOMQ_WORKER_DIED : AIOMQ_OK) << i;
        if (i != 500) {
            ASSERT_EQ(outcome.integer, i);
        }
    }
    EXPECT_EQ(pool.outcome(torn, 500).signal, SIGKILL);
    EXPECT_EQ(pool.pool_stats().requeued, 499U);
    EXPECT_EQ(pool.pool_stats().restarts, 1U);
}

TEST(Deaths, WhatWasQueuedBehindTheDeadRunsInOrder) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go;
    pool.submit("wait_for_file", go.path());
    pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
    for (int i = 0; i < 30; ++i) pool.submit("echo", std::to_string(i));
    pool.signal_worker(0, SIGKILL);
    pool.collect_all();
    std::vector<int> order;
    for (const auto &[id, outcome] : pool.outcomes())
        if (outcome.status == AIOMQ_OK) order.push_back(atoi(outcome.bytes.c_str()));
    ASSERT_EQ(order.size(), 30U);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(Deaths, AnIdleWorkerIsReplaced) {
    TestPool pool({.workers = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    pool.submit("nothing");
    pool.collect_all();
    const auto before = pool.worker_stats(1).pid;
    kill(before, SIGKILL);
    pool.wait_until([&] {
        const auto stats = pool.worker_stats(1);
        return stats.state == AIOMQ_WORKER_RUNNING && stats.pid != before && stats.restarts == 1;
    });
    for (int i = 0; i < 50; ++i) pool.submit("pid");
    pool.collect_all();
    for (const auto &[id, outcome] : pool.outcomes()) EXPECT_EQ(outcome.status, AIOMQ_OK);
}

TEST(Deaths, ResultsHeldByTheApplicationSurviveTheirWorker) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    pool.submit("make_bytes", "100000");
    aiomq_completion held{};
    while (aiomq_pool_collect(pool.get(), &held, 1) == 0) aiomq_pool_wait(pool.get(), 1000000000);
    ASSERT_NE(held.loan, 0U);
    const auto first = pool.worker_stats(0).pid;
    kill(first, SIGKILL);
    pool.wait_until([&] {
        const auto stats = pool.worker_stats(0);
        return stats.pid != first && stats.state == AIOMQ_WORKER_RUNNING;
    });
    // The successor works around the block that is still read.
    for (int i = 0; i < 200; ++i) pool.submit("make_bytes", "90000");
    while (pool.outcomes().size() < 200) ASSERT_TRUE(pool.collect_some());
    const std::string bytes(static_cast<const char *>(held.item.value.data), held.item.bytes);
    EXPECT_TRUE(bytes == std::string(100000, 'x'));
    EXPECT_GE(pool.worker_stats(0).used_bytes, 100000U);
    aiomq_pool_release(pool.get(), held.loan);
    pool.submit("nothing");
    while (pool.outcomes().size() < 201) ASSERT_TRUE(pool.collect_some());
    pool.submit("make_bytes", "100");
    while (pool.outcomes().size() < 202) ASSERT_TRUE(pool.collect_some());
    EXPECT_LT(pool.worker_stats(0).used_bytes, 1000U);
}

TEST(Deaths, RandomKillsLoseNothingAndLeakNothing) {
    // The kills hit starting workers too: that must not count as a program that can't start.
    TestPool pool({.workers = 3,
                   .capacity = 64,
                   .start_limit = 1000,
                   .environment = {"AIOMQ_TEST_CONCURRENCY=4"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    std::mt19937 engine(seed());
    const auto random = [&] { return static_cast<std::uint32_t>(engine()); };
    const int rounds = getenv("AIOMQ_STRESS") != nullptr ? 3000 : 200;
    std::map<std::uint64_t, std::string> sent;
    int kills = 0;
    for (int round = 0; round < rounds; ++round) {
        for (int i = 0; i < 20; ++i) {
            switch (random() % 4) {
                case 0:
                    pool.submit("later");
                    break;
                case 1:
                    pool.submit("item_number", "", 1 + random() % 50);
                    break;
                case 2:
                    pool.submit("make_bytes", std::to_string(1 + random() % 30000));
                    break;
                default: {
                    const std::string text(random() % 3000, static_cast<char>('a' + random() % 26));
                    sent[pool.submit("echo", text)] = text;
                }
            }
        }
        const auto pid = pool.worker_stats(random() % 3).pid;
        if (pid > 0 && kill(pid, SIGKILL) == 0) ++kills;
    }
    pool.collect_all();
    std::map<int, int> by_status;
    for (const auto &[id, outcome] : pool.outcomes()) {
        ASSERT_EQ(outcome.times, 1);
        ++by_status[outcome.status];
        ASSERT_TRUE(outcome.status == AIOMQ_OK || outcome.status == AIOMQ_WORKER_DIED)
            << outcome.status << outcome.error_type << ": " << outcome.error_message;
    }
    for (const auto &[id, text] : sent)
        if (pool.outcome(id).status == AIOMQ_OK) {
            ASSERT_TRUE(pool.outcome(id).bytes == text);
        }
    EXPECT_GT(kills, rounds / 4);
    EXPECT_GT(by_status[AIOMQ_OK], by_status[AIOMQ_WORKER_DIED]);
    const auto stats = pool.pool_stats();
    EXPECT_LT(stats.request_used_bytes, 1024U) << "only the functions' names stay";
    // Each worker takes its releases in when it next looks.
    for (int i = 0; i < 60; ++i) pool.submit("make_bytes", "100");
    pool.collect_all();
    printf("%d kills, %d OK, %d WORKER_DIED, %llu requeued\n", kills, by_status[AIOMQ_OK],
           by_status[AIOMQ_WORKER_DIED], static_cast<unsigned long long>(stats.requeued));
}

TEST(Deaths, AfterManyTheDispatcherHoldsWhatItHeldBefore) {
    constexpr std::uint32_t kCapacity = 32;
    TestPool pool({.workers = 2, .capacity = kCapacity});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto entries = [](const char *folder) {
        const auto all = std::filesystem::directory_iterator(folder);
        return std::distance(begin(all), end(all));
    };
    const auto kill_some = [&](int deaths) {
        for (int i = 0; i < deaths; ++i) {
            const auto restarts = pool.pool_stats().restarts;
            pool.submit("die_at", i % 2 == 0 ? "0" : "3", 8);
            for (int k = 0; k < 10; ++k) pool.submit("make_bytes", "5000");
            pool.collect_all();
            pool.wait_until([&] {
                for (std::uint32_t w = 0; w < 2; ++w)
                    if (pool.last_event_of(w) != AIOMQ_EVENT_READY) return false;
                return pool.pool_stats().restarts > restarts;
            });
        }
    };
    kill_some(4);
    const auto descriptors = entries("/proc/self/fd");
    const auto threads = entries("/proc/self/task");
    kill_some(60);
    EXPECT_EQ(entries("/proc/self/fd"), descriptors);
    EXPECT_EQ(entries("/proc/self/task"), threads);
    // No zombie: the only children are the workers, of whichever thread.
    int children = 0;
    for (const auto &thread : std::filesystem::directory_iterator("/proc/self/task")) {
        std::ifstream file(thread.path() / "children");
        for (pid_t pid = 0; file >> pid;) ++children;
    }
    EXPECT_EQ(children, 2);
    // No slot is lost: so many tasks can be under way, and no more.
    for (std::uint32_t w = 0; w < 2; ++w) aiomq_test::stop(pool.worker_stats(w).pid);
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = 1;
    ASSERT_EQ(aiomq_pool_function(pool.get(), "nothing", &task.function), 0);
    for (std::uint32_t i = 0; i < kCapacity; ++i)
        ASSERT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), 0) << i;
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -EAGAIN);
    for (std::uint32_t w = 0; w < 2; ++w) pool.signal_worker(w, SIGCONT);
    pool.wait_until([&] {
        pool.collect_some(0);
        return pool.worker_stats(0).running + pool.worker_stats(1).running == 0 &&
               pool.nothing_in_use();
    });
    EXPECT_LT(pool.pool_stats().request_used_bytes, 1024U) << "only the functions' names stay";
}

TEST(Deaths, ADispatcherThatIsKilledTakesItsWorkersWithIt) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        // A process of its own: the pool is made after the fork.
        TestPool pool({.workers = 2});
        pid_t pids[2] = {pool.worker_stats(0).pid, pool.worker_stats(1).pid};
        aiomq_test::stop(pids[1]);  // a stopped process runs no watchdog
        if (write(ends[1], pids, sizeof pids) != sizeof pids) _exit(1);
        pause();
        _exit(0);
    }
    close(ends[1]);
    pid_t pids[2] = {};
    ASSERT_EQ(read(ends[0], pids, sizeof pids), static_cast<ssize_t>(sizeof pids));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    for (const pid_t pid : pids) {
        bool gone = false;
        for (int tries = 0; tries < 1000 && !gone; ++tries) {
            // A zombie of a reaped-by-init parent counts as gone.
            const char state = aiomq_test::state_of(pid);
            gone = state == 'X' || state == 'Z';
            if (!gone) usleep(1000);
        }
        EXPECT_TRUE(gone) << pid << " lives on a second after its dispatcher";
    }
    close(ends[0]);
}
