// Loans of workers: payloads that are read after their task has ended.
#include <sys/mman.h>

#include <cstring>
#include <map>

#include "../support/pool_fixture.hpp"

using aiomq_test::MoreBodies;
using aiomq_test::payload_of;
using aiomq_test::TestPool;

namespace {

struct Kept {
    std::string payload;
    const char *data;
    std::uint64_t bytes;
    std::vector<std::uint64_t> loans;
};

std::vector<Kept> &all_kept() {
    static std::vector<Kept> kept;
    return kept;
}

/// Keeps its payload as often as its first byte says.
int keep(const aiomq_call *call, aiomq_item *ret) {
    Kept kept{payload_of(call),
              static_cast<const char *>(call->job->payload),
              call->job->payload_bytes,
              {}};
    for (char i = '0'; i < kept.payload[0]; ++i) {
        std::uint64_t loan = 0;
        const int error = aiomq_worker_retain(call->worker, call->job->job, &loan);
        if (error != 0) return aiomq_test::return_integer(error, ret);
        kept.loans.push_back(loan);
    }
    all_kept().push_back(kept);
    return aiomq_test::return_integer(getpid(), ret);
}

/// Keeps and gives back before its own end.
int keep_briefly(const aiomq_call *call, aiomq_item *ret) {
    for (int i = 0; i < 2; ++i) {
        std::uint64_t loan = 0;
        if (aiomq_worker_retain(call->worker, call->job->job, &loan) != 0 ||
            aiomq_worker_release(call->worker, loan) != 0 ||
            aiomq_worker_release(call->worker, loan) != -EINVAL)
            return -EDOM;
    }
    return aiomq_test::return_integer(getpid(), ret);
}

/// How many of the kept payloads still read as they did.
int look(const aiomq_call *, aiomq_item *ret) {
    int sound = 0;
    for (const Kept &kept : all_kept()) sound += std::string(kept.data, kept.bytes) == kept.payload;
    return aiomq_test::return_integer(sound, ret);
}

/// Gives one loan of each back.
int give_back(const aiomq_call *call, aiomq_item *ret) {
    for (Kept &kept : all_kept()) {
        if (kept.loans.empty()) continue;
        if (aiomq_worker_release(call->worker, kept.loans.back()) != 0) return -EDOM;
        kept.loans.pop_back();
    }
    std::erase_if(all_kept(), [](const Kept &kept) { return kept.loans.empty(); });
    return aiomq_test::return_integer(static_cast<std::int64_t>(all_kept().size()), ret);
}

const MoreBodies kMore{{"keep", keep, nullptr},
                       {"keep_briefly", keep_briefly, nullptr},
                       {"look", look, nullptr},
                       {"give_back", give_back, nullptr}};

std::int64_t number(TestPool &pool, const std::string &function, const std::string &payload = {},
                    std::uint32_t items = 1) {
    const std::uint64_t id = pool.submit(function, payload, items);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK) << pool.outcome(id).error_message;
    return pool.outcome(id).integer;
}

std::uint64_t bytes_of_names(TestPool &pool) {
    for (const char *name : {"keep", "keep_briefly", "look", "give_back", "nothing", "die_at"}) {
        std::uint32_t number = 0;
        EXPECT_EQ(aiomq_pool_function(pool.get(), name, &number), 0);
    }
    number(pool, "nothing");
    return pool.pool_stats().request_used_bytes;
}

/// A task with memory that stays the caller's.
aiomq_task kept_task(const void *memory, std::uint64_t bytes) {
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.flags = AIOMQ_TASK_ADOPT | AIOMQ_TASK_KEEP;
    task.kind = AIOMQ_KIND_BYTES;
    task.items = 1;
    task.payload = memory;
    task.payload_bytes = bytes;
    return task;
}

std::string large(char loans, char letter) { return loans + std::string(1000, letter); }

}  // namespace

TEST(Loans, APayloadOutlivesItsTaskAndItsSlot) {
    TestPool pool({.capacity = 2});
    const std::uint64_t names = bytes_of_names(pool);
    for (const char letter : {'a', 'b', 'c'}) number(pool, "keep", large('1', letter));
    // Every slot, and as much memory, is used again many times.
    for (int i = 0; i < 100; ++i) number(pool, "nothing", large('0', 'x'));
    EXPECT_EQ(number(pool, "look"), 3);
    EXPECT_GE(pool.pool_stats().request_used_bytes, names + 3 * 1001);
    EXPECT_EQ(number(pool, "give_back"), 0);
    pool.wait_until([&] { return pool.pool_stats().request_used_bytes == names; });
}

TEST(Loans, TheLastOfSeveralLoansFreesIt) {
    TestPool pool;
    const std::uint64_t names = bytes_of_names(pool);
    number(pool, "keep", large('3', 'a'));
    for (const int left : {1, 1, 0}) {
        EXPECT_GT(pool.pool_stats().request_used_bytes, names);
        EXPECT_EQ(number(pool, "look"), 1);
        EXPECT_EQ(number(pool, "give_back"), left);
    }
    pool.wait_until([&] { return pool.pool_stats().request_used_bytes == names; });
}

TEST(Loans, AChunkIsKeptByEachOfItsItems) {
    TestPool pool;
    const std::uint64_t names = bytes_of_names(pool);
    number(pool, "keep", large('1', 'a'), 50);
    EXPECT_EQ(number(pool, "look"), 50);
    EXPECT_EQ(number(pool, "give_back"), 0);
    pool.wait_until([&] { return pool.pool_stats().request_used_bytes == names; });
}

