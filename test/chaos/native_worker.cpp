#include "native_worker.hpp"

#include <aiomq/aiomq.h>
#include <event2/event.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "../support/clock.hpp"
#include "order.hpp"

namespace chaos {
namespace {

using aiomq_test::now_ns;

struct State {
    std::optional<Ledger> ledger;
    std::uint32_t index = 0;
    std::uint32_t run = 0;
    std::uint32_t child = 0;
    /// Of nested tasks' keys: pids come back within minutes of thousands of deaths.
    std::mt19937_64 keys{std::random_device{}() * 0x9e3779b97f4a7c15U ^ now_ns()};
    std::string buffer;  ///< of the result that is being published
};
State state;

/// One execution of one item.
struct Run {
    aiomq_worker *worker;
    std::uint32_t job;
    std::uint32_t item;
    Order order;
    std::uint64_t timeout_ns;
    std::uint64_t started_ns;
    std::uint64_t number;

    void note(What what) const { note(what, now_ns()); }
    void note(What what, std::uint64_t detail) const {
        state.ledger->write(state.index, {order.key, item, what, number, detail});
    }
};

struct Napping : Run {
    event *timer = nullptr;
};
std::unordered_multimap<std::uint32_t, std::unique_ptr<Napping>> napping;  // by job

/// An item that waits for tasks of its own.
struct Nesting : Run {
    std::uint32_t due = 0;
};

Run begin(const aiomq_call *call, const Order &order) {
    const std::uint64_t number =
        static_cast<std::uint64_t>(getpid()) << 32 | std::uint64_t{++state.run};
    Run run{call->worker,          call->job->job, call->item, order,
            call->job->timeout_ns, now_ns(),       number};
    run.note(What::kBegin);
    return run;
}

/// The result of a run, in memory that lasts until the next one is made.
aiomq_item result_of(const Run &run) {
    aiomq_item item{};
    item.index = run.item;
    item.status = AIOMQ_OK;
    if (run.order.result_bytes == kInteger) {
        item.kind = AIOMQ_KIND_INT;
        item.value.integer = integer_result(run.order.key, run.item);
        return item;
    }
    const Answer head{run.order.key, run.number, run.item, 0};
    state.buffer.assign(reinterpret_cast<const char *>(&head), sizeof head);
    state.buffer.append(
        reinterpret_cast<const char *>(state.ledger->text(result_offset(run.order, run.item))),
        run.order.result_bytes);
    item.kind = AIOMQ_KIND_BYTES;
    item.bytes = state.buffer.size();
    item.value.data = state.buffer.data();
    return item;
}

/// From a timer or an answer. Without room now: again, soon.
void complete(const Run &run, const aiomq_item &item) {
    const int error = aiomq_worker_complete(run.worker, run.job, &item);
    if (error >= 0) return;
    if (error != -ENOMEM) abort();
    struct Later {
        Run run;
        aiomq_item item;
        std::string data;
    };
    auto later = std::make_unique<Later>(Later{run, item, {}});
    if (item.kind >= AIOMQ_KIND_BYTES)
        later->data.assign(static_cast<const char *>(item.value.data), item.bytes);
    const auto again = [](evutil_socket_t, short, void *given) {
        const std::unique_ptr<Later> held(static_cast<Later *>(given));
        if (held->item.kind >= AIOMQ_KIND_BYTES) held->item.value.data = held->data.data();
        complete(held->run, held->item);
    };
    const timeval wait{0, 2000};
    event_base_once(aiomq_worker_event_base(run.worker), -1, EV_TIMEOUT, again, later.release(),
                    &wait);
}

void finish(const Run &run) {
    run.note(What::kEnd);
    complete(run, result_of(run));
}

// --- naps -----------------------------------------------------------------------------------------

void end_nap(evutil_socket_t, short, void *given) {
    auto *nap = static_cast<Napping *>(given);
    event_free(nap->timer);
    const Run run = *nap;
    const auto [first, last] = napping.equal_range(run.job);
    napping.erase(
        std::find_if(first, last, [&](const auto &entry) { return entry.second.get() == nap; }));
    finish(run);
}

void start_nap(const Run &run) {
    auto nap = std::make_unique<Napping>();
    static_cast<Run &>(*nap) = run;
    nap->timer = event_new(aiomq_worker_event_base(run.worker), -1, 0, end_nap, nap.get());
    const timeval wait{run.order.amount / 1000000,
                       static_cast<suseconds_t>(run.order.amount % 1000000)};
    event_add(nap->timer, &wait);
    napping.emplace(run.job, std::move(nap));
}

/// A job was cancelled, or the time of one of its items is over.
void cancel(void *, std::uint32_t job, std::uint32_t) {
    for (auto place = napping.find(job); place != napping.end(); place = napping.find(job)) {
        const Run run = *place->second;
        event_free(place->second->timer);
        napping.erase(place);
        run.note(What::kStopped);
        aiomq_item item{};
        item.index = run.item;
        const bool late = run.timeout_ns != 0 && now_ns() - run.started_ns >= run.timeout_ns;
        item.status = late ? AIOMQ_TIMED_OUT : AIOMQ_CANCELLED;
        complete(run, item);
    }
}

// --- nested tasks ---------------------------------------------------------------------------------

int submit_child(Nesting &nesting) {
    const Order &order = nesting.order;
    Order child{};
    child.magic = kMagic;
    ++state.child;
    child.key = kNested | state.keys();
    child.body_offset = order.body_offset + state.child;
    child.body_bytes = order.body_bytes;
    child.result_offset = child.key % kTextWindow;
    child.result_bytes = order.body_bytes;
    std::string payload(reinterpret_cast<const char *>(&child), sizeof child);
    payload.append(reinterpret_cast<const char *>(state.ledger->text(child.body_offset)),
                   child.body_bytes);
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.kind = AIOMQ_KIND_BYTES;
    task.items = 1;
    task.user = reinterpret_cast<std::uint64_t>(&nesting);
    task.payload = payload.data();
    task.payload_bytes = payload.size();
    const int error =
        aiomq_worker_submit(nesting.worker, nesting.job, nesting.item, &task, "order");
    if (error == 0) ++nesting.due;
    return error;
}

void check_answer(const Nesting &nesting, const aiomq_item &item) {
    if (item.status != AIOMQ_OK) return;  // killed, or no room: allowed
    Answer head{};
    bool right =
        item.kind == AIOMQ_KIND_BYTES && item.bytes == sizeof head + nesting.order.body_bytes;
    if (right) {
        const auto *bytes = static_cast<const unsigned char *>(item.value.data);
        std::memcpy(&head, bytes, sizeof head);
        right = (head.key & kNested) != 0 &&
                std::memcmp(bytes + sizeof head, state.ledger->text(head.key % kTextWindow),
                            nesting.order.body_bytes) == 0;
    }
    if (!right) nesting.note(What::kWrong, 1);
}

void take_answer(void *, const aiomq_completion *completion) {
    auto *nesting = reinterpret_cast<Nesting *>(completion->user);
    for (std::uint32_t i = 0; i < completion->item_count; ++i)
        check_answer(*nesting, completion->items[i]);
    if (aiomq_worker_release(nesting->worker, completion->loan) != 0) abort();
    if (--nesting->due > 0) return;
    finish(*nesting);
    delete nesting;
}

/// 1: the answers will complete it.
int nest(const Run &run) {
    auto nesting = std::make_unique<Nesting>();
    static_cast<Run &>(*nesting) = run;
    for (std::uint32_t i = 0; i < run.order.amount; ++i)
        if (submit_child(*nesting) != 0) break;  // no room: with fewer
    if (nesting->due == 0) return 0;
    nesting.release();
    return 1;
}

// --- payloads that are kept -----------------------------------------------------------------------

struct Kept {
    Run run;
    std::uint64_t loan;
    const unsigned char *body;
};

void give_back(evutil_socket_t, short, void *given) {
    const std::unique_ptr<Kept> kept(static_cast<Kept *>(given));
    const Order &order = kept->run.order;
    if (std::memcmp(kept->body, state.ledger->text(order.body_offset), order.body_bytes) != 0)
        kept->run.note(What::kWrong, 2);
    if (aiomq_worker_release(kept->run.worker, kept->loan) != 0) abort();
}

void retain(const aiomq_call *call, const Run &run) {
    std::uint64_t loan = 0;
    if (aiomq_worker_retain(call->worker, call->job->job, &loan) != 0) return;  // it is in the slot
    const auto *body = static_cast<const unsigned char *>(call->job->payload) + sizeof(Order);
    auto kept = std::make_unique<Kept>(Kept{run, loan, body});
    const timeval wait{0, run.order.amount % 1000000};
    event_base_once(aiomq_worker_event_base(call->worker), -1, EV_TIMEOUT, give_back,
                    kept.release(), &wait);
}

// --- handlers -------------------------------------------------------------------------------------

/// The order in a payload; its body must be the text that it says.
bool read_order(const aiomq_call *call, Order &ret) {
    const auto *bytes = static_cast<const unsigned char *>(call->job->payload);
    if (call->job->payload_bytes < sizeof ret) return false;
    std::memcpy(&ret, bytes, sizeof ret);
    return ret.magic == kMagic && call->job->payload_bytes == sizeof ret + ret.body_bytes &&
           std::memcmp(bytes + sizeof ret, state.ledger->text(ret.body_offset), ret.body_bytes) ==
               0;
}

void spin(std::uint32_t microseconds) {
    const std::uint64_t end = now_ns() + std::uint64_t{microseconds} * 1000;
    while (now_ns() < end) asm volatile("");
}

int run_order(const aiomq_call *call, aiomq_item *ret) {
    Order order{};
    if (!read_order(call, order)) {
        state.ledger->write(state.index, {order.key, call->item, What::kWrong, 0, 3});
        return -EBADMSG;
    }
    const Run run = begin(call, order);
    switch (order.deed) {
        case Deed::kEcho:
            break;
        case Deed::kSpin:
            spin(order.amount);
            break;
        case Deed::kNap:
            start_nap(run);
            return 1;
        case Deed::kNest:
            if (nest(run) == 1) return 1;
            break;
        case Deed::kStuck:
            usleep(order.amount);
            break;
        case Deed::kFail:
            run.note(What::kEnd);
            return -EDOM;
        case Deed::kDie:
            kill(getpid(), SIGKILL);
            break;
        case Deed::kRetain:
            retain(call, run);
            break;
    }
    run.note(What::kEnd);
    *ret = result_of(run);
    return 0;
}

/// A task without an order: what it carries names it, or its id does.
int run_blank(const aiomq_call *call, aiomq_item *ret) {
    Order order{};
    order.key = call->job->kind == AIOMQ_KIND_INT ? static_cast<std::uint64_t>(call->job->integer)
                                                  : kById | call->job->task_id;
    order.result_bytes = kInteger;
    const Run run = begin(call, order);
    run.note(What::kEnd);
    *ret = result_of(run);
    return 0;
}

/// For measuring: nothing is written anywhere.
int run_beat(const aiomq_call *call, aiomq_item *ret) {
    ret->kind = AIOMQ_KIND_INT;
    ret->value.integer = call->job->integer + 1;
    return 0;
}

}  // namespace

void run_as_worker() {
    if (getenv("AIOMQ_WORKER") == nullptr) return;
    aiomq_worker *worker = nullptr;
    char text[512];
    if (aiomq_worker_open(&worker, text, sizeof text) != 0) {
        fprintf(stderr, "%s\n", text);
        _exit(5);
    }
    state.ledger.emplace(AIOMQ_EXTRA_FD_BASE + kPythonDescriptors);
    state.index = static_cast<std::uint32_t>(aiomq_worker_index(worker));
    const aiomq_handler handlers[] = {
        {"order", run_order, nullptr}, {"blank", run_blank, nullptr}, {"beat", run_beat, nullptr}};
    aiomq_run_options options;
    aiomq_run_options_init(&options, sizeof options);
    options.handlers = handlers;
    options.handler_count = sizeof handlers / sizeof *handlers;
    options.concurrency = 8;
    options.cancel = cancel;
    options.answer = take_answer;
    const int error = aiomq_worker_run(worker, &options);
    aiomq_worker_close(&worker);
    _exit(error == 0 ? 0 : 7);
}

}  // namespace chaos
