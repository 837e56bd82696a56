// Sweep: a function of the C library fails at its first call, in the next run at its second, and so on, until
// a run meets the failure no more.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "../support/tally.hpp"
#include "../unit/seeded.hpp"

namespace aiomq_test {

inline constexpr long kNever = 1'000'000'000;
/// How many calls are tried of functions that are called as often as threads happen to meet.
inline constexpr long kMostOfMany = 8;

inline constexpr const char *kFaultsCommand = "./dev test --full faults";
inline constexpr const char *kAllFaults = "none: all of them";

/// @Fault: has name, error, `lasting` and `countable`.
template <typename Fault>
class Sweep : public testing::TestWithParam<Fault> {
  protected:
    /// False: the fault did not come any more.
    virtual bool try_call(long number, bool lasting) = 0;
    virtual Tally &tally() = 0;

    /// @lasting: with each call fail all that follow it.
    void try_all(bool lasting) {
        const bool bounded = !this->GetParam().countable && !full();
        long number = 1;
        while ((!bounded || number <= kMostOfMany) && try_call(number, lasting)) {
            ++number;
            if (this->HasFailure()) return;
        }
        tally().add("faults", 1);
        tally().add("failing calls", static_cast<std::uint64_t>(number - 1));
        EXPECT_GT(number, 1) << "the function is never called: nothing was shown";
        std::printf("%ld calls failed%s\n", number - 1, lasting ? " with all later ones" : "");
    }

  public:
    static std::string name_of(const testing::TestParamInfo<Fault> &entry) {
        return std::string(entry.param.name) + "_" + strerrorname_np(entry.param.error);
    }
    static std::vector<Fault> lasting_among(const std::vector<Fault> &all) {
        std::vector<Fault> lasting;
        std::copy_if(all.begin(), all.end(), std::back_inserter(lasting),
                     [](const Fault &fault) { return fault.lasting; });
        return lasting;
    }
};

}  // namespace aiomq_test
