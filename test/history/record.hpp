// What processes did and when, in memory that outlives them.
#pragma once

#include <atomic>
#include <cstdint>

#include "linearize.hpp"

namespace aiomq_test {

inline constexpr std::uint32_t kMostPlayers = 8;
inline constexpr std::uint32_t kMostCalls = 20;

/// What a process does where a call begins and where it has ended.
inline void (*at_call)() = [] {};

/// A call as its process notes it. A process that is killed leaves what it had written: without a start
/// it made no call, without an end the call never returned.
struct Call {
    std::atomic<std::uint64_t> start;
    std::atomic<std::uint64_t> end;
    std::uint64_t kind;
    std::uint64_t argument;
    std::uint64_t result;
};

/// Zeroed shared memory is an empty record. The clock counts, so that no two moments are the same.
struct Record {
    std::atomic<std::uint64_t> clock;
    std::atomic<std::uint64_t> died[kMostPlayers];  ///< a moment when it was known to be dead
    std::uint64_t count[kMostPlayers];
    Call calls[kMostPlayers][kMostCalls];

    std::uint64_t now() { return clock.fetch_add(1) + 1; }

    /// Notes that @player calls @what, which returns the result. Beyond kMostCalls it does nothing.
    template <typename What>
    std::uint64_t note(std::uint32_t player, std::uint32_t kind, std::uint64_t argument,
                       What what) {
        if (count[player] == kMostCalls) return 0;
        Call &call = calls[player][count[player]++];
        call.kind = kind;
        call.argument = argument;
        at_call();
        call.start = now();
        call.result = what();
        call.end = now();
        at_call();
        return call.result;
    }

    History history() const {
        History history;
        for (std::uint32_t player = 0; player < kMostPlayers; ++player)
            for (const Call &call : calls[player])
                if (call.start != 0) history.push_back(operation(player, call));
        return history;
    }

  private:
    Operation operation(std::uint32_t player, const Call &call) const {
        Operation operation;
        operation.process = player;
        operation.kind = static_cast<std::uint32_t>(call.kind);
        operation.argument = call.argument;
        operation.start = call.start;
        operation.returned = call.end != 0;
        operation.result = operation.returned ? call.result : 0;
        operation.end = operation.returned ? call.end : died[player];
        return operation;
    }
};

}  // namespace aiomq_test
