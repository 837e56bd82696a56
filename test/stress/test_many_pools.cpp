// Pools opened and closed over and over: descriptors, memory, threads and children stay what they were.
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "../support/pool_fixture.hpp"
#include "../unit/seeded.hpp"

using aiomq_test::TestPool;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#ifdef __SANITIZE_THREAD__
constexpr std::uint64_t kOfTheRuntime = 1;  // it begins with the first thread of ours
#else
constexpr std::uint64_t kOfTheRuntime = 0;
#endif

std::uint64_t in_status(const std::string &key) {
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with(key)) return std::stoull(line.substr(key.size()));
    return 0;
}
std::size_t entries_in(const char *folder) {
    std::size_t entries = 0;
    for (const auto &entry : std::filesystem::directory_iterator(folder))
        entries += !entry.path().empty();
    return entries;
}
/// Everything of this process that could leak, threads aside.
struct Holdings {
    std::size_t descriptors = entries_in("/proc/self/fd");
    std::size_t mappings = [] {
        std::ifstream file("/proc/self/maps");
        std::size_t lines = 0;
        for (std::string line; std::getline(file, line);) ++lines;
        return lines;
    }();
    std::uint64_t anonymous_kib = in_status("RssAnon:");
};

void use_a_pool(std::uint64_t round) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto items = static_cast<std::uint32_t>(1 + round % 3);
    const auto id = pool.submit("echo", std::to_string(round), items);
    if (round % 4 == 3) return;  // destroyed with work under way
    pool.collect_all();
    ASSERT_EQ(pool.outcome(id, items - 1).status, AIOMQ_OK);
    if (round % 4 == 1) {
        ASSERT_EQ(aiomq_pool_close(pool.get(), 0), 0);
        ASSERT_EQ(aiomq_pool_join(pool.get(), 20'000'000'000), 0);
    }
}

}  // namespace

TEST(ManyPools, LeaveNothingBehind) {
    const std::uint64_t threads = in_status("Threads:") + kOfTheRuntime;  // an emulator has more
    const std::uint64_t rounds = aiomq_test::rounds(500, 5000) / (kSanitized ? 5 : 1);
    for (std::uint64_t round = 0; round < 20; ++round) use_a_pool(round);  // warm
    const Holdings before;
    for (std::uint64_t round = 0; round < rounds && !HasFatalFailure(); ++round) use_a_pool(round);
    const Holdings after;
    EXPECT_EQ(after.descriptors, before.descriptors);
    // The runtime of a sanitizer keeps what was freed, and notes of what was done.
    EXPECT_LE(after.mappings, before.mappings + (kSanitized ? rounds / 4 : 2));
    if (!kSanitized) {
        EXPECT_LE(after.anonymous_kib, before.anonymous_kib + 512);
    }
    // One that was joined may show for a moment.
    while (in_status("Threads:") > threads) usleep(1000);
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
    EXPECT_EQ(errno, ECHILD);
}
