// Worker: the process that runs the functions of a pool.
//
//     int main() {
//         aiomq::run_if_worker(add_task, fetch_task);   // first thing: in a worker it does not return
//         aiomq::Pool pool;
//
// Functions run on the worker's loop, one after the other; a Task may wait there, while others run.
#pragma once

#include <aiomq/cpp/core.hpp>
#include <aiomq/cpp/future.hpp>
#include <aiomq/cpp/operations.hpp>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <typeindex>

namespace aiomq {

/// What is known of the item that runs.
struct TaskInfo {
    std::uint64_t task_id;
    std::uint32_t item;
    std::uint32_t attempt;  ///< 1 for the first run
    std::string_view function;
    unsigned worker;
};

struct WorkerOptions {
    unsigned concurrency = 64;  ///< items that run at once, if their group does not say it
    std::function<void()>
        start;  ///< before the first task; what it throws keeps the worker from starting
    std::function<void()> stop;  ///< after the last one
};

namespace detail {

/// An item whose Task waits.
class Running final : public PromiseBase::Root, public Activity {
  public:
    void enter() override;
    /// Runs @task until it waits or ends.
    template <class T>
    void adopt(Task<T> task) {
        take_ = [](const Running &self, Results &results, aiomq_item &item) {
            auto &promise =
                std::coroutine_handle<Promise<T>>::from_address(self.frame_.address()).promise();
            if constexpr (std::is_void_v<T>)
                promise.take();
            else
                results.put<T>(self.job, promise.get(), item);
        };
        const auto frame = task.release();
        frame_ = frame;
        frame.promise().belong_to(&scope);
        frame.promise().root(this);
        frame.resume();
    }
    /// The result of the ended task, or what it has thrown.
    void take(Results &results, aiomq_item &item) { take_(*this, results, item); }
    void destroy() {
        if (frame_) std::exchange(frame_, {}).destroy();
    }

    Runtime *runtime = nullptr;
    const Operations *operations = nullptr;
    TaskInfo info{};
    std::uint32_t job = 0;
    CancelScope scope;
    bool in_use = false;
    bool inside = false;  ///< of the call that starts it
    bool ended = false;
    bool timed_out = false;

  private:
    std::coroutine_handle<> frame_;
    void (*take_)(const Running &, Results &, aiomq_item &) = nullptr;
};

/// A chunk whose results are folded: gives nanoseconds, and the partial result.
struct Folded {
    std::int64_t nanoseconds;
    Box box;
    void (*write)(Writer &, const void *);
};

/// Receives the result of a nested call.
class Answered : public Waiting {
  public:
    virtual void answer(const aiomq_completion &completion) = 0;
};

/// Runs a table of functions in this process, which is a worker.
class Runtime {
  public:
    Runtime(std::vector<Operations> table, WorkerOptions options)
        : table_(std::move(table)), options_(std::move(options)) {
        for (const Operations &entry : table_)
            for (const Operations *other = table_.data(); other != &entry; ++other)
                if (other->name == entry.name)
                    throw Error(
                        AIOMQ_PENDING, "aiomq.DuplicateName",
                        "two functions of one worker are called " + std::string(entry.name));
        for (Operations &entry : table_) {
            entry.runtime = this;
            handlers_.push_back({entry.name.data(), &Runtime::on_call, &entry});
        }
    }
    Runtime(const Runtime &) = delete;
    Runtime &operator=(const Runtime &) = delete;
    ~Runtime() {
        for (Running &running : running_) running.destroy();
        while (!states_.empty()) states_.pop_back();
    }

    /// The one of this thread's call that runs, or null.
    static Runtime *&current() {
        static thread_local Runtime *runtime = nullptr;
        return runtime;
    }

    const std::vector<aiomq_handler> &handlers() const { return handlers_; }
    const WorkerOptions &options() const { return options_; }
    void open(aiomq_worker *worker) {
        worker_ = results_.worker = worker;
        index_ = static_cast<unsigned>(aiomq_worker_index(worker));
        const Inside inside(*this);
        if (options_.start) options_.start();
    }
    void close() {
        const Inside inside(*this);
        if (options_.stop) options_.stop();
        while (!states_.empty()) states_.pop_back();
    }
    aiomq_worker *worker() const { return worker_; }
    unsigned index() const { return index_; }
    const TaskInfo *info() const { return info_; }

