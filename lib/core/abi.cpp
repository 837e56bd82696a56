// The edge: argument checks, opaque handles, no exception gets past here.
#include <aiomq/aiomq.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "edge.hpp"
#include "pool.hpp"
#include "run.hpp"
#include "stats.hpp"
#include "supervisor.hpp"
#include "worker.hpp"

struct aiomq_pool {
    std::unique_ptr<aiomq::Pool> pool;
    std::unique_ptr<aiomq::Supervisor> supervisor;
};

struct aiomq_worker {
    std::unique_ptr<aiomq::Worker> worker;
};

struct aiomq_view {
    std::unique_ptr<aiomq::View> view;
};

namespace {

/// Set while this process was started as a worker and has opened (or tried to open) its handle.
bool worker_opened = false;

template <typename Call>
auto with_pool(aiomq_pool *pool, Call call) -> decltype(call(*pool->pool)) {
    using Returned = decltype(call(*pool->pool));
    if (pool == nullptr) return static_cast<Returned>(-EINVAL);
    if (pool->pool->forked()) return static_cast<Returned>(-ECHILD);
    return aiomq::guarded([&] { return call(*pool->pool); });
}

template <typename Call>
auto with_worker(aiomq_worker *worker, Call call) -> decltype(call(*worker->worker)) {
    using Returned = decltype(call(*worker->worker));
    if (worker == nullptr) return static_cast<Returned>(-EINVAL);
    if (worker->worker->forked()) return static_cast<Returned>(-ECHILD);
    return aiomq::guarded([&] { return call(*worker->worker); });
}

void put_text(char *buffer, std::size_t bytes, std::string_view text) {
    if (buffer == nullptr || bytes == 0) return;
    const std::size_t length = text.copy(buffer, bytes - 1);
    buffer[length] = '\0';
}

/// An error always has words. Allocates nothing: memory may be what is missing.
void put_error_text(char *buffer, std::size_t bytes, const std::string &text, int error) {
    put_text(buffer, bytes, error == 0 || !text.empty() ? text : aiomq_strerror(error));
}

int give_memory(const aiomq::Segment &segment, const void **ret_start, std::uint64_t *ret_bytes) {
    if (ret_start != nullptr) *ret_start = segment.start();
    if (ret_bytes != nullptr) *ret_bytes = segment.size();
    return segment.fd();
}

int create_pool(const aiomq_pool_options &options, aiomq_pool **ret_pool, std::string &ret_text) {
    aiomq::PoolConfig config;
    if (const int error = aiomq::check_options(options, config, ret_text); error != 0) return error;
    if (std::getenv(aiomq::kWorkerVariable) != nullptr && !worker_opened) {
        ret_text =
            "this process was started as a worker and creates a pool before it has called "
            "aiomq_worker_open(): it would start itself over and over; call aiomq_worker_open() "
            "first thing in main";
        return -EDEADLK;
    }
    auto handle = std::make_unique<aiomq_pool>();
    if (const int error = aiomq::Pool::create(std::move(config), handle->pool, ret_text);
        error != 0)
        return error;
    handle->supervisor = std::make_unique<aiomq::Supervisor>(*handle->pool);
    if (const int error = handle->supervisor->start(); error != 0) {
        ret_text = "can't start the supervisor thread: " + std::string(std::strerror(-error));
        return error;
    }
    if ((options.flags & AIOMQ_POOL_NOWAIT) == 0) {
        const int error = handle->supervisor->wait_started();
        if (error != 0) {
            handle->pool->state(ret_text);
            return error;
        }
    }
    *ret_pool = handle.release();
    return 0;
}

}  // namespace

AIOMQ_EXPORT int aiomq_error_decode(const aiomq_item *item, void *buffer, size_t buffer_bytes,
                                    aiomq_error *ret_error) {
    if (item == nullptr || buffer == nullptr || ret_error == nullptr ||
        item->kind != AIOMQ_KIND_ERROR || item->value.data == nullptr)
        return -EINVAL;
    return aiomq::guarded([&] {
        aiomq::ErrorText text;
        const int error =
            aiomq::read_error(item->value.data, item->bytes, buffer, buffer_bytes, text);
        if (error != 0) return error;
        // Cap'n Proto texts end with a NUL inside the message.
        ret_error->type = text.type.data();
        ret_error->message = text.message.data();
        ret_error->traceback = text.traceback.data();
        ret_error->pickled = text.pickled.empty() ? nullptr : text.pickled.data();
        ret_error->pickled_bytes = text.pickled.size();
        ret_error->exit_status = text.exit_status;
        ret_error->signal = text.signal;
        ret_error->pid = text.pid;
        return 0;
    });
}

