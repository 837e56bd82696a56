// libevent.hpp - coroutines that wait on a libevent loop: timers, descriptors, a pool's futures.
//
// Needs libevent_core; pkg-config libaiomq-libevent. In a worker's Task everything here works as it
// stands. A dispatcher that has an event_base makes an EventLoop of it:
//
//     aiomq::EventLoop loop(base);
//     loop.attach(pool);
//     loop.spawn(serve(pool));     // a Task<>, which co_awaits futures, timers, descriptors
//     event_base_dispatch(base);
//
// All of it belongs to the thread that runs the loop.
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <unistd.h>

#include <aiomq/aiomq.hpp>

namespace aiomq {

class EventLoop;

namespace detail {

/// The loop of this thread: of the EventLoop that was made last, or of the worker.
inline event_base *&own_base() {
    static thread_local event_base *base = nullptr;
    return base;
}
inline event_base *base_of_thread() {
    if (own_base() != nullptr) return own_base();
    event_base *base = Runtime::current() == nullptr
                           ? nullptr
                           : aiomq_worker_event_base(Runtime::current()->worker());
    if (base == nullptr)
        throw Error::of_call(
            -EPERM, "a wait for an event",
            "this thread has no event loop: it is neither in a worker's task nor that of "
            "an EventLoop");
    return base;
}

inline timeval timeval_of(std::chrono::nanoseconds time) {
    const auto most = std::chrono::hours(24 * 365 * 10);
    const auto microseconds = std::chrono::ceil<std::chrono::microseconds>(
        std::clamp<std::chrono::nanoseconds>(time, std::chrono::nanoseconds(0), most));
    return {static_cast<time_t>(microseconds.count() / 1000000),
            static_cast<suseconds_t>(microseconds.count() % 1000000)};
}

/// One event, in the frame of the coroutine that waits for it.
class EventAwaiter final : public Waiting {
  public:
    EventAwaiter(evutil_socket_t fd, short what, std::optional<std::chrono::nanoseconds> timeout)
        : fd_(fd), what_(what), timeout_(timeout) {}
    ~EventAwaiter() override {
        if (added_) event_del(&event_);
    }

    bool await_ready() const { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        event_base *base = base_of_thread();
        if (this->enter(handle)) return false;
        const timeval time = timeout_ ? timeval_of(*timeout_) : timeval{};
        if (event_assign(&event_, base, fd_, what_, &EventAwaiter::on_event, this) != 0 ||
            event_add(&event_, timeout_ ? &time : nullptr) != 0) {
            this->unhook();
            throw Error::of_call(-EINVAL, "a wait for an event",
                                 "libevent does not take descriptor " + std::to_string(fd_));
        }
        added_ = true;
        return true;
    }
    /// True: the descriptor is ready; false: the time is over.
    bool await_resume() const {
        this->leave();
        return (happened_ & (EV_READ | EV_WRITE)) != 0;
    }

  private:
    static void on_event(evutil_socket_t, short what, void *user) {
        auto &self = *static_cast<EventAwaiter *>(user);
        self.added_ = false;
        self.happened_ = what;
        self.resume();
    }
    void on_cancel() override {
        if (std::exchange(added_, false)) event_del(&event_);
        Waiting::on_cancel();
    }

    evutil_socket_t fd_;
    short what_;
    short happened_ = 0;
    bool added_ = false;
    std::optional<std::chrono::nanoseconds> timeout_;
    struct event event_ {};
};

}  // namespace detail

/// Waits; others run meanwhile. Throws Cancelled, as all waits here.
template <class Rep, class Period>
detail::EventAwaiter sleep_for(std::chrono::duration<Rep, Period> time) {
    return {-1, EV_TIMEOUT, std::chrono::duration_cast<std::chrono::nanoseconds>(time)};
}
/// Waits until @fd can be read; gives false if @timeout came first.
inline detail::EventAwaiter readable(int fd, std::optional<std::chrono::nanoseconds> timeout = {}) {
    return {fd, EV_READ, timeout};
}
inline detail::EventAwaiter writable(int fd, std::optional<std::chrono::nanoseconds> timeout = {}) {
    return {fd, EV_WRITE, timeout};
}

/// The event_base on which this thread's coroutines wait; for code of one's own that adds events.
inline event_base *current_event_base() { return detail::base_of_thread(); }

/// Coroutines and pools on a libevent loop of a dispatcher.
///
/// It must go before the event_base, on the loop's thread; tasks that have not ended go with it.
class EventLoop {
  public:
    explicit EventLoop(event_base *base)
        : base_(base), before_(std::exchange(detail::own_base(), base)) {}
    EventLoop(const EventLoop &) = delete;
    EventLoop &operator=(const EventLoop &) = delete;
    ~EventLoop() {
        spawned_.clear();
        pools_.clear();
        detail::own_base() = before_;
    }

