// Pool: worker processes, and the calls that they run.
#pragma once

#include <aiomq/cpp/calls.hpp>

namespace aiomq {

/// Workers of one kind; see aiomq_group.
struct Group {
    unsigned workers = 1;
    std::vector<std::string> argv = {};    ///< default: the pool's
    std::vector<std::string> queues = {};  ///< that it serves, first to last; default: all
    std::string name = {};
    unsigned concurrency = 0;  ///< items that a worker runs at once; 0: the program's own choice
    std::uint64_t max_tasks = 0;
    std::uint64_t max_memory_bytes = 0;
};

/// See aiomq_pool_options, whose defaults these are.
struct PoolOptions {
    std::vector<std::string> argv =
        {};                    ///< the workers' program; default: this one, see run_if_worker()
    unsigned workers = 0;      ///< 0: one for each usable CPU
    unsigned capacity = 0;     ///< tasks under way at most; 0: 4096
    unsigned concurrency = 0;  ///< items that a worker runs at once; 0: the program's own choice
    std::string label = {};    ///< shown by aiomq-stat
    std::vector<std::string> queues = {};
    std::vector<Group> groups = {};
    std::optional<std::chrono::nanoseconds> spin = {};  ///< looks so long before it sleeps
    std::uint64_t arena_max_bytes = 0;                  ///< 0: a quarter of the memory
    std::uint64_t arena_start_bytes = 0;                ///< 0: 1 MiB
    std::vector<int> extra_fds = {};  ///< for workers, from AIOMQ_EXTRA_FD_BASE on
    unsigned poison_limit = 0;        ///< 0: 3
    std::optional<std::chrono::nanoseconds> grace = {};
};

/// Owns the worker processes. The calls are those of Calls.
///
/// Destroying it kills the workers: futures and maps that are left end with AIOMQ_POOL_CLOSED, and results
/// that had come stay readable. close() and join() end it in order. Any thread may call.
class Pool : public Calls {
  public:
    /// Blocks until all workers are ready. Throws Error, with the last words of one that could not start.
    explicit Pool(const PoolOptions &options = {}) : Calls(nullptr, {}, 1) {
        const Raw raw(options);
        char text[4096] = "";
        aiomq_pool_options c = raw.options;
        c.error_text = text;
        c.error_text_bytes = sizeof text;
        aiomq_pool *pool = nullptr;
        if (const int error = aiomq_pool_create(&c, &pool); error != 0)
            throw Error::of_call(error, "a pool", text);
        core_ = std::make_shared<detail::Core>(pool);
        workers_ = count_workers();
    }
    Pool(Pool &&other) noexcept = default;
    Pool &operator=(Pool &&other) noexcept {
        end();
        Calls::operator=(std::move(other));
        return *this;
    }
    ~Pool() { end(); }

    /// The same verbs with a timeout, retries, a queue, a key.
    Calls options(CallOptions options) const { return Calls(core(), std::move(options), workers_); }
    std::size_t workers() const { return workers_; }
    /// For what this header does not have. The calls of aiomq.h but collect, dispatch, wait and destroy.
    aiomq_pool *handle() const {
        core()->require_pool();
        return core_->pool();
    }
    /// Takes no more tasks; those that are queued still run.
    void close() { detail::check(aiomq_pool_close(handle(), 0), "close"); }
    /// Closes, and blocks until all tasks have ended and the workers are gone.
    void join() {
        close();
        auto lock = core()->lock();
        while (aiomq_pool_join(handle(), 0) == -ETIMEDOUT)
            core_->drive_once(lock, std::chrono::milliseconds(100));
    }
    /// Kills the workers; what has not finished ends with AIOMQ_POOL_CLOSED.
    void terminate() { detail::check(aiomq_pool_terminate(handle()), "terminate"); }

