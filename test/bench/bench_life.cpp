// The life of a task beyond its run: recovery of a death, cancellation, the price of limits.
#include <aiomq/aiomq.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include <map>
#include <vector>

#include "measure.hpp"

namespace {

constexpr std::uint32_t kQueued = 10000;
constexpr double kAllowedMs = 50;
constexpr std::uint64_t kTasks = 1000000;
constexpr std::uint64_t kWindow = 1024;
constexpr std::size_t kBatch = 64;
constexpr std::uint64_t kHourNs = 3600ULL * 1000000000;

[[noreturn]] void die(const char *what, int error) {
    std::fprintf(stderr, "%s: %s\n", what, aiomq_strerror(error));
    std::exit(1);
}

int nothing(const aiomq_call *, aiomq_item *) { return 0; }

/// Items that wait until they are cancelled, by job.
std::map<std::uint32_t, const aiomq_call> &waiting() {
    static std::map<std::uint32_t, const aiomq_call> calls;
    return calls;
}
int wait_for_cancel(const aiomq_call *call, aiomq_item *) {
    waiting().emplace(call->job->job, *call);
    return 1;
}
void cancel(void *, std::uint32_t job, std::uint32_t) {
    const auto found = waiting().find(job);
    if (found == waiting().end()) return;
    aiomq_item item{};
    item.index = found->second.item;
    item.status = AIOMQ_CANCELLED;
    if (aiomq_worker_complete(found->second.worker, job, &item) < 0) std::exit(1);
    waiting().erase(found);
}

void run_as_worker() {
    if (std::getenv("AIOMQ_WORKER") == nullptr) return;
    aiomq_worker *worker = nullptr;
    if (aiomq_worker_open(&worker, nullptr, 0) != 0) std::exit(1);
    const aiomq_handler handlers[] = {{"nothing", nothing, nullptr},
                                      {"wait_for_cancel", wait_for_cancel, nullptr}};
    aiomq_run_options options;
    aiomq_run_options_init(&options, sizeof options);
    options.handlers = handlers;
    options.handler_count = 2;
    options.cancel = cancel;
    std::exit(aiomq_worker_run(worker, &options) == 0 ? 0 : 1);
}

/// A pool of one worker, whose tasks are counted back.
class BenchPool {
  public:
    BenchPool() {
        const char *argv[] = {"/proc/self/exe", nullptr};
        char text[512] = "";
        aiomq_pool_options options;
        aiomq_pool_options_init(&options, sizeof options);
        options.label = "bench";
        options.workers = 1;
        options.argv = argv;
        options.capacity = 2 * kQueued;
        options.error_text = text;
        options.error_text_bytes = sizeof text;
        if (const int error = aiomq_pool_create(&options, &pool_); error != 0) die(text, error);
    }
    ~BenchPool() { aiomq_pool_destroy(&pool_); }
    BenchPool(const BenchPool &) = delete;
    BenchPool &operator=(const BenchPool &) = delete;

    aiomq_task task(const char *function) {
        aiomq_task task{};
        task.struct_bytes = sizeof task;
        task.items = 1;
        if (const int error = aiomq_pool_function(pool_, function, &task.function); error != 0)
            die("function", error);
        return task;
    }
    std::uint64_t submit(const aiomq_task &task) {
        std::uint64_t id = 0;
        if (const int error = aiomq_pool_submit(pool_, &task, &id); error != 0)
            die("submit", error);
        ++under_way_;
        return id;
    }
    /// Takes completions until that of @id; gives its status.
    int wait_for(std::uint64_t id) {
        int status = 0;
        while (status == 0)
            take([&](const aiomq_completion &one) {
                if (one.task_id == id) status = one.item.status;
            });
        return status;
    }
    void wait_for_all() {
        while (under_way_ > 0) take([](const aiomq_completion &) {});
    }
    aiomq_worker_stats worker() {
        aiomq_view *view = nullptr;
        if (const int error = aiomq_pool_view(pool_, &view); error != 0) die("view", error);
        aiomq_worker_stats stats{};
        stats.struct_bytes = sizeof stats;
        aiomq_view_worker(view, 0, &stats);
        aiomq_view_close(&view);
        return stats;
    }
    void wait_until_running() {
        while (worker().running == 0) usleep(100);
    }
    void cancel(std::uint64_t id) {
        if (const int error = aiomq_pool_cancel(pool_, id); error != 0) die("cancel", error);
    }

