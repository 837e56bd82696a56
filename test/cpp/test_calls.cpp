// aiomq.hpp from both sides: this program is the dispatcher and its own worker.
#include <gtest/gtest.h>
#include <unistd.h>

#include <aiomq/aiomq.hpp>
#include <numeric>
#include <ranges>

struct Point {
    double x;
    double y;
    std::string name;
    bool operator==(const Point &) const = default;
};
template <>
struct aiomq::Struct<Point> {
    static constexpr auto fields =
        std::tuple(aiomq::field("x", &Point::x), aiomq::field("y", &Point::y),
                   aiomq::field("name", &Point::name));
};

namespace {

std::int64_t add(std::int64_t a, std::int64_t b) { return a + b; }
std::string join(const std::vector<std::string> &parts, std::string_view with) {
    std::string all;
    for (const std::string &part : parts) all += (all.empty() ? "" : std::string(with)) + part;
    return all;
}
Point mirror(const Point &point) { return {point.y, point.x, point.name}; }
[[noreturn]] void fail(const std::string &text) { throw std::out_of_range(text); }
[[noreturn]] int throw_int() { throw 7; }
double total(std::span<const double> numbers) {
    return std::accumulate(numbers.begin(), numbers.end(), 0.0);
}
aiomq::Bytes reversed(std::span<const std::byte> bytes) { return {bytes.rbegin(), bytes.rend()}; }
std::map<std::string, std::optional<int>> lengths(const std::vector<std::string> &words) {
    std::map<std::string, std::optional<int>> all;
    for (const auto &word : words)
        all[word] = word.empty() ? std::nullopt : std::optional(static_cast<int>(word.size()));
    return all;
}
aiomq::Task<int> later(int value) { co_return value + 1; }
aiomq::Task<int> nested(int value) {
    const auto [left, right] =
        co_await aiomq::when_all(aiomq::call(aiomq::function<"later", later>, value),
                                 aiomq::call(aiomq::function<"later", later>, 10));
    co_return left *right;
}

constexpr auto kAdd = aiomq::function<"add", add>;
constexpr auto kTwice = aiomq::function<"twice", [](std::int64_t value) { return 2 * value; }>;
constexpr auto kJoin = aiomq::function<"join", join>;
constexpr auto kMirror = aiomq::function<"mirror", mirror>;
constexpr auto kFail = aiomq::function<"fail", fail>;
constexpr auto kThrowInt = aiomq::function<"throw_int", throw_int>;
constexpr auto kTotal = aiomq::function<"total", total>;
constexpr auto kReversed = aiomq::function<"reversed", reversed>;
constexpr auto kLengths = aiomq::function<"lengths", lengths>;
constexpr auto kLater = aiomq::function<"later", later>;
constexpr auto kNested = aiomq::function<"nested", nested>;
constexpr auto kText =
    aiomq::function<"text", [](std::int64_t value) { return std::to_string(value); }>;
constexpr auto kConcat =
    aiomq::function<"concat", [](std::string a, std::string b) { return a + b; }>;
constexpr auto kPid = aiomq::function<"pid", [] { return static_cast<int>(getpid()); }>;
constexpr auto kDie = aiomq::function<"die", [](int value) {
    if (value == 3) _exit(9);
    return value;
}>;

class Calls : public testing::Test {
  protected:
    static void SetUpTestSuite() { pool_ = new aiomq::Pool({.workers = 2}); }
    static void TearDownTestSuite() { delete std::exchange(pool_, nullptr); }
    static aiomq::Pool &pool() { return *pool_; }

  private:
    static aiomq::Pool *pool_;
};
aiomq::Pool *Calls::pool_ = nullptr;

}  // namespace

TEST_F(Calls, ArgumentsAndResultsKeepTheirTypes) {
    EXPECT_EQ(pool().apply(kAdd, 2, -5), -3);
    EXPECT_EQ(pool().apply(kJoin, std::vector<std::string>{"a", "b", ""}, "--"), "a--b--");
    EXPECT_EQ(pool().apply(kMirror, Point{1.5, -2, "p"}), (Point{-2, 1.5, "p"}));
    EXPECT_EQ(pool().apply(kTotal, std::vector<double>{0.5, 1.5}), 2.0);
    EXPECT_EQ(pool().apply(kLengths, std::vector<std::string>{"one", ""}),
              (std::map<std::string, std::optional<int>>{{"one", 3}, {"", std::nullopt}}));
    EXPECT_EQ(pool().apply(kLater, 1), 2);
    EXPECT_NE(pool().apply(kPid), getpid());
}

TEST_F(Calls, LargeBytesCome) {
    aiomq::Bytes bytes(3'000'001);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
    const aiomq::Bytes result = pool().apply(kReversed, bytes);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), result.rbegin(), result.rend()));
}

TEST_F(Calls, ATaskWaitsForOthers) { EXPECT_EQ(pool().apply(kNested, 1), 22); }

TEST_F(Calls, ExceptionsComeBack) {
    try {
        pool().apply(kFail, "no such thing");
        FAIL();
    } catch (const aiomq::Error &error) {
        EXPECT_EQ(error.outcome(), AIOMQ_ERROR);
        EXPECT_EQ(error.type(), "std::out_of_range");
        EXPECT_EQ(error.message(), "fail: no such thing");
    }
    const aiomq::Result<int> result = pool().submit(kThrowInt).result();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().message(), "throw_int: threw something that is no std::exception");
}

