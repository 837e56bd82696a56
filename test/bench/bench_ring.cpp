// The hint ring against boost::lockfree::queue of the same capacity, across processes.
#include <boost/lockfree/queue.hpp>

#include "measure.hpp"
#include "ring.hpp"

namespace {

constexpr std::uint32_t kCapacity = 4096;
constexpr std::uint32_t kPerProducer = 1000000;

struct OurQueue {
    OurQueue() : ring(cells, kCapacity, &head, &tail) { ring.initialise(); }
    bool push(std::uint32_t value) { return ring.push(value) == aiomq::RingStatus::kOk; }
    bool pop(std::uint32_t &value) { return ring.pop(value) == aiomq::RingStatus::kOk; }

    alignas(64) aiomq::Atomic<std::uint64_t> head;
    alignas(64) aiomq::Atomic<std::uint64_t> tail;
    alignas(64) aiomq::Atomic<std::uint64_t> cells[kCapacity];
    // The children are forks: the addresses inside stay right.
    aiomq::Ring ring;
};

struct BoostQueue {
    bool push(std::uint32_t value) { return queue.push(value); }
    bool pop(std::uint32_t &value) { return queue.pop(value); }
    boost::lockfree::queue<std::uint32_t, boost::lockfree::capacity<kCapacity>> queue;
};

template <typename Queue>
struct Arena {
    Queue queue;
    alignas(64) aiomq::Atomic<std::uint32_t> go;
    alignas(64) aiomq::Atomic<std::uint64_t> taken;
    alignas(64) aiomq::Atomic<std::uint64_t> sum;
};

/// Values a second through the queue with @pairs producers and as many consumers.
template <typename Queue>
double throughput(int pairs) {
    auto *arena = bench::shared<Arena<Queue>>();
    const std::uint64_t total = std::uint64_t{kPerProducer} * static_cast<std::uint64_t>(pairs);
    pid_t pids[8];
    for (int i = 0; i < pairs; ++i) {
        pids[2 * i] = bench::child(bench::usable_cpu(0), [&] {
            while (arena->go.load_acquire() == 0) aiomq::cpu_relax();
            for (std::uint32_t value = 1; value <= kPerProducer; ++value)
                while (!arena->queue.push(value)) sched_yield();
        });
        pids[2 * i + 1] = bench::child(bench::usable_cpu(1), [&] {
            while (arena->go.load_acquire() == 0) aiomq::cpu_relax();
            std::uint64_t sum = 0;
            std::uint64_t batch = 0;
            // The shared count is touched only when there was nothing, so as not to be measured.
            while (arena->taken.load_relaxed() + batch < total) {
                std::uint32_t value = 0;
                if (arena->queue.pop(value)) {
                    sum += value;
                    ++batch;
                    continue;
                }
                arena->taken.fetch_add_relaxed(batch);
                batch = 0;
                sched_yield();
            }
            arena->taken.fetch_add_relaxed(batch);
            arena->sum.fetch_add_relaxed(sum);
        });
    }
    const double start = bench::now_s();
    arena->go.store_release(1);
    for (int i = 0; i < 2 * pairs; ++i) bench::wait_for(pids[i]);
    const double seconds = bench::now_s() - start;
    const std::uint64_t each = std::uint64_t{kPerProducer} * (kPerProducer + 1) / 2;
    if (arena->sum.load_relaxed() != each * static_cast<std::uint64_t>(pairs)) {
        std::fprintf(stderr, "values were lost or doubled\n");
        std::exit(1);
    }
    munmap(static_cast<void *>(arena), sizeof *arena);
    return static_cast<double>(total) / seconds;
}

}  // namespace

int main() {
    for (int repeat = -1; repeat < bench::kRepeats; ++repeat) {
        for (const int pairs : {1, 2}) {
            const char *row = pairs == 1 ? "ring 1P1C" : "ring 2P2C";
            const double ours = throughput<OurQueue>(pairs);
            const double theirs = throughput<BoostQueue>(pairs);
            if (repeat < 0) continue;  // warm-up
            bench::report(row, "aiomq::Ring", repeat, ours, "values/s");
            bench::report(row, "boost::lockfree::queue", repeat, theirs, "values/s");
        }
    }
}
