// Atomic<T>: the one place that names memory orders.
//
// When to use: for every word that two threads or two processes share. Each operation carries its
// order in its name, so that a reader sees at the call what is relied on.
// When not: for state under a mutex, and for bytes whose visibility another word's release/acquire
// pair already gives.
//
// Why no fences: ThreadSanitizer does not model free-standing fences, and the sleep/wake protocol
// needs seq_cst *operations* on both of its variables anyway (see wait.hpp).
//
// Shared layout: Atomic<T> has the size and alignment of T and is always lock-free, hence usable by
// processes that map it at different addresses.
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

namespace aiomq {

template <typename T>
class Atomic {
    static_assert(std::is_trivially_copyable_v<T> && std::atomic<T>::is_always_lock_free);

  public:
    using value_type = T;

    constexpr Atomic() noexcept = default;
    constexpr explicit Atomic(T value) noexcept : value_(value) {}

    /// No order: only the value matters (own cursors, counters read by others for display).
    T load_relaxed() const noexcept { return value_.load(std::memory_order_relaxed); }
    /// What was written before the matching release is visible after this.
    T load_acquire() const noexcept { return value_.load(std::memory_order_acquire); }
    /// Takes part in the one order of all `_seq` operations (sleep against wake).
    T load_seq() const noexcept { return value_.load(std::memory_order_seq_cst); }

    void store_relaxed(T value) noexcept { value_.store(value, std::memory_order_relaxed); }
    void store_release(T value) noexcept { value_.store(value, std::memory_order_release); }
    void store_seq(T value) noexcept { value_.store(value, std::memory_order_seq_cst); }

    T exchange_seq(T value) noexcept { return value_.exchange(value, std::memory_order_seq_cst); }
    T fetch_or_seq(T bits) noexcept { return value_.fetch_or(bits, std::memory_order_seq_cst); }
    T fetch_and_seq(T bits) noexcept { return value_.fetch_and(bits, std::memory_order_seq_cst); }
    T fetch_add_relaxed(T more) noexcept {
        return value_.fetch_add(more, std::memory_order_relaxed);
    }

    /// Replaces @expected by @desired or loads the present value into @expected. Success acquires and
    /// releases; failure acquires, because callers look at what they found.
    bool compare_exchange(T &expected, T desired) noexcept {
        return value_.compare_exchange_strong(expected, desired, std::memory_order_acq_rel,
                                              std::memory_order_acquire);
    }
    /// As compare_exchange(), and in the one order of all `_seq` operations.
    bool compare_exchange_seq(T &expected, T desired) noexcept {
        return value_.compare_exchange_strong(expected, desired, std::memory_order_seq_cst,
                                              std::memory_order_seq_cst);
    }

    /// For a counter with a single writer: no locked instruction, others only read it.
    void add_by_single_writer(T more) noexcept {
        store_relaxed(static_cast<T>(load_relaxed() + more));
    }

  private:
    std::atomic<T> value_{};
};

static_assert(sizeof(Atomic<std::uint64_t>) == 8 && alignof(Atomic<std::uint64_t>) == 8);
static_assert(sizeof(Atomic<std::uint32_t>) == 4 && alignof(Atomic<std::uint32_t>) == 4);

/// Tells the core that this is a spin loop.
inline void cpu_relax() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace aiomq
