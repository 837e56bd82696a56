// aiomq/libevent.hpp: coroutines on event loops, in workers and in the dispatcher.
#include <event2/event.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <aiomq/libevent.hpp>
#include <ranges>

using namespace std::chrono_literals;

namespace {

struct Counts {
    int running = 0;
    int most = 0;
};
struct Inside {
    Inside() { counts().most = std::max(counts().most, ++counts().running); }
    ~Inside() { --counts().running; }
    Inside(const Inside &) = delete;
    Inside &operator=(const Inside &) = delete;
    static Counts &counts() { return aiomq::worker_state<Counts>(); }
};

/// Gives how many ran at once at most.
aiomq::Task<int> nap(int milliseconds) {
    const Inside inside;
    co_await aiomq::sleep_for(std::chrono::milliseconds(milliseconds));
    co_return Inside::counts().most;
}
aiomq::Task<> never() { co_await aiomq::sleep_for(std::chrono::hours(1)); }
aiomq::Task<std::string> first_of_two() {
    const auto slow = []() -> aiomq::Task<int> {
        co_await aiomq::sleep_for(std::chrono::hours(1));
        co_return 1;
    };
    const auto fast = []() -> aiomq::Task<std::string> {
        co_await aiomq::sleep_for(1ms);
        co_return "fast";
    };
    const auto first = co_await aiomq::when_any(slow(), fast());
    co_return first.index() == 1 ? std::get<1>(first) : "slow";
}
aiomq::Task<int> one_of_them_fails() {
    const auto slow = []() -> aiomq::Task<int> {
        co_await aiomq::sleep_for(std::chrono::hours(1));
        co_return 1;
    };
    const auto fails = []() -> aiomq::Task<int> {
        co_await aiomq::sleep_for(1ms);
        throw std::runtime_error("one of them");
    };
    const auto [a, b] = co_await aiomq::when_all(slow(), fails());
    co_return a + b;
}
aiomq::Task<std::string> over_a_socket() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) throw std::bad_alloc();
    const auto send = [&]() -> aiomq::Task<> {
        co_await aiomq::writable(ends[1]);
        if (write(ends[1], "hello", 5) != 5) throw std::runtime_error("write");
    };
    const auto receive = [&]() -> aiomq::Task<std::string> {
        char text[16];
        const bool in_time = co_await aiomq::readable(ends[0], 20s);
        const ssize_t bytes = read(ends[0], text, sizeof text);
        co_return std::string(text, static_cast<std::size_t>(bytes)) + (in_time ? "" : " late");
    };
    auto [text, nothing] = co_await aiomq::when_all(receive(), send());
    const bool more = co_await aiomq::readable(ends[0], 1ms);
    close(ends[0]);
    close(ends[1]);
    co_return text + (more ? " and more" : "");
}
aiomq::Task<bool> told_to_stop() {
    const std::stop_token token = co_await aiomq::stop_token();
    bool told = false;
    const std::stop_callback callback(token, [&] { told = true; });
    try {
        co_await aiomq::sleep_for(std::chrono::hours(1));
    } catch (const aiomq::Cancelled &) {
    }
    co_return told;
}
/// Many that wait at once: all ends come, whatever the order.
aiomq::Task<int> fan(int count) {
    std::vector<aiomq::Task<int>> tasks;
    for (int i = 0; i < count; ++i) tasks.push_back(nap(i % 3));
    int sum = 0;
    for (const int most : co_await aiomq::when_all(std::move(tasks))) sum += most > 0 ? 1 : 0;
    co_return sum;
}

constexpr auto kNap = aiomq::function<"nap", nap>;
constexpr auto kNever = aiomq::function<"never", never>;
constexpr auto kFirst = aiomq::function<"first_of_two", first_of_two>;
constexpr auto kFails = aiomq::function<"one_of_them_fails", one_of_them_fails>;
constexpr auto kSocket = aiomq::function<"over_a_socket", over_a_socket>;
constexpr auto kTold = aiomq::function<"told_to_stop", told_to_stop>;
constexpr auto kFan = aiomq::function<"fan", fan>;

}  // namespace

TEST(Libevent, TasksOfAWorkerWaitSideBySideUpToItsLimit) {
    aiomq::Pool pool({.workers = 1, .concurrency = 8});
    int most = 0;
    for (const int seen : pool.map(kNap, std::vector<int>(200, 2))) most = std::max(most, seen);
    EXPECT_GT(most, 1);
    EXPECT_LE(most, 8);
}

TEST(Libevent, BranchesOfATaskEndTogether) {
    aiomq::Pool pool({.workers = 1});
    EXPECT_EQ(pool.apply(kFirst), "fast");
    const auto failed = pool.submit(kFails).result();
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().message(), "one_of_them_fails: one of them");
    EXPECT_EQ(pool.apply(kSocket), "hello");
    EXPECT_EQ(pool.apply(kFan, 100), 100);
}

