// What damage to shared memory has lost is told again: a hint, a sleeper's announcement, a completion, a
// claim that nobody made. Each is lost here at a chosen moment, by a write that a worker could have made.
#include <dirent.h>
#include <poll.h>

#include "../support/clock.hpp"
#include "../support/go_signal.hpp"
#include "../support/memory.hpp"
#include "../support/pool_fixture.hpp"
#include "../support/process.hpp"

using aiomq::ItemRange;
using aiomq::Phase;
using aiomq::SlotWord;
using aiomq_test::GoSignal;
using aiomq_test::Memory;
using aiomq_test::TestPool;

namespace {

constexpr std::uint64_t kAfter = 20'000'000;  // a look every 10 ms
constexpr std::uint64_t kPatienceNs = 20'000'000'000;

/// Ends when it is cancelled.
aiomq_worker *waiting_worker = nullptr;
int wait_for_cancel(const aiomq_call *call, aiomq_item *) {
    waiting_worker = call->worker;
    return 1;
}

void end_cancelled(void *, std::uint32_t job, std::uint32_t) {
    aiomq_item item{};
    item.status = AIOMQ_CANCELLED;
    if (aiomq_worker_complete(waiting_worker, job, &item) < 0) abort();
}

const aiomq_test::MoreBodies kMore{{"wait_for_cancel", wait_for_cancel, nullptr}};
const aiomq_test::OnCancel kCancel(end_cancelled);

class Checkup : public testing::Test {
  protected:
    explicit Checkup(std::uint32_t workers = 1)
        : pool({.workers = workers, .spin_ns = 0, .blocked_after_ns = kAfter}) {
        EXPECT_EQ(pool.created(), 0) << pool.error_text();
        memory = std::make_unique<Memory>();
    }

    /// Returns when @worker is blocked on its descriptor.
    void wait_for_sleep(std::uint32_t worker) {
        pool.wait_until([&] {
            return memory->sleeps(worker) &&
                   aiomq_test::state_of(memory->record(worker).pid) == 'S';
        });
    }
    /// Stops @worker in its sleep.
    void stop(std::uint32_t worker) {
        wait_for_sleep(worker);
        aiomq_test::stop(memory->record(worker).pid);
    }
    /// It is DONE, or a checkup has even taken it, if this process got no CPU for so long.
    bool has_run(std::uint64_t id) {
        const Phase phase = memory->word_of(id).phase();
        return phase != Phase::kReady && phase != Phase::kClaimed;
    }
    void go_on(std::uint32_t worker) { kill(memory->record(worker).pid, SIGCONT); }
    void expect_readable() {
        pollfd entry{aiomq_pool_fd(pool.get()), POLLIN, 0};
        EXPECT_EQ(poll(&entry, 1, static_cast<int>(kPatienceNs / 1'000'000)), 1)
            << "the application was not woken";
    }
    /// Neither a timer nor one that is due is left to the supervisor.
    static bool no_timer_is_armed() {
        bool armed = false;
        DIR *entries = opendir("/proc/self/fdinfo");
        while (const dirent *entry = readdir(entries)) {
            FILE *file = fopen((std::string("/proc/self/fdinfo/") + entry->d_name).c_str(), "re");
            if (file == nullptr) continue;
            char line[128];
            while (fgets(line, sizeof line, file) != nullptr) {
                unsigned long long first = 0;
                unsigned long long second = 0;
                if (sscanf(line, "ticks: %llu", &first) == 1 && first != 0) armed = true;
                if (sscanf(line, "it_value: (%llu, %llu)", &first, &second) == 2 &&
                    first + second != 0)
                    armed = true;
            }
            fclose(file);
        }
        closedir(entries);
        return !armed;
    }

