// A worker whose loop does not turn is reported, with the place where it is stuck; nobody else is, and a
// pool that has nothing to do is not woken for it.
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "../support/clock.hpp"
#include "../support/go_signal.hpp"
#include "../support/pool_fixture.hpp"
#include "../support/process.hpp"

using aiomq_test::GoSignal;
using aiomq_test::now_ns;
using aiomq_test::TestPool;

namespace {

constexpr std::uint64_t kAfter = 40'000'000;

/// What aiomq_view_*() say of a pool.
class Seen {
  public:
    explicit Seen(TestPool &pool) { EXPECT_EQ(aiomq_pool_view(pool.get(), &view_), 0); }
    ~Seen() { aiomq_view_close(&view_); }
    Seen(const Seen &) = delete;
    Seen &operator=(const Seen &) = delete;

    aiomq_worker_stats worker(std::uint32_t number) {
        aiomq_worker_stats stats{};
        stats.struct_bytes = sizeof stats;
        EXPECT_EQ(aiomq_view_worker(view_, number, &stats), 0);
        return stats;
    }
    std::vector<aiomq_event> blocked() {
        aiomq_pool_stats stats{};
        stats.struct_bytes = sizeof stats;
        EXPECT_EQ(aiomq_view_pool(view_, &stats), 0);
        std::vector<aiomq_event> events;
        for (std::uint64_t i = 1; i <= stats.events; ++i) {
            aiomq_event event{};
            if (aiomq_view_event(view_, i, &event) == 0 && event.kind == AIOMQ_EVENT_BLOCKED)
                events.push_back(event);
        }
        return events;
    }
    aiomq_view *get() { return view_; }

  private:
    aiomq_view *view_ = nullptr;
};

/// Looks again until @done; without any call that the pool would notice.
void until(const std::function<bool()> &done) {
    const std::uint64_t end = now_ns() + 20'000'000'000;
    while (!done()) {
        ASSERT_LT(now_ns(), end) << "what the test waits for did not happen";
        poll(nullptr, 0, 1);
    }
}

/// How often the supervisor's thread has been scheduled off by itself: it was woken so often.
std::uint64_t supervisor_wakeups() {
    for (int tid = getpid(); tid < getpid() + 5000; ++tid) {
        const std::string folder = "/proc/self/task/" + std::to_string(tid);
        std::ifstream name(folder + "/comm");
        std::string text;
        if (!std::getline(name, text) || text != "aiomq-superv") continue;
        std::ifstream status(folder + "/status");
        while (std::getline(status, text))
            if (text.starts_with("voluntary_ctxt_switches:"))
                return std::strtoull(text.substr(24).c_str(), nullptr, 10);
    }
    ADD_FAILURE() << "no supervisor thread";
    return 0;
}

/// Item 2 waits for the payload's file in its own loop, without blocking it.
int stuck_at_two(const aiomq_call *call, aiomq_item *ret) {
    if (call->item != 2) return aiomq_test::return_integer(call->item, ret);
    const std::string path = aiomq_test::payload_of(call);
    struct stat file {};
    while (stat(path.c_str(), &file) != 0) poll(nullptr, 0, 1);
    return aiomq_test::return_integer(2, ret);
}

/// Completes after a quarter of a second, from a libevent timer: it waits, its loop turns.
int much_later(const aiomq_call *call, aiomq_item *) {
    struct Due {
        aiomq_worker *worker;
        std::uint32_t job;
        std::uint32_t item;
    };
    const timeval delay{0, 250000};
    event_base_once(
        aiomq_worker_event_base(call->worker), -1, EV_TIMEOUT,
        [](evutil_socket_t, short, void *argument) {
            auto *due = static_cast<Due *>(argument);
            aiomq_item item{};
            item.index = due->item;
            item.status = AIOMQ_OK;
            if (aiomq_worker_complete(due->worker, due->job, &item) < 0) abort();
            delete due;
        },
        new Due{call->worker, call->job->job, call->item}, &delay);
    return 1;
}

/// Two bytes each, so that the 127 bytes of a view end inside one.
const std::string kLongName = [] {
    std::string name;
    for (int i = 0; i < 500; ++i) name += "\xc3\xbc";
    return name;
}();

const aiomq_test::MoreBodies kMore{{kLongName.c_str(), stuck_at_two, nullptr},
                                   {"stuck_at_two", stuck_at_two, nullptr},
                                   {"much_later", much_later, nullptr},
                                   {"mod:f\xc3\xbcr", stuck_at_two, nullptr}};

}  // namespace

