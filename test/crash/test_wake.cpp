// Sleeping and waking between real processes: idle costs nothing, work wakes at once, and a wake-up that
// somebody swallowed is repaired. Bounds are on time, because the audit would hide a lost wake-up.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>

#include "../../lib/core/format.hpp"
#include "../support/clock.hpp"
#include "../support/go_signal.hpp"
#include "../support/pool_fixture.hpp"
#include "../support/process.hpp"
#include "../unit/seeded.hpp"

using aiomq_test::clock_ns;
using aiomq_test::GoSignal;
using aiomq_test::PoolOptions;
using aiomq_test::state_of;
using aiomq_test::stop;
using aiomq_test::TestPool;

namespace {

/// From pool.cpp: a wake-up that was swallowed is noticed so much later.
constexpr std::uint64_t kAuditDelayNs = 5'000'000;

/// CPU time of a process with all its threads.
std::uint64_t cpu_ns(pid_t pid) {
    const std::string folder = "/proc/" + std::to_string(pid) + "/task";
    std::uint64_t sum = 0;
    DIR *tasks = opendir(folder.c_str());
    if (tasks == nullptr) return 0;
    while (const dirent *task = readdir(tasks)) {
        if (task->d_name[0] == '.') continue;
        FILE *file = fopen((folder + "/" + task->d_name + "/schedstat").c_str(), "re");
        unsigned long long on_cpu = 0;
        if (file == nullptr) continue;
        if (fscanf(file, "%llu", &on_cpu) == 1) sum += on_cpu;
        fclose(file);
    }
    closedir(tasks);
    return sum;
}

/// Returns when every worker is blocked on its fd.
void wait_for_sleep(TestPool &pool, std::uint32_t workers) {
    pool.wait_until([&] {
        for (std::uint32_t worker = 0; worker < workers; ++worker)
            if (pool.worker_stats(worker).sleeping == 0 ||
                state_of(pool.worker_stats(worker).pid) != 'S')
                return false;
        return true;
    });
}

std::uint64_t wakeups(TestPool &pool, std::uint32_t workers) {
    std::uint64_t sum = 0;
    for (std::uint32_t worker = 0; worker < workers; ++worker)
        sum += pool.worker_stats(worker).wakeups;
    return sum;
}

/// The lower quartile: what it takes when the machine does not do something else just then.
std::uint64_t quartile(std::vector<std::uint64_t> times) {
    std::sort(times.begin(), times.end());
    return times[times.size() / 4];
}

/// Time of one task from submit to collect, when every worker sleeps.
std::uint64_t usual_latency(TestPool &pool, std::uint32_t workers, int count) {
    std::vector<std::uint64_t> times;
    for (int i = 0; i < count; ++i) {
        wait_for_sleep(pool, workers);
        const std::uint64_t start = clock_ns(CLOCK_MONOTONIC);
        pool.submit("nothing");
        pool.collect_all();
        times.push_back(clock_ns(CLOCK_MONOTONIC) - start);
    }
    return quartile(times);
}

/// About @cycles long: finer than the way from looking to sleeping.
void pause(std::uint64_t cycles) {
    for (; cycles > 0; --cycles) asm volatile("");
}

int busy(const aiomq_call *call, aiomq_item *) {
    pause(static_cast<std::uint64_t>(call->job->integer));
    return 0;
}

// A worker's descriptors, from worker.hpp.
constexpr int kMemory = 3;
constexpr int kApplicationEvent = 5;

/// The application's announcement that it sleeps, in a worker.
aiomq::Atomic<std::uint32_t> &announcement() {
    constexpr int kWritable = PROT_READ | PROT_WRITE;
    const auto *header = static_cast<const aiomq::Header *>(
        mmap(nullptr, sizeof(aiomq::Header), PROT_READ, MAP_SHARED, kMemory, 0));
    const aiomq::Layout &layout = header->statistics.layout;
    const std::uint64_t start = layout.flags_offset / layout.page_bytes * layout.page_bytes;
    auto *bytes =
        static_cast<char *>(mmap(nullptr, layout.flags_offset - start + sizeof(aiomq::SleepFlags),
                                 kWritable, MAP_SHARED, kMemory, static_cast<off_t>(start)));
    return reinterpret_cast<aiomq::SleepFlags *>(bytes + (layout.flags_offset - start))  // NOLINT
        ->application;
}

void take_announcement() {
    auto &flag = announcement();
    while (flag.load_seq() == 0 || flag.exchange_seq(0) == 0) sched_yield();
}

/// Killed in W-slot-6: the announcement is taken, the eventfd not written.
int die_while_waking(const aiomq_call *, aiomq_item *) {
    take_announcement();
    kill(getpid(), SIGKILL);
    return 0;
}

// To and from the test, when it passes a pipe's read end and another's write end.
char next_order() {
    char order = 0;
    return read(AIOMQ_EXTRA_FD_BASE, &order, 1) == 1 ? order : 'e';
}

/// Wakes the application as it is told to: 't'ake the announcement, 'w'rite the eventfd, 'e'nd.
int wake_in_steps(const aiomq_call *, aiomq_item *) {
    for (char order = next_order(); order != 'e'; order = next_order()) {
        if (order == 't')
            take_announcement();
        else
            eventfd_write(kApplicationEvent, 1);
        if (write(AIOMQ_EXTRA_FD_BASE + 1, &order, 1) != 1) break;
    }
    return 0;
}

const aiomq_test::MoreBodies kMore{{"busy", busy, nullptr},
                                   {"die_while_waking", die_while_waking, nullptr},
                                   {"wake_in_steps", wake_in_steps, nullptr}};

aiomq_task nothing_task(TestPool &pool) {
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = 1;
    EXPECT_EQ(aiomq_pool_function(pool.get(), "nothing", &task.function), 0);
    return task;
}

class Wake : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Spin, Wake, testing::Values(std::uint64_t{0}, AIOMQ_SPIN_AUTO),
                         [](const auto &spin) { return spin.param == 0 ? "None" : "Auto"; });

}  // namespace

