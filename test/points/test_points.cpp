// A worker dies, or stops, at each of its accesses to shared memory in turn.
//
// Every run is a pool of its own, whose first worker acts at one point; AIOMQ_POINT=<number> runs one.
// The audit and the respawn repair what should not have been lost, so where it says so they are off.
#include <sys/wait.h>

#include <cinttypes>

#include "../support/clock.hpp"
#include "../support/evidence.hpp"
#include "../support/process.hpp"
#include "prove.hpp"
#include "scenario.hpp"

using aiomq_test::now_ns;
using aiomq_test::PoolOptions;
using aiomq_test::state_of;
using aiomq_test::TestPool;
using points::Action;
using points::Control;
using points::Scenario;

namespace {

constexpr std::uint64_t kNever = UINT64_MAX;
/// A run that takes longer has lost a wake-up, whoever repaired it in the end.
constexpr std::uint64_t kHang = 20'000'000'000;
constexpr std::uint64_t kMoment = 1'000'000;
constexpr std::uint32_t kFewSlots = 4;

class Points : public testing::Test {
  protected:
    void SetUp() override {
        path_ = "/tmp/aiomq-points-" + std::to_string(getpid());
        control_ = points::map_control(path_.c_str(), true);
        ASSERT_NE(control_, nullptr);
        setenv(points::kVariable, path_.c_str(), 1);
    }
    void TearDown() override {
        munmap(control_, sizeof(Control));
        unlink(path_.c_str());
        unsetenv(points::kVariable);
    }

    /// For the next pool.
    void arm(Action action, std::uint64_t at) {
        new (control_) Control{};
        control_->action = action;
        control_->at = at;
        control_->armed = 1;
    }
    bool fired() const { return control_->fired.load() != 0; }
    pid_t victim() const { return static_cast<pid_t>(control_->fired.load()); }

    /// Calls @run for each point, until they are not reached any more. Leaves evidence of @what.
    template <typename Run>
    void enumerate(const char *name, const char *what, Run run) {
        const auto timed = [&](std::uint64_t point) {
            const std::uint64_t start = now_ns();
            run(point);
            EXPECT_LT(now_ns() - start, kHang)
                << "a wake-up was lost, and somebody's timeout found it";
        };
        if (const char *only = std::getenv("AIOMQ_POINT"))
            return timed(std::strtoull(only, nullptr, 10));
        timed(kNever);
        const std::uint64_t usual = control_->passed.load();
        std::uint64_t point = 0;
        std::uint64_t reached = 0;
        for (int missed = 0; (point < usual || missed < 3) && !HasFailure(); ++point) {
            SCOPED_TRACE("AIOMQ_POINT=" + std::to_string(point));
            timed(point);
            missed = fired() ? 0 : missed + 1;
            reached += fired() ? 1 : 0;
            if (HasFailure())
                ADD_FAILURE() << "addr2line -Cfe " << library() << " "
                              << testing::PrintToString(control_->site.load());
        }
        std::printf("[   POINTS ] %" PRIu64 "\n", point);
        EXPECT_GT(point, 60U) << "hardly anything was observed";
        leave_figures(name, what,
                      "\"points\": " + std::to_string(point) + ", \"reached\": " +
                          std::to_string(reached) + ", \"lost, run twice, hung or left in use\": " +
                          std::to_string(HasFailure() ? 1 : 0));
    }
    static void leave_figures(const std::string &name, const char *what,
                              const std::string &figures) {
        aiomq_test::leave_evidence("points-" + name, what, figures, "./dev test points",
                                   "none: all of them");
    }
    static const char *library() { return POINTS_LIBRARY; }

    /// Collects until all is there or the point was reached.
    void collect_until_fired(TestPool &pool) {
        const std::uint64_t end = now_ns() + kHang;
        while (!fired() && pool.outcomes().size() < pool.items_due()) {
            pool.collect_some(kMoment);
            ASSERT_LT(now_ns(), end) << "hung";
        }
    }

    /// The worker that is not armed will not look by itself.
    static void wait_until_other_sleeps(TestPool &pool) {
        pool.wait_until([&] {
            return pool.worker_stats(1).sleeping != 0 && state_of(pool.worker_stats(1).pid) == 'S';
        });
    }

    /// The armed worker has acted, or has nothing more to do and sleeps.
    void wait_for_sleep(TestPool &pool) {
        pool.wait_until([&] {
            return fired() || (pool.worker_stats(0).sleeping != 0 &&
                               state_of(pool.worker_stats(0).pid) == 'S');
        });
    }

    /// Everything has its outcome, nothing is left in use, and the pool ends.
    void finish(TestPool &pool, const Scenario &scenario, std::uint32_t most_kills) {
        // Somebody who looks now and then would not notice that nobody woke him.
        if (control_->action == Action::kKill) pool.collect_all();
        pool.wait_until([&] {
            let_go_on();
            return pool.nothing_in_use() && pool.outcomes().size() == pool.items_due();
        });
        aiomq_pool_close(pool.get(), 0);
        pool.wait_until([&] {
            let_go_on();
            return aiomq_pool_join(pool.get(), 0) == 0;
        });
        const std::uint32_t kills = fired() ? most_kills : 0;
        scenario.expect_sound(kills);
        EXPECT_LE(pool.pool_stats().restarts, kills);
    }