TEST(BlockedLoop, IsReportedOnceWithFunctionItemAndTime) {
    TestPool pool({.workers = 1, .blocked_after_ns = kAfter});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    Seen seen(pool);
    GoSignal gate;
    const auto id = pool.submit("mod:f\xc3\xbcr", gate.path(), 4);
    // The application does nothing meanwhile: it neither dispatches nor collects.
    until([&] { return !seen.blocked().empty(); });
    const aiomq_event event = seen.blocked().front();
    const aiomq_worker_stats worker = seen.worker(0);
    EXPECT_EQ(event.worker, 0U);
    EXPECT_EQ(event.pid, worker.pid);
    const std::string text = event.text;
    EXPECT_TRUE(text.starts_with("worker 0 (pid " + std::to_string(worker.pid) +
                                 ") has not turned its loop for "))
        << text;
    EXPECT_TRUE(
        text.ends_with(" in item 2 of \"mod:f\xc3\xbcr\" (task " + std::to_string(id) + ")"))
        << text;
    EXPECT_GE(worker.blocked_ns, kAfter);
    EXPECT_EQ(worker.current_id, id);
    EXPECT_EQ(worker.current_item, 2U);
    // It goes on for some more looks: the same blockage is not told again.
    const std::uint64_t before = seen.worker(0).blocked_ns;
    until([&] { return seen.worker(0).blocked_ns >= before + 3 * kAfter; });
    EXPECT_EQ(seen.blocked().size(), 1U);
    gate.give();
    pool.collect_all();
    until([&] { return seen.worker(0).blocked_ns == 0; });
    EXPECT_EQ(seen.worker(0).current_id, 0U);
    // Another one is.
    GoSignal second;
    pool.submit("stuck_at_two", second.path(), 4);
    until([&] { return seen.blocked().size() == 2; });
    second.give();
    pool.collect_all();
}

TEST(BlockedLoop, OfAStoppedWorkerIsReportedAndForgottenWithTheWorker) {
    TestPool pool({.workers = 1, .blocked_after_ns = kAfter});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    Seen seen(pool);
    GoSignal gate;
    pool.submit("wait_for_file", gate.path());
    until([&] { return seen.worker(0).running == 1; });
    aiomq_test::stop(seen.worker(0).pid);
    until([&] { return seen.worker(0).blocked_ns > 0; });
    kill(seen.worker(0).pid, SIGKILL);
    pool.collect_all();
    until([&] { return seen.worker(0).blocked_ns == 0; });
    EXPECT_EQ(seen.blocked().size(), 1U);
}

TEST(BlockedLoop, IsNotOneWhoseItemsWait) {
    TestPool pool(
        {.workers = 1, .environment = {"AIOMQ_TEST_CONCURRENCY=4"}, .blocked_after_ns = kAfter});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    Seen seen(pool);
    pool.submit("much_later", {}, 4);
    pool.submit("much_later");
    pool.collect_all();
    EXPECT_TRUE(seen.blocked().empty()) << seen.blocked().front().text;
}

TEST(BlockedLoop, IsNotOneThatRunsShortItemsOneAfterTheOther) {
    TestPool pool({.workers = 1, .blocked_after_ns = kAfter});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    Seen seen(pool);
    const std::uint64_t end = now_ns() + 5 * kAfter;
    while (now_ns() < end) {
        for (int i = 0; i < 20; ++i) pool.submit("nothing");
        pool.collect_all();
    }
    EXPECT_TRUE(seen.blocked().empty()) << seen.blocked().front().text;
}

