// A worker writes random bytes over all that it can write, while tasks of every sort run, aiomq-stat looks
// on, and a second pool of the same dispatcher does its work. The damaged pool gives every item one
// outcome, or one POOL_CORRUPT; the second pool's results are right; aiomq-stat ends, and not by a signal.
//
// Each round is one seed: AIOMQ_TEST_SEED gives the first. Long runs leave their figures in
// evidence/scribble.json of the build folder.
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <thread>

#include "../support/evidence.hpp"
#include "../support/scribbler.hpp"
#include "../unit/seeded.hpp"

extern char **environ;

namespace {

using aiomq_test::now_ns;
using aiomq_test::Splitmix;
using aiomq_test::TestPool;

constexpr std::uint32_t kWorkers = 3;
constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kHung = 60 * kSecond;  // on a machine that does other things too

const aiomq_test::MoreBodies kMore{aiomq_test::kScribble};

struct Figures {
    std::uint64_t rounds = 0;
    std::uint64_t broken = 0;  ///< rounds whose pool ended in POOL_CORRUPT; the others carried on
    std::uint64_t items = 0;
    std::uint64_t corrupt_items = 0;
    std::uint64_t other_pool_items = 0;
    std::uint64_t reports = 0;  ///< of aiomq-stat
    std::uint64_t slowest_report_ns = 0;
};

/// Runs aiomq-stat with every verb on one pool, again and again, from a thread of its own.
class Reporter {
  public:
    Reporter(const std::string &pool, Figures &figures) : pool_(pool), figures_(figures) {
        thread_ = std::thread([this] {
            do
                for (std::size_t which = 0; which < kReports.size() && !over_.load(); ++which)
                    report(kReports[which]);
            while (!over_.load());
        });
    }
    ~Reporter() {
        over_.store(true);
        thread_.join();
    }
    Reporter(const Reporter &) = delete;
    Reporter &operator=(const Reporter &) = delete;

  private:
    struct Verb {
        const char *name;
        bool json;
    };
    static constexpr std::array<Verb, 9> kReports{{{"show", false},
                                                   {"tasks", true},
                                                   {"check", false},
                                                   {"list", true},
                                                   {"events", false},
                                                   {"show", true},
                                                   {"tasks", false},
                                                   {"list", false},
                                                   {"events", true}}};

    void report(const Verb &verb) {
        const bool of_one = std::string(verb.name) != "list";
        std::vector<const char *> argv{"aiomq-stat"};
        if (aiomq_test::emulated()) argv = {aiomq_test::own_command()[0], program_.c_str()};
        argv.push_back(verb.name);
        if (verb.json) argv.push_back("--json");
        if (of_one) argv.push_back(pool_.c_str());
        argv.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        for (const int stream : {1, 2})
            posix_spawn_file_actions_addopen(&actions, stream, "/dev/null", O_WRONLY, 0);
        pid_t pid = 0;
        const std::uint64_t start = now_ns();
        const int error = posix_spawnp(&pid, argv[0], &actions, nullptr,
                                       const_cast<char *const *>(argv.data()), environ);
        posix_spawn_file_actions_destroy(&actions);
        ASSERT_EQ(error, 0) << "aiomq-stat can't be started";
        const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
        pollfd ended{pidfd, POLLIN, 0};
        const int ready = poll(&ended, 1, kHung / 1'000'000);
        if (ready != 1) kill(pid, SIGKILL);
        close(pidfd);
        int status = 0;
        waitpid(pid, &status, 0);
        EXPECT_EQ(ready, 1) << "aiomq-stat " << verb.name << " hung";
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) <= 5)
            << "aiomq-stat " << verb.name << " ended with " << status;
        ++figures_.reports;
        figures_.slowest_report_ns = std::max(figures_.slowest_report_ns, now_ns() - start);
    }

    /// The build's, by its path: an emulator does not look for it.
    const std::string program_ = std::filesystem::read_symlink(aiomq_test::kOwnProgram)
                                     .parent_path()
                                     .parent_path()
                                     .parent_path() /
                                 "tools/aiomq-stat";
    std::string pool_;
    Figures &figures_;
    std::atomic<bool> over_{false};
    std::thread thread_;
};

