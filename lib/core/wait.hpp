// Sleeping and waking: no system call while both sides are busy, no wake-up while there is nothing.
//
// The protocol (Dekker's, with the kernel as the second party):
//   sleeper:  announce (store or fetch_or, seq_cst) · look again at every source (seq_cst loads) · block
//   waker:    push (seq_cst) · if announced, take the announcement back (exchange, seq_cst) and, being
//             the one who took it, write the eventfd
// Acquire and release alone lose wake-ups, on x86 too: both sides store one variable and then load the
// other, and only a total order of the four operations rules out that both loads miss.
//
// A wake-up can still be swallowed: by a worker that dies holding it (after a death everyone is woken)
// and by one that was woken into long work or stopped (the wake audit, see supervisor.hpp).
#pragma once

#include <sched.h>

#include <bit>
#include <cstdint>
#include <vector>

#include "format.hpp"
#include "sys.hpp"

namespace aiomq {

/// A set of workers, one bit each, in shared memory.
class WorkerBits {
  public:
    explicit WorkerBits(Atomic<std::uint64_t> *words) : words_(words) {}

    void set(std::uint32_t worker) { words_[worker / 64].fetch_or_seq(bit(worker)); }
    /// True if the bit was set: the caller is the one who cleared it.
    bool clear(std::uint32_t worker) {
        Atomic<std::uint64_t> &word = words_[worker / 64];
        if ((word.load_seq() & bit(worker)) == 0) return false;
        return (word.fetch_and_seq(~bit(worker)) & bit(worker)) != 0;
    }
    bool test(std::uint32_t worker) const {
        return (words_[worker / 64].load_seq() & bit(worker)) != 0;
    }
    /// Clears one set bit among the first @workers of @among and names it. False: none is set.
    bool take_any(const std::vector<std::uint64_t> &among, std::uint32_t workers,
                  std::uint32_t &ret_worker) {
        for (std::uint32_t base = 0; base < workers; base += 64) {
            std::uint64_t bits = words_[base / 64].load_seq() & among[base / 64];
            while (bits != 0) {
                const auto worker = base + static_cast<std::uint32_t>(__builtin_ctzll(bits));
                if (worker < workers && clear(worker)) {
                    ret_worker = worker;
                    return true;
                }
                bits &= bits - 1;
            }
        }
        return false;
    }
    std::uint32_t count(const std::vector<std::uint64_t> &among, std::uint32_t workers) const {
        int bits = 0;
        for (std::uint32_t base = 0; base < workers; base += 64)
            bits += std::popcount(words_[base / 64].load_seq() & among[base / 64]);
        return static_cast<std::uint32_t>(bits);
    }
    bool any(const std::vector<std::uint64_t> &among, std::uint32_t workers) const {
        for (std::uint32_t base = 0; base < workers; base += 64)
            if ((words_[base / 64].load_seq() & among[base / 64]) != 0) return true;
        return false;
    }

  private:
    static constexpr std::uint64_t bit(std::uint32_t worker) { return 1ULL << (worker % 64); }
    Atomic<std::uint64_t> *words_;
};

/// How long to look before sleeping: the budget follows what looking has brought so far.
///
/// Doubles when a look found something, halves when it did not, between kFloor and the cap: the
/// competitive-spinning rule (Karlin et al., "Empirical studies of competitive spinning for a
/// shared-memory multiprocessor", SOSP 1991), which spends at most about what one wake-up costs.
class SpinBudget {
  public:
    /// @requested_ns: the pool's option; UINT64_MAX chooses. @parties: processes that want a CPU.
    SpinBudget(std::uint64_t requested_ns, unsigned parties, unsigned cpus) {
        if (requested_ns != UINT64_MAX) {
            cap_ns_ = floor_ns_ = budget_ns_ = requested_ns;
        } else if (parties <= cpus) {
            cap_ns_ = budget_ns_ = kCap;
            floor_ns_ = kFloor;
        } else {  // the one that is waited for may need this very CPU
            yields_ = true;
        }
    }

    /// Calls @ready until it is true or the budget is used up. Returns its last answer.
    template <typename Ready>
    bool spin(Ready ready) {
        if (yields_) return yield(ready);
        if (budget_ns_ == 0) return ready();
        const std::uint64_t end = sys::monotonic_ns() + budget_ns_;
        do {
            for (int look = 0; look < kLooksPerClock; ++look) {
                if (ready()) {
                    budget_ns_ = budget_ns_ > cap_ns_ / 2 ? cap_ns_ : budget_ns_ * 2;
                    return true;
                }
                cpu_relax();
            }
        } while (sys::monotonic_ns() < end);
        budget_ns_ = budget_ns_ / 2 > floor_ns_ ? budget_ns_ / 2 : floor_ns_;
        return false;
    }

    std::uint64_t budget_ns() const { return budget_ns_; }
    /// For how many calls it has found yielding not worth while.
    unsigned calls_without_yield() const { return calls_without_; }

  private:
    /// Without a CPU to spare: lets the others run once, which saves both sides a sleep and a wake-up
    /// if what we wait for comes of it soon. When it does not (nobody has anything to do, or somebody's
    /// long work takes the CPU, where a sleeper would have been let in sooner), the next calls do
    /// without, twice as many each time.
    template <typename Ready>
    bool yield(Ready ready) {
        if (ready()) return true;
        if (calls_without_ > 0) {
            --calls_without_;
            return false;
        }
        const std::uint64_t end = sys::monotonic_ns() + kYieldPays;
        sched_yield();
        const bool found = ready();
        if (found && sys::monotonic_ns() <= end)
            back_off_ = 0;
        else if (back_off_ < kMostBackOff)
            back_off_ = back_off_ * 2 + 1;
        calls_without_ = back_off_;
        return found;
    }

    static constexpr std::uint64_t kCap = 50000;   // one wake-up: 7 to 60 µs on virtual machines
    static constexpr std::uint64_t kFloor = 2000;  // enough to notice that times have changed
    static constexpr int kLooksPerClock = 32;
    static constexpr std::uint64_t kYieldPays = 200000;  // a few times what two wake-ups cost
    static constexpr unsigned kMostBackOff = 1023;

    std::uint64_t budget_ns_ = 0;
    std::uint64_t cap_ns_ = 0;
    std::uint64_t floor_ns_ = 0;
    bool yields_ = false;
    unsigned back_off_ = 0;
    unsigned calls_without_ = 0;
};

}  // namespace aiomq