TEST_P(Wake, AnIdlePoolUsesNoCpu) {
    constexpr std::uint32_t kWorkers = 3;
    TestPool pool({.workers = kWorkers, .spin_ns = GetParam()});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int i = 0; i < 100; ++i) pool.submit("nothing");
    pool.collect_all();
    wait_for_sleep(pool, kWorkers);
    while (aiomq_pool_dispatch(pool.get()) != 0) {
    }
    std::vector<pid_t> pids;  // asked for now: a look at the pool takes CPU itself
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker)
        pids.push_back(pool.worker_stats(worker).pid);
    const auto used = [&] {
        std::uint64_t sum = clock_ns(CLOCK_PROCESS_CPUTIME_ID);  // the supervisor's thread too
        for (const pid_t pid : pids) sum += cpu_ns(pid);
        return sum;
    };
    const std::uint64_t woken = wakeups(pool, kWorkers);
    const std::uint64_t before = used();
    ASSERT_GT(before, 0U) << "no schedstat in this kernel?";
    pollfd entry{aiomq_pool_fd(pool.get()), POLLIN, 0};
    EXPECT_EQ(poll(&entry, 1, 1000), 0) << "the fd became readable without a reason";
    EXPECT_LE(used() - before, 10'000'000U);
    EXPECT_EQ(wakeups(pool, kWorkers), woken) << "nobody had anything to wake for";
}

TEST_P(Wake, ASleepingPoolAnswersWithoutTheAudit) {
    TestPool pool({.workers = 2, .spin_ns = GetParam()});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    EXPECT_LT(usual_latency(pool, 2, 100), kAuditDelayNs);
}

TEST_P(Wake, ABurstWakesTheSleepersAtOnce) {
    constexpr std::uint32_t kWorkers = 3;
    constexpr std::uint32_t kTasks = 12;
    TestPool pool({.workers = kWorkers, .spin_ns = GetParam()});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::vector<aiomq_task> tasks(kTasks, nothing_task(pool));
    std::vector<std::uint64_t> times;
    for (int round = 0; round < 50; ++round) {
        wait_for_sleep(pool, kWorkers);
        const std::uint64_t start = clock_ns(CLOCK_MONOTONIC);
        ASSERT_EQ(aiomq_pool_submit_batch(pool.get(), tasks.data(), kTasks, nullptr), kTasks);
        const std::size_t wanted = pool.outcomes().size() + kTasks;
        while (pool.outcomes().size() < wanted) ASSERT_TRUE(pool.collect_some());
        times.push_back(clock_ns(CLOCK_MONOTONIC) - start);
    }
    EXPECT_LT(quartile(times), kAuditDelayNs);
}