/// The pool that nobody damages: its tasks' results are known.
class OtherPool {
  public:
    OtherPool() : pool_({.workers = 2, .label = "other"}) {
        EXPECT_EQ(pool_.created(), 0) << pool_.error_text();
    }
    void submit(std::uint64_t seed) {
        for (std::uint64_t i = 0; i < 8; ++i) {
            const std::string text = std::to_string(seed) + std::string(i * i * 20, 'o');
            expected_[pool_.submit("echo", text)] = text;
        }
    }
    void check(Figures &figures) {
        pool_.collect_all();
        for (const auto &[id, text] : expected_) {
            const aiomq_test::Outcome &outcome = pool_.outcome(id);
            EXPECT_EQ(outcome.status, AIOMQ_OK) << outcome.error_message;
            EXPECT_EQ(outcome.bytes, text) << "a result of another pool is wrong";
            EXPECT_EQ(outcome.times, 1);
        }
        figures.other_pool_items += expected_.size();
        expected_.clear();
    }

  private:
    TestPool pool_;
    std::map<std::uint64_t, std::string> expected_;
};

/// A pool of its own, tasks of every sort, and some that scribble.
class Round {
  public:
    Round(std::uint64_t seed, Figures &figures)
        : random_(seed),
          figures_(figures),
          pool_({.workers = kWorkers,
                 .arena_max = 1 << 20,
                 .blocked_after_ns = 20'000'000,
                 .label = "scribble",
                 .adjust = [](auto &options) { options.grace_ns = 50'000'000; }}) {}

    void run() {
        ASSERT_EQ(pool_.created(), 0) << pool_.error_text();
        const Reporter reporter("scribble@" + std::to_string(getpid()), figures_);
        const std::uint64_t tasks = 8 + random_.below(40);
        const std::uint64_t culprit = random_.below(tasks);
        for (std::uint64_t i = 0; i < tasks; ++i)
            if (i == culprit || random_.below(16) == 0)
                submit("scribble", std::to_string(random_.next()) + " " +
                                       std::to_string(random_.below(aiomq_test::kScribbleModes)) +
                                       " " + std::to_string(random_.below(3)));
            else
                submit_something();
        collect();
        figures_.items += due_;
        figures_.broken += broken_ ? 1 : 0;
        ++figures_.rounds;
    }

  private:
    void submit_something() {
        constexpr const char *kBodies[] = {"nothing", "item_number", "refuse", "later", "echo"};
        const std::uint64_t which = random_.below(6);
        if (which == 5) return submit("make_bytes", std::to_string(1 + random_.below(20000)));
        submit(kBodies[which], std::string(random_.below(200), 'p'));
    }

    /// A pool that has broken meanwhile refuses: then there is nothing to wait for.
    void submit(const std::string &function, const std::string &payload) {
        aiomq_task task{};
        task.struct_bytes = sizeof task;
        task.kind = AIOMQ_KIND_BYTES;
        task.payload = payload.empty() ? nullptr : payload.data();
        task.payload_bytes = payload.size();
        const bool many = function != "scribble" && function != "make_bytes";
        task.items =
            many && random_.below(2) == 0 ? static_cast<std::uint32_t>(2 + random_.below(100)) : 1;
        if (random_.below(3) == 0) task.flags |= AIOMQ_TASK_PROGRESS;
        if (random_.below(3) == 0) {
            task.flags |= AIOMQ_TASK_KEYED;
            task.key = random_.below(8);
        }
        if (random_.below(3) == 0) task.retries = static_cast<std::uint32_t>(random_.below(3));
        if (random_.below(4) == 0) task.start_within_ns = 1 + random_.below(kSecond);
        if (random_.below(4) == 0) task.timeout_ns = 1'000'000 + random_.below(kSecond);
        const int known = aiomq_pool_function(pool_.get(), function.c_str(), &task.function);
        const int error = known != 0 ? known : aiomq_pool_submit(pool_.get(), &task, nullptr);
        EXPECT_TRUE(error == 0 || error == -EPIPE || error == -EAGAIN || error == -ENOMEM)
            << aiomq_strerror(error);
        if (error == 0) due_ += task.items;
    }

