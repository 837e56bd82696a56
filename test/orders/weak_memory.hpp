// A machine with weak memory, on which the *real* code runs, one step at a time, in an order and with
// values that a seed chooses.
//
// Threads are contexts that are switched before each access. An atomic location keeps all values that it
// has had; a load may give any of them that its thread is not yet known to have passed. What a thread must
// know is its *view*: releases attach it to the value they store, acquires take it over from the value
// they read. Sequentially consistent operations share one more view. Plain accesses are checked to be
// ordered by the views: if not, it is a data race, and an error.
//
// The rules are those of C++20 [atomics.order], in the operational form of J. Kang, C. Hur, O. Lahav,
// V. Vafeiadis, D. Dreyer, "A Promising Semantics for Relaxed-Memory Concurrency", POPL 2017, section 3
// (without promises: no load takes its value from a store that comes later), with the sequentially
// consistent accesses of B. Norris, B. Demsky, "CDSChecker", OOPSLA 2013, section 3.3: such a load gives
// nothing older than the last such store to its location. Stores of one location come in the order in
// which they are made.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "../support/access.hpp"

namespace weak {

/// What must be known: how far a view is in the history of each location, and in each thread's life.
using View = std::map<std::uintptr_t, std::uint32_t>;

/// An atomic operation in the code.
struct Place {
    const void *site;
    int order;    ///< __ATOMIC_*, also of a successful compare-exchange
    int failure;  ///< of a compare-exchange that fails; else equal to order
    char kind;    ///< 'l'oad, 's'tore, 'r'ead-modify-write, 'c'ompare-exchange

    bool operator<(const Place &other) const { return site < other.site; }
};

class Machine : public accesses::Observer {
  public:
    explicit Machine(std::uint64_t seed);
    ~Machine() override;

    /// Memory that is shared by the threads. Its present content is known to all.
    void share(void *memory, std::size_t bytes);
    /// In place of their own order, the operations at @sites have this one; @failure, their order of failing.
    void weaken(const std::set<const void *> &sites, int order, bool failure);
    /// Beyond C++20, a sequentially consistent read-modify-write is a full barrier: what its thread stored
    /// before it is there for every later sequentially consistent load.
    void use_full_barriers() { full_barriers_ = true; }
    /// Runs the threads to their ends. "" or what went wrong.
    std::string run(std::vector<std::function<void()>> threads);
    /// For the threads: goes on once @ready says so, which another thread's step makes true.
    void wait(const std::function<bool()> &ready);
    /// For the threads, of system calls that pass something on: what one thread knew at give() is known to
    /// those that take() afterwards.
    void give(View &channel);
    void take(const View &channel);
    /// For the threads, and what they call: the program is wrong.
    [[noreturn]] static void fail(const std::string &text);

    const std::set<Place> &places() const { return places_; }
    /// The machine that runs, for wait() and the like.
    static Machine *current();

    bool covers(const void *address) const override;
    void plain(const void *address, std::size_t bytes, bool write, const void *site) override;
    void copied(const void *, const void *) override {}
    std::uint64_t load(const void *address, std::size_t bytes, int order,
                       const void *site) override;
    void store(void *address, std::size_t bytes, std::uint64_t value, int order,
               const void *site) override;
    std::uint64_t change(void *address, std::size_t bytes, accesses::Change change,
                         std::uint64_t operand, int order, const void *site) override;
    bool compare_exchange(void *address, std::size_t bytes, std::uint64_t &expected,
                          std::uint64_t desired, int order, int failure, const void *site) override;

  private:
    struct Stored {
        std::uint64_t value;
        View view;
    };
    struct Location {
        std::vector<Stored> history;
        std::uint32_t last_seq = 0;  ///< the newest sequentially consistent store
    };
    struct Plain {
        std::uint32_t writer = 0;  ///< thread + 1; 0: before the threads
        std::uint32_t written = 0;
        std::map<std::uint32_t, std::uint32_t> reads;  ///< thread → its time
    };
    struct Thread;

    Location &location(const void *address, std::size_t bytes);
    std::uint64_t read(const void *address, std::size_t bytes, int order);
    void acquire(const Stored &stored, int order);
    void append(const void *address, Location &at, std::uint64_t value, int order,
                const View *inherited);
    int order_of(const void *site, int order, int failure, char kind, bool failed);
    void step();
    View &view();
    void barrier(int order);
    static std::uintptr_t clock_of(std::uint32_t thread) { return thread; }

    std::mt19937_64 engine_;
    std::uintptr_t begin_ = 0;
    std::size_t bytes_ = 0;
    std::map<std::uintptr_t, Location> locations_;
    std::map<std::uintptr_t, Plain> plain_;
    std::vector<std::unique_ptr<Thread>> threads_;
    std::uint32_t running_ = 0;
    std::set<Place> places_;
    std::set<const void *> weakened_;
    int weakened_order_ = 0;
    bool weakened_failure_ = false;
    bool full_barriers_ = false;
    std::string error_;
    std::uint64_t steps_ = 0;
};

}  // namespace weak
