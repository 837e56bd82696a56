// options.hpp - the command line of aiomq-stat.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace aiomq_stat {

/// Exit statuses; documented in aiomq-stat(1).
enum ExitStatus {
    kExitOk = 0,            // check: within the limits
    kExitFailure = 1,       // something could not be read or written
    kExitUsage = 2,         // bad command line
    kExitNoPool = 3,        // no pool is called that, or there is none
    kExitAmbiguous = 4,     // several pools are called that
    kExitNotPermitted = 5,  // the pool is there, but may not be opened
};

/// Exit statuses of check, which are those that monitors of services know.
enum CheckStatus {
    kCheckFine = 0,
    kCheckExceeded = 1,  // a limit, or the pool is broken
    kCheckUnknown = 2,   // no such pool, not permitted, damaged; bad usage
};

enum class Verb { kList, kShow, kTasks, kEvents, kFunctions, kCheck, kHelp, kVersion };

struct Options {
    Verb verb = Verb::kList;
    std::optional<std::string> pool;  // as given: label, pid, label@pid or label@pid:inode
    std::vector<std::string> pools;   // of check
    bool json = false;
    bool follow = false;
    std::optional<std::chrono::nanoseconds> max_wait;
    std::optional<std::chrono::nanoseconds> max_blocked;
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
