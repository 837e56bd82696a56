// options.hpp - the command line of aiomq-stat.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace aiomq_stat {

/// Exit statuses; documented in aiomq-stat(1).
enum ExitStatus {
    kExitOk = 0,
    kExitFailure = 1,       // something could not be read or written
    kExitUsage = 2,         // bad command line
    kExitNoPool = 3,        // no pool is called that, or there is none
    kExitAmbiguous = 4,     // several pools are called that
    kExitNotPermitted = 5,  // the pool is there, but may not be opened
};

enum class Verb { kList, kShow, kHelp, kVersion };

struct Options {
    Verb verb = Verb::kList;
    std::optional<std::string> pool;  // as given: label, pid, label@pid or label@pid:inode
    bool json = false;
    std::optional<std::chrono::nanoseconds> interval;  // repeat
    std::optional<std::uint64_t> count;                // stop after so many reports
};

/// The message names what is wrong on the command line.
class UsageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// Throws UsageError.
Options parse_options(int argc, char **argv);

/// What --help prints.
const char *usage_text();

}  // namespace aiomq_stat
