// The mixed load under random kills, then the audit: what was lost, run twice, or leaked.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "../support/clock.hpp"
#include "../support/process.hpp"
#include "beats.hpp"
#include "census.hpp"
#include "killer.hpp"
#include "load.hpp"
#include "options.hpp"

namespace chaos {
namespace {

using aiomq_test::now_ns;

constexpr double kDrainSeconds = 60;
constexpr int kWindows = 9;
constexpr std::uint64_t kWindowMs = 60;
/// A noisy machine gets so many tries for its throughput to be at least kLeast of what it was.
constexpr int kTries = 6;
constexpr double kLeast = 0.90;

struct Tally {
    int descriptors = 0;
    int threads = 0;
    int children = 0;
    int worker_descriptors = 0;
    int worker_threads = 0;
};

class Mixed {
  public:
    explicit Mixed(const Options &options);
    bool run();

  private:
    void storm();
    bool settle();
    Tally count(MixedPool &pool) const;
    std::uint64_t used_bytes() const;
    std::uint64_t free_slots();
    void measure_after();
    void look_for_leaks(const Tally &before, std::uint64_t bytes_before);
    void close_pools();
    bool print() const;
    void leak(long &count, long found, long wanted, const char *what);

    Options options_;
    std::string label_ = "chaos-" + std::to_string(getpid());
    std::string mark_ = "AIOMQ_CHAOS_RUN=" + label_;
    int descriptors_before_ = descriptors_of(getpid());
    std::unique_ptr<MixedPool> reference_;
    std::unique_ptr<MixedPool> pool_;
    std::unique_ptr<Audit> audit_;
    Blows blows_{};
    Beats before_{};
    Beats after_{};
    double ratio_ = 0;  ///< of the throughput, after to before
    std::uint64_t refused_ = 0;
    double seconds_ = 0;
    aiomq_pool_stats stats_{};
    long slots_ = 0, bytes_ = 0, fds_ = 0, threads_ = 0, orphans_ = 0, files_ = 0;
};

Mixed::Mixed(const Options &options) : options_(options) {
    PoolPlan plan;
    plan.seed = options.seed;
    plan.python = options.python;
    plan.folder = options.folder;
    plan.mark = mark_;
    plan.label = label_ + "-reference";
    reference_ = std::make_unique<MixedPool>(plan);
    plan.label = label_;
    plan.log = [this](const aiomq_event &event) {
        if (audit_) audit_->event(event);
    };
    pool_ = std::make_unique<MixedPool>(plan);
    audit_ = std::make_unique<Audit>(pool_->ledger());
}

/// Load and kills until there were enough of both.
void Mixed::storm() {
    const std::uint64_t start = now_ns();
    const auto end = start + static_cast<std::uint64_t>(options_.seconds * 1e9);
    Load load(*pool_, *audit_, options_.seed, Temper::kWild);
    {
        Killer killer(*pool_, options_.seed + 1, options_.per_second);
        while (now_ns() < end || blows_.kills < options_.kills) {
            load.turn();
            for (const std::int32_t pid : killer.take_killed()) audit_->killed(pid);
            blows_ = killer.blows();
        }
        killer.stop();
        for (const std::int32_t pid : killer.take_killed()) audit_->killed(pid);
        blows_ = killer.blows();
    }
    seconds_ = static_cast<double>(now_ns() - start) / 1e9;
    load.drain(kDrainSeconds);
    refused_ = load.refused();
}

/// Everybody is there again, and nothing is in anybody's hands.
bool Mixed::settle() {
    return pool_->wait_until([this] {
        aiomq_completion completion;
        while (aiomq_pool_collect(pool_->get(), &completion, 1) == 1) audit_->take(completion);
        return pool_->all_are_ready() && pool_->stats().result_used_bytes == 0;
    });
}

Tally Mixed::count(MixedPool &pool) const {
    Tally tally;
    tally.descriptors = descriptors_of(getpid());
    tally.threads = threads_of(getpid());
    tally.children = static_cast<int>(children_of(getpid()).size());
    for (std::uint32_t i = 0; i < pool.workers(); ++i) {
        tally.worker_descriptors += descriptors_of(pool.worker(i).pid);
        tally.worker_threads += threads_of(pool.worker(i).pid);
    }
    return tally;
}

std::uint64_t Mixed::used_bytes() const {
    const aiomq_pool_stats stats = pool_->stats();
    return stats.request_used_bytes + stats.result_used_bytes;
}

/// How many tasks the pool takes while every worker is stopped.
std::uint64_t Mixed::free_slots() {
    std::vector<pid_t> stopped;
    for (std::uint32_t i = 0; i < pool_->workers(); ++i) {
        const pid_t pid = pool_->worker(i).pid;
        if (pid <= 0) return 0;  // somebody is missing; 0 would be our own group
        stopped.push_back(pid);
    }
    for (const pid_t pid : stopped) aiomq_test::stop(pid);
    aiomq_task task{};
    task.struct_bytes = sizeof task;
    task.function = pool_->functions().beat;
    task.items = 1;
    std::uint64_t count = 0;
    while (aiomq_pool_submit(pool_->get(), &task, nullptr) == 0) ++count;
    for (const pid_t pid : stopped) kill(pid, SIGCONT);
    std::uint64_t left = count;
    pool_->wait_until([&] {
        aiomq_completion completion;
        while (aiomq_pool_collect(pool_->get(), &completion, 1) == 1) --left;
        return left == 0;
    });
    return left == 0 ? count : 0;
}

/// Against the reference: first both now and before, then, should the measurement before have been the
/// bad one, now alone, because the two pools are of the same kind.
void Mixed::measure_after() {
    for (int i = 0; i < kTries; ++i) {
        after_ = compare(*pool_, *reference_, kWindows, kWindowMs);
        ratio_ = i == 0 ? after_.ratio / before_.ratio : after_.ratio;
        if (ratio_ >= kLeast) return;
        printf("throughput: %.2f of what it was, measured once more\n", ratio_);
    }
}

void Mixed::leak(long &count, long found, long wanted, const char *what) {
    count += std::labs(found - wanted);
    if (found != wanted) fprintf(stderr, "audit: %ld %s, and %ld before\n", found, what, wanted);
}

void Mixed::look_for_leaks(const Tally &before, std::uint64_t bytes_before) {
    // Measuring may have brought a worker to its max_tasks.
    if (!settle() || !reference_->wait_until([this] { return reference_->all_are_ready(); }))
        fprintf(stderr, "audit: the pools did not come to rest\n");
    const Tally now = count(*pool_);
    const Tally other = count(*reference_);
    leak(fds_, now.descriptors, before.descriptors, "descriptors of the dispatcher");
    leak(fds_, now.worker_descriptors, other.worker_descriptors, "descriptors of workers");
    leak(threads_, now.threads, before.threads, "threads of the dispatcher");
    leak(threads_, now.worker_threads, other.worker_threads, "threads of workers");
    leak(orphans_, now.children, before.children, "children");
    leak(bytes_, static_cast<long>(used_bytes()), static_cast<long>(bytes_before), "bytes in use");
    leak(slots_, static_cast<long>(free_slots()), kCapacity, "slots that can be had");
}

void Mixed::close_pools() {
    stats_ = pool_->stats();
    aiomq_pool_close(pool_->get(), 0);
    const int error = aiomq_pool_join(pool_->get(), 20'000'000'000);
    if (error != 0) fprintf(stderr, "audit: join: %s\n", aiomq_strerror(error));
    orphans_ += error != 0;
    audit_->read_ledger();
    audit_->finish();
    pool_.reset();
    reference_.reset();
    leak(orphans_, static_cast<long>(children_of(getpid()).size()), 0, "children at the end");
    leak(orphans_, static_cast<long>(marked(mark_).size()), 0,
         "processes of the pool's at the end");
    leak(fds_, descriptors_of(getpid()), descriptors_before_, "descriptors at the end");
    leak(threads_, threads_of(getpid()), 1, "threads at the end");
    leak(bytes_, links_with(label_), 0, "holders of the pool's memory at the end");
    leak(files_, static_cast<long>(files_with(label_).size()), 0, "files at the end");
}

bool Mixed::print() const {
    const Findings &found = audit_->findings();
    Figures figures;
    const auto add = [&](const char *name, double value) {
        figures.add(name, value);
        printf("  %-22s %.0f\n", name, value);
    };
    const auto number = [](auto value) { return static_cast<double>(value); };
    printf("mixed load, seed %llu\n", static_cast<unsigned long long>(options_.seed));
    add("seconds", seconds_);
    add("tasks", number(found.tasks));
    add("items", number(found.items));
    add("executions", number(found.executions));
    add("nested tasks", number(found.nested));
    add("payload MiB", number(found.payload_bytes >> 20));
    add("no room", number(refused_));
    add("kills", number(blows_.kills));
    add("of Python workers", number(blows_.python_kills));
    add("stops", number(blows_.stops));
    add("SIGTERMs", number(blows_.terms));
    add("restarts", number(stats_.restarts));
    add("requeued items", number(stats_.requeued));
    add("retried items", number(stats_.retried));
    add("splits", number(stats_.splits));
    for (const auto &[outcome, count] : found.outcomes)
        add(aiomq_outcome_name(outcome), number(count));
    printf("must be 0:\n");
    add("lost", number(found.lost));
    add("run twice unasked", number(found.twice));
    add("two outcomes", number(found.told_twice));
    add("wrong results", number(found.wrong_results));
    add("wrong outcomes", number(found.wrong_outcomes));
    add("unexplained deaths", number(found.wrong_deaths));
    add("leaked slots", number(slots_));
    add("leaked bytes", number(bytes_));
    add("leaked fds", number(fds_));
    add("leaked threads", number(threads_));
    add("leaked files", number(files_));
    add("orphans", number(orphans_));
    figures.add("throughput ratio", std::round(ratio_ * 1000) / 1000);
    printf(
        "throughput: %.0f k items/s before, %.0f after; against an unharmed pool: %.3f of before\n",
        before_.per_second / 1e3, after_.per_second / 1e3, ratio_);
    const bool written = options_.json.empty() || figures.write(options_.json);
    const long leaks = slots_ + bytes_ + fds_ + threads_ + files_ + orphans_;
    return written && found.violations() == 0 && leaks == 0 && ratio_ >= kLeast;
}

bool Mixed::run() {
    if (!settle() || !reference_->wait_until([this] { return reference_->all_are_ready(); }))
        return false;
    before_ = compare(*pool_, *reference_, kWindows, kWindowMs);
    if (!settle() || !reference_->wait_until([this] { return reference_->all_are_ready(); }))
        return false;
    const Tally tally = count(*pool_);
    const std::uint64_t bytes = used_bytes();
    storm();
    if (!settle()) fprintf(stderr, "audit: the pool did not come to rest\n");
    pool_->wait_until([&] { return used_bytes() == bytes; }, 5);
    measure_after();
    look_for_leaks(tally, bytes);
    close_pools();
    return print();
}

}  // namespace

bool run_mixed(const Options &options) { return Mixed(options).run(); }

}  // namespace chaos