AIOMQ_EXPORT const char *aiomq_strerror(int error) {
    switch (error > 0 ? -error : error) {  // negative: INT_MIN has no opposite
        case 0:
            return "success";
        case -EINVAL:
            return "an argument is invalid";
        case -EAGAIN:
            return "every slot is in use: collect, or wait for the fd, and try again";
        case -ENOMEM:
            return "no memory left: the arena is full or pages can't be committed";
        case -EMSGSIZE:
            return "larger than arena_max_bytes can ever hold";
        case -ESHUTDOWN:
            return "the pool is closed";
        case -EPIPE:
            return "the pool is broken: its workers can't start or its memory is damaged";
        case -ECHILD:
            return "called after fork in the child, or a worker ended before it was ready";
        case -ENOENT:
            return "there is no such thing (task, function, worker program, pool)";
        case -EDEADLK:
            return "a worker creates a pool before aiomq_worker_open()";
        case -EALREADY:
            return "done before";
        case -EPROTO:
            return "another format or version, or a call before aiomq_worker_ready()";
        case -EBADMSG:
            return "shared memory is damaged";
        case -ENODATA:
            return "no item left to start";
        case -ENOSPC:
            return "too many functions";
        case -ENOBUFS:
            return "the buffer is too small";
        case -EBUSY:
            return "the pool is still open: close it first";
        case -ETIMEDOUT:
            return "the time is over";
        case -EINTR:
            return "interrupted by a signal";
        case -EMEDIUMTYPE:
            return "not a pool's memory";
        case -EPERM:
            return "memory that could shrink while it is mapped";
        case -EMFILE:
        case -ENFILE:
            return "no file descriptors left";
        default:
            return "system error; see errno(3)";
    }
}

AIOMQ_EXPORT const char *aiomq_outcome_name(int outcome) {
    static constexpr const char *kNames[] = {"PENDING",     "OK",           "ERROR",
                                             "CANCELLED",   "EXPIRED",      "TIMED_OUT",
                                             "WORKER_DIED", "POOL_CORRUPT", "POOL_CLOSED"};
    return outcome >= 0 && outcome <= AIOMQ_POOL_CLOSED ? kNames[outcome] : "UNKNOWN";
}

AIOMQ_EXPORT const char *aiomq_version(void) { return AIOMQ_VERSION; }

AIOMQ_EXPORT void aiomq_pool_options_init(aiomq_pool_options *options, size_t struct_bytes) {
    if (options == nullptr || struct_bytes < sizeof *options) return;
    *options = aiomq::default_options();
}

AIOMQ_EXPORT int aiomq_pool_create(const aiomq_pool_options *options, aiomq_pool **ret_pool) {
    if (options == nullptr || ret_pool == nullptr) return -EINVAL;
    std::string text;
    const int error = aiomq::guarded([&] { return create_pool(*options, ret_pool, text); });
    // A struct of another size has its text buffer who knows where.
    if (options->struct_bytes == sizeof *options)
        put_error_text(options->error_text, options->error_text_bytes, text, error);
    return error;
}

AIOMQ_EXPORT void aiomq_pool_destroy(aiomq_pool **pool) {
    if (pool == nullptr || *pool == nullptr) return;
    if ((*pool)->pool->forked()) {
        // The supervisor thread, its epoll set and the mappings belong to the parent.
        (void)(*pool)->supervisor.release();
        (void)(*pool)->pool.release();
    }
    (*pool)->supervisor.reset();
    delete *pool;
    *pool = nullptr;
}

AIOMQ_EXPORT int aiomq_pool_state(aiomq_pool *pool, char *text, size_t text_bytes) {
    return with_pool(pool, [&](aiomq::Pool &self) {
        std::string why;
        const int state = self.state(why);
        put_text(text, text_bytes, state == AIOMQ_POOL_BROKEN ? why : "");
        return state;
    });
}

