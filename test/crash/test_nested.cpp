// Nested work: tasks that workers submit to their own pool, under kills, with little room, and with an
// application that does nothing.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <memory>
#include <random>

#include "../support/go_signal.hpp"
#include "../support/pool_fixture.hpp"

using aiomq_test::GoSignal;
using aiomq_test::MoreBodies;
using aiomq_test::Outcome;
using aiomq_test::payload_of;
using aiomq_test::TestPool;

namespace {

/// What an item that waits for nested tasks has got so far.
struct Gather {
    aiomq_worker *worker;
    std::uint32_t job;
    std::uint32_t item;
    std::uint32_t due = 0;  ///< items
    bool keeps_sum = false;
    std::int64_t sum = 0;
    std::uint64_t bytes = 0;
    std::uint64_t completions = 0;
    std::map<int, int> outcomes{};
    std::map<std::pair<std::uint64_t, std::uint32_t>, int> times{};
    std::string error_type{};
};

int submit(Gather &gather, const std::string &function, const std::string &payload,
           std::uint32_t items = 1, std::uint32_t flags = 0) {
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.flags = flags;
    task.kind = AIOMQ_KIND_BYTES;
    task.items = items;
    task.user = reinterpret_cast<std::uint64_t>(&gather);
    task.payload = payload.data();
    task.payload_bytes = payload.size();
    const int error =
        aiomq_worker_submit(gather.worker, gather.job, gather.item, &task, function.c_str());
    if (error == 0) gather.due += items;
    return error;
}

void finish(Gather *gather) {
    const std::unique_ptr<Gather> ends(gather);
    aiomq_item item{};
    item.index = gather->item;
    item.status = AIOMQ_OK;
    std::string text;
    if (gather->keeps_sum && gather->error_type.empty()) {
        item.kind = AIOMQ_KIND_INT;
        item.value.integer = gather->sum;
    } else {
        for (const auto &[outcome, count] : gather->outcomes)
            text += std::string(aiomq_outcome_name(outcome)) + "=" + std::to_string(count) + " ";
        text += "bytes=" + std::to_string(gather->bytes);
        for (const auto &[key, count] : gather->times)
            if (count != 1) text += " twice";
        if (!gather->error_type.empty()) text += " " + gather->error_type;
        item.kind = AIOMQ_KIND_TEXT;
        item.bytes = text.size();
        item.value.data = text.data();
    }
    if (aiomq_worker_complete(gather->worker, gather->job, &item) < 0) abort();
}

void take(void *, const aiomq_completion *completion) {
    auto *gather = reinterpret_cast<Gather *>(completion->user);
    ++gather->completions;
    for (std::uint32_t i = 0; i < completion->item_count; ++i) {
        const aiomq_item &item = completion->items[i];
        ++gather->outcomes[item.status];
        if (completion->task_id != 0) ++gather->times[{completion->task_id, item.index}];
        if (item.kind == AIOMQ_KIND_ERROR) {
            std::vector<char> buffer(item.bytes + 64);
            aiomq_error error;
            if (aiomq_error_decode(&item, buffer.data(), buffer.size(), &error) != 0) abort();
            gather->error_type = error.type;
        } else if (item.kind >= AIOMQ_KIND_BYTES) {
            gather->bytes += item.bytes;
            if (gather->keeps_sum && item.status == AIOMQ_OK)  // a text in place of a number
                gather->error_type =
                    std::string(static_cast<const char *>(item.value.data), item.bytes);
        } else {
            gather->sum += item.value.integer;
        }
    }
    if (aiomq_worker_release(gather->worker, completion->loan) != 0) abort();
    gather->due -= completion->item_count;
    if (gather->due == 0) finish(gather);
}

std::unique_ptr<Gather> begin(const aiomq_call *call) {
    return std::unique_ptr<Gather>(new Gather{call->worker, call->job->job, call->item});
}

int fib(const aiomq_call *call, aiomq_item *ret) {
    const int number = atoi(payload_of(call).c_str());
    if (number < 2) return aiomq_test::return_integer(number, ret);
    auto gather = begin(call);
    gather->keeps_sum = true;
    for (const int back : {1, 2})
        if (const int error = submit(*gather, "fib", std::to_string(number - back)); error != 0)
            return error;
    gather.release();
    return 1;
}

void write_note() {
    if (const char *path = getenv("AIOMQ_TEST_NOTE")) {
        const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        const std::string text = std::to_string(getpid());
        if (write(fd, text.data(), text.size()) < 0) abort();
        close(fd);
    }
}

/// "<tasks> <items> <flags> <function> <payload>": waits for them and tells what came back.
int gather(const aiomq_call *call, aiomq_item *) {
    const std::string text = payload_of(call);
    unsigned tasks = 0;
    unsigned items = 0;
    unsigned flags = 0;
    char function[64];
    int read = 0;
    sscanf(text.c_str(), "%u %u %u %63s %n", &tasks, &items, &flags, function, &read);
    auto gather = begin(call);
    for (unsigned i = 0; i < tasks; ++i)
        if (const int error = submit(*gather, function, text.substr(static_cast<std::size_t>(read)),
                                     items, flags);
            error != 0)
            return error;
    write_note();
    gather.release();
    return 1;
}

/// Submits, cancels that, and polls for the answers: the only worker, so nothing starts meanwhile.
int gather_and_cancel(const aiomq_call *call, aiomq_item *) {
    auto *gather = begin(call).release();
    for (int i = 0; i < 20; ++i) submit(*gather, "nothing", "");
    if (aiomq_worker_cancel(call->worker, 1) != -ENOENT) return -EDOM;
    if (aiomq_worker_cancel(call->worker, reinterpret_cast<std::uint64_t>(gather)) != 0)
        return -EDOM;
    for (std::uint32_t left = gather->due; left > 0;) {
        aiomq_completion completion;
        pollfd entry{aiomq_worker_fd(call->worker), POLLIN, 0};
        if (aiomq_worker_collect(call->worker, &completion, 1) == 1) {
            left -= completion.item_count;
            take(nullptr, &completion);
        } else if (aiomq_worker_sleep(call->worker, 0) == 0) {
            poll(&entry, 1, -1);
            aiomq_worker_wake(call->worker, 1);
        }
    }
    return 1;
}

/// Submits and ends without waiting: no answer of it can end an item.
int leave_behind(const aiomq_call *call, aiomq_item *) {
    static std::vector<std::unique_ptr<Gather>> left;  // answers may come after the item's end
    Gather *gather = left.emplace_back(begin(call)).get();
    gather->due = UINT32_MAX / 2;
    return submit(*gather, "nothing", "");
}

int bad_calls(const aiomq_call *call, aiomq_item *ret) {
    aiomq_worker *worker = call->worker;
    const std::uint32_t job = call->job->job;
    aiomq_task good{};
    good.struct_bytes = sizeof good;
    good.items = 1;
    const std::string long_name(4001, 'x');
    const auto with = [&](auto change) {
        aiomq_task task = good;
        change(task);
        return aiomq_worker_submit(worker, job, call->item, &task, "nothing");
    };
    aiomq_completion completion;
    const bool refused =
        with([](auto &t) { t.flags = AIOMQ_TASK_ADOPT; }) == -EINVAL &&
        with([](auto &t) { t.flags = 1 << 20; }) == -EINVAL &&
        with([](auto &t) { t.kind = 99; }) == -EINVAL &&
        with([](auto &t) { t.items = 0; }) == -EINVAL &&
        with([](auto &t) { t.items = AIOMQ_ITEMS_MAX + 1; }) == -EINVAL &&
        with([](auto &t) { t.queue = 1; }) == -EINVAL &&
        with([](auto &t) { t.struct_bytes = 1; }) == -EINVAL &&
        with([](auto &t) { t.kind = AIOMQ_KIND_BYTES, t.payload_bytes = 1; }) == -EINVAL &&
        with([](auto &t) {
            t.kind = AIOMQ_KIND_BYTES, t.payload = &t, t.payload_bytes = 1ULL << 40;
        }) == -EMSGSIZE &&
        aiomq_worker_submit(worker, job, call->item + 1, &good, "nothing") == -EINVAL &&
        aiomq_worker_submit(worker, job + 1, call->item, &good, "nothing") == -EINVAL &&
        aiomq_worker_submit(worker, job, call->item, &good, "") == -EINVAL &&
        aiomq_worker_submit(worker, job, call->item, &good, long_name.c_str()) == -EINVAL &&
        aiomq_worker_submit(worker, job, call->item, nullptr, "nothing") == -EINVAL &&
        aiomq_worker_collect(worker, nullptr, 1) == -EINVAL &&
        aiomq_worker_collect(worker, &completion, 1) == 0 &&
        aiomq_worker_cancel(worker, 1) == -ENOENT && aiomq_worker_release(worker, 0) == 0 &&
        aiomq_worker_release(worker, 12345) == -EINVAL;
    return aiomq_test::return_integer(refused, ret);
}

int die(const aiomq_call *, aiomq_item *) { return kill(getpid(), SIGKILL); }

/// Finds its own nested request in its arena and overwrites the field that the payload names.
int scribble(const aiomq_call *call, aiomq_item *) {
    void *place = nullptr;  // the arena's lowest block is near
    if (aiomq_worker_alloc(call->worker, call->job->job, 64, &place) != 0) return -EDOM;
    const std::string mark = "a payload that is found again in the arena of this worker, by memmem";
    auto gather = begin(call);
    // The supervisor may look before it is overwritten, hence many.
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = 1;
    task.kind = AIOMQ_KIND_BYTES;
    task.payload = mark.data();
    task.payload_bytes = mark.size();
    const int field = atoi(payload_of(call).c_str());
    task.user = reinterpret_cast<std::uint64_t>(gather.get());
    for (int i = 0; i < 50; ++i) {
        const int error =
            aiomq_worker_submit(call->worker, call->job->job, call->item, &task, "nothing");
        if (error != 0) return error;
        ++gather->due;
        auto *start = static_cast<unsigned char *>(place);
        // NestedRequest is 80 bytes, then the name in 8.
        auto *found =
            static_cast<unsigned char *>(memmem(start, 16 << 10, mark.data(), mark.size()));
        for (; found != nullptr; found = static_cast<unsigned char *>(
                                     memmem(found + 1, 8 << 10, mark.data(), mark.size())))
            std::memset(found - 88 + field, 0xff, 8);
    }
    gather.release();
    return 1;
}

const MoreBodies kMore{{"fib", fib, nullptr},
                       {"gather", gather, nullptr},
                       {"gather_and_cancel", gather_and_cancel, nullptr},
                       {"leave_behind", leave_behind, nullptr},
                       {"bad_calls", bad_calls, nullptr},
                       {"die", die, nullptr},
                       {"scribble", scribble, nullptr}};
const aiomq_test::Answers kAnswers{take};

/// No slot, no byte of requests beyond @names, no byte of results is in use; and there is room for all.
void expect_nothing_left(TestPool &pool, std::uint64_t names) {
    pool.wait_until(
        [&] { return pool.nothing_in_use() && pool.pool_stats().request_used_bytes <= names; });
    EXPECT_EQ(pool.pool_stats().request_used_bytes, names);
    const std::uint32_t capacity = pool.pool_stats().capacity;
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = 1;
    ASSERT_EQ(aiomq_pool_function(pool.get(), "nothing", &task.function), 0);
    const std::vector<aiomq_task> tasks(capacity, task);
    EXPECT_EQ(aiomq_pool_submit_batch(pool.get(), tasks.data(), capacity, nullptr), capacity);
    std::uint32_t back = 0;
    aiomq_completion completions[64];
    pool.wait_until([&] {
        back += static_cast<std::uint32_t>(aiomq_pool_collect(pool.get(), completions, 64));
        return back == capacity;
    });
}

/// Bytes that names of functions take, once all have been used.
std::uint64_t bytes_of_names(TestPool &pool) {
    for (const char *name :
         {"fib", "gather", "nothing", "item_number", "refuse", "echo", "make_bytes", "die",
          "wait_for_file", "gather_and_cancel", "leave_behind"}) {
        std::uint32_t number = 0;
        EXPECT_EQ(aiomq_pool_function(pool.get(), name, &number), 0);
    }
    pool.submit("nothing");
    pool.collect_all();
    return pool.pool_stats().request_used_bytes;
}

std::string told(TestPool &pool, const std::string &payload) {
    const std::uint64_t id = pool.submit("gather", payload);
    pool.collect_all();
    const Outcome &outcome = pool.outcome(id);
    EXPECT_EQ(outcome.times, 1);
    return outcome.status == AIOMQ_OK
               ? outcome.bytes
               : std::string(aiomq_outcome_name(outcome.status)) + " " + outcome.error_message;
}

}  // namespace

