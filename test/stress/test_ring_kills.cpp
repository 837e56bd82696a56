// The hint ring between processes that are killed at any instruction: it stays usable, gives no value
// twice, and loses at most the one value that a killed popper had in its hands.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <new>
#include <vector>

#include "../unit/seeded.hpp"
#include "ring.hpp"
#include "sys.hpp"

using aiomq::Atomic;
using aiomq::Ring;
using aiomq::RingStatus;
using aiomq_test::Random;

namespace {

constexpr std::uint32_t kCapacity = 64;
constexpr std::uint32_t kPushers = 2;
constexpr std::uint32_t kPoppers = 2;
constexpr std::uint32_t kMaxValues = 1U << 22;
constexpr int kRounds = 300;

/// What the processes share.
struct Shared {
    alignas(64) Atomic<std::uint64_t> head;
    alignas(64) Atomic<std::uint64_t> tail;
    alignas(64) Atomic<std::uint32_t> stop;
    Atomic<std::uint32_t> corrupt;
    alignas(64) Atomic<std::uint32_t> next_value;
    Atomic<std::uint64_t> cells[kCapacity];
    Atomic<std::uint32_t> pushed[kMaxValues];  ///< 1: push() has returned kOk
    Atomic<std::uint32_t> popped[kMaxValues];  ///< how often
};

Ring ring_of(Shared &shared) { return {shared.cells, kCapacity, &shared.head, &shared.tail}; }

void push_for_ever(Shared &shared) {
    Ring ring = ring_of(shared);
    while (shared.stop.load_relaxed() == 0) {
        const std::uint32_t value = shared.next_value.fetch_add_relaxed(1);
        if (value >= kMaxValues) return;
        RingStatus status = RingStatus::kFull;
        while (shared.stop.load_relaxed() == 0 && (status = ring.push(value)) == RingStatus::kFull)
            sched_yield();
        if (status == RingStatus::kOk) shared.pushed[value].store_release(1);
        if (status == RingStatus::kCorrupt) shared.corrupt.store_release(1);
    }
}

void pop_for_ever(Shared &shared) {
    Ring ring = ring_of(shared);
    while (shared.stop.load_relaxed() == 0) {
        std::uint32_t value = 0;
        const RingStatus status = ring.pop(value);
        if (status == RingStatus::kOk && value < kMaxValues)
            shared.popped[value].fetch_add_relaxed(1);
        else if (status == RingStatus::kEmpty)
            sched_yield();
        else
            shared.corrupt.store_release(1);
    }
}

pid_t start(Shared &shared, bool pusher) {
    const pid_t child = fork();
    if (child == 0) {
        if (pusher)
            push_for_ever(shared);
        else
            pop_for_ever(shared);
        _exit(0);
    }
    return child;
}

}  // namespace

namespace {

void play(Random &random) {
    void *memory =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    Shared &shared = *new (memory) Shared;
    ring_of(shared).initialise();
    std::vector<pid_t> processes;
    for (std::uint32_t i = 0; i < kPushers + kPoppers; ++i)
        processes.push_back(start(shared, i < kPushers));
    std::uint32_t popper_kills = 0;
    std::uint32_t pusher_kills = 0;
    for (int round = 0; round < kRounds && shared.corrupt.load_acquire() == 0; ++round) {
        usleep(static_cast<useconds_t>(random.below(2000)));  // where it hits is what is random
        const auto victim = static_cast<std::uint32_t>(random.below(processes.size()));
        kill(processes[victim], SIGKILL);
        waitpid(processes[victim], nullptr, 0);
        ++(victim < kPushers ? pusher_kills : popper_kills);
        processes[victim] = start(shared, victim < kPushers);
        if (shared.next_value.load_relaxed() >= kMaxValues) break;
    }
    shared.stop.store_release(1);
    for (const pid_t process : processes) waitpid(process, nullptr, 0);
    ASSERT_EQ(shared.corrupt.load_acquire(), 0U) << "kCorrupt though nothing was scribbled";
    Ring ring = ring_of(shared);
    for (std::uint32_t value = 0; ring.pop(value) == RingStatus::kOk;)
        shared.popped[value].fetch_add_relaxed(1);
    // As good as new: it takes a full lap and gives it back in order.
    for (std::uint32_t i = 0; i < kCapacity; ++i) ASSERT_EQ(ring.push(i), RingStatus::kOk);
    ASSERT_EQ(ring.push(0), RingStatus::kFull);
    for (std::uint32_t i = 0, value = 0; i < kCapacity; ++i) {
        ASSERT_EQ(ring.pop(value), RingStatus::kOk);
        ASSERT_EQ(value, i);
    }
    std::uint32_t lost = 0;
    std::uint32_t total = 0;
    for (std::uint32_t value = 0; value < kMaxValues; ++value) {
        const std::uint32_t times = shared.popped[value].load_relaxed();
        ASSERT_LE(times, 1U) << "value " << value << " came twice";
        total += times;
        lost += shared.pushed[value].load_relaxed() != 0 && times == 0;
    }
    std::printf("%u values, %u lost, %u poppers and %u pushers killed\n", total, lost, popper_kills,
                pusher_kills);
    EXPECT_GT(total, 1000U);
    EXPECT_LE(lost, popper_kills);
    munmap(memory, sizeof(Shared));
}

}  // namespace

TEST(RingKills, LeaveTheRingUsableAndCostAtMostWhatAPopperHeld) {
    Random random;
    for (std::uint64_t game = 0; game < aiomq_test::rounds(2, 300); ++game) {
        play(random);
        if (HasFatalFailure()) return;
    }
}