AIOMQ_EXPORT int aiomq_pool_fd(aiomq_pool *pool) {
    return with_pool(pool, [](aiomq::Pool &self) { return self.fd(); });
}

AIOMQ_EXPORT int aiomq_pool_in_use(aiomq_pool *pool, const void *payload) {
    return with_pool(pool, [&](aiomq::Pool &self) { return self.in_use(payload); });
}

AIOMQ_EXPORT int aiomq_pool_memory(aiomq_pool *pool, const void **ret_start, uint64_t *ret_bytes) {
    return with_pool(
        pool, [&](aiomq::Pool &self) { return give_memory(self.segment(), ret_start, ret_bytes); });
}

AIOMQ_EXPORT int aiomq_pool_dispatch(aiomq_pool *pool) {
    return with_pool(pool, [](aiomq::Pool &self) { return self.dispatch(); });
}

AIOMQ_EXPORT int aiomq_pool_wait(aiomq_pool *pool, uint64_t timeout_ns) {
    return with_pool(pool, [&](aiomq::Pool &self) { return self.wait(timeout_ns); });
}

AIOMQ_EXPORT int aiomq_pool_function(aiomq_pool *pool, const char *name, uint32_t *ret_function) {
    if (name == nullptr || ret_function == nullptr || name[0] == '\0') return -EINVAL;
    const std::size_t bytes = strnlen(name, aiomq::kMaxNameBytes + 1);
    if (bytes > aiomq::kMaxNameBytes) return -EINVAL;
    return with_pool(pool, [&](aiomq::Pool &self) {
        return self.function({name, bytes}, *ret_function);
    });
}

AIOMQ_EXPORT int aiomq_pool_submit(aiomq_pool *pool, const aiomq_task *task, uint64_t *ret_id) {
    if (task == nullptr) return -EINVAL;
    return with_pool(pool, [&](aiomq::Pool &self) {
        const std::int64_t done = self.submit(task, 1, ret_id);
        return done < 0 ? static_cast<int>(done) : 0;
    });
}

AIOMQ_EXPORT int64_t aiomq_pool_submit_batch(aiomq_pool *pool, const aiomq_task *tasks,
                                             size_t count, uint64_t *ret_ids) {
    if (tasks == nullptr || count == 0) return -EINVAL;
    return with_pool(pool, [&](aiomq::Pool &self) { return self.submit(tasks, count, ret_ids); });
}

AIOMQ_EXPORT int aiomq_pool_alloc(aiomq_pool *pool, uint64_t bytes, void **ret_payload) {
    if (bytes == 0 || ret_payload == nullptr) return -EINVAL;
    return with_pool(pool, [&](aiomq::Pool &self) { return self.allocate(bytes, ret_payload); });
}

AIOMQ_EXPORT int aiomq_pool_free(aiomq_pool *pool, void *payload) {
    if (payload == nullptr) return -EINVAL;
    return with_pool(pool, [&](aiomq::Pool &self) { return self.free_payload(payload); });
}

AIOMQ_EXPORT int64_t aiomq_pool_collect(aiomq_pool *pool, aiomq_completion *ret_completions,
                                        size_t count) {
    if (ret_completions == nullptr || count == 0) return -EINVAL;
    return with_pool(pool, [&](aiomq::Pool &self) { return self.collect(ret_completions, count); });
}

AIOMQ_EXPORT int aiomq_pool_release(aiomq_pool *pool, uint64_t loan) {
    return with_pool(pool, [&](aiomq::Pool &self) { return self.release(loan); });
}

AIOMQ_EXPORT int aiomq_pool_cancel(aiomq_pool *pool, uint64_t task_id) {
    return with_pool(pool, [&](aiomq::Pool &self) { return self.cancel(task_id); });
}

AIOMQ_EXPORT int aiomq_pool_close(aiomq_pool *pool, uint32_t flags) {
    if ((flags & ~static_cast<std::uint32_t>(AIOMQ_CLOSE_DISCARD)) != 0) return -EINVAL;
    return with_pool(pool, [&](aiomq::Pool &self) { return self.close(flags); });
}

