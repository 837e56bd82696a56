#include "run.hpp"

#include <event2/event.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <memory>

namespace aiomq {
namespace {

/// Busy time between two looks at the user's events.
constexpr std::uint64_t kSliceNs = 2000000;
constexpr unsigned kTasksPerClock = 64;
/// How long a worker without room for outcomes waits, unless a release comes first.
constexpr suseconds_t kRetryMicroseconds = 100000;

struct BaseDeleter {
    void operator()(event_base *base) const { event_base_free(base); }
};
struct EventDeleter {
    void operator()(event *entry) const { event_free(entry); }
};

/// Whom SIGTERM is for; a process is one worker at most.
Atomic<Worker *> term_worker;

void on_term(int signal) {
    Worker *worker = term_worker.load_seq();
    if (worker == nullptr) return;
    if (!worker->forked()) {
        worker->retire();
        return;
    }
    std::signal(signal, SIG_DFL);  // a child that a task has forked: as if we had not been here
    raise(signal);
}

}  // namespace

RunLoop::RunLoop(Worker &worker, aiomq_worker *handle, const aiomq_run_options &options)
    : worker_(worker),
      handle_(handle),
      options_(options),
      concurrency_(worker.concurrency() != 0 ? static_cast<std::uint32_t>(worker.concurrency())
                                             : options.concurrency) {}

RunLoop::TermHandler::TermHandler(Worker &worker) {
    struct sigaction present {};
    if (sigaction(SIGTERM, nullptr, &present) != 0 || (present.sa_flags & SA_SIGINFO) != 0 ||
        present.sa_handler != SIG_DFL)
        return;
    term_worker.store_seq(&worker);
    struct sigaction ours {};
    ours.sa_handler = on_term;
    ours.sa_flags = SA_RESTART;
    installed_ = sigaction(SIGTERM, &ours, nullptr) == 0;
}

RunLoop::TermHandler::~TermHandler() {
    struct sigaction present {};
    if (installed_ && sigaction(SIGTERM, nullptr, &present) == 0 && present.sa_handler == on_term)
        std::signal(SIGTERM, SIG_DFL);
    if (installed_) term_worker.store_seq(nullptr);
}

int RunLoop::run() {
    std::unique_ptr<event_base, BaseDeleter> own;
    event_base *base = options_.base;
    if (base == nullptr) {
        own.reset(event_base_new());
        base = own.get();
    }
    if (base == nullptr) return -ENOMEM;
    // It must be read right here: EVLOOP_NONBLOCK goes round as long as anything is ready.
    const std::unique_ptr<event, EventDeleter> wake(event_new(
        base, worker_.fd(), EV_READ | EV_PERSIST,
        [](evutil_socket_t, short, void *worker) { static_cast<Worker *>(worker)->wake(true); },
        &worker_));
    if (wake == nullptr || event_add(wake.get(), nullptr) != 0) return -ENOMEM;
    const TermHandler on_sigterm(worker_);
    if (const int error = worker_.ready(); error != 0 && error != -EALREADY) return error;
    Timeouts timeouts(worker_, options_, base);
    if (!timeouts.sound()) return -ENOMEM;
    timeouts_ = &timeouts;
    worker_.loop = base;
    worker_.run_loop = this;
    int error = 0;
    while (error == 0 && !ended_) {
        error = serve();
        if (error < 0 || ended_) break;
        const bool more = error > 0;
        worker_.enter(UINT32_MAX, 0);  // what runs from here on is the loop's
        error = take_cancels();
        const bool answered = error == 0 && take_answers();
        const bool others = event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED) > 1;
        if (more || answered) {
            // Once: a wake-up that came late leaves our descriptor readable until we sleep, and
            // libevent would go round for as long as anything is.
            if (others) event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
            continue;
        }
        timeouts.settle();
        const bool wants = may_start();
        if (wants && !others && worker_.spin()) continue;
        if (worker_.sleep(wants) == 1) {
            blocked_ = false;  // what is there may be a release
            continue;
        }
        // Memory that the system refused is asked for again; nobody could tell that it is back.
        const timeval again{0, kRetryMicroseconds};
        if (blocked_) event_base_loopexit(base, &again);
        event_base_loop(base, EVLOOP_ONCE);
        worker_.wake(false);
        blocked_ = false;
    }
    worker_.loop = nullptr;
    worker_.run_loop = nullptr;
    return error;
}

bool RunLoop::may_start() const { return !blocked_ && worker_.running() < concurrency_; }

