// The table of ordinary accidents, natively: each ends as documented, in seconds, and the pool goes on.
// Its other rows stand in the files of what they are about; the Python ones in test_accidents.py.
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "../support/pool_fixture.hpp"

using aiomq_test::payload_of;
using aiomq_test::TestPool;

namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
constexpr std::uint64_t kHundredMb = 100 << 20;

/// Faults for real; sanitizers would answer with a report and an exit status of their own.
int segfault(const aiomq_call *, aiomq_item *) {
    signal(SIGSEGV, SIG_DFL);
    auto *page = static_cast<volatile char *>(
        mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    *page = 1;
    return 0;
}

[[gnu::noinline]] int descend(volatile char *above) {
    volatile char frame[4096];
    frame[0] = above[0];
    if (frame[0] == 0) return 0;       // never
    return descend(frame) + frame[0];  // NOLINT
}
int overflow(const aiomq_call *, aiomq_item *ret) {
    signal(SIGSEGV, SIG_DFL);
    volatile char top = 1;
    return aiomq_test::return_integer(descend(&top), ret);
}

/// Dies with half of a result of 100 MB written, once per pool.
int die_with_much(const aiomq_call *call, aiomq_item *) {
    void *memory = nullptr;
    if (aiomq_worker_alloc(call->worker, call->job->job, kHundredMb, &memory) != 0) return -ENOMEM;
    std::memset(memory, 'x', kHundredMb / 2);
    return kill(getpid(), SIGKILL);
}

/// Leaves a process behind that holds all that this one has inherited, until a write to fd 3 + n ends it.
int leave_a_fork(const aiomq_call *, aiomq_item *ret) {
    const pid_t child = fork();
    if (child == 0) {
        char byte = 0;
        _exit(read(AIOMQ_EXTRA_FD_BASE, &byte, 1) == 1 ? 0 : 1);
    }
    return aiomq_test::return_integer(child, ret);
}

int leave_a_program(const aiomq_call *, aiomq_item *ret) {
    char name[] = "sleep";
    char time[] = "60";
    char *argv[] = {name, time, nullptr};
    pid_t child = 0;
    if (posix_spawnp(&child, name, nullptr, nullptr, argv, environ) != 0) return -ECHILD;
    return aiomq_test::return_integer(child, ret);
}

/// A pool of its own, for one task.
int use_a_pool(const aiomq_call *call, aiomq_item *ret) {
    aiomq_pool_options options;
    aiomq_pool_options_init(&options, sizeof options);
    options.label = "inner";
    options.workers = 1;
    options.argv = aiomq_test::own_command();
    aiomq_pool *pool = nullptr;
    if (const int error = aiomq_pool_create(&options, &pool); error != 0) return error;
    const std::string text = payload_of(call);
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = 1;
    task.kind = AIOMQ_KIND_BYTES;
    task.payload = text.data();
    task.payload_bytes = text.size();
    int error = aiomq_pool_function(pool, "echo", &task.function);
    if (error == 0) error = aiomq_pool_submit(pool, &task, nullptr);
    aiomq_completion completion;
    while (error == 0 && aiomq_pool_collect(pool, &completion, 1) == 0)
        if (aiomq_pool_wait(pool, 5 * kNsPerSecond) <= 0) error = -ETIME;
    if (error == 0)
        error = aiomq_test::return_text(
            std::string(static_cast<const char *>(completion.item.value.data),
                        completion.item.bytes),
            ret);
    aiomq_pool_destroy(&pool);
    return error;
}

int never(const aiomq_call *, aiomq_item *) { return 1; }

const aiomq_test::MoreBodies kMore{{"segfault", segfault, nullptr},
                                   {"overflow", overflow, nullptr},
                                   {"die_with_much", die_with_much, nullptr},
                                   {"leave_a_fork", leave_a_fork, nullptr},
                                   {"leave_a_program", leave_a_program, nullptr},
                                   {"use_a_pool", use_a_pool, nullptr},
                                   {"never", never, nullptr}};

void expect_works(TestPool &pool) {
    const auto id = pool.submit("echo", "after");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
    EXPECT_EQ(pool.outcome(id).bytes, "after");
}

void expect_died_of(const char *function, int signal) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto id = pool.submit(function);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_WORKER_DIED);
    EXPECT_EQ(pool.outcome(id).signal, signal) << pool.outcome(id).error_message;
    expect_works(pool);
}

