// Limits of time: what has not started in time never runs, what runs too long is cancelled, and what does
// not heed that is killed with its worker. Limits are waited for, so this file is about time; what is
// asserted is order and "not before", never "soon enough".
#include <fcntl.h>
#include <signal.h>

#include <fstream>

#include "../support/clock.hpp"
#include "../support/go_signal.hpp"
#include "../support/memory.hpp"
#include "../support/pool_fixture.hpp"
#include "../support/process.hpp"

using aiomq_test::GoSignal;
using aiomq_test::Memory;
using aiomq_test::now_ns;
using aiomq_test::PoolOptions;
using aiomq_test::TestPool;

namespace {

constexpr std::uint64_t kMs = 1'000'000;

void wait_ms(std::uint64_t milliseconds) {
    const std::uint64_t end = now_ns() + milliseconds * kMs;
    while (now_ns() < end) usleep(1000);
}

/// What the bodies below write to, from whatever worker.
class Trace {
  public:
    Trace() { EXPECT_EQ(pipe2(ends_, O_NONBLOCK | O_CLOEXEC), 0); }
    ~Trace() {
        close(ends_[0]);
        close(ends_[1]);
    }
    int end() const { return ends_[1]; }
    std::string read_all() {
        char bytes[4096];
        const ssize_t count = read(ends_[0], bytes, sizeof bytes);
        return {bytes, count > 0 ? static_cast<std::size_t>(count) : 0};
    }

  private:
    int ends_[2] = {-1, -1};
};

void mark(char letter) {
    if (write(AIOMQ_EXTRA_FD_BASE, &letter, 1) != 1) abort();
}

int marked(const aiomq_call *call, aiomq_item *ret) {
    mark('r');
    return aiomq_test::return_integer(call->item, ret);
}

/// Item 0 waits for the file that the payload names.
int marked_wait(const aiomq_call *call, aiomq_item *ret) {
    mark('r');
    const std::string path = aiomq_test::payload_of(call);
    while (call->item == 0 && access(path.c_str(), F_OK) != 0) usleep(1000);
    return aiomq_test::return_integer(call->item, ret);
}

/// Claims the next task and starts it when its time is over: tells what start said.
int claim_late(const aiomq_call *call, aiomq_item *ret) {
    aiomq_job job;
    while (aiomq_worker_claim(call->worker, &job, 1) == 0) usleep(100);
    wait_ms(100);
    std::uint32_t item = 0;
    return aiomq_test::return_integer(aiomq_worker_start(call->worker, job.job, &item), ret);
}

int sleep_ms(const aiomq_call *call, aiomq_item *) {
    wait_ms(std::strtoull(aiomq_test::payload_of(call).c_str(), nullptr, 10));
    return 0;
}

struct Kept {
    aiomq_worker *worker;
    std::uint32_t job;
    std::uint32_t item;
};
std::vector<Kept> kept;

/// Ends when it is cancelled.
int cancellable(const aiomq_call *call, aiomq_item *) {
    kept.push_back({call->worker, call->job->job, call->item});
    return 1;
}

void cancel(void *, std::uint32_t job, std::uint32_t) {
    for (const Kept &entry : std::exchange(kept, {})) {
        if (entry.job != job) {
            kept.push_back(entry);
            continue;
        }
        aiomq_item item{};
        item.index = entry.item;
        item.status = AIOMQ_TIMED_OUT;
        if (aiomq_worker_complete(entry.worker, entry.job, &item) < 0) abort();
    }
}

/// Never ends by itself, on its first run.
int deaf(const aiomq_call *call, aiomq_item *ret) {
    if (call->job->attempt == 1) return 1;
    return aiomq_test::return_integer(call->job->attempt, ret);
}

volatile sig_atomic_t told = 0;

[[noreturn]] int spin(const aiomq_call *, aiomq_item *) {
    signal(SIGUSR1, [](int) { mark('s'); });
    for (;;) told = 0;
}

int spin_until_told(const aiomq_call *, aiomq_item *ret) {
    signal(SIGUSR1, [](int) { told = 1; });
    while (told == 0) {
    }
    return aiomq_test::return_integer(1, ret);
}

int stop_itself(const aiomq_call *, aiomq_item *) {
    kill(getpid(), SIGSTOP);
    return 0;
}

const aiomq_test::MoreBodies kMore{{"marked", marked, nullptr},
                                   {"marked_wait", marked_wait, nullptr},
                                   {"claim_late", claim_late, nullptr},
                                   {"sleep_ms", sleep_ms, nullptr},
                                   {"cancellable", cancellable, nullptr},
                                   {"deaf", deaf, nullptr},
                                   {"spin", spin, nullptr},
                                   {"spin_until_told", spin_until_told, nullptr},
                                   {"stop_itself", stop_itself, nullptr}};
const aiomq_test::OnCancel kCancel(cancel);

aiomq_task task_of(const std::string &payload, std::uint32_t items = 1) {
    aiomq_task task{};
    task.kind = AIOMQ_KIND_BYTES;
    task.items = items;
    task.payload = payload.data();
    task.payload_bytes = payload.size();
    return task;
}

aiomq_task start_within(std::uint64_t ms, std::uint32_t items = 1) {
    aiomq_task task{};
    task.items = items;
    task.start_within_ns = ms * kMs;
    return task;
}

aiomq_task timeout(std::uint64_t ms, std::uint32_t items = 1) {
    aiomq_task task{};
    task.items = items;
    task.timeout_ns = ms * kMs;
    return task;
}

void short_grace(aiomq_pool_options &options) { options.grace_ns = 20 * kMs; }

/// Timers for limits that will fire: of the pool's timers they alone are set to a point in time.
int armed_limits() {
    int armed = 0;
    for (int fd = 0; fd < 256; ++fd) {
        std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
        bool at_a_time = false;
        for (std::string line; std::getline(info, line);) {
            if (line == "settime flags: 01") at_a_time = true;
            if (at_a_time && line.starts_with("it_value:") && line != "it_value: (0, 0)") ++armed;
        }
    }
    return armed;
}

}  // namespace