    void collect() {
        const std::uint64_t end = now_ns() + kHung;
        aiomq_completion completions[8];
        while (seen_.size() < due_) {
            const std::int64_t count = aiomq_pool_collect(pool_.get(), completions, 8);
            ASSERT_GE(count, 0);
            for (std::int64_t i = 0; i < count; ++i) take(completions[i]);
            if (count > 0) continue;
            ASSERT_LT(now_ns(), end) << "hung: " << seen_.size() << " of " << due_ << " outcomes";
            ASSERT_GE(aiomq_pool_wait(pool_.get(), end - now_ns()), 0);
        }
        EXPECT_EQ(aiomq_pool_collect(pool_.get(), completions, 8), 0) << "too many outcomes";
    }

    void take(const aiomq_completion &completion) {
        for (std::uint32_t i = 0; i < completion.item_count; ++i) {
            const aiomq_item &item = completion.items[i];
            EXPECT_TRUE(seen_.insert({completion.task_id, item.index}).second)
                << "item " << item.index << " has two outcomes";
            EXPECT_TRUE(item.status >= AIOMQ_OK && item.status <= AIOMQ_POOL_CLOSED);
            if (item.status == AIOMQ_POOL_CORRUPT) {
                broken_ = true;
                ++figures_.corrupt_items;
            }
            if (item.kind < AIOMQ_KIND_BYTES) continue;
            const std::string copy(static_cast<const char *>(item.value.data), item.bytes);
            std::vector<char> buffer(item.bytes + 64);
            aiomq_error error{};
            if (item.kind == AIOMQ_KIND_ERROR)
                (void)aiomq_error_decode(&item, buffer.data(), buffer.size(), &error);
        }
        EXPECT_EQ(aiomq_pool_release(pool_.get(), completion.loan), 0);
    }

    Splitmix random_;
    Figures &figures_;
    TestPool pool_;
    std::uint64_t due_ = 0;
    bool broken_ = false;
    std::set<std::pair<std::uint64_t, std::uint32_t>> seen_;
};

std::string in_json(const Figures &figures, std::uint64_t seconds) {
    return "\"rounds\": " + std::to_string(figures.rounds) +
           ", \"pools_broken\": " + std::to_string(figures.broken) +
           ", \"items\": " + std::to_string(figures.items) +
           ", \"corrupt_items\": " + std::to_string(figures.corrupt_items) +
           ", \"other_pool_items\": " + std::to_string(figures.other_pool_items) +
           ", \"aiomq_stat_runs\": " + std::to_string(figures.reports) +
           ", \"slowest_aiomq_stat_ms\": " + std::to_string(figures.slowest_report_ns / 1'000'000) +
           ", \"seconds\": " + std::to_string(seconds);
}

}  // namespace

TEST(Scribble, EndsInPoolCorruptOrCarriesOnAndHarmsNobodyElse) {
    const char *given = getenv("AIOMQ_TEST_SEED");
    const std::uint64_t first = given == nullptr ? 1 : std::strtoull(given, nullptr, 10);
    const std::uint64_t rounds = aiomq_test::rounds(15, 1000);
    const std::uint64_t start = now_ns();
    Figures figures;
    OtherPool other;
    for (std::uint64_t seed = first; seed < first + rounds && !HasFailure(); ++seed) {
        SCOPED_TRACE("AIOMQ_TEST_SEED=" + std::to_string(seed));
        other.submit(seed);
        Round(seed, figures).run();
        other.check(figures);
    }
    std::printf(
        "%lu rounds, %lu pools broken, %lu items (%lu corrupt), %lu of the other pool, "
        "%lu runs of aiomq-stat, the slowest %lu ms\n",
        figures.rounds, figures.broken, figures.items, figures.corrupt_items,
        figures.other_pool_items, figures.reports, figures.slowest_report_ns / 1'000'000);
    if (aiomq_test::stress() && !HasFailure())
        aiomq_test::leave_evidence(
            "scribble",
            "a worker scribbles over all that it can write, one seed a round: every item has one "
            "outcome, another pool's results are right, aiomq-stat ends by itself",
            in_json(figures, (now_ns() - start) / kSecond), "./dev chaos scribble",
            std::to_string(first));
}
