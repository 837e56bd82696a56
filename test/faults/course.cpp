#include "course.hpp"

#include <sys/wait.h>

#include <filesystem>

#include "../support/clock.hpp"
#include "faults.h"

namespace aiomq_test {
namespace {

constexpr std::uint64_t kLongNs = 20'000'000'000;
/// Two do not fit the arenas that a pool starts with, nor the first step by which they grow.
constexpr std::size_t kLargeBytes = 800 << 10;
constexpr std::uint32_t kWorkers = 2;
/// So many starts in a row that failed are enough to see that it goes on so.
constexpr long kFailuresInVain = 3;

std::size_t count_threads() {
    std::size_t threads = 0;
    for (const auto &entry : std::filesystem::directory_iterator("/proc/self/task"))
        threads += !entry.path().empty();
    return threads;
}

/// A view ends before its pool.
struct ViewCloser {
    aiomq_view *&view;
    ~ViewCloser() { aiomq_view_close(&view); }
};

}  // namespace

Holdings::Holdings() : threads(count_threads()), mappings(fault_mappings()) {
    for (int fd = 0; fd < 1024; ++fd) {
        char link[256] = "";
        const std::string path = "/proc/self/fd/" + std::to_string(fd);
        if (readlink(path.c_str(), link, sizeof link - 1) > 0)
            descriptors.insert(std::to_string(fd) + " " + link);
    }
}

void expect_nothing_left(const Holdings &before) {
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
    EXPECT_EQ(errno, ECHILD);
    // One that was joined may show for a moment.
    const std::uint64_t end = now_ns() + kLongNs;
    while (count_threads() > before.threads && now_ns() < end) sched_yield();
    const Holdings after;
    EXPECT_EQ(after.descriptors, before.descriptors);
    EXPECT_EQ(after.threads, before.threads);
    EXPECT_EQ(after.mappings, before.mappings);
}

void Course::run(const PoolOptions &options) {
    TestPool pool(options);
    created_ = pool.created() == 0;
    if (!created_) {
        fault_disarm();
        EXPECT_TRUE(allowed_.creation.contains(pool.created()))
            << pool.created() << ": " << pool.error_text();
        EXPECT_EQ(pool.get(), nullptr);
        EXPECT_GE(pool.error_text().size(), 10U) << "the error has no words";
        return;
    }
    const ViewCloser closer{view_};
    if (!open_view(pool)) return end(pool);
    live(pool);
    if (allowed_.end) end(pool);
    fault_disarm();
    check_outcomes(pool);
    if (!allowed_.end && !broken_) check_works(pool);
    if (!allowed_.end) end(pool);
}

/// Looking at a pool may fail like creating it. Without a fault it works, unless there is a limit, too.
bool Course::open_view(TestPool &pool) {
    const int error = aiomq_pool_view(pool.get(), &view_);
    if (error == 0) return true;
    EXPECT_TRUE(allowed_.creation.contains(error)) << error;
    const bool by_fault = fault_failures() > 0;
    fault_disarm();
    return by_fault && aiomq_pool_view(pool.get(), &view_) == 0;
}

void Course::live(TestPool &pool) {
    for (int i = 0; i < 3; ++i) {
        submit(pool, "echo", std::string(kLargeBytes, static_cast<char>('a' + i)));
        submit(pool, "make_bytes", std::to_string(2 * kLargeBytes));
    }
    submit(pool, "item_number", "", 50);
    for (int i = 0; i < 2; ++i) submit(pool, "die_at", "0");
    for (int i = 0; i < 4; ++i) submit(pool, "echo", "small");
    collect(pool);
    settle(pool);
    collect(pool);
}

void Course::submit(TestPool &pool, const std::string &function, const std::string &payload,
                    std::uint32_t items) {
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = items;
    task.kind = AIOMQ_KIND_BYTES;
    task.payload = payload.empty() ? nullptr : payload.data();
    task.payload_bytes = payload.size();
    int error = aiomq_pool_function(pool.get(), function.c_str(), &task.function);
    std::uint64_t id = 0;
    const auto try_it = [&] {
        if (error == 0) error = aiomq_pool_submit(pool.get(), &task, &id);
        return error;
    };
    for (bool alone = false; try_it() == -EAGAIN || error == -ENOMEM;) {
        // With nothing under way nobody will make room, but the system may have changed its mind.
        if (std::exchange(alone, pool.outcomes().size() == items_)) break;
        if (!alone && !pool.collect_some()) break;
        error = aiomq_pool_function(pool.get(), function.c_str(), &task.function);
    }
    if (error == 0) {
        EXPECT_TRUE(tasks_.try_emplace(id, Task{function, payload, items}).second);
        items_ += items;
    } else if (error == -EPIPE) {
        EXPECT_TRUE(allowed_.breakage);
    } else {
        EXPECT_EQ(error, -ENOMEM);
        EXPECT_TRUE(allowed_.refusal) << "a submit was refused for good";
    }
}

void Course::collect(TestPool &pool) {
    while (pool.outcomes().size() < items_)
        if (!pool.collect_some()) {
            ADD_FAILURE() << "hung: " << pool.outcomes().size() << " of " << items_ << " outcomes";
            return;
        }
}

/// How many places have a worker that is ready. One that was just found dead may still be called so.
std::uint32_t Course::running() {
    std::uint32_t count = 0;
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
        aiomq_worker_stats stats{};
        stats.struct_bytes = sizeof stats;
        EXPECT_EQ(aiomq_view_worker(view_, worker, &stats), 0);
        count += stats.state == AIOMQ_WORKER_RUNNING && kill(stats.pid, 0) == 0;
    }
    return count;
}

