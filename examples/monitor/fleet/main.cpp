// aiomq-demo-fleet: many hosts to monitor, in one cheap process. Prints one line of JSON with its
// port when it is ready, then serves until it is killed.
#include <getopt.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <string_view>

#include "faults.hpp"
#include "page.hpp"
#include "proc_source.hpp"
#include "server.hpp"

namespace {

constexpr const char *kUsage =
    "usage: aiomq-demo-fleet [--hosts N] [--sweeps N] [--samples N] [--seed N]\n"
    "                        [--truth-file PATH] [--parent PID]\n"
    "  --parent PID  end when that process, which must have started this one, ends\n";

constexpr int kBadUsage = 2;

struct Options {
    std::uint64_t hosts = 146;
    std::uint64_t sweeps = 3;
    std::uint64_t samples = 2500;
    std::uint64_t seed = 1;
    std::uint64_t parent = 0;
    std::string truth_file;
};

bool read_number(std::string_view text, std::uint64_t least, std::uint64_t &number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    constexpr std::uint64_t kMost = 1'000'000'000;
    return error == std::errc{} && end == text.data() + text.size() && number >= least &&
           number <= kMost;
}

bool read_options(int argc, char **argv, Options &options) {
    const option known[] = {{"hosts", required_argument, nullptr, 'h'},
                            {"sweeps", required_argument, nullptr, 'w'},
                            {"samples", required_argument, nullptr, 'n'},
                            {"seed", required_argument, nullptr, 's'},
                            {"truth-file", required_argument, nullptr, 't'},
                            {"parent", required_argument, nullptr, 'p'},
                            {nullptr, 0, nullptr, 0}};
    bool good = true;
    for (int found = 0; (found = getopt_long(argc, argv, "", known, nullptr)) != -1;) {
        switch (found) {
            case 'h':
                good = good && read_number(optarg, 1, options.hosts);
                break;
            case 'w':
                good = good && read_number(optarg, 1, options.sweeps);
                break;
            case 'n':
                good = good && read_number(optarg, 1, options.samples);
                break;
            case 's':
                good = good && read_number(optarg, 0, options.seed);
                break;
            case 'p':
                good = good && read_number(optarg, 1, options.parent);
                break;
            case 't':
                options.truth_file = optarg;
                break;
            default:
                return false;
        }
    }
    return good && optind == argc;
}

// However the parent ends, this process does not stay behind.
bool end_with_parent(std::uint64_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return static_cast<std::uint64_t>(getppid()) == parent;
}

int serve(const Options &options) {
    const fleet::SampleSet samples = fleet::read_proc(options.samples);
    if (!samples.full()) {
        std::fprintf(stderr, "aiomq-demo-fleet: /proc gives only %zu of %zu samples\n",
                     samples.count(), static_cast<std::size_t>(options.samples));
    }
    const fleet::FleetSize size{options.seed, options.hosts,
                                static_cast<std::int64_t>(options.sweeps)};
    const fleet::Page page(samples);
    const fleet::Faults faults(size, page);
    if (!options.truth_file.empty()) {
        std::ofstream file(options.truth_file);
        if (!(file << faults.truth_json()).flush()) {
            std::fprintf(stderr, "aiomq-demo-fleet: cannot write %s\n", options.truth_file.c_str());
            return 1;
        }
    }
    fleet::Server server(size, page, faults);
    std::printf("{\"port\": %u, \"hosts\": %zu, \"samples\": %zu}\n", unsigned{server.port()},
                size.hosts, samples.count());
    std::fflush(stdout);
    server.run();
    return 0;
}

}  // namespace

int main(int argc, char **argv) {
    Options options;
    if (!read_options(argc, argv, options)) {
        std::fputs(kUsage, stderr);
        return kBadUsage;
    }
    if (options.parent != 0 && !end_with_parent(options.parent)) return 1;
    std::signal(SIGPIPE, SIG_IGN);
    try {
        return serve(options);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "aiomq-demo-fleet: %s\n", error.what());
        return 1;
    }
}
