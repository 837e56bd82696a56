// A worker that the kernel's out-of-memory killer takes: its task's outcome says so.
#include <sys/mman.h>

#include "../support/control_group.hpp"
#include "../support/pool_fixture.hpp"

namespace {

constexpr std::uint64_t kLimit = 192 << 20;

/// Uses more memory than the group may.
int devour(const aiomq_call *, aiomq_item *) {
    for (;;) {
        constexpr std::size_t kStep = 8 << 20;
        void *memory = mmap(nullptr, kStep, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (memory == MAP_FAILED) return -ENOMEM;
    }
}
const aiomq_test::MoreBodies kMore{{"devour", devour, nullptr}};

}  // namespace

TEST(OutOfMemory, IsNamedInTheOutcome) {
    const aiomq_test::ControlGroup group("memory", "memory.limit_in_bytes", std::to_string(kLimit));
    if (!group) GTEST_SKIP() << "no control group can be made here";
    const std::string told = group.ask([]() -> std::string {
        aiomq_test::TestPool pool({.arena_max = 1 << 20});
        if (pool.created() != 0) return pool.error_text();
        const auto victim = pool.submit("devour");
        const auto after = pool.submit("echo", "; alive");
        pool.collect_all();
        // Killed by hand after that: the killer is not named again.
        const auto other = pool.submit("die_at", "0");
        pool.collect_all();
        return std::string(aiomq_outcome_name(pool.outcome(victim).status)) + ": " +
               pool.outcome(victim).error_message + pool.outcome(after).bytes + "; " +
               pool.outcome(other).error_message;
    });
    const std::string words = "the kernel's out-of-memory killer";
    EXPECT_TRUE(told.starts_with("WORKER_DIED: ")) << told;
    EXPECT_NE(told.find(words), std::string::npos) << told;
    EXPECT_NE(told.find("; alive"), std::string::npos) << told;
    EXPECT_EQ(told.find(words, told.find("; alive")), std::string::npos) << told;
}