/// Until the places of the dead are filled again, or one can't be; the other then goes on.
void Course::settle(TestPool &pool) {
    const auto in_vain = [] { return fault_failures() >= kFailuresInVain; };
    char text[4096] = "";
    pool.wait_until([&] {
        broken_ = aiomq_pool_state(pool.get(), text, sizeof text) == AIOMQ_POOL_BROKEN;
        const std::uint32_t ready = running();
        return broken_ || ready == kWorkers || (ready > 0 && in_vain());
    });
    if (!broken_) return;
    EXPECT_TRUE(allowed_.breakage) << text;
    EXPECT_GE(std::strlen(text), 10U) << "the breakage has no words";
}

void Course::check_outcomes(TestPool &pool) {
    for (auto &[id, task] : tasks_) {
        for (std::uint32_t item = 0; item < task.items; ++item) {
            const Outcome &outcome = pool.outcome(id, item);
            EXPECT_EQ(outcome.times, 1);
            const bool dies = task.function == "die_at" && outcome.status == AIOMQ_WORKER_DIED;
            const bool closed = broken_ && outcome.status == AIOMQ_POOL_CLOSED;
            if (outcome.status != AIOMQ_OK) {
                EXPECT_TRUE(dies || closed || allowed_.outcomes.contains(outcome.status))
                    << task.function << ": " << aiomq_outcome_name(outcome.status) << ": "
                    << outcome.error_type << ": " << outcome.error_message;
                EXPECT_NE(outcome.error_message, "");
            } else if (task.function == "echo") {
                EXPECT_TRUE(outcome.bytes == task.payload) << "another's result";
            } else if (task.function == "make_bytes") {
                EXPECT_TRUE(outcome.bytes == std::string(2 * kLargeBytes, 'x'));
            } else {
                EXPECT_EQ(outcome.integer, item);
            }
        }
    }
    EXPECT_EQ(pool.outcomes().size(), items_) << "an outcome of nothing";
}

/// What is submitted now runs, all places are filled again, and nothing is in use; unless the last of the
/// failures only now came to break the pool.
void Course::check_works(TestPool &pool) {
    const std::uint64_t before = items_;
    submit(pool, "make_bytes", std::to_string(3 * kLargeBytes));
    if (items_ == before) return;
    collect(pool);
    const Outcome &outcome = pool.outcome(tasks_.rbegin()->first);
    if (outcome.status == AIOMQ_POOL_CLOSED && allowed_.breakage) return;
    if (!allowed_.outcomes.contains(outcome.status)) {
        EXPECT_EQ(outcome.bytes.size(), 3 * kLargeBytes)
            << aiomq_outcome_name(outcome.status) << ": " << outcome.error_message;
    }
    aiomq_pool_stats stats{};
    stats.struct_bytes = sizeof stats;
    pool.wait_until([&] {
        pool.collect_some(0);  // a task's end may come after its last outcome
        EXPECT_EQ(aiomq_view_pool(view_, &stats), 0);
        if (stats.state == AIOMQ_POOL_BROKEN) return allowed_.breakage;
        return stats.state == AIOMQ_POOL_RUNNING && running() == kWorkers &&
               stats.result_used_bytes == 0 && stats.request_used_bytes < 1024;
    });
}

void Course::end(TestPool &pool) {
    EXPECT_EQ(allowed_.end ? allowed_.end(pool.get()) : aiomq_pool_close(pool.get(), 0), 0);
    EXPECT_EQ(aiomq_pool_join(pool.get(), kLongNs), 0);
}

}  // namespace aiomq_test
