#include "scenario.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "../support/process.hpp"

using aiomq_test::payload_of;

namespace points {
namespace {

constexpr std::size_t kLong = 3000;  // neither in a request nor in a slot
constexpr std::uint64_t kHour = 3'600'000'000'000;
constexpr std::uint32_t kNestedItems = 2;
/// What a worker of concurrency 1 runs at most: an item, and those that wait for nested tasks.
constexpr std::uint32_t kRunAtOnce = 2;
// What a parent gives when its nested items are not as they should be.
constexpr std::int64_t kChildDied = -1;
constexpr std::int64_t kWrong = -2;

/// In a worker.
Control &control() {
    static Control *mapped = map_control(std::getenv(kVariable), false);
    return *mapped;
}

std::uint32_t number_of(const aiomq_call *call) {
    return static_cast<std::uint32_t>(std::strtoul(payload_of(call).c_str(), nullptr, 10)) +
           call->item;
}

std::uint32_t begin(const aiomq_call *call) {
    const std::uint32_t number = number_of(call);
    control().runs[number].fetch_add(1);
    return number;
}

int give_number(const aiomq_call *call, aiomq_item *ret) {
    return aiomq_test::return_integer(begin(call), ret);
}

/// Ends when the application sleeps, so that it has to be woken.
int give_number_to_sleeper(const aiomq_call *call, aiomq_item *ret) {
    const std::uint32_t number = begin(call);
    while (aiomq_test::state_of(getppid()) != 'S') sched_yield();
    return aiomq_test::return_integer(number, ret);
}

std::string long_text(std::uint32_t number) {
    return std::string(kLong, static_cast<char>('a' + number % 26));
}

int give_text(const aiomq_call *call, aiomq_item *ret) {
    return aiomq_test::return_text(long_text(begin(call)), ret);
}

int refuse(const aiomq_call *call, aiomq_item *) {
    begin(call);
    return -EDOM;
}

std::uint64_t kept = 0;

int let_go(const aiomq_call *call, aiomq_item *ret) {
    if (kept != 0 && aiomq_worker_release(call->worker, kept) != 0) abort();
    kept = 0;
    return give_number(call, ret);
}

/// Its payload stays readable until let_go().
int keep(const aiomq_call *call, aiomq_item *ret) {
    if (aiomq_worker_retain(call->worker, call->job->job, &kept) != 0) abort();
    return give_number(call, ret);
}

/// An item that waits for a nested task.
struct Parent {
    aiomq_worker *worker;
    std::uint32_t job;
    std::uint32_t number;
    std::uint32_t due;
    std::int64_t answer;
};

/// A nested task of some items; gives its number when they are right.
int ask(const aiomq_call *call, aiomq_item *) {
    const std::uint32_t number = begin(call);
    auto parent = std::make_unique<Parent>(
        Parent{call->worker, call->job->job, number, kNestedItems, number});
    const std::string payload = std::to_string(number + 1) + ":" + std::string(kLong, '.');
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.kind = AIOMQ_KIND_BYTES;
    task.items = kNestedItems;
    task.user = reinterpret_cast<std::uint64_t>(parent.get());  // NOLINT
    task.payload = payload.data();
    task.payload_bytes = payload.size();
    if (aiomq_worker_submit(call->worker, call->job->job, call->item, &task, "give_text") != 0)
        abort();
    parent.release();
    return 1;
}

void take_answer(void *, const aiomq_completion *completion) {
    auto *parent = reinterpret_cast<Parent *>(completion->user);  // NOLINT
    for (std::uint32_t i = 0; i < completion->item_count; ++i) {
        const aiomq_item &part = completion->items[i];
        if (part.status != AIOMQ_OK)
            parent->answer = kChildDied;
        else if (std::string(static_cast<const char *>(part.value.data), part.bytes) !=
                 long_text(parent->number + 1 + part.index))
            parent->answer = kWrong;
    }
    if (aiomq_worker_release(parent->worker, completion->loan) != 0) abort();
    parent->due -= completion->item_count;
    if (parent->due > 0) return;
    const std::unique_ptr<Parent> ends(parent);
    aiomq_item item{};
    item.status = AIOMQ_OK;
    item.kind = AIOMQ_KIND_INT;
    item.value.integer = parent->answer;
    if (aiomq_worker_complete(parent->worker, parent->job, &item) < 0) abort();
}

const aiomq_test::MoreBodies kMore{{"give_number", give_number, nullptr},
                                   {"give_number_to_sleeper", give_number_to_sleeper, nullptr},
                                   {"give_text", give_text, nullptr},
                                   {"refuse_it", refuse, nullptr},
                                   {"keep", keep, nullptr},
                                   {"let_go", let_go, nullptr},
                                   {"ask", ask, nullptr}};
const aiomq_test::Answers kAnswers{take_answer};

}  // namespace

std::uint64_t Scenario::submit(const std::string &function, aiomq_task task,
                               std::size_t payload_bytes) {
    std::string payload = std::to_string(next_) + ":";
    payload.resize(std::max(payload.size(), payload_bytes), '.');
    if (task.items == 0) task.items = 1;
    const std::uint32_t items = task.items;
    const auto id = pool_.submit_task(task, function, payload);
    calls_.push_back({id, next_, items, task.retries, function});
    next_ += items + (function == "ask" ? kNestedItems : 0);
    return id;
}

std::uint64_t Scenario::submit_one() { return submit("give_number", {}); }

std::uint64_t Scenario::submit_one_and_sleep() { return submit("give_number_to_sleeper", {}); }

void Scenario::submit_all() {
    aiomq_task plain{};
    aiomq_task many{};
    many.items = 3;
    aiomq_task retried = many;
    retried.retries = 2;
    aiomq_task limited{};
    limited.start_within_ns = limited.timeout_ns = kHour;
    aiomq_task many_limited = many;
    many_limited.start_within_ns = many_limited.timeout_ns = kHour;
    aiomq_task keyed{};
    keyed.flags = AIOMQ_TASK_KEYED;
    keyed.key = 7;
    submit("ask", plain);
    submit("give_number", plain);
    submit("keep", plain, kLong);
    submit("give_text", many);
    submit("give_text", retried, kLong);
    submit("give_text", limited);
    submit("give_number", many_limited);
    submit("give_number", keyed);
    submit("refuse_it", plain);
    submit("let_go", plain);
}

void Scenario::expect_sound(std::uint32_t kills) const {
    std::uint32_t lost = 0;
    for (const Call &call : calls_)
        for (std::uint32_t item = 0; item < call.items; ++item)
            lost += pool_.outcome(call.id, item).status == AIOMQ_WORKER_DIED ? 1 : 0;
    EXPECT_LE(lost, kills * kRunAtOnce) << "items that did not run have died with the worker";
    for (const Call &call : calls_)
        for (std::uint32_t item = 0; item < call.items; ++item) expect_sound(call, item, kills);
}

void Scenario::expect_sound(const Call &call, std::uint32_t item, std::uint32_t kills) const {
    const aiomq_test::Outcome &outcome = pool_.outcome(call.id, item);
    const std::uint32_t number = call.first + item;
    const std::uint32_t runs = control_.runs[number].load();
    SCOPED_TRACE(call.function + ", call " + std::to_string(number));
    EXPECT_EQ(outcome.times, 1);
    EXPECT_LE(runs, call.retries > 0 ? kills + 1 : 1U);
    if (outcome.status == AIOMQ_WORKER_DIED) {
        EXPECT_GT(kills, 0U);
        EXPECT_EQ(call.retries, 0U);
        return;
    }
    EXPECT_GE(runs, 1U);
    if (call.function == "refuse_it") {
        EXPECT_EQ(outcome.status, AIOMQ_ERROR);
        EXPECT_EQ(outcome.error_type, "aiomq.HandlerError");
        return;
    }
    EXPECT_EQ(outcome.status, AIOMQ_OK) << outcome.error_message;
    if (call.function == "give_text") {
        EXPECT_TRUE(outcome.bytes == long_text(number)) << outcome.bytes.substr(0, 20);
    } else if (call.function != "ask" || kills == 0 || outcome.integer != kChildDied) {
        EXPECT_EQ(outcome.integer, number);
    }
}

}  // namespace points
