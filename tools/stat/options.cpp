#include "options.hpp"

#include <getopt.h>

#include <array>
#include <charconv>
#include <cmath>
#include <string_view>
#include <system_error>
#include <vector>

namespace aiomq_stat {
namespace {

constexpr double kShortestIntervalSeconds = 0.001;
constexpr double kLongestIntervalSeconds = 1e6;

enum LongOption { kJson = 256, kHelp, kVersion };

std::string quoted(std::string_view text) { return "'" + std::string(text) + "'"; }

std::chrono::nanoseconds parse_interval(std::string_view text) {
    double seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(seconds)) {
        throw UsageError("-i needs a number of seconds, not " + quoted(text));
    }
    if (seconds < kShortestIntervalSeconds || seconds > kLongestIntervalSeconds) {
        throw UsageError("-i " + quoted(text) + " is out of range (0.001 to 1000000 seconds)");
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
            options.interval = parse_interval(optarg);
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

void take_words(const std::vector<std::string> &words, Options &options) {
    if (words.empty()) return;
    std::size_t most = 1;
    if (words[0] == "show") {
        options.verb = Verb::kShow;
        if (words.size() > 1) options.pool = words[1];
        most = 2;
    } else if (words[0] != "list") {
        throw UsageError("unknown verb " + quoted(words[0]) + " (known: list, show)");
    }
    if (words.size() > most) throw UsageError("unexpected argument " + quoted(words[most]));
    if (options.pool && options.pool->empty()) throw UsageError("the name of the pool is empty");
}

}  // namespace

Options parse_options(int argc, char **argv) {
    static constexpr std::array<option, 4> kLongOptions = {{
        {"json", no_argument, nullptr, kJson},
        {"help", no_argument, nullptr, kHelp},
        {"version", no_argument, nullptr, kVersion},
        {nullptr, 0, nullptr, 0},
    }};
    Options options;
    opterr = 0;  // we name the culprit ourselves
    for (;;) {
        const int index = optind;
        const int option = ::getopt_long(argc, argv, ":i:n:", kLongOptions.data(), nullptr);
        if (option == -1) break;
        if (option == ':') {
            throw UsageError("option " + culprit(argv, index) + " needs a value");
        }
        if (option == '?') {
            const char *const reason = optopt >= kJson ? " takes no value" : " is unknown";
            throw UsageError("option " + culprit(argv, optind - 1) + reason);
        }
        take_option(option, options);
        if (options.verb == Verb::kHelp || options.verb == Verb::kVersion) return options;
    }
    take_words({argv + optind, argv + argc}, options);
    if (options.count && !options.interval) {
        throw UsageError("-n limits how often -i repeats: give -i too");
    }
    return options;
}

const char *usage_text() {
    return "usage: aiomq-stat [list] [--json] [-i SECONDS [-n COUNT]]\n"
           "       aiomq-stat show [POOL] [--json] [-i SECONDS [-n COUNT]]\n"
           "       aiomq-stat --help | --version\n"
           "\n"
           "Look at the libaiomq pools of this machine, also when they are busy, stopped or hung.\n"
           "\n"
           "  list         one line for each pool (the default)\n"
           "  show [POOL]  everything about one pool; POOL is a label, a pid or label@pid,\n"
           "               and may be left out when there is only one\n"
           "\n"
           "  --json       write JSON; with -i one value on each line\n"
           "  -i SECONDS   repeat, with rates per second since the report before\n"
           "  -n COUNT     end after so many reports\n"
           "  --help       show this text\n"
           "  --version    show the version of the tool's library\n"
           "\n"
           "Exit status: 0 done, 1 failed to read or write, 2 bad usage, 3 no such pool,\n"
           "4 several pools of that name, 5 not permitted. See aiomq-stat(1).\n";
}

}  // namespace aiomq_stat
