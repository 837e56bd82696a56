// aiomq.hpp: no-op tasks against ZeroMQ, Boost's message_queue and the C ABI; round trips; payloads; how
// long a worker takes to be ready, and what it weighs.
#include <zmq.h>

#include <aiomq/aiomq.hpp>
#include <deque>
#include <fstream>
#include <ranges>

#include "native_peers.hpp"

namespace {

constexpr std::uint64_t kCppTasks = 1000000;
constexpr int kPayloads = 40;
constexpr int kStarts = 15;

constexpr auto kNothing = aiomq::function<"nothing", [] {}>;
constexpr auto kIgnore = aiomq::function<"ignore", [](std::int64_t) {}>;
/// Where the argument lies, so that the dispatcher can tell that nobody has copied it.
constexpr auto kTake = aiomq::function<"take", [](std::span<const std::byte> bytes) {
    return std::tuple(
        static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(bytes.data()) % 4096),
        static_cast<std::int64_t>(bytes.size()));
}>;

aiomq::PoolOptions one_worker() {
    aiomq::PoolOptions options;
    options.workers = 1;
    options.label = "bench";
    return options;
}

/// Tasks a second through Future, with a window of them under way.
double future_throughput(aiomq::Pool &pool, std::uint64_t tasks) {
    std::deque<aiomq::Future<void>> window;
    const double start = bench::now_s();
    for (std::uint64_t sent = 0; sent < tasks; ++sent) {
        if (window.size() == bench::kWindow) {
            window.front().get();
            window.pop_front();
        }
        window.push_back(pool.submit(kNothing));
    }
    for (auto &future : window) future.get();
    return static_cast<double>(tasks) / (bench::now_s() - start);
}

/// The same as a map, with that window.
double map_throughput(aiomq::Pool &pool, std::uint64_t tasks) {
    const auto source = std::views::iota(std::int64_t{0}, static_cast<std::int64_t>(tasks));
    const double start = bench::now_s();
    auto map = pool.map(kIgnore, source, {.buffersize = bench::kWindow});
    std::uint64_t done = 0;
    while (map.next()) ++done;
    if (done != tasks) bench::die("map", -EIO);
    return static_cast<double>(tasks) / (bench::now_s() - start);
}

void must(int outcome, const char *what) {
    if (outcome >= 0) return;
    std::perror(what);
    std::exit(1);
}

/// PUSH there, PUSH back, over ipc://.
double zeromq_throughput(int own_cpu, int other_cpu, std::uint64_t tasks) {
    const std::string base = "ipc:///tmp/aiomq-bench-" + std::to_string(getpid());
    const std::string there = base + "-there";
    const std::string back = base + "-back";
    const pid_t pid = bench::child(other_cpu, [&] {
        void *context = zmq_ctx_new();
        void *in = zmq_socket(context, ZMQ_PULL);
        void *out = zmq_socket(context, ZMQ_PUSH);
        must(zmq_connect(in, there.c_str()), "zmq_connect");
        must(zmq_connect(out, back.c_str()), "zmq_connect");
        char message[bench::kMessageBytes];
        for (std::uint64_t i = 0; i < tasks; ++i) {
            must(zmq_recv(in, message, sizeof message, 0), "zmq_recv");
            must(zmq_send(out, message, sizeof message, 0), "zmq_send");
        }
        zmq_close(in);
        zmq_close(out);
        zmq_ctx_term(context);
    });
    bench::pin(own_cpu);
    void *context = zmq_ctx_new();
    void *out = zmq_socket(context, ZMQ_PUSH);
    void *in = zmq_socket(context, ZMQ_PULL);
    must(zmq_bind(out, there.c_str()), "zmq_bind");
    must(zmq_bind(in, back.c_str()), "zmq_bind");
    char message[bench::kMessageBytes] = {};
    std::uint64_t sent = 0;
    const double start = bench::now_s();
    for (std::uint64_t got = 0; got < tasks; ++got) {
        while (sent < tasks && sent - got < bench::kWindow) {
            must(zmq_send(out, message, sizeof message, 0), "zmq_send");
            ++sent;
        }
        must(zmq_recv(in, message, sizeof message, 0), "zmq_recv");
    }
    const double result = static_cast<double>(tasks) / (bench::now_s() - start);
    zmq_close(in);
    zmq_close(out);
    zmq_ctx_term(context);
    bench::wait_for(pid);
    return result;
}

/// Bytes a second of payloads that a task receives.
double payload_rate(aiomq::Pool &pool, const aiomq::Bytes &payload, int count) {
    constexpr std::size_t kUnderWay = 2;
    std::deque<aiomq::Future<std::tuple<std::int64_t, std::int64_t>>> window;
    const auto take = [&] {
        if (std::get<1>(window.front().get()) != static_cast<std::int64_t>(payload.size()))
            bench::die("payload", -EIO);
        window.pop_front();
    };
    const double start = bench::now_s();
    for (int i = 0; i < count; ++i) {
        if (window.size() == kUnderWay) take();
        window.push_back(pool.submit(kTake, payload));
    }
    while (!window.empty()) take();
    return static_cast<double>(payload.size()) * count / (bench::now_s() - start);
}

double memcpy_rate(const aiomq::Bytes &payload, aiomq::Bytes &target, int count) {
    const double start = bench::now_s();
    for (int i = 0; i < count; ++i) {
        std::memcpy(target.data(), payload.data(), payload.size());
        asm volatile("" : : "r"(target.data()) : "memory");
    }
    return static_cast<double>(payload.size()) * count / (bench::now_s() - start);
}

