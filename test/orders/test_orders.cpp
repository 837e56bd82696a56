// Ring, lanes, slot word, item range and sleeping flags on a machine with weak memory: right as they are,
// and wrong as soon as any one order is weaker.
//
// AIOMQ_SEED=<n> runs one seed. AIOMQ_STRESS=1: many more. AIOMQ_FULL=1: also those orders that are listed as
// stronger than needed, which must not be noticed.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <tuple>

#include "../support/tally.hpp"
#include "scenario.hpp"
#include "stronger.hpp"

namespace weak {
namespace {

std::vector<Kind> all_scenarios() {
    std::vector<Kind> all;
    for (const auto &some :
         {ring_scenarios(), lane_scenarios(), slot_scenarios(), versioned_scenarios()})
        all.insert(all.end(), some.begin(), some.end());
    return all;
}

using aiomq_test::Tally;
Tally &counts = Tally::begin("orders",
                             "the compiled code of ring, lanes, slot word, item range, sleeping "
                             "flags and values with a version on a "
                             "machine with weak memory: right as it is, and wrong when an order is "
                             "weaker but for those listed",
                             "./dev test --full orders", "0 and up");

bool thorough() { return aiomq_test::stress(); }

/// An order that is weaker than the one in the code.
struct Weakening {
    std::set<const void *> sites;
    int order = 0;
    bool failure = false;
};

std::string run(const Kind &kind, std::uint64_t seed, const Weakening *weakening,
                std::set<Place> *places = nullptr) {
    const auto scenario = kind.make();
    Machine machine(seed);
    machine.share(scenario->shared(), scenario->shared_bytes());
    if (scenario->needs_full_barriers()) machine.use_full_barriers();
    if (weakening != nullptr)
        machine.weaken(weakening->sites, weakening->order, weakening->failure);
    std::string error = machine.run(scenario->threads());
    if (error.empty()) error = scenario->verdict();
    if (places != nullptr) places->insert(machine.places().begin(), machine.places().end());
    return error;
}

const char *name_of(int order) {
    switch (order) {
        case __ATOMIC_RELAXED:
            return "relaxed";
        case __ATOMIC_ACQUIRE:
            return "acquire";
        case __ATOMIC_RELEASE:
            return "release";
        case __ATOMIC_ACQ_REL:
            return "acq_rel";
        default:
            return "seq_cst";
    }
}

/// The next weaker orders.
std::vector<int> weaker(int order, char kind) {
    if (order == __ATOMIC_SEQ_CST)
        return {kind == 'l' ? __ATOMIC_ACQUIRE : kind == 's' ? __ATOMIC_RELEASE : __ATOMIC_ACQ_REL};
    if (order == __ATOMIC_ACQ_REL) return {__ATOMIC_ACQUIRE, __ATOMIC_RELEASE};
    if (order == __ATOMIC_RELAXED) return {};
    return {__ATOMIC_RELAXED};
}

/// The line of the core that an operation is written in: "ring.hpp: its text".
std::string line_of(const void *site) {
    static std::map<const void *, std::string> known;
    if (const auto found = known.find(site); found != known.end()) return found->second;
    Dl_info program{};
    dladdr(site, &program);
    const auto offset = static_cast<std::size_t>(static_cast<const char *>(site) - 1 -
                                                 static_cast<const char *>(program.dli_fbase));
    std::array<char, 400> text{};
    std::snprintf(text.data(), text.size(), "addr2line -ie /proc/%d/exe 0x%zx", getpid(), offset);
    FILE *pipe = popen(text.data(), "r");
    std::string line;
    while (pipe != nullptr && std::fgets(text.data(), text.size(), pipe) != nullptr) {
        const std::string place(text.data());
        const auto slash = place.rfind('/');
        const auto colon = place.find(':', slash);
        const std::string file = place.substr(slash + 1, colon - slash - 1);
        if (file == "atomic_base.h" || file == "atomic.hpp" || !line.empty()) continue;
        std::ifstream source(place.substr(0, colon));
        for (int number = std::atoi(place.c_str() + colon + 1); number > 0; --number)
            std::getline(source, line);
        line = file + ": " + line.substr(std::min(line.find_first_not_of(' '), line.size()));
    }
    if (pipe != nullptr) pclose(pipe);
    return known[site] = line;
}

class Scenarios : public testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Core, Scenarios, testing::ValuesIn(all_scenarios()), [](const auto &info) {
    std::string name = info.param.name;
    for (char &character : name) character = character == ' ' ? '_' : character;
    return name;
});

/// Line, order, weaker order, of failing.
using Mutant = std::tuple<std::string, int, int, bool>;

/// "acquire of failing as relaxed".
std::string change_of(const Mutant &mutant) {
    return std::string(name_of(std::get<1>(mutant))) +
           (std::get<3>(mutant) ? " of failing as " : " as ") + name_of(std::get<2>(mutant));
}

bool is_stronger_than_needed(const Mutant &mutant) {
    const std::string change = change_of(mutant);
    return std::any_of(kStronger.begin(), kStronger.end(), [&](const Stronger &known) {
        return known.line == std::get<0>(mutant) && known.order == change;
    });
}

bool is_noticed(const Mutant &mutant, const std::map<const char *, std::set<const void *>> &sites,
                std::uint64_t seeds) {
    for (const Kind &kind : all_scenarios()) {
        const auto own = sites.find(kind.name);
        if (own == sites.end()) continue;
        const Weakening weakening{own->second, std::get<2>(mutant), std::get<3>(mutant)};
        for (std::uint64_t seed = 0; seed < seeds; ++seed)
            if (!run(kind, seed, &weakening).empty()) return true;
    }
    return false;
}

}  // namespace

