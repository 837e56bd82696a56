// Named queues and the groups of workers that serve them.
#include <fstream>
#include <set>

#include "../support/go_signal.hpp"
#include "../support/pool_fixture.hpp"

using aiomq_test::GoSignal;
using aiomq_test::GroupOptions;
using aiomq_test::return_integer;
using aiomq_test::return_text;
using aiomq_test::TestPool;

namespace {

/// How many times this process has been here.
int stamp(const aiomq_call *, aiomq_item *ret) {
    static std::int64_t count = 0;
    return return_integer(++count, ret);
}

int last_argument(const aiomq_call *, aiomq_item *ret) {
    std::ifstream file("/proc/self/cmdline");
    std::string last;
    for (std::string argument; std::getline(file, argument, '\0');) last = argument;
    return return_text(last, ret);
}

const aiomq_test::MoreBodies kMore{{"stamp", stamp, nullptr},
                                   {"last_argument", last_argument, nullptr}};

std::uint64_t submit_to(TestPool &pool, std::uint32_t queue, const std::string &function,
                        const std::string &payload = {}, std::uint64_t *key = nullptr) {
    aiomq_task task{};
    task.queue = static_cast<std::uint16_t>(queue);
    if (key != nullptr) {
        task.flags = AIOMQ_TASK_KEYED;
        task.key = *key;
    }
    return pool.submit_task(task, function, payload);
}

GroupOptions group(std::uint32_t workers, std::vector<std::uint32_t> queues) {
    GroupOptions result;
    result.workers = workers;
    result.queues = std::move(queues);
    return result;
}

void wait_running(TestPool &pool, std::uint32_t worker, std::uint32_t items = 1) {
    pool.wait_until([&] { return pool.worker_stats(worker).running == items; });
}

/// Every task of @first ran before every task of @second.
void expect_before(TestPool &pool, const std::vector<std::uint64_t> &first,
                   const std::vector<std::uint64_t> &second) {
    for (const auto early : first)
        for (const auto late : second)
            EXPECT_LT(pool.outcome(early).integer, pool.outcome(late).integer);
}

}  // namespace

