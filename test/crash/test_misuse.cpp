// Calls that nobody should make: NULLs for every function, handles after fork, what a worker must not
// do. Each is answered; none crashes, none changes anything.
#include <sys/wait.h>

#include <optional>

#include "../support/pool_fixture.hpp"

using aiomq_test::TestPool;

namespace {

/// Calls that a worker must not make. Gives back what was not answered as the manual says, or "".
class Misuse {
  public:
    std::string run(const aiomq_call *call) {
        worker_ = call->worker;
        job_ = call->job->job;
        life();
        items();
        outcomes();
        functions();
        static std::optional<std::uint32_t> last_job;
        aiomq_item item{};
        item.status = AIOMQ_OK;
        if (last_job.has_value())
            expect("ended job", aiomq_worker_complete(worker_, *last_job, &item), -EINVAL);
        last_job = job_;
        return wrong_;
    }

  private:
    void expect(const char *what, std::int64_t got, std::int64_t wanted) {
        if (got == wanted) return;
        wrong_ += std::string(what) + " gave " + std::to_string(got) + ", not " +
                  std::to_string(wanted) + "; ";
    }
    void life() {
        aiomq_worker *second = nullptr;
        expect("open", aiomq_worker_open(&second, nullptr, 0), -EALREADY);
        expect("ready", aiomq_worker_ready(worker_), -EALREADY);
        expect("abort", aiomq_worker_abort(worker_, "late"), -EALREADY);
        expect("abort NULL", aiomq_worker_abort(worker_, nullptr), -EINVAL);
    }
    void items() {
        const std::uint32_t no_job = job_ + (1U << 20);
        std::uint32_t number = 0;
        void *memory = nullptr;
        expect("start", aiomq_worker_start(worker_, no_job, &number), -EINVAL);
        expect("start NULL", aiomq_worker_start(worker_, job_, nullptr), -EINVAL);
        expect("start again", aiomq_worker_start(worker_, job_, &number), -ENODATA);
        expect("alloc", aiomq_worker_alloc(worker_, no_job, 8, &memory), -EINVAL);
        expect("alloc NULL", aiomq_worker_alloc(worker_, job_, 8, nullptr), -EINVAL);
        expect("alloc 0", aiomq_worker_alloc(worker_, job_, 0, &memory), -EINVAL);
        expect("alloc huge", aiomq_worker_alloc(worker_, job_, 1ULL << 60, &memory), -EMSGSIZE);
        expect("alloc all", aiomq_worker_alloc(worker_, job_, UINT64_MAX, &memory), -EMSGSIZE);
    }
    void outcomes() {
        aiomq_item item{};
        item.status = AIOMQ_OK;
        expect("complete NULL", aiomq_worker_complete(worker_, job_, nullptr), -EINVAL);
        expect("complete", aiomq_worker_complete(worker_, job_ + (1U << 20), &item), -EINVAL);
        for (const std::uint16_t status : {AIOMQ_PENDING, AIOMQ_EXPIRED, AIOMQ_WORKER_DIED,
                                           AIOMQ_POOL_CORRUPT, AIOMQ_POOL_CLOSED}) {
            item.status = status;
            expect("status", aiomq_worker_complete(worker_, job_, &item), -EINVAL);
        }
        item.status = UINT16_MAX;
        expect("status", aiomq_worker_complete(worker_, job_, &item), -EINVAL);
        item.status = AIOMQ_OK;
        item.kind = AIOMQ_KIND_ERROR + 1;
        expect("kind", aiomq_worker_complete(worker_, job_, &item), -EINVAL);
        item.kind = AIOMQ_KIND_BYTES;
        item.bytes = 8;
        expect("no data", aiomq_worker_complete(worker_, job_, &item), -EINVAL);
        void *memory = nullptr;
        expect("alloc 64", aiomq_worker_alloc(worker_, job_, 64, &memory), 0);
        item.value.data = memory;
        item.bytes = 4096;
        expect("too long", aiomq_worker_complete(worker_, job_, &item), -EINVAL);
        item.bytes = 8;
        item.index = 1;
        expect("index", aiomq_worker_complete(worker_, job_, &item), -EINVAL);
        std::uint32_t next = 0;
        expect("next index", aiomq_worker_next(worker_, job_, &item, &next), -EINVAL);
        expect("nothing started", next, UINT32_MAX);
        expect("next", aiomq_worker_next(worker_, job_ + (1U << 20), &item, &next), -EINVAL);
        expect("next NULL", aiomq_worker_next(worker_, job_, nullptr, &next), -EINVAL);
        expect("next NULL", aiomq_worker_next(worker_, job_, &item, nullptr), -EINVAL);
        aiomq_error error{};
        expect("fail NULL", aiomq_worker_fail(worker_, job_, 0, nullptr), -EINVAL);
        expect("fail index", aiomq_worker_fail(worker_, job_, 7, &error), -EINVAL);
        error.pickled_bytes = 1;
        expect("fail pickle", aiomq_worker_fail(worker_, job_, 0, &error), -EINVAL);
    }
    void functions() {
        aiomq_job job;
        std::uint32_t number = 0;
        const char *name = nullptr;
        std::size_t bytes = 0;
        expect("claim NULL", aiomq_worker_claim(worker_, nullptr, 1), -EINVAL);
        expect("claim 0", aiomq_worker_claim(worker_, &job, 0), -EINVAL);
        expect("cancelled NULL", aiomq_worker_cancelled(worker_, nullptr), -EINVAL);
        expect("cancelled", aiomq_worker_cancelled(worker_, &number), 0);
        expect("function", aiomq_worker_function(worker_, 65535, &name, &bytes), -ENOENT);
        expect("function", aiomq_worker_function(worker_, UINT32_MAX, &name, &bytes), -ENOENT);
        expect("function NULL", aiomq_worker_function(worker_, 0, nullptr, &bytes), -EINVAL);
        expect("function NULL", aiomq_worker_function(worker_, 0, &name, nullptr), -EINVAL);
    }

