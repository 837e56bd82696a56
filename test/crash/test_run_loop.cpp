// The loop of a native worker, shared with the events of its tasks.
#include <event2/event.h>

#include "../support/clock.hpp"
#include "../support/pool_fixture.hpp"

using aiomq_test::TestPool;

namespace {

/// An event of a task's own, that does not come while the test lasts.
void keep_a_timer(aiomq_worker *worker) {
    const auto nothing = [](evutil_socket_t, short, void *) {};
    const timeval hour{3600, 0};
    event_add(event_new(aiomq_worker_event_base(worker), -1, 0, nothing, nullptr), &hour);
}

/// Items long enough for the loop to look at its other events between them. In the first it is as if a
/// waker that had taken back our announcement wrote only now, when something else has woken us.
int be_woken_late(const aiomq_call *call, aiomq_item *) {
    if (call->item == 0) {
        keep_a_timer(call->worker);
        const std::uint64_t one = 1;
        if (write(aiomq_worker_fd(call->worker), &one, sizeof one) != sizeof one) return -EIO;
    }
    const std::uint64_t end = aiomq_test::now_ns() + 100'000;
    while (aiomq_test::now_ns() < end) asm volatile("");
    return 0;
}

const aiomq_test::MoreBodies kMore{{"be_woken_late", be_woken_late, nullptr}};

}  // namespace

TEST(RunLoop, GoesOnAfterAWakeUpThatCameWhileItWasBusy) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto id = pool.submit("be_woken_late", {}, 500);
    pool.collect_all();
    for (std::uint32_t i = 0; i < 500; ++i) EXPECT_EQ(pool.outcome(id, i).status, AIOMQ_OK) << i;
}
