// detail::Core: a pool's handle, the calls under way, and who drives it: what Pool, Future and maps share.
//
// Thread safety: any thread; one of them drives at a time, the others wait for it. With a Loop attached
// only the loop's thread drives.
#pragma once

#include <aiomq/cpp/task.hpp>
#include <aiomq/cpp/value.hpp>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace aiomq {

/// What all calls may be given; see aiomq_task.
struct CallOptions {
    std::chrono::nanoseconds timeout{};       ///< of each item from its own start; 0: none
    std::chrono::nanoseconds start_within{};  ///< later than this it never runs; 0: no limit
    unsigned retries = 0;                     ///< runs after a worker's death at most
    std::string queue = {};                   ///< default: the first
    std::optional<std::uint64_t> key = {};    ///< the same key, the same worker
};

namespace detail {

class Core;

/// A task under way: who gets its outcomes.
class Call {
  public:
    virtual ~Call() = default;
    /// Some or all items; takes over the completion's loan. With the core's lock held.
    virtual void arrive(const aiomq_completion &completion) = 0;
    /// The pool has ended without one. With the core's lock held.
    virtual void abandon() = 0;

    std::uint64_t task_id = 0;
    /// In the core's list of calls under way.
    Call *next = nullptr;
    Call *previous = nullptr;
};

/// A thread on which coroutines wait for futures: an event loop's, or that of Pool::run().
class Loop {
  public:
    explicit Loop(std::thread::id owner) : owner_(owner) {}
    virtual ~Loop() = default;
    bool is_here() const { return std::this_thread::get_id() == owner_; }
    /// What waited may go on; on the loop's thread, later. With the core's lock held.
    void make_ready(Waiting &waiting) {
        ready_.push_back(&waiting);
        wake();
    }
    void forget(const Waiting &waiting) {
        for (Waiting *&entry : ready_)
            if (entry == &waiting) entry = nullptr;
    }
    /// Resumes what is ready. On the loop's thread, without the lock. True: there was something.
    bool resume_ready(std::mutex &mutex) {
        bool any = false;
        for (;;) {
            Waiting *waiting = nullptr;
            {
                const std::lock_guard lock(mutex);
                if (ready_.empty()) return any;
                waiting = ready_.front();
                ready_.pop_front();
            }
            any = true;
            if (waiting != nullptr) waiting->resume();
        }
    }

  protected:
    /// Sees to it that resume_ready() is called soon.
    virtual void wake() = 0;

  private:
    std::thread::id owner_;
    std::deque<Waiting *> ready_;
};

class Core : public std::enable_shared_from_this<Core> {
  public:
    using Lock = std::unique_lock<std::mutex>;

    explicit Core(aiomq_pool *pool) : pool_(pool) {
        under_way_.next = under_way_.previous = &under_way_;
    }
    ~Core() { end(); }
    Core(const Core &) = delete;
    Core &operator=(const Core &) = delete;

    Lock lock() { return Lock(mutex_); }
    std::mutex &mutex() { return mutex_; }
    /// Null when the pool has ended.
    aiomq_pool *pool() const { return pool_; }
    Writer &writer() { return writer_; }

