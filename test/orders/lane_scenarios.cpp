// The lanes, and sleeping and waiting for room around them.
#include <array>

#include "../../lib/core/lane.hpp"
#include "../../lib/core/ring.hpp"
#include "scenario.hpp"

using aiomq::LaneReader;
using aiomq::LaneStatus;
using aiomq::LaneWriter;

namespace weak {
namespace {

constexpr std::uint32_t kCapacity = 2;
constexpr std::uint64_t kMessages = 5;

struct LaneMemory {
    LaneWriter::Word head;
    LaneWriter::Word tail;
    std::array<std::uint64_t, kCapacity> cells{};
    std::array<std::uint64_t, kMessages> written{};
    aiomq::Atomic<std::uint32_t> waiting;  ///< the writer waits for room
    aiomq::Atomic<std::uint32_t> asleep;   ///< the reader
    aiomq::Ring::Word ring_head;
    aiomq::Ring::Word ring_tail;
    std::array<aiomq::Ring::Word, kCapacity> ring_cells;

    LaneWriter writer() { return {cells.data(), kCapacity, &tail, &head}; }
    LaneReader reader() { return {cells.data(), kCapacity, &tail, &head}; }
};

class LaneScenario : public Scenario {
  public:
    void *shared() override { return &memory_; }
    std::size_t shared_bytes() const override { return sizeof memory_; }
    std::vector<std::function<void()>> threads() override {
        return {[this] { write(); }, [this] { read(); }};
    }
    std::string verdict() override { return next_ == kMessages ? "" : "a message was lost"; }

  protected:
    virtual void write() = 0;
    virtual void read() = 0;
    /// Reads what is there. True: something was.
    bool read_all(LaneReader &lane) {
        std::uint64_t message = 0;
        bool any = false;
        for (LaneStatus status; (status = lane.pop(message)) != LaneStatus::kEmpty; any = true) {
            expect(status == LaneStatus::kOk, "pop found damage");
            expect(message == next_, "messages were lost, repeated or turned round");
            expect(memory_.written[message] == message + 1,
                   "a message without what was written before");
            ++next_;
        }
        return any;
    }

    LaneMemory memory_;
    std::uint64_t next_ = 0;  ///< message that the reader expects
};

/// As the dispatcher and a worker's inbox: a writer that finds the lane full says so, and is woken when
/// there is room.
class Full : public LaneScenario {
    void write() override {
        LaneWriter lane = memory_.writer();
        for (std::uint64_t message = 0; message < kMessages; ++message) {
            memory_.written[message] = message + 1;
            while (lane.push(message) != LaneStatus::kOk) {
                memory_.waiting.store_seq(1);
                if (lane.push(message) == LaneStatus::kOk) break;
                room_.wait([] { return false; });
            }
            memory_.waiting.store_relaxed(0);
        }
    }
    void read() override {
        LaneReader lane = memory_.reader();
        while (next_ < kMessages) {
            if (read_all(lane)) {
                lane.publish();
                if (memory_.waiting.load_seq() != 0) room_.signal();
            }
            yield();
        }
    }
    Event room_;
};

/// As a worker's outbox: completions are put, made known by publish(), and the application woken if it
/// sleeps.
class Settled : public LaneScenario {
    void write() override {
        LaneWriter lane = memory_.writer();
        for (std::uint64_t message = 0; message < kMessages; ++message) {
            memory_.written[message] = message + 1;
            while (lane.put(message) != LaneStatus::kOk) yield();
            lane.publish();
            wake();
        }
    }
    void read() override {
        LaneReader lane = memory_.reader();
        while (next_ < kMessages) {
            if (read_all(lane)) {
                lane.publish();
                continue;
            }
            memory_.asleep.store_seq(1);
            if (lane.empty()) event_.wait([] { return false; });
        }
    }

  protected:
    void wake() {
        if (memory_.asleep.load_seq() != 0 && memory_.asleep.exchange_seq(0) != 0) event_.signal();
    }

  private:
    Event event_;
};

/// The same without publish(): the pop that follows orders the put before the look at the sleeper. C++ does
/// not say so, because the put's store is not sequentially consistent itself, but both machines do that
/// libaiomq runs on: on x86-64 a locked instruction is a full barrier (Intel SDM vol. 3, 9.2.3.9); on Armv8
/// a load-acquire does not pass an earlier store-release (Arm ARM, B2.3.3).
class SettledByPop : public Settled {
  public:
    SettledByPop() { ring().initialise(); }

    bool needs_full_barriers() const override { return true; }

  private:
    void write() override {
        LaneWriter lane = memory_.writer();
        aiomq::Ring hints = ring();
        hints.initialise();
        for (std::uint64_t message = 0; message < kMessages; ++message) {
            memory_.written[message] = message + 1;
            while (lane.put(message) != LaneStatus::kOk) yield();
            std::uint32_t hint = 0;
            hints.put(7);
            expect(hints.pop(hint) == aiomq::RingStatus::kOk, "the ring lost its only hint");
            wake();
        }
    }
    aiomq::Ring ring() {
        return {memory_.ring_cells.data(), kCapacity, &memory_.ring_head, &memory_.ring_tail};
    }
};

}  // namespace

std::vector<Kind> lane_scenarios() {
    return {{"lane that gets full", make<Full>},
            {"completions and a sleeper", make<Settled>},
            {"completions settled by a pop", make<SettledByPop>}};
}

}  // namespace weak
