// Order: what a task of the mixed load is to do; the head of its payload. test/chaos/chaos_worker.py reads
// the same bytes; change both.
#pragma once

#include <cstdint>

#include "ledger.hpp"

namespace chaos {

enum class Deed : std::uint32_t {
    kEcho = 0,    ///< nothing but the result
    kSpin = 1,    ///< keep the thread busy for `amount` µs
    kNap = 2,     ///< wait on the loop for `amount` µs; ends early when it is cancelled
    kNest = 3,    ///< submit `amount` tasks to the same pool and wait for them
    kStuck = 4,   ///< block the loop for `amount` µs and do not listen
    kFail = 5,    ///< end with an error
    kDie = 6,     ///< SIGKILL this very process
    kRetain = 7,  ///< keep the payload beyond the task (natively)
};

constexpr std::uint64_t kMagic = 0x736f616863716d61;
/// A nested task's key has this bit; a task without an order has kById and its id.
constexpr std::uint64_t kNested = 1ULL << 63;
constexpr std::uint64_t kById = 1ULL << 62;
/// Integer results are this and what they answer, so that zeros are found out.
constexpr std::uint64_t kMask = 0x5bd1e995;
/// `result_bytes` of a task whose result is an integer.
constexpr std::uint64_t kInteger = UINT64_MAX;

struct Order {
    std::uint64_t magic;
    std::uint64_t key;  ///< tells it from every other task
    std::uint64_t body_offset;
    std::uint64_t body_bytes;  ///< of text that follows this head
    std::uint64_t result_offset;
    std::uint64_t result_bytes;  ///< of text that follows the result's head; or kInteger
    Deed deed;
    std::uint32_t amount;
    std::uint64_t reserved;
};
static_assert(sizeof(Order) == 64);

/// The head of a result.
struct Answer {
    std::uint64_t key;
    std::uint64_t run;  ///< as in the ledger: which execution made it
    std::uint32_t item;
    std::uint32_t reserved;
};
static_assert(sizeof(Answer) == 24);

/// Where in the text the result of an item begins: each has another one.
inline std::uint64_t result_offset(const Order &order, std::uint32_t item) {
    return (order.result_offset + std::uint64_t{item} * 8191) % kTextWindow;
}
inline std::int64_t integer_result(std::uint64_t key, std::uint32_t item) {
    return static_cast<std::int64_t>(((key << 16) | (item & 0xffff)) ^ kMask);
}

}  // namespace chaos