    /// The writer's values become a task that is submitted; @call must stay until its last outcome. While
    /// there is no room the caller waits, on a loop's thread the task does.
    void submit(Lock &lock, Call &call, const std::string &function, const CallOptions &options,
                std::uint32_t flags = 0) {
        aiomq_task task{};
        if (writer_.borrowed() >= kLarge && store_in_place(task)) {
            struct GiveBack {
                ~GiveBack() {
                    if (payload != nullptr && core.pool_ != nullptr)
                        aiomq_pool_free(core.pool_, payload);
                }
                Core &core;
                void *payload;
            } mine{*this, const_cast<void *>(task.payload)};
            submit(lock, call, task, function, options, flags | AIOMQ_TASK_ADOPT);
            mine.payload = nullptr;
            return;
        }
        if (const int error = aiomq_value_task(writer_.handle(), &task); error != 0)
            throw Error::of_call(error, "the arguments of " + function);
        submit(lock, call, task, function, options, flags);
    }
    void submit(Lock &lock, Call &call, aiomq_task task, const std::string &function,
                const CallOptions &options, std::uint32_t flags) {
        require_pool();
        task.struct_bytes = sizeof task;
        task.flags |= flags;
        task.function = number_of(function);
        task.user = reinterpret_cast<std::uintptr_t>(&call);
        task.timeout_ns = static_cast<std::uint64_t>(options.timeout.count());
        task.start_within_ns = static_cast<std::uint64_t>(options.start_within.count());
        task.retries = options.retries;
        if (!options.queue.empty()) task.queue = queue_of(options.queue);
        if (options.key) {
            task.flags |= AIOMQ_TASK_KEYED;
            task.key = *options.key;
        }
        int error = backlog_.empty() ? aiomq_pool_submit(pool_, &task, &call.task_id) : -EAGAIN;
        if (is_full(error) && loop_ != nullptr && loop_->is_here()) {
            backlog_.push_back(copy_of(task, call));
            error = 0;
        } else if (is_full(error)) {
            // Meanwhile other threads may use the writer.
            const Kept kept = copy_of(task, call);
            while (is_full(error)) {
                wait_for_room(lock);
                require_pool();
                error = aiomq_pool_submit(pool_, &kept.task, &call.task_id);
            }
        }
        if (error != 0) throw submit_error(error, function);
        link(call);
    }
    /// Takes what has finished. With the lock held; calls nobody's code but Call::arrive().
    bool collect() {
        bool any = false;
        std::int64_t count = 0;
        while (pool_ != nullptr && (count = aiomq_pool_collect(pool_, completions_, kBatch)) > 0) {
            any = true;
            for (std::int64_t i = 0; i < count; ++i) {
                auto *call = reinterpret_cast<Call *>(completions_[i].user);
                if (completions_[i].items_left == 0) unlink(*call);
                call->arrive(completions_[i]);
            }
        }
        if (any && waiters_ > 0) changed_.notify_all();
        return any;
    }
    /// Until @done, which is called with the lock held, or @until. False: it is not.
    template <class Done>
    bool wait(Lock &lock, Done done,
              std::chrono::steady_clock::time_point until =
                  std::chrono::steady_clock::time_point::max()) {
        while (!done()) {
            if (pool_ == nullptr) return false;
            if (!can_drive()) {
                ++waiters_;
                const bool late = until == std::chrono::steady_clock::time_point::max()
                                      ? (changed_.wait(lock), false)
                                      : changed_.wait_until(lock, until) == std::cv_status::timeout;
                --waiters_;
                if (late) return done();
                continue;
            }
            if (collect()) continue;
            if (until <= std::chrono::steady_clock::now()) return false;
            drive(lock, left(until));
        }
        return true;
    }
    void release(std::uint64_t loan) {
        if (loan != 0 && pool_ != nullptr) aiomq_pool_release(pool_, loan);
    }
    void cancel(const Call &call) {
        if (pool_ == nullptr) return;
        for (auto kept = backlog_.begin(); kept != backlog_.end(); ++kept) {
            if (kept->call != &call) continue;
            aiomq_completion completion{};
            Call *cancelled = kept->call;
            completion.item_count = kept->task.items;
            std::vector<aiomq_item> items(kept->task.items);
            for (std::uint32_t i = 0; i < kept->task.items; ++i) {
                items[i].index = i;
                items[i].status = AIOMQ_CANCELLED;
            }
            completion.items = items.data();
            give_back(*kept);
            backlog_.erase(kept);
            unlink(*cancelled);
            cancelled->arrive(completion);
            return;
        }
        aiomq_pool_cancel(pool_, call.task_id);
    }
    /// Kills the workers and tells everybody who waits.
    void end() {
        Lock lock(mutex_);
        if (pool_ == nullptr) return;
        collect();
        for (Call *call = under_way_.next; call != &under_way_; call = under_way_.next) {
            unlink(*call);
            call->abandon();
        }
        backlog_.clear();
        for (const auto &[object, copy] : on_loan_) copy(object);
        on_loan_.clear();
        aiomq_pool *pool = std::exchange(pool_, nullptr);
        changed_.notify_all();
        lock.unlock();
        aiomq_pool_destroy(&pool);
    }
    /// @copy(object) is called before the pool's memory goes, if keep_until_end() is not taken back.
    void note_loan(void *object, void (*copy)(void *)) { on_loan_[object] = copy; }
    void forget_loan(void *object) { on_loan_.erase(object); }

