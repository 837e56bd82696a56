// check.hpp - whether pools are well, for probes: one line and an exit status.
#pragma once

#include <string>

#include "options.hpp"

namespace aiomq_stat {

struct CheckResult {
    CheckStatus status = kCheckFine;
    std::string line;  // without a newline
};

/// Look once at the pools that the options name, or at all; never throws for what it finds.
CheckResult check_pools(const Options &options);

}  // namespace aiomq_stat
