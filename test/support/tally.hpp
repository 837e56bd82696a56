// Tally: what a test program has counted. It is left as evidence when all of its tests were run at their full
// length, also when some have failed, which is one of its figures.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>

#include "../unit/seeded.hpp"
#include "evidence.hpp"

namespace aiomq_test {

class Tally : public testing::Environment {
  public:
    /// One per program: `Tally &tally = Tally::begin("name", "what it shows", "command");`.
    static Tally &begin(const std::string &name, const std::string &what,
                        const std::string &command, const std::string &seed) {
        return *static_cast<Tally *>(
            testing::AddGlobalTestEnvironment(new Tally(name, what, command, seed)));
    }

    void add(const std::string &figure, std::uint64_t more) { figures_[figure] += more; }

    void TearDown() override {
        const auto &tests = *testing::UnitTest::GetInstance();
        if (!full() || tests.test_to_run_count() != tests.total_test_count()) return;
        std::string figures;
        for (const auto &[figure, value] : figures_)
            figures += "\"" + figure + "\": " + std::to_string(value) + ", ";
        figures += "\"tests\": " + std::to_string(tests.test_to_run_count()) +
                   ", \"failed\": " + std::to_string(tests.failed_test_count());
        leave_evidence(name_, what_, figures, command_, seed_);
    }

  private:
    Tally(const std::string &name, const std::string &what, const std::string &command,
          const std::string &seed)
        : name_(name), what_(what), command_(command), seed_(seed) {}

    std::string name_;
    std::string what_;
    std::string command_;
    std::string seed_;
    std::map<std::string, std::uint64_t> figures_;
};

}  // namespace aiomq_test