    aiomq_worker *worker_ = nullptr;
    std::uint32_t job_ = 0;
    std::string wrong_;
};

int misuse(const aiomq_call *call, aiomq_item *ret) {
    return aiomq_test::return_text(Misuse().run(call), ret);
}

/// What the worker's functions say in a fork of it: 0 when all say -ECHILD.
int fork_in_worker(const aiomq_call *call, aiomq_item *ret) {
    const pid_t child = fork();
    if (child == 0) {
        aiomq_worker *worker = call->worker;
        aiomq_job job;
        std::uint32_t number = 0;
        void *memory = nullptr;
        aiomq_item item{};
        aiomq_error error{};
        const char *name = nullptr;
        std::size_t bytes = 0;
        const std::int64_t answers[] = {
            aiomq_worker_index(worker),
            aiomq_worker_fd(worker),
            aiomq_worker_ready(worker),
            aiomq_worker_abort(worker, "text"),
            aiomq_worker_claim(worker, &job, 1),
            aiomq_worker_start(worker, 0, &number),
            aiomq_worker_alloc(worker, 0, 8, &memory),
            aiomq_worker_complete(worker, 0, &item),
            aiomq_worker_next(worker, 0, &item, &number),
            aiomq_worker_fail(worker, 0, 0, &error),
            aiomq_worker_flush(worker),
            aiomq_worker_cancelled(worker, &number),
            aiomq_worker_sleep(worker, 1),
            aiomq_worker_wake(worker, 0),
            aiomq_worker_function(worker, 0, &name, &bytes),
        };
        int wrong = 0;
        for (const std::int64_t answer : answers) wrong += answer != -ECHILD;
        wrong += aiomq_worker_label(worker) != nullptr;
        wrong += aiomq_worker_event_base(worker) != nullptr;
        aiomq_worker_close(&worker);
        wrong += worker != nullptr;
        _exit(wrong);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return aiomq_test::return_integer(status, ret);
}

const aiomq_test::MoreBodies kMore{{"misuse", misuse, nullptr},
                                   {"fork_in_worker", fork_in_worker, nullptr}};

}  // namespace

TEST(Null, IsRefusedByEveryFunctionThatNeedsAHandle) {
    const int size = 16;
    char bytes[size];
    std::uint32_t number = 0;
    std::uint64_t id = 0;
    void *memory = nullptr;
    const char *name = nullptr;
    std::size_t length = 0;
    aiomq_pool *no_pool = nullptr;
    aiomq_worker *no_worker = nullptr;
    aiomq_view *no_view = nullptr;
    aiomq_task task{};
    aiomq_completion completion;
    aiomq_job job;
    aiomq_item item{};
    aiomq_error error{};
    aiomq_pool_stats pool_stats{};
    aiomq_queue_stats queue_stats{};
    aiomq_worker_stats worker_stats{};
    aiomq_event event;
    aiomq_pool_options options;
    aiomq_pool_options_init(&options, sizeof options);
    aiomq_run_options run_options;
    aiomq_run_options_init(&run_options, sizeof run_options);
    const std::int64_t answers[] = {
        aiomq_error_decode(nullptr, bytes, size, &error),
        aiomq_error_decode(&item, bytes, size, &error),
        aiomq_pool_create(nullptr, &no_pool),
        aiomq_pool_create(&options, nullptr),
        aiomq_pool_state(nullptr, bytes, size),
        aiomq_pool_fd(nullptr),
        aiomq_pool_dispatch(nullptr),
        aiomq_pool_wait(nullptr, 0),
        aiomq_pool_function(nullptr, "name", &number),
        aiomq_pool_submit(nullptr, &task, &id),
        aiomq_pool_submit_batch(nullptr, &task, 1, &id),
        aiomq_pool_alloc(nullptr, 8, &memory),
        aiomq_pool_free(nullptr, bytes),
        aiomq_pool_collect(nullptr, &completion, 1),
        aiomq_pool_release(nullptr, 0),
        aiomq_pool_cancel(nullptr, 1),
        aiomq_pool_close(nullptr, 0),
        aiomq_pool_terminate(nullptr),
        aiomq_pool_join(nullptr, 0),
        aiomq_pool_view(nullptr, &no_view),
        aiomq_worker_open(nullptr, nullptr, 0),
        aiomq_worker_index(nullptr),
        aiomq_worker_ready(nullptr),
        aiomq_worker_abort(nullptr, "text"),
        aiomq_worker_fd(nullptr),
        aiomq_worker_claim(nullptr, &job, 1),
        aiomq_worker_start(nullptr, 0, &number),
        aiomq_worker_alloc(nullptr, 0, 8, &memory),
        aiomq_worker_complete(nullptr, 0, &item),
        aiomq_worker_next(nullptr, 0, &item, &number),
        aiomq_worker_fail(nullptr, 0, 0, &error),
        aiomq_worker_flush(nullptr),
        aiomq_worker_cancelled(nullptr, &number),
        aiomq_worker_sleep(nullptr, 1),
        aiomq_worker_wake(nullptr, 0),
        aiomq_worker_function(nullptr, 0, &name, &length),
        aiomq_worker_run(nullptr, &run_options),
        aiomq_worker_run(nullptr, nullptr),
        aiomq_view_open(-1, &no_view),
        aiomq_view_open(0, nullptr),
        aiomq_view_pool(nullptr, &pool_stats),
        aiomq_view_queue(nullptr, 0, &queue_stats),
        aiomq_view_worker(nullptr, 0, &worker_stats),
        aiomq_view_event(nullptr, 1, &event),
    };
    for (std::size_t i = 0; i < sizeof answers / sizeof *answers; ++i)
        EXPECT_EQ(answers[i], -EINVAL) << "answer " << i;
    EXPECT_EQ(aiomq_worker_label(nullptr), nullptr);
    EXPECT_EQ(aiomq_worker_event_base(nullptr), nullptr);
    aiomq_pool_destroy(nullptr);
    aiomq_pool_destroy(&no_pool);
    aiomq_worker_close(nullptr);
    aiomq_worker_close(&no_worker);
    aiomq_view_close(nullptr);
    aiomq_view_close(&no_view);
}

TEST(Null, IsRefusedWhereAResultGoes) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    std::uint32_t number = 0;
    aiomq_completion completion;
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = 1;
    ASSERT_EQ(aiomq_pool_function(pool.get(), "nothing", &task.function), 0);
    EXPECT_EQ(aiomq_pool_function(pool.get(), nullptr, &number), -EINVAL);
    EXPECT_EQ(aiomq_pool_function(pool.get(), "", &number), -EINVAL);
    EXPECT_EQ(aiomq_pool_function(pool.get(), std::string(4001, 'n').c_str(), &number), -EINVAL);
    EXPECT_EQ(aiomq_pool_function(pool.get(), std::string(4000, 'n').c_str(), &number), 0);
    EXPECT_EQ(aiomq_pool_function(pool.get(), "name", nullptr), -EINVAL);
    EXPECT_EQ(aiomq_pool_submit(pool.get(), nullptr, nullptr), -EINVAL);
    EXPECT_EQ(aiomq_pool_submit_batch(pool.get(), nullptr, 1, nullptr), -EINVAL);
    EXPECT_EQ(aiomq_pool_submit_batch(pool.get(), &task, 0, nullptr), -EINVAL);
    EXPECT_EQ(aiomq_pool_alloc(pool.get(), 8, nullptr), -EINVAL);
    EXPECT_EQ(aiomq_pool_free(pool.get(), nullptr), -EINVAL);
    EXPECT_EQ(aiomq_pool_collect(pool.get(), nullptr, 1), -EINVAL);
    EXPECT_EQ(aiomq_pool_collect(pool.get(), &completion, 0), -EINVAL);
    EXPECT_EQ(aiomq_pool_view(pool.get(), nullptr), -EINVAL);
    EXPECT_EQ(aiomq_pool_release(pool.get(), 0), 0);
    aiomq_view *view = nullptr;
    ASSERT_EQ(aiomq_pool_view(pool.get(), &view), 0);
    EXPECT_EQ(aiomq_view_pool(view, nullptr), -EINVAL);
    EXPECT_EQ(aiomq_view_queue(view, 0, nullptr), -EINVAL);
    EXPECT_EQ(aiomq_view_worker(view, 0, nullptr), -EINVAL);
    EXPECT_EQ(aiomq_view_event(view, 1, nullptr), -EINVAL);
    aiomq_pool_stats pool_stats{};
    aiomq_queue_stats queue_stats{};
    aiomq_worker_stats worker_stats{};
    aiomq_event event;
    EXPECT_EQ(aiomq_view_pool(view, &pool_stats), -EINVAL) << "struct_bytes is not set";
    EXPECT_EQ(aiomq_view_queue(view, 0, &queue_stats), -EINVAL);
    EXPECT_EQ(aiomq_view_worker(view, 0, &worker_stats), -EINVAL);
    queue_stats.struct_bytes = sizeof queue_stats;
    worker_stats.struct_bytes = sizeof worker_stats;
    EXPECT_EQ(aiomq_view_queue(view, 1, &queue_stats), -ENOENT);
    EXPECT_EQ(aiomq_view_worker(view, 1, &worker_stats), -ENOENT);
    EXPECT_EQ(aiomq_view_event(view, 0, &event), -ENOENT);
    EXPECT_EQ(aiomq_view_event(view, UINT64_MAX, &event), -ENOENT);
    aiomq_view_close(&view);
    EXPECT_EQ(aiomq_pool_submit(pool.get(), &task, nullptr), 0) << "the number is optional";
}