    /// A call that has ended and may be used again, or null.
    std::unique_ptr<Call> take_spare() {
        if (spare_.empty()) return nullptr;
        std::unique_ptr<Call> call = std::move(spare_.back());
        spare_.pop_back();
        return call;
    }
    void keep_spare(std::unique_ptr<Call> call) {
        if (spare_.size() < kMostSpare) spare_.push_back(std::move(call));
    }

    /// Null: nobody's. One at a time. With the lock held.
    Loop *loop() const { return loop_; }
    void attach(Loop *loop) {
        if (loop != nullptr && loop_ != nullptr)
            throw Error::of_call(-EBUSY, "a pool's loop", "the pool has a loop already");
        loop_ = loop;
        changed_.notify_all();
    }
    /// What dispatch has to do, without waiting; for the loop's thread. 0: sleep on the descriptor.
    int dispatch(Lock &lock) {
        if (pool_ == nullptr) return 0;
        (void)lock;
        const int found = aiomq_pool_dispatch(pool_);
        collect();
        flush_backlog();
        return found;
    }
    /// Takes what has finished; if nothing has, waits for it, for @most.
    void drive_once(Lock &lock, std::chrono::nanoseconds most) {
        flush_backlog();
        if (collect()) return;
        drive(lock, most);
        collect();
    }
    std::uint32_t number_of(const std::string &function) {
        for (const auto &[name, number] : functions_)
            if (name == function) return number;
        std::uint32_t number = 0;
        if (const int error = aiomq_pool_function(pool_, function.c_str(), &number); error != 0)
            throw Error::of_call(error, "the name of a function, " + function);
        functions_.emplace_back(function, number);
        return number;
    }
    void require_pool() const {
        if (pool_ == nullptr) throw Error::of_call(-ESHUTDOWN, "a call", "the pool was destroyed");
    }

  private:
    static constexpr std::size_t kBatch = 64;
    static constexpr std::size_t kLarge = 4096;  ///< from here on a second copy counts
    static constexpr std::size_t kMostSpare = 65536;
    static constexpr auto kRetry = std::chrono::milliseconds(100);

    struct Kept {
        aiomq_task task;
        Call *call;
        std::vector<std::uint64_t> payload;
    };
    struct End : Call {
        void arrive(const aiomq_completion &) override {}
        void abandon() override {}
    };