double private_dirty_kib(int pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/smaps_rollup");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("Private_Dirty:")) return std::stod(line.substr(14));
    return 0;
}

}  // namespace

int main() {
    if (aiomq::Worker::is_started()) {
        if (std::getenv("AIOMQ_BENCH_PLAIN") != nullptr) bench::run_as_worker();
        if (const char *cpu = std::getenv("AIOMQ_BENCH_CPU")) bench::pin(std::atoi(cpu));
        aiomq::run_if_worker(kNothing, kIgnore, kTake);
    }
    const int own = bench::usable_cpu(0);
    const int other = bench::usable_cpu(1);
    cpu_set_t both;
    CPU_ZERO(&both);
    CPU_SET(static_cast<std::size_t>(own), &both);
    CPU_SET(static_cast<std::size_t>(other), &both);
    for (int repeat = -1; repeat < bench::kRepeats; ++repeat) {
        const auto show = [&](const char *row, const char *side, double value, const char *unit) {
            if (repeat >= 0) bench::report(row, side, repeat, value, unit);
        };
        setenv("AIOMQ_BENCH_CPU", std::to_string(other).c_str(), 1);
        sched_setaffinity(0, sizeof both, &both);
        {
            aiomq::Pool pool(one_worker());
            bench::pin(own);
            map_throughput(pool, kCppTasks / 10);
            show("C++ no-op", "aiomq", map_throughput(pool, kCppTasks), "tasks/s");
            future_throughput(pool, kCppTasks / 10);
            show("C++ no-op, a Future each", "aiomq", future_throughput(pool, kCppTasks),
                 "tasks/s");
        }
        sched_setaffinity(0, sizeof both, &both);
        setenv("AIOMQ_BENCH_PLAIN", "1", 1);
        {
            bench::BenchPool pool(other, AIOMQ_SPIN_AUTO);
            bench::pin(own);
            pool.throughput(kCppTasks / 10);
            show("C++ no-op", "C ABI", pool.throughput(kCppTasks), "tasks/s");
        }
        const double zeromq = zeromq_throughput(own, other, kCppTasks / 4);
        show("C++ no-op", "ZeroMQ ipc", zeromq, "tasks/s");
        show("C++ no-op, a Future each", "ZeroMQ ipc", zeromq, "tasks/s");
        show("C++ no-op", "boost message_queue pair",
             bench::message_queue_throughput(own, other, kCppTasks / 4), "tasks/s");
        bench::pin(own);
        {
            bench::BenchPool pool(other, 1000000000);
            pool.round_trip(bench::kRoundTrips / 10, true);
            show("round trip, spinning", "aiomq", pool.round_trip(bench::kRoundTrips, true), "ns");
            show("round trip, spinning", "bare cache line",
                 bench::cache_line_round_trip(other, bench::kRoundTrips), "ns");
        }
        {
            bench::BenchPool pool(other, 0);
            pool.round_trip(bench::kSleepingRoundTrips / 10, false);
            show("round trip, asleep", "aiomq", pool.round_trip(bench::kSleepingRoundTrips, false),
                 "ns");
            show("round trip, asleep", "bare eventfd",
                 bench::eventfd_round_trip(other, bench::kSleepingRoundTrips), "ns");
        }
        unsetenv("AIOMQ_BENCH_PLAIN");
        sched_setaffinity(0, sizeof both, &both);
        {
            // Copies of 50 us each: without sleeping between them it is their bandwidth that is measured.
            aiomq::PoolOptions options = one_worker();
            options.spin = std::chrono::milliseconds(1);
            aiomq::Pool pool(options);
            bench::pin(own);
            for (const auto &[row, bytes] :
                 {std::pair("1 MiB to a worker", std::size_t{1} << 20),
                  std::pair("64 MiB to a worker", std::size_t{64} << 20)}) {
                const aiomq::Bytes payload(bytes, std::byte{1});
                aiomq::Bytes target(bytes);
                const int count = bytes > (1U << 20) ? kPayloads / 8 : kPayloads * 8;
                payload_rate(pool, payload, 4);
                show(row, "aiomq", payload_rate(pool, payload, count), "bytes/s");
                memcpy_rate(payload, target, count / 4 + 1);
                show(row, "memcpy", memcpy_rate(payload, target, count), "bytes/s");
            }
        }
        sched_setaffinity(0, sizeof both, &both);
        unsetenv("AIOMQ_BENCH_CPU");
        for (int start = 0; start < kStarts; ++start) {
            const double begin = bench::now_s();
            aiomq::Pool pool(one_worker());
            const double took = bench::now_s() - begin;
            const int place = repeat * kStarts + start;
            if (repeat < 0) continue;
            bench::report("a native worker is ready", "aiomq", place, took * 1e3, "ms");
            bench::report("a native worker is ready", "allowed", place, 10, "ms");
            if (start != 0) continue;
            aiomq_view *view = nullptr;
            aiomq_worker_stats stats{};
            stats.struct_bytes = sizeof stats;
            aiomq_pool_view(pool.handle(), &view);
            aiomq_view_worker(view, 0, &stats);
            aiomq_view_close(&view);
            show("idle native worker", "aiomq", private_dirty_kib(stats.pid), "KiB");
            show("idle native worker", "allowed", 3072, "KiB");
        }
    }
}
