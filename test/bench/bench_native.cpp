// No-op tasks through the public C ABI against a pair of boost::interprocess::message_queue, and the
// round trip of one task against the bare mechanism under it. Rows name the placement of the processes.
#include "native_peers.hpp"

int main() {
    bench::run_as_worker();
    const int own = bench::usable_cpu(0);
    const int other = bench::usable_cpu(1);
    for (int repeat = -1; repeat < bench::kRepeats; ++repeat) {
        const auto show = [&](const char *row, const char *side, double value, const char *unit) {
            if (repeat >= 0) bench::report(row, side, repeat, value, unit);
        };
        for (const bool two : {true, false}) {
            bench::pin(own);
            const int worker_cpu = two ? other : own;
            const char *row = two ? "native no-op, two CPUs" : "native no-op, one CPU";
            // What the library sees as usable CPUs follows from the dispatcher's own affinity.
            if (two && own != other) {
                cpu_set_t both;
                CPU_ZERO(&both);
                CPU_SET(static_cast<std::size_t>(own), &both);
                CPU_SET(static_cast<std::size_t>(other), &both);
                sched_setaffinity(0, sizeof both, &both);
            }
            {
                bench::BenchPool pool(worker_cpu, AIOMQ_SPIN_AUTO);
                bench::pin(own);
                pool.throughput(bench::kTasks / 10);
                show(row, "aiomq", pool.throughput(bench::kTasks), "tasks/s");
            }
            show(row, "boost message_queue pair",
                 bench::message_queue_throughput(own, worker_cpu, bench::kTasks / 4), "tasks/s");
        }
        bench::pin(own);
        {
            bench::BenchPool pool(other, 1000000000);
            pool.round_trip(bench::kRoundTrips / 10, true);
            show("native round trip, spinning", "aiomq", pool.round_trip(bench::kRoundTrips, true),
                 "ns");
            show("native round trip, spinning", "bare cache line",
                 bench::cache_line_round_trip(other, bench::kRoundTrips), "ns");
        }
        {
            bench::BenchPool pool(other, 0);
            pool.round_trip(bench::kSleepingRoundTrips / 10, false);
            show("native round trip, asleep", "aiomq",
                 pool.round_trip(bench::kSleepingRoundTrips, false), "ns");
            show("native round trip, asleep", "bare eventfd",
                 bench::eventfd_round_trip(other, bench::kSleepingRoundTrips), "ns");
        }
    }
}
