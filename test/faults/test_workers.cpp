// The workers' system calls fail: each call of each function in one process, and each with all that follow
// in every process.
#include <sys/stat.h>

#include <cerrno>

#include "../support/go_signal.hpp"
#include "../unit/seeded.hpp"
#include "course.hpp"

using aiomq_test::Course;
using aiomq_test::GoSignal;
using aiomq_test::Holdings;

namespace {

constexpr long kNever = 1'000'000'000;
constexpr long kMostOfMany = 6;

struct Fault {
    const char *name;
    int error;
    /// What else may become of tasks.
    std::set<int> outcomes{};
    bool lasting = true;    ///< it may also go on failing
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

std::string name_of(const testing::TestParamInfo<Fault> &entry) {
    return std::string(entry.param.name) + "_" + strerrorname_np(entry.param.error);
}

/// What has a worker's calls fail; see faults.h.
std::string fault_of(const std::string &name, long first, long last, int error,
                     const GoSignal &mark) {
    return "AIOMQ_FAULT=" + name + ":" + std::to_string(first) + ":" + std::to_string(last) + ":" +
           std::to_string(error) + ":" + mark.path();
}

class Workers : public testing::TestWithParam<Fault> {
  protected:
    /// False: no process came so far.
    bool try_call(long number, bool lasting) {
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
    void try_all(bool lasting) {
        const bool bounded = !GetParam().countable && aiomq_test::rounds(0, 1) == 0;
        long number = 1;
        while ((!bounded || number <= kMostOfMany) && try_call(number, lasting)) {
            ++number;
            if (HasFailure()) return;
        }
        EXPECT_GT(number, 1) << "the function is never called: nothing was shown";
        std::printf("%ld calls failed%s\n", number - 1, lasting ? " with all later ones" : "");
    }
};

}  // namespace

TEST_P(Workers, ArePartOfAPoolThatCopesWithEachCallThatFails) { try_all(false); }

TEST_P(Workers, ArePartOfAPoolThatCopesWithEachCallFromWhichOnAllFail) {
    if (!GetParam().lasting) GTEST_SKIP() << "would be asked for ever";
    try_all(true);
}

INSTANTIATE_TEST_SUITE_P(Faults, Workers, testing::ValuesIn(kFaults), name_of);
