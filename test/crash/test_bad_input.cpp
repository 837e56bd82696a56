// What is wrong with a call is said by an errno and, where something is made, in words; nothing else
// happens. Programs that can't start are in test_bad_start.cpp, what runs out in test_limits.cpp.
#include <fcntl.h>

#include "../support/pool_fixture.hpp"

using aiomq_test::PoolOptions;
using aiomq_test::TestPool;

namespace {

/// Options that are right but for what a test changes.
struct RawOptions {
    RawOptions() {
        aiomq_pool_options_init(&options, sizeof options);
        options.argv = argv;
        options.error_text = text;
        options.error_text_bytes = sizeof text;
    }
    /// Creates a pool that must be refused with @error and a text that has @part in it.
    void expect_refused(int error, const std::string &part) {
        aiomq_pool *pool = nullptr;
        EXPECT_EQ(aiomq_pool_create(&options, &pool), error);
        EXPECT_EQ(pool, nullptr) << "untouched on failure";
        EXPECT_NE(std::string(text).find(part), std::string::npos) << "text: " << text;
        aiomq_pool_destroy(&pool);
    }

    char text[512] = "";
    const char *argv[2] = {"/proc/self/exe", nullptr};
    aiomq_pool_options options;
};

aiomq_task sound_task(aiomq_pool *pool) {
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = 1;
    EXPECT_EQ(aiomq_pool_function(pool, "nothing", &task.function), 0);
    return task;
}

int own_label(const aiomq_call *call, aiomq_item *ret) {
    return aiomq_test::return_text(aiomq_worker_label(call->worker), ret);
}

const aiomq_test::MoreBodies kMore{{"own_label", own_label, nullptr}};

}  // namespace

TEST(PoolOptions, OfAnotherSizeAreRefused) {
    for (const std::uint32_t bytes :
         {0U, 1U, static_cast<std::uint32_t>(sizeof(aiomq_pool_options)) - 8,
          static_cast<std::uint32_t>(sizeof(aiomq_pool_options)) + 8, UINT32_MAX}) {
        RawOptions raw;
        raw.options.struct_bytes = bytes;
        raw.expect_refused(-EINVAL, "");
    }
}

TEST(PoolOptions, OutOfRangeAreNamedInTheErrorText) {
    const std::vector<std::pair<std::string, std::function<void(aiomq_pool_options &)>>> wrong = {
        {"flags", [](auto &o) { o.flags = 2; }},
        {"flags", [](auto &o) { o.flags = 0x80000001; }},
        {"workers", [](auto &o) { o.workers = 0; }},
        {"workers", [](auto &o) { o.workers = AIOMQ_WORKERS_MAX + 1; }},
        {"workers", [](auto &o) { o.workers = UINT32_MAX; }},
        {"capacity", [](auto &o) { o.capacity = 0; }},
        {"capacity", [](auto &o) { o.capacity = AIOMQ_CAPACITY_MAX + 1; }},
        {"capacity", [](auto &o) { o.capacity = UINT32_MAX; }},
        {"argv", [](auto &o) { o.argv = nullptr; }},
        {"start_limit", [](auto &o) { o.start_limit = 0; }},
        {"arena_start_bytes", [](auto &o) { o.arena_start_bytes = 0; }},
        {"arena_max_bytes", [](auto &o) { o.arena_max_bytes = 0; }},
        {"arena_max_bytes", [](auto &o) { o.arena_max_bytes = o.arena_start_bytes - 1; }},
        {"arena_max_bytes", [](auto &o) { o.arena_max_bytes = UINT64_MAX; }},
        {"arena_max_bytes", [](auto &o) { o.arena_max_bytes = 1ULL << 46; }},
        {"extra_fd_count", [](auto &o) { o.extra_fd_count = 65; }},
        {"extra_fds", [](auto &o) { o.extra_fd_count = 1; }},
    };
    for (const auto &[name, change] : wrong) {
        RawOptions raw;
        change(raw.options);
        raw.expect_refused(-EINVAL, name);
    }
}

