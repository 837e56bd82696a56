// chaos: everything at once, at random, with an audit. See README.md in this folder; `./dev chaos` calls
// it with what it needs.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>

#include "native_worker.hpp"
#include "options.hpp"

namespace chaos {

void Figures::add(const std::string &name, double value) { values_.emplace_back(name, value); }

bool Figures::write(const std::string &path) const {
    std::ofstream file(path);
    file << "{";
    for (std::size_t i = 0; i < values_.size(); ++i) {
        char number[64];
        snprintf(number, sizeof number, "%.10g", values_[i].second);
        file << (i == 0 ? "" : ", ") << '"' << values_[i].first << "\": " << number;
    }
    file << "}\n" << std::flush;
    return file.good();
}

namespace {

[[noreturn]] void usage() {
    fprintf(stderr,
            "chaos mixed|deaths|soak [--seconds S] [--kills N] [--rounds N] [--rate PER_SECOND]\n"
            "      [--sample S] [--seed N] [--python PROGRAM --folder FOLDER] [--json FILE]"
            " [--csv FILE]\n");
    exit(2);
}

Options read(int argc, char **argv) {
    Options options;
    const char *given = getenv("AIOMQ_SEED");
    options.seed = given != nullptr ? strtoull(given, nullptr, 10) : std::random_device{}();
    for (int i = 2; i < argc; i += 2) {
        const std::string name = argv[i];
        if (i + 1 >= argc) usage();
        const char *value = argv[i + 1];
        if (name == "--seconds")
            options.seconds = strtod(value, nullptr);
        else if (name == "--kills")
            options.kills = strtoull(value, nullptr, 10);
        else if (name == "--rounds")
            options.rounds = strtoull(value, nullptr, 10);
        else if (name == "--rate")
            options.per_second = strtod(value, nullptr);
        else if (name == "--sample")
            options.sample_seconds = strtod(value, nullptr);
        else if (name == "--seed")
            options.seed = strtoull(value, nullptr, 10);
        else if (name == "--python")
            options.python = value;
        else if (name == "--folder")
            options.folder = value;
        else if (name == "--json")
            options.json = value;
        else if (name == "--csv")
            options.csv = value;
        else
            usage();
    }
    return options;
}

}  // namespace
}  // namespace chaos

int main(int argc, char **argv) {
    chaos::run_as_worker();
    if (argc < 2) chaos::usage();
    const std::string part = argv[1];
    const chaos::Options options = chaos::read(argc, argv);
    if (part == "victim") chaos::run_victim(options);
    printf("AIOMQ_SEED=%llu\n", static_cast<unsigned long long>(options.seed));
    fflush(stdout);
    if (part == "mixed") return chaos::run_mixed(options) ? 0 : 1;
    if (part == "deaths") return chaos::run_deaths(options) ? 0 : 1;
    if (part == "soak") return chaos::run_soak(options) ? 0 : 1;
    chaos::usage();
}