// One task at a time, because the next one would cover up for a wake-up that was lost. The moments vary,
// so that the task or its completion meets each point of the other side's falling asleep.
TEST(Waking, ATaskIsNotMissedByAWorkerThatFallsAsleep) {
    TestPool pool({.spin_ns = 0});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const aiomq_task task = nothing_task(pool);
    aiomq_task first = task;  // what the worker sleeps after
    ASSERT_EQ(aiomq_pool_function(pool.get(), "busy", &first.function), 0);
    first.kind = AIOMQ_KIND_INT;
    aiomq_view *view = nullptr;
    ASSERT_EQ(aiomq_pool_view(pool.get(), &view), 0);
    aiomq_worker_stats stats{};
    stats.struct_bytes = sizeof stats;
    aiomq_test::Random random;
    const std::uint64_t count = aiomq_test::rounds(50000, 3000000);
    for (std::uint64_t i = 0; i < count; ++i) {
        first.integer = static_cast<std::int64_t>(1000 + random.below(2000));
        ASSERT_EQ(aiomq_pool_submit(pool.get(), &first, nullptr), 0);
        do ASSERT_EQ(aiomq_view_worker(view, 0, &stats), 0);
        while (stats.started < 2 * i + 1);
        pause(random.below(4000));
        ASSERT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), 0);
        aiomq_completion completions[2];
        std::int64_t taken = 0;
        const std::uint64_t end = clock_ns(CLOCK_MONOTONIC) + 5'000'000'000;
        while ((taken += aiomq_pool_collect(pool.get(), completions, 2)) < 2)
            ASSERT_LT(clock_ns(CLOCK_MONOTONIC), end) << "task " << i << " lies there unseen";
    }
    aiomq_view_close(&view);
}

TEST(Waking, ACompletionIsNotMissedByAnApplicationThatFallsAsleep) {
    TestPool pool({.spin_ns = 50'000'000});  // a worker that answers at once
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const aiomq_task task = nothing_task(pool);
    aiomq_test::Random random;
    const std::uint64_t count = aiomq_test::rounds(30000, 3000000);
    for (std::uint64_t i = 0; i < count; ++i) {
        ASSERT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), 0);
        pause(random.below(2000));
        aiomq_completion completion;
        while (aiomq_pool_collect(pool.get(), &completion, 1) == 0) {
            if (aiomq_pool_dispatch(pool.get()) != 0) continue;
            pollfd entry{aiomq_pool_fd(pool.get()), POLLIN, 0};
            ASSERT_EQ(poll(&entry, 1, 5000), 1) << "completion " << i << " lies there unseen";
        }
    }
}

TEST(Waking, OneTaskWakesOneWorker) {
    constexpr std::uint32_t kWorkers = 3;
    TestPool pool({.workers = kWorkers, .spin_ns = 0});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    wait_for_sleep(pool, kWorkers);
    const std::uint64_t before = wakeups(pool, kWorkers);
    const std::uint64_t audits_before = pool.pool_stats().audits;
    constexpr std::uint64_t kTasks = 30;
    for (std::uint64_t i = 0; i < kTasks; ++i) {
        pool.submit("nothing");
        pool.collect_all();
        wait_for_sleep(pool, kWorkers);
    }
    const std::uint64_t woken = wakeups(pool, kWorkers) - before;
    EXPECT_GE(woken, kTasks);
    // An audit may find a hint that is about to be taken, and wakes whoever still sleeps.
    const std::uint64_t audits = pool.pool_stats().audits - audits_before;
    EXPECT_LE(woken, kTasks + audits * kWorkers);
    EXPECT_LT(audits, kTasks) << "too slow to show anything";
}

