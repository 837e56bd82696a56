// The hint ring, and sleeping and waking around it.
#include <algorithm>
#include <array>

#include "../../lib/core/ring.hpp"
#include "../../lib/core/wait.hpp"
#include "scenario.hpp"

using aiomq::Ring;
using aiomq::RingStatus;

namespace weak {
namespace {

constexpr std::uint32_t kCapacity = 2;

/// A ring, and for each value what its pusher wrote before.
template <std::uint32_t kValues>
struct RingMemory {
    Ring::Word head;
    Ring::Word tail;
    std::array<Ring::Word, kCapacity> cells;
    std::array<std::uint64_t, kValues> written{};
    std::array<aiomq::Atomic<std::uint64_t>, 1> asleep;

    Ring ring() { return Ring(cells.data(), kCapacity, &head, &tail); }
};

/// Two pushers, two poppers, few cells: every value comes out once, with what was written before it.
class ManyToMany : public Scenario {
  public:
    ManyToMany() { memory_.ring().initialise(); }
    void *shared() override { return &memory_; }
    std::size_t shared_bytes() const override { return sizeof memory_; }
    std::vector<std::function<void()>> threads() override {
        return {[this] { push(0); }, [this] { push(kEach); }, [this] { pop(0); },
                [this] { pop(1); }};
    }
    std::string verdict() override {
        std::vector<std::uint32_t> all(taken_[0]);
        all.insert(all.end(), taken_[1].begin(), taken_[1].end());
        std::sort(all.begin(), all.end());
        for (std::uint32_t value = 0; value < kValues; ++value)
            if (all[value] != value) return "a value was lost or came twice";
        for (const auto &taken : taken_)
            for (const bool first : {true, false})
                if (!in_order(taken, first)) return "values of one pusher were turned round";
        return {};
    }

  private:
    static constexpr std::uint32_t kEach = 3;
    static constexpr std::uint32_t kValues = 2 * kEach;

    void push(std::uint32_t from) {
        Ring ring = memory_.ring();
        for (std::uint32_t value = from; value < from + kEach; ++value) {
            memory_.written[value] = value + 1;
            RingStatus status = ring.push(value);
            for (; status == RingStatus::kFull; status = ring.push(value)) yield();
            expect(status == RingStatus::kOk, "push found damage");
        }
    }
    void pop(std::size_t who) {
        Ring ring = memory_.ring();
        while (count_ < kValues) {
            std::uint32_t value = 0;
            const RingStatus status = ring.pop(value);
            expect(status != RingStatus::kCorrupt, "pop found damage");
            if (status == RingStatus::kOk) {
                expect(value < kValues && memory_.written[value] == value + 1,
                       "a value without what was written before");
                taken_[who].push_back(value);
                ++count_;
            }
            yield();
        }
    }
    static bool in_order(const std::vector<std::uint32_t> &taken, bool first) {
        std::vector<std::uint32_t> own;
        for (const std::uint32_t value : taken)
            if ((value < kEach) == first) own.push_back(value);
        return std::is_sorted(own.begin(), own.end());
    }

    RingMemory<kValues> memory_;
    std::array<std::vector<std::uint32_t>, 2> taken_;
    std::uint32_t count_ = 0;
};

/// Somebody pushes hints, or puts them as the only one, and wakes at most one sleeper for each; two workers
/// sleep when there are none.
template <bool kOnlyPusher>
class Sleepers : public Scenario {
  public:
    Sleepers() { memory_.ring().initialise(); }
    void *shared() override { return &memory_; }
    std::size_t shared_bytes() const override { return sizeof memory_; }
    std::vector<std::function<void()>> threads() override {
        return {[this] { dispatch(); }, [this] { work(0); }, [this] { work(1); }};
    }
    std::string verdict() override { return {}; }

  private:
    static constexpr std::uint32_t kValues = 4;

    void dispatch() {
        Ring ring = memory_.ring();
        ring.initialise();
        for (std::uint32_t value = 0; value < kValues; ++value) {
            memory_.written[value] = value + 1;
            while (put(ring, value) == RingStatus::kFull) yield();
            std::uint32_t worker = 0;
            if (aiomq::WorkerBits(memory_.asleep.data()).take_any({3}, 2, worker))
                events_[worker].signal();
        }
    }
    static RingStatus put(Ring &ring, std::uint32_t value) {
        if (!kOnlyPusher) return ring.push(value);
        const RingStatus status = ring.put(value);
        if (status == RingStatus::kOk) ring.publish();
        return status;
    }
    void work(std::uint32_t self) {
        Ring ring = memory_.ring();
        aiomq::WorkerBits asleep(memory_.asleep.data());
        while (count_ < kValues) {
            std::uint32_t value = 0;
            const RingStatus status = ring.pop(value);
            expect(status != RingStatus::kCorrupt, "pop found damage");
            if (status == RingStatus::kOk) {
                expect(memory_.written[value] == value + 1,
                       "a value without what was written before");
                ++count_;
                continue;
            }
            asleep.set(self);
            if (ring.empty()) events_[self].wait([this] { return count_ == kValues; });
            asleep.clear(self);
        }
    }

    RingMemory<kValues> memory_;
    std::array<Event, 2> events_;
    std::uint32_t count_ = 0;
};

}  // namespace

std::vector<Kind> ring_scenarios() {
    return {{"many to many", make<ManyToMany>},
            {"sleepers", make<Sleepers<true>>},
            {"sleepers with pushers", make<Sleepers<false>>}};
}

}  // namespace weak
