// Which reorderings this machine shows, or the emulator that runs the program: what a test that has run
// here says about memory orders, and what it can't say.
//
// Two threads meet before each round and then do what the name says, by the methods of Atomic<T> that the
// core uses. A reordering is an outcome that needs two operations of one thread to take effect in the
// other order. In C++ those of the rows "seq_cst" and "release" can't be. Ends with status 1 if one was
// seen, unless --report is given.
//
// usage: litmus [--report] [ROUNDS]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "atomic.hpp"

namespace {

using aiomq::Atomic;
using Word = Atomic<std::uint64_t>;

struct alignas(128) Line {
    Word word{0};
};

struct Shared {
    Line x, y, left_ready, right_ready;
};

/// Returns when the other thread has come to the same round.
void meet(Line &own, const Line &other, std::uint64_t round) {
    own.word.store_release(round);
    while (other.word.load_acquire() < round) {
    }
}

/// Runs both sides @rounds times; each gives what it saw. Counts rounds that @reordered finds.
template <typename Left, typename Right, typename Reordered>
std::uint64_t count(std::uint64_t rounds, Left left, Right right, Reordered reordered) {
    auto shared = std::make_unique<Shared>();
    std::vector<std::uint64_t> seen_left(rounds + 1);
    std::vector<std::uint64_t> seen_right(rounds + 1);
    std::thread thread([&] {
        for (std::uint64_t round = 1; round <= rounds; ++round) {
            meet(shared->right_ready, shared->left_ready, round);
            seen_right[round] = right(shared->x.word, shared->y.word, round);
        }
    });
    for (std::uint64_t round = 1; round <= rounds; ++round) {
        meet(shared->left_ready, shared->right_ready, round);
        seen_left[round] = left(shared->x.word, shared->y.word, round);
    }
    thread.join();
    std::uint64_t found = 0;
    for (std::uint64_t round = 1; round <= rounds; ++round)
        if (reordered(seen_left[round], seen_right[round], round)) ++found;
    return found;
}

/// Each stores to its own word and then loads the other's: both loads miss.
template <typename Store, typename Load>
std::uint64_t store_buffering(std::uint64_t rounds, Store store, Load load) {
    return count(
        rounds,
        [=](Word &x, Word &y, std::uint64_t round) {
            store(x, round);
            return load(y);
        },
        [=](Word &x, Word &y, std::uint64_t round) {
            store(y, round);
            return load(x);
        },
        [](std::uint64_t left, std::uint64_t right, std::uint64_t round) {
            return left < round && right < round;
        });
}

/// One stores to x and then to y; the other sees y and then not x.
template <typename Store, typename Load>
std::uint64_t message_passing(std::uint64_t rounds, Store store, Load load) {
    return count(
        rounds,
        [=](Word &x, Word &y, std::uint64_t round) {
            x.store_relaxed(round);
            store(y, round);
            return round;
        },
        [=](Word &x, Word &y, std::uint64_t round) {
            while (load(y) < round) {
            }
            return x.load_relaxed();
        },
        [](std::uint64_t, std::uint64_t right, std::uint64_t round) { return right < round; });
}

const auto store_relaxed = [](Word &word, std::uint64_t value) { word.store_relaxed(value); };
const auto store_release = [](Word &word, std::uint64_t value) { word.store_release(value); };
const auto store_seq = [](Word &word, std::uint64_t value) { word.store_seq(value); };
const auto exchange_seq = [](Word &word, std::uint64_t value) { word.exchange_seq(value); };
const auto load_relaxed = [](const Word &word) { return word.load_relaxed(); };
const auto load_acquire = [](const Word &word) { return word.load_acquire(); };
const auto load_seq = [](const Word &word) { return word.load_seq(); };

bool broken = false;

void row(const char *name, bool possible, std::uint64_t found, std::uint64_t rounds) {
    std::printf("%-44s %10llu of %llu%s\n", name, static_cast<unsigned long long>(found),
                static_cast<unsigned long long>(rounds),
                found == 0 ? "" : (possible ? ", as C++ allows" : ", which C++ FORBIDS"));
    if (found != 0 && !possible) broken = true;
}

}  // namespace

int main(int argc, char **argv) {
    const bool report = argc > 1 && std::strcmp(argv[1], "--report") == 0;
    const char *number = argc > (report ? 2 : 1) ? argv[report ? 2 : 1] : "1000000";
    const std::uint64_t n = std::strtoull(number, nullptr, 10);
    row("store, load: relaxed", true, store_buffering(n, store_relaxed, load_relaxed), n);
    row("store, load: release and acquire", true, store_buffering(n, store_release, load_acquire),
        n);
    row("store, load: seq_cst", false, store_buffering(n, store_seq, load_seq), n);
    row("exchange, load: seq_cst", false, store_buffering(n, exchange_seq, load_seq), n);
    row("two stores, two loads: relaxed", true, message_passing(n, store_relaxed, load_relaxed), n);
    row("two stores, two loads: release and acquire", false,
        message_passing(n, store_release, load_acquire), n);
    return broken && !report ? 1 : 0;
}
