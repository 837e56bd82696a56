// Is a history of concurrent operations what a sequential object could have shown?
//
// The search of J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects", Journal of Parallel
// and Distributed Computing 17, 1993: take an operation that may have been first, let the specification
// do it, go on with the rest; go back when the specification can't give the result that was seen. With
// the memory of G. Lowe, "Testing for linearizability", Concurrency and Computation 29, 2017: a set of
// operations that led to a state is not tried again.
//
// A process that was killed leaves an operation that never returned. It may have taken effect before the
// death was confirmed, or not at all, but not later: strict linearizability, M. K. Aguilera and S. Frølund,
// "Strict Linearizability and the Power of Aborting", HP Labs 2003.
//
// When not to use: for more than kMostOperations, or many that overlap; the search is exponential in those.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace aiomq_test {

/// One call. Times are of one counter that all processes share.
struct Operation {
    std::uint32_t process = 0;
    std::uint32_t kind = 0;  ///< the specification's names, as the next two
    std::uint64_t argument = 0;
    std::uint64_t result = 0;
    std::uint64_t start = 0;
    std::uint64_t end = 0;  ///< when it returned, or when its process was known to be dead
    bool returned = true;   ///< false: `result` is not known, and nobody knows whether it happened
    int after = -1;         ///< takes effect only after that operation, whose second half it is
};
using History = std::vector<Operation>;

/// Specification: a type with State (ordered, and empty when made), and
///   static bool apply(State &, const Operation &)   false: it can't have happened in this state
///   static std::string text(const Operation &)      for people
template <typename Specification>
class Linearization {
  public:
    static constexpr std::size_t kMostOperations = 128;

    explicit Linearization(const History &history) : history_(history) {
        if (history.size() > kMostOperations) std::abort();
    }

    bool exists() { return search({}, State{}); }
    /// The order that was found; without one, the longest beginning of an order.
    const std::vector<std::size_t> &order() const { return best_; }

  private:
    using State = typename Specification::State;

    /// Of operations, by their numbers.
    struct Set {
        std::array<std::uint64_t, kMostOperations / 64> words{};
        auto operator<=>(const Set &) const = default;
        bool has(std::size_t i) const { return (words[i / 64] >> i % 64 & 1) != 0; }
        Set with(std::size_t i) const {
            Set more = *this;
            more.words[i / 64] |= std::uint64_t{1} << i % 64;
            return more;
        }
    };

    bool search(const Set &taken, const State &state) {
        if (path_.size() > best_.size()) best_ = path_;
        if (all_returned_are_in(taken)) {
            best_ = path_;
            return true;
        }
        if (!seen_.emplace(taken, state).second) return false;
        for (std::size_t i = 0; i < history_.size(); ++i) {
            if (!may_be_next(i, taken)) continue;
            State next = state;
            if (!Specification::apply(next, history_[i])) continue;
            path_.push_back(i);
            if (search(taken.with(i), next)) return true;
            path_.pop_back();
        }
        return false;
    }

    bool all_returned_are_in(const Set &taken) const {
        for (std::size_t i = 0; i < history_.size(); ++i)
            if (history_[i].returned && !taken.has(i)) return false;
        return true;
    }

    /// Nothing that is left returned before it started, and nothing was taken that started after its end.
    bool may_be_next(std::size_t i, const Set &taken) const {
        const Operation &operation = history_[i];
        if (taken.has(i)) return false;
        if (operation.after >= 0 && !taken.has(static_cast<std::size_t>(operation.after)))
            return false;
        for (std::size_t j = 0; j < history_.size(); ++j) {
            const bool is_in = taken.has(j);
            if (!is_in && history_[j].returned && history_[j].end < operation.start) return false;
            if (is_in && operation.end < history_[j].start) return false;
        }
        return true;
    }

    const History &history_;
    std::set<std::pair<Set, State>> seen_;
    std::vector<std::size_t> path_;
    std::vector<std::size_t> best_;
};

/// One line per operation, drawn where it lay in time; and how far an order could be made.
template <typename Specification>
std::string drawn(const History &history, const std::vector<std::size_t> &order) {
    std::uint64_t first = UINT64_MAX;
    std::uint64_t last = 0;
    for (const Operation &operation : history) {
        first = operation.start < first ? operation.start : first;
        last = operation.end > last && operation.end != UINT64_MAX ? operation.end : last;
    }
    std::string text;
    for (std::size_t i = 0; i < history.size(); ++i) {
        const Operation &operation = history[i];
        const std::uint64_t end = operation.end < last ? operation.end : last;
        std::string bar(last - first + 1, ' ');
        for (std::uint64_t at = operation.start; at <= end; ++at) bar[at - first] = '-';
        bar[operation.start - first] = '[';
        bar[end - first] = operation.returned ? ']' : 'X';
        text += std::to_string(i) + "\t" + bar + "  process " + std::to_string(operation.process) +
                ": " + Specification::text(operation) + (operation.returned ? "" : "  (killed)") +
                "\n";
    }
    text += "longest order:";
    for (const std::size_t i : order) text += " " + std::to_string(i);
    return text + "\n";
}

}  // namespace aiomq_test