TEST(StartWithin, WhatWaitsBehindABusyWorkerExpiresInTimeAndNeverRuns) {
    Trace trace;
    GoSignal go;
    TestPool pool({.extra_fds = {trace.end()}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto busy = pool.submit("wait_for_file", go.path());
    pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
    const std::uint64_t before = now_ns();
    const auto late = pool.submit_task("marked", start_within(30));
    const auto chunk = pool.submit_task("marked", start_within(30, 10));
    while (pool.outcomes().size() < 11) ASSERT_TRUE(pool.collect_some());
    EXPECT_GE(now_ns() - before, 30 * kMs);
    EXPECT_EQ(pool.outcome(late).status, AIOMQ_EXPIRED);
    for (std::uint32_t i = 0; i < 10; ++i) EXPECT_EQ(pool.outcome(chunk, i).status, AIOMQ_EXPIRED);
    EXPECT_EQ(pool.worker_stats(0).running, 1U) << "the worker is still busy";
    go.give();
    const auto after = pool.submit("item_number");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(busy).status, AIOMQ_OK);
    EXPECT_EQ(pool.outcome(after).status, AIOMQ_OK);
    EXPECT_EQ(trace.read_all(), "");
}

TEST(StartWithin, ItemsOfARunningChunkExpireToo) {
    Trace trace;
    GoSignal go;
    TestPool pool({.extra_fds = {trace.end()}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string path = go.path();
    aiomq_task task = task_of(path, 10);
    task.start_within_ns = 500 * kMs;
    const auto chunk = pool.submit_task("marked_wait", task);
    while (pool.outcomes().size() < 9) ASSERT_TRUE(pool.collect_some());
    go.give();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(chunk, 0).status, AIOMQ_OK) << "it had started in time";
    for (std::uint32_t i = 1; i < 10; ++i) EXPECT_EQ(pool.outcome(chunk, i).status, AIOMQ_EXPIRED);
    EXPECT_EQ(trace.read_all(), "r");
}

TEST(StartWithin, AWorkerDoesNotStartWhatItClaimedTooLate) {
    for (const std::uint32_t items : {1U, 10U}) {
        TestPool pool;
        ASSERT_EQ(pool.created(), 0) << pool.error_text();
        GoSignal go;
        pool.submit("wait_for_file", go.path());
        const auto claimer = pool.submit("claim_late");
        const auto late = pool.submit_task("nothing", start_within(60, items));
        go.give();
        pool.collect_all();
        EXPECT_EQ(pool.outcome(claimer).integer, -ENODATA);
        for (std::uint32_t i = 0; i < items; ++i)
            EXPECT_EQ(pool.outcome(late, i).status, AIOMQ_EXPIRED);
        const auto after = pool.submit("item_number");
        pool.collect_all();
        EXPECT_EQ(pool.outcome(after).status, AIOMQ_OK);
    }
}

TEST(StartWithin, WhatStartedInTimeMayRunOn) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go;
    const std::string path = go.path();
    aiomq_task task = task_of(path);
    task.start_within_ns = 500 * kMs;
    const auto id = pool.submit_task("wait_for_file", task);
    pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
    wait_ms(550);
    go.give();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
}

TEST(StartWithin, AnyNumberIsALimit) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    aiomq_task task{};
    task.start_within_ns = task.timeout_ns = UINT64_MAX;
    const auto endless = pool.submit_task("item_number", task);
    task.start_within_ns = task.timeout_ns = UINT64_MAX - 1;
    const auto long_time = pool.submit_task("item_number", task);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(endless).status, AIOMQ_OK);
    EXPECT_EQ(pool.outcome(long_time).status, AIOMQ_OK);
}