AIOMQ_EXPORT int aiomq_pool_queue(aiomq_pool *pool, const char *name, uint32_t *ret_queue) {
    if (name == nullptr || ret_queue == nullptr) return -EINVAL;
    return with_pool(pool, [&](aiomq::Pool &self) { return self.queue(name, *ret_queue); });
}

AIOMQ_EXPORT int aiomq_pool_terminate(aiomq_pool *pool) {
    return with_pool(pool, [](aiomq::Pool &self) {
        const int error = self.close(0);
        if (error != 0) return error;
        {
            const aiomq::Pool::Lock lock(self);
            self.locked_terminate();
        }
        self.wake_supervisor();
        return 0;
    });
}

AIOMQ_EXPORT int aiomq_pool_join(aiomq_pool *pool, uint64_t timeout_ns) {
    return with_pool(pool, [&](aiomq::Pool &self) { return self.join(timeout_ns); });
}

AIOMQ_EXPORT int aiomq_worker_open(aiomq_worker **ret_worker, char *error_text,
                                   size_t error_text_bytes) {
    if (ret_worker == nullptr) return -EINVAL;
    if (worker_opened) return -EALREADY;
    std::string text;
    const int error = aiomq::guarded([&] {
        auto handle = std::make_unique<aiomq_worker>();
        if (const int failure = aiomq::Worker::open(handle->worker, text); failure != 0)
            return failure;
        worker_opened = true;
        *ret_worker = handle.release();
        return 0;
    });
    put_error_text(error_text, error_text_bytes, text, error);
    return error;
}

AIOMQ_EXPORT void aiomq_worker_close(aiomq_worker **worker) {
    if (worker == nullptr || *worker == nullptr) return;
    delete *worker;
    *worker = nullptr;
}

AIOMQ_EXPORT int aiomq_worker_index(aiomq_worker *worker) {
    return with_worker(worker, [](aiomq::Worker &self) { return self.index(); });
}

AIOMQ_EXPORT const char *aiomq_worker_label(aiomq_worker *worker) {
    return worker == nullptr || worker->worker->forked() ? nullptr : worker->worker->label();
}

AIOMQ_EXPORT int aiomq_worker_ready(aiomq_worker *worker) {
    return with_worker(worker, [](aiomq::Worker &self) { return self.ready(); });
}

AIOMQ_EXPORT int aiomq_worker_abort(aiomq_worker *worker, const char *text) {
    if (text == nullptr) return -EINVAL;
    return with_worker(worker, [&](aiomq::Worker &self) { return self.abort(text); });
}

AIOMQ_EXPORT int aiomq_worker_fd(aiomq_worker *worker) {
    return with_worker(worker, [](aiomq::Worker &self) { return self.fd(); });
}

AIOMQ_EXPORT int64_t aiomq_worker_claim(aiomq_worker *worker, aiomq_job *ret_jobs, size_t count) {
    if (ret_jobs == nullptr || count == 0) return -EINVAL;
    return with_worker(worker, [&](aiomq::Worker &self) { return self.claim(ret_jobs, count); });
}

AIOMQ_EXPORT int aiomq_worker_start(aiomq_worker *worker, uint32_t job, uint32_t *ret_item) {
    if (ret_item == nullptr) return -EINVAL;
    return with_worker(worker, [&](aiomq::Worker &self) {
        std::uint32_t item = 0;
        const int error = self.start(job, item);
        if (error == 0) *ret_item = item;
        return error;
    });
}

AIOMQ_EXPORT int aiomq_worker_alloc(aiomq_worker *worker, uint32_t job, uint64_t bytes,
                                    void **ret_data) {
    if (ret_data == nullptr) return -EINVAL;
    return with_worker(worker,
                       [&](aiomq::Worker &self) { return self.allocate(job, bytes, ret_data); });
}

AIOMQ_EXPORT int aiomq_worker_complete(aiomq_worker *worker, uint32_t job, const aiomq_item *item) {
    if (item == nullptr) return -EINVAL;
    return with_worker(worker, [&](aiomq::Worker &self) {
        return self.run_loop != nullptr ? self.run_loop->finish(job, *item)
                                        : self.complete(job, *item);
    });
}

AIOMQ_EXPORT int aiomq_worker_next(aiomq_worker *worker, uint32_t job, const aiomq_item *item,
                                   uint32_t *ret_item) {
    if (item == nullptr || ret_item == nullptr) return -EINVAL;
    return with_worker(worker,
                       [&](aiomq::Worker &self) { return self.next(job, *item, *ret_item); });
}

