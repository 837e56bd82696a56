// What a dispatcher and workers may call at a slot, as one word each for a record.
#pragma once

#include <cstdint>

namespace aiomq_test {

enum SlotOperation : std::uint32_t {
    kMakeReady,  ///< argument: Ask
    kWithdraw,   ///< result: 0 or 1
    kMakeFree,
    kLook,               ///< result: the slot's word
    kClaim,              ///< argument: Ask; result: the word, or 0
    kClaimKeyed,         ///< argument: Ask; result: the word, or 0
    kStartItem,          ///< argument: Ask; result: kStarted + item, or 0
    kWithdrawUnstarted,  ///< argument: Ask; result: {next:32, end:32} as it returns them
    kFinish,             ///< argument: Ask; result: 0 or 1
};
inline constexpr std::uint64_t kStarted = 1000;

/// What is asked of a slot, and what the caller takes to be so.
struct Ask {
    std::uint8_t queue = 0;
    std::uint8_t worker = 0;
    std::uint8_t incarnation = 0;
    std::uint8_t keyed = 0;
    std::uint8_t items = 0;  ///< of publish: its end; of withdraw_unstarted: the first that may go
    std::uint8_t from = 0;   ///< the phase from which it is published or freed
    std::uint16_t generation = 0;

    std::uint64_t pack() const {
        return std::uint64_t{queue} | std::uint64_t{worker} << 8 |
               std::uint64_t{incarnation} << 16 | std::uint64_t{keyed} << 24 |
               std::uint64_t{items} << 32 | std::uint64_t{from} << 40 |
               std::uint64_t{generation} << 48;
    }
    static Ask unpack(std::uint64_t word) {
        const auto byte = [word](unsigned shift) {
            return static_cast<std::uint8_t>(word >> shift);
        };
        return {byte(0),
                byte(8),
                byte(16),
                byte(24),
                byte(32),
                byte(40),
                static_cast<std::uint16_t>(word >> 48)};
    }
};

}  // namespace aiomq_test
