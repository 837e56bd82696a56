// Little of everything: descriptors, processes, address space, memory. At each limit, from nothing to
// enough, a pool's whole life ends in success or in named errors.
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>
#include <fstream>

#include "../support/control_group.hpp"
#include "../support/tally.hpp"
#include "course.hpp"

using aiomq_test::Allowed;
using aiomq_test::ControlGroup;
using aiomq_test::Course;
using aiomq_test::Holdings;
using aiomq_test::in_child;
using aiomq_test::PoolOptions;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

aiomq_test::Tally &counts = aiomq_test::Tally::begin(
    "faults-limits",
    "lives of a pool at each limit of descriptors, processes, address space and memory",
    "./dev test --full faults", "none: all of them");

constexpr std::uint64_t kMiB = 1 << 20;
constexpr unsigned kNobody = 65534;
/// After the first limit at which a pool can be created, so many more.
constexpr int kMore = 4;

/// A pool's life in a process of its own that @narrow has given little: "created", or why not.
std::string life(const Allowed &allowed, const std::function<std::string()> &narrow) {
    const Holdings before;
    if (const std::string problem = narrow(); !problem.empty()) return problem;
    alarm(60);
    bool created = false;
    try {
        Course course(allowed);
        course.run({.workers = 2, .arena_max = 16 * kMiB});
        created = course.created();
    } catch (const std::bad_alloc &) {
        // The test itself found no memory; the pool is gone by now.
    }
    expect_nothing_left(before);
    if (testing::Test::HasFailure()) return "failed";
    return created ? "created" : "refused";
}

std::string limit(int resource, rlim_t most) {
    rlimit present{};
    getrlimit(resource, &present);
    present.rlim_cur = most;
    if (resource == RLIMIT_NPROC) present.rlim_max = most;
    return setrlimit(resource, &present) == 0 ? "" : "setrlimit failed";
}

/// Tries growing limits until a pool can be created, and a few more.
void sweep(rlim_t first, rlim_t step, rlim_t last,
           const std::function<std::string(rlim_t)> &life_at) {
    int created = 0;
    int refused = 0;
    for (rlim_t most = first; most <= last && created < kMore; most += step) {
        const std::string end = life_at(most);
        EXPECT_TRUE(end == "created" || end == "refused") << "at " << most << ": " << end;
        created += end == "created";
        refused += end == "refused";
        if (testing::Test::HasFailure()) return;
    }
    std::printf("%d limits too low, %d enough to begin\n", refused, created);
    counts.add("limits too low", static_cast<std::uint64_t>(refused));
    counts.add("limits enough to begin", static_cast<std::uint64_t>(created));
    EXPECT_GT(refused, 0) << "the limit had no effect";
    EXPECT_EQ(created, kMore) << "the highest should have been enough";
}

/// Becomes an ordinary user, whom limits of processes are for. What went wrong, or "".
std::string become_nobody() {
    char program[4096] = "";
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) return "no /proc";
    if (setgroups(0, nullptr) != 0 || setgid(kNobody) != 0 || setuid(kNobody) != 0)
        return "can't become another user";
    prctl(PR_SET_DUMPABLE, 1);  // or /proc/self is not its own
    return access(program, R_OK | X_OK) == 0 ? "" : "another user may not run this program";
}

std::uint64_t address_space_bytes() {
    std::ifstream file("/proc/self/statm");
    std::uint64_t pages = 0;
    file >> pages;
    return pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST(LowLimit, OfDescriptors) {
    if (kSanitized) GTEST_SKIP() << "UBSan needs two of its own to see that an object is there";
    const Allowed allowed{.creation = {-EMFILE}, .breakage = true};
    sweep(24, 1, 80, [&](rlim_t most) {
        return in_child([&] {
            for (int fd = 3; fd < 100; ++fd) close(fd);
            return life(allowed, [&] { return limit(RLIMIT_NOFILE, most); });
        });
    });
}

TEST(LowLimit, OfProcessesOfAUser) {
    if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime starts processes of its own";
    if (getuid() != 0) GTEST_SKIP() << "only root can become a user without other processes";
    if (const std::string problem = in_child(become_nobody); !problem.empty())
        GTEST_SKIP() << problem;
    const Allowed allowed{.creation = {-EAGAIN, -ECHILD}, .breakage = true};
    sweep(1, 1, 40, [&](rlim_t most) {
        return in_child([&] {
            return life(allowed, [&] {
                const std::string problem = become_nobody();
                return problem.empty() ? limit(RLIMIT_NPROC, most) : problem;
            });
        });
    });
}

TEST(LowLimit, OfProcessesOfAControlGroup) {
    if (!ControlGroup("pids", "pids.max", "1")) GTEST_SKIP() << "no control group can be made here";
    const Allowed allowed{.creation = {-EAGAIN, -ECHILD}, .breakage = true};
    sweep(1, 1, 16, [&](rlim_t most) {
        const ControlGroup group("pids", "pids.max", std::to_string(most));
        return group.ask([&] { return life(allowed, [] { return ""; }); });
    });
}

TEST(LowLimit, OfAddressSpace) {
    if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime needs more than there is";
    const Allowed allowed{.creation = {-ENOMEM, -EAGAIN, -ECHILD},
                          .outcomes = {AIOMQ_ERROR, AIOMQ_WORKER_DIED},
                          .refusal = true,
                          .breakage = true};
    const std::uint64_t present = address_space_bytes();
    sweep(present, kMiB, present + 256 * kMiB, [&](rlim_t most) {
        return in_child([&] { return life(allowed, [&] { return limit(RLIMIT_AS, most); }); });
    });
}

TEST(LowLimit, OfMemoryOfAControlGroup) {
    if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime needs more than there is";
    if (!ControlGroup("memory", "memory.limit_in_bytes", std::to_string(64 * kMiB)))
        GTEST_SKIP() << "no control group can be made here";
    const Allowed allowed{.creation = {-ENOMEM, -ECHILD},
                          .outcomes = {AIOMQ_ERROR},
                          .refusal = true,
                          .breakage = true};
    sweep(32 * kMiB, 2 * kMiB, 128 * kMiB, [&](rlim_t most) {
        const ControlGroup group("memory", "memory.limit_in_bytes", std::to_string(most));
        const std::string end = group.ask([&] { return life(allowed, [] { return ""; }); });
        EXPECT_EQ(group.number("memory.oom_control", "oom_kill"), 0U) << most;
        return end;
    });
}

TEST(LowLimit, OfMemoryIsToldFromACapacityThatDoesNotFit) {
    const ControlGroup group("memory", "memory.limit_in_bytes", std::to_string(64 * kMiB));
    if (!group) GTEST_SKIP() << "no control group can be made here";
    const std::string told = group.ask([] {
        const aiomq_test::TestPool pool({.capacity = 1 << 19});
        return std::to_string(pool.created()) + " " + pool.error_text();
    });
    EXPECT_TRUE(told.starts_with(std::to_string(-ENOMEM) + " ")) << told;
    EXPECT_NE(told.find("capacity"), std::string::npos) << told;
    EXPECT_EQ(group.number("memory.oom_control", "oom_kill"), 0U);
}