    template <class T>
    T &state() {
        for (auto &[type, object] : states_)
            if (type == std::type_index(typeid(T))) return *static_cast<T *>(object.get());
        states_.emplace_back(std::type_index(typeid(T)), std::make_shared<T>());
        return *static_cast<T *>(states_.back().second.get());
    }

    /// For aiomq_run_options: their `user` is the runtime.
    static void on_cancel(void *user, std::uint32_t job, std::uint32_t item) {
        auto &self = *static_cast<Runtime *>(user);
        const Inside inside(self);
        for (Running &running : self.running_) {
            if (!running.in_use || running.job != job) continue;
            if (item != UINT32_MAX && running.info.item != item) continue;
            if (item != UINT32_MAX) running.timed_out = true;
            running.scope.cancel();
        }
    }
    static int on_answer(void *user, const aiomq_completion *completion) {
        auto &self = *static_cast<Runtime *>(user);
        const Inside inside(self);
        if (!self.is_ours(completion->user)) return 0;
        Answered *answered = self.take_nested(completion->user);  // null: nobody waits any more
        if (answered != nullptr) answered->answer(*completion);
        aiomq_worker_release(self.worker_, completion->loan);
        return 1;
    }
    /// A function that is made of others: "F:reduce:G".
    static int on_resolve(void *user, const char *name, std::size_t bytes,
                          aiomq_handler *ret_handler) {
        auto &self = *static_cast<Runtime *>(user);
        const std::string_view whole(name, bytes);
        const std::size_t at = whole.find(kReduce);
        if (at == std::string_view::npos) return -ENOENT;
        const Operations *function = self.find(whole.substr(0, at));
        const Operations *reduce = self.find(whole.substr(at + kReduce.size()));
        if (function == nullptr || reduce == nullptr) return -ENOENT;
        auto fold = std::make_unique<Fold>();
        fold->name = whole;
        fold->operations.name = fold->name;
        fold->operations.runtime = &self;
        fold->operations.start = &Runtime::start_fold;
        fold->operations.function = function;
        fold->operations.reduce = reduce;
        *ret_handler = {fold->name.c_str(), &Runtime::on_call, &fold->operations};
        self.folds_.push_back(std::move(fold));
        return 0;
    }

    std::uint64_t add_nested(Answered &answered) {
        std::size_t place = 0;
        while (place < nested_.size() && nested_[place].answered != nullptr) ++place;
        if (place == nested_.size()) nested_.emplace_back();
        nested_[place].answered = &answered;
        ++nested_[place].generation;
        return tag() << 32 | std::uint64_t{nested_[place].generation} << 16 | place;
    }
    Answered *take_nested(std::uint64_t id) {
        const std::size_t place = id & 0xffff;
        if (!is_ours(id) || place >= nested_.size()) return nullptr;
        Nested &nested = nested_[place];
        if (nested.generation != static_cast<std::uint16_t>(id >> 16)) return nullptr;
        return std::exchange(nested.answered, nullptr);
    }

    template <class Write>
    void submit_nested(const Running &running, Answered &answered, const std::string &function,
                       const Write &write, std::uint64_t &ret_id) {
        Writer &writer = results_.writer();
        writer.reset();
        write(writer);
        aiomq_task task{};
        detail::check(aiomq_value_task(writer.handle(), &task), "the arguments of a nested call");
        task.struct_bytes = sizeof task;
        task.user = add_nested(answered);
        const int error =
            aiomq_worker_submit(worker_, running.job, running.info.item, &task, function.c_str());
        if (error != 0) {
            take_nested(task.user);
            throw Error::of_call(error, "a nested call of " + function);
        }
        ret_id = task.user;
    }

  private:
    struct Nested {
        Answered *answered = nullptr;
        std::uint16_t generation = 0;
    };
    struct Fold {
        std::string name;
        Operations operations;
    };
    /// This thread runs the runtime's code.
    class Inside {
      public:
        explicit Inside(Runtime &self) : before_(std::exchange(current(), &self)) {}
        ~Inside() { current() = before_; }
        Inside(const Inside &) = delete;
        Inside &operator=(const Inside &) = delete;

      private:
        Runtime *before_;
    };
    static constexpr std::string_view kReduce = ":reduce:";

    std::uint64_t tag() const { return (reinterpret_cast<std::uintptr_t>(this) >> 4) & 0xffffffff; }
    bool is_ours(std::uint64_t id) const { return id >> 32 == tag(); }
    const Operations *find(std::string_view name) const {
        for (const Operations &entry : table_)
            if (entry.name == name) return &entry;
        return nullptr;
    }