/// Runs what is there for a slice of time. 1: there may be more; 0: nothing to start now; or -errno.
int RunLoop::serve() {
    if (const int error = retry_held(); error != 0) return error < 0 ? error : 0;
    if (retry_tasks()) return 0;
    std::uint64_t end = 0;
    for (unsigned count = 1; may_start(); ++count) {
        const aiomq_job *job = nullptr;
        if (backlog_.empty()) {
            const int claimed = worker_.claim_one(job);
            if (claimed == -ESHUTDOWN) ended_ = worker_.unfinished() == 0;
            if (claimed <= 0) return claimed == -ESHUTDOWN ? 0 : claimed;
            if (job->end_item - job->first_item > 1) backlog_.push_back(job->job);
        } else {
            job = worker_.job_view(backlog_.back());
        }
        const std::uint32_t handle = job == nullptr ? backlog_.back() : job->job;
        std::uint32_t item = 0;
        const int started = job == nullptr ? -ENODATA : worker_.start(handle, item);
        if (started == -ENODATA) {  // or its last item ended it
            if (!backlog_.empty() && backlog_.back() == handle) backlog_.pop_back();
            continue;
        }
        if (started == -ESHUTDOWN) {  // retiring: the exit gives back what has not started
            backlog_.clear();
            continue;
        }
        if (started == -ENOMEM) {
            blocked_ = true;
            return 0;
        }
        if (started < 0) return started;
        const int error = run_item(*job, item);
        if (error < 0) return error;
        if (count % kTasksPerClock == 0) {
            const std::uint64_t now = sys::monotonic_ns();
            if (end == 0) end = now + kSliceNs;
            if (now >= end) {
                worker_.flush();
                return 1;
            }
        }
    }
    return 0;
}

int RunLoop::run_item(const aiomq_job &job, std::uint32_t item) {
    const aiomq_handler *handler = handler_of(job.function);
    if (handler == nullptr)
        return fail(job.job, item, "aiomq.UnknownFunction",
                    "no handler for \"" + name_of(job.function) + "\" in this worker's table");
    const aiomq_call call{handle_, &job, item, handler->user};
    const std::uint32_t handle = job.job;  // the view may end with the call
    const std::uint64_t timeout_ns = job.timeout_ns;
    aiomq_item result{};
    result.status = AIOMQ_OK;
    const int answer = handler->function(&call, &result);
    if (answer == 1) {  // the handler completes it later
        worker_.enter(UINT32_MAX, 0);
        if (timeout_ns != 0) timeouts_->add(handle, item, timeout_ns);
        return 0;
    }
    if (answer != 0)
        return fail(handle, item, "aiomq.HandlerError",
                    name_of(job.function) + " returned " + std::to_string(answer) + " (" +
                        std::strerror(answer < 0 ? -answer : answer) + ")");
    result.index = item;
    return complete(handle, result);
}

/// Completes now, or as soon as there is room. What can never fit becomes an error.
int RunLoop::finish(std::uint32_t job, const aiomq_item &item) {
    const int error = worker_.complete(job, item);
    if (error == -ENOMEM) {
        const auto *data = static_cast<const unsigned char *>(item.value.data);
        Held held{job, item, {}};
        if (item.kind >= AIOMQ_KIND_BYTES) held.data.assign(data, data + item.bytes);
        held_.push_back(std::move(held));
        blocked_ = true;
        return 0;
    }
    return error == -EMSGSIZE ? refuse(job, item) : error;
}

int RunLoop::complete(std::uint32_t job, const aiomq_item &item) {
    const int error = finish(job, item);
    if (error == -EINVAL)
        return fail(job, item.index, "aiomq.BadResult",
                    "the handler's result has an unknown status or kind, or bytes without data");
    return error < 0 ? error : 0;
}

int RunLoop::fail(std::uint32_t job, std::uint32_t item, const std::string &type,
                  const std::string &message) {
    ErrorText text;
    text.type = type;
    text.message = message;
    const int error = finish_with(job, item, text);
    return error < 0 ? error : 0;
}

int RunLoop::finish_with(std::uint32_t job, std::uint32_t item, const ErrorText &given) {
    const ErrorText text = bounded(given);
    const int error = worker_.fail(job, item, text);
    if (error != -ENOMEM) return error;
    aiomq_item held{};
    held.index = item;
    held.status = AIOMQ_ERROR;
    held.kind = AIOMQ_KIND_ERROR;
    Held entry{job, held, std::vector<unsigned char>(error_bytes(text))};
    entry.item.bytes = build_error(text, entry.data.data(), entry.data.size());
    held_.push_back(std::move(entry));
    blocked_ = true;
    return 0;
}

/// What can never fit becomes an error; one that can't, either, the bare fact.
int RunLoop::refuse(std::uint32_t job, const aiomq_item &item) {
    if (item.kind != AIOMQ_KIND_ERROR)
        return fail(job, item.index, "aiomq.ResultTooLarge",
                    "a result of " + std::to_string(item.bytes) +
                        " bytes does not fit the worker's arena: raise arena_max_bytes, or free "
                        "memory if the system refused it some");
    aiomq_item bare{};
    bare.index = item.index;
    bare.status = item.status;
    const int error = worker_.complete(job, bare);
    return error < 0 ? error : 0;
}