TEST(Timeout, ALongQueueDoesNotEatIt) {
    TestPool pool({.adjust = short_grace});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string thirty = "30";
    aiomq_task task = task_of(thirty);
    task.timeout_ns = 200 * kMs;
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 15; ++i) ids.push_back(pool.submit_task("sleep_ms", task));
    task.items = 15;
    pool.submit_task("sleep_ms", task);
    pool.collect_all();
    for (const auto &[key, outcome] : pool.outcomes()) EXPECT_EQ(outcome.status, AIOMQ_OK);
}

TEST(Timeout, CancelsAnItemThatCompletesLater) {
    TestPool pool({.environment = {"AIOMQ_TEST_CONCURRENCY=8"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto pid = pool.worker_stats(0).pid;
    const std::uint64_t before = now_ns();
    const auto one = pool.submit_task("cancellable", timeout(40));
    const auto chunk = pool.submit_task("cancellable", timeout(50, 4));
    const auto quick = pool.submit_task("later", timeout(10'000));
    pool.collect_all();
    EXPECT_GE(now_ns() - before, 50 * kMs);
    EXPECT_EQ(pool.outcome(one).status, AIOMQ_TIMED_OUT);
    for (std::uint32_t i = 0; i < 4; ++i) EXPECT_EQ(pool.outcome(chunk, i).status, AIOMQ_TIMED_OUT);
    EXPECT_EQ(pool.outcome(quick).status, AIOMQ_OK);
    EXPECT_EQ(pool.worker_stats(0).pid, pid) << "it heeded the cancel: no reason to kill it";
}

TEST(Timeout, ALoopInCIsKilledAndItsNeighboursLearnWhy) {
    TestPool pool({.environment = {"AIOMQ_TEST_CONCURRENCY=8"}, .adjust = short_grace});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto lost = pool.submit("deaf");
    aiomq_task again{};
    again.retries = 1;
    const auto retried = pool.submit_task("deaf", again);
    aiomq_task stuck = timeout(30);
    stuck.retries = 5;
    const std::uint64_t before = now_ns();
    const auto culprit = pool.submit_task("spin", stuck);
    const auto behind = pool.submit("item_number");
    pool.collect_all();
    EXPECT_GE(now_ns() - before, 50 * kMs);
    EXPECT_EQ(pool.outcome(culprit).status, AIOMQ_TIMED_OUT);
    EXPECT_EQ(pool.outcome(culprit).attempt, 1U) << "that is final, whatever its retries";
    EXPECT_EQ(pool.outcome(culprit).error_type, "aiomq.TaskTimeout");
    EXPECT_NE(pool.outcome(culprit).error_message.find("timeout of 0.03 s"), std::string::npos)
        << pool.outcome(culprit).error_message;
    EXPECT_EQ(pool.outcome(lost).status, AIOMQ_WORKER_DIED);
    EXPECT_NE(pool.outcome(lost).error_message.find(
                  "because item 0 of \"spin\" ran longer than its timeout"),
              std::string::npos)
        << pool.outcome(lost).error_message;
    EXPECT_EQ(pool.outcome(retried).status, AIOMQ_OK);
    EXPECT_EQ(pool.outcome(retried).integer, 2);
    EXPECT_EQ(pool.outcome(behind).status, AIOMQ_OK);
    const aiomq_event event = pool.last_event(AIOMQ_EVENT_KILLED);
    EXPECT_NE(strstr(event.text, "item 0 of \"spin\""), nullptr) << event.text;
    EXPECT_GT(event.pid, 0);
}

TEST(Timeout, OneItemOfAChunkCostsOnlyItself) {
    TestPool pool({.adjust = short_grace});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string forever = "/nonexistent/aiomq";
    aiomq_task task = task_of(forever, 10);
    Trace trace;
    task.timeout_ns = 30 * kMs;
    const auto chunk = pool.submit_task("wait_for_file", task);
    pool.collect_all();
    for (std::uint32_t i = 0; i < 10; ++i) {
        EXPECT_EQ(pool.outcome(chunk, i).status, AIOMQ_TIMED_OUT) << i;
        EXPECT_EQ(pool.outcome(chunk, i).times, 1) << i;
    }
    pool.wait_until([&] { return pool.pool_stats().restarts == 10; });
}

TEST(Timeout, AStoppedWorkerIsKilledToo) {
    TestPool pool({.adjust = short_grace});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto id = pool.submit_task("stop_itself", timeout(30));
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_TIMED_OUT);
}

TEST(Timeout, AWorkerThatIsStoppedBeforeItHasStampedTheStartIsKilledToo) {
    TestPool pool({.adjust = short_grace});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    Memory memory;
    const GoSignal go;
    const auto id = pool.submit_task(timeout(200, 2), "wait_for_file", go.path());
    pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
    aiomq_test::stop(pool.worker_stats(0).pid);
    memory.outcome_of(id, 0).head.store_seq(0);  // as it is before the stamp
    pool.collect_all();
    for (std::uint32_t i = 0; i < 2; ++i) EXPECT_EQ(pool.outcome(id, i).status, AIOMQ_TIMED_OUT);
}

TEST(Timeout, AStuckWorkerMaySayFirstWhereItIs) {
    Trace trace;
    TestPool pool({.extra_fds = {trace.end()}, .adjust = [](aiomq_pool_options &options) {
                       static aiomq_group group{};
                       group.struct_bytes = sizeof group;
                       group.workers = 1;
                       group.stuck_signal = SIGUSR1;
                       options.groups = &group;
                       options.group_count = 1;
                       short_grace(options);
                   }});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto pid = pool.worker_stats(0).pid;
    const auto ends = pool.submit_task("spin_until_told", timeout(30));
    pool.collect_all();
    EXPECT_EQ(pool.outcome(ends).status, AIOMQ_OK)
        << "it ended before the kill, which is called off";
    wait_ms(150);
    EXPECT_EQ(pool.worker_stats(0).pid, pid);
    EXPECT_EQ(pool.last_event(AIOMQ_EVENT_KILLED).kind, AIOMQ_EVENT_NONE);
    const auto stuck = pool.submit_task("spin", timeout(30));
    pool.collect_all();
    EXPECT_EQ(pool.outcome(stuck).status, AIOMQ_TIMED_OUT);
    EXPECT_EQ(trace.read_all(), "s");
    EXPECT_NE(pool.last_event(AIOMQ_EVENT_KILLED).kind, AIOMQ_EVENT_NONE);
}

TEST(Limits, ATimerExistsOnlyWhileATaskHasOne) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int i = 0; i < 100; ++i) pool.submit("nothing");
    pool.collect_all();
    EXPECT_EQ(armed_limits(), 0);
    GoSignal go;
    const std::string path = go.path();
    aiomq_task task = task_of(path);
    task.timeout_ns = 60'000 * kMs;
    pool.submit_task("wait_for_file", task);
    EXPECT_EQ(armed_limits(), 1);
    pool.submit_task("nothing", start_within(50));
    ASSERT_TRUE(pool.collect_some());                     // the second expired
    pool.wait_until([] { return armed_limits() == 1; });  // set anew, for the first
    go.give();
    pool.collect_all();
    // One look later there is none: let it come early.
    pool.submit_task("nothing", start_within(1));
    pool.collect_all();
    pool.wait_until([] { return armed_limits() == 0; });
}