    static int on_call(const aiomq_call *call, aiomq_item *ret_item) {
        const auto &operations = *static_cast<const Operations *>(call->user);
        Runtime &self = *operations.runtime;
        const Inside inside(self);
        try {
            return self.start(operations, *call, *ret_item);
        } catch (...) {
            return self.fail(operations, call->job->job, call->item, false, *ret_item);
        }
    }
    int start(const Operations &operations, const aiomq_call &call, aiomq_item &ret_item) {
        const TaskInfo info{call.job->task_id, call.item, call.job->attempt, operations.name,
                            index_};
        const auto *before = std::exchange(info_, &info);
        struct Restore {
            ~Restore() { place = before; }
            const TaskInfo *&place;
            const TaskInfo *before;
        } const restore{info_, before};
        if (operations.call != nullptr) {
            operations.call(*call.job, call.item, results_, ret_item);
            return 0;
        }
        Running &running = spare();
        running.in_use = running.inside = true;
        running.ended = running.timed_out = false;
        running.operations = &operations;
        running.info = info;
        running.job = call.job->job;
        try {
            operations.start(operations, *call.job, running);
        } catch (...) {
            give_back(running);
            throw;
        }
        running.inside = false;
        if (!running.ended) return 1;
        return finish(running, ret_item);
    }
    /// The task is over: its result, or what it has thrown, becomes @ret_item. What to return from the call.
    int finish(Running &running, aiomq_item &ret_item) {
        const std::uint32_t job = running.job;
        const std::uint32_t item = running.info.item;
        const Operations &operations = *running.operations;
        int outcome = 0;
        try {
            running.take(results_, ret_item);
        } catch (const Cancelled &) {
            if (running.scope.cancelled()) {
                ret_item = aiomq_item{};
                ret_item.status = running.timed_out ? AIOMQ_TIMED_OUT : AIOMQ_CANCELLED;
            } else {
                outcome = fail(operations, job, item, false, ret_item);
            }
        } catch (...) {
            outcome = fail(operations, job, item, running.timed_out, ret_item);
        }
        give_back(running);
        return outcome;
    }
    /// Called where a task that has waited ends.
    static std::coroutine_handle<> on_over(PromiseBase::Root &root) {
        auto &running = static_cast<Running &>(root);
        running.ended = true;
        if (running.inside) return std::noop_coroutine();
        Runtime &self = *running.runtime;
        const Inside inside(self);
        const std::uint32_t job = running.job;
        aiomq_item item{};
        item.index = running.info.item;
        item.status = AIOMQ_OK;
        const std::uint32_t index = item.index;
        if (self.finish(running, item) == 0) {
            item.index = index;
            aiomq_worker_complete(self.worker_, job, &item);
        }
        return std::noop_coroutine();
    }
    /// Completes the item with the exception that is being handled. 1: it is completed.
    int fail(const Operations &operations, std::uint32_t job, std::uint32_t item, bool timed_out,
             aiomq_item &ret_item) {
        if (timed_out) {  // whatever it made of that
            ret_item = aiomq_item{};
            ret_item.status = AIOMQ_TIMED_OUT;
            return 0;
        }
        std::string type;
        std::string message;
        std::string traceback;
        describe_exception(operations.name, type, message, traceback);
        aiomq_error error{};
        error.type = type.c_str();
        error.message = message.c_str();
        error.traceback = traceback.c_str();
        aiomq_worker_fail(worker_, job, item, &error);
        return 1;
    }
    Running &spare() {
        if (!spare_.empty()) {
            Running *found = spare_.back();
            spare_.pop_back();
            return *found;
        }
        Running &made = running_.emplace_back();
        made.runtime = this;
        made.over = &Runtime::on_over;
        made.scope.belong_to(&made);
        return made;
    }
    void give_back(Running &running) {
        running.destroy();
        running.scope.reset();
        running.in_use = false;
        spare_.push_back(&running);
    }