TEST(PoolOptions, OfQueuesThatAreWrongAreNamedInTheErrorText) {
    const std::string long_name(32, 'q');
    const std::vector<std::pair<std::string, std::vector<const char *>>> wrong = {
        {"queues[0]", {""}},
        {"queues[1]", {"first", nullptr}},
        {"queues[1]", {"first", long_name.c_str()}},
        {"queues[2] (first) is there twice", {"first", "second", "first"}},
        {"queues[0]", {"new\nline"}},
        {"queue_count", std::vector<const char *>(AIOMQ_QUEUES_MAX + 1, "many")},
    };
    for (const auto &[text, names] : wrong) {
        RawOptions raw;
        raw.options.queues = names.data();
        raw.options.queue_count = static_cast<std::uint32_t>(names.size());
        raw.expect_refused(-EINVAL, text);
    }
    RawOptions raw;
    raw.options.queue_count = 1;
    raw.expect_refused(-EINVAL, "queues");
}

TEST(PoolOptions, OfGroupsThatAreWrongAreNamedInTheErrorText) {
    static const char *no_program[] = {nullptr};
    static const std::uint32_t unknown[] = {0, 2};
    static const std::uint32_t twice[] = {1, 0, 1};
    static const std::uint32_t first_only[] = {0};
    const std::vector<std::pair<std::string, std::function<void(aiomq_group &)>>> wrong = {
        {"groups[1].struct_bytes", [](auto &g) { g.struct_bytes -= 8; }},
        {"groups[1].workers", [](auto &g) { g.workers = 0; }},
        {"groups[1].workers", [](auto &g) { g.workers = AIOMQ_WORKERS_MAX; }},
        {"groups[1].argv", [](auto &g) { g.argv = no_program; }},
        {"groups[1].queues", [](auto &g) { g.queue_count = 1; }},
        {"groups[1].queues[1] is 2",
         [](auto &g) {
             g.queues = unknown;
             g.queue_count = 2;
         }},
        {"groups[1].queues[2] is 1",
         [](auto &g) {
             g.queues = twice;
             g.queue_count = 3;
         }},
        {"no group serves queues[1] (second)",
         [](auto &g) {
             g.queues = first_only;
             g.queue_count = 1;
         }},
        {"groups[1].stuck_signal", [](auto &g) { g.stuck_signal = -1; }},
        {"groups[1].stuck_signal", [](auto &g) { g.stuck_signal = 1000; }},
        {"groups[1].reserved", [](auto &g) { g.reserved = 1; }},
    };
    static const char *queues[] = {"first", "second"};
    for (const auto &[text, change] : wrong) {
        RawOptions raw;
        aiomq_group groups[2]{};
        for (aiomq_group &group : groups) {
            group.struct_bytes = sizeof group;
            group.workers = 1;
        }
        groups[0].queues = first_only;
        groups[0].queue_count = 1;
        raw.options.queues = queues;
        raw.options.queue_count = 2;
        raw.options.groups = groups;
        raw.options.group_count = 2;
        change(groups[1]);
        raw.expect_refused(-EINVAL, text);
    }
    RawOptions raw;
    raw.options.group_count = 1;
    raw.expect_refused(-EINVAL, "groups");
    aiomq_group group{};
    raw.options.groups = &group;
    raw.expect_refused(-EINVAL, "groups[0].struct_bytes");
    raw.options.group_count = AIOMQ_WORKERS_MAX + 1;
    raw.expect_refused(-EINVAL, "group_count");
}

TEST(PoolOptions, ThatNameNoProgramAreRefused) {
    RawOptions raw;
    raw.argv[0] = nullptr;
    raw.expect_refused(-EINVAL, "argv");
    raw.argv[0] = "";
    raw.expect_refused(-EINVAL, "argv");
}

TEST(PoolOptions, WithDescriptorsThatAreNotOpenAreRefused) {
    for (const int fd : {-1, 9999, INT32_MAX}) {
        RawOptions raw;
        const int fds[] = {STDIN_FILENO, fd};
        raw.options.extra_fds = fds;
        raw.options.extra_fd_count = 2;
        raw.expect_refused(-EINVAL, "extra_fds[1]");
    }
}

TEST(PoolOptions, NeedNoErrorText) {
    RawOptions raw;
    raw.options.workers = 0;
    aiomq_pool *pool = nullptr;
    raw.options.error_text = nullptr;
    EXPECT_EQ(aiomq_pool_create(&raw.options, &pool), -EINVAL) << "length without a buffer";
    raw.options.error_text_bytes = 0;
    EXPECT_EQ(aiomq_pool_create(&raw.options, &pool), -EINVAL);
    raw.options.error_text = raw.text;
    raw.options.error_text_bytes = 8;
    raw.text[8] = 'X';
    EXPECT_EQ(aiomq_pool_create(&raw.options, &pool), -EINVAL);
    EXPECT_EQ(std::string(raw.text, 9), std::string("workers\0X", 9)) << "cut, and terminated";
}

