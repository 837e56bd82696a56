// Workers that leave to be replaced: what runs finishes, what has not started runs elsewhere, and it is
// neither a death nor a failed start.
#include <sys/mman.h>
#include <sys/wait.h>

#include "../support/clock.hpp"
#include "../support/go_signal.hpp"
#include "../support/pool_fixture.hpp"
#include "../support/process.hpp"

using aiomq_test::GoSignal;
using aiomq_test::GroupOptions;
using aiomq_test::now_ns;
using aiomq_test::return_integer;
using aiomq_test::TestPool;

namespace {

/// Gives the pid; item 3 of a task of many waits first for the file that the payload names.
int pid_of_item(const aiomq_call *call, aiomq_item *ret) {
    while (call->item == 3 && access(aiomq_test::payload_of(call).c_str(), F_OK) != 0) usleep(1000);
    return return_integer(getpid(), ret);
}

/// Maps as many bytes as the payload says, touches them, and keeps them.
int keep_memory(const aiomq_call *call, aiomq_item *ret) {
    const std::string wanted = aiomq_test::payload_of(call);
    const std::size_t bytes = std::strtoull(wanted.c_str() + 1, nullptr, 10);
    const int sharing = wanted[0] == 's' ? MAP_SHARED : MAP_PRIVATE;
    void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return -errno;
    std::memset(memory, 1, bytes);
    return return_integer(getpid(), ret);
}

int retire_now(const aiomq_call *call, aiomq_item *ret) {
    errno = EDOM;
    const int error = aiomq_worker_retire(call->worker);
    if (error != 0 || errno != EDOM) return error != 0 ? error : -EBADE;
    return return_integer(getpid(), ret);
}

/// Takes 0.05 ms; the last item of a worker's first slice asks it to leave.
int leave_at_the_end_of_a_slice(const aiomq_call *call, aiomq_item *ret) {
    constexpr std::uint32_t kSlice = 128;
    const std::uint64_t end = now_ns() + 50'000;
    while (now_ns() < end) {
    }
    if (call->item == kSlice - 1) raise(SIGTERM);
    return return_integer(getpid(), ret);
}

/// The signal that ended a forked child of the worker that was sent SIGTERM.
int end_of_forked_child(const aiomq_call *, aiomq_item *ret) {
    const pid_t child = fork();
    if (child == 0)
        for (;;) pause();
    int status = 0;
    kill(child, SIGTERM);
    waitpid(child, &status, 0);
    return return_integer(WIFSIGNALED(status) ? WTERMSIG(status) : -1, ret);
}

const aiomq_test::MoreBodies kMore{
    {"pid_of_item", pid_of_item, nullptr},
    {"keep_memory", keep_memory, nullptr},
    {"retire_now", retire_now, nullptr},
    {"leave_at_the_end_of_a_slice", leave_at_the_end_of_a_slice, nullptr},
    {"end_of_forked_child", end_of_forked_child, nullptr}};

void expect_no_death(TestPool &pool) {
    EXPECT_TRUE(pool.events(AIOMQ_EVENT_DIED).empty()) << pool.events(AIOMQ_EVENT_DIED)[0];
    EXPECT_EQ(pool.pool_stats().worker_died, 0U);
    EXPECT_EQ(aiomq_pool_state(pool.get(), nullptr, 0), AIOMQ_POOL_RUNNING);
}

/// Sends SIGTERM to the worker and waits until it says that it retires.
void ask_to_leave(TestPool &pool, std::uint32_t worker) {
    pool.signal_worker(worker, SIGTERM);
    pool.wait_until([&] { return pool.worker_stats(worker).state == AIOMQ_WORKER_RETIRING; });
}

void wait_running(TestPool &pool, std::uint32_t worker) {
    pool.wait_until([&] { return pool.worker_stats(worker).running > 0; });
}

void wait_replaced(TestPool &pool, std::uint32_t worker, std::int32_t pid) {
    pool.wait_until([&] {
        const auto stats = pool.worker_stats(worker);
        return stats.pid != 0 && stats.pid != pid && stats.state == AIOMQ_WORKER_RUNNING;
    });
}

}  // namespace

