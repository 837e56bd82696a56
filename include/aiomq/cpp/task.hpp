// Task: a coroutine; and CancelScope: how one that waits learns that it is to stop.
//
// A Task starts when it is awaited and ends before its awaiter goes on, so what it refers to may live on
// its awaiter's frame. It runs on one thread: a worker's, or that of the loop or Pool::run() it was given
// to. What waits inside it (sleep_for(), futures, other tasks) throws Cancelled when the task is cancelled.
#pragma once

#include <aiomq/cpp/error.hpp>
#include <coroutine>
#include <cstddef>
#include <deque>
#include <exception>
#include <optional>
#include <stop_token>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace aiomq {

/// What is to be called when a scope is cancelled; lives in the frame of what waits. Its owner's
/// destructor takes it off.
class CancelHook {
  public:
    CancelHook() = default;
    CancelHook(const CancelHook &) = delete;
    CancelHook &operator=(const CancelHook &) = delete;
    virtual ~CancelHook() { unhook(); }

    void unhook() {
        if (next_ == nullptr) return;
        next_->previous_ = previous_;
        previous_->next_ = next_;
        next_ = previous_ = nullptr;
    }

  private:
    friend class CancelScope;
    /// Called once, unhooked before.
    virtual void on_cancel() = 0;

    CancelHook *next_ = nullptr;
    CancelHook *previous_ = nullptr;
};

/// Whose the code is that runs: what is to be known when something that waited goes on.
class Activity {
  public:
    /// Something of it goes on now.
    virtual void enter() = 0;

  protected:
    ~Activity() = default;
};

/// Tasks that are cancelled together: those of one item of a worker, or of one branch of when_any().
/// Used by one thread.
class CancelScope {
  public:
    CancelScope() = default;
    CancelScope(const CancelScope &) = delete;
    CancelScope &operator=(const CancelScope &) = delete;
    ~CancelScope() {
        while (hooks_.next_ != &hooks_) hooks_.next_->unhook();
    }

    bool cancelled() const { return cancelled_; }
    /// Null: nobody's in particular.
    Activity *activity() const { return activity_; }
    void belong_to(Activity *activity) { activity_ = activity; }
    /// Cancels what waits, and what will wait.
    void cancel() {
        if (std::exchange(cancelled_, true)) return;
        if (source_) source_->request_stop();
        // A hook may resume something that adds or takes off others.
        while (hooks_.next_ != &hooks_) {
            CancelHook *hook = hooks_.next_;
            hook->unhook();
            hook->on_cancel();
        }
    }
    /// To be called when the scope is cancelled; not if it has been.
    void add(CancelHook &hook) {
        hook.unhook();
        hook.next_ = &hooks_;
        hook.previous_ = hooks_.previous_;
        hooks_.previous_->next_ = &hook;
        hooks_.previous_ = &hook;
    }
    /// For code that takes a token; made when it is first asked for.
    std::stop_token token() {
        if (!source_) {
            source_.emplace();
            if (cancelled_) source_->request_stop();
        }
        return source_->get_token();
    }
    /// As if new, for the next task.
    void reset() {
        cancelled_ = false;
        source_.reset();
    }

  private:
    struct End : CancelHook {
        End() { next_ = previous_ = this; }
        ~End() override { next_ = previous_ = nullptr; }
        void on_cancel() override {}
        using CancelHook::next_;
        using CancelHook::previous_;
    };

    End hooks_;
    bool cancelled_ = false;
    Activity *activity_ = nullptr;
    std::optional<std::stop_source> source_;
};

template <class T = void>
class Task;

namespace detail {

/// What all promises have: who goes on at the end, and whose cancelling counts.
class PromiseBase {
  public:
    /// Called when a task that nobody awaits is over; may destroy it. Gives what goes on.
    struct Root {
        std::coroutine_handle<> (*over)(Root &) = nullptr;
    };