TEST(PoolOptions, InitLeavesAStructThatIsTooSmallAlone) {
    aiomq_pool_options options;
    std::memset(static_cast<void *>(&options), 0x55, sizeof options);
    aiomq_pool_options_init(&options, sizeof options - 1);
    EXPECT_EQ(options.struct_bytes, 0x55555555U);
    aiomq_pool_options_init(nullptr, sizeof options);
    aiomq_run_options_init(nullptr, sizeof(aiomq_run_options));
}

TEST(Task, ThatIsWrongIsRefusedAndTakesNoSlot) {
    TestPool pool({.capacity = 1});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::vector<std::function<void(aiomq_task &)>> wrong = {
        [](auto &t) { t.struct_bytes = 0; },
        [](auto &t) { t.struct_bytes = sizeof t - 1; },
        [](auto &t) { t.struct_bytes = sizeof t + 1; },
        [](auto &t) { t.flags = 8; },
        [](auto &t) { t.flags = 0x80000000; },
        [](auto &t) { t.function = 1; },
        [](auto &t) { t.function = UINT32_MAX; },
        [](auto &t) { t.kind = AIOMQ_KIND_ERROR + 1; },
        [](auto &t) { t.kind = UINT16_MAX; },
        [](auto &t) { t.queue = 1; },
        [](auto &t) { t.queue = UINT16_MAX; },
        [](auto &t) { t.items = 0; },
        [](auto &t) { t.items = AIOMQ_ITEMS_MAX + 1; },
        [](auto &t) { t.payload_bytes = 1; },
        [](auto &t) {
            t.kind = AIOMQ_KIND_BYTES;
            t.payload_bytes = 1;
        },
        [](auto &t) { t.flags = AIOMQ_TASK_ADOPT; },
        [](auto &t) { t.flags = AIOMQ_TASK_KEEP; },
        [](auto &t) {
            t.flags = AIOMQ_TASK_ADOPT;
            t.kind = AIOMQ_KIND_BYTES;
            t.payload = &t;  // not from aiomq_pool_alloc()
            t.payload_bytes = 8;
        },
    };
    for (std::size_t i = 0; i < wrong.size(); ++i) {
        aiomq_task task = sound_task(pool.get());
        std::uint64_t id = 77;
        wrong[i](task);
        EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, &id), -EINVAL) << "case " << i;
        EXPECT_EQ(aiomq_pool_submit_batch(pool.get(), &task, 1, &id), -EINVAL) << "case " << i;
        EXPECT_EQ(id, 77U);
    }
    const auto task = pool.submit("nothing");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(task).status, AIOMQ_OK);
}

TEST(Task, ThatIsWrongEndsABatchAfterThoseBefore) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    std::vector<aiomq_task> tasks(5, sound_task(pool.get()));
    std::uint64_t ids[5] = {};
    tasks[3].items = 0;
    EXPECT_EQ(aiomq_pool_submit_batch(pool.get(), tasks.data(), 5, ids), 3);
    EXPECT_NE(ids[2], 0U);
    EXPECT_EQ(ids[3], 0U);
}

TEST(Payload, IsAdoptedOnceAndOnlyWhenItCameFromAlloc) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    void *memory = nullptr;
    EXPECT_EQ(aiomq_pool_alloc(pool.get(), 0, &memory), -EINVAL);
    ASSERT_EQ(aiomq_pool_alloc(pool.get(), 1000, &memory), 0);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 64, 0U);
    std::memset(memory, 'p', 1000);
    aiomq_task task = sound_task(pool.get());
    ASSERT_EQ(aiomq_pool_function(pool.get(), "echo", &task.function), 0);
    task.flags = AIOMQ_TASK_ADOPT;
    task.kind = AIOMQ_KIND_BYTES;
    task.payload = memory;
    task.payload_bytes = 4096;
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -EINVAL) << "longer than the block";
    task.payload = static_cast<char *>(memory) + 64;
    task.payload_bytes = 8;
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -EINVAL) << "the middle of it";
    EXPECT_EQ(aiomq_pool_free(pool.get(), static_cast<char *>(memory) + 64), -EINVAL);
    task.payload = memory;
    task.payload_bytes = 1000;
    ASSERT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), 0);
    // From here on it is the pool's: to free or adopt it again would pull it from under the task.
    EXPECT_EQ(aiomq_pool_free(pool.get(), memory), -EINVAL);
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -EINVAL);
}

