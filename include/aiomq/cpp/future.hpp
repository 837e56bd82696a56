// Future: one task under way, and its result. View: a result where it lies.
#pragma once

#include <aiomq/cpp/core.hpp>
#include <atomic>

namespace aiomq {

template <class T>
class Future;

/// A result in the pool's memory, without a copy; it stays while this lives, also when the pool has ended.
class View {
  public:
    View() = default;
    View(View &&other) noexcept { swap(other); }
    View &operator=(View &&other) noexcept {
        swap(other);
        return *this;
    }
    ~View() { reset(); }

    /// Of a result that is bytes or a text; empty for others.
    std::span<const std::byte> bytes() const {
        const Value result = value();
        const bool has_bytes = result.is(AIOMQ_TYPE_BYTES) || result.is(AIOMQ_TYPE_TEXT);
        return has_bytes ? result.bytes() : std::span<const std::byte>();
    }
    Value value() const;

  private:
    template <class T>
    friend class Future;
    class Held;

    void swap(View &other) noexcept { std::swap(held_, other.held_); }
    void reset();

    std::shared_ptr<Held> held_;
};

namespace detail {

/// What a Future and the pool share of a call. Its members are guarded by the core's lock, but for what
/// only the future's owner touches once `done` is set.
class FutureState final : public Call {
  public:
    void begin(const std::string &function) {
        function_ = function;
        done_.store(false, std::memory_order_relaxed);
        dropped_ = false;
        waiting_ = nullptr;
        loop_ = nullptr;
        copy_.clear();
    }
    void arrive(const aiomq_completion &completion) override {
        completion_ = completion;
        const auto *from = reinterpret_cast<const char *>(&completion);
        if (completion.items == &completion.item) completion_.items = &completion_.item;
        item_ = completion_.items[0];
        // Short results lie in the completion, which has moved.
        const auto *data = static_cast<const char *>(item_.value.data);
        if (item_.kind >= AIOMQ_KIND_BYTES && data >= from && data < from + sizeof completion)
            item_.value.data = reinterpret_cast<const char *>(&completion_) + (data - from);
        finish();
    }
    void abandon() override {
        completion_ = aiomq_completion{};
        item_ = aiomq_item{};
        item_.status = AIOMQ_POOL_CLOSED;
        finish();
    }
    /// The pool's memory is about to go.
    static void copy_out(void *object) {
        auto &self = *static_cast<FutureState *>(object);
        self.completion_.loan = 0;
        if (self.item_.kind < AIOMQ_KIND_BYTES || self.item_.bytes == 0) return;
        self.copy_.resize((self.item_.bytes + 7) / 8);
        std::memcpy(self.copy_.data(), self.item_.value.data, self.item_.bytes);
        self.item_.value.data = self.copy_.data();
    }

    bool done() const { return done_.load(std::memory_order_acquire); }
    const aiomq_item &item() const { return item_; }
    const std::string &function() const { return function_; }
    std::uint64_t loan() const { return completion_.loan; }
    void give_back(Core &core) {
        if (completion_.loan == 0) return;
        core.forget_loan(this);
        core.release(std::exchange(completion_.loan, 0));
    }

    bool dropped_ = false;        ///< nobody wants the result
    Core *core_ = nullptr;        ///< of a dropped one: who takes it back
    Waiting *waiting_ = nullptr;  ///< a coroutine, on
    Loop *loop_ = nullptr;        ///< this loop

  private:
    void finish() {
        done_.store(true, std::memory_order_release);
        if (dropped_) {
            if (completion_.loan != 0) core_->release(completion_.loan);
            core_->keep_spare(std::unique_ptr<Call>(this));
            return;
        }
        if (completion_.loan != 0) core_->note_loan(this, &FutureState::copy_out);
        if (waiting_ != nullptr) loop_->make_ready(*std::exchange(waiting_, nullptr));
    }