    CancelScope *scope() const { return scope_; }
    void belong_to(CancelScope *scope) { scope_ = scope; }
    void continue_with(std::coroutine_handle<> continuation) { continuation_ = continuation; }
    void root(Root *root) { root_ = root; }

    std::suspend_always initial_suspend() const noexcept { return {}; }
    auto final_suspend() const noexcept {
        struct Awaiter {
            bool await_ready() const noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<>) const noexcept {
                return promise.root_ != nullptr ? promise.root_->over(*promise.root_)
                                                : promise.continuation_;
            }
            void await_resume() const noexcept {}
            const PromiseBase &promise;
        };
        return Awaiter{*this};
    }
    void unhandled_exception() { error_ = std::current_exception(); }
    std::exception_ptr error() const { return error_; }

  protected:
    std::exception_ptr error_;

  private:
    CancelScope *scope_ = nullptr;
    std::coroutine_handle<> continuation_ = std::noop_coroutine();
    Root *root_ = nullptr;
};

template <class T>
class Promise : public PromiseBase {
  public:
    Task<T> get_return_object();
    template <class Value>
    void return_value(Value &&value) {
        value_.emplace(std::forward<Value>(value));
    }
    T take() {
        if (error_) std::rethrow_exception(error_);
        return std::move(*value_);
    }
    /// As take(), where it is.
    const T &get() const {
        if (error_) std::rethrow_exception(error_);
        return *value_;
    }

  private:
    std::optional<T> value_;
};

template <>
class Promise<void> : public PromiseBase {
  public:
    Task<void> get_return_object();
    void return_void() {}
    void take() {
        if (error_) std::rethrow_exception(error_);
    }
};

}  // namespace detail

/// A coroutine that gives a T. It owns its frame; it has not started until it is awaited.
template <class T>
class [[nodiscard]] Task {
  public:
    using promise_type = detail::Promise<T>;
    using Value = T;

    Task() = default;
    explicit Task(std::coroutine_handle<promise_type> frame) : frame_(frame) {}
    Task(Task &&other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    Task &operator=(Task &&other) noexcept {
        std::swap(frame_, other.frame_);
        return *this;
    }
    Task(const Task &) = delete;
    Task &operator=(const Task &) = delete;
    ~Task() {
        if (frame_) frame_.destroy();
    }

    std::coroutine_handle<promise_type> frame() const { return frame_; }
    /// The frame is the caller's from here on.
    std::coroutine_handle<promise_type> release() { return std::exchange(frame_, {}); }
    bool done() const { return frame_.done(); }

    bool await_ready() const {
        if (!frame_) throw Error(AIOMQ_PENDING, {}, "co_await of a Task that was moved from");
        return false;
    }
    template <class Awaiter>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Awaiter> awaiter) {
        frame_.promise().continue_with(awaiter);
        if constexpr (std::is_base_of_v<detail::PromiseBase, Awaiter>)
            frame_.promise().belong_to(awaiter.promise().scope());
        return frame_;
    }
    T await_resume() { return frame_.promise().take(); }

  private:
    std::coroutine_handle<promise_type> frame_;
};