TEST_P(Scenarios, AreRightOnEveryMachine) {
    const std::uint64_t seeds = thorough() ? 200'000 : 2'000;
    std::uint64_t first = 0;
    std::uint64_t last = seeds;
    if (const char *one = std::getenv("AIOMQ_SEED"))
        last = (first = std::strtoull(one, nullptr, 10)) + 1;
    for (std::uint64_t seed = first; seed < last; ++seed)
        ASSERT_EQ(run(GetParam(), seed, nullptr), "") << "AIOMQ_SEED=" << seed;
    counts.add("runs of unweakened code", last - first);
}

TEST(Orders, NoneCanBeWeakerUnnoticed) {
    constexpr std::uint64_t kLook = 300;
    const std::uint64_t seeds = thorough() ? 100'000 : 5'000;
    std::map<Mutant, std::map<const char *, std::set<const void *>>> mutants;
    for (const Kind &kind : all_scenarios()) {
        std::set<Place> places;
        for (std::uint64_t seed = 0; seed < kLook; ++seed) run(kind, seed, nullptr, &places);
        for (const Place &place : places) {
            const std::string line = line_of(place.site);
            for (const int order : weaker(place.order, place.kind))
                mutants[{line, place.order, order, false}][kind.name].insert(place.site);
            if (place.kind != 'c') continue;
            for (const int order : weaker(place.failure, 'l'))
                mutants[{line, place.failure, order, true}][kind.name].insert(place.site);
        }
    }
    std::size_t caught = 0;
    for (const auto &[mutant, sites] : mutants) {
        if (!aiomq_test::full() && is_stronger_than_needed(mutant)) continue;
        const bool noticed = is_noticed(mutant, sites, seeds);
        EXPECT_NE(noticed, is_stronger_than_needed(mutant))
            << std::get<0>(mutant) << ": " << change_of(mutant);
        caught += noticed ? 1 : 0;
    }
    std::printf("[  MUTANTS ] %zu, noticed %zu\n", mutants.size(), caught);
    counts.add("orders weakened", mutants.size());
    counts.add("orders weakened: noticed", caught);
    counts.add("orders weakened: seeds of each scenario", seeds);
}

}  // namespace weak
