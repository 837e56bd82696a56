// Processes that take turns: which one goes on at each access to shared memory, and where one kills
// itself, follows from a seed.
//
// A process runs alone from one moment() to the next; there the seed says who is next. The turn lies in
// shared memory and is handed from process to process, the parent only begins and ends a game. A victim
// hands the turn on and then kills itself, so that a game is the same each time it is played.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <ctime>

#include "record.hpp"

namespace aiomq_test {

/// SplitMix64: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", 2014.
/// Plain numbers, so that it may lie in shared memory.
struct Dice {
    std::uint64_t state;
    std::uint64_t roll() {
        std::uint64_t z = state += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    std::uint64_t below(std::uint64_t limit) { return roll() % limit; }
    bool one_in(std::uint64_t chances) { return below(chances) == 0; }
};

struct Turns {
    static constexpr std::uint32_t kParent = kMostPlayers;
    static constexpr std::uint64_t kMostMoments = 5000;

    std::atomic<std::uint32_t> turn;
    std::atomic<std::uint32_t> endless;  ///< somebody did not come to an end
    std::uint32_t playing;               ///< bit mask; changed by who has the turn
    Dice dice;
    std::uint64_t moments[kMostPlayers];
    std::uint64_t dies_at[kMostPlayers];  ///< at which of its moments; 0: it lives

    void join(std::uint32_t player) { playing |= 1U << player; }

    void give(std::uint32_t to) {
        turn = to;
        syscall(SYS_futex, &turn, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    }
    void await(std::uint32_t me) {
        while (!await(me, nullptr)) {
        }
    }
    /// False when @patience is over.
    bool await(std::uint32_t me, const timespec *patience) {
        for (std::uint32_t now = turn; now != me; now = turn)
            if (syscall(SYS_futex, &turn, FUTEX_WAIT, now, patience, nullptr, 0) == -1 &&
                errno == ETIMEDOUT)
                return false;
        return true;
    }
    std::uint32_t next() {
        if (playing == 0) return kParent;
        auto choice = static_cast<std::uint32_t>(
            dice.below(static_cast<std::uint64_t>(__builtin_popcount(playing))));
        for (std::uint32_t player = 0;; ++player)
            if ((playing >> player & 1U) != 0 && choice-- == 0) return player;
    }
    void leave(std::uint32_t me) {
        playing &= ~(1U << me);
        give(next());
    }
    /// @me may be killed here, and others may go on.
    void moment(std::uint32_t me, Record &record) {
        ++moments[me];
        if (moments[me] == dies_at[me] || moments[me] > kMostMoments) {
            if (moments[me] > kMostMoments) endless = 1;
            record.died[me] = record.now();
            leave(me);
            raise(SIGKILL);
        }
        const std::uint32_t chosen = next();
        if (chosen == me) return;
        give(chosen);
        await(me);
    }
};

/// What this process is; a parent is nobody.
struct Myself {
    Turns *turns = nullptr;
    Record *record = nullptr;
    std::uint32_t player = 0;
};
inline Myself myself;

inline void moment() {
    if (myself.turns != nullptr) myself.turns->moment(myself.player, *myself.record);
}

}  // namespace aiomq_test