TEST(Libevent, ACancelReachesWhatWaits) {
    aiomq::Pool pool({.workers = 1});
    auto never = pool.submit(kNever);
    auto told = pool.submit(kTold);
    pool.apply(kNap, 1);  // behind them, so that they have started
    never.cancel();
    told.cancel();
    const auto cancelled = never.result();
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().outcome(), AIOMQ_CANCELLED);
    EXPECT_TRUE(told.get()) << "its token was requested, and what it made of that counts";
}

TEST(Libevent, ATimeoutEndsTheItemThatIsLate) {
    aiomq::Pool pool({.workers = 1});
    const auto late = pool.options({.timeout = 30ms}).submit(kNever).result();
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().outcome(), AIOMQ_TIMED_OUT);
    std::size_t fine = 0;
    std::size_t over = 0;
    const std::vector<int> naps{1, 3600000, 2, 3600000, 3};
    for (const auto &result :
         pool.options({.timeout = 200ms}).try_map(kNap, naps, {.chunksize = 5}))
        result ? ++fine : (result.error().outcome() == AIOMQ_TIMED_OUT ? ++over : 0);
    EXPECT_EQ(fine, 3U);
    EXPECT_EQ(over, 2U);
}

TEST(Libevent, ADispatchersLoopWaitsForFuturesAndTimers) {
    event_base *base = event_base_new();
    {
        aiomq::Pool pool({.workers = 2, .capacity = 8});
        aiomq::EventLoop loop(base);
        loop.attach(pool);
        const auto main = [&]() -> aiomq::Task<int> {
            std::vector<aiomq::Future<int>> futures;
            for (int i = 0; i < 100; ++i)
                futures.push_back(pool.submit(kNap, 1));  // more than slots
            int count = 0;
            for (auto &future : futures) count += co_await future > 0 ? 1 : 0;
            co_await aiomq::sleep_for(1ms);
            co_return count;
        };
        EXPECT_EQ(loop.run(main()), 100);
        int seen = 0;
        const auto background = [&]() -> aiomq::Task<> {
            auto map = pool.map(kNap, std::vector<int>(50, 0));
            while (co_await map.async_next()) ++seen;
            event_base_loopbreak(base);
        };
        loop.spawn(background());
        event_base_dispatch(base);
        EXPECT_EQ(seen, 50);
    }
    event_base_free(base);
}

TEST(Libevent, AFutureIsAwaitedOnItsPoolsLoopOnly) {
    aiomq::Pool pool({.workers = 1});
    event_base *base = event_base_new();
    {
        aiomq::EventLoop loop(base);
        auto future = pool.submit(kNap, 1000);
        const auto main = [&]() -> aiomq::Task<> { co_await future; };
        try {
            loop.run(main());
            FAIL();
        } catch (const aiomq::Error &error) {
            EXPECT_EQ(error.code(), EPERM);
        }
    }
    event_base_free(base);
    const auto sleeper = []() -> aiomq::Task<> { co_await aiomq::sleep_for(1ms); };
    EXPECT_THROW(pool.run(sleeper()), aiomq::Error);
}

TEST(Libevent, APoolMayEndBeforeItsLoop) {
    event_base *base = event_base_new();
    {
        aiomq::EventLoop loop(base);
        auto pool = std::make_unique<aiomq::Pool>(aiomq::PoolOptions{.workers = 1});
        loop.attach(*pool);
        const auto main = [&]() -> aiomq::Task<int> {
            auto future = pool->submit(kNever);
            auto late = [&]() -> aiomq::Task<> {
                co_await aiomq::sleep_for(1ms);
                pool.reset();
            };
            loop.spawn(late());
            try {
                co_await future;
            } catch (const aiomq::Error &error) {
                co_return error.outcome();
            }
            co_return AIOMQ_OK;
        };
        EXPECT_EQ(loop.run(main()), AIOMQ_POOL_CLOSED);
    }
    event_base_free(base);
}

TEST(Libevent, TasksThatHaveNotEndedGoWithTheirLoop) {
    event_base *base = event_base_new();
    bool gone = false;
    {
        struct Guard {
            bool &gone;
            ~Guard() { gone = true; }
        };
        aiomq::EventLoop loop(base);
        const auto forever = [&]() -> aiomq::Task<> {
            const Guard guard{gone};
            co_await aiomq::sleep_for(std::chrono::hours(1));
        };
        loop.spawn(forever());
        EXPECT_FALSE(gone);
    }
    EXPECT_TRUE(gone);
    EXPECT_EQ(event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED), 0);
    event_base_free(base);
}

int main(int argc, char **argv) {
    aiomq::run_if_worker(kNap, kNever, kFirst, kFails, kSocket, kTold, kFan);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
