// The dispatcher's system calls fail: each call of each function by itself, and each with all that follow.
#include <cerrno>

#include "course.hpp"
#include "faults.h"
#include "sweep.hpp"

using aiomq_test::Allowed;
using aiomq_test::Course;
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
    /// Errors of create; none: creation copes with it.
    std::set<int> creation{};
    bool refusal = false;
    bool lasting = true;    ///< it may also go on failing, and does not do so for another error
    bool countable = true;  ///< the number of calls does not depend on how threads happen to meet
    int (*end)(aiomq_pool *pool) = nullptr;
};

/// With tasks in the workers, so that they have to be killed.
int terminate_at_work(aiomq_pool *pool) {
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.items = 1;
    task.kind = AIOMQ_KIND_BYTES;
    static constexpr char kNoFile[] = "/nonexistent";
    task.payload = kNoFile;
    task.payload_bytes = sizeof kNoFile - 1;
    EXPECT_EQ(aiomq_pool_function(pool, "wait_for_file", &task.function), 0);
    for (int i = 0; i < 2; ++i) EXPECT_EQ(aiomq_pool_submit(pool, &task, nullptr), 0);
    return aiomq_pool_terminate(pool);
}

/// Where there are two errors of a function, one is enough for what comes after the first.
const std::vector<Fault> kFaults{
    {"clone", EAGAIN, {-EAGAIN}},
    {"clone", ENOMEM, {-ENOMEM}, false, false},
    {"mmap", ENOMEM, {-ENOMEM}},
    {"fallocate", ENOSPC, {-ENOMEM}, true},
    {"fallocate", EINTR, {}, false, false},
    {"ftruncate", ENOMEM, {-ENOMEM}},
    {"eventfd", EMFILE, {-EMFILE}},
    {"timerfd_create", ENOMEM, {-ENOMEM}},
    {"epoll_create", EMFILE, {}},
    {"epoll_ctl", ENOMEM, {-ENOMEM}},
    {"epoll_ctl", ENOSPC, {-ENOMEM}, false, false},
    {"epoll_wait", EINTR, {}, false, false, false},
    {"pidfd_open", EMFILE, {-EMFILE}},
    {"pidfd_open", ENOSYS, {}},
    {"pidfd_send_signal", EPERM, {}, false, true, true, terminate_at_work},
    {"memfd_create", EMFILE, {-EMFILE}},
    {"memfd_create", ENOSYS, {-ENOSYS}},
    {"pipe", EMFILE, {-EMFILE}},
    // For those that follow see LowLimit.OfDescriptors.
    {"duplicate", EMFILE, {-EMFILE}, false, false},
    {"pthread_create", EAGAIN, {-EAGAIN}},
    {"read_event", EINTR, {}, false, false, false},
    {"write_event", EINTR, {}, false, false, false},
};

Tally &counts = Tally::begin("faults-dispatcher",
                             "lives of a pool in which a system call of the dispatcher fails, once "
                             "or from then on: a named error or success, nothing left behind",
                             kFaultsCommand, kAllFaults);

class Dispatcher : public Sweep<Fault> {
  protected:
    Tally &tally() override { return counts; }
    bool try_call(long number, bool lasting) override {
        const Fault &fault = GetParam();
        SCOPED_TRACE(testing::Message()
                     << fault.name << " call " << number << " fails with "
                     << strerrorname_np(fault.error) << (lasting ? " and all later ones" : ""));
        const Holdings before;
        EXPECT_EQ(fault_arm(fault.name, number, lasting ? kNever : number, fault.error), 0);
        Course course({.creation = fault.creation,
                       .refusal = fault.refusal && lasting,
                       .breakage = lasting && !fault.creation.empty(),
                       .end = fault.end});
        alarm(60);
        course.run({.workers = 2});
        alarm(0);
        expect_nothing_left(before);
        return fault_failures() > 0;
    }
};
class LastingDispatcher : public Dispatcher {};

}  // namespace

TEST_P(Dispatcher, CopesWithEachCallThatFails) { try_all(false); }

TEST_P(LastingDispatcher, CopesWithEachCallFromWhichOnAllFail) { try_all(true); }

INSTANTIATE_TEST_SUITE_P(Faults, Dispatcher, testing::ValuesIn(kFaults), Dispatcher::name_of);
INSTANTIATE_TEST_SUITE_P(Faults, LastingDispatcher,
                         testing::ValuesIn(Dispatcher::lasting_among(kFaults)),
                         Dispatcher::name_of);