    event_base *base() const { return base_; }

    /// From here on the loop drives the pool: its futures may be awaited, and submit() never blocks here.
    void attach(Pool &pool) { pools_.push_back(std::make_unique<Attached>(pool.shared(), base_)); }
    /// What it throws is given to @failed, by default std::terminate().
    void spawn(Task<> task, std::function<void(std::exception_ptr)> failed = {}) {
        std::erase_if(spawned_, [](const auto &entry) { return entry->over; });
        auto &entry =
            *spawned_.emplace_back(std::make_unique<Spawned>(std::move(task), std::move(failed)));
        entry.branch.start(nullptr, &Spawned::ended, &entry, 0);
    }
    /// Runs the loop until the task has ended; gives its result, or throws what it has thrown.
    template <class T>
    T run(Task<T> task) {
        detail::Branch<T> branch(std::move(task));
        branch.start(
            nullptr,
            [](void *base, std::size_t) -> std::coroutine_handle<> {
                event_base_loopbreak(static_cast<event_base *>(base));
                return std::noop_coroutine();
            },
            base_, 0);
        while (!branch.done()) {
            const int found = event_base_loop(base_, EVLOOP_NO_EXIT_ON_EMPTY);
            if (found < 0)
                throw Error::of_call(-EIO, "an event loop", "event_base_loop() has failed");
        }
        if constexpr (std::is_void_v<T>)
            (void)branch.take();
        else
            return branch.take();
    }

  private:
    struct Spawned {
        Spawned(Task<> task, std::function<void(std::exception_ptr)> failed)
            : branch(std::move(task)), failed(std::move(failed)) {}
        static std::coroutine_handle<> ended(void *user, std::size_t) {
            auto &self = *static_cast<Spawned *>(user);
            self.over = true;
            if (self.branch.failed()) {
                try {
                    (void)self.branch.take();
                } catch (...) {
                    if (!self.failed) std::terminate();
                    self.failed(std::current_exception());
                }
            }
            return std::noop_coroutine();
        }
        detail::Branch<void> branch;
        std::function<void(std::exception_ptr)> failed;
        bool over = false;
    };

    class Attached final : public detail::Loop {
      public:
        Attached(std::shared_ptr<detail::Core> core, event_base *base)
            : Loop(std::this_thread::get_id()), core_(std::move(core)) {
            const auto lock = core_->lock();
            core_->require_pool();
            core_->attach(this);
            // Its own, since the pool may end before the loop does.
            fd_ = fcntl(aiomq_pool_fd(core_->pool()), F_DUPFD_CLOEXEC, 0);
            if (fd_ < 0) {
                core_->attach(nullptr);
                throw Error::of_call(-errno, "a pool on an event loop");
            }
            event_assign(&event_, base, fd_, EV_READ | EV_PERSIST, &Attached::on_event, this);
            event_add(&event_, nullptr);
            wake();  // dispatch() arms the descriptor
        }
        ~Attached() override {
            event_del(&event_);
            close(fd_);
            const auto lock = core_->lock();
            core_->attach(nullptr);
        }

      private:
        void wake() override { event_active(&event_, EV_READ, 1); }
        static void on_event(evutil_socket_t, short, void *user) {
            auto &self = *static_cast<Attached *>(user);
            for (;;) {
                int found = 0;
                {
                    auto lock = self.core_->lock();
                    found = self.core_->dispatch(lock);
                }
                if (!self.resume_ready(self.core_->mutex()) && found <= 0) return;
            }
        }

        std::shared_ptr<detail::Core> core_;
        int fd_ = -1;
        struct event event_ {};
    };

    event_base *base_;
    event_base *before_;
    std::vector<std::unique_ptr<Attached>> pools_;
    std::vector<std::unique_ptr<Spawned>> spawned_;
};

}  // namespace aiomq