TEST(Nested, RecursionRunsInAPoolOfOneWorkerWithOnePermit) {
    TestPool pool({.workers = 1, .capacity = 1024});
    const std::uint64_t names = bytes_of_names(pool);
    const std::uint64_t id = pool.submit("fib", "12");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK) << pool.outcome(id).error_message;
    EXPECT_EQ(pool.outcome(id).integer, 144) << pool.outcome(id).bytes;
    EXPECT_EQ(pool.pool_stats().nested, 464U);
    expect_nothing_left(pool, names);
}

TEST(Nested, RecursionRunsInManyWorkers) {
    TestPool pool({.workers = 4, .capacity = 2048});
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 4; ++i) ids.push_back(pool.submit("fib", "11"));
    pool.collect_all();
    for (const auto id : ids) EXPECT_EQ(pool.outcome(id).integer, 89) << pool.outcome(id).bytes;
}

TEST(Nested, AnswersCarryScalarsShortAndLongDataAndErrors) {
    TestPool pool({.workers = 2});
    const std::uint64_t names = bytes_of_names(pool);
    EXPECT_EQ(told(pool, "3 1 0 item_number x"), "OK=3 bytes=0");
    EXPECT_EQ(told(pool, "2 1 0 echo 123456789"), "OK=2 bytes=18");
    EXPECT_EQ(told(pool, "2 1 0 echo " + std::string(100000, 'x')), "OK=2 bytes=200000");
    EXPECT_EQ(told(pool, "4 1 0 make_bytes 300000"), "OK=4 bytes=1200000");
    EXPECT_EQ(told(pool, "2 1 0 refuse x"), "ERROR=2 bytes=0 aiomq.HandlerError");
    EXPECT_EQ(told(pool, "1 1 0 no_such_function x"), "ERROR=1 bytes=0 aiomq.UnknownFunction");
    expect_nothing_left(pool, names + 64);
}

