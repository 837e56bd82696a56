// aiomq::Atomic as a test wants it: each access is a moment at which others may go on or the process may
// be killed, and a fault can be put into it. The build includes it before all else (meson.build): ring.hpp
// and slots.hpp are then compiled as they are, upon this.
#pragma once

#define Atomic PlainAtomic  // the real one, which does the work
#include "atomic.hpp"
#undef Atomic

#include "fault.hpp"
#include "turns.hpp"

namespace aiomq_test {

inline FaultAt fault_at;

/// What is stored late, by kStoreLate.
struct LateStore {
    void *word = nullptr;
    std::uint64_t value = 0;
};
inline LateStore late_store;

}  // namespace aiomq_test

namespace aiomq {

template <typename T>
class Atomic {
    using Fault = aiomq_test::Fault;

  public:
    using value_type = T;

    constexpr Atomic() noexcept = default;
    constexpr explicit Atomic(T value) noexcept : value_(value) {}

    T load_relaxed() const noexcept { return load(); }
    T load_acquire() const noexcept { return load(); }
    T load_seq() const noexcept { return load(); }

    void store_relaxed(T value) noexcept {
        if (has(Fault::kStoreLate)) {
            aiomq_test::late_store = {&value_, static_cast<std::uint64_t>(value)};
            return;
        }
        store(value);
    }
    void store_release(T value) noexcept { store_ordered(value); }
    void store_seq(T value) noexcept { store_ordered(value); }

    T exchange_seq(T value) noexcept { return step().exchange_seq(value); }
    T fetch_or_seq(T bits) noexcept { return step().fetch_or_seq(bits); }
    T fetch_and_seq(T bits) noexcept { return step().fetch_and_seq(bits); }
    T fetch_add_relaxed(T more) noexcept { return step().fetch_add_relaxed(more); }
    bool compare_exchange(T &expected, T desired) noexcept { return exchange(expected, desired); }
    bool compare_exchange_seq(T &expected, T desired) noexcept {
        return exchange(expected, desired);
    }
    void add_by_single_writer(T more) noexcept { store(static_cast<T>(load() + more)); }

  private:
    bool has(Fault fault) const {
        return aiomq_test::fault_at.fault == fault && aiomq_test::fault_at.hits(this);
    }
    PlainAtomic<T> &step() {
        aiomq_test::moment();
        return value_;
    }
    T load() const {
        aiomq_test::moment();
        return value_.load_seq();
    }
    void store(T value) { step().store_seq(value); }

    void store_ordered(T value) {
        write(value);
        if (aiomq_test::late_store.word == nullptr) return;
        aiomq_test::moment();
        static_cast<PlainAtomic<std::uint64_t> *>(aiomq_test::late_store.word)
            ->store_seq(aiomq_test::late_store.value);
        aiomq_test::late_store = {};
    }
    /// A store, or the two that a fault makes of it.
    void write(T value) {
        const T before = value_.load_seq();
        if (has(Fault::kUpperHalfFirst)) store(mixed(value, before, 32));
        if (has(Fault::kTopBitsFirst)) store(mixed(value, before, 61));
        store(value);
    }
    /// The bits of @upper from @shift on, below them those of @lower.
    static T mixed(T upper, T lower, unsigned shift) {
        const std::uint64_t below = (std::uint64_t{1} << shift) - 1;
        return static_cast<T>((std::uint64_t{upper} & ~below) | (std::uint64_t{lower} & below));
    }

    bool exchange(T &expected, T desired) {
        if (has(Fault::kCasNever)) return true;
        const bool broken = has(Fault::kCasInTwo) || has(Fault::kCasBlind) ||
                            has(Fault::kCasUpperHalf) || has(Fault::kUpperHalfFirst) ||
                            has(Fault::kTopBitsFirst);
        if (!broken) return step().compare_exchange_seq(expected, desired);
        const T found = load();
        bool same = found == expected || has(Fault::kCasBlind);
        if (has(Fault::kCasUpperHalf))
            same = std::uint64_t{found} >> 32 == std::uint64_t{expected} >> 32;
        if (!same) {
            expected = found;
            return false;
        }
        if (has(Fault::kCasInTwo))
            store(desired);
        else if (has(Fault::kUpperHalfFirst) || has(Fault::kTopBitsFirst))
            return in_two_writes(expected, desired);
        else
            value_.store_seq(desired);  // in one step with the comparison
        return true;
    }
    /// The first write is a sound exchange, the second completes it.
    bool in_two_writes(T &expected, T desired) {
        const unsigned shift = has(Fault::kUpperHalfFirst) ? 32 : 61;
        if (!value_.compare_exchange_seq(expected, mixed(desired, expected, shift))) return false;
        store(desired);
        return true;
    }

    PlainAtomic<T> value_;
};

}  // namespace aiomq
