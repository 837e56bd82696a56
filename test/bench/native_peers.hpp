// No-op tasks through the C ABI, and what they are measured against: a pair of Boost message queues, and
// the bare mechanisms under a round trip.
#pragma once

#include <aiomq/aiomq.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <boost/interprocess/ipc/message_queue.hpp>
#include <cstring>
#include <vector>

#include "atomic.hpp"
#include "measure.hpp"

namespace bench {

inline constexpr std::size_t kWindow = 1024;
inline constexpr std::size_t kBatch = 64;  // tasks handed over in one call
inline constexpr std::uint64_t kTasks = 1500000;
inline constexpr std::size_t kMessageBytes = 64;
inline constexpr int kRoundTrips = 200000;
inline constexpr int kSleepingRoundTrips = 20000;

[[noreturn]] inline void die(const char *what, int error) {
    std::fprintf(stderr, "%s: %s\n", what, aiomq_strerror(error));
    std::exit(1);
}

inline int nothing(const aiomq_call *, aiomq_item *) { return 0; }

inline void run_as_worker() {
    if (std::getenv("AIOMQ_WORKER") == nullptr) return;
    if (const char *cpu = std::getenv("AIOMQ_BENCH_CPU")) pin(std::atoi(cpu));
    aiomq_worker *worker = nullptr;
    if (aiomq_worker_open(&worker, nullptr, 0) != 0) std::exit(1);
    const aiomq_handler handler = {"nothing", nothing, nullptr};
    aiomq_run_options options;
    aiomq_run_options_init(&options, sizeof options);
    options.handlers = &handler;
    options.handler_count = 1;
    std::exit(aiomq_worker_run(worker, &options) == 0 ? 0 : 1);
}

/// A pool with one worker on @worker_cpu.
class BenchPool {
  public:
    BenchPool(int worker_cpu, std::uint64_t spin_ns) {
        setenv("AIOMQ_BENCH_CPU", std::to_string(worker_cpu).c_str(), 1);
        char text[512] = "";
        const char *argv[] = {"/proc/self/exe", nullptr};
        aiomq_pool_options options;
        aiomq_pool_options_init(&options, sizeof options);
        options.label = "bench";
        options.workers = 1;
        options.argv = argv;
        options.spin_ns = spin_ns;
        options.error_text = text;
        options.error_text_bytes = sizeof text;
        const int error = aiomq_pool_create(&options, &pool_);
        if (error != 0) die(text, error);
        task_.struct_bytes = sizeof task_;
        task_.items = 1;
        aiomq_pool_function(pool_, "nothing", &task_.function);
    }
    ~BenchPool() { aiomq_pool_destroy(&pool_); }
    BenchPool(const BenchPool &) = delete;
    BenchPool &operator=(const BenchPool &) = delete;

    /// Tasks a second with kWindow of them under way.
    double throughput(std::uint64_t tasks) {
        std::vector<aiomq_task> batch(kBatch, task_);
        std::vector<aiomq_completion> completions(kBatch);
        std::uint64_t sent = 0;
        std::uint64_t back = 0;
        const double start = now_s();
        while (back < tasks) {
            for (;;) {
                const std::uint64_t room = std::min(kWindow - (sent - back), tasks - sent);
                if (room == 0) break;
                const std::int64_t done = aiomq_pool_submit_batch(
                    pool_, batch.data(), std::min<std::size_t>(room, kBatch), nullptr);
                if (done < 0) die("submit", static_cast<int>(done));
                sent += static_cast<std::uint64_t>(done);
            }
            const std::int64_t got = aiomq_pool_collect(pool_, completions.data(), kBatch);
            if (got == 0)
                aiomq_pool_wait(pool_, UINT64_MAX);
            else
                back += static_cast<std::uint64_t>(got);
        }
        return static_cast<double>(tasks) / (now_s() - start);
    }

    /// Nanoseconds of one round trip. @spin: busy on both sides, else asleep on both.
    double round_trip(int rounds, bool spin) {
        aiomq_completion completion;
        const double start = now_s();
        for (int i = 0; i < rounds; ++i) {
            if (const int error = aiomq_pool_submit(pool_, &task_, nullptr); error != 0)
                die("submit", error);
            while (aiomq_pool_collect(pool_, &completion, 1) == 0)
                if (!spin) aiomq_pool_wait(pool_, UINT64_MAX);
        }
        return (now_s() - start) * 1e9 / rounds;
    }