TEST(Loans, ReleasingBeforeTheEndIsExact) {
    TestPool pool;
    const std::uint64_t names = bytes_of_names(pool);
    for (int i = 0; i < 50; ++i) number(pool, "keep_briefly", large('0', 'a'));
    EXPECT_EQ(pool.pool_stats().request_used_bytes, names);
}

TEST(Loans, AShortPayloadLivesInItsSlotAndCannotBeKept) {
    TestPool pool;
    EXPECT_EQ(number(pool, "keep", "1"), -ENODATA);
}

TEST(Loans, GoWithTheirWorker) {
    TestPool pool({.workers = 2});
    const std::uint64_t names = bytes_of_names(pool);
    for (int round = 0; round < 10; ++round) {
        std::set<std::int64_t> pids;
        for (const char letter : {'a', 'b', 'c'})
            pids.insert(number(pool, "keep", large('2', letter)));
        EXPECT_GT(pool.pool_stats().request_used_bytes, names);
        for (const std::int64_t pid : pids) kill(static_cast<pid_t>(pid), SIGKILL);
        pool.wait_until([&] { return pool.pool_stats().request_used_bytes == names; });
    }
}

TEST(Loans, WhatTheCallerKeepsIsFreedWhenNobodyHasIt) {
    TestPool pool({.workers = 2});
    const std::uint64_t names = bytes_of_names(pool);
    for (const bool first_the_caller : {false, true}) {
        void *memory = nullptr;
        ASSERT_EQ(aiomq_pool_alloc(pool.get(), 1001, &memory), 0);
        EXPECT_EQ(aiomq_pool_in_use(pool.get(), memory), 0);
        large('1', 'a').copy(static_cast<char *>(memory), 1001);
        const aiomq_task task = kept_task(memory, 1001);
        for (const char *function : {"keep", "keep", "nothing"}) pool.submit_task(function, task);
        EXPECT_EQ(aiomq_pool_in_use(pool.get(), memory), 1);
        pool.collect_all();
        EXPECT_EQ(aiomq_pool_in_use(pool.get(), memory), 1) << "workers have it";
        if (first_the_caller) {
            EXPECT_EQ(aiomq_pool_free(pool.get(), memory), 0);
        }
        EXPECT_EQ(static_cast<const char *>(memory)[1000], 'a');
        pool.wait_until([&] {
            number(pool, "give_back");  // to each worker that has kept it
            return first_the_caller ? pool.pool_stats().request_used_bytes == names
                                    : aiomq_pool_in_use(pool.get(), memory) == 0;
        });
        if (!first_the_caller) {
            EXPECT_EQ(aiomq_pool_free(pool.get(), memory), 0);
        }
        EXPECT_EQ(aiomq_pool_free(pool.get(), memory), -EINVAL);
        EXPECT_EQ(aiomq_pool_in_use(pool.get(), memory), -EINVAL);
        EXPECT_EQ(pool.pool_stats().request_used_bytes, names);
    }
}

TEST(Loans, WhatTheCallerKeepsOutlivesWorkersThatHaveIt) {
    TestPool pool;
    const std::uint64_t names = bytes_of_names(pool);
    void *memory = nullptr;
    ASSERT_EQ(aiomq_pool_alloc(pool.get(), 1001, &memory), 0);
    large('2', 'b').copy(static_cast<char *>(memory), 1001);
    const aiomq_task task = kept_task(memory, 1001);
    for (int round = 0; round < 5; ++round) {
        const auto id = pool.submit_task("keep", task);
        pool.collect_all();
        ASSERT_EQ(pool.outcome(id).status, AIOMQ_OK);
        kill(static_cast<pid_t>(pool.outcome(id).integer), SIGKILL);
        pool.wait_until([&] { return aiomq_pool_in_use(pool.get(), memory) == 0; });
        EXPECT_EQ(static_cast<const char *>(memory)[1000], 'b');
    }
    EXPECT_EQ(aiomq_pool_free(pool.get(), memory), 0);
    EXPECT_EQ(pool.pool_stats().request_used_bytes, names);
}

TEST(Loans, AMappingOfOnesOwnShowsTheSameAndStays) {
    const void *start = nullptr;
    std::uint64_t bytes = 0;
    const char *own = nullptr;
    std::size_t offset = 0;
    {
        TestPool pool;
        const int fd = aiomq_pool_memory(pool.get(), &start, &bytes);
        ASSERT_GE(fd, 0);
        EXPECT_EQ(aiomq_pool_memory(pool.get(), nullptr, nullptr), fd);
        EXPECT_EQ(aiomq_pool_memory(nullptr, &start, &bytes), -EINVAL);
        own = static_cast<const char *>(mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0));
        ASSERT_NE(own, MAP_FAILED);
        void *memory = nullptr;
        ASSERT_EQ(aiomq_pool_alloc(pool.get(), 100, &memory), 0);
        std::memcpy(memory, "mapped", 7);
        offset = static_cast<std::size_t>(static_cast<char *>(memory) -
                                          static_cast<const char *>(start));
        EXPECT_STREQ(own + offset, "mapped");
    }
    EXPECT_STREQ(own + offset, "mapped");
    EXPECT_EQ(munmap(const_cast<char *>(own), bytes), 0);
}

TEST(Loans, AreFreedWhenTheTaskItselfKills) {
    TestPool pool;
    const std::uint64_t names = bytes_of_names(pool);
    number(pool, "keep", large('1', 'a'));
    pool.submit("die_at", "0" + std::string(200, ' '));
    pool.collect_all();
    pool.wait_until([&] { return pool.pool_stats().request_used_bytes == names; });
}
