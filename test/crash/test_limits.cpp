// What runs out, and what the surroundings lack: slots, arenas, memory, descriptors, standard streams.
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <thread>

#include "../support/go_signal.hpp"
#include "../support/pool_fixture.hpp"

using aiomq_test::GoSignal;
using aiomq_test::in_child;
using aiomq_test::PoolOptions;
using aiomq_test::TestPool;

namespace {

constexpr std::uint64_t kLongNs = 20'000'000'000;
constexpr std::uint64_t kMiB = 1 << 20;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // whose shadow needs the address space that a test takes away
#else
constexpr bool kSanitized = false;
#endif

bool contains(const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
}

/// Inode of the descriptor that the payload numbers, or -1.
int inode(const aiomq_call *call, aiomq_item *ret) {
    struct stat file {};
    const bool is_open = fstat(atoi(aiomq_test::payload_of(call).c_str()), &file) == 0;
    return aiomq_test::return_integer(is_open ? static_cast<std::int64_t>(file.st_ino) : -1, ret);
}

/// Writes the payload to stdout and stderr, whatever these are.
int print(const aiomq_call *call, aiomq_item *ret) {
    const std::string line = aiomq_test::payload_of(call);
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO})
        if (write(fd, line.data(), line.size()) < 0) return -errno;
    return aiomq_test::return_integer(0, ret);
}

const aiomq_test::MoreBodies kMore{{"inode", inode, nullptr}, {"print", print, nullptr}};

bool readable(aiomq_pool *pool, int timeout_ms) {
    pollfd entry{aiomq_pool_fd(pool), POLLIN, 0};
    return poll(&entry, 1, timeout_ms) == 1;
}

/// Waits on the fd, as a loop does, until dispatch says that there is room. Collects meanwhile.
bool wait_for_room(TestPool &pool) {
    for (;;) {
        const int flags = aiomq_pool_dispatch(pool.get());
        if (flags < 0) return false;
        if ((flags & AIOMQ_DISPATCH_ROOM) != 0) return true;
        if ((flags & AIOMQ_DISPATCH_COMPLETIONS) != 0) {
            pool.collect_some(0);
            continue;
        }
        if (flags == 0 && !readable(pool.get(), 20000)) return false;
    }
}

aiomq_task task_of(TestPool &pool, const char *function, const std::string &payload,
                   std::uint32_t items = 1) {
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    EXPECT_EQ(aiomq_pool_function(pool.get(), function, &task.function), 0);
    task.items = items;
    task.kind = AIOMQ_KIND_BYTES;
    task.payload = payload.data();
    task.payload_bytes = payload.size();
    return task;
}

/// Takes one completion and keeps it.
aiomq_completion hold(TestPool &pool) {
    aiomq_completion held{};
    while (aiomq_pool_collect(pool.get(), &held, 1) == 0)
        if (aiomq_pool_wait(pool.get(), kLongNs) <= 0) {
            ADD_FAILURE() << "nothing came";
            break;
        }
    return held;
}

aiomq_queue_stats queue_stats(TestPool &pool) {
    aiomq_view *view = nullptr;
    EXPECT_EQ(aiomq_pool_view(pool.get(), &view), 0);
    aiomq_queue_stats stats{};
    stats.struct_bytes = sizeof stats;
    EXPECT_EQ(aiomq_view_queue(view, 0, &stats), 0);
    aiomq_view_close(&view);
    return stats;
}

}  // namespace

TEST(Slots, WhenAllAreInUseASubmitSaysSoAndTheFdTellsOfRoom) {
    GoSignal gate;
    TestPool pool({.capacity = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    pool.submit("wait_for_file", gate.path());
    pool.submit("nothing");
    const std::string none;
    const aiomq_task task = task_of(pool, "nothing", none);
    std::uint64_t id = 77;
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, &id), -EAGAIN);
    EXPECT_EQ(id, 77U);
    while (aiomq_pool_dispatch(pool.get()) != 0) pool.collect_some(0);
    EXPECT_FALSE(readable(pool.get(), 0)) << "armed: nothing has happened";
    gate.give();
    ASSERT_TRUE(wait_for_room(pool));
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, &id), 0);
    pool.collect_all();
}

