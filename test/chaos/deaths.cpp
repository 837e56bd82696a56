// Dispatchers killed at random moments: a second later nothing of theirs may be left.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "../support/clock.hpp"
#include "census.hpp"
#include "killer.hpp"
#include "load.hpp"
#include "options.hpp"

namespace chaos {
namespace {

using aiomq_test::now_ns;

constexpr std::uint64_t kAllowedNs = 1'000'000'000;
/// For those that the kernel has killed in time and a busy machine gives no CPU to go.
constexpr std::uint64_t kDyingNs = 20'000'000'000;

/// Takes the exit statuses of those who have become our children by the death of their parent.
void reap() {
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
}

std::string label_of(pid_t dispatcher) { return "chaos-victim-" + std::to_string(dispatcher); }

struct Round {
    bool clean = true;
    bool was_up = false;  ///< it had made its pool
    bool slow = false;    ///< somebody who had been killed was not gone after the time
    double left_ms = 0;   ///< how long anything of its was left
};

class Deaths {
  public:
    explicit Deaths(const Options &options) : options_(options), random_(options.seed) {}

    bool run() {
        prctl(PR_SET_CHILD_SUBREAPER, 1);  // orphans come to us, and can be counted
        Figures figures;
        std::uint64_t survivors = 0;
        std::uint64_t were_up = 0;
        std::uint64_t slow = 0;
        double worst_ms = 0;
        for (std::uint64_t i = 0; i < options_.rounds; ++i) {
            const Round round = play(options_.seed + i, i % 5 == 4);
            survivors += !round.clean;
            were_up += round.was_up;
            slow += round.slow;
            if (round.clean && !round.slow) worst_ms = std::max(worst_ms, round.left_ms);
        }
        printf("dispatchers killed: %llu, %llu of them with a pool that ran\n",
               static_cast<unsigned long long>(options_.rounds),
               static_cast<unsigned long long>(were_up));
        printf(
            "everything gone after %.0f ms, but for %llu whose killed workers waited for the CPU\n",
            worst_ms, static_cast<unsigned long long>(slow));
        printf("must be 0:\n  with something left   %llu\n",
               static_cast<unsigned long long>(survivors));
        figures.add("dispatchers killed", static_cast<double>(options_.rounds));
        figures.add("with a running pool", static_cast<double>(were_up));
        figures.add("longest ms until all was gone", worst_ms);
        figures.add("killed workers not gone after 1 s for want of CPU", static_cast<double>(slow));
        figures.add("with something left", static_cast<double>(survivors));
        return (options_.json.empty() || figures.write(options_.json)) && survivors == 0;
    }

  private:
    pid_t start(std::uint64_t seed, bool python) const {
        const pid_t pid = fork();
        if (pid != 0) return pid;
        const std::string seed_text = std::to_string(seed);
        std::vector<const char *> argv{"/proc/self/exe", "victim", "--seed", seed_text.c_str()};
        if (python && !options_.python.empty())
            argv.insert(argv.end(),
                        {"--python", options_.python.c_str(), "--folder", options_.folder.c_str()});
        argv.push_back(nullptr);
        execv("/proc/self/exe", const_cast<char *const *>(argv.data()));
        _exit(3);
    }

    Round play(std::uint64_t seed, bool python) {
        Round round;
        const pid_t pid = start(seed, python);
        // Some while they start; the others while they work.
        if (random_() % 3 != 0) wait_for_pool(pid);
        usleep(static_cast<useconds_t>(random_() % 150'000));
        round.was_up = links_of(pid, "aiomq:" + label_of(pid)) > 0;
        kill(pid, SIGKILL);
        waitpid(pid, nullptr, 0);
        const std::uint64_t start = now_ns();
        const std::uint64_t looked = look_until_gone(pid, start, round.slow);
        round.clean = looked != 0;
        round.left_ms = static_cast<double>(looked - start) / 1e6;
        if (!round.clean) tell(pid, seed);
        return round;
    }

    /// Until it has workers, or has ended by itself.
    static void wait_for_pool(pid_t dispatcher) {
        while (children_of(dispatcher).size() < 4 && waitpid(dispatcher, nullptr, WNOHANG) == 0)
            usleep(2000);
    }

    /// When the look began that found nothing; 0: something was left at the last look within the time. A
    /// look at all processes can itself take long.
    static std::uint64_t look_until_gone(pid_t dispatcher, std::uint64_t start, bool &ret_slow) {
        for (;;) {
            const std::uint64_t now = now_ns();
            if (!is_anything_left(dispatcher)) return now;
            if (now - start > (ret_slow ? kDyingNs : kAllowedNs)) {
                ret_slow = !ret_slow && only_the_dying_are_left(dispatcher);
                if (!ret_slow) return 0;
            }
            usleep(2000);
        }
    }

    static bool is_anything_left(pid_t dispatcher) {
        reap();
        return !children_of(getpid()).empty() ||
               !marked("AIOMQ_CHAOS_RUN=" + label_of(dispatcher)).empty() ||
               links_with(label_of(dispatcher)) != 0 || !files_with(label_of(dispatcher)).empty();
    }

    static bool only_the_dying_are_left(pid_t dispatcher) {
        std::vector<pid_t> left = children_of(getpid());
        const auto more = marked("AIOMQ_CHAOS_RUN=" + label_of(dispatcher));
        left.insert(left.end(), more.begin(), more.end());
        return std::all_of(left.begin(), left.end(), is_dying);
    }

    static void tell(pid_t dispatcher, std::uint64_t seed) {
        fprintf(stderr, "audit: a dispatcher (seed %llu) has left %zu children, %d holders:",
                static_cast<unsigned long long>(seed), children_of(getpid()).size(),
                links_with(label_of(dispatcher)));
        for (const pid_t pid : children_of(getpid())) {
            fprintf(stderr, " %d (%d threads%s)", pid, threads_of(pid),
                    is_dying(pid) ? ", dying" : "");
            kill(pid, SIGKILL);
            waitpid(pid, nullptr, 0);
        }
        fprintf(stderr, "\n");
    }

    Options options_;
    std::mt19937_64 random_;
};

}  // namespace

bool run_deaths(const Options &options) { return Deaths(options).run(); }

void run_victim(const Options &options) {
    alarm(60);  // should whoever started us have died
    PoolPlan plan;
    plan.seed = options.seed;
    plan.python = options.python;
    plan.folder = options.folder;
    plan.label = label_of(getpid());
    plan.mark = "AIOMQ_CHAOS_RUN=" + plan.label;
    if (options.seed % 2 == 0) plan.flags = AIOMQ_POOL_NOWAIT;
    MixedPool pool(plan);
    Audit audit(pool.ledger());
    Load load(pool, audit, options.seed, Temper::kWild);
    Killer killer(pool, options.seed, 100);  // some workers are stopped when it dies
    for (;;) load.turn();
}

}  // namespace chaos
