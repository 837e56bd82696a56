// Scenario: tasks that between them take a worker through all that it does with shared memory, and what
// must be true of their outcomes, wherever one worker was killed.
#pragma once

#include <string>
#include <vector>

#include "../support/pool_fixture.hpp"
#include "control.hpp"

namespace points {

class Scenario {
  public:
    Scenario(aiomq_test::TestPool &pool, Control &control) : pool_(pool), control_(control) {}

    /// One item, many, results and payloads short and long, errors, limits, keys, retries, nested work,
    /// payloads that the worker keeps, results that the application keeps.
    void submit_all();
    /// One task of one item. Gives its id.
    std::uint64_t submit_one();
    /// The same; it ends when this process sleeps, which it must do next.
    std::uint64_t submit_one_and_sleep();
    /// Outcomes and runs are what they may be when so many workers have died.
    void expect_sound(std::uint32_t kills) const;

  private:
    /// One submitted task: its calls have the numbers first … first + items - 1.
    struct Call {
        std::uint64_t id;
        std::uint32_t first;
        std::uint32_t items;
        std::uint32_t retries;
        std::string function;
    };
    std::uint64_t submit(const std::string &function, aiomq_task task,
                         std::size_t payload_bytes = 0);
    void expect_sound(const Call &call, std::uint32_t item, std::uint32_t kills) const;

    aiomq_test::TestPool &pool_;
    Control &control_;
    std::vector<Call> calls_;
    std::uint32_t next_ = 0;
};

}  // namespace points
