// Soak: a steady mixed load with a kill now and then, looked at every few seconds. What must stay flat:
// memory, descriptors, threads, latency, throughput.
//
// The load is the same all the time, but the machine is not: beside the figures as they are stands the
// speed against a second pool of the same kind, which rests between the samples.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>

#include "../support/clock.hpp"
#include "beats.hpp"
#include "census.hpp"
#include "killer.hpp"
#include "load.hpp"
#include "options.hpp"

namespace chaos {
namespace {

using aiomq_test::now_ns;

constexpr double kSettleSeconds = 30;
constexpr int kWindows = 15;
constexpr std::uint64_t kWindowMs = 50;
constexpr int kProbes = 200;
/// Blows per second.
constexpr double kRate = 0.5;

struct Sample {
    double seconds = 0;
    double items_per_second = 0;    ///< of the mixed load
    double p50_us = 0, p99_us = 0;  ///< round trips of empty tasks, one at a time
    double beats = 0, ratio = 0;    ///< see beats.hpp
    double private_kib = 0;         ///< private memory of the dispatcher
    double shared_kib = 0;          ///< what it has touched of both pools and of the ledger
    double workers_kib = 0;         ///< private memory of all workers
    double committed_kib = 0;       ///< of the pool
    double descriptors = 0, threads = 0, worker_descriptors = 0;
};

/// A column of the table, and by how much its last quarter may differ from its first.
struct Column {
    const char *name;
    double Sample::*value;
    double allowed;  ///< of the first quarter's median; infinite: only shown
};
constexpr double kShown = INFINITY;
constexpr Column kColumns[] = {
    {"seconds", &Sample::seconds, kShown},
    {"items/s", &Sample::items_per_second, kShown},
    {"p50 us", &Sample::p50_us, kShown},
    {"p99 us", &Sample::p99_us, kShown},
    {"beats/s", &Sample::beats, kShown},
    {"ratio", &Sample::ratio, 0.10},
    {"dispatcher private KiB", &Sample::private_kib, 0.10},
    {"dispatcher shared KiB", &Sample::shared_kib, 0.25},
    {"workers KiB", &Sample::workers_kib, 0.15},
    {"committed KiB", &Sample::committed_kib, 0.25},
    {"descriptors", &Sample::descriptors, 0},
    {"threads", &Sample::threads, 0},
    {"worker descriptors", &Sample::worker_descriptors, 0},
};

class Soak {
  public:
    explicit Soak(const Options &options) : options_(options) {
        PoolPlan plan;
        plan.seed = options.seed;
        plan.python = options.python;
        plan.folder = options.folder;
        plan.label = "soak-" + std::to_string(getpid());
        plan.mark = "AIOMQ_CHAOS_RUN=" + plan.label;
        reference_ = std::make_unique<MixedPool>(plan);
        plan.log = [this](const aiomq_event &event) {
            if (audit_) audit_->event(event);
        };
        pool_ = std::make_unique<MixedPool>(plan);
        audit_ = std::make_unique<Audit>(pool_->ledger());
    }

    bool run() {
        const std::uint64_t start = now_ns();
        const auto end = start + static_cast<std::uint64_t>(options_.seconds * 1e9);
        Load load(*pool_, *audit_, options_.seed, Temper::kSteady);
        std::ofstream csv(options_.csv);
        write_head(csv);
        bool rests = true;
        for (std::uint64_t turn = 0; now_ns() < end && rests; ++turn) {
            Sample sample;
            sample.items_per_second = stretch(load, options_.seed + turn);
            rests = rest();
            if (rests) measure(sample);
            rests = rests && rest();  // measuring may have brought a worker to its max_tasks
            if (!rests) break;
            look(sample);
            sample.seconds = static_cast<double>(now_ns() - start) / 1e9;
            samples_.push_back(sample);
            write_row(csv, sample);
        }
        audit_->finish();
        return judge() && rests;
    }

  private:
    /// Load and blows for one stretch. Returns items per second.
    double stretch(Load &load, std::uint64_t seed) {
        const std::uint64_t start = now_ns();
        const auto end = start + static_cast<std::uint64_t>(options_.sample_seconds * 1e9);
        const std::uint64_t items = audit_->findings().items;
        {
            Killer killer(*pool_, seed, kRate);
            while (now_ns() < end) load.turn();
            killer.stop();
            kills_ += killer.blows().kills;
            for (const std::int32_t pid : killer.take_killed()) audit_->killed(pid);
            audit_->forget_explained();
        }
        load.drain(kSettleSeconds);
        return static_cast<double>(audit_->findings().items - items) /
               (static_cast<double>(now_ns() - start) / 1e9);
    }