template <class T>
Task<T> detail::Promise<T>::get_return_object() {
    return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> detail::Promise<void>::get_return_object() {
    return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

namespace detail {

/// The base of what waits for something else than a Task: suspends, and is resumed by resume() or by a
/// cancel. Used by one thread.
class Waiting : public CancelHook {
  public:
    /// True: already cancelled, so that it does not suspend.
    template <class Promise>
    bool enter(std::coroutine_handle<Promise> handle) {
        handle_ = handle;
        if constexpr (std::is_base_of_v<PromiseBase, Promise>) {
            CancelScope *scope = handle.promise().scope();
            if (scope != nullptr) {
                activity_ = scope->activity();
                if (scope->cancelled()) {
                    cancelled_ = true;
                    return true;
                }
                scope->add(*this);
            }
        }
        return false;
    }
    /// Goes on with the coroutine.
    void resume() {
        unhook();
        if (activity_ != nullptr) activity_->enter();
        std::exchange(handle_, {}).resume();
    }
    /// First thing after the wait: throws Cancelled if that ended it.
    void leave() const {
        if (cancelled_) throw Cancelled();
    }
    bool suspended() const { return static_cast<bool>(handle_); }

  protected:
    /// Takes back what was waited for, and then resumes, now or later.
    void on_cancel() override {
        cancelled_ = true;
        resume();
    }

  private:
    std::coroutine_handle<> handle_;
    Activity *activity_ = nullptr;
    bool cancelled_ = false;
};

template <class T>
using Stored = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

/// A task that runs beside others, in a scope of its own inside of its parent's.
template <class T>
class Branch : public CancelHook, public PromiseBase::Root {
  public:
    explicit Branch(Task<T> task) : task_(std::move(task)) {}

    /// @over is called with this when the task has ended.
    using Ended = std::coroutine_handle<> (*)(void *, std::size_t);
    void start(CancelScope *parent, Ended ended, void *user, std::size_t index) {
        ended_ = ended;
        user_ = user;
        index_ = index;
        over = [](Root &root) {
            auto &self = static_cast<Branch &>(root);
            self.unhook();
            return self.ended_(self.user_, self.index_);
        };
        if (parent != nullptr) {
            scope_.belong_to(parent->activity());
            if (parent->cancelled())
                scope_.cancel();
            else
                parent->add(*this);
        }
        auto &promise = task_.frame().promise();
        promise.belong_to(&scope_);
        promise.root(this);
        task_.frame().resume();
    }
    void cancel() { scope_.cancel(); }
    bool done() const { return task_.done(); }
    bool failed() const { return task_.frame().promise().error() != nullptr; }
    Stored<T> take() {
        if constexpr (std::is_void_v<T>) {
            task_.frame().promise().take();
            return {};
        } else {
            return task_.frame().promise().take();
        }
    }

  private:
    void on_cancel() override { scope_.cancel(); }

    Task<T> task_;
    CancelScope scope_;
    Ended ended_ = nullptr;
    void *user_ = nullptr;
    std::size_t index_ = 0;
};

/// Runs branches side by side until all have ended.
template <bool First, class... T>
class Together {
  public:
    explicit Together(Task<T>... tasks) : branches_(std::move(tasks)...) {}

    bool await_ready() const { return sizeof...(T) == 0; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        handle_ = handle;
        CancelScope *scope = nullptr;
        if constexpr (std::is_base_of_v<PromiseBase, Promise>) scope = handle.promise().scope();
        left_ = sizeof...(T) + 1;  // one for us, so that nobody resumes while we start them
        start(scope, std::index_sequence_for<T...>());
        return --left_ != 0;
    }

  protected:
    std::tuple<Branch<T>...> branches_;
    std::size_t first_ = sizeof...(T);

  private:
    template <std::size_t... I>
    void start(CancelScope *scope, std::index_sequence<I...>) {
        (std::get<I>(branches_).start(scope, &Together::ended, this, I), ...);
    }
    static std::coroutine_handle<> ended(void *self, std::size_t index) {
        return static_cast<Together *>(self)->on_ended(index, std::index_sequence_for<T...>());
    }
    template <std::size_t... I>
    std::coroutine_handle<> on_ended(std::size_t index, std::index_sequence<I...>) {
        const bool failed = ((I == index && std::get<I>(branches_).failed()) || ...);
        if (first_ == sizeof...(T) && (First || failed)) {
            first_ = index;
            // One that has not started yet is cancelled before it does.
            ((I != index ? std::get<I>(branches_).cancel() : void()), ...);
        }
        return --left_ == 0 ? handle_ : std::noop_coroutine();
    }

    std::coroutine_handle<> handle_;
    std::size_t left_ = 0;
};

template <class... T>
class AllOf : public Together<false, T...> {
  public:
    using Together<false, T...>::Together;
    std::tuple<Stored<T>...> await_resume() { return take(std::index_sequence_for<T...>()); }

  private:
    template <std::size_t... I>
    std::tuple<Stored<T>...> take(std::index_sequence<I...>) {
        // The error that came first is the cause of the others' being cancelled.
        ((I == this->first_ ? (void)std::get<I>(this->branches_).take() : void()), ...);
        return {std::get<I>(this->branches_).take()...};
    }
};

template <class... T>
class AnyOf : public Together<true, T...> {
  public:
    using Together<true, T...>::Together;
    std::variant<Stored<T>...> await_resume() { return take<0>(); }

  private:
    template <std::size_t I>
    std::variant<Stored<T>...> take() {
        if constexpr (I + 1 < sizeof...(T))
            if (this->first_ != I) return take<I + 1>();
        return std::variant<Stored<T>...>(std::in_place_index<I>,
                                          std::get<I>(this->branches_).take());
    }
};

/// As Together, of many tasks of one type.
template <class T>
class AllOfMany {
  public:
    explicit AllOfMany(std::vector<Task<T>> tasks) {
        for (Task<T> &task : tasks) branches_.emplace_back(std::move(task));
    }
    bool await_ready() const { return branches_.empty(); }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        handle_ = handle;
        CancelScope *scope = nullptr;
        if constexpr (std::is_base_of_v<PromiseBase, Promise>) scope = handle.promise().scope();
        left_ = branches_.size() + 1;
        for (std::size_t i = 0; i < branches_.size(); ++i)
            branches_[i].start(scope, &AllOfMany::ended, this, i);
        return --left_ != 0;
    }
    std::vector<Stored<T>> await_resume() {
        if (failed_ != nullptr) failed_->take();
        std::vector<Stored<T>> results;
        results.reserve(branches_.size());
        for (Branch<T> &branch : branches_) results.push_back(branch.take());
        return results;
    }

  private:
    static std::coroutine_handle<> ended(void *user, std::size_t index) {
        auto &self = *static_cast<AllOfMany *>(user);
        if (self.failed_ == nullptr && self.branches_[index].failed()) {
            self.failed_ = &self.branches_[index];
            for (std::size_t i = 0; i < self.branches_.size(); ++i)
                if (i != index) self.branches_[i].cancel();
        }
        return --self.left_ == 0 ? self.handle_ : std::noop_coroutine();
    }

    std::deque<Branch<T>> branches_;
    Branch<T> *failed_ = nullptr;
    std::coroutine_handle<> handle_;
    std::size_t left_ = 0;
};

/// Of the coroutine that awaits it.
struct ScopeOf {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
        if constexpr (std::is_base_of_v<PromiseBase, Promise>) scope = handle.promise().scope();
        return false;
    }
    CancelScope *scope = nullptr;
};
struct TokenOf : ScopeOf {
    std::stop_token await_resume() const {
        return scope == nullptr ? std::stop_token() : scope->token();
    }
};

}  // namespace detail

/// Runs tasks side by side; gives all their results (std::monostate for void). If one fails the others are
/// cancelled, and when all have ended its error is thrown.
template <class... T>
detail::AllOf<T...> when_all(Task<T>... tasks) {
    return detail::AllOf<T...>(std::move(tasks)...);
}

template <class T>
detail::AllOfMany<T> when_all(std::vector<Task<T>> tasks) {
    return detail::AllOfMany<T>(std::move(tasks));
}

/// Runs tasks side by side until the first has ended; the others are cancelled, and waited for. Gives the
/// first one's result, as the alternative with its index, or throws its error.
template <class... T>
requires(sizeof...(T) > 0) detail::AnyOf<T...> when_any(Task<T>... tasks) {
    return detail::AnyOf<T...>(std::move(tasks)...);
}

/// `co_await stop_token()`: requested when the task is cancelled.
inline detail::TokenOf stop_token() { return {}; }

}  // namespace aiomq