/// Ends the pool in order. Returns whether that was over in five seconds.
bool ends_soon(TestPool &pool) {
    return aiomq_pool_close(pool.get(), 0) == 0 &&
           aiomq_pool_join(pool.get(), 5 * kNsPerSecond) == 0;
}

/// A worker is killed in mid-task while this process treats its children as it does.
void expect_death_is_seen() {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int i = 0; i < 5; ++i) {
        const auto id = pool.submit("never");
        pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
        pool.signal_worker(0, SIGKILL);
        pool.collect_all();
        EXPECT_EQ(pool.outcome(id).status, AIOMQ_WORKER_DIED);
        expect_works(pool);
    }
    EXPECT_TRUE(ends_soon(pool));
}

}  // namespace

TEST(Accident, ASegfault) { expect_died_of("segfault", SIGSEGV); }

TEST(Accident, AStackOverflow) { expect_died_of("overflow", SIGSEGV); }

TEST(Accident, AWorkerKilledWithAResultOfAHundredMegabytesHalfWritten) {
    TestPool pool({.arena_max = 256 << 20});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto id = pool.submit("die_with_much");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_WORKER_DIED);
    const auto whole = pool.submit("make_bytes", std::to_string(kHundredMb));
    pool.collect_all();
    EXPECT_EQ(pool.outcome(whole).bytes.size(), kHundredMb);
    pool.wait_until([&] { return pool.nothing_in_use(); });
}

TEST(Accident, ATaskThatForks) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = 0;
    {
        TestPool pool({.extra_fds = {ends[0]}});
        ASSERT_EQ(pool.created(), 0) << pool.error_text();
        const auto id = pool.submit("leave_a_fork");
        pool.collect_all();
        EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
        child = static_cast<pid_t>(pool.outcome(id).integer);
        const auto victim = pool.submit("die_at", "0");
        pool.collect_all();
        EXPECT_EQ(pool.outcome(victim).status, AIOMQ_WORKER_DIED);
        expect_works(pool);
        EXPECT_TRUE(ends_soon(pool));
    }
    EXPECT_EQ(kill(child, 0), 0) << "it lives on, and held up nothing";
    EXPECT_EQ(write(ends[1], "x", 1), 1);
    close(ends[0]);
    close(ends[1]);
}

TEST(Accident, ATaskThatStartsAProgramWhichOutlivesIt) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto id = pool.submit("leave_a_program");
    pool.collect_all();
    ASSERT_EQ(pool.outcome(id).status, AIOMQ_OK);
    const auto child = static_cast<pid_t>(pool.outcome(id).integer);
    pool.signal_worker(0, SIGKILL);
    pool.wait_until([&] { return pool.worker_stats(0).restarts == 1; });
    expect_works(pool);
    EXPECT_TRUE(ends_soon(pool));
    EXPECT_EQ(kill(child, SIGKILL), 0) << "it lives on, and held up nothing";
}

TEST(Accident, APoolInsideAWorker) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto id = pool.submit("use_a_pool", "from within");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).bytes, "from within") << pool.outcome(id).error_message;
}

TEST(Accident, TwoPoolsInOneProcess) {
    TestPool one({.label = "one"});
    TestPool other({.label = "other"});
    ASSERT_EQ(one.created(), 0) << one.error_text();
    ASSERT_EQ(other.created(), 0) << other.error_text();
    const auto lost = one.submit("die_at", "0");
    expect_works(other);
    one.collect_all();
    EXPECT_EQ(one.outcome(lost).status, AIOMQ_WORKER_DIED);
    one.destroy();
    expect_works(other);
}

TEST(Accident, APoolDestroyedWithWorkPending) {
    TestPool pool({.workers = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int i = 0; i < 50; ++i) pool.submit("never");
    const pid_t pids[] = {pool.worker_stats(0).pid, pool.worker_stats(1).pid};
    const auto begin = std::chrono::steady_clock::now();
    pool.destroy();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
    for (const pid_t pid : pids) EXPECT_EQ(kill(pid, 0), -1) << "a worker is left";
}

TEST(Accident, AnApplicationThatIgnoresSigchld) {
    const auto before = signal(SIGCHLD, SIG_IGN);
    expect_death_is_seen();
    signal(SIGCHLD, before);
}

TEST(Accident, AnApplicationThatReapsEveryChildItself) {
    std::atomic<bool> over{false};
    std::thread reaper([&] {
        while (!over.load())
            if (waitpid(-1, nullptr, 0) < 0) poll(nullptr, 0, 1);  // no child just now
    });
    expect_death_is_seen();
    over.store(true);
    reaper.join();
}