TEST(Nested, AChunkOfManyItemsComesWholeOrAsItProgresses) {
    TestPool pool({.workers = 2});
    const std::uint64_t names = bytes_of_names(pool);
    EXPECT_EQ(told(pool, "1 3000 0 item_number x"), "OK=3000 bytes=0");
    EXPECT_EQ(told(pool, "1 3000 2 item_number x"), "OK=3000 bytes=0");
    EXPECT_EQ(told(pool, "1 200 0 echo " + std::string(996, 'x')), "OK=200 bytes=199690");
    EXPECT_EQ(told(pool, "1 200 2 echo " + std::string(996, 'x')), "OK=200 bytes=199690");
    EXPECT_EQ(told(pool, "5 100 2 make_bytes 5000"), "OK=500 bytes=2500000");
    expect_nothing_left(pool, names);
}

TEST(Nested, ManyMoreRequestsThanSlotsAllRun) {
    TestPool pool({.workers = 2, .capacity = 2, .arena_max = 4 << 20});
    const std::uint64_t names = bytes_of_names(pool);
    EXPECT_EQ(told(pool, "500 1 0 echo 123456789"), "OK=500 bytes=4500");
    EXPECT_EQ(told(pool, "20 1 0 echo " + std::string(150000, 'x')), "OK=20 bytes=3000000");
    EXPECT_EQ(pool.pool_stats().capacity, 2U);
    expect_nothing_left(pool, names);
}

