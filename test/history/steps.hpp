// Processes that go on by single instructions, of the code as it is released: which one goes on, for how
// many, and after which instruction of a call one is killed, follows from a seed.
//
// The parent traces them (ptrace(2)). Between calls they run freely, up to a signal that they send to
// themselves where a call begins and where it ends.
// When not to use: under sanitizers and emulators, which have other instructions or no tracing.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <cstring>
#include <new>

#include "fault.hpp"
#include "turns.hpp"

namespace aiomq_test {

/// As Table, which see; @Game may not look at anything but its memory between moments.
template <typename Game>
class Stepper {
    struct Shared {
        Turns turns;
        Record record;
        std::uint64_t seed;
        alignas(64) std::uint8_t game[sizeof(Game)];
    };

  public:
    using Played = Game;

    /// About how many there are from one access to shared memory to the next.
    static constexpr std::uint64_t kInstructions = 12;

    Stepper() {
        void *memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) std::abort();
        shared_ = static_cast<Shared *>(memory);
    }
    ~Stepper() {
        for (std::uint32_t player = 0; player < Game::players; ++player)
            if (pids_[player] > 0) end(player);
        munmap(shared_, sizeof(Shared));
    }
    Stepper(const Stepper &) = delete;
    Stepper &operator=(const Stepper &) = delete;

    /// Not everywhere may a process trace another; and stepped load-exclusive instructions never succeed.
    static bool is_possible() {
#if defined(__x86_64__)
        const pid_t child = fork();
        if (child == 0) _exit(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 ? 0 : 1);
        int status = 0;
        waitpid(child, &status, 0);
        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
#else
        return false;
#endif
    }

    Game &game() { return *reinterpret_cast<Game *>(shared_->game); }
    Record &record() { return shared_->record; }
    static bool endless() { return false; }

    void play(std::uint64_t seed, FaultAt /*none*/ = {}) {
        begin(seed);
        Turns &turns = shared_->turns;
        while (turns.playing != 0) {
            const std::uint32_t player = turns.next();
            if (!in_call_[player]) {
                run(player);
                continue;
            }
            for (std::uint64_t count = 1 + turns.dice.below(2 * kInstructions);
                 count > 0 && in_call_[player]; --count)
                step(player);
        }
    }

  private:
    void begin(std::uint64_t seed) {
        std::memset(static_cast<void *>(&shared_->record), 0, sizeof(Record));
        std::memset(shared_->game, 0, sizeof(Game));
        std::memset(static_cast<void *>(&shared_->turns), 0, sizeof(Turns));
        shared_->seed = seed;
        shared_->turns.dice.state = seed;
        Dice dice{seed * 3 + 1};
        (new (shared_->game) Game)->begin(dice, shared_->turns);
        for (std::uint32_t player = 0; player < Game::players; ++player) {
            if (pids_[player] == 0) start(player);
            in_call_[player] = false;
        }
    }

    void start(std::uint32_t player) {
        const pid_t parent = getpid();
        const pid_t child = fork();
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent || ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(1);
            at_call = [] { kill(getpid(), kCall); };
            for (;;) {
                kill(getpid(), kReady);
                Dice dice{shared_->seed * 31 + player};
                game().play(player, dice, shared_->record, shared_->turns);
            }
        }
        pids_[player] = child;
        if (stopped_by(player) != kReady) std::abort();
    }

    /// Waits until it stops; the signal that stopped it, which it will not get to see.
    int stopped_by(std::uint32_t player) {
        int status = 0;
        if (waitpid(pids_[player], &status, 0) != pids_[player] || !WIFSTOPPED(status)) {
            ADD_FAILURE() << "seed " << shared_->seed << ": process " << player << " is lost";
            std::abort();
        }
        return WSTOPSIG(status);
    }

    /// It stands between two calls: up to the next, or to the end.
    void run(std::uint32_t player) {
        ptrace(PTRACE_CONT, pids_[player], nullptr, nullptr);
        const int signal = stopped_by(player);
        in_call_[player] = signal == kCall;
        if (signal == kReady)
            shared_->turns.playing &= ~(1U << player);
        else if (signal != kCall)
            std::abort();
    }

    /// One instruction of its call.
    void step(std::uint32_t player) {
        Turns &turns = shared_->turns;
        ptrace(PTRACE_SINGLESTEP, pids_[player], nullptr, nullptr);
        const int signal = stopped_by(player);
        if (signal == kCall)
            in_call_[player] = false;
        else if (signal != SIGTRAP)
            std::abort();
        if (++turns.moments[player] == turns.dies_at[player] * kInstructions) die(player);
    }

    void die(std::uint32_t player) {
        end(player);
        in_call_[player] = false;
        shared_->turns.playing &= ~(1U << player);
        shared_->record.died[player] = shared_->record.now();
    }

    void end(std::uint32_t player) {
        int status = 0;
        kill(pids_[player], SIGKILL);
        while (waitpid(pids_[player], &status, 0) == pids_[player] && WIFSTOPPED(status)) {
        }
        pids_[player] = 0;
    }

    static constexpr int kCall = SIGUSR1;   ///< a call begins or ends
    static constexpr int kReady = SIGUSR2;  ///< for a game

    Shared *shared_ = nullptr;
    pid_t pids_[kMostPlayers] = {};
    bool in_call_[kMostPlayers] = {};
};

}  // namespace aiomq_test
