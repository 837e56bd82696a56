// What slots.hpp promises, as a machine that makes one transition at a time; the argument for each line is
// in README.md.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "linearize.hpp"
#include "slot_calls.hpp"
#include "slots.hpp"

namespace aiomq_test {

struct SlotSpecification {
    struct State {
        aiomq::Phase phase = aiomq::Phase::kFree;
        bool keyed = false;
        std::uint32_t queue = 0;
        std::uint32_t worker = 0;
        std::uint32_t incarnation = 0;
        std::uint32_t generation = 0;
        std::uint32_t next = 0;
        std::uint32_t end = 0;
        auto operator<=>(const State &) const = default;
    };

    static bool apply(State &state, const Operation &operation) {
        const Ask ask = Ask::unpack(operation.argument);
        switch (operation.kind) {
            case kMakeReady:
                return publish(state, ask);
            case kMakeFree:
                if (state.phase != static_cast<aiomq::Phase>(ask.from)) return false;
                state.phase = aiomq::Phase::kFree;
                return true;
            case kWithdraw:
                return happens(operation, state.phase == aiomq::Phase::kReady,
                               [&] { state.phase = aiomq::Phase::kFree; });
            case kLook:
                return !operation.returned || shows(state, aiomq::SlotWord(operation.result));
            case kClaim:
                return claim(state, operation, ask, !state.keyed && state.queue == ask.queue);
            case kClaimKeyed:
                return claim(state, operation, ask,
                             state.keyed && state.worker == ask.worker &&
                                 state.generation == ask.generation);
            case kStartItem:
                if (operation.returned &&
                    operation.result != (state.next < state.end ? kStarted + state.next : 0))
                    return false;
                if (state.next < state.end) ++state.next;
                return true;
            case kWithdrawUnstarted:
                return withdraw_unstarted(state, operation, ask);
            case kFinish:
                return happens(operation, state.phase == aiomq::Phase::kClaimed && owns(state, ask),
                               [&] { state.phase = aiomq::Phase::kDone; });
            default:
                return false;
        }
    }

    static std::string text(const Operation &operation) {
        const Ask ask = Ask::unpack(operation.argument);
        const std::string worker =
            "worker " + std::to_string(ask.worker) + "." + std::to_string(ask.incarnation);
        const std::string result = operation.returned ? " = " : "";
        const auto yes = [&] {
            return operation.returned ? result + (operation.result != 0 ? "true" : "false") : "";
        };
        const auto word = [&] {
            return operation.returned ? result + text_of(aiomq::SlotWord(operation.result)) : "";
        };
        const auto claimed = [&] { return operation.result != 0 ? word() : yes(); };
        switch (operation.kind) {
            case kMakeReady:
                return "publish " + std::to_string(ask.items) + " items in queue " +
                       std::to_string(ask.queue) + (ask.keyed != 0 ? " for " + worker : "");
            case kWithdraw:
                return "withdraw" + yes();
            case kMakeFree:
                return "make_free";
            case kLook:
                return "look" + word();
            case kClaim:
                return "claim in queue " + std::to_string(ask.queue) + " by " + worker + claimed();
            case kClaimKeyed:
                return "claim_keyed generation " + std::to_string(ask.generation) + " by " +
                       worker + claimed();
            case kStartItem:
                return "start_item" + (operation.result == 0
                                           ? yes()
                                           : result + std::to_string(operation.result - kStarted));
            case kWithdrawUnstarted:
                return "withdraw_unstarted from " + std::to_string(ask.items) + result +
                       (operation.returned ? std::to_string(operation.result >> 32) + " to " +
                                                 std::to_string(operation.result & UINT32_MAX)
                                           : "");
            default:
                return "finish by " + worker + yes();
        }
    }

  private:
    template <typename Effect>
    static bool happens(const Operation &operation, bool can, Effect effect) {
        if (operation.returned && (operation.result != 0) != can) return false;
        if (can) effect();
        return true;
    }
    static bool owns(const State &state, const Ask &ask) {
        return state.worker == ask.worker && state.incarnation == ask.incarnation &&
               state.generation == ask.generation;
    }
    /// Only what the phase gives a meaning to.
    static bool shows(const State &state, aiomq::SlotWord word) {
        if (word.phase() != state.phase || word.generation() != state.generation) return false;
        if (state.phase == aiomq::Phase::kFree) return true;
        if (word.queue() != state.queue || word.keyed() != state.keyed) return false;
        if (state.phase == aiomq::Phase::kReady)
            return !state.keyed || word.worker() == state.worker;
        return word.held_by(state.worker, state.incarnation);
    }
    static bool publish(State &state, const Ask &ask) {
        if (state.phase != static_cast<aiomq::Phase>(ask.from)) return false;
        state = {.phase = aiomq::Phase::kReady,
                 .keyed = ask.keyed != 0,
                 .queue = ask.queue,
                 .worker = ask.worker,
                 .incarnation = 0,
                 .generation = state.generation + 1,
                 .next = 0,
                 .end = ask.items};
        return true;
    }
    static bool claim(State &state, const Operation &operation, const Ask &ask, bool fits) {
        const bool can = fits && state.phase == aiomq::Phase::kReady;
        if (operation.returned && (operation.result != 0) != can) return false;
        if (!can) return true;
        state.phase = aiomq::Phase::kClaimed;
        state.keyed = false;
        state.worker = ask.worker;
        state.incarnation = ask.incarnation;
        return !operation.returned || shows(state, aiomq::SlotWord(operation.result));
    }
    static bool withdraw_unstarted(State &state, const Operation &operation, const Ask &ask) {
        const std::uint32_t end = state.next > ask.items ? state.next : ask.items;
        if (operation.returned && operation.result != (std::uint64_t{end} << 32 | state.end))
            return false;
        if (end < state.end) state.end = end;
        return true;
    }
    static std::string text_of(aiomq::SlotWord word) {
        static constexpr const char *kNames[] = {"FREE", "READY", "CLAIMED", "DONE"};
        const std::string worker =
            std::to_string(word.worker()) + "." + std::to_string(word.incarnation());
        return std::string(kNames[static_cast<unsigned>(word.phase()) & 3]) + "(" +
               (word.keyed() ? "keyed, " : "") + "queue " + std::to_string(word.queue()) +
               ", worker " + worker + ", generation " + std::to_string(word.generation()) + ")";
    }
};

}  // namespace aiomq_test
