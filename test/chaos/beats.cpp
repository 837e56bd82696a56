#include "beats.hpp"

#include <algorithm>
#include <cstdlib>

#include "../support/clock.hpp"

namespace chaos {
namespace {

using aiomq_test::now_ns;

constexpr std::uint32_t kItems = 64;  ///< of a task
constexpr std::size_t kBatch = 16;    ///< tasks per submit
constexpr std::uint64_t kUnderWay = (kCapacity - kBatch) * kItems;

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

/// Items that came back.
std::uint64_t collect_beats(MixedPool &pool) {
    aiomq_completion completions[kBatch];
    const std::int64_t count = aiomq_pool_collect(pool.get(), completions, kBatch);
    std::uint64_t items = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        for (std::uint32_t item = 0; item < completions[i].item_count; ++item)
            if (completions[i].items[item].status != AIOMQ_OK) abort();
        items += completions[i].item_count;
        aiomq_pool_release(pool.get(), completions[i].loan);
    }
    return items;
}

}  // namespace

double beats_of(MixedPool &pool, std::uint64_t milliseconds) {
    aiomq_task tasks[kBatch]{};
    for (aiomq_task &task : tasks) {
        task.struct_bytes = sizeof task;
        task.function = pool.functions().beat;
        task.kind = AIOMQ_KIND_INT;
        task.items = kItems;
    }
    const std::uint64_t start = now_ns();
    const std::uint64_t end = start + milliseconds * 1'000'000;
    std::uint64_t under_way = 0;
    std::uint64_t done = 0;
    while (now_ns() < end) {
        if (under_way < kUnderWay) {
            const std::int64_t count = aiomq_pool_submit_batch(pool.get(), tasks, kBatch, nullptr);
            if (count > 0) under_way += static_cast<std::uint64_t>(count) * kItems;
        }
        const std::uint64_t count = collect_beats(pool);
        if (count == 0) aiomq_pool_wait(pool.get(), 1'000'000);
        under_way -= count;
        done += count;
    }
    const double seconds = static_cast<double>(now_ns() - start) / 1e9;
    while (under_way > 0) {
        const std::uint64_t count = collect_beats(pool);
        if (count == 0) aiomq_pool_wait(pool.get(), 1'000'000);
        under_way -= count;
    }
    return static_cast<double>(done) / seconds;
}

double round_trip_us(MixedPool &pool) {
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.function = pool.functions().beat;
    task.items = 1;
    const std::uint64_t start = now_ns();
    if (aiomq_pool_submit(pool.get(), &task, nullptr) != 0) abort();
    while (collect_beats(pool) == 0) aiomq_pool_wait(pool.get(), UINT64_MAX);
    return static_cast<double>(now_ns() - start) / 1e3;
}

Beats compare(MixedPool &pool, MixedPool &reference, int windows, std::uint64_t milliseconds) {
    std::vector<double> rates;
    std::vector<double> ratios;
    beats_of(pool, milliseconds);  // warm
    beats_of(reference, milliseconds);
    for (int i = 0; i < windows; ++i) {
        // In turn also who is first.
        const double first = beats_of(i % 2 == 0 ? pool : reference, milliseconds);
        const double second = beats_of(i % 2 == 0 ? reference : pool, milliseconds);
        rates.push_back(i % 2 == 0 ? first : second);
        ratios.push_back(i % 2 == 0 ? first / second : second / first);
    }
    return {median(rates), median(ratios)};
}

}  // namespace chaos