TEST(Worker, IsToldWhatItMustNotDo) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto first = pool.submit("misuse");
    const auto second = pool.submit("misuse");  // knows the handle of a job that has ended
    pool.collect_all();
    for (const auto id : {first, second}) EXPECT_EQ(pool.outcome(id).kind, AIOMQ_KIND_TEXT);
    EXPECT_EQ(pool.outcome(first).bytes, "");
    EXPECT_EQ(pool.outcome(second).bytes, "");
    EXPECT_EQ(pool.worker_stats(0).restarts, 0U);
}

TEST(Worker, IsNotOpenedInAProcessThatNoPoolStarted) {
    aiomq_worker *worker = nullptr;
    char text[512] = "";
    EXPECT_EQ(aiomq_worker_open(&worker, text, sizeof text), -ENOENT);
    EXPECT_NE(std::string(text).find("AIOMQ_WORKER"), std::string::npos) << text;
    EXPECT_EQ(worker, nullptr);
    EXPECT_EQ(aiomq_test::in_child([] {
                  // Nothing of ours where a worker's descriptors would be.
                  for (int fd = 3; fd < AIOMQ_EXTRA_FD_BASE; ++fd) close(fd);
                  std::string accepted;
                  for (const char *value : {"", "x", "0", "0.", ".1", "0.1x", "0.1 "}) {
                      setenv("AIOMQ_WORKER", value, 1);
                      aiomq_worker *none = nullptr;
                      char reason[512] = "";
                      if (aiomq_worker_open(&none, reason, sizeof reason) != -EINVAL ||
                          strstr(reason, "AIOMQ_WORKER=") == nullptr)
                          accepted += std::string(value) + ";";
                  }
                  return accepted;
              }),
              "");
}