TEST(Payload, IsFreedOnce) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    void *memory = nullptr;
    char foreign[64] = "";
    ASSERT_EQ(aiomq_pool_alloc(pool.get(), 1000, &memory), 0);
    EXPECT_EQ(aiomq_pool_free(pool.get(), foreign), -EINVAL);
    EXPECT_EQ(aiomq_pool_free(pool.get(), memory), 0);
    EXPECT_EQ(aiomq_pool_free(pool.get(), memory), -EINVAL);
}

TEST(Loan, ThatWasNeverGivenIsIgnored) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (const std::uint64_t loan : {1ULL, 12345ULL << 32, ~0ULL, 1ULL << 32 | 1})
        EXPECT_EQ(aiomq_pool_release(pool.get(), loan), 0);
    const auto id = pool.submit("make_bytes", "1000");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).bytes, std::string(1000, 'x'));
}

TEST(Errors, AllHaveNames) {
    const std::string other = aiomq_strerror(-EXDEV);
    for (const int error :
         {EINVAL,    EAGAIN,   ENOMEM,      EMSGSIZE, ESHUTDOWN, EPIPE,  ECHILD,  ENOENT,
          EDEADLK,   EALREADY, EPROTO,      EBADMSG,  ENODATA,   ENOSPC, ENOBUFS, EBUSY,
          ETIMEDOUT, EINTR,    EMEDIUMTYPE, EPERM,    EMFILE,    ENFILE}) {
        EXPECT_NE(aiomq_strerror(-error), other) << error;
        EXPECT_STREQ(aiomq_strerror(-error), aiomq_strerror(error));
    }
    ASSERT_NE(aiomq_strerror(INT32_MIN), nullptr);
    std::set<std::string> names;
    for (int outcome = AIOMQ_PENDING; outcome <= AIOMQ_POOL_CLOSED; ++outcome)
        EXPECT_TRUE(names.insert(aiomq_outcome_name(outcome)).second);
    EXPECT_STREQ(aiomq_outcome_name(AIOMQ_WORKER_DIED), "WORKER_DIED");
    for (const int outcome : {-1, 9, INT32_MAX, INT32_MIN})
        EXPECT_STREQ(aiomq_outcome_name(outcome), "UNKNOWN");
}

TEST(Errors, AreDecodedOnlyFromItemsThatCarryOne) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    pool.submit("refuse");
    aiomq_completion completion;
    while (aiomq_pool_collect(pool.get(), &completion, 1) == 0)
        ASSERT_GT(aiomq_pool_wait(pool.get(), 20'000'000'000), 0);
    aiomq_item item = completion.item;
    ASSERT_EQ(item.kind, AIOMQ_KIND_ERROR);
    std::vector<char> buffer(item.bytes + 64);
    aiomq_error error{};
    EXPECT_EQ(aiomq_error_decode(&item, nullptr, 0, &error), -EINVAL);
    EXPECT_EQ(aiomq_error_decode(&item, buffer.data(), buffer.size(), nullptr), -EINVAL);
    EXPECT_EQ(aiomq_error_decode(&item, buffer.data(), 8, &error), -ENOBUFS);
    item.kind = AIOMQ_KIND_BYTES;
    EXPECT_EQ(aiomq_error_decode(&item, buffer.data(), buffer.size(), &error), -EINVAL);
    EXPECT_EQ(error.type, nullptr) << "untouched on failure";
    item.kind = AIOMQ_KIND_ERROR;
    EXPECT_EQ(aiomq_error_decode(&item, buffer.data(), buffer.size(), &error), 0);
    EXPECT_STREQ(error.type, "aiomq.HandlerError");
    aiomq_pool_release(pool.get(), completion.loan);
}

TEST(View, IsOpenedOfPoolsOnly) {
    aiomq_view *view = nullptr;
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(aiomq_view_open(null, &view), -EMEDIUMTYPE);
    EXPECT_EQ(aiomq_view_open(program, &view), -EMEDIUMTYPE);
    EXPECT_EQ(aiomq_view_open(9999, &view), -EBADF);
    EXPECT_EQ(view, nullptr);
    close(null);
    close(program);
}

TEST(Label, IsSanitisedForEverybodyWhoSeesIt) {
    TestPool pool({.label = "../monitor 1\n\x1b[2J@" + std::string(100, 'x')});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const std::string wanted = (".._monitor_1___2J_" + std::string(100, 'x')).substr(0, 63);
    EXPECT_EQ(pool.pool_stats().label, wanted);
    const auto id = pool.submit("own_label");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).bytes, wanted);
}
