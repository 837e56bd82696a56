// What a pool does when all goes well, through the public C ABI and with real processes.
#include <fcntl.h>
#include <malloc.h>

#include "../support/go_signal.hpp"
#include "../support/pool_fixture.hpp"

using aiomq_test::GoSignal;
using aiomq_test::PoolOptions;
using aiomq_test::TestPool;

TEST(Pool, RunsATaskAndReturnsItsResult) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto id = pool.submit("echo", "hello");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
    EXPECT_EQ(pool.outcome(id).bytes, "hello");
    EXPECT_EQ(pool.outcome(id).times, 1);
}

TEST(Pool, CarriesPayloadsAndResultsOfEverySize) {
    TestPool pool({.workers = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    std::map<std::uint64_t, std::string> sent;
    for (const std::size_t size :
         {0, 1, 23, 24, 25, 47, 48, 49, 63, 64, 65, 4095, 4096, 4097, 65536, 1 << 20, 9 << 20}) {
        std::string payload(size, 'a');
        for (std::size_t i = 0; i < size; ++i) payload[i] = static_cast<char>(i * 31 + size);
        sent[pool.submit("echo", payload)] = payload;
    }
    pool.collect_all();
    for (const auto &[id, payload] : sent) {
        EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
        EXPECT_TRUE(pool.outcome(id).bytes == payload) << payload.size();
    }
}

TEST(Pool, RunsEveryItemOfAChunkOnce) {
    TestPool pool({.workers = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto numbers = pool.submit("item_number", "", 1000);
    const auto texts = pool.submit("echo", "item", 300);
    const auto big = pool.submit("make_bytes", "20000", 40);
    pool.collect_all();
    for (std::uint32_t i = 0; i < 1000; ++i) {
        ASSERT_EQ(pool.outcome(numbers, i).times, 1);
        ASSERT_EQ(pool.outcome(numbers, i).integer, i);
    }
    for (std::uint32_t i = 0; i < 300; ++i)
        ASSERT_EQ(pool.outcome(texts, i).bytes, "item" + std::to_string(i));
    for (std::uint32_t i = 0; i < 40; ++i)
        ASSERT_EQ(pool.outcome(big, i).bytes, std::string(20000, 'x'));
}

TEST(Pool, PushesManyTasksThroughFewSlots) {
    TestPool pool({.workers = 2, .capacity = 4});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int i = 0; i < 5000; ++i) pool.submit("nothing");
    pool.collect_all();
    for (const auto &[id, outcome] : pool.outcomes()) {
        ASSERT_EQ(outcome.status, AIOMQ_OK);
        ASSERT_EQ(outcome.times, 1);
    }
}

TEST(Pool, CompletesHandlersThatFinishLater) {
    TestPool pool({.environment = {"AIOMQ_TEST_CONCURRENCY=16"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    for (int i = 0; i < 100; ++i) pool.submit("later");
    const auto chunk = pool.submit("later", "", 200, AIOMQ_TASK_PROGRESS);
    pool.collect_all();
    for (std::uint32_t i = 0; i < 200; ++i) ASSERT_EQ(pool.outcome(chunk, i).integer, i);
}

TEST(Pool, GivesEveryFailureAName) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto refused = pool.submit("refuse");
    const auto unknown = pool.submit("no_such_function");
    const auto too_large = pool.submit("make_bytes", std::to_string(1ULL << 40));
    pool.collect_all();
    EXPECT_EQ(pool.outcome(refused).status, AIOMQ_ERROR);
    EXPECT_NE(pool.outcome(refused).error_message.find("Numerical"), std::string::npos);
    EXPECT_EQ(pool.outcome(unknown).error_type, "aiomq.UnknownFunction");
    EXPECT_NE(pool.outcome(unknown).error_message.find("no_such_function"), std::string::npos);
    EXPECT_EQ(pool.outcome(too_large).status, AIOMQ_ERROR);
}

TEST(Pool, ClosesDrainsAndEnds) {
    TestPool pool({.workers = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    EXPECT_EQ(aiomq_pool_join(pool.get(), 0), -EBUSY);
    for (int i = 0; i < 50; ++i) pool.submit("nothing");
    EXPECT_EQ(aiomq_pool_close(pool.get(), 0), 0);
    EXPECT_EQ(aiomq_pool_close(pool.get(), 0), 0);
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = 1;
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), -ESHUTDOWN);
    EXPECT_EQ(aiomq_pool_join(pool.get(), 20'000'000'000), 0);
    EXPECT_EQ(aiomq_pool_state(pool.get(), nullptr, 0), AIOMQ_POOL_ENDED);
    pool.collect_all();  // results wait for their reader
    EXPECT_EQ(pool.outcomes().size(), 50U);
}

TEST(Pool, WithdrawsATaskThatHasNotStarted) {
    GoSignal go;
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto running = pool.submit("wait_for_file", go.path());
    pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
    const auto waiting = pool.submit("item_number");
    const auto chunk = pool.submit("item_number", "", 10);
    EXPECT_EQ(aiomq_pool_cancel(pool.get(), waiting), 0);
    EXPECT_EQ(aiomq_pool_cancel(pool.get(), chunk), 0);
    EXPECT_EQ(aiomq_pool_cancel(pool.get(), 12345 << 20), -ENOENT);
    ASSERT_TRUE(pool.collect_some());
    EXPECT_EQ(pool.outcome(waiting).status, AIOMQ_CANCELLED);
    go.give();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(running).status, AIOMQ_OK);
    for (std::uint32_t i = 0; i < 10; ++i)
        EXPECT_EQ(pool.outcome(chunk, i).status, AIOMQ_CANCELLED);
}

TEST(Pool, CanBeUsedBeforeItsWorkersAreStarted) {
    for (int round = 0; round < 50; ++round) {
        TestPool pool({.workers = 2, .flags = AIOMQ_POOL_NOWAIT});
        ASSERT_EQ(pool.created(), 0) << pool.error_text();
        EXPECT_GE(aiomq_pool_dispatch(pool.get()), 0);
        const auto id = pool.submit("item_number");
        EXPECT_GE(aiomq_pool_dispatch(pool.get()), 0);
        pool.collect_all();
        EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
    }
}

TEST(Pool, WhatManyLargeCompletionsHaveTakenIsGivenBack) {
    constexpr std::uint32_t kItems = 4096;
    constexpr int kTasks = 32;
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = kItems;
    ASSERT_EQ(aiomq_pool_function(pool.get(), "item_number", &task.function), 0);
    std::vector<std::uint64_t> loans;
    const auto hold_all = [&] {
        std::uint32_t items = 0;
        for (int i = 0; i < kTasks; ++i)
            ASSERT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), 0);
        while (items < kTasks * kItems) {
            ASSERT_GT(aiomq_pool_wait(pool.get(), 20'000'000'000), 0);
            aiomq_completion completion;
            while (aiomq_pool_collect(pool.get(), &completion, 1) == 1) {
                items += completion.item_count;
                if (completion.loan != 0) loans.push_back(completion.loan);
            }
        }
    };
    const std::size_t before = mallinfo2().uordblks;
    hold_all();
    const std::size_t held = mallinfo2().uordblks;
    for (const std::uint64_t loan : loans) aiomq_pool_release(pool.get(), loan);
    aiomq_completion completion;
    aiomq_pool_collect(pool.get(), &completion, 1);  // releases are done by the next call
    const std::size_t after = mallinfo2().uordblks;
    EXPECT_LE(after, before + (held - before) / 8) << "held " << held - before;
}