  private:
    aiomq_pool *pool_ = nullptr;
    aiomq_task task_{};
};

inline double message_queue_throughput(int own_cpu, int other_cpu, std::uint64_t tasks) {
    namespace ipc = boost::interprocess;
    const std::string base = "aiomq-bench-" + std::to_string(getpid());
    const std::string names[2] = {base + "-request", base + "-reply"};
    for (const auto &name : names) ipc::message_queue::remove(name.c_str());
    double result = 0;
    {
        ipc::message_queue request(ipc::create_only, names[0].c_str(), kWindow, kMessageBytes);
        ipc::message_queue reply(ipc::create_only, names[1].c_str(), kWindow, kMessageBytes);
        const pid_t pid = child(other_cpu, [&] {
            char message[kMessageBytes];
            ipc::message_queue::size_type bytes = 0;
            unsigned priority = 0;
            for (std::uint64_t i = 0; i < tasks; ++i) {
                request.receive(message, sizeof message, bytes, priority);
                reply.send(message, sizeof message, 0);
            }
        });
        pin(own_cpu);
        char message[kMessageBytes] = {};
        ipc::message_queue::size_type bytes = 0;
        unsigned priority = 0;
        std::uint64_t sent = 0;
        std::uint64_t back = 0;
        const double start = now_s();
        while (back < tasks) {
            while (sent < tasks && sent - back < kWindow &&
                   request.try_send(message, sizeof message, 0))
                ++sent;
            reply.receive(message, sizeof message, bytes, priority);
            ++back;
            while (back < sent && reply.try_receive(message, sizeof message, bytes, priority))
                ++back;
        }
        result = static_cast<double>(tasks) / (now_s() - start);
        wait_for(pid);
    }
    for (const auto &name : names) ipc::message_queue::remove(name.c_str());
    return result;
}

/// Two processes hand one cache line to and fro.
inline double cache_line_round_trip(int other_cpu, int rounds) {
    struct Lines {
        alignas(64) aiomq::Atomic<std::uint32_t> ping;
        alignas(64) aiomq::Atomic<std::uint32_t> pong;
    };
    auto *lines = shared<Lines>();
    const auto total = static_cast<std::uint32_t>(rounds);
    const pid_t pid = child(other_cpu, [&] {
        for (std::uint32_t i = 1; i <= total; ++i) {
            while (lines->ping.load_acquire() != i) aiomq::cpu_relax();
            lines->pong.store_release(i);
        }
    });
    double start = 0;
    for (std::uint32_t i = 1; i <= total; ++i) {
        lines->ping.store_release(i);
        while (lines->pong.load_acquire() != i) aiomq::cpu_relax();
        if (i == 1) start = now_s();  // the child runs now
    }
    const double result = (now_s() - start) * 1e9 / rounds;
    wait_for(pid);
    munmap(static_cast<void *>(lines), sizeof *lines);
    return result;
}

/// Two processes wake each other through eventfds.
inline double eventfd_round_trip(int other_cpu, int rounds) {
    const int ping = eventfd(0, EFD_CLOEXEC);
    const int pong = eventfd(0, EFD_CLOEXEC);
    const auto give = [](int fd) {
        const std::uint64_t one = 1;
        if (write(fd, &one, sizeof one) != sizeof one) std::exit(1);
    };
    const auto take = [](int fd) {
        std::uint64_t count = 0;
        if (read(fd, &count, sizeof count) != sizeof count) std::exit(1);
    };
    const pid_t pid = child(other_cpu, [&] {
        for (int i = 0; i < rounds; ++i) {
            take(ping);
            give(pong);
        }
    });
    const double start = now_s();
    for (int i = 0; i < rounds; ++i) {
        give(ping);
        take(pong);
    }
    const double result = (now_s() - start) * 1e9 / rounds;
    wait_for(pid);
    close(ping);
    close(pong);
    return result;
}

}  // namespace bench