    /// A worker that reached its point only now stands there.
    void let_go_on() const {
        if (control_->action == Action::kStop && fired() && state_of(victim()) == 'T')
            kill(victim(), SIGCONT);
    }

    Control *control_ = nullptr;
    std::string path_;
};

}  // namespace

/// The life of a worker from its start to the pool's end, with everything in between. There are fewer slots
/// than tasks: what an earlier task has left in its slot must not be taken for a later one's.
TEST_F(Points, AKillAtAnyOfThemCostsWhatRanAndNothingElse) {
    constexpr const char *kWhat =
        "a worker is killed at each access that the compiled core makes to shared memory in a life "
        "with every kind of task";
    enumerate("kill", kWhat, [&](std::uint64_t point) {
        arm(Action::kKill, point);
        TestPool pool({.capacity = kFewSlots, .spin_ns = 0});
        ASSERT_EQ(pool.created(), 0) << pool.error_text();
        Scenario scenario(pool, *control_);
        scenario.submit_all();
        finish(pool, scenario, 1);
    });
}

/// A stopped worker keeps what it has claimed and nothing else; killed, it gives that back.
TEST_F(Points, AStopAtAnyOfThemHoldsUpWhatItHasClaimedAndNothingElse) {
    constexpr const char *kWhat =
        "a worker is stopped at each of these accesses; others go on; then it is killed";
    enumerate("stop", kWhat, [&](std::uint64_t point) {
        arm(Action::kStop, point);
        control_->hold = 1;
        TestPool pool({.workers = 2, .spin_ns = 0, .flags = AIOMQ_POOL_NOWAIT});
        ASSERT_EQ(pool.created(), 0) << pool.error_text();
        Scenario scenario(pool, *control_);
        scenario.submit_all();
        collect_until_fired(pool);
        wait_for_sleep(pool);
        control_->hold = 0;
        if (fired()) {
            while (state_of(victim()) != 'T') sched_yield();
            const auto later = scenario.submit_one();
            const std::uint64_t end = now_ns() + kHang;
            while (pool.outcome(later).times == 0) {
                ASSERT_LT(now_ns(), end) << "the other worker does not run what is submitted";
                pool.collect_some(end - now_ns());
            }
            kill(victim(), SIGKILL);
        }
        finish(pool, scenario, 1);
    });
}

/// A worker that is stopped between any two looks misses nothing that comes meanwhile: with nobody to repair
/// it, a lost wake-up is a hang.
TEST_F(Points, WhatComesWhileAWorkerStandsAtAnyOfThemIsSeen) {
    constexpr const char *kWhat =
        "a worker is stopped at each access, given work and continued, with no timer that repairs";
    enumerate("wake", kWhat, [&](std::uint64_t point) {
        arm(Action::kStop, point);
        control_->no_repair = 1;
        TestPool pool({.spin_ns = 0, .flags = AIOMQ_POOL_NOWAIT});
        ASSERT_EQ(pool.created(), 0) << pool.error_text();
        Scenario scenario(pool, *control_);
        scenario.submit_one();
        collect_until_fired(pool);
        wait_for_sleep(pool);
        if (fired()) {
            while (state_of(victim()) != 'T') sched_yield();
            scenario.submit_one();
            while (aiomq_pool_dispatch(pool.get()) != 0) pool.collect_some(0);  // it sleeps
            kill(victim(), SIGCONT);
        }
        finish(pool, scenario, 0);
    });
}

/// Nobody comes in a dead worker's place, and nobody repairs: what it has swallowed must come from its death.
TEST_F(Points, WhatAWorkerHasSwallowedWhenItDiesAtAnyOfThemWakesAnother) {
    constexpr const char *kWhat =
        "a worker is killed at each access, with nobody in its place and no timer that repairs";
    enumerate("swallowed", kWhat, [&](std::uint64_t point) {
        arm(Action::kKill, point);
        control_->no_repair = 1;
        TestPool pool({.workers = 2, .spin_ns = 0, .flags = AIOMQ_POOL_NOWAIT});
        ASSERT_EQ(pool.created(), 0) << pool.error_text();
        wait_until_other_sleeps(pool);
        wait_for_sleep(pool);
        control_->hold = 1;
        Scenario scenario(pool, *control_);
        scenario.submit_one_and_sleep();  // which wakes the armed one, if it is there
        pool.collect_all();
        wait_for_sleep(pool);
        control_->hold = 0;
        finish(pool, scenario, 1);
    });
}

/// The points above are all there are: an access of the library that is not one ends the worker.
TEST_F(Points, NoAccessIsWithoutOne) {
    if (!prove::kPossible) GTEST_SKIP() << "needs single steps from a signal handler: x86-64";
    arm(Action::kProve, kNever);
    TestPool pool({.spin_ns = 0});
    ASSERT_EQ(pool.created(), 0) << pool.error_text() << "; " << control_->trouble;
    Scenario scenario(pool, *control_);
    scenario.submit_all();
    finish(pool, scenario, 0);
    EXPECT_STREQ(control_->trouble, "");
    EXPECT_GT(control_->passed.load(), 200U);
    leave_figures("complete",
                  "the points are all there are: memory that faults shows an access without one",
                  "\"points\": " + std::to_string(control_->passed.load()) +
                      ", \"accesses without one\": " + (HasFailure() ? "1" : "0"));
}
