// What goes wrong in a program that uses aiomq.hpp: each is defined.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <aiomq/aiomq.hpp>
#include <atomic>
#include <fstream>
#include <thread>

using namespace std::chrono_literals;

namespace {

aiomq::Bytes big() { return aiomq::Bytes(200000, std::byte{7}); }
int spin() {
    for (std::atomic<bool> on = true; on;) std::this_thread::yield();
    return 1;
}
/// Waits for what nobody ever does.
struct Nobody {
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<>) const {}
    void await_resume() const {}
};
aiomq::Task<int> never_finishes() {
    co_await Nobody();
    co_return 1;
}
aiomq::Task<int> throws_late() {
    co_await aiomq::call(aiomq::function<"big", big>);
    throw std::logic_error("late");
}
aiomq::Task<int> calls_what_fails() { co_return co_await aiomq::call<int>("no_such_function", 1); }
struct Own {
    int code;
};
[[noreturn]] int throws_own() { throw Own{3}; }

constexpr auto kBig = aiomq::function<"big", big>;
constexpr auto kSpin = aiomq::function<"spin", spin>;
constexpr auto kNever = aiomq::function<"never_finishes", never_finishes>;
constexpr auto kLate = aiomq::function<"throws_late", throws_late>;
constexpr auto kCalls = aiomq::function<"calls_what_fails", calls_what_fails>;
constexpr auto kOwn = aiomq::function<"throws_own", throws_own>;
constexpr auto kOne = aiomq::function<"one", [] { return 1; }>;

std::string code_of(const std::function<void()> &call) {
    try {
        call();
    } catch (const aiomq::Error &error) {
        return error.what();
    }
    return "nothing";
}

}  // namespace

TEST(BadInput, FuturesThatOutliveThePoolAreToldSo) {
    auto pool = std::make_unique<aiomq::Pool>(aiomq::PoolOptions{.workers = 1});
    auto read_later = pool->submit(kBig);
    read_later.wait();
    auto view = pool->submit<aiomq::View>("big");
    const aiomq::View held = view.get();
    auto outstanding = pool->submit(kSpin);
    auto map = pool->map(kOne, std::vector<int>());
    pool.reset();
    EXPECT_EQ(read_later.get(), big()) << "what had come stays readable";
    EXPECT_EQ(held.bytes().size(), 200000U);
    EXPECT_EQ(held.bytes()[199999], std::byte{7});
    const auto result = outstanding.result();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().outcome(), AIOMQ_POOL_CLOSED);
}

TEST(BadInput, AMapThatOutlivesThePoolEndsWithAnError) {
    auto pool = std::make_unique<aiomq::Pool>(aiomq::PoolOptions{.workers = 1});
    auto map = pool->map<int>("spin", std::vector<int>{1});
    EXPECT_EQ(pool->workers(), 1U);
    auto results = pool->try_map<int>("never_finishes", std::vector<int>{1, 2});
    pool.reset();
    EXPECT_NE(code_of([&] { map.next(); }), "nothing");
}

TEST(BadInput, AnObjectThatWasMovedFromSaysSo) {
    aiomq::Pool pool({.workers = 1});
    auto future = pool.submit(kOne);
    auto other = std::move(future);
    EXPECT_EQ(other.get(), 1);
    EXPECT_FALSE(future.valid());
    EXPECT_NE(code_of([&] { (void)future.get(); }).find("moved from"), std::string::npos);
    EXPECT_NE(code_of([&] { (void)other.get(); }).find("its result was taken"), std::string::npos);
    aiomq::Pool taken = std::move(pool);
    EXPECT_NE(code_of([&] { (void)pool.submit(kOne); }).find("moved from"), std::string::npos);
    EXPECT_EQ(taken.apply(kOne), 1);
    const auto await_nothing = []() -> aiomq::Task<> {
        aiomq::Task<> task;
        co_await std::move(task);
    };
    EXPECT_NE(code_of([&] { taken.run(await_nothing()); }).find("moved from"), std::string::npos);
}

TEST(BadInput, ACoroutineThatNeverFinishesIsEndedByItsTimeout) {
    aiomq::Pool pool({.workers = 1, .grace = 50ms});
    const auto result = pool.options({.timeout = 50ms}).submit(kNever).result();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().outcome(), AIOMQ_TIMED_OUT);
    EXPECT_EQ(pool.apply(kOne), 1) << "its worker was replaced";
}

TEST(BadInput, ExceptionsOfAllKindsComeBack) {
    aiomq::Pool pool({.workers = 1});
    EXPECT_EQ(pool.submit(kLate).result().error().type(), "std::logic_error");
    EXPECT_EQ(pool.submit(kOwn).result().error().message(),
              "throws_own: threw something that is no std::exception");
    const auto nested = pool.submit(kCalls).result();
    EXPECT_EQ(nested.error().type(), "aiomq.UnknownFunction");
}

TEST(BadInput, TheCallThatIsWrongFails) {
    aiomq::Pool pool({.workers = 1, .arena_max_bytes = 1 << 20});
    EXPECT_NE(code_of([&] { (void)pool.options({.queue = "slow"}).submit(kOne); }).find("slow"),
              std::string::npos);
    EXPECT_NE(code_of([&] { (void)pool.submit<int>("one", "\xff"); }).find("UTF-8"),
              std::string::npos);
    EXPECT_NE(
        code_of([&] { (void)pool.submit<int>("one", std::uint64_t{1} << 63); }).find("64 bits"),
        std::string::npos);
    EXPECT_NE(code_of([&] { (void)pool.submit<int>("one", aiomq::Bytes(2 << 20)); }), "nothing");
    EXPECT_NE(code_of([&] { (void)pool.submit<int>(""); }), "nothing");
    EXPECT_EQ(pool.apply(kOne), 1);
    pool.close();
    EXPECT_NE(code_of([&] { (void)pool.submit(kOne); }), "nothing");
}

TEST(BadInput, APoolThatCantStartSaysWhy) {
    EXPECT_NE(
        code_of([] { aiomq::Pool({.argv = {"/no/such/program"}, .workers = 1}); }).find("program"),
        std::string::npos);
    EXPECT_NE(code_of([] {
                  aiomq::Pool({.argv = {"aiomq-worker", "--plugin", "/no/such.so"}, .workers = 1});
              }).find("/no/such.so"),
              std::string::npos);
    EXPECT_NE(code_of([] { aiomq::Worker worker; }).find("not started by a pool"),
              std::string::npos);
    EXPECT_NE(code_of([] { aiomq::worker_state<int>(); }), "nothing");
}

TEST(BadInput, ManyThreadsShareAPool) {
    aiomq::Pool pool({.workers = 2, .capacity = 16});
    std::atomic<int> sum = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            for (int round = 0; round < 200; ++round) sum += pool.apply(kOne);
            for (const int one : pool.map<int>("one_of", std::vector<int>(300, 1))) sum += one;
        });
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(sum, 4 * 500);
}

int main(int argc, char **argv) {
    aiomq::run_if_worker(kBig, kSpin, kNever, kLate, kCalls, kOwn, kOne,
                         aiomq::function<"one_of", [](int one) { return one; }>);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