TEST(Nested, MoreMessagesThanTheLaneHolds) {
    TestPool pool({.workers = 1, .capacity = 64});
    EXPECT_EQ(told(pool, "3000 1 0 nothing x"), "OK=3000 bytes=0");
    EXPECT_TRUE(pool.nothing_in_use());
}

TEST(Nested, ADeadlockIsAnsweredWithAnError) {
    TestPool pool({.workers = 2, .capacity = 4});
    const std::uint64_t names = bytes_of_names(pool);
    const std::uint64_t id = pool.submit("fib", "14");  // breadth first: more parents than slots
    pool.collect_all();
    EXPECT_NE(pool.outcome(id).bytes.find("aiomq.QueueFull"), std::string::npos)
        << pool.outcome(id).bytes;
    expect_nothing_left(pool, names);
}

TEST(Nested, AnApplicationThatDoesNothingHoldsUpNobody) {
    TestPool pool({.workers = 1, .capacity = 512});
    bytes_of_names(pool);
    const std::uint64_t id = pool.submit("fib", "10");
    // Not a call into the pool until its fd says that the task is done.
    pollfd entry{aiomq_pool_fd(pool.get()), POLLIN, 0};
    while (aiomq_pool_dispatch(pool.get()) == 0) ASSERT_EQ(poll(&entry, 1, 20000), 1);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).integer, 55);
    // Nor when it never waits for the fd: the counters say when.
    pool.submit("fib", "9");
    pool.wait_until([&] { return true; });
    for (int i = 0; i < 20000 && pool.pool_stats().ok < 1 + 177 + 109; ++i) usleep(1000);
    EXPECT_EQ(pool.pool_stats().nested, 176U + 108U);
    pool.collect_all();
}

