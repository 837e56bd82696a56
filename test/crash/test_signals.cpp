// Signals that are nobody's task: stopped processes, broken pipes, and whose threads take what.
#include <dirent.h>
#include <pthread.h>

#include <fstream>
#include <random>

#include "../support/pool_fixture.hpp"
#include "../support/process.hpp"

using aiomq_test::in_child;
using aiomq_test::return_integer;
using aiomq_test::TestPool;

namespace {

/// How many threads of this process, but for its first, would take a signal; -1: there are none.
int threads_that_take_signals() {
    DIR *tasks = opendir("/proc/self/task");
    int threads = 0;
    int open_to = 0;
    for (const dirent *entry = readdir(tasks); entry != nullptr; entry = readdir(tasks)) {
        const int thread = atoi(entry->d_name);
        if (thread == 0 || thread == getpid()) continue;
        ++threads;
        std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/status");
        for (std::string line; std::getline(file, line);) {
            if (!line.starts_with("SigBlk:")) continue;
            const std::uint64_t blocked = std::strtoull(line.c_str() + 7, nullptr, 16);
            for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGALRM, SIGCHLD,
                                     SIGUSR1, SIGUSR2, SIGTSTP, SIGWINCH})
                if ((blocked >> (signal - 1) & 1) == 0) {
                    ++open_to;
                    break;
                }
        }
    }
    closedir(tasks);
    return threads == 0 ? -1 : open_to;
}

int open_threads(const aiomq_call *, aiomq_item *ret) {
    return return_integer(threads_that_take_signals(), ret);
}

const aiomq_test::MoreBodies kMore{{"open_threads", open_threads, nullptr}};

volatile pid_t handled_by = 0;
volatile int handled = 0;
void note_thread(int) {
    handled_by = gettid();
    handled = handled + 1;
}

}  // namespace

TEST(Stopping, AndContinuingWorkersLosesNothing) {
    TestPool pool({.workers = 3, .capacity = 64, .environment = {"AIOMQ_TEST_CONCURRENCY=4"}});
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    std::mt19937 engine(7);
    pid_t stopped = 0;
    for (int round = 0; round < 200; ++round) {
        for (int i = 0; i < 10; ++i)
            engine() % 2 == 0 ? pool.submit("later") : pool.submit("item_number", "", 5);
        if (stopped != 0) kill(stopped, SIGCONT);
        stopped = pool.worker_stats(static_cast<std::uint32_t>(engine() % 3)).pid;
        aiomq_test::stop(stopped);
    }
    kill(stopped, SIGCONT);
    pool.collect_all();
    for (const auto &[id, outcome] : pool.outcomes()) {
        ASSERT_EQ(outcome.status, AIOMQ_OK);
        ASSERT_EQ(outcome.times, 1);
    }
    EXPECT_EQ(pool.pool_stats().restarts, 0U) << "a stopped process is not a dead one";
}

TEST(Stopping, TheOnlyWorkerOnlyDelays) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    const auto pid = pool.worker_stats(0).pid;
    aiomq_test::stop(pid);
    const auto id = pool.submit("pid");
    for (int look = 0; look < 5; ++look) pool.collect_some(10'000'000);
    EXPECT_TRUE(pool.outcomes().empty());
    kill(pid, SIGCONT);
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).integer, pid);
}

TEST(Stopping, AndContinuingTheDispatcherLosesNothing) {
    const std::string text = in_child([] {
        const pid_t self = getpid();
        const pid_t stopper = fork();
        if (stopper == 0) {
            for (int i = 0; i < 20; ++i) {
                aiomq_test::stop(self);
                usleep(5000);  // so long it lasts
                kill(self, SIGCONT);
                usleep(1000);
            }
            _exit(0);
        }
        TestPool pool({.workers = 2});
        for (int i = 0; i < 2000; ++i) pool.submit("nothing");
        pool.collect_all();
        bool sound = true;
        for (const auto &[id, outcome] : pool.outcomes())
            sound = sound && outcome.status == AIOMQ_OK && outcome.times == 1;
        kill(stopper, SIGKILL);
        kill(self, SIGCONT);
        return std::string(sound ? "sound" : "lost");
    });
    EXPECT_EQ(text, "sound");
}

TEST(Sigpipe, NeverComesFromTheLibrary) {
    const std::string text = in_child([] {
        signal(SIGPIPE, SIG_DFL);
        TestPool pool({.workers = 2, .start_limit = 1000});
        for (int round = 0; round < 30; ++round) {
            for (int i = 0; i < 5; ++i) pool.submit("nothing");
            // The dead one's lanes, eventfd and start-up pipe have no reader any more.
            const auto pid = pool.worker_stats(static_cast<std::uint32_t>(round % 2)).pid;
            if (pid > 0) kill(pid, SIGKILL);
        }
        pool.collect_all();
        return std::string("alive");
    });
    EXPECT_EQ(text, "alive");
}

TEST(Threads, OfTheLibraryTakeNoSignal) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    EXPECT_EQ(threads_that_take_signals(), 0) << "in the dispatcher";
    const auto id = pool.submit("open_threads");
    pool.collect_all();
    EXPECT_EQ(pool.outcome(id).integer, 0) << "in the worker";
}

TEST(Threads, OfTheApplicationTakeItsSignals) {
    TestPool pool;
    ASSERT_EQ(pool.created(), 0) << pool.error_text();
    signal(SIGUSR1, note_thread);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &one, nullptr);
    // Nobody but this thread could take it, and this one does not now.
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 20; ++i) pool.submit("later");
    pool.collect_all();
    EXPECT_EQ(handled, 0) << "taken by another thread";
    pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
    EXPECT_EQ(handled, 1);
    EXPECT_EQ(handled_by, gettid());
    for (int i = 0; i < 500; ++i) {
        kill(getpid(), SIGUSR1);
        EXPECT_EQ(handled_by, gettid());
        if (i % 25 == 0) pool.submit("nothing");
    }
    pool.collect_all();
    EXPECT_EQ(handled, 501);
    signal(SIGUSR1, SIG_DFL);
}