TEST(Slots, ThatAnotherThreadFreesWakeTheLoop) {
    GoSignal gate;
    TestPool pool({.capacity = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    pool.submit("wait_for_file", gate.path());
    pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
    const auto waiting = pool.submit("nothing");
    const std::string none;
    const aiomq_task task = task_of(pool, "nothing", none);
    ASSERT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -EAGAIN);
    while (aiomq_pool_dispatch(pool.get()) != 0) {
    }
    ASSERT_FALSE(readable(pool.get(), 0));
    std::thread other([&] { EXPECT_EQ(aiomq_pool_cancel(pool.get(), waiting), 0); });
    EXPECT_TRUE(readable(pool.get(), 20000));
    other.join();
    EXPECT_EQ(aiomq_pool_dispatch(pool.get()), AIOMQ_DISPATCH_COMPLETIONS | AIOMQ_DISPATCH_ROOM);
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), 0);
    gate.give();
}

TEST(RequestArena, WhenItIsFullASubmitSaysSoAndTheFdTellsOfRoom) {
    GoSignal gate;
    TestPool pool({.arena_max = kMiB});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    pool.submit("wait_for_file", gate.path());
    const std::string large(400 << 10, 'p');
    pool.submit("echo", large);
    pool.submit("echo", large);
    aiomq_task task = task_of(pool, "nothing", large);
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -ENOMEM);
    void *memory = nullptr;
    EXPECT_EQ(aiomq_pool_alloc(pool.get(), large.size(), &memory), -ENOMEM);
    const std::string small = "inline";
    const aiomq_task other = task_of(pool, "nothing", small);
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &other, nullptr), 0)
        << "what needs no block still goes";
    gate.give();
    int error = -ENOMEM;  // "may be tried again": what became free first may be too small
    while (error == -ENOMEM) {
        ASSERT_TRUE(wait_for_room(pool));
        error = aiomq_pool_submit(pool.get(), &task, nullptr);
    }
    EXPECT_EQ(error, 0);
}

TEST(RequestArena, TellsOfRoomWhenItsMemoryIsFreed) {
    TestPool pool({.arena_max = kMiB});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    void *first = nullptr;
    void *second = nullptr;
    ASSERT_EQ(aiomq_pool_alloc(pool.get(), 700 << 10, &first), 0);
    ASSERT_EQ(aiomq_pool_alloc(pool.get(), 700 << 10, &second), -ENOMEM);
    EXPECT_EQ(aiomq_pool_free(pool.get(), first), 0);
    EXPECT_TRUE(wait_for_room(pool));
    EXPECT_EQ(aiomq_pool_alloc(pool.get(), 700 << 10, &second), 0);
}

TEST(RequestArena, RefusesWhatCanNeverFit) {
    TestPool pool({.arena_max = kMiB});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string larger(kMiB + 1, 'p');
    aiomq_task task = task_of(pool, "nothing", larger);
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -EMSGSIZE);
    void *memory = nullptr;
    EXPECT_EQ(aiomq_pool_alloc(pool.get(), kMiB + 1, &memory), -EMSGSIZE);
    EXPECT_EQ(aiomq_pool_alloc(pool.get(), UINT64_MAX, &memory), -EMSGSIZE);
    task.payload_bytes = UINT64_MAX;
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -EMSGSIZE);
    pool.submit("nothing");
    pool.collect_all();
}

TEST(ResultArena, WhenItIsFullATaskWaitsForAReleaseAndThenEnds) {
    TestPool pool({.arena_max = kMiB});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    aiomq_completion held[3];
    for (auto &completion : held) {
        pool.submit("make_bytes", std::to_string(300 << 10));
        completion = hold(pool);
        ASSERT_EQ(completion.item.status, AIOMQ_OK);
    }
    const std::string payload(300 << 10, 'e');
    const auto id = pool.submit("echo", payload);
    pool.wait_until([&] {
        const auto stats = pool.worker_stats(0);
        return stats.running == 1 && stats.sleeping == 1;
    });
    for (const auto &completion : held) aiomq_pool_release(pool.get(), completion.loan);
    while (pool.outcome(id).times == 0) ASSERT_TRUE(pool.collect_some());
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
    EXPECT_TRUE(pool.outcome(id).bytes == payload);
}

