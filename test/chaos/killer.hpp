// Killer: a thread that kills, stops and continues workers of a mixed pool at random moments.
//
// Half of its blows fall some microseconds after the victim was seen to begin or end an item: that is
// where its steps in shared memory are. The others fall anywhere. What is chosen follows from the seed.
#pragma once

#include <atomic>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "mixed_pool.hpp"

namespace chaos {

struct Blows {
    std::uint64_t kills = 0;
    std::uint64_t python_kills = 0;  ///< of them
    std::uint64_t stops = 0;
    std::uint64_t terms = 0;
};

class Killer {
  public:
    /// Begins at once. @per_second: how many blows, about.
    Killer(MixedPool &pool, std::uint64_t seed, double per_second);
    /// Continues whom it has stopped.
    ~Killer();
    Killer(const Killer &) = delete;
    Killer &operator=(const Killer &) = delete;

    /// No blow falls after it.
    void stop();
    /// Pids that were killed since the last call.
    std::vector<std::int32_t> take_killed();
    Blows blows() const;

  private:
    struct Victim {
        int fd = -1;  ///< pidfd: no other process can be meant
        std::int32_t pid = 0;
        std::uint32_t worker = 0;
    };

    void run();
    std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
    Victim choose();
    void strike(const Victim &victim);
    void wait_for_moment(std::uint32_t worker);
    bool send(const Victim &victim, int signal);
    void nap_us(std::uint64_t microseconds) const;

    MixedPool &pool_;
    aiomq_view *view_ = nullptr;
    std::mt19937_64 random_;
    double per_second_;
    std::vector<std::int32_t> struck_;  ///< by place, whom we killed last
    std::uint64_t last_term_ns_ = 0;
    mutable std::mutex mutex_;
    std::vector<std::int32_t> killed_;
    Blows blows_;
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

}  // namespace chaos