    static void start_fold(const Operations &fold, const aiomq_job &job, Running &running) {
        aiomq_value positional{};
        aiomq_value keywords{};
        const auto bad = [&](const std::string &why) {
            return Error(AIOMQ_ERROR, "aiomq.BadArguments", std::string(fold.name) + why);
        };
        if (aiomq_value_arguments(&job, running.info.item, &positional, &keywords) != 0 ||
            positional.count != 1)
            throw bad(" takes one argument, a list");
        const Value list = Value(positional)[0];
        const Operations &function = *fold.function;
        const Operations &reduce = *fold.reduce;
        if (!list.is_sequence() || list.size() == 0) throw bad(" takes a list that is not empty");
        if (function.evaluate == nullptr && function.evaluate_task == nullptr)
            throw bad(": " + std::string(function.name) +
                      " does not take one argument and give a result");
        if (reduce.combine == nullptr && reduce.combine_task == nullptr)
            throw bad(": " + std::string(reduce.name) +
                      " does not make one value of two of its type");
        if (*function.result != *reduce.result)
            throw bad(": " + std::string(function.name) + " gives another type than " +
                      std::string(reduce.name) + " folds");
        running.adopt(fold_list(function, reduce, list));
    }
    static Task<Folded> fold_list(const Operations &function, const Operations &reduce,
                                  Value list) {
        const auto began = std::chrono::steady_clock::now();
        const Box folded = reduce.make();
        const Box next = reduce.make();
        for (std::uint32_t i = 0; i < list.size(); ++i) {
            void *box = i == 0 ? folded.get() : next.get();
            if (function.evaluate != nullptr)
                function.evaluate(list[i], box);
            else
                co_await function.evaluate_task(list[i], box);
            if (i == 0) continue;
            if (reduce.combine != nullptr)
                reduce.combine(folded.get(), next.get());
            else
                co_await reduce.combine_task(folded.get(), next.get());
        }
        const auto took = std::chrono::steady_clock::now() - began;
        co_return Folded{std::chrono::nanoseconds(took).count(), folded, reduce.write};
    }

    friend class Running;

    std::vector<Operations> table_;
    WorkerOptions options_;
    std::vector<aiomq_handler> handlers_;
    aiomq_worker *worker_ = nullptr;
    unsigned index_ = 0;
    Results results_;
    std::deque<Running> running_;
    std::vector<Running *> spare_;
    std::vector<Nested> nested_;
    std::vector<std::unique_ptr<Fold>> folds_;
    std::vector<std::pair<std::type_index, std::shared_ptr<void>>> states_;
    const TaskInfo *info_ = nullptr;
};

inline void Running::enter() {
    Runtime::current() = runtime;
    runtime->info_ = &info;
    aiomq_worker_enter(runtime->worker(), job, info.item);
}

/// A task of this worker's own pool that a Task waits for.
template <class R, class Write>
class NestedCall final : public Answered {
  public:
    NestedCall(std::string function, Write write)
        : function_(std::move(function)), write_(std::move(write)) {}
    ~NestedCall() override {
        if (id_ != 0) runtime_->take_nested(id_);
    }

    bool await_ready() const { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        Running *running = nullptr;
        if constexpr (std::is_base_of_v<PromiseBase, Promise>)
            if (CancelScope *scope = handle.promise().scope(); scope != nullptr)
                running = static_cast<Running *>(scope->activity());
        if (running == nullptr)
            throw Error::of_call(-EPERM, "a nested call of " + function_,
                                 "it is for the tasks of a worker; elsewhere use Pool::submit()");
        if (this->enter(handle)) return false;
        runtime_ = running->runtime;
        runtime_->submit_nested(*running, *this, function_, write_, id_);
        return true;
    }
    R await_resume() {
        this->leave();
        if (error_) std::rethrow_exception(error_);
        if constexpr (!std::is_void_v<R>) return std::move(*result_);
    }
    void answer(const aiomq_completion &completion) override {
        id_ = 0;
        try {
            const aiomq_item &item = completion.items[0];
            if (item.status != AIOMQ_OK) throw Error::of_item(item, function_);
            if constexpr (!std::is_void_v<R>) result_.emplace(decode_item<R>(item, function_));
        } catch (...) {
            error_ = std::current_exception();
        }
        this->resume();
    }

  private:
    void on_cancel() override {
        if (id_ != 0) {
            runtime_->take_nested(id_);
            aiomq_worker_cancel(runtime_->worker(), std::exchange(id_, 0));
        }
        Waiting::on_cancel();
    }

