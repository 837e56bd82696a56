// Worker programs that can't start: the error names why, no storm of processes, nothing is left behind.
#include <fcntl.h>
#include <sys/wait.h>

#include "../support/go_signal.hpp"
#include "../support/pool_fixture.hpp"

using aiomq_test::GoSignal;
using aiomq_test::PoolOptions;
using aiomq_test::TestPool;

namespace {

constexpr std::uint64_t kLongNs = 20'000'000'000;

bool contains(const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
}

/// Counts the workers that were started: each writes a byte (AIOMQ_TEST_COUNT).
class StartCounter {
  public:
    StartCounter() { EXPECT_EQ(pipe2(ends_, O_CLOEXEC | O_NONBLOCK), 0); }
    ~StartCounter() {
        close(ends_[0]);
        close(ends_[1]);
    }
    StartCounter(const StartCounter &) = delete;
    StartCounter &operator=(const StartCounter &) = delete;

    PoolOptions with(PoolOptions options, const std::string &mode = {}) const {
        options.environment.push_back("AIOMQ_TEST_COUNT=1");
        if (!mode.empty()) options.environment.push_back("AIOMQ_TEST_MODE=" + mode);
        options.extra_fds = {ends_[1]};
        return options;
    }
    /// How many have started since the last call.
    int take() const {
        char bytes[4096];
        const ssize_t count = read(ends_[0], bytes, sizeof bytes);
        return count < 0 ? 0 : static_cast<int>(count);
    }

  private:
    int ends_[2];
};

/// True when this process has no children, dead or alive.
bool no_children() { return waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD; }

int open_descriptors() {
    int count = 0;
    for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/// Creates a pool that must fail with @error, leaving neither processes nor descriptors.
std::string failure(const PoolOptions &options, int error) {
    const int descriptors = open_descriptors();
    std::string text;
    {
        TestPool pool(options);
        EXPECT_EQ(pool.created(), error);
        EXPECT_EQ(pool.get(), nullptr) << "untouched on failure";
        EXPECT_TRUE(no_children()) << "what was started is gone when create returns";
        text = pool.error_text();
    }
    EXPECT_EQ(open_descriptors(), descriptors);
    return text;
}

}  // namespace

TEST(BadStart, AProgramThatDoesNotExistIsNamed) {
    for (const std::string program : {"/nonexistent/worker", "no-such-worker-in-path"}) {
        const std::string text = failure({.workers = 3, .program = program}, -ENOENT);
        EXPECT_TRUE(contains(text, program)) << text;
        EXPECT_TRUE(contains(text, "No such file")) << text;
    }
    const std::string text = failure({.program = "/etc"}, -EACCES);
    EXPECT_TRUE(contains(text, "/etc")) << text;
}

TEST(BadStart, AProgramThatExitsAtOnceIsQuotedAndNotStartedForEver) {
    for (const std::uint32_t limit : {1U, 3U, 5U}) {
        const StartCounter starts;
        const std::string text =
            failure(starts.with({.start_limit = limit}, "exit_at_once"), -ECHILD);
        EXPECT_TRUE(contains(text, "exited with status 3")) << text;
        EXPECT_TRUE(contains(text, "no configuration\ncannot go on")) << text;
        EXPECT_TRUE(contains(text, aiomq_test::own_command()[0])) << text;
        EXPECT_EQ(starts.take(), static_cast<int>(limit));
    }
}

TEST(BadStart, ManyWorkersThatExitAtOnceAreNoStorm) {
    const StartCounter starts;
    failure(starts.with({.workers = 8}, "exit_at_once"), -ECHILD);
    const int count = starts.take();
    EXPECT_GE(count, 3);
    EXPECT_LE(count, 8 + 3) << "each place once, and the start limit";
}

TEST(BadStart, AWorkerThatSaysNothingIsToldFromOneThatDoes) {
    const std::string text = failure({.environment = {"AIOMQ_TEST_MODE=exit_silently"}}, -ECHILD);
    EXPECT_TRUE(contains(text, "status 3")) << text;
    EXPECT_TRUE(contains(text, "nothing to stderr")) << text;
}

TEST(BadStart, AWorkerThatIsKilledIsToldWithItsSignal) {
    const std::string text = failure({.environment = {"AIOMQ_TEST_MODE=die_at_once"}}, -ECHILD);
    EXPECT_TRUE(contains(text, "SIGKILL")) << text;
}

TEST(BadStart, TheLastLinesOfALongComplaintAreQuoted) {
    const std::string text =
        failure({.environment = {"AIOMQ_TEST_MODE=exit_with_much_text"}}, -ECHILD);
    EXPECT_TRUE(contains(text, "line 19999")) << text.substr(0, 200);
    EXPECT_FALSE(contains(text, "line 10\n")) << "a pipe's worth does not fit";
}

TEST(BadStart, AnInitializerThatRaisedIsQuotedAndNotTriedAgain) {
    const StartCounter starts;
    const std::string text = failure(starts.with({}, "abort"), -ECHILD);
    EXPECT_TRUE(contains(text, "the initializer raised: no such table")) << text;
    EXPECT_EQ(starts.take(), 1);
}

TEST(BadStart, AWorkerThatCreatesAPoolFirstIsToldTheMissingCall) {
    const StartCounter starts;
    const std::string text = failure(starts.with({.start_limit = 1}, "create_first"), -ECHILD);
    EXPECT_TRUE(contains(text, std::to_string(-EDEADLK))) << text;
    EXPECT_TRUE(contains(text, "aiomq_worker_open()")) << text;
    EXPECT_EQ(starts.take(), 1) << "it did not start itself";
}

TEST(BadStart, AWorkerOfAnotherFormatSaysWhichOnesMet) {
    const std::string text = failure({.environment = {"AIOMQ_TEST_MODE=other_version"}}, -ECHILD);
    EXPECT_TRUE(contains(text, "format version 999")) << text;
    EXPECT_TRUE(contains(text, "same build")) << text;
}

TEST(BadStart, APoolThatDoesNotWaitBreaksLaterWithTheSameWords) {
    const StartCounter starts;
    TestPool pool(starts.with({.flags = AIOMQ_POOL_NOWAIT}, "exit_at_once"));
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    // Queued while nobody knew; each gets its outcome all the same.
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = 3;
    std::uint32_t queued = 0;
    if (aiomq_pool_function(pool.get(), "nothing", &task.function) == 0)
        queued = aiomq_pool_submit(pool.get(), &task, nullptr) == 0 ? 3 : 0;
    char text[4096] = "";
    int flags = 0;
    while (aiomq_pool_state(pool.get(), text, sizeof text) != AIOMQ_POOL_BROKEN)
        ASSERT_GT(flags = aiomq_pool_wait(pool.get(), kLongNs), 0);
    EXPECT_TRUE(contains(text, "cannot go on")) << text;
    std::uint32_t ended = 0;
    while (ended < queued) {
        aiomq_completion completion;
        if (aiomq_pool_collect(pool.get(), &completion, 1) == 0) {
            ASSERT_GT(aiomq_pool_wait(pool.get(), kLongNs), 0);
            continue;
        }
        for (std::uint32_t i = 0; i < completion.item_count; ++i, ++ended) {
            const aiomq_item &item = completion.items[i];
            EXPECT_EQ(item.status, AIOMQ_POOL_CLOSED);
            std::vector<char> buffer(item.bytes + 64);
            aiomq_error error{};
            ASSERT_EQ(aiomq_error_decode(&item, buffer.data(), buffer.size(), &error), 0);
            EXPECT_STREQ(error.type, "aiomq.PoolBroken");
            EXPECT_TRUE(contains(error.message, "cannot go on")) << error.message;
        }
        aiomq_pool_release(pool.get(), completion.loan);
    }
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -EPIPE);
    std::uint32_t number = 0;
    void *memory = nullptr;
    EXPECT_EQ(aiomq_pool_function(pool.get(), "other", &number), -EPIPE);
    EXPECT_EQ(aiomq_pool_alloc(pool.get(), 8, &memory), -EPIPE);
    EXPECT_EQ(aiomq_pool_terminate(pool.get()), 0);
    EXPECT_EQ(aiomq_pool_join(pool.get(), kLongNs), 0);
    EXPECT_EQ(starts.take(), 3);
    EXPECT_TRUE(no_children());
}