TEST(BlockedLoop, IsNotLookedForWithoutWork) {
    TestPool pool({.workers = 2, .blocked_after_ns = kAfter});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    Seen seen(pool);
    GoSignal gate;
    // A task that is not collected, and nothing else: nobody has to look after it.
    pool.submit("wait_for_file", gate.path());
    until([&] { return !seen.blocked().empty(); });
    gate.give();
    until([&] { return seen.worker(0).sleeping != 0 && seen.worker(1).sleeping != 0; });
    until([&] { return seen.worker(0).blocked_ns + seen.worker(1).blocked_ns == 0; });
    poll(nullptr, 0, static_cast<int>(2 * kAfter / 1'000'000));  // the last look, and the audit
    const std::uint64_t before = supervisor_wakeups();
    poll(nullptr, 0, static_cast<int>(10 * kAfter / 1'000'000));
    EXPECT_EQ(supervisor_wakeups(), before);
    pool.collect_all();
    poll(nullptr, 0, static_cast<int>(10 * kAfter / 1'000'000));
    EXPECT_EQ(supervisor_wakeups(), before);
}

TEST(BlockedLoop, IsNeverReportedWhenNobodyAsks) {
    TestPool pool({.workers = 1, .blocked_after_ns = UINT64_MAX});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    Seen seen(pool);
    GoSignal gate;
    pool.submit("wait_for_file", gate.path());
    until([&] { return seen.worker(0).running == 1; });
    poll(nullptr, 0, 20);  // the wake audit
    const std::uint64_t before = supervisor_wakeups();
    poll(nullptr, 0, static_cast<int>(5 * kAfter / 1'000'000));
    EXPECT_EQ(supervisor_wakeups(), before);
    EXPECT_TRUE(seen.blocked().empty());
    gate.give();
    pool.collect_all();
}

TEST(ClaimedTask, ShowsWhatItIsAndHowFarItGot) {
    TestPool pool({.workers = 2, .blocked_after_ns = UINT64_MAX});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    Seen seen(pool);
    GoSignal gate;
    const auto id = pool.submit("stuck_at_two", gate.path(), 5);
    until([&] { return seen.worker(0).running + seen.worker(1).running == 1; });
    until([&] { return seen.worker(0).current_item + seen.worker(1).current_item == 2; });
    int found = 0;
    for (std::uint32_t slot = 0; slot < 64; ++slot) {
        aiomq_task_stats task{};
        task.struct_bytes = sizeof task;
        const int error = aiomq_view_task(seen.get(), slot, &task);
        if (error == -ENODATA) continue;
        ASSERT_EQ(error, 0);
        ++found;
        EXPECT_EQ(task.task_id, id);
        EXPECT_EQ(seen.worker(task.worker).current_id, id);
        EXPECT_EQ(task.attempt, 1U);
        EXPECT_EQ(task.queue, 0U);
        EXPECT_EQ(task.items, 5U);
        EXPECT_EQ(task.started, 3U);
        EXPECT_STREQ(task.function, "stuck_at_two");
        EXPECT_LT(task.age_ns, 60'000'000'000U);
    }
    EXPECT_EQ(found, 1);
    aiomq_task_stats task{};
    EXPECT_EQ(aiomq_view_task(seen.get(), 0, &task), -EINVAL) << "no struct_bytes";
    task.struct_bytes = sizeof task;
    EXPECT_EQ(aiomq_view_task(seen.get(), 1 << 20, &task), -ENOENT);
    gate.give();
    pool.collect_all();
}

TEST(ClaimedTask, HasTheStartOfALongName) {
    TestPool pool({.workers = 1});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    Seen seen(pool);
    GoSignal gate;
    pool.submit(kLongName, gate.path(), 3);
    until([&] { return seen.worker(0).current_item == 2; });
    int found = 0;
    for (std::uint32_t slot = 0; slot < 64; ++slot) {
        aiomq_task_stats task{};
        task.struct_bytes = sizeof task;
        if (aiomq_view_task(seen.get(), slot, &task) != 0) continue;
        ++found;
        EXPECT_EQ(std::string(task.function), kLongName.substr(0, 126)) << "no half character";
    }
    EXPECT_EQ(found, 1);
    gate.give();
    pool.collect_all();
}
