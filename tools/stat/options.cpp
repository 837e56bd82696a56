#include "options.hpp"

#include <getopt.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <vector>

namespace aiomq_stat {
namespace {

constexpr double kShortestIntervalSeconds = 0.001;
constexpr double kLongestIntervalSeconds = 1e6;

enum LongOption { kJson = 256, kHelp, kVersion, kMaxWait, kMaxBlocked };

std::string quoted(std::string_view text) { return "'" + std::string(text) + "'"; }

/// @shortest: in seconds, and as it is written.
std::chrono::nanoseconds parse_seconds(const std::string &option, std::string_view text,
                                       double shortest, const std::string &shortest_text) {
    double seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(seconds)) {
        throw UsageError(option + " needs a number of seconds, not " + quoted(text));
    }
    if (seconds < shortest || seconds > kLongestIntervalSeconds) {
        throw UsageError(option + " " + quoted(text) + " is out of range (" + shortest_text +
                         " to 1000000 seconds)");
    }
    return std::chrono::nanoseconds(std::llround(seconds * 1e9));
}

std::uint64_t parse_count(std::string_view text) {
    std::uint64_t count = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
    if (error != std::errc{} || end != text.data() + text.size() || count == 0) {
        throw UsageError("-n needs a number of reports, 1 or more, not " + quoted(text));
    }
    return count;
}

/// The option that getopt stopped at, as the user wrote it.
std::string culprit(char **argv, int index) {
    if (optopt > 0 && optopt < kJson) return quoted(std::string{'-', static_cast<char>(optopt)});
    return quoted(argv[index]);
}

void take_option(int option, Options &options) {
    switch (option) {
        case 'i':
            options.interval = parse_seconds("-i", optarg, kShortestIntervalSeconds, "0.001");
            break;
        case 'f':
            options.follow = true;
            break;
        case kMaxWait:
            options.max_wait = parse_seconds("--max-wait", optarg, 0, "0");
            break;
        case kMaxBlocked:
            options.max_blocked = parse_seconds("--max-blocked", optarg, 0, "0");
            break;
        case 'n':
            options.count = parse_count(optarg);
            break;
        case kJson:
            options.json = true;
            break;
        case kHelp:
            options.verb = Verb::kHelp;
            break;
        case kVersion:
            options.verb = Verb::kVersion;
            break;
        default:
            throw std::logic_error("an option without a meaning");
    }
}

struct NamedVerb {
    std::string_view name;
    Verb verb;
    std::size_t most_pools;
};
constexpr std::array<NamedVerb, 6> kVerbs = {{
    {"list", Verb::kList, 0},
    {"show", Verb::kShow, 1},
    {"tasks", Verb::kTasks, 1},
    {"events", Verb::kEvents, 1},
    {"functions", Verb::kFunctions, 1},
    {"check", Verb::kCheck, SIZE_MAX},
}};

void take_words(const std::vector<std::string> &words, Options &options) {
    if (words.empty()) return;
    const auto *const known = std::ranges::find(kVerbs, words[0], &NamedVerb::name);
    if (known == kVerbs.end()) {
        throw UsageError("unknown verb " + quoted(words[0]) +
                         " (known: list, show, tasks, events, functions, check)");
    }
    options.verb = known->verb;
    options.pools.assign(words.begin() + 1, words.end());
    if (options.pools.size() > known->most_pools) {
        throw UsageError("unexpected argument " + quoted(words[1 + known->most_pools]));
    }
    for (const std::string &pool : options.pools) {
        if (pool.empty()) throw UsageError("the name of the pool is empty");
    }
    if (!options.pools.empty()) options.pool = options.pools[0];
}

/// Options that say nothing to the verb are mistakes.
void check_options(const Options &options) {
    const auto only_for = [](bool given, bool fits, const char *option, const char *verbs) {
        if (given && !fits) {
            throw UsageError(std::string(option) + " has a meaning only for " + verbs);
        }
    };
    const Verb verb = options.verb;
    only_for(options.interval.has_value(), verb == Verb::kList || verb == Verb::kShow, "-i",
             "list and show");
    only_for(options.follow, verb == Verb::kEvents, "-f", "events");
    only_for(options.max_wait.has_value(), verb == Verb::kCheck, "--max-wait", "check");
    only_for(options.max_blocked.has_value(), verb == Verb::kCheck, "--max-blocked", "check");
    only_for(options.json, verb != Verb::kCheck, "--json", "the other verbs");
    if (options.count && !options.interval) {
        throw UsageError("-n limits how often -i repeats: give -i too");
    }
}

}  // namespace

