// Scenario: a few threads with a piece of the core between them, as real processes would use it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "weak_memory.hpp"

namespace weak {

class Scenario {
  public:
    virtual ~Scenario() = default;
    /// What the threads share, of which every access is a step.
    virtual void *shared() = 0;
    virtual std::size_t shared_bytes() const = 0;
    virtual std::vector<std::function<void()>> threads() = 0;
    /// Whether the code relies on Machine::use_full_barriers().
    virtual bool needs_full_barriers() const { return false; }
    /// After the threads' ends: "" or what is wrong.
    virtual std::string verdict() = 0;
};

struct Kind {
    const char *name;
    std::unique_ptr<Scenario> (*make)();
};
std::vector<Kind> ring_scenarios();
std::vector<Kind> lane_scenarios();
std::vector<Kind> slot_scenarios();
std::vector<Kind> versioned_scenarios();

template <typename Type>
std::unique_ptr<Scenario> make() {
    return std::make_unique<Type>();
}

/// Lets others run.
inline void yield() {
    Machine::current()->wait([] { return true; });
}
inline void expect(bool sound, const char *what) {
    if (!sound) Machine::fail(what);
}

/// An eventfd: what was written before a signal is known to the one that it wakes.
class Event {
  public:
    void signal() {
        Machine::current()->give(known_);
        set_ = true;
    }
    /// Blocks until it was signalled, or @over.
    template <typename Over>
    void wait(Over over) {
        Machine::current()->wait([this, over] { return set_ || over(); });
        Machine::current()->take(known_);
        set_ = false;
    }

  private:
    bool set_ = false;
    View known_;
};

}  // namespace weak