TEST(Sigterm, LetsAWorkerFinishWhatRunsAndReplacesIt) {
    TestPool pool({.workers = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go;
    const auto held = pool.submit("wait_for_file", go.path());
    pool.wait_until(
        [&] { return pool.worker_stats(0).running + pool.worker_stats(1).running == 1; });
    const std::uint32_t worker = pool.worker_stats(0).running == 1 ? 0 : 1;
    const auto pid = pool.worker_stats(worker).pid;
    ask_to_leave(pool, worker);
    std::vector<std::uint64_t> others;
    for (int i = 0; i < 20; ++i) others.push_back(pool.submit("pid"));
    while (pool.outcomes().size() < 20) ASSERT_TRUE(pool.collect_some());
    for (const auto id : others) EXPECT_NE(pool.outcome(id).integer, pid);
    go.give();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(held).status, AIOMQ_OK);
    wait_replaced(pool, worker, pid);
    ASSERT_EQ(pool.events(AIOMQ_EVENT_RETIRED).size(), 1U);
    EXPECT_NE(pool.events(AIOMQ_EVENT_RETIRED)[0].find("has retired"), std::string::npos);
    EXPECT_EQ(pool.worker_stats(worker).restarts, 1U);
    expect_no_death(pool);
}

TEST(Sigterm, ToTheOnlyWorkerReplacesIt) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go;
    const auto pid = pool.worker_stats(0).pid;
    const auto held = pool.submit("wait_for_file", go.path());
    wait_running(pool, 0);
    ask_to_leave(pool, 0);
    const auto after = pool.submit("pid");
    go.give();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(held).status, AIOMQ_OK);
    EXPECT_NE(pool.outcome(after).integer, pid);
    expect_no_death(pool);
}

TEST(Sigterm, ToAnIdleWorkerReplacesIt) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    pool.wait_until([&] { return pool.worker_stats(0).sleeping == 1; });
    const auto pid = pool.worker_stats(0).pid;
    kill(pid, SIGTERM);
    wait_replaced(pool, 0, pid);
    expect_no_death(pool);
}

TEST(Sigterm, HandsTheUnstartedRestOfAChunkBack) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go;
    const auto pid = pool.worker_stats(0).pid;
    const auto chunk = pool.submit("pid_of_item", go.path(), 100);
    pool.wait_until([&] { return pool.worker_stats(0).completed == 3; });
    ask_to_leave(pool, 0);
    go.give();
    pool.collect_all();
    for (std::uint32_t item = 0; item < 100; ++item) {
        ASSERT_EQ(pool.outcome(chunk, item).status, AIOMQ_OK) << item;
        ASSERT_EQ(pool.outcome(chunk, item).times, 1) << item;
        ASSERT_EQ(pool.outcome(chunk, item).integer == pid, item <= 3) << item;
        ASSERT_EQ(pool.outcome(chunk, item).attempt, 1U) << "nothing was run twice";
    }
    EXPECT_EQ(pool.pool_stats().requeued, 96U);
    expect_no_death(pool);
}

TEST(Sigterm, LetsSuspendedItemsFinishWhileOthersWait) {
    TestPool pool({.environment = {"AIOMQ_TEST_CONCURRENCY=4"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go;
    const auto held = pool.submit("suspend", go.path());
    wait_running(pool, 0);
    const auto pid = pool.worker_stats(0).pid;
    ask_to_leave(pool, 0);
    const auto waiting = pool.submit("pid");  // nobody else could run it, and this one must not
    go.give();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(held).status, AIOMQ_OK);
    EXPECT_NE(pool.outcome(waiting).integer, pid);
    expect_no_death(pool);
}

// The worker looks at its events without waiting, and its own descriptor is readable all the time.
TEST(Sigterm, ReachesAWorkerThatIsBusyBesideASuspendedItem) {
    GoSignal go;
    TestPool pool({.workers = 1, .environment = {"AIOMQ_TEST_CONCURRENCY=2"}});
    const auto suspended = pool.submit("suspend", go.path());
    wait_running(pool, 0);
    const auto pid = pool.worker_stats(0).pid;
    const auto id = pool.submit("leave_at_the_end_of_a_slice", "", 300);
    pool.wait_until([&] { return pool.worker_stats(0).state == AIOMQ_WORKER_RETIRING; });
    go.give();
    pool.collect_all();
    wait_replaced(pool, 0, pid);
    EXPECT_EQ(pool.outcome(suspended).status, AIOMQ_OK);
    for (std::uint32_t item = 0; item < 300; ++item)
        EXPECT_EQ(pool.outcome(id, item).status, AIOMQ_OK) << item;
    EXPECT_NE(pool.outcome(id, 299).integer, pid)
        << "its next process runs what it had not started";
    expect_no_death(pool);
}

TEST(Sigterm, IsLeftToAProgramThatHasItsOwnHandler) {
    TestPool pool({.environment = {"AIOMQ_TEST_MODE=ignore_sigterm"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto pid = pool.worker_stats(0).pid;
    kill(pid, SIGTERM);
    const auto id = pool.submit("pid");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).integer, pid);
    EXPECT_EQ(pool.worker_stats(0).state, static_cast<std::uint32_t>(AIOMQ_WORKER_RUNNING));
}

TEST(Sigterm, EndsAForkedChildOfATask) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto id = pool.submit("end_of_forked_child");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).integer, SIGTERM);
    EXPECT_EQ(pool.worker_stats(0).state, static_cast<std::uint32_t>(AIOMQ_WORKER_RUNNING));
}