TEST(ResultArena, GivesAResultThatCanNeverFitAnErrorWithAName) {
    TestPool pool({.arena_max = kMiB});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto alone = pool.submit("make_bytes", std::to_string(2 * kMiB));
    pool.collect_all();
    EXPECT_EQ(pool.outcome(alone).status, AIOMQ_ERROR);
    EXPECT_EQ(pool.worker_stats(0).restarts, 0U);
}

// Nothing hangs, however little memory there is: each item gets an outcome.
TEST(ResultArena, EndsAChunkWhoseResultsTogetherExceedIt) {
    TestPool pool({.arena_max = kMiB});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string payload(20000, 'e');
    const auto chunk = pool.submit("echo", payload, 100);  // 2 MB
    while (pool.outcomes().size() < 100 && pool.collect_some(5'000'000'000)) {
    }
    EXPECT_EQ(pool.outcomes().size(), 100U);
    EXPECT_EQ(pool.outcome(chunk, 0).status, AIOMQ_OK);
}

TEST(ResultArena, RefusesOrEndsAChunkWhoseOutcomesAloneExceedIt) {
    TestPool pool({.arena_max = 64 << 10, .arena_start = 4096});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string none;
    const aiomq_task task = task_of(pool, "item_number", none, AIOMQ_ITEMS_MAX);
    const int error = aiomq_pool_submit(pool.get(), &task, nullptr);
    if (error != 0) {
        EXPECT_EQ(error, -EMSGSIZE);
        return;
    }
    while (pool.outcomes().size() < AIOMQ_ITEMS_MAX && pool.collect_some(5'000'000'000)) {
    }
    EXPECT_EQ(pool.outcomes().size(), AIOMQ_ITEMS_MAX) << "it never ends";
}

TEST(ResultArena, OfOnePageServesSmallChunksToo) {
    TestPool pool({.arena_max = 4096, .arena_start = 4096});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto chunk = pool.submit("echo", "item", 3);
    while (pool.outcomes().size() < 3 && pool.collect_some(5'000'000'000)) {
    }
    for (std::uint32_t i = 0; i < 3; ++i)
        EXPECT_EQ(pool.outcome(chunk, i).bytes, "item" + std::to_string(i));
}

TEST(ResultArena, DoesNotLoseAChunkThatIsCancelledWhileItWaitsForRoom) {
    TestPool pool({.arena_max = kMiB});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    pool.submit("make_bytes", std::to_string(kMiB - 4096));
    const auto held = hold(pool);
    const auto chunk = pool.submit("item_number", "", 1000);
    pool.wait_until(
        [&] { return queue_stats(pool).claimed == 1 && pool.worker_stats(0).sleeping == 1; });
    EXPECT_EQ(aiomq_pool_cancel(pool.get(), chunk), 0);
    while (pool.outcomes().size() < 1000) ASSERT_TRUE(pool.collect_some());
    EXPECT_EQ(pool.outcome(chunk, 999).status, AIOMQ_CANCELLED);
    aiomq_pool_release(pool.get(), held.loan);
    EXPECT_EQ(aiomq_pool_close(pool.get(), 0), 0);
    EXPECT_EQ(aiomq_pool_join(pool.get(), 5'000'000'000), 0) << "the slot was never given back";
}

TEST(Lane, ThatIsFullLosesNoCompletion) {
    // Each item that finishes later is told of on its own: far more hints than the lane has cells.
    TestPool pool({.capacity = 4});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    constexpr std::uint32_t kItems = 300;
    const auto chunk = pool.submit("later", "", kItems, AIOMQ_TASK_PROGRESS);
    const auto behind = pool.submit("nothing");
    pool.wait_until([&] { return pool.worker_stats(0).completed == kItems + 1; });
    pool.collect_all();
    for (std::uint32_t i = 0; i < kItems; ++i) ASSERT_EQ(pool.outcome(chunk, i).times, 1);
    EXPECT_EQ(pool.outcome(behind).status, AIOMQ_OK);
}

TEST(Memory, ThatHasNoAddressesIsRefusedWithItsSizes) {
    if (kSanitized) GTEST_SKIP();
    const std::string text = in_child([] {
        const rlimit limit{256 * kMiB, 256 * kMiB};
        setrlimit(RLIMIT_AS, &limit);
        TestPool pool({.workers = 3, .arena_max = 1024 * kMiB});
        return std::to_string(pool.created()) + " " + pool.error_text();
    });
    EXPECT_TRUE(contains(text, std::to_string(-ENOMEM) + " ")) << text;
    EXPECT_TRUE(contains(text, "bytes of address space")) << text;
    EXPECT_TRUE(contains(text, "arena_max_bytes")) << text;
}

TEST(Memory, ThatCanNotBeCommittedIsRefusedWithItsSizes) {
    const std::string text = in_child([] {
        signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{kMiB, kMiB};
        setrlimit(RLIMIT_FSIZE, &limit);
        TestPool pool({.arena_max = 16 * kMiB});
        return std::to_string(pool.created()) + " " + pool.error_text();
    });
    EXPECT_EQ(text[0], '-') << text;
    EXPECT_TRUE(contains(text, "bytes")) << text;
}

TEST(Descriptors, ThatRunOutAreNamedWhereverItHappens) {
    // Whatever number is the last to be had: an error with a name, or a pool that works.
    int created = 0;
    for (rlim_t most = 4; most < 64; ++most) {
        const std::string text = in_child([most] {
            // As in a program that has nothing open but its streams.
            for (int fd = 3; fd < 100; ++fd) close(fd);
            const rlimit limit{most, 1024};
            setrlimit(RLIMIT_NOFILE, &limit);
            TestPool pool;
            if (pool.created() != 0)
                return std::to_string(pool.created()) + " " + pool.error_text();
            const auto id = pool.submit("echo", "works");
            pool.collect_all();
            return pool.outcome(id).bytes;
        });
        created += text == "works";
        if (text == "works") continue;
        EXPECT_EQ(created, 0) << "with fewer it worked";
        EXPECT_TRUE(text.starts_with(std::to_string(-EMFILE) + " ")) << most << ": " << text;
        EXPECT_GT(text.size(), 10U) << most;
    }
    EXPECT_GT(created, 0) << "some tens must be enough";
}

TEST(Descriptors, OfTheOptionsHaveTheSameNumbersInEveryWorkerAfterARespawn) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat want[2];
    fstat(ends[1], &want[0]);
    fstat(file, &want[1]);
    PoolOptions options{.workers = 2};
    options.extra_fds = {ends[1], file};
    TestPool pool(options);
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    close(ends[0]);  // create has made its own duplicates
    close(ends[1]);
    close(file);
    const auto check = [&] {
        for (int fd = AIOMQ_EXTRA_FD_BASE; fd < AIOMQ_EXTRA_FD_BASE + 4; ++fd)
            for (int i = 0; i < 4; ++i) {
                const auto id = pool.submit("inode", std::to_string(fd));
                pool.collect_all();
                const int extra = fd - AIOMQ_EXTRA_FD_BASE;
                EXPECT_EQ(pool.outcome(id).integer,
                          extra < 2 ? static_cast<std::int64_t>(want[extra].st_ino) : -1);
            }
    };
    check();
    for (std::uint32_t worker = 0; worker < 2; ++worker) {
        const pid_t before = pool.worker_stats(worker).pid;
        kill(before, SIGKILL);
        pool.wait_until([&] {
            const auto stats = pool.worker_stats(worker);
            return stats.pid != before && stats.state == AIOMQ_WORKER_RUNNING;
        });
    }
    check();
}

TEST(Descriptors, OfTheDispatcherDoNotReachItsWorkers) {
    // Not close-on-exec, on purpose: a lock or a listening socket that lives on in workers is trouble.
    char path[] = "/tmp/aiomq-test-XXXXXX";
    const int file = mkstemp(path);
    unlink(path);
    struct stat want {};
    fstat(file, &want);
    std::vector<int> copies;
    for (int lowest = 3; lowest < 30; ++lowest) copies.push_back(fcntl(file, F_DUPFD, lowest));
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int fd = 0; fd < 128; ++fd) {
        const auto id = pool.submit("inode", std::to_string(fd));
        pool.collect_all();
        EXPECT_NE(pool.outcome(id).integer, static_cast<std::int64_t>(want.st_ino)) << fd;
    }
    for (const int fd : copies) close(fd);
    close(file);
}

TEST(Streams, ThatAreClosedAreNotTakenForThePoolsMemory) {
    for (const auto &closed : std::vector<std::vector<int>>{{2}, {1}, {0}, {1, 2}, {0, 1, 2}}) {
        const std::string answer = in_child([&closed] {
            for (const int fd : closed) close(fd);
            TestPool pool({.workers = 2});
            if (pool.created() != 0) return "create: " + pool.error_text();
            // Who writes to a stream that is closed gets EBADF, or writes to nowhere.
            const std::string scribble(200, '#');
            for (const int fd : closed)
                if (write(fd, scribble.data(), scribble.size()) < 0 && errno != EBADF)
                    return "stream " + std::to_string(fd) + ": " + strerror(errno);
            for (int i = 0; i < 4; ++i) pool.submit("print", scribble);
            const auto id = pool.submit("echo", "sound");
            pool.collect_all();
            pool.signal_worker(0, SIGKILL);
            pool.wait_until([&] { return pool.worker_stats(0).restarts == 1; });
            pool.wait_until([&] { return pool.worker_stats(0).state == AIOMQ_WORKER_RUNNING; });
            return pool.outcome(id).bytes;
        });
        EXPECT_EQ(answer, "sound") << closed.size() << " closed, the first is " << closed[0];
    }
}

TEST(Environment, OfAWorkerSaysItsIndexAndNotThatItIsOne) {
    setenv("AIOMQ_WORKER_INDEX", "77", 1);
    TestPool pool({.workers = 3, .environment = {"AIOMQ_TEST_OWN=yes"}});
    unsetenv("AIOMQ_WORKER_INDEX");
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int i = 0; i < 30; ++i) {
        const auto index = pool.submit("own_variable", "AIOMQ_WORKER_INDEX");
        const auto mark = pool.submit("own_variable", "AIOMQ_WORKER");
        const auto own = pool.submit("own_variable", "AIOMQ_TEST_OWN");
        pool.collect_all();
        EXPECT_EQ(pool.outcome(index).bytes, std::to_string(pool.outcome(index).worker));
        EXPECT_EQ(pool.outcome(mark).bytes, "(unset)");
        EXPECT_EQ(pool.outcome(own).bytes, "yes");
    }
}

namespace {

/// Completes its first item, tells, and stops this process.
int finish_then_stop(const aiomq_call *call, aiomq_item *) {
    aiomq_item item{};
    item.index = call->item;
    item.status = AIOMQ_OK;
    if (aiomq_worker_complete(call->worker, call->job->job, &item) < 0) abort();
    aiomq_worker_flush(call->worker);
    raise(SIGSTOP);
    return 1;
}
const aiomq_test::MoreBodies kStopping{{"finish_then_stop", finish_then_stop, nullptr}};

}  // namespace

TEST(ResultArena, GetsTheBlocksOfAChunkBackWhoseRestWasWithdrawn) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto chunk = pool.submit("finish_then_stop", "", 3, AIOMQ_TASK_PROGRESS);
    while (pool.outcomes().empty()) ASSERT_TRUE(pool.collect_some());
    ASSERT_EQ(pool.outcome(chunk, 0).status, AIOMQ_OK);
    const pid_t worker = pool.worker_stats(0).pid;
    siginfo_t info{};
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(worker), &info, WSTOPPED | WNOWAIT), 0);
    EXPECT_EQ(aiomq_pool_cancel(pool.get(), chunk), 0);  // now every item has its outcome
    kill(worker, SIGCONT);
    pool.collect_all();
    for (const std::uint32_t item : {1U, 2U})
        EXPECT_EQ(pool.outcome(chunk, item).status, AIOMQ_CANCELLED);
    pool.wait_until([&] { return pool.nothing_in_use(); });
}
