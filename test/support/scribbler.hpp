// Scribbler: a task that writes over all that its worker may write, for tests of what that can do to
// others. `const MoreBodies kMore{aiomq_test::kScribble};` gives it to the workers.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../../lib/core/format.hpp"
#include "clock.hpp"
#include "pool_fixture.hpp"

namespace aiomq_test {

/// splitmix64 (Steele, Lea, Flood, OOPSLA 2014)
class Splitmix {
  public:
    explicit Splitmix(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31);
    }
    std::uint64_t below(std::uint64_t limit) { return next() % limit; }

  private:
    std::uint64_t state_;
};

/// A part of the memory that a worker may write.
struct Part {
    std::uint64_t offset;
    std::uint64_t bytes;
};

enum ScribbleMode : std::uint64_t {
    kSlots,       // a few words of the slots
    kCommon,      // a few words of what all workers share
    kSleepers,    // of the sleeping flags and ring heads
    kOwnArea,     // of what this worker says of itself
    kOwnArena,    // of its results
    kOneBit,      // one bit of the slots
    kWholeSlots,  // all slots
    kEverything,  // all there is
    kAgain,       // a few words of all there is, again and again for some milliseconds
    kScribbleModes
};

class Scribbler {
  public:
    static constexpr int kMemory = 3;  // the descriptor, in every worker

    explicit Scribbler(std::uint64_t seed) : random_(seed) {
        aiomq::Header header;
        if (pread(kMemory, static_cast<void *>(&header), sizeof header, 0) != sizeof header)
            _exit(9);
        std::memcpy(&layout_, &header.statistics.layout, sizeof layout_);
        memory_ = static_cast<unsigned char *>(
            mmap(nullptr, layout_.segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kMemory, 0));
        if (memory_ == MAP_FAILED) _exit(9);
    }
    ~Scribbler() { munmap(memory_, layout_.segment_bytes); }
    Scribbler(const Scribbler &) = delete;
    Scribbler &operator=(const Scribbler &) = delete;

    void scribble(std::uint64_t mode, std::uint64_t worker) {
        const Part slots{layout_.slots_offset, layout_.slots * sizeof(aiomq::Slot)};
        const Part common{layout_.common_offset, layout_.common_end - layout_.common_offset};
        const Part flags{layout_.flags_offset, sizeof(aiomq::SleepFlags)};
        const Part heads{layout_.heads_offset, layout_.queues * sizeof(aiomq::QueueHead)};
        const Part area{layout_.workers_offset + worker * layout_.worker_area_bytes,
                        layout_.worker_area_bytes};
        const Part start_of_area{area.offset, 256};
        const Part arena{layout_.result_arenas_offset + worker * layout_.arena_bytes, 64 << 10};
        const std::vector<Part> all{slots, common, flags, heads, area, start_of_area, arena};
        switch (mode) {
            case kSlots:
                return few({slots});
            case kCommon:
                return few({common});
            case kSleepers:
                return few({flags, heads});
            case kOwnArea:
                return few({area, start_of_area});
            case kOwnArena:
                return few({arena});
            case kOneBit:
                memory_[slots.offset + random_.below(slots.bytes)] ^=
                    static_cast<unsigned char>(1U << random_.below(8));
                return;
            case kWholeSlots:
                return fill(slots);
            case kEverything:
                for (const Part &part : all) fill(part);
                return;
            default:
                for (const std::uint64_t end = now_ns() + 5'000'000; now_ns() < end;) few(all);
        }
    }

  private:
    void few(const std::vector<Part> &parts) {
        for (std::uint64_t left = 1 + random_.below(32); left > 0; --left) {
            const Part &part = parts[random_.below(parts.size())];
            put(part.offset + random_.below(part.bytes / 8) * 8, value());
        }
    }
    void fill(const Part &part) {
        for (std::uint64_t i = 0; i + 8 <= part.bytes; i += 8) put(part.offset + i, random_.next());
    }
    void put(std::uint64_t offset, std::uint64_t word) {
        std::memcpy(memory_ + offset, &word, sizeof word);
    }
    /// What looks right gets furthest.
    std::uint64_t value() {
        switch (random_.below(8)) {
            case 0:
                return 0;
            case 1:
                return ~0ULL;
            case 2:
                return random_.below(256);
            case 3:
                return random_.below(256) << 32 | random_.below(256);
            case 4:
                return layout_.result_arenas_offset + random_.below(1024) * 64;
            case 5:  // a slot's word
                return random_.below(8) << 61 |
                       random_.below(random_.below(4) == 0 ? 256 : 2) << 53 |
                       random_.below(layout_.workers + 1) << 43 | 1ULL << 32 | random_.below(8);
            case 6:
                return 1ULL << random_.below(64);
            default:
                return random_.next();
        }
    }

    Splitmix random_;
    aiomq::Layout layout_{};
    unsigned char *memory_ = nullptr;
};

/// Payload "seed mode end": scribbles, then ends well (0), by a signal (1) or an exit (2).
inline int scribble(const aiomq_call *call, aiomq_item *) {
    unsigned long long seed = 0;
    unsigned long long mode = 0;
    int end = 0;
    if (std::sscanf(payload_of(call).c_str(), "%llu %llu %d", &seed, &mode, &end) != 3)
        return -EINVAL;
    Scribbler(seed).scribble(mode, static_cast<std::uint64_t>(aiomq_worker_index(call->worker)));
    if (end == 1) kill(getpid(), SIGKILL);
    if (end == 2) _exit(3);
    return 0;
}

inline constexpr aiomq_handler kScribble{"scribble", scribble, nullptr};

}  // namespace aiomq_test