    std::string function_;
    std::atomic<bool> done_ = false;
    aiomq_completion completion_{};
    aiomq_item item_{};
    std::vector<std::uint64_t> copy_;
};

/// The shared half of a Future: its state, given back when it goes.
class FutureHandle {
  public:
    FutureHandle() = default;
    FutureHandle(std::shared_ptr<Core> core, FutureState *state)
        : core_(std::move(core)), state_(state) {}
    FutureHandle(FutureHandle &&other) noexcept
        : core_(std::move(other.core_)), state_(std::exchange(other.state_, nullptr)) {}
    FutureHandle &operator=(FutureHandle &&other) noexcept {
        std::swap(core_, other.core_);
        std::swap(state_, other.state_);
        return *this;
    }
    ~FutureHandle() { drop(); }

    void drop() {
        if (state_ == nullptr) return;
        const Core::Lock lock = core_->lock();
        FutureState *state = std::exchange(state_, nullptr);
        if (!state->done()) {
            state->dropped_ = true;
            return;
        }
        state->give_back(*core_);
        core_->keep_spare(std::unique_ptr<Call>(state));
    }
    FutureState &state() const {
        if (state_ == nullptr)
            throw Error(AIOMQ_PENDING, {},
                        "a Future that has no task: it was moved from, or its result was taken");
        return *state_;
    }
    bool valid() const { return state_ != nullptr; }
    Core &core() const { return *core_; }
    const std::shared_ptr<Core> &shared() const { return core_; }

  private:
    std::shared_ptr<Core> core_;
    FutureState *state_ = nullptr;
};

template <class T>
T decode_item(const aiomq_item &item, const std::string &function) {
    static_assert(
        !is_view<T>,
        "a result of this type would point into memory that is given back: take std::string, "
        "std::vector or aiomq::Bytes for a copy, or aiomq::View for the result in place");
    if constexpr (!std::is_void_v<T>) {
        aiomq_value raw;
        if (const int error = aiomq_value_open(&item, &raw); error != 0)
            throw Error::of_call(error, "the result of " + function);
        try {
            return Codec<T>::read(Value(raw));
        } catch (const TypeMismatch &mismatch) {
            throw Error(AIOMQ_ERROR, "aiomq.BadResult",
                        function + " gave " + mismatch.found() + " where " + mismatch.expected() +
                            " was expected");
        }
    }
}

}  // namespace detail

class View::Held {
  public:
    explicit Held(detail::FutureHandle handle) : handle(std::move(handle)) {}
    detail::FutureHandle handle;
};

inline Value View::value() const {
    if (held_ == nullptr) throw Error(AIOMQ_PENDING, {}, "a View without a result");
    auto &handle = held_->handle;
    aiomq_value raw;
    detail::check(aiomq_value_open(&handle.state().item(), &raw), "a result");
    return Value(raw);
}
inline void View::reset() { held_.reset(); }

/// The result of a task to come. Any one thread at a time; the pool may end before it. One that is dropped
/// lets its task run, and its result go: cancel() comes first where that is not wanted.
template <class T>
class [[nodiscard]] Future {
  public:
    using Value = T;

    Future() = default;
    explicit Future(detail::FutureHandle handle) : handle_(std::move(handle)) {}