TEST(Nested, RoomThatATaskOfTheApplicationLeavesIsSeenWithoutTheApplication) {
    TestPool pool({.workers = 2, .capacity = 2});
    GoSignal go;
    pool.submit("wait_for_file", go.path());
    // A chain of tasks that each wait for the next, until only that file's task could make room.
    const std::uint32_t slots = pool.pool_stats().capacity + 8;  // these are kept for nested tasks
    std::string chain = "1 1 0 nothing x";
    for (std::uint32_t i = 0; i < slots - 2; ++i) chain.insert(0, "1 1 0 gather ");
    pool.submit("gather", chain);
    for (int i = 0; i < 20000 && pool.pool_stats().nested < slots - 2; ++i) usleep(1000);
    ASSERT_EQ(pool.pool_stats().nested, slots - 2U);
    go.give();
    // No call into the pool: the counters say when.
    for (int i = 0; i < 20000 && pool.pool_stats().ok < slots; ++i) usleep(1000);
    EXPECT_GE(pool.pool_stats().ok, slots);
    pool.collect_all();
}

TEST(Nested, CancellingNestedTasksGivesEachOneOutcome) {
    TestPool pool({.workers = 1, .capacity = 2});
    const std::uint64_t names = bytes_of_names(pool);
    const std::uint64_t id = pool.submit("gather_and_cancel");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).bytes, "CANCELLED=20 bytes=0");
    expect_nothing_left(pool, names);
}

TEST(Nested, BadCallsAreRefused) {
    TestPool pool;
    const std::uint64_t id = pool.submit("bad_calls");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).integer, 1);
}

TEST(Nested, ItemsThatDoNotWaitLeaveNothingBehind) {
    TestPool pool({.workers = 2, .capacity = 8});
    const std::uint64_t names = bytes_of_names(pool);
    for (int i = 0; i < 100; ++i) pool.submit("leave_behind");
    pool.collect_all();
    pool.wait_until([&] { return pool.pool_stats().ok >= 201; });
    expect_nothing_left(pool, names);
}

TEST(Nested, AClosedPoolStillRunsWhatItsTasksSubmit) {
    TestPool pool({.workers = 2, .capacity = 512});
    const std::uint64_t id = pool.submit("fib", "10");
    for (int i = 0; i < 10; ++i) pool.submit("leave_behind");
    EXPECT_EQ(aiomq_pool_close(pool.get(), 0), 0);
    EXPECT_EQ(aiomq_pool_join(pool.get(), 20'000'000'000), 0);
    EXPECT_EQ(pool.pool_stats().ok, 177U + 20U);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).integer, 55);
}