    static std::chrono::nanoseconds left(std::chrono::steady_clock::time_point until) {
        if (until == std::chrono::steady_clock::time_point::max())
            return std::chrono::nanoseconds::max();
        return until - std::chrono::steady_clock::now();
    }
    bool can_drive() const { return !driving_ && (loop_ == nullptr || loop_->is_here()); }
    void drive(Lock &lock, std::chrono::nanoseconds most) {
        aiomq_pool *pool = pool_;
        if (pool == nullptr) return;
        driving_ = true;
        lock.unlock();
        const bool ever = most == std::chrono::nanoseconds::max();
        const int found = aiomq_pool_wait(
            pool, ever ? UINT64_MAX
                       : static_cast<std::uint64_t>(std::max<std::int64_t>(most.count(), 0)));
        lock.lock();
        driving_ = false;
        if (waiters_ > 0) changed_.notify_all();
        if (found < 0 && found != -EINTR) throw Error::of_call(found, "waiting for tasks");
        if (found > 0 && (found & AIOMQ_DISPATCH_STATE) != 0) check_state();
    }
    /// A pool that can't start workers never finishes anything: say so to whoever waits.
    void check_state() {
        char text[2048] = "";
        if (aiomq_pool_state(pool_, text, sizeof text) == AIOMQ_POOL_BROKEN) broken_ = text;
    }
    void wait_for_room(Lock &lock) {
        if (can_drive()) {
            if (!collect()) drive(lock, kRetry);
            collect();
        } else {
            ++waiters_;
            changed_.wait_for(lock, kRetry);
            --waiters_;
        }
    }
    /// Writes the message where it will be read. False: there is no room now.
    bool store_in_place(aiomq_task &task) {
        require_pool();
        const int kind = writer_.calls() > 1 ? AIOMQ_KIND_CHUNK : AIOMQ_KIND_CALL;
        const std::int64_t bytes = aiomq_value_measure(writer_.handle(), kind);
        void *memory = nullptr;
        if (bytes <= 0 || aiomq_pool_alloc(pool_, static_cast<std::uint64_t>(bytes), &memory) != 0)
            return false;
        aiomq_value_store(writer_.handle(), memory);
        task.kind = static_cast<std::uint16_t>(kind);
        task.payload = memory;
        task.payload_bytes = static_cast<std::uint64_t>(bytes);
        task.items = static_cast<std::uint32_t>(writer_.calls());
        return true;
    }
    static Kept copy_of(const aiomq_task &task, Call &call) {
        Kept kept{task, &call, {}};
        // What is in the pool's memory already stays there.
        if (task.payload_bytes != 0 && (task.flags & AIOMQ_TASK_ADOPT) == 0) {
            kept.payload.resize((task.payload_bytes + 7) / 8);
            std::memcpy(kept.payload.data(), task.payload, task.payload_bytes);
            kept.task.payload = kept.payload.data();
        }
        return kept;
    }
    void give_back(const Kept &kept) {
        if ((kept.task.flags & AIOMQ_TASK_ADOPT) != 0)
            aiomq_pool_free(pool_, const_cast<void *>(kept.task.payload));
    }
    static bool is_full(int error) { return error == -EAGAIN || error == -ENOMEM; }
    void flush_backlog() {
        while (!backlog_.empty() && pool_ != nullptr) {
            Kept &kept = backlog_.front();
            const int error = aiomq_pool_submit(pool_, &kept.task, &kept.call->task_id);
            if (is_full(error)) return;
            Call *call = kept.call;
            if (error != 0) give_back(kept);
            backlog_.pop_front();
            if (error == 0) continue;
            unlink(*call);
            call->abandon();
        }
    }
    Error submit_error(int error, const std::string &function) const {
        return Error::of_call(error, "submit of " + function, error == -EPIPE ? broken_ : "");
    }
    std::uint16_t queue_of(const std::string &name) {
        std::uint32_t queue = 0;
        if (aiomq_pool_queue(pool_, name.c_str(), &queue) != 0)
            throw Error::of_call(-ENOENT, "submit", "the pool has no queue called " + name);
        return static_cast<std::uint16_t>(queue);
    }
    void link(Call &call) {
        call.next = &under_way_;
        call.previous = under_way_.previous;
        call.previous->next = &call;
        under_way_.previous = &call;
    }
    static void unlink(Call &call) {
        if (call.next == nullptr) return;
        call.next->previous = call.previous;
        call.previous->next = call.next;
        call.next = call.previous = nullptr;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    unsigned waiters_ = 0;
    bool driving_ = false;
    aiomq_pool *pool_;
    Writer writer_;
    Loop *loop_ = nullptr;
    End under_way_;
    std::deque<Kept> backlog_;
    std::vector<std::pair<std::string, std::uint32_t>> functions_;
    std::unordered_map<void *, void (*)(void *)> on_loan_;
    std::string broken_;
    std::vector<std::unique_ptr<Call>> spare_;  ///< of Futures
    aiomq_completion completions_[kBatch];
};

}  // namespace detail
}  // namespace aiomq
