// Ledger: a mapped file of its own, beside the pool's memory, in which workers note what they really ran.
//
// Each worker's place has a ring of entries with one writer at a time (a place is filled again only after
// the kernel has confirmed its last process's death) and one reader, the auditor. An entry counts once
// `head` is past it, so a kill in the middle of writing leaves nothing. The file also holds a text of
// random bytes: payloads and results are slices of it, which both ends know without being told.
//
// test/chaos/chaos_worker.py writes the same rings; change both.
#pragma once

#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>

namespace chaos {

enum class What : std::uint32_t {
    kBegin = 1,    ///< the item's body begins
    kEnd = 2,      ///< its result is ready and will be published next
    kStopped = 3,  ///< it ends because it was told to
    kWrong = 4,    ///< its payload, or a nested answer, was not what it should be
};

struct Entry {
    std::uint64_t key;  ///< of the task, see Order
    std::uint32_t item;
    What what;
    std::uint64_t run;     ///< pid and number: one per execution
    std::uint64_t detail;  ///< CLOCK_MONOTONIC; of kWrong: what was
};
static_assert(sizeof(Entry) == 32);

constexpr std::uint32_t kRingEntries = 1U << 15;
constexpr std::uint64_t kTextWindow = 1U << 20;  ///< slices begin in here
constexpr std::uint64_t kMostBytes = 5U << 20;   ///< and are this long at most
constexpr std::uint64_t kTextBytes = kTextWindow + kMostBytes;

struct RingHead {
    alignas(64) std::atomic<std::uint64_t> head;
    alignas(64) std::atomic<std::uint64_t> tail;
    alignas(64) Entry entries[kRingEntries];
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(offsetof(RingHead, entries) == 128 && sizeof(RingHead) == 128 + 32 * kRingEntries);

/// The file, mapped whole.
class Ledger {
  public:
    /// A new one for this many places; the text follows from @seed.
    Ledger(std::uint32_t workers, std::uint64_t seed)
        : workers_(workers), fd_(memfd_create("aiomq-chaos-ledger", MFD_CLOEXEC)) {
        if (ftruncate(fd_, static_cast<off_t>(kTextBytes + workers * sizeof(RingHead))) != 0)
            abort();
        map();
        std::mt19937_64 random(seed);
        for (std::uint64_t at = 0; at < kTextBytes; at += 8) {
            const std::uint64_t word = random();
            std::memcpy(bytes_ + at, &word, 8);
        }
    }
    /// The one that was inherited as @fd.
    explicit Ledger(int fd) : workers_(0), fd_(fd) {
        struct stat file {};
        if (fstat(fd, &file) != 0) abort();
        workers_ = static_cast<std::uint32_t>(
            (static_cast<std::uint64_t>(file.st_size) - kTextBytes) / sizeof(RingHead));
        map();
    }
    ~Ledger() {
        munmap(bytes_, kTextBytes + workers_ * sizeof(RingHead));
        close(fd_);
    }
    Ledger(const Ledger &) = delete;
    Ledger &operator=(const Ledger &) = delete;

    int fd() const { return fd_; }
    std::uint32_t workers() const { return workers_; }
    const unsigned char *text(std::uint64_t offset) const { return bytes_ + offset % kTextWindow; }
    RingHead &ring(std::uint32_t worker) {
        return *std::launder(
            reinterpret_cast<RingHead *>(bytes_ + kTextBytes + worker * sizeof(RingHead)));
    }

    /// In worker @worker, whose place it is.
    void write(std::uint32_t worker, const Entry &entry) {
        RingHead &ring = this->ring(worker);
        const std::uint64_t head = ring.head.load(std::memory_order_relaxed);
        while (head - ring.tail.load(std::memory_order_acquire) >= kRingEntries) sched_yield();
        ring.entries[head % kRingEntries] = entry;
        ring.head.store(head + 1, std::memory_order_release);
    }

    /// Gives the auditor all entries that are there.
    template <typename Take>
    void read(Take &&take) {
        for (std::uint32_t worker = 0; worker < workers_; ++worker) {
            RingHead &ring = this->ring(worker);
            const std::uint64_t head = ring.head.load(std::memory_order_acquire);
            std::uint64_t tail = ring.tail.load(std::memory_order_relaxed);
            for (; tail != head; ++tail) take(worker, ring.entries[tail % kRingEntries]);
            ring.tail.store(tail, std::memory_order_release);
        }
    }

  private:
    void map() {
        void *address = mmap(nullptr, kTextBytes + workers_ * sizeof(RingHead),
                             PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
        if (address == MAP_FAILED) abort();
        bytes_ = static_cast<unsigned char *>(address);
    }

    std::uint32_t workers_;
    int fd_;
    unsigned char *bytes_ = nullptr;
};

}  // namespace chaos