TEST(Nested, DiscardEndsWaitingTasks) {
    TestPool pool({.workers = 2, .capacity = 4});
    const std::string gate = "/tmp/aiomq_nested_" + std::to_string(getpid());
    pool.submit("gather", "100 1 0 wait_for_file " + gate);
    pool.wait_until([&] { return pool.pool_stats().nested > 0; });
    EXPECT_EQ(aiomq_pool_close(pool.get(), AIOMQ_CLOSE_DISCARD), 0);
    close(open(gate.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    EXPECT_EQ(aiomq_pool_join(pool.get(), 20'000'000'000), 0);
    pool.collect_all();
    unlink(gate.c_str());
    const std::string &text = pool.outcomes().begin()->second.bytes;
    EXPECT_NE(text.find("POOL_CLOSED="), std::string::npos) << text;
    EXPECT_EQ(text.find("twice"), std::string::npos) << text;
}

TEST(Nested, AKilledChildIsAnsweredAsDied) {
    TestPool pool({.workers = 2});
    const std::uint64_t names = bytes_of_names(pool);
    int answered = 0;
    for (int i = 0; i < 20;
         ++i) {  // it may run in its own parent's worker, which then dies as well
        const std::string text = told(pool, "1 1 0 die x");
        if (text == "WORKER_DIED=1 bytes=0 aiomq.WorkerDied")
            ++answered;
        else
            EXPECT_NE(text.find("WORKER_DIED "), std::string::npos) << text;
    }
    RecordProperty("answered", answered);
    expect_nothing_left(pool, names);
}

TEST(Nested, WhatADeadParentAskedForIsCancelled) {
    const std::string note = "/tmp/aiomq_note_" + std::to_string(getpid());
    unlink(note.c_str());
    TestPool pool({.workers = 2, .capacity = 4, .environment = {"AIOMQ_TEST_NOTE=" + note}});
    const std::uint64_t names = bytes_of_names(pool);
    const std::string gate = note + ".gate";
    unlink(gate.c_str());
    const std::uint64_t id = pool.submit("gather", "50 1 0 wait_for_file " + gate);
    pool.wait_until(
        [&] { return pool.pool_stats().nested >= 8 && access(note.c_str(), R_OK) == 0; });
    std::string pid(16, '\0');
    const int fd = open(note.c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GT(read(fd, pid.data(), pid.size()), 0);
    close(fd);
    kill(atoi(pid.c_str()), SIGKILL);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_WORKER_DIED);
    close(open(gate.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));  // for the other worker's
    expect_nothing_left(pool, names);
    unlink(gate.c_str());
    unlink(note.c_str());
}

TEST(Nested, RandomKillsLoseAndDoubleNothing) {
    std::random_device device;
    const unsigned seed = device();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    TestPool pool({.workers = 3, .capacity = 256, .start_limit = 1000});
    const std::uint64_t names = bytes_of_names(pool);
    for (int round = 0; round < 40; ++round) {
        for (int i = 0; i < 4; ++i) {
            pool.submit("fib", "7");
            pool.submit("gather", "20 3 2 echo " + std::string(300, 'x'));
        }
        pool.collect_some();
        const int pid = pool.worker_stats(static_cast<std::uint32_t>(random() % 3)).pid;
        if (pid > 0) kill(pid, SIGKILL);
    }
    pool.collect_all();
    for (const auto &[key, outcome] : pool.outcomes()) {
        EXPECT_EQ(outcome.times, 1);
        EXPECT_TRUE(outcome.status == AIOMQ_OK || outcome.status == AIOMQ_WORKER_DIED)
            << outcome.error_message;
        EXPECT_EQ(outcome.bytes.find("twice"), std::string::npos) << outcome.bytes;
    }
    expect_nothing_left(pool, names);
}

TEST(Nested, AScribbledRequestNeverHurtsTheDispatcher) {
    for (int field = 0; field < 88; field += 8) {
        SCOPED_TRACE(field);
        TestPool pool({.workers = 1, .capacity = 4});
        const std::uint64_t id = pool.submit("scribble", std::to_string(field));
        // Either the damage was seen, or what was read was sound or could be refused.
        pool.collect_all();
        const int status = pool.outcome(id).status;
        EXPECT_TRUE(status == AIOMQ_OK || status == AIOMQ_POOL_CORRUPT) << status;
        EXPECT_EQ(pool.outcome(id).times, 1);
    }
}