TEST(Worker, NamesTheDescriptorThatAWrapperClosed) {
    const std::string text = aiomq_test::in_child([] {
        for (int fd = 3; fd < AIOMQ_EXTRA_FD_BASE; ++fd) close(fd);
        setenv("AIOMQ_WORKER", "0.1", 1);
        aiomq_worker *worker = nullptr;
        char reason[512] = "";
        const int error = aiomq_worker_open(&worker, reason, sizeof reason);
        return error == -EINVAL ? std::string(reason) : std::to_string(error);
    });
    EXPECT_NE(text.find("descriptor 3"), std::string::npos) << text;
    EXPECT_NE(text.find("aiomq_worker_open()"), std::string::npos) << text;
}

TEST(Fork, OfTheDispatcherMayNotUseThePool) {
    TestPool pool({.workers = 2});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto before = pool.submit("make_bytes", "1000");
    pool.collect_all();
    const pid_t pids[2] = {pool.worker_stats(0).pid, pool.worker_stats(1).pid};
    const std::string wrong = aiomq_test::in_child([&] {
        aiomq_pool *handle = pool.get();
        aiomq_task task{};
        task.struct_bytes = sizeof task;
        task.items = 1;
        aiomq_completion completion;
        aiomq_view *view = nullptr;
        std::uint32_t number = 0;
        void *memory = nullptr;
        char text[64];
        const std::int64_t answers[] = {
            aiomq_pool_state(handle, text, sizeof text),
            aiomq_pool_fd(handle),
            aiomq_pool_dispatch(handle),
            aiomq_pool_wait(handle, UINT64_MAX),
            aiomq_pool_function(handle, "nothing", &number),
            aiomq_pool_submit(handle, &task, nullptr),
            aiomq_pool_submit_batch(handle, &task, 1, nullptr),
            aiomq_pool_alloc(handle, 64, &memory),
            aiomq_pool_free(handle, text),
            aiomq_pool_collect(handle, &completion, 1),
            aiomq_pool_release(handle, 1),
            aiomq_pool_cancel(handle, before),
            aiomq_pool_close(handle, 0),
            aiomq_pool_terminate(handle),
            aiomq_pool_join(handle, UINT64_MAX),
            aiomq_pool_view(handle, &view),
        };
        std::string others;
        for (std::size_t i = 0; i < sizeof answers / sizeof *answers; ++i)
            if (answers[i] != -ECHILD)
                others += std::to_string(i) + ": " + std::to_string(answers[i]) + "; ";
        aiomq_pool_destroy(&handle);
        if (handle != nullptr) others += "destroy";
        return others;
    });
    EXPECT_EQ(wrong, "");
    // The child's end is nothing to the pool.
    for (int i = 0; i < 100; ++i) pool.submit("echo", "still here");
    pool.collect_all();
    for (const auto &[id, outcome] : pool.outcomes()) EXPECT_EQ(outcome.status, AIOMQ_OK);
    EXPECT_EQ(pool.worker_stats(0).pid, pids[0]);
    EXPECT_EQ(pool.worker_stats(1).pid, pids[1]);
}

TEST(Fork, OfTheDispatcherMayMakeAPoolOfItsOwn) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    EXPECT_EQ(aiomq_test::in_child([&] {
                  TestPool own;
                  if (own.created() != 0) return own.error_text();
                  const auto id = own.submit("echo", "mine");
                  own.collect_all();
                  return own.outcome(id).bytes;
              }),
              "mine");
    const auto id = pool.submit("echo", "ours");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).bytes, "ours");
}

TEST(Fork, OfAWorkerMayNotUseItsHandle) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto id = pool.submit("fork_in_worker");
    const auto after = pool.submit("echo", "next");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).integer, 0);
    EXPECT_EQ(pool.outcome(after).bytes, "next");
    EXPECT_EQ(pool.worker_stats(0).restarts, 0U);
}
