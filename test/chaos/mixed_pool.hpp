// A pool of native and Python groups, more workers than CPUs, whose workers write a ledger.
#pragma once

#include <aiomq/aiomq.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ledger.hpp"

namespace chaos {

constexpr std::uint32_t kCapacity = 128;
constexpr std::uint32_t kPoisonLimit = 5;
enum Queue : std::uint16_t { kNativeQueue = 0, kUrgentQueue = 1, kPythonQueue = 2 };

struct PoolPlan {
    std::uint64_t seed = 0;
    std::string python{};  ///< interpreter for the Python group; empty: there is none
    std::string folder{};  ///< of the Python files
    std::string mark{};    ///< "NAME=value" in every worker's environment
    std::string label{};
    std::uint32_t flags = 0;
    std::function<void(const aiomq_event &)> log{};
};

/// Numbers of the functions.
struct Functions {
    std::uint32_t order, blank, beat;
    std::uint32_t python_order, python_plain, cell, late_cell, python_beat;
};

class MixedPool {
  public:
    /// Ends the program, with words, when the pool can't be made.
    explicit MixedPool(PoolPlan plan);
    ~MixedPool();
    MixedPool(const MixedPool &) = delete;
    MixedPool &operator=(const MixedPool &) = delete;

    aiomq_pool *get() const { return pool_; }
    Ledger &ledger() { return ledger_; }
    const Functions &functions() const { return functions_; }
    std::uint32_t workers() const { return native_ + python_; }
    bool has_python() const { return python_ != 0; }
    bool is_python(std::uint32_t worker) const { return worker >= native_; }
    std::uint64_t arena_bytes() const { return kArenaBytes; }

    aiomq_pool_stats stats() const;
    aiomq_worker_stats worker(std::uint32_t index) const;
    /// Blocks on the pool's events until @done. False: it did not happen in @seconds.
    bool wait_until(const std::function<bool()> &done, double seconds = 30);
    bool all_are_ready() const;

  private:
    static constexpr std::uint64_t kArenaBytes = 24U << 20;

    void create(const std::vector<std::string> &python_command, int stuck_signal,
                const std::vector<int> &descriptors);
    void name_functions();

    PoolPlan plan_;
    std::uint32_t swift_;  ///< workers that run many items at once
    std::uint32_t native_;
    std::uint32_t python_;
    Ledger ledger_;
    aiomq_pool *pool_ = nullptr;
    aiomq_view *view_ = nullptr;
    Functions functions_{};
};

}  // namespace chaos