TEST(Sigterm, ToEveryWorkerAtOnceClosesThePoolInOrder) {
    TestPool pool({.workers = 3});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal first;
    GoSignal rest;
    std::vector<std::uint64_t> held{pool.submit("wait_for_file", first.path())};
    for (int i = 0; i < 2; ++i) held.push_back(pool.submit("wait_for_file", rest.path()));
    for (std::uint32_t worker = 0; worker < 3; ++worker) wait_running(pool, worker);
    std::vector<std::uint64_t> queued;
    for (int i = 0; i < 10; ++i) queued.push_back(pool.submit("nothing"));
    for (std::uint32_t worker = 0; worker < 3; ++worker) pool.signal_worker(worker, SIGTERM);
    first.give();
    // The first to leave is not replaced, and nobody starts anything any more.
    while (pool.outcomes().size() < 11) ASSERT_TRUE(pool.collect_some());
    for (const auto id : queued) EXPECT_EQ(pool.outcome(id).status, AIOMQ_POOL_CLOSED);
    EXPECT_NE(pool.outcome(queued[0]).error_message.find("SIGTERM"), std::string::npos);
    EXPECT_EQ(aiomq_pool_state(pool.get(), nullptr, 0), AIOMQ_POOL_CLOSING);
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = 1;
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -ESHUTDOWN);
    rest.give();
    pool.collect_all();
    for (const auto id : held) EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
    EXPECT_EQ(aiomq_pool_join(pool.get(), 5'000'000'000), 0);
    EXPECT_EQ(aiomq_pool_state(pool.get(), nullptr, 0), AIOMQ_POOL_ENDED);
    ASSERT_EQ(pool.events(AIOMQ_EVENT_CLOSED).size(), 1U);
    EXPECT_NE(pool.events(AIOMQ_EVENT_CLOSED)[0].find("SIGTERM"), std::string::npos);
    EXPECT_TRUE(pool.events(AIOMQ_EVENT_DIED).empty());
    EXPECT_EQ(pool.pool_stats().restarts, 0U);
}

TEST(Sigterm, ToEveryIdleWorkerAtOnceEndsThePool) {
    TestPool pool({.workers = 3});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    pid_t pids[3];
    for (std::uint32_t worker = 0; worker < 3; ++worker)
        pids[worker] = pool.worker_stats(worker).pid;
    for (const pid_t pid : pids) kill(pid, SIGTERM);
    pool.wait_until([&] { return aiomq_pool_state(pool.get(), nullptr, 0) == AIOMQ_POOL_ENDED; });
    EXPECT_EQ(aiomq_pool_join(pool.get(), 0), 0);
}

TEST(Sigterm, ToEveryWorkerAtOnceCountsOneThatIsStillStarting) {
    GoSignal start;  // the other way round: while the file exists workers do not get ready
    TestPool pool({.workers = 2, .environment = {std::string("AIOMQ_TEST_HOLD=") + start.path()}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    start.give();
    const auto old = pool.worker_stats(0).pid;
    kill(old, SIGKILL);
    pool.wait_until([&] {
        const auto pid = pool.worker_stats(0).pid;
        return pid != 0 && pid != old && aiomq_test::catches(pid, SIGTERM);
    });
    for (std::uint32_t worker = 0; worker < 2; ++worker) pool.signal_worker(worker, SIGTERM);
    // The one that was ready leaves, and is not replaced.
    pool.wait_until([&] { return !pool.events(AIOMQ_EVENT_CLOSED).empty(); });
    ASSERT_EQ(pool.events(AIOMQ_EVENT_CLOSED).size(), 1U);
    EXPECT_NE(pool.events(AIOMQ_EVENT_CLOSED)[0].find("SIGTERM"), std::string::npos);
    start.take();
    pool.wait_until([&] { return aiomq_pool_state(pool.get(), nullptr, 0) == AIOMQ_POOL_ENDED; });
    EXPECT_EQ(pool.worker_stats(1).restarts, 0U);
}

TEST(Sigterm, ToOneWorkerAfterTheOtherReplacesBoth) {
    TestPool pool({.workers = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (std::uint32_t worker = 0; worker < 2; ++worker) {
        const auto pid = pool.worker_stats(worker).pid;
        kill(pid, SIGTERM);
        wait_replaced(pool, worker, pid);
    }
    expect_no_death(pool);
}

TEST(Retire, ByATaskReplacesItsWorkerAfterIt) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto id = pool.submit("retire_now");
    const auto after = pool.submit("pid");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
    EXPECT_NE(pool.outcome(id).integer, pool.outcome(after).integer);
    expect_no_death(pool);
}

TEST(Retire, TakesWhatFollowsOnItsWorkAndNothingElse) {
    GroupOptions group;
    group.max_tasks = 1;
    group.concurrency = 4;
    TestPool pool({.groups = {group}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const pid_t pid = pool.worker_stats(0).pid;
    GoSignal go;
    const auto held = pool.submit("suspend", go.path());
    wait_running(pool, 0);
    pool.submit("pid");  // its share is done, so it retires
    pool.wait_until([&] { return pool.worker_stats(0).state == AIOMQ_WORKER_RETIRING; });
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.flags = AIOMQ_TASK_KEYED;
    task.items = 1;
    task.key = 7;
    const auto other = pool.submit_task("pid", task);
    task.flags |= AIOMQ_TASK_FOLLOW;
    std::vector<std::uint64_t> following;
    for (int i = 0; i < 5; ++i) following.push_back(pool.submit_task("pid", task));
    task.items = 3;
    following.push_back(pool.submit_task("pid_of_item", task));
    pool.wait_until([&] {
        pool.collect_some();
        return pool.outcomes().size() >= 1 + 5 + 3;
    });
    for (const auto id : following)
        EXPECT_EQ(pool.outcome(id, id == following.back() ? 2 : 0).integer, pid);
    go.give();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(held).status, AIOMQ_OK);
    EXPECT_NE(pool.outcome(other).integer, pid);
    task.flags = AIOMQ_TASK_FOLLOW;
    task.items = 1;
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -EINVAL) << "without a key";
    expect_no_death(pool);
}

TEST(MaxTasks, GivesEveryProcessItsShareAndNoMore) {
    GroupOptions group;
    group.max_tasks = 5;
    TestPool pool({.start_limit = 1, .groups = {group}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int i = 0; i < 13; ++i) pool.submit("pid");
    pool.submit("pid_of_item", "/", 10);  // items count, not tasks
    pool.collect_all();
    std::map<std::int64_t, int> by_pid;
    for (const auto &[id, outcome] : pool.outcomes()) {
        ASSERT_EQ(outcome.status, AIOMQ_OK);
        ++by_pid[outcome.integer];
    }
    EXPECT_EQ(by_pid.size(), 5U);
    for (const auto &[pid, count] : by_pid) EXPECT_LE(count, 5);
    EXPECT_EQ(pool.events(AIOMQ_EVENT_RETIRED).size(), 4U);
    expect_no_death(pool);
}

TEST(MaxTasks, InterruptsNothingThatRuns) {
    GroupOptions group;
    group.max_tasks = 3;
    group.concurrency = 8;
    TestPool pool({.groups = {group}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int i = 0; i < 100; ++i) pool.submit("later");
    pool.collect_all();
    for (const auto &[id, outcome] : pool.outcomes()) {
        EXPECT_EQ(outcome.status, AIOMQ_OK);
        EXPECT_EQ(outcome.times, 1);
    }
    expect_no_death(pool);
}

TEST(MaxMemory, CountsWhatIsPrivateOnly) {
    GroupOptions group;
    group.max_memory_bytes = 96 << 20;
    TestPool pool({.groups = {group}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto run = [&](const char *function, const char *payload) {
        const auto id = pool.submit(function, payload);
        pool.collect_all();
        return pool.outcome(id).integer;
    };
    const auto pid = run("keep_memory", "s150000000");
    // Memory is looked at when an item completes, and every 100 ms at most.
    for (const auto end = now_ns() + 250'000'000; now_ns() < end;) ASSERT_EQ(run("pid", ""), pid);
    EXPECT_EQ(run("keep_memory", "p150000000"), pid) << "the task that grew is not interrupted";
    for (const auto end = now_ns() + 20'000'000'000; run("pid", "") == pid;)
        ASSERT_LT(now_ns(), end) << "it was to retire";
    expect_no_death(pool);
}