Options parse_options(int argc, char **argv) {
    static constexpr std::array<option, 6> kLongOptions = {{
        {"json", no_argument, nullptr, kJson},
        {"help", no_argument, nullptr, kHelp},
        {"version", no_argument, nullptr, kVersion},
        {"max-wait", required_argument, nullptr, kMaxWait},
        {"max-blocked", required_argument, nullptr, kMaxBlocked},
        {nullptr, 0, nullptr, 0},
    }};
    Options options;
    opterr = 0;  // we name the culprit ourselves
    for (;;) {
        const int option = ::getopt_long(argc, argv, ":i:n:f", kLongOptions.data(), nullptr);
        if (option == -1) break;
        if (option == ':') {
            throw UsageError("option " + culprit(argv, optind - 1) + " needs a value");
        }
        if (option == '?') {
            const char *const reason = optopt >= kJson ? " takes no value" : " is unknown";
            throw UsageError("option " + culprit(argv, optind - 1) + reason);
        }
        take_option(option, options);
        if (options.verb == Verb::kHelp || options.verb == Verb::kVersion) return options;
    }
    take_words({argv + optind, argv + argc}, options);
    check_options(options);
    return options;
}

const char *usage_text() {
    return "usage: aiomq-stat [list] [--json] [-i SECONDS [-n COUNT]]\n"
           "       aiomq-stat show [POOL] [--json] [-i SECONDS [-n COUNT]]\n"
           "       aiomq-stat tasks [POOL] [--json]\n"
           "       aiomq-stat events [POOL] [-f] [--json]\n"
           "       aiomq-stat functions [POOL] [--json]\n"
           "       aiomq-stat check [POOL...] [--max-wait SECONDS] [--max-blocked SECONDS]\n"
           "       aiomq-stat --help | --version\n"
           "\n"
           "Look at the libaiomq pools of this machine, also when they are busy, stopped or hung.\n"
           "\n"
           "  list           one line for each pool (the default)\n"
           "  show [POOL]    everything about one pool; POOL is a label, a pid or label@pid,\n"
           "                 and may be left out when there is only one\n"
           "  tasks [POOL]   the tasks that its workers have, oldest first\n"
           "  events [POOL]  what its supervisor did and saw, the last 64, oldest first\n"
           "  functions [POOL]\n"
           "                 what it calls: how often, how much data, where the time goes\n"
           "  check [POOL...]\n"
           "                 whether these pools, or all, are well, in one line\n"
           "\n"
           "  --json         write JSON; with -i or -f one value on each line\n"
           "  -i SECONDS     repeat, with rates per second since the report before\n"
           "  -n COUNT       end after so many reports\n"
           "  -f             go on with new events as they come\n"
           "  --max-wait SECONDS     no task may have waited for a worker for longer\n"
           "  --max-blocked SECONDS  no worker's loop may have stood still for longer\n"
           "  --help         show this text\n"
           "  --version      show the version of the tool's library\n"
           "\n"
           "Exit status: 0 done, 1 failed to read or write, 2 bad usage, 3 no such pool,\n"
           "4 several pools of that name, 5 not permitted. Of check: 0 fine, 1 not, 2 can't tell.\n"
           "See aiomq-stat(1).\n";
}

}  // namespace aiomq_stat