AIOMQ_EXPORT int aiomq_worker_fail(aiomq_worker *worker, uint32_t job, uint32_t item,
                                   const aiomq_error *error) {
    if (error == nullptr || (error->pickled == nullptr && error->pickled_bytes != 0))
        return -EINVAL;
    return with_worker(worker, [&](aiomq::Worker &self) {
        const auto view = [](const char *text) {
            return text == nullptr ? std::string_view() : std::string_view(text);
        };
        aiomq::ErrorText text;
        text.type = view(error->type);
        text.message = view(error->message);
        text.traceback = view(error->traceback);
        if (error->pickled != nullptr)
            text.pickled = {static_cast<const char *>(error->pickled), error->pickled_bytes};
        return self.run_loop != nullptr ? self.run_loop->finish_with(job, item, text)
                                        : self.fail(job, item, text);
    });
}

AIOMQ_EXPORT int aiomq_worker_flush(aiomq_worker *worker) {
    return with_worker(worker, [](aiomq::Worker &self) { return self.flush(); });
}

AIOMQ_EXPORT int aiomq_worker_cancelled(aiomq_worker *worker, uint32_t *ret_job) {
    if (ret_job == nullptr) return -EINVAL;
    return with_worker(worker, [&](aiomq::Worker &self) { return self.cancelled(*ret_job); });
}

AIOMQ_EXPORT int aiomq_worker_sleep(aiomq_worker *worker, int wants_tasks) {
    return with_worker(worker, [&](aiomq::Worker &self) { return self.sleep(wants_tasks != 0); });
}

AIOMQ_EXPORT int aiomq_worker_wake(aiomq_worker *worker, int fd_readable) {
    return with_worker(worker, [&](aiomq::Worker &self) { return self.wake(fd_readable != 0); });
}

AIOMQ_EXPORT int aiomq_worker_function(aiomq_worker *worker, uint32_t function,
                                       const char **ret_name, size_t *ret_name_bytes) {
    if (ret_name == nullptr || ret_name_bytes == nullptr) return -EINVAL;
    return with_worker(worker, [&](aiomq::Worker &self) {
        return self.function(function, ret_name, ret_name_bytes);
    });
}

AIOMQ_EXPORT int aiomq_worker_concurrency(aiomq_worker *worker) {
    return with_worker(worker, [](aiomq::Worker &self) { return self.concurrency(); });
}

AIOMQ_EXPORT int aiomq_worker_retire(aiomq_worker *worker) {
    return with_worker(worker, [](aiomq::Worker &self) { return self.retire(); });
}

AIOMQ_EXPORT int aiomq_worker_enter(aiomq_worker *worker, uint32_t job, uint32_t item) {
    return with_worker(worker, [&](aiomq::Worker &self) { return self.enter(job, item); });
}

AIOMQ_EXPORT int aiomq_worker_submit(aiomq_worker *worker, uint32_t job, uint32_t item,
                                     const aiomq_task *task, const char *function) {
    if (task == nullptr || function == nullptr || function[0] == '\0') return -EINVAL;
    const std::size_t bytes = strnlen(function, aiomq::kMaxNameBytes + 1);
    if (bytes > aiomq::kMaxNameBytes) return -EINVAL;
    return with_worker(worker, [&](aiomq::Worker &self) {
        return self.run_loop != nullptr ? self.run_loop->submit(job, item, *task, {function, bytes})
                                        : self.submit(job, item, *task, {function, bytes});
    });
}

AIOMQ_EXPORT int64_t aiomq_worker_collect(aiomq_worker *worker, aiomq_completion *ret_completions,
                                          size_t count) {
    if (ret_completions == nullptr || count == 0) return -EINVAL;
    return with_worker(worker,
                       [&](aiomq::Worker &self) { return self.collect(ret_completions, count); });
}

AIOMQ_EXPORT int aiomq_worker_cancel(aiomq_worker *worker, uint64_t user) {
    return with_worker(worker, [&](aiomq::Worker &self) {
        return self.run_loop != nullptr ? self.run_loop->cancel_nested(user)
                                        : self.cancel_nested(user);
    });
}