    TestPool pool;
    std::unique_ptr<Memory> memory;
};

/// One of two workers runs a task for as long as the test likes, so that the oldest task does not move.
class CheckupBeside : public Checkup {
  protected:
    CheckupBeside() : Checkup(2) {
        pool.submit("wait_for_file", go.path());
        pool.wait_until(
            [&] { return pool.worker_stats(0).running + pool.worker_stats(1).running == 1; });
        idle = pool.worker_stats(0).running == 1 ? 1 : 0;
    }
    ~CheckupBeside() override { go.give(); }
    void collect(std::uint64_t id) {
        while (pool.outcome(id).times == 0) ASSERT_TRUE(pool.collect_some());
    }

    GoSignal go;
    std::uint32_t idle = 0;
};

/// The look that found every task done was the last one. Then a hint of theirs was lost.
class CheckupLate : public Checkup {
  protected:
    CheckupLate() {
        for (auto &id : ids) id = pool.submit("nothing");
        pool.wait_until([&] { return has_run(ids[0]) && has_run(ids[1]); });
        wait_for_sleep(0);
        pool.wait_until([] { return no_timer_is_armed(); });
        auto &tail = memory->area(0).outbox_tail;
        tail.store_seq(tail.load_seq() - 1);
    }

    std::uint64_t ids[2];
};

}  // namespace

TEST_F(Checkup, PutsALostHintAgain) {
    stop(0);
    const auto id = pool.submit("nothing");
    auto &head = memory->head(0);
    head.store_seq(head.load_seq() + 1);  // a pop whose value nobody has
    go_on(0);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
}

TEST_F(Checkup, WakesAWorkerWhoseAnnouncementWasTakenBack) {
    wait_for_sleep(0);
    memory->flags().asleep[0].store_seq(0);
    memory->flags().wants_tasks[0].store_seq(0);
    const auto id = pool.submit("nothing");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
}

TEST_F(Checkup, WakesAWorkerThatHasAMessage) {
    const auto id = pool.submit("wait_for_cancel");
    pool.wait_until([&] { return pool.worker_stats(0).running == 1; });
    wait_for_sleep(0);
    memory->flags().asleep[0].store_seq(0);
    EXPECT_EQ(aiomq_pool_cancel(pool.get(), id), 0);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_CANCELLED);
}

TEST_F(Checkup, WakesAnApplicationWhoseAnnouncementWasTakenBack) {
    stop(0);
    const auto id = pool.submit("nothing");
    while (aiomq_pool_dispatch(pool.get()) != 0) {
    }
    EXPECT_EQ(memory->flags().application.exchange_seq(0), 1U);
    go_on(0);
    expect_readable();
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
}

TEST_F(CheckupBeside, WakesAnApplicationWhoseAnnouncementWasTakenBack) {
    stop(idle);
    const auto id = pool.submit("nothing");
    while (aiomq_pool_dispatch(pool.get()) != 0) {
    }
    EXPECT_EQ(memory->flags().application.exchange_seq(0), 1U);
    go_on(idle);
    expect_readable();
    collect(id);
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
}

TEST_F(CheckupBeside, DeliversWhatIsDoneWithoutAHint) {
    const auto id = pool.submit("nothing");
    pool.wait_until([&] { return has_run(id); });
    wait_for_sleep(idle);
    memory->area(idle).outbox_tail.store_seq(memory->record(idle).outbox_head.load_seq());
    collect(id);
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
    EXPECT_EQ(pool.outcome(id).times, 1);
}

TEST_F(CheckupLate, LooksAgainForAnApplicationThatWaits) {
    pool.collect_all();
    EXPECT_EQ(pool.outcome(ids[0]).times, 1);
    EXPECT_EQ(pool.outcome(ids[1]).times, 1);
}

TEST_F(CheckupLate, LooksAgainForAnApplicationThatOnlyCollects) {
    aiomq_completion completion;
    const std::uint64_t end = aiomq_test::now_ns() + kPatienceNs;
    for (int taken = 0; taken < 2;) {
        taken += static_cast<int>(aiomq_pool_collect(pool.get(), &completion, 1));
        ASSERT_LT(aiomq_test::now_ns(), end) << taken << " of 2";
    }
}