TEST_F(Calls, WrongCallsSayWhatWasExpected) {
    const auto message = [&](auto... arguments) {
        return pool().submit<std::int64_t>("add", arguments...).result().error().message();
    };
    EXPECT_EQ(message(1), "add takes 2 arguments, 1 was given");
    EXPECT_EQ(message(1, "x"), "add: argument 2: expected int, got text");
    EXPECT_EQ(message(true, 1), "add: argument 1: expected int, got bool");
    const auto missing = pool().submit<int>("nothing_like_it", 1).result();
    EXPECT_EQ(missing.error().type(), "aiomq.UnknownFunction");
    EXPECT_NE(missing.error().message().find("nothing_like_it"), std::string::npos);
    const auto bad = pool().submit<std::string>("add", 1, 2).result();
    EXPECT_EQ(bad.error().type(), "aiomq.BadResult");
    EXPECT_EQ(bad.error().message(), "add gave int 3 where text was expected");
}

TEST_F(Calls, AMapKeepsTheOrder) {
    std::int64_t expected = 0;
    for (const std::int64_t value :
         pool().map(kTwice, std::views::iota(std::int64_t{0}, std::int64_t{20000})))
        ASSERT_EQ(value, 2 * expected++);
    EXPECT_EQ(expected, 20000);
    const std::vector<std::pair<int, int>> pairs{{1, 2}, {3, 4}};
    EXPECT_EQ(pool().map(kAdd, pairs).to_vector(), (std::vector<std::int64_t>{3, 7}));
}

TEST_F(Calls, AnUnorderedMapGivesEachOnce) {
    std::vector<bool> seen(5000);
    for (const auto &[index, value] :
         pool().map_unordered(kTwice, std::views::iota(std::int64_t{0}, std::int64_t{5000}))) {
        EXPECT_EQ(value, 2 * static_cast<std::int64_t>(index));
        EXPECT_FALSE(seen[index]);
        seen[index] = true;
    }
    EXPECT_EQ(std::ranges::count(seen, true), 5000);
}

TEST_F(Calls, AMapMayBeMovedWhileItRuns) {
    auto map = pool().map_unordered(kTwice, std::vector<std::int64_t>(1000, 1));
    EXPECT_EQ(map.next()->second, 2);
    auto moved = std::move(map);
    EXPECT_EQ(moved.to_vector().size(), 999U);
}

TEST_F(Calls, AnErrorEndsAFold) {
    EXPECT_THROW(pool().map_reduce("fail", "concat", std::vector<std::string>(1000, "x"),
                                   std::optional<std::string>()),
                 aiomq::Error);
    EXPECT_EQ(pool().apply(kAdd, 1, 1), 2);
}

TEST_F(Calls, AMapPullsNoMoreThanItsBuffer) {
    std::size_t pulled = 0;
    auto source = std::views::iota(std::int64_t{0}) |
                  std::views::transform([&](std::int64_t value) { return ++pulled, value; });
    auto map = pool().map(kTwice, source, {.buffersize = 10});
    for (std::size_t taken = 0; taken < 1000; ++taken) {
        ASSERT_EQ(map.next(), 2 * static_cast<std::int64_t>(taken));
        ASSERT_LE(pulled, taken + 12);
    }
}

TEST_F(Calls, AnItemThatDiesHasAnErrorAndTheOthersResults) {
    int died = 0;
    int fine = 0;
    for (const auto &result : pool().try_map(kDie, std::views::iota(0, 10), {.chunksize = 2})) {
        if (result) {
            ++fine;
        } else {
            ++died;
            EXPECT_EQ(result.error().outcome(), AIOMQ_WORKER_DIED);
            EXPECT_EQ(result.error().exit_status(), 9);
        }
    }
    EXPECT_EQ(died, 1);
    EXPECT_EQ(fine, 9);
}

TEST_F(Calls, AFoldKeepsTheOrder) {
    std::string expected;
    for (int i = 0; i < 3000; ++i) expected += std::to_string(i);
    EXPECT_EQ(pool().map_reduce(kText, kConcat, std::views::iota(0, 3000)), expected);
    EXPECT_EQ(pool().map_reduce(kTwice, kAdd, std::vector<int>{1, 2, 3}), 12);
    EXPECT_THROW(pool().map_reduce(kTwice, kAdd, std::vector<int>{}), std::invalid_argument);
    EXPECT_EQ(pool().map_reduce(kTwice, kAdd, std::vector<int>{}, 5, {}), 5);
}

TEST_F(Calls, CoroutinesOfTheDispatcherWaitForFutures) {
    const auto main = [&]() -> aiomq::Task<int> {
        auto first = pool().submit(kAdd, 1, 2);
        auto second = pool().submit(kAdd, 3, 4);
        std::int64_t sum = co_await second + co_await first;
        auto map = pool().map(kTwice, std::views::iota(0, 100));
        while (const auto value = co_await map.async_next()) sum += *value;
        co_return static_cast<int>(sum);
    };
    EXPECT_EQ(pool().run(main()), 10 + 9900);
}

int main(int argc, char **argv) {
    aiomq::run_if_worker(kAdd, kTwice, kJoin, kMirror, kFail, kThrowInt, kTotal, kReversed,
                         kLengths, kLater, kNested, kText, kConcat, kPid, kDie);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