    /// Runs a coroutine that waits for this pool's futures, and drives the pool meanwhile. Blocks.
    template <class T>
    T run(Task<T> task) {
        struct Here : detail::Loop {
            Here() : Loop(std::this_thread::get_id()) {}
            void wake() override {}  // this thread looks by itself
        } here;
        const std::shared_ptr<detail::Core> core = this->core();
        {
            const auto lock = core->lock();
            core->attach(&here);
        }
        struct Detach {
            ~Detach() {
                const auto lock = core.lock();
                core.attach(nullptr);
            }
            detail::Core &core;
        } const detach{*core};
        detail::Branch<T> branch(std::move(task));
        branch.start(
            nullptr,
            [](void *, std::size_t) -> std::coroutine_handle<> { return std::noop_coroutine(); },
            nullptr, 0);
        while (!branch.done()) {
            if (here.resume_ready(core->mutex())) continue;
            auto lock = core->lock();
            core->require_pool();
            core->drive_once(lock, std::chrono::nanoseconds::max());
        }
        if constexpr (std::is_void_v<T>)
            (void)branch.take();
        else
            return branch.take();
    }
    /// For event loops; see aiomq/libevent.hpp.
    const std::shared_ptr<detail::Core> &shared() const { return core(); }

  private:
    /// The options as the C ABI takes them, with what they point to.
    struct Raw {
        explicit Raw(const PoolOptions &from) {
            aiomq_pool_options_init(&options, sizeof options);
            options.argv =
                words(from.argv.empty() ? std::vector<std::string>{"/proc/self/exe"} : from.argv);
            if (from.workers != 0) options.workers = from.workers;
            if (from.capacity != 0) options.capacity = from.capacity;
            if (!from.label.empty()) options.label = from.label.c_str();
            if (from.spin) options.spin_ns = static_cast<std::uint64_t>(from.spin->count());
            if (from.arena_max_bytes != 0) options.arena_max_bytes = from.arena_max_bytes;
            if (from.arena_start_bytes != 0) options.arena_start_bytes = from.arena_start_bytes;
            if (from.poison_limit != 0) options.poison_limit = from.poison_limit;
            if (from.grace) options.grace_ns = static_cast<std::uint64_t>(from.grace->count());
            options.extra_fds = from.extra_fds.data();
            options.extra_fd_count = static_cast<std::uint32_t>(from.extra_fds.size());
            if (!from.queues.empty()) {
                options.queues = words(from.queues);
                options.queue_count = static_cast<std::uint32_t>(from.queues.size());
            }
            for (const Group &group : from.groups) add(group, from.queues);
            if (groups.empty() && from.concurrency != 0) {
                add(Group{options.workers, {}, {}, {}, from.concurrency, 0, 0}, from.queues);
            }
            options.groups = groups.data();
            options.group_count = static_cast<std::uint32_t>(groups.size());
        }
        void add(const Group &from, const std::vector<std::string> &names) {
            aiomq_group group{};
            group.struct_bytes = sizeof group;
            group.workers = from.workers;
            group.concurrency = from.concurrency;
            group.max_tasks = from.max_tasks;
            group.max_memory_bytes = from.max_memory_bytes;
            if (!from.name.empty()) group.name = from.name.c_str();
            if (!from.argv.empty()) group.argv = words(from.argv);
            if (!from.queues.empty()) {
                auto &numbers = queues.emplace_back();
                for (const std::string &queue : from.queues) {
                    const auto found = std::ranges::find(names, queue);
                    if (found == names.end())
                        throw Error::of_call(
                            -EINVAL, "a pool",
                            "a group serves the queue " + queue + ", which the pool does not have");
                    numbers.push_back(static_cast<std::uint32_t>(found - names.begin()));
                }
                group.queues = numbers.data();
                group.queue_count = static_cast<std::uint32_t>(numbers.size());
            }
            groups.push_back(group);
        }
        const char *const *words(const std::vector<std::string> &from) {
            auto &row = lists.emplace_back();
            for (const std::string &word : from) row.push_back(text.emplace_back(word).c_str());
            row.push_back(nullptr);
            return row.data();
        }

        aiomq_pool_options options{};
        std::deque<std::string> text;
        std::deque<std::vector<const char *>> lists;
        std::deque<std::vector<std::uint32_t>> queues;
        std::vector<aiomq_group> groups;
    };

    void end() {
        if (core_ != nullptr) core_->end();
    }
    std::size_t count_workers() const {
        aiomq_view *view = nullptr;
        detail::check(aiomq_pool_view(core_->pool(), &view), "a pool's statistics");
        aiomq_pool_stats stats{};
        stats.struct_bytes = sizeof stats;
        aiomq_view_pool(view, &stats);
        aiomq_view_close(&view);
        return std::max<std::size_t>(stats.workers, 1);
    }
};

}  // namespace aiomq