TEST(Queues, AreServedStrictlyFirstToLast) {
    TestPool pool({.queues = {"high", "middle", "low"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go;
    pool.submit("wait_for_file", go.path());
    wait_running(pool, 0);
    std::vector<std::uint64_t> of[3];
    for (int i = 0; i < 5; ++i)
        for (const std::uint32_t queue : {2U, 1U, 0U})
            of[queue].push_back(submit_to(pool, queue, "stamp"));
    // A key changes nothing in this: its tasks are tasks of their queue.
    std::uint64_t key = 7;
    of[2].push_back(submit_to(pool, 2, "stamp", "", &key));
    of[0].push_back(submit_to(pool, 0, "stamp", "", &key));
    EXPECT_EQ(pool.queue_stats(2).ready, 6U);
    EXPECT_STREQ(pool.queue_stats(2).name, "low");
    go.give();
    pool.collect_all();
    expect_before(pool, of[0], of[1]);
    expect_before(pool, of[1], of[2]);
}

TEST(Queues, OfAGroupAreServedInItsOwnOrder) {
    TestPool pool({.queues = {"first", "second"}, .groups = {group(1, {1, 0})}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go;
    pool.submit("wait_for_file", go.path());
    wait_running(pool, 0);
    std::vector<std::uint64_t> of[2];
    for (int i = 0; i < 5; ++i)
        for (const std::uint32_t queue : {0U, 1U})
            of[queue].push_back(submit_to(pool, queue, "stamp"));
    go.give();
    pool.collect_all();
    expect_before(pool, of[1], of[0]);
}

TEST(Queues, AreServedByTheirGroupsOnly) {
    TestPool pool(
        {.capacity = 512, .queues = {"left", "right"}, .groups = {group(2, {0}), group(3, {1})}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    std::vector<std::uint64_t> of[2];
    std::uint64_t key = 0;
    for (int i = 0; i < 200; ++i)
        for (const std::uint32_t queue : {0U, 1U}) {
            key = static_cast<std::uint64_t>(i);
            of[queue].push_back(submit_to(pool, queue, "nothing", "", i % 2 ? &key : nullptr));
        }
    pool.collect_all();
    for (const auto id : of[0]) ASSERT_LT(pool.outcome(id).worker, 2U);
    for (const auto id : of[1]) ASSERT_GE(pool.outcome(id).worker, 2U);
}

TEST(Queues, OfOthersListedLastAreStolenFrom) {
    TestPool pool({.queues = {"left", "right"}, .groups = {group(1, {0, 1}), group(1, {1})}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go_left;
    GoSignal go_right;
    submit_to(pool, 0, "wait_for_file", go_left.path());
    wait_running(pool, 0);
    submit_to(pool, 1, "wait_for_file", go_right.path());
    wait_running(pool, 1);
    std::vector<std::uint64_t> of[2];
    for (int i = 0; i < 5; ++i)
        for (const std::uint32_t queue : {1U, 0U})
            of[queue].push_back(submit_to(pool, queue, "stamp"));
    go_left.give();
    while (pool.outcomes().size() < 11) ASSERT_TRUE(pool.collect_some());
    for (const auto id : of[1]) EXPECT_EQ(pool.outcome(id).worker, 0U) << "stolen";
    expect_before(pool, of[0], of[1]);
    go_right.give();
    pool.collect_all();
}

TEST(Queues, WakeOnlyWorkersThatServeThem) {
    TestPool pool(
        {.spin_ns = 0, .queues = {"left", "right"}, .groups = {group(1, {0}), group(1, {1})}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto asleep = [&] {
        return pool.worker_stats(0).sleeping == 1 && pool.worker_stats(1).sleeping == 1;
    };
    pool.wait_until(asleep);
    const auto left = pool.worker_stats(0).wakeups;
    const auto right = pool.worker_stats(1).wakeups;
    for (int i = 0; i < 20; ++i) {
        submit_to(pool, 1, "nothing");
        pool.collect_all();
        pool.wait_until(asleep);
    }
    EXPECT_EQ(pool.worker_stats(0).wakeups, left);
    EXPECT_GE(pool.worker_stats(1).wakeups, right + 20);
}

TEST(Queues, HaveNumbers) {
    TestPool pool({.queues = {"left", "right"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    std::uint32_t queue = 77;
    EXPECT_EQ(aiomq_pool_queue(pool.get(), "middle", &queue), -ENOENT);
    EXPECT_EQ(aiomq_pool_queue(pool.get(), "", &queue), -ENOENT);
    EXPECT_EQ(aiomq_pool_queue(pool.get(), nullptr, &queue), -EINVAL);
    EXPECT_EQ(queue, 77U) << "untouched on failure";
    EXPECT_EQ(aiomq_pool_queue(pool.get(), "right", &queue), 0);
    EXPECT_EQ(queue, 1U);
}

TEST(Queues, AreOneCalledDefaultUnlessNamed) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    std::uint32_t queue = 77;
    EXPECT_EQ(aiomq_pool_queue(pool.get(), "default", &queue), 0);
    EXPECT_EQ(queue, 0U);
    EXPECT_STREQ(pool.queue_stats(0).name, "default");
}

TEST(Groups, HaveProgramsAndEnvironmentsOfTheirOwn) {
    GroupOptions left = group(1, {0});
    left.arguments = {"--left"};
    left.environment = {"AIOMQ_TEST_SIDE=left"};
    GroupOptions right = group(2, {1});
    right.arguments = {"--right"};
    TestPool pool({.arguments = {"--pool"},
                   .environment = {"AIOMQ_TEST_SIDE=pool"},
                   .queues = {"left", "right"},
                   .groups = {left, right}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto left_program = submit_to(pool, 0, "last_argument");
    const auto right_program = submit_to(pool, 1, "last_argument");
    const auto left_side = submit_to(pool, 0, "own_variable", "AIOMQ_TEST_SIDE");
    const auto right_side = submit_to(pool, 1, "own_variable", "AIOMQ_TEST_SIDE");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(left_program).bytes, "--left");
    EXPECT_EQ(pool.outcome(right_program).bytes, "--right");
    EXPECT_EQ(pool.outcome(left_side).bytes, "left");
    EXPECT_EQ(pool.outcome(right_side).bytes, "pool");
}

TEST(Groups, SayHowMuchTheirWorkersRunAtOnce) {
    GroupOptions three = group(1, {});
    three.concurrency = 3;
    TestPool pool({.environment = {"AIOMQ_TEST_CONCURRENCY=8"}, .groups = {three}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go;
    for (int i = 0; i < 5; ++i) pool.submit("suspend", go.path());
    wait_running(pool, 0, 3);
    pool.wait_until([&] { return pool.worker_stats(0).sleeping == 1; });
    EXPECT_EQ(pool.worker_stats(0).running, 3U);
    EXPECT_EQ(pool.queue_stats(0).ready, 2U);
    go.give();
    pool.collect_all();
}

TEST(Groups, KeepTheirWorkersNumbersAfterDeaths) {
    GroupOptions left = group(1, {0});
    left.name = "the left\n\x1b[2J" + std::string(40, 'x');
    TestPool pool({.queues = {"left", "right"}, .groups = {left, group(2, {1})}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (const std::uint32_t victim : {0U, 2U}) {
        const auto pid = pool.worker_stats(victim).pid;
        kill(pid, SIGKILL);
        pool.wait_until([&] {
            const auto stats = pool.worker_stats(victim);
            return stats.pid != pid && stats.state == AIOMQ_WORKER_RUNNING;
        });
    }
    EXPECT_EQ(pool.worker_stats(0).group, 0U);
    EXPECT_EQ(pool.worker_stats(1).group, 1U);
    EXPECT_EQ(pool.worker_stats(2).group, 1U);
    EXPECT_EQ(pool.worker_stats(0).group_name,
              ("the_left___2J" + std::string(40, 'x')).substr(0, 31))
        << "as labels are";
    EXPECT_STREQ(pool.worker_stats(2).group_name, "exe") << "the program's name";
    for (int i = 0; i < 40; ++i) submit_to(pool, static_cast<std::uint32_t>(i % 2), "nothing");
    pool.collect_all();
    std::set<std::uint32_t> left_workers;
    for (const auto &[id, outcome] : pool.outcomes()) EXPECT_EQ(outcome.status, AIOMQ_OK);
}

TEST(Discard, GivesWhatHasNotStartedPoolClosedAndLetsTheRestFinish) {
    TestPool pool({.workers = 1});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    GoSignal go;
    const auto chunk = pool.submit("wait_for_file", go.path(), 50);
    wait_running(pool, 0);
    std::vector<std::uint64_t> queued;
    std::uint64_t key = 1;
    for (int i = 0; i < 5; ++i) queued.push_back(pool.submit("nothing"));
    queued.push_back(submit_to(pool, 0, "nothing", "", &key));
    EXPECT_EQ(aiomq_pool_close(pool.get(), 2), -EINVAL) << "an unknown flag";
    EXPECT_EQ(aiomq_pool_close(pool.get(), 0), 0);
    EXPECT_EQ(aiomq_pool_join(pool.get(), 0), -ETIMEDOUT);
    EXPECT_EQ(aiomq_pool_close(pool.get(), AIOMQ_CLOSE_DISCARD), 0) << "a closed pool too";
    while (pool.outcomes().size() < 55) ASSERT_TRUE(pool.collect_some());
    for (const auto id : queued) EXPECT_EQ(pool.outcome(id).status, AIOMQ_POOL_CLOSED);
    EXPECT_EQ(pool.outcome(queued[0]).error_type, "aiomq.PoolClosed");
    for (std::uint32_t item = 1; item < 50; ++item)
        EXPECT_EQ(pool.outcome(chunk, item).status, AIOMQ_POOL_CLOSED) << item;
    go.give();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(chunk, 0).status, AIOMQ_OK);
    EXPECT_EQ(aiomq_pool_join(pool.get(), 5'000'000'000), 0);
    for (const auto &[id, outcome] : pool.outcomes()) EXPECT_EQ(outcome.times, 1);
}
