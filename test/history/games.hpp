// Plays games from consecutive seeds and looks for one whose history nothing sequential explains.
#pragma once

#include <cstdio>
#include <string>

#include "../support/evidence.hpp"
#include "../unit/seeded.hpp"
#include "fault.hpp"
#include "linearize.hpp"

namespace aiomq_test {

/// How many games to play, from which seed on.
struct Series {
    std::uint64_t first = 0;
    std::uint64_t games = 0;
};

/// Of a whole series.
struct Outcome {
    std::uint64_t played = 0;
    std::uint64_t killed_in_a_call = 0;
    std::uint64_t calls = 0;
    std::string trouble;  ///< of the last game; empty: all was well
};

/// What is wrong with the game that was played last. @Table: where it was played, Table or Stepper.
template <typename Table>
std::string trouble_of(Table &table, Outcome &outcome) {
    using Game = typename Table::Played;
    if (table.endless()) return "a call did not end\n";
    table.game().end(table.record());
    const History history = Game::history(table.record());
    for (const Operation &operation : history)
        if (operation.after < 0) {
            ++outcome.calls;
            outcome.killed_in_a_call += !operation.returned;
        }
    Linearization<typename Game::Specification> linearization(history);
    if (linearization.exists()) return "";
    return drawn<typename Game::Specification>(history, linearization.order());
}

/// Plays until something is wrong. The fault is in the words in [from, to) of a game.
template <typename Table>
Outcome play(Series series, Fault fault = Fault::kNone, std::size_t from = 0, std::size_t to = 0) {
    Table table;
    Outcome outcome;
    const auto *words = reinterpret_cast<const char *>(&table.game());
    while (outcome.played < series.games && outcome.trouble.empty()) {
        const std::uint64_t seed = series.first + outcome.played++;
        table.play(seed, {fault, words + from, words + to});
        outcome.trouble = trouble_of(table, outcome);
        if (!outcome.trouble.empty())
            outcome.trouble = "AIOMQ_SEED=" + std::to_string(seed) + "\n" + outcome.trouble;
    }
    return outcome;
}

/// Nothing is wrong in any history. A long series leaves its figures as history-@name.
template <typename Table>
void expect_sound(const char *name, std::uint64_t few, std::uint64_t many) {
    const Outcome outcome = play<Table>({seed(), rounds(few, many)});
    const std::string figures =
        "\"histories\": " + std::to_string(outcome.played) +
        ", \"calls\": " + std::to_string(outcome.calls) +
        ", \"killed_in_a_call\": " + std::to_string(outcome.killed_in_a_call) +
        ", \"not_linearizable\": " + (outcome.trouble.empty() ? "0" : "1");
    std::printf("%s: %s\n", name, figures.c_str());
    if (stress())
        leave_evidence(std::string("history-") + name,
                       "histories of processes that are killed, each linearizable", figures,
                       "meson test --setup stress --suite history", std::to_string(seed()));
    if (!outcome.trouble.empty()) ADD_FAILURE() << outcome.trouble;
    EXPECT_GT(outcome.killed_in_a_call, 0U);
}

/// A seed gives the same history whatever was played before it.
template <typename Table>
void expect_repeatable(std::uint64_t games) {
    using Game = typename Table::Played;
    const auto played = [](Table &table, std::uint64_t seed) {
        table.play(seed, {});
        return drawn<typename Game::Specification>(Game::history(table.record()), {});
    };
    Table table;
    for (std::uint64_t i = 0; i < games; ++i) {
        const std::string first = played(table, seed() + i);
        Table other;
        ASSERT_EQ(played(other, seed() + i), first);
    }
}

/// Of this many histories at least one shows a mutant; which, follows from the seeds alone.
inline constexpr std::uint64_t kEnough = 60000;

template <typename Table>
void expect_found(const char *name, Fault fault, std::size_t from, std::size_t to) {
    const Outcome outcome = play<Table>({1, kEnough}, fault, from, to);
    std::printf("%s: %s history %llu\n", name, outcome.trouble.empty() ? "NOT by" : "found by",
                static_cast<unsigned long long>(outcome.played));
    EXPECT_FALSE(outcome.trouble.empty()) << name;
}

}  // namespace aiomq_test