    double throughput(const aiomq_task &one) {
        const std::vector<aiomq_task> batch(kBatch, one);
        std::uint64_t sent = 0;
        const double start = bench::now_s();
        while (sent < kTasks || under_way_ > 0) {
            const std::uint64_t room = std::min(kWindow - under_way_, kTasks - sent);
            if (room > 0) {
                const std::int64_t done = aiomq_pool_submit_batch(
                    pool_, batch.data(), std::min<std::size_t>(room, kBatch), nullptr);
                if (done < 0) die("submit", static_cast<int>(done));
                sent += static_cast<std::uint64_t>(done);
                under_way_ += static_cast<std::uint64_t>(done);
                if (under_way_ < kWindow && sent < kTasks) continue;
            }
            take([](const aiomq_completion &) {});
        }
        return static_cast<double>(kTasks) / (bench::now_s() - start);
    }

  private:
    template <typename Look>
    void take(Look look) {
        aiomq_completion completions[kBatch];
        const std::int64_t count = aiomq_pool_collect(pool_, completions, kBatch);
        if (count == 0) aiomq_pool_wait(pool_, UINT64_MAX);
        for (std::int64_t i = 0; i < count; ++i) {
            look(completions[i]);
            aiomq_pool_release(pool_, completions[i].loan);
        }
        under_way_ -= static_cast<std::uint64_t>(count);
    }

    aiomq_pool *pool_ = nullptr;
    std::uint64_t under_way_ = 0;
};

/// From the kernel's word that the worker is gone to the last hint: what recovery delivers can be
/// collected when it has released the dispatcher's mutex, which is after its last hint.
double recovery_ms() {
    BenchPool pool;
    const std::uint64_t victim = pool.submit(pool.task("wait_for_cancel"));
    const aiomq_task queued = pool.task("nothing");
    pool.wait_until_running();
    for (std::uint32_t i = 0; i < kQueued; ++i) pool.submit(queued);
    const pid_t pid = pool.worker().pid;
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    kill(pid, SIGKILL);
    pollfd entry{pidfd, POLLIN, 0};
    if (poll(&entry, 1, -1) != 1) die("poll", -errno);
    const double start = bench::now_s();
    if (pool.wait_for(victim) != AIOMQ_WORKER_DIED) die("outcome", -EINVAL);
    const double result = (bench::now_s() - start) * 1e3;
    close(pidfd);
    pool.wait_for_all();
    return result;
}

/// From the call to the outcome, with a long queue behind the running task.
double cancel_ms() {
    BenchPool pool;
    const std::uint64_t victim = pool.submit(pool.task("wait_for_cancel"));
    const aiomq_task queued = pool.task("nothing");
    pool.wait_until_running();
    for (std::uint32_t i = 0; i < kQueued; ++i) pool.submit(queued);
    const double start = bench::now_s();
    pool.cancel(victim);
    if (pool.wait_for(victim) != AIOMQ_CANCELLED) die("outcome", -EINVAL);
    const double result = (bench::now_s() - start) * 1e3;
    pool.wait_for_all();
    return result;
}

}  // namespace

int main(int argc, char **argv) {
    run_as_worker();
    const std::string which = argc > 1 ? argv[1] : "";
    for (int repeat = 0; repeat < bench::kRepeats; ++repeat) {
        if (which == "recovery") {
            const char *row = "recovery, 10,000 queued";
            bench::report(row, "aiomq", repeat, recovery_ms(), "ms");
            bench::report(row, "allowed", repeat, kAllowedMs, "ms");
        } else if (which == "cancel") {
            const char *row = "cancel, 10,000 queued";
            bench::report(row, "aiomq", repeat, cancel_ms(), "ms");
            bench::report(row, "allowed", repeat, kAllowedMs, "ms");
        } else if (which == "limits") {
            BenchPool pool;
            const aiomq_task plain = pool.task("nothing");
            aiomq_task limited = plain;
            limited.start_within_ns = limited.timeout_ns = kHourNs;
            pool.throughput(plain);
            const char *row = "no-op with limits";
            bench::report(row, "aiomq, with limits", repeat, pool.throughput(limited), "tasks/s");
            bench::report(row, "without", repeat, pool.throughput(plain), "tasks/s");
        } else {
            std::fprintf(stderr, "usage: bench_life recovery|cancel|limits\n");
            return 2;
        }
    }
    return 0;
}