/// 1: still no room.
int RunLoop::retry_held() {
    while (!held_.empty()) {
        Held &held = held_.front();
        if (held.item.kind >= AIOMQ_KIND_BYTES) held.item.value.data = held.data.data();
        int error = worker_.complete(held.job, held.item);
        if (error == -ENOMEM) {
            blocked_ = true;
            return 1;
        }
        // It had to wait for readers. They have given back what they held, and there still is no room.
        if (error == -EMSGSIZE) error = refuse(held.job, held.item);
        if (error < 0) return error;
        held_.pop_front();
    }
    return 0;
}

int RunLoop::submit(std::uint32_t job, std::uint32_t item, const aiomq_task &task,
                    std::string_view function) {
    const int error = held_tasks_.empty() ? worker_.submit(job, item, task, function) : -ENOMEM;
    if (error != -ENOMEM) return error;
    const auto *payload = static_cast<const unsigned char *>(task.payload);
    HeldTask held{job, item, task, std::string(function), {}};
    if (payload != nullptr) held.payload.assign(payload, payload + task.payload_bytes);
    held_tasks_.push_back(std::move(held));
    blocked_ = true;
    return 0;
}

int RunLoop::cancel_nested(std::uint64_t user) {
    const auto held =
        std::ranges::find(held_tasks_, user, [](const HeldTask &entry) { return entry.task.user; });
    if (held == held_tasks_.end()) return worker_.cancel_nested(user);
    refused_.emplace_back(user, AIOMQ_CANCELLED);
    held_tasks_.erase(held);
    return 0;
}

/// True: still no room.
bool RunLoop::retry_tasks() {
    while (!held_tasks_.empty()) {
        HeldTask &held = held_tasks_.front();
        if (held.task.payload != nullptr) held.task.payload = held.payload.data();
        const int error = worker_.submit(held.job, held.item, held.task, held.function);
        if (error == -ENOMEM) {
            blocked_ = true;
            return true;
        }
        if (error < 0) refused_.emplace_back(held.task.user, AIOMQ_POOL_CLOSED);
        held_tasks_.pop_front();
    }
    return false;
}

/// True: there were answers, so that items may go on.
bool RunLoop::take_answers() {
    if (options_.answer == nullptr) return false;
    bool any = false;
    for (; !refused_.empty(); any = true) {
        aiomq_completion answer{};
        answer.user = refused_.front().first;
        answer.item.status = static_cast<std::uint16_t>(refused_.front().second);
        answer.items = &answer.item;
        answer.item_count = 1;
        answer.worker = AIOMQ_NO_WORKER;
        refused_.pop_front();
        options_.answer(options_.answer_user, &answer);
    }
    for (aiomq_completion answer; worker_.collect(&answer, 1) == 1; any = true)
        options_.answer(options_.answer_user, &answer);
    return any;
}

int RunLoop::take_cancels() {
    std::uint32_t job = 0;
    while (worker_.cancelled(job) == 1) {
        if (options_.cancel != nullptr) options_.cancel(options_.cancel_user, job, UINT32_MAX);
        // Nothing more of it starts: this ends the job if nothing runs either.
        aiomq_item withdrawn{};
        withdrawn.status = AIOMQ_CANCELLED;
        std::uint32_t item = 0;
        if (worker_.start(job, item) == 0) {  // a task of one that was claimed just now
            withdrawn.index = item;
            if (const int error = complete(job, withdrawn); error != 0) return error;
        }
        std::erase(backlog_, job);
    }
    return 0;
}

const aiomq_handler *RunLoop::handler_of(std::uint32_t function) {
    if (function < handlers_.size() && handlers_[function] != nullptr) return handlers_[function];
    const std::string name = name_of(function);
    const aiomq_handler *found = nullptr;
    for (std::size_t i = 0; i < options_.handler_count && found == nullptr; ++i)
        if (name == options_.handlers[i].name) found = &options_.handlers[i];
    if (aiomq_handler handler{};
        found == nullptr && options_.resolve != nullptr &&
        options_.resolve(options_.resolve_user, name.data(), name.size(), &handler) == 0)
        found = &resolved_.emplace_back(handler);
    if (found == nullptr) return nullptr;
    if (function >= handlers_.size()) handlers_.resize(function + 1);
    handlers_[function] = found;
    return found;
}

std::string RunLoop::name_of(std::uint32_t function) {
    const char *name = nullptr;
    std::size_t bytes = 0;
    if (worker_.function(function, &name, &bytes) != 0)
        return "function " + std::to_string(function);
    return {name, bytes};
}

}  // namespace aiomq