AIOMQ_EXPORT int aiomq_worker_retain(aiomq_worker *worker, uint32_t job, uint64_t *ret_loan) {
    if (ret_loan == nullptr) return -EINVAL;
    return with_worker(worker, [&](aiomq::Worker &self) { return self.retain(job, *ret_loan); });
}

AIOMQ_EXPORT int aiomq_worker_release(aiomq_worker *worker, uint64_t loan) {
    return with_worker(worker, [&](aiomq::Worker &self) { return self.release(loan); });
}

AIOMQ_EXPORT int aiomq_worker_memory(aiomq_worker *worker, const void **ret_start,
                                     uint64_t *ret_bytes) {
    return with_worker(worker, [&](aiomq::Worker &self) {
        return give_memory(self.segment(), ret_start, ret_bytes);
    });
}

AIOMQ_EXPORT void aiomq_run_options_init(aiomq_run_options *options, size_t struct_bytes) {
    if (options == nullptr || struct_bytes < sizeof *options) return;
    *options = aiomq_run_options{};
    options->struct_bytes = sizeof *options;
    options->concurrency = 1;
}

AIOMQ_EXPORT int aiomq_worker_run(aiomq_worker *worker, const aiomq_run_options *options) {
    if (options == nullptr || options->struct_bytes != sizeof *options || options->flags != 0 ||
        options->handlers == nullptr || options->handler_count == 0 || options->concurrency == 0 ||
        options->reserved != 0)
        return -EINVAL;
    for (std::size_t i = 0; i < options->handler_count; ++i)
        if (options->handlers[i].name == nullptr || options->handlers[i].function == nullptr)
            return -EINVAL;
    return with_worker(
        worker, [&](aiomq::Worker &self) { return aiomq::RunLoop(self, worker, *options).run(); });
}

AIOMQ_EXPORT struct event_base *aiomq_worker_event_base(aiomq_worker *worker) {
    return worker == nullptr || worker->worker->forked() ? nullptr : worker->worker->loop;
}

AIOMQ_EXPORT int aiomq_view_open(int fd, aiomq_view **ret_view) {
    if (fd < 0 || ret_view == nullptr) return -EINVAL;
    return aiomq::guarded([&] {
        auto handle = std::make_unique<aiomq_view>();
        const int error = aiomq::View::open(fd, handle->view);
        if (error == 0) *ret_view = handle.release();
        return error;
    });
}

AIOMQ_EXPORT int aiomq_pool_view(aiomq_pool *pool, aiomq_view **ret_view) {
    if (ret_view == nullptr) return -EINVAL;
    return with_pool(
        pool, [&](aiomq::Pool &self) { return aiomq_view_open(self.segment().fd(), ret_view); });
}

AIOMQ_EXPORT void aiomq_view_close(aiomq_view **view) {
    if (view == nullptr || *view == nullptr) return;
    delete *view;
    *view = nullptr;
}

AIOMQ_EXPORT int aiomq_view_pool(aiomq_view *view, aiomq_pool_stats *ret_stats) {
    if (view == nullptr || ret_stats == nullptr) return -EINVAL;
    return view->view->pool(*ret_stats);
}

AIOMQ_EXPORT int aiomq_view_queue(aiomq_view *view, uint32_t queue, aiomq_queue_stats *ret_stats) {
    if (view == nullptr || ret_stats == nullptr) return -EINVAL;
    return view->view->queue(queue, *ret_stats);
}

AIOMQ_EXPORT int aiomq_view_worker(aiomq_view *view, uint32_t worker,
                                   aiomq_worker_stats *ret_stats) {
    if (view == nullptr || ret_stats == nullptr) return -EINVAL;
    return view->view->worker(worker, *ret_stats);
}

AIOMQ_EXPORT int aiomq_view_task(aiomq_view *view, uint32_t slot, aiomq_task_stats *ret_stats) {
    if (view == nullptr || ret_stats == nullptr) return -EINVAL;
    return view->view->task(slot, *ret_stats);
}

AIOMQ_EXPORT int aiomq_view_event(aiomq_view *view, uint64_t sequence, aiomq_event *ret_event) {
    if (view == nullptr || ret_event == nullptr) return -EINVAL;
    return view->view->event(sequence, *ret_event);
}