TEST_F(CheckupLate, LooksAgainForAnApplicationThatJoins) {
    EXPECT_EQ(aiomq_pool_close(pool.get(), 0), 0);
    EXPECT_EQ(aiomq_pool_join(pool.get(), kPatienceNs), 0);
}

TEST_F(Checkup, TellsAWorkerAgainOfItsKeyedTask) {
    stop(0);
    aiomq_task task{};
    task.flags = AIOMQ_TASK_KEYED;
    const auto id = pool.submit_task(task, "nothing");
    // The hint in the inbox names the generation that was.
    memory->slot_of(id).word.store_seq(memory->word_of(id).bits() + 1);
    go_on(0);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
}

TEST_F(Checkup, FindsAClaimThatNobodyMade) {
    stop(0);
    const auto id = pool.submit("nothing");
    memory->slot_of(id).word.store_seq(
        memory->word_of(id).claimed_by(0, memory->record(0).incarnation).bits());
    go_on(0);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_POOL_CORRUPT);
    EXPECT_EQ(aiomq_pool_state(pool.get(), nullptr, 0), AIOMQ_POOL_BROKEN);
}

TEST_F(CheckupBeside, FindsAClaimThatNobodyMade) {
    stop(idle);
    const auto id = pool.submit("nothing");
    memory->slot_of(id).word.store_seq(
        memory->word_of(id).claimed_by(idle, memory->record(idle).incarnation).bits());
    go_on(idle);
    collect(id);
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_POOL_CORRUPT);
}

TEST_F(CheckupBeside, TellsAWorkerAgainOfItsKeyedTask) {
    stop(idle);
    aiomq_task task{};
    task.flags = AIOMQ_TASK_KEYED;
    std::uint64_t id = pool.submit_task(task, "nothing");
    for (; memory->word_of(id).worker() != idle; id = pool.submit_task(task, "nothing")) ++task.key;
    memory->slot_of(id).word.store_seq(memory->word_of(id).bits() + 1);
    go_on(idle);
    collect(id);
    EXPECT_EQ(pool.outcome(id).status, AIOMQ_OK);
}

TEST_F(Checkup, FindsWordsThatCantBe) {
    const auto make = [](Phase phase, std::uint32_t queue, std::uint32_t worker,
                         std::uint32_t incarnation) {
        return SlotWord::make(phase, queue, worker, incarnation, 1);
    };
    const std::uint32_t incarnation = memory->record(0).incarnation;
    struct Damage {
        const char *what;
        SlotWord word;
        ItemRange range;
    };
    for (const Damage &damage :
         {Damage{"a task in flight is free", make(Phase::kFree, 0, 0, 0), {0, 1}},
          Damage{"no such phase", make(static_cast<Phase>(5), 0, 0, 0), {0, 1}},
          Damage{"more has started than there is", make(Phase::kReady, 0, 0, 0), {2, 1}},
          Damage{"more than was submitted", make(Phase::kReady, 0, 0, 0), {0, 2}},
          Damage{"waits for no worker", make(Phase::kReady, SlotWord::kKeyed, 1, 0), {0, 1}},
          Damage{"no such worker", make(Phase::kClaimed, 0, 1, incarnation), {0, 1}},
          Damage{"one that is dead", make(Phase::kDone, 0, 0, incarnation + 1), {0, 1}}}) {
        SCOPED_TRACE(damage.what);
        memory.reset();
        pool.destroy();
        TestPool other({.spin_ns = 0, .blocked_after_ns = kAfter});
        ASSERT_EQ(other.created(), 0) << other.error_text();
        memory = std::make_unique<Memory>();
        aiomq_test::stop(memory->record(0).pid);
        const auto id = other.submit("nothing");
        memory->slot_of(id).range.store_seq(damage.range.pack());
        memory->slot_of(id).word.store_seq(damage.word.bits());
        other.collect_all();
        EXPECT_EQ(other.outcome(id).status, AIOMQ_POOL_CORRUPT);
        EXPECT_EQ(other.outcome(id).error_message, "shared memory is damaged: the word of slot 0");
    }
}