TEST(BadStart, SuccessorsThatCanNotStartBreakAPoolThatHasWorked) {
    GoSignal refuse;
    const StartCounter starts;
    PoolOptions options;
    options.environment = {std::string("AIOMQ_TEST_REFUSE=") + refuse.path()};
    TestPool pool(starts.with(options));
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    EXPECT_EQ(starts.take(), 1);
    refuse.give();
    const auto victim = pool.submit("die_at", "0");
    const auto behind = pool.submit("nothing");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(victim).status, AIOMQ_WORKER_DIED);
    EXPECT_EQ(pool.outcome(behind).status, AIOMQ_POOL_CLOSED);
    char text[4096] = "";
    EXPECT_EQ(aiomq_pool_state(pool.get(), text, sizeof text), AIOMQ_POOL_BROKEN);
    EXPECT_TRUE(contains(text, "status 3")) << text;
    EXPECT_EQ(starts.take(), 3) << "the start limit";
}

TEST(BadStart, APlaceThatStaysEmptyDoesNotBreakAPoolThatWorks) {
    GoSignal refuse;
    const StartCounter starts;
    PoolOptions options;
    options.workers = 2;
    options.environment = {std::string("AIOMQ_TEST_REFUSE=") + refuse.path()};
    TestPool pool(starts.with(options));
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    starts.take();
    refuse.give();
    pool.signal_worker(1, SIGKILL);
    int failed = 0;  // more than the start limit
    pool.wait_until([&] { return (failed += starts.take()) >= 5; });
    const auto id = pool.submit("echo", "by the other");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).bytes, "by the other");
    EXPECT_EQ(aiomq_pool_state(pool.get(), nullptr, 0), AIOMQ_POOL_RUNNING);
    refuse.take();
    pool.wait_until([&] { return pool.worker_stats(1).state == AIOMQ_WORKER_RUNNING; });
}
