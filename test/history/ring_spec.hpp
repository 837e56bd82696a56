// What ring.hpp promises, as a bounded queue; the argument for each line is in README.md.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "linearize.hpp"

namespace aiomq_test {

enum RingOperation : std::uint32_t {
    kPush,  ///< argument: value; result: RingStatus
    kShow,  ///< the second half of a push: `tail` moves on, so that empty() counts it
    kPut,   ///< push by the only pusher, shown by kPublishTail
    kPublishTail,
    kPop,    ///< result: kPopped + value, or RingStatus
    kEmpty,  ///< empty(): result 0 or 1
};
inline constexpr std::uint64_t kPopped = 1000;
inline constexpr std::uint64_t kStatusOk = 0;
inline constexpr std::uint64_t kStatusEmpty = 1;
inline constexpr std::uint64_t kStatusFull = 2;

template <std::size_t Capacity>
struct RingSpecification {
    struct State {
        std::deque<std::uint64_t> values;
        std::uint64_t unseen = 0;  ///< how far `tail` is behind, which may be more than there is
        std::uint64_t newest = UINT64_MAX;
        auto operator<=>(const State &) const = default;
    };

    static bool apply(State &state, const Operation &operation) {
        const bool known = operation.returned;
        switch (operation.kind) {
            case kPush:
                // Whoever pushes helps the tail on first.
                return add(state, operation, 0);
            case kPut:
                return add(state, operation, state.unseen);
            case kShow:  // somebody may have helped, and then pushed more
                if (state.newest == operation.argument) state.unseen = 0;
                return true;
            case kPublishTail:
                state.unseen = 0;
                return true;
            case kPop:
                if (state.values.empty()) return !known || operation.result == kStatusEmpty;
                if (known && operation.result != kPopped + state.values.front()) return false;
                state.values.pop_front();
                return true;
            case kEmpty:
                if (!known) return true;
                return operation.result == 1 ? state.values.size() <= state.unseen
                                             : !state.values.empty();
            default:
                return false;
        }
    }

    static std::string text(const Operation &operation) {
        const std::string argument = std::to_string(operation.argument);
        switch (operation.kind) {
            case kPush:
                return "push(" + argument + ")" + status(operation);
            case kShow:
                return "the tail shows " + argument;
            case kPut:
                return "put(" + argument + ")" + status(operation);
            case kPublishTail:
                return "publish()";
            case kPop:
                return "pop()" + (operation.returned && operation.result >= kPopped
                                      ? " = " + std::to_string(operation.result - kPopped)
                                      : status(operation));
            default:
                return "empty()" + std::string(!operation.returned     ? ""
                                               : operation.result != 0 ? " = true"
                                                                       : " = false");
        }
    }

  private:
    static bool add(State &state, const Operation &operation, std::uint64_t unseen_before) {
        const bool full = state.values.size() == Capacity;
        if (operation.returned && operation.result != (full ? kStatusFull : kStatusOk))
            return false;
        if (full) {
            // A push sees it by a tail that shows all; put() has a tail of its own.
            if (operation.returned && operation.kind == kPush) state.unseen = 0;
            return true;
        }
        state.values.push_back(operation.argument);
        state.unseen = unseen_before + 1;
        state.newest = operation.argument;
        return true;
    }

    static std::string status(const Operation &operation) {
        if (!operation.returned) return "";
        switch (operation.result) {
            case kStatusOk:
                return " = ok";
            case kStatusEmpty:
                return " = empty";
            case kStatusFull:
                return " = full";
            default:
                return " = corrupt";
        }
    }
};

}  // namespace aiomq_test