TEST(Waking, ASwallowedWakeUpIsRepairedByTheAudit) {
    TestPool pool({.workers = 2, .spin_ns = 0});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    wait_for_sleep(pool, 2);
    const pid_t first = pool.worker_stats(0).pid;
    const std::uint64_t audits = pool.pool_stats().audits;
    stop(first);  // still announced as sleeping, and the first to be chosen
    const std::uint64_t start = clock_ns(CLOCK_MONOTONIC);
    const auto id = pool.submit("echo", "repaired");
    pool.collect_all();
    const std::uint64_t took = clock_ns(CLOCK_MONOTONIC) - start;
    EXPECT_EQ(pool.outcome(id).bytes, "repaired");
    EXPECT_EQ(pool.outcome(id).worker, 1U);
    EXPECT_LT(took, 1'000'000'000U);
    EXPECT_GT(pool.pool_stats().audits, audits);
    EXPECT_GE(took, kAuditDelayNs) << "then the stopped worker was not the one that was woken";
    kill(first, SIGCONT);
    wait_for_sleep(pool, 2);
    EXPECT_EQ(pool.worker_stats(0).restarts, 0U);
}

TEST(Waking, ManySwallowedWakeUpsAreRepairedToo) {
    constexpr std::uint32_t kWorkers = 4;
    TestPool pool({.workers = kWorkers, .spin_ns = 0});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    wait_for_sleep(pool, kWorkers);
    for (std::uint32_t worker = 0; worker + 1 < kWorkers; ++worker)
        stop(pool.worker_stats(worker).pid);
    const std::uint64_t start = clock_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < 20; ++i) pool.submit("nothing");
    pool.collect_all();
    EXPECT_LT(clock_ns(CLOCK_MONOTONIC) - start, 1'000'000'000U);
    for (std::uint32_t worker = 0; worker + 1 < kWorkers; ++worker)
        pool.signal_worker(worker, SIGCONT);
}

TEST(Waking, AWakeUpThatDiedWithItsWorkerIsRepaired) {
    TestPool pool({.workers = 2, .spin_ns = 0});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int round = 0; round < 10; ++round) {
        wait_for_sleep(pool, 2);
        const pid_t first = pool.worker_stats(0).pid;
        stop(first);
        const std::uint64_t start = clock_ns(CLOCK_MONOTONIC);
        const auto id = pool.submit("nothing");
        kill(first, SIGKILL);
        pool.collect_all();
        EXPECT_LT(clock_ns(CLOCK_MONOTONIC) - start, 1'000'000'000U);
        EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
        pool.wait_until([&] {
            const auto stats = pool.worker_stats(0);
            return stats.pid != first && stats.state == AIOMQ_WORKER_RUNNING;
        });
    }
}

// Neither the audit (long over) nor a successor (none can start) covers up for recovery here.
TEST(Waking, WhatTheDeadHadNotStartedWakesASleeper) {
    GoSignal refuse;
    GoSignal go;
    TestPool pool({.workers = 2,
                   .capacity = 1,  // no slot to split the chunk into
                   .spin_ns = 0,
                   .environment = {std::string("AIOMQ_TEST_REFUSE=") + refuse.path()}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    wait_for_sleep(pool, 2);
    refuse.give();
    const std::uint64_t audits = pool.pool_stats().audits;
    const auto chunk = pool.submit("wait_for_file", go.path(), 2);
    pool.wait_until([&] { return pool.pool_stats().audits > audits; });
    std::uint32_t busy = 0;
    pool.wait_until([&] {
        busy = pool.worker_stats(0).running == 1 ? 0 : 1;
        return pool.worker_stats(busy).running == 1 && pool.worker_stats(1 - busy).sleeping == 1;
    });
    stop(pool.worker_stats(busy).pid);
    go.give();
    pool.signal_worker(busy, SIGKILL);
    while (pool.outcomes().size() < 2)
        if (!pool.collect_some(5'000'000'000)) break;
    EXPECT_EQ(pool.outcome(chunk, 1).status, AIOMQ_OK);
    EXPECT_EQ(pool.outcome(chunk, 1).worker, 1 - busy);
}

TEST(Waking, AnApplicationSleepsThroughNoDeathOfItsWaker) {
    TestPool pool({.spin_ns = 0});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int round = 0; round < 3; ++round) {
        const std::uint64_t start = clock_ns(CLOCK_MONOTONIC);
        const auto id = pool.submit("die_while_waking");
        while (pool.outcome(id).times == 0) ASSERT_TRUE(pool.collect_some(5'000'000'000));
        EXPECT_LT(clock_ns(CLOCK_MONOTONIC) - start, 1'000'000'000U);
        EXPECT_EQ(pool.outcome(id).status, AIOMQ_WORKER_DIED);
    }
    pool.submit("nothing");
    pool.collect_all();
    while (aiomq_pool_dispatch(pool.get()) != 0) {
    }
    pollfd entry{aiomq_pool_fd(pool.get()), POLLIN, 0};
    EXPECT_EQ(poll(&entry, 1, 50), 0) << "the fd stays readable without a reason";
}

TEST(Waking, WakeUpsThatCrossLeaveNothingBehind) {
    int orders[2];
    int answers[2];
    ASSERT_EQ(pipe2(orders, O_CLOEXEC), 0);
    ASSERT_EQ(pipe2(answers, O_CLOEXEC), 0);
    TestPool pool({.spin_ns = 0, .extra_fds = {orders[0], answers[1]}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto order = [&](char what) {
        char answer = 0;
        EXPECT_EQ(write(orders[1], &what, 1), 1);
        if (what == 'e') return;
        EXPECT_EQ(read(answers[0], &answer, 1), 1);
    };
    const auto nothing_there = [&] { EXPECT_EQ(aiomq_pool_dispatch(pool.get()), 0); };
    pool.submit("wake_in_steps");
    while (aiomq_pool_dispatch(pool.get()) != 0) {
    }
    order('t');
    nothing_there();  // one wake-up is due
    order('t');
    order('w');
    nothing_there();  // one was due and has come, but it was the first
    order('w');
    pollfd entry{aiomq_pool_fd(pool.get()), POLLIN, 0};
    EXPECT_EQ(poll(&entry, 1, 5000), 1);
    nothing_there();
    EXPECT_EQ(poll(&entry, 1, 0), 0) << "the application's loop would spin";
    order('e');
    pool.collect_all();
    for (const int fd : {orders[0], orders[1], answers[0], answers[1]}) close(fd);
}

TEST(Waking, AReleaseReachesAWorkerThatSleeps) {
    TestPool pool({.spin_ns = 0});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    pool.submit("make_bytes", "100000");
    aiomq_completion held{};
    while (aiomq_pool_collect(pool.get(), &held, 1) == 0)
        ASSERT_GT(aiomq_pool_wait(pool.get(), 20'000'000'000), 0);
    wait_for_sleep(pool, 1);
    ASSERT_GE(pool.worker_stats(0).used_bytes, 100000U);
    aiomq_pool_release(pool.get(), held.loan);
    pool.wait_until([&] { return pool.worker_stats(0).used_bytes == 0; });
}

TEST(Waking, ReleasesThatDoNotFitTheInboxReachAWorkerToo) {
    constexpr std::size_t kResults = 1000;  // far more than the inbox has cells
    TestPool pool({.capacity = kResults, .spin_ns = 0});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int round = 0; round < 20; ++round) {
        for (std::size_t i = 0; i < kResults; ++i) pool.submit("make_bytes", "100");
        std::vector<std::uint64_t> loans;
        aiomq_completion held{};
        while (loans.size() < kResults)
            if (aiomq_pool_collect(pool.get(), &held, 1) == 1)
                loans.push_back(held.loan);
            else
                ASSERT_GT(aiomq_pool_wait(pool.get(), 20'000'000'000), 0);
        for (const std::uint64_t loan : loans) aiomq_pool_release(pool.get(), loan);
        // Woken by nothing but the descriptor, as an application is.
        while (aiomq_pool_dispatch(pool.get()) > 0) {
        }
        const std::uint64_t end = clock_ns(CLOCK_MONOTONIC) + 20'000'000'000;
        while (pool.worker_stats(0).used_bytes > 0) {
            ASSERT_LT(clock_ns(CLOCK_MONOTONIC), end) << "round " << round;
            pollfd entry{aiomq_pool_fd(pool.get()), POLLIN, 0};
            if (poll(&entry, 1, 1) == 1) aiomq_pool_dispatch(pool.get());
        }
    }
}

TEST(Waking, TheEndReachesWorkersThatSleep) {
    TestPool pool({.workers = 3, .spin_ns = 0});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    wait_for_sleep(pool, 3);
    const std::uint64_t start = clock_ns(CLOCK_MONOTONIC);
    EXPECT_EQ(aiomq_pool_close(pool.get(), 0), 0);
    EXPECT_EQ(aiomq_pool_join(pool.get(), 20'000'000'000), 0);
    EXPECT_LT(clock_ns(CLOCK_MONOTONIC) - start, 1'000'000'000U);
}
