// The workers' system calls fail: each call of each function in one process, and each with all that follow
// in every process.
#include <sys/stat.h>

#include <cerrno>

#include "../support/go_signal.hpp"
#include "course.hpp"
#include "sweep.hpp"

using aiomq_test::Course;
using aiomq_test::GoSignal;
using aiomq_test::Holdings;
using aiomq_test::kAllFaults;
using aiomq_test::kFaultsCommand;
using aiomq_test::kNever;
using aiomq_test::Sweep;
using aiomq_test::Tally;

namespace {

struct Fault {
    const char *name;
    int error;
    /// What else may become of tasks.
    std::set<int> outcomes{};
    bool lasting = true;    ///< it may also go on failing; else it would be asked for ever
    bool countable = true;  ///< the number of calls does not depend on how threads happen to meet
};

const std::vector<Fault> kFaults{
    {"mmap", ENOMEM},
    {"mprotect", ENOMEM},
    {"fallocate", ENOSPC, {AIOMQ_ERROR}},
    {"epoll_create", EMFILE},
    {"epoll_ctl", ENOMEM},
    {"epoll_wait", EINTR, {}, false, false},
    {"pthread_create", EAGAIN},
    {"read_event", EINTR, {}, false, false},
    {"write_event", EINTR, {}, false, false},
};

/// What has a worker's calls fail; see faults.h.
std::string fault_of(const std::string &name, long first, long last, int error,
                     const GoSignal &mark) {
    return "AIOMQ_FAULT=" + name + ":" + std::to_string(first) + ":" + std::to_string(last) + ":" +
           std::to_string(error) + ":" + mark.path();
}

Tally &counts = Tally::begin("faults-workers", "the same for the system calls of workers",
                             kFaultsCommand, kAllFaults);

class Workers : public Sweep<Fault> {
  protected:
    Tally &tally() override { return counts; }
    bool try_call(long number, bool lasting) override {
        const Fault &fault = GetParam();
        SCOPED_TRACE(testing::Message()
                     << fault.name << " call " << number << " fails with "
                     << strerrorname_np(fault.error) << (lasting ? " and all later ones" : ""));
        const Holdings before;
        const GoSignal mark;
        const std::string wish = std::string("AIOMQ_FAULT=") + fault.name + ":" +
                                 std::to_string(number) + ":" +
                                 std::to_string(lasting ? kNever : number) + ":" +
                                 std::to_string(fault.error) + ":" + mark.path();
        Course course({.creation = lasting ? std::set<int>{-ECHILD} : std::set<int>{},
                       .outcomes = fault.outcomes,
                       .breakage = lasting});
        alarm(60);
        course.run({.workers = 2, .environment = {wish}});
        alarm(0);
        expect_nothing_left(before);
        return access(mark.path(), F_OK) == 0;
    }
};
class LastingWorkers : public Workers {};

}  // namespace

TEST_P(Workers, ArePartOfAPoolThatCopesWithEachCallThatFails) { try_all(false); }

TEST_P(LastingWorkers, ArePartOfAPoolThatCopesWithEachCallFromWhichOnAllFail) { try_all(true); }

INSTANTIATE_TEST_SUITE_P(Faults, Workers, testing::ValuesIn(kFaults), Workers::name_of);
INSTANTIATE_TEST_SUITE_P(Faults, LastingWorkers, testing::ValuesIn(Workers::lasting_among(kFaults)),
                         Workers::name_of);

TEST(Worker, ThatWaitedForReadersAndGetsNoMemoryThenEndsTheItemAndGoesOn) {
    // What it starts with has room for the result that is on loan; it never grows.
    const GoSignal mark;
    aiomq_test::TestPool pool({.environment = {fault_of("fallocate", 2, kNever, ENOSPC, mark)}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    pool.submit("make_bytes", std::to_string(500 << 10));
    aiomq_completion loan{};
    pool.wait_until([&] { return aiomq_pool_collect(pool.get(), &loan, 1) == 1; });
    const std::string large(8 << 20, 'x');
    const auto waiting = pool.submit("echo", large);
    pool.wait_until([&] { return access(mark.path(), F_OK) == 0; });
    EXPECT_EQ(aiomq_pool_release(pool.get(), loan.loan), 0);
    const auto after = pool.submit("echo", "alive");
    while (pool.outcomes().size() < 2) ASSERT_TRUE(pool.collect_some());
    EXPECT_EQ(pool.outcome(waiting).status, AIOMQ_ERROR) << pool.outcome(waiting).error_message;
    EXPECT_EQ(pool.outcome(waiting).error_type, "aiomq.ResultTooLarge");
    EXPECT_EQ(pool.outcome(after).bytes, "alive");
    EXPECT_EQ(pool.worker_stats(0).restarts, 0U);
}
