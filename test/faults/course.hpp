// A pool's whole life while something outside fails: start, tasks that make arenas grow, a worker's death
// and its successor, the end. Whatever fails, each step ends in success or in a named error, every task
// that was taken has one outcome, and nothing is left behind.
#pragma once

#include <set>
#include <string>

#include "../support/pool_fixture.hpp"

namespace aiomq_test {

/// What this process has that a pool could leak.
struct Holdings {
    Holdings();
    std::set<std::string> descriptors;
    std::size_t threads;
    long mappings;  ///< as far as they passed through faults.h
};

/// What a course may look like beside flawless.
struct Allowed {
    std::set<int> creation{};  ///< errors of aiomq_pool_create()
    std::set<int> outcomes{};  ///< of tasks, beside OK
    bool refusal = false;      ///< a submit may be answered -ENOMEM although nothing is under way
    bool breakage = false;     ///< the pool may break, with POOL_CLOSED for what is left
    /// How the pool ends while it still fails; without, it is closed when nothing fails any more.
    int (*end)(aiomq_pool *pool) = nullptr;
};

class Course {
  public:
    explicit Course(const Allowed &allowed) : allowed_(allowed) {}

    /// Begins and lives a pool's life; what must not be fails the test. Before its end the fault is
    /// disarmed; from then on a pool that is not broken works like any other.
    void run(const PoolOptions &options);

    bool created() const { return created_; }
    bool broken() const { return broken_; }

  private:
    bool open_view(TestPool &pool);
    void live(TestPool &pool);
    void submit(TestPool &pool, const std::string &function, const std::string &payload,
                std::uint32_t items = 1);
    void collect(TestPool &pool);
    void settle(TestPool &pool);
    std::uint32_t running();
    void check_outcomes(TestPool &pool);
    void check_works(TestPool &pool);
    void end(TestPool &pool);

    struct Task {
        std::string function;
        std::string payload;
        std::uint32_t items;
    };

    Allowed allowed_;
    aiomq_view *view_ = nullptr;
    std::map<std::uint64_t, Task> tasks_;
    std::size_t items_ = 0;
    bool created_ = false;
    bool broken_ = false;
};

/// Expects that this process has what it had, and no child.
void expect_nothing_left(const Holdings &before);

}  // namespace aiomq_test
