// A table at which games are played: shared memory and the processes at it.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cstring>
#include <new>

#include "scheduled_atomic.hpp"

namespace aiomq_test {

/// Game: a type for shared memory, made anew for each game, with
///   static constexpr players; play(player, Dice, Record &, Turns &)   what a process does
/// Processes stay from game to game; those that were killed are replaced.
template <typename Game>
class Table {
    struct Shared {
        Turns turns;
        Record record;
        FaultAt fault_at;
        std::uint64_t seed;
        alignas(64) std::uint8_t game[sizeof(Game)];
    };

  public:
    using Played = Game;

    Table() {
        // On one CPU handing on the turn is a switch of contexts and no more.
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
        sched_getaffinity(0, sizeof(before_), &before_);
        sched_setaffinity(0, sizeof(one), &one);
        void *memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) std::abort();
        shared_ = static_cast<Shared *>(memory);
        shared_->turns.turn = Turns::kParent;
    }
    ~Table() {
        for (const pid_t pid : pids_)
            if (pid > 0) {
                kill(pid, SIGKILL);
                waitpid(pid, nullptr, 0);
            }
        munmap(shared_, sizeof(Shared));
        sched_setaffinity(0, sizeof(before_), &before_);
    }
    Table(const Table &) = delete;
    Table &operator=(const Table &) = delete;

    /// Where the next game's words will be.
    Game &game() { return *reinterpret_cast<Game *>(shared_->game); }
    Record &record() { return shared_->record; }
    bool endless() const { return shared_->turns.endless != 0; }

    /// Plays one game; then its record is complete. @fault_at: of words of game().
    void play(std::uint64_t seed, FaultAt fault) {
        begin(seed, fault);
        Turns &turns = shared_->turns;
        turns.give(turns.next());
        const timespec patience{60, 0};
        if (!turns.await(Turns::kParent, &patience)) {
            ADD_FAILURE() << "seed " << seed << ": a process was lost";
            std::abort();
        }
        for (std::uint32_t player = 0; player < Game::players; ++player)
            if (shared_->record.died[player] != 0) reap(player);
    }

  private:
    void begin(std::uint64_t seed, FaultAt fault) {
        std::memset(static_cast<void *>(&shared_->record), 0, sizeof(Record));
        std::memset(shared_->game, 0, sizeof(Game));
        shared_->fault_at = fault;
        shared_->seed = seed;
        Turns &turns = shared_->turns;
        std::memset(turns.moments, 0, sizeof(turns.moments));
        std::memset(turns.dies_at, 0, sizeof(turns.dies_at));
        turns.endless = 0;
        turns.dice.state = seed;
        Dice dice{seed * 3 + 1};
        (new (shared_->game) Game)->begin(dice, turns);
        for (std::uint32_t player = 0; player < Game::players; ++player)
            if (pids_[player] == 0) pids_[player] = start(player);
    }

    pid_t start(std::uint32_t player) {
        const pid_t parent = getpid();
        const pid_t child = fork();
        if (child != 0) return child;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        myself = {&shared_->turns, &shared_->record, player};
        for (;;) {
            shared_->turns.await(player);
            late_store = {};
            fault_at = shared_->fault_at;
            Dice dice{shared_->seed * 31 + player};
            game().play(player, dice, shared_->record, shared_->turns);
            shared_->turns.leave(player);
        }
    }

    void reap(std::uint32_t player) {
        int status = 0;
        ASSERT_EQ(waitpid(pids_[player], &status, 0), pids_[player]);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
        pids_[player] = 0;
    }

    Shared *shared_ = nullptr;
    cpu_set_t before_{};
    pid_t pids_[kMostPlayers] = {};
};

}  // namespace aiomq_test