    bool rest() {
        const bool rests = pool_->wait_until(
            [this] { return pool_->all_are_ready() && pool_->stats().result_used_bytes == 0; },
            kSettleSeconds);
        if (!rests) fprintf(stderr, "audit: the pool did not come to rest\n");
        return rests;
    }

    void measure(Sample &sample) {
        const Beats beats = compare(*pool_, *reference_, kWindows, kWindowMs);
        sample.beats = beats.per_second;
        sample.ratio = beats.ratio;
        std::vector<double> trips;
        for (int i = 0; i < kProbes; ++i) trips.push_back(round_trip_us(*pool_));
        std::sort(trips.begin(), trips.end());
        sample.p50_us = trips[trips.size() / 2];
        sample.p99_us = trips[trips.size() * 99 / 100];
    }

    void look(Sample &sample) const {
        sample.private_kib = static_cast<double>(status_of(getpid(), "RssAnon"));
        sample.shared_kib =
            static_cast<double>(status_of(getpid(), "RssShmem") + status_of(getpid(), "RssFile"));
        const aiomq_pool_stats stats = pool_->stats();
        sample.committed_kib = static_cast<double>(
            (stats.request_committed_bytes + stats.result_committed_bytes) >> 10);
        sample.descriptors = descriptors_of(getpid());
        sample.threads = threads_of(getpid());
        for (std::uint32_t i = 0; i < pool_->workers(); ++i) {
            const pid_t pid = pool_->worker(i).pid;
            sample.workers_kib += static_cast<double>(status_of(pid, "RssAnon"));
            sample.worker_descriptors += descriptors_of(pid);
        }
    }

    void write_head(std::ofstream &csv) const {
        for (const Column &column : kColumns)
            csv << (column.value == &Sample::seconds ? "" : ",") << column.name;
        csv << "\n";
    }

    void write_row(std::ofstream &csv, const Sample &sample) const {
        for (const Column &column : kColumns)
            csv << (column.value == &Sample::seconds ? "" : ",") << sample.*column.value;
        csv << std::endl;
    }

    double median(double Sample::*value, std::size_t from, std::size_t to) const {
        std::vector<double> values;
        for (std::size_t i = from; i < to; ++i) values.push_back(samples_[i].*value);
        std::sort(values.begin(), values.end());
        return values.empty() ? 0 : values[values.size() / 2];
    }

    /// Compares the last quarter with the second: the first one is for warming up.
    bool judge() const {
        const std::size_t count = samples_.size();
        if (count < 8) {
            fprintf(stderr, "soak: %zu samples are too few\n", count);
            return false;
        }
        Figures figures;
        bool flat = true;
        printf("soak, seed %llu: %zu samples, %llu kills\n%-24s %12s %12s\n",
               static_cast<unsigned long long>(options_.seed), count,
               static_cast<unsigned long long>(kills_), "medians", "2nd quarter", "4th quarter");
        figures.add("seconds", std::round(samples_.back().seconds));
        figures.add("tasks", static_cast<double>(audit_->findings().tasks));
        figures.add("kills", static_cast<double>(kills_));
        for (const Column &column : kColumns) {
            if (column.value == &Sample::seconds) continue;
            const double first = median(column.value, count / 4, count / 2);
            const double last = median(column.value, count - count / 4, count);
            const double drift = first == 0 ? std::abs(last) : std::abs(last / first - 1);
            const bool fits = drift <= column.allowed;
            flat = flat && fits;
            printf("%-24s %12.4g %12.4g%s\n", column.name, first, last, fits ? "" : "  NOT FLAT");
            figures.add(std::string(column.name) + ", early", first);
            figures.add(std::string(column.name) + ", late", last);
        }
        const std::uint64_t violations = audit_->findings().violations();
        printf("must be 0:\n  violations  %llu\n", static_cast<unsigned long long>(violations));
        figures.add("violations", static_cast<double>(violations));
        return (options_.json.empty() || figures.write(options_.json)) && flat && violations == 0;
    }

    Options options_;
    std::unique_ptr<MixedPool> reference_;
    std::unique_ptr<MixedPool> pool_;
    std::unique_ptr<Audit> audit_;
    std::vector<Sample> samples_;
    std::uint64_t kills_ = 0;
};

}  // namespace

bool run_soak(const Options &options) { return Soak(options).run(); }

}  // namespace chaos