    bool valid() const { return handle_.valid(); }
    bool ready() const { return handle_.state().done(); }
    std::uint64_t task_id() const { return handle_.state().task_id; }
    /// Blocks until the task has ended.
    void wait() const {
        detail::FutureState &state = handle_.state();
        if (state.done()) return;
        auto lock = handle_.core().lock();
        handle_.core().wait(lock, [&] { return state.done(); });
    }
    /// False: it has not ended in time.
    template <class Rep, class Period>
    bool wait_for(std::chrono::duration<Rep, Period> time) const {
        detail::FutureState &state = handle_.state();
        if (state.done()) return true;
        auto lock = handle_.core().lock();
        return handle_.core().wait(
            lock, [&] { return state.done(); }, std::chrono::steady_clock::now() + time);
    }
    /// Blocks; gives the result, once, or throws the task's Error.
    T get() {
        wait();
        return take();
    }
    /// As get(), without throwing what the task failed with.
    Result<T> result() {
        try {
            if constexpr (std::is_void_v<T>) {
                get();
                return {};
            } else {
                return get();
            }
        } catch (Error &error) {
            return std::move(error);
        }
    }
    /// Withdraws the task, or asks its worker to stop it; it ends with an outcome in any case.
    void cancel() {
        detail::FutureState &state = handle_.state();
        auto lock = handle_.core().lock();
        if (!state.done()) handle_.core().cancel(state);
    }

    /// On the loop of its pool only: see Pool::run() and aiomq/libevent.hpp.
    class Awaiter : public detail::Waiting {
      public:
        explicit Awaiter(Future &future) : future_(future) {}
        ~Awaiter() override {
            if (!suspended() || !future_.valid()) return;
            auto lock = future_.handle_.core().lock();
            leave_loop();
        }
        bool await_ready() const { return future_.ready(); }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) {
            detail::FutureState &state = future_.handle_.state();
            auto lock = future_.handle_.core().lock();
            if (state.done()) return false;
            detail::Loop *loop = future_.handle_.core().loop();
            if (loop == nullptr || !loop->is_here())
                throw Error::of_call(-EPERM, "co_await of a future",
                                     "this thread does not run the pool's loop: see Pool::run() "
                                     "and aiomq/libevent.hpp");
            if (this->enter(handle)) return false;
            state.waiting_ = this;
            state.loop_ = loop;
            return true;
        }
        T await_resume() {
            leave();
            return future_.take();
        }

      private:
        void on_cancel() override {
            {
                auto lock = future_.handle_.core().lock();
                leave_loop();
                if (!future_.ready()) future_.handle_.core().cancel(future_.handle_.state());
            }
            Waiting::on_cancel();
        }
        void leave_loop() {
            detail::FutureState &state = future_.handle_.state();
            state.waiting_ = nullptr;
            if (state.loop_ != nullptr && future_.handle_.core().loop() == state.loop_)
                state.loop_->forget(*this);
        }

        Future &future_;
    };
    Awaiter operator co_await() & { return Awaiter(*this); }
    Awaiter operator co_await() && { return Awaiter(*this); }

  private:
    T take() {
        detail::FutureState &state = handle_.state();
        if (!state.done()) throw Error::of_call(-ESHUTDOWN, "a future", "the pool was destroyed");
        if (state.item().status != AIOMQ_OK) {
            const Error error = Error::of_item(state.item(), state.function());
            handle_.drop();
            throw error;
        }
        if constexpr (std::is_same_v<T, View>) {
            View view;
            view.held_ = std::make_shared<View::Held>(std::move(handle_));
            return view;
        } else if constexpr (std::is_void_v<T>) {
            handle_.drop();
        } else {
            detail::FutureHandle handle = std::move(handle_);
            return detail::decode_item<T>(state.item(), state.function());
        }
    }

    detail::FutureHandle handle_;
};

namespace detail {

/// Submits what @write(writer) writes. @function: its name.
template <class R, class Write>
Future<R> submit_call(const std::shared_ptr<Core> &core, const CallOptions &options,
                      const std::string &function, Write write) {
    auto lock = core->lock();
    Writer &writer = core->writer();
    writer.reset();
    write(writer);
    std::unique_ptr<Call> spare = core->take_spare();
    std::unique_ptr<FutureState> state(
        spare != nullptr ? static_cast<FutureState *>(spare.release()) : new FutureState);
    state->begin(function);
    state->core_ = core.get();
    core->submit(lock, *state, function, options);
    return Future<R>(FutureHandle(core, state.release()));
}

}  // namespace detail
}  // namespace aiomq