    std::string function_;
    Write write_;
    Runtime *runtime_ = nullptr;
    std::uint64_t id_ = 0;
    std::optional<Stored<R>> result_;
    std::exception_ptr error_;
};

template <Named... Fn>
constexpr bool names_differ() {
    const std::array<std::string_view, sizeof...(Fn)> names{Fn::name()...};
    for (std::size_t i = 0; i < names.size(); ++i)
        for (std::size_t j = 0; j < i; ++j)
            if (names[i] == names[j]) return false;
    return true;
}

}  // namespace detail

template <>
struct Codec<detail::Folded> {
    static void write(Writer &writer, const detail::Folded &folded) {
        writer.begin(AIOMQ_TYPE_TUPLE);
        writer.integer(folded.nanoseconds);
        folded.write(writer, folded.box.get());
        writer.end();
    }
};

/// In a Task of a worker: runs another task of the pool, on any worker, and gives its result. The task
/// that waits does not count as running.
template <detail::Named Fn, class... A>
Task<typename Fn::Result> call(Fn fn, A... arguments) {
    static_assert(sizeof...(A) == Fn::arity,
                  "the function has another number of parameters than there are arguments");
    const auto write = [&](Writer &writer) {
        detail::write_arguments(writer, fn, std::index_sequence_for<A...>(), arguments...);
    };
    using R = typename Fn::Result;
    detail::NestedCall<R, decltype(write)> nested(std::string(Fn::name()), write);
    co_return co_await nested;
}
template <class R, class... A>
Task<R> call(std::string function, A... arguments) {
    const auto write = [&](Writer &writer) { (detail::write(writer, arguments), ...); };
    detail::NestedCall<R, decltype(write)> nested(std::move(function), write);
    co_return co_await nested;
}

/// What is known of the item that runs on this thread; null outside of a worker's functions.
inline const TaskInfo *current_task() {
    return detail::Runtime::current() == nullptr ? nullptr : detail::Runtime::current()->info();
}

/// An object of this worker, made when it is first asked for; it goes with the worker.
template <class T>
T &worker_state() {
    if (detail::Runtime::current() == nullptr)
        throw Error(AIOMQ_PENDING, {}, "worker_state() outside of a worker's functions");
    return detail::Runtime::current()->template state<T>();
}

/// This process, as the worker that it was started as.
class Worker {
  public:
    /// Whether a pool has started this process, and no worker was opened yet.
    static bool is_started() { return std::getenv("AIOMQ_WORKER") != nullptr; }

    /// Throws Error if no pool has started it.
    Worker() {
        char text[1024] = "";
        if (const int error = aiomq_worker_open(&handle_, text, sizeof text); error != 0)
            throw Error::of_call(error, "a worker", text);
    }
    Worker(Worker &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Worker &operator=(Worker &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Worker() { aiomq_worker_close(&handle_); }

    aiomq_worker *handle() const {
        if (handle_ == nullptr) throw Error(AIOMQ_PENDING, {}, "a Worker that was moved from");
        return handle_;
    }
    /// Serves these functions until the pool ends. @base: a libevent loop to use. Returns the exit status.
    template <detail::Named... Fn>
    int run(WorkerOptions options, event_base *base, Fn...) {
        static_assert(detail::names_differ<Fn...>(), "two functions have the same name");
        try {
            detail::Runtime runtime({detail::OperationsOf<Fn>::make()...}, std::move(options));
            runtime.open(handle());
            aiomq_run_options run;
            aiomq_run_options_init(&run, sizeof run);
            run.handlers = runtime.handlers().data();
            run.handler_count = runtime.handlers().size();
            run.concurrency = runtime.options().concurrency;
            run.base = base;
            run.cancel = &detail::Runtime::on_cancel;
            run.answer = [](void *user, const aiomq_completion *completion) {
                detail::Runtime::on_answer(user, completion);
            };
            run.resolve = &detail::Runtime::on_resolve;
            run.cancel_user = run.answer_user = run.resolve_user = &runtime;
            const int error = aiomq_worker_run(handle(), &run);
            runtime.close();
            return error == 0 ? 0 : 1;
        } catch (...) {
            std::string type;
            std::string message;
            std::string traceback;
            detail::describe_exception("a worker", type, message, traceback);
            aiomq_worker_abort(handle(), (type + ": " + message).c_str());
            return 1;
        }
    }

  private:
    aiomq_worker *handle_ = nullptr;
};

/// First thing in main() of a program that is its own worker: in a worker it serves these functions and
/// exits; in any other process it returns at once.
template <detail::Named... Fn>
void run_if_worker(WorkerOptions options, Fn... functions) {
    if (!Worker::is_started()) return;
    int status = 1;
    try {
        status = Worker().run(std::move(options), nullptr, functions...);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
    }
    std::exit(status);
}
template <detail::Named... Fn>
void run_if_worker(Fn... functions) {
    run_if_worker(WorkerOptions(), functions...);
}

}  // namespace aiomq
