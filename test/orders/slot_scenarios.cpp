// The slot word, the item range and the outcomes of items.
#include <array>

#include "../../lib/core/slots.hpp"
#include "scenario.hpp"

namespace weak {
namespace {

using aiomq::ItemRange;
using aiomq::Phase;
using aiomq::SlotWord;

constexpr std::uint32_t kQueue = 3;

SlotWord word_of(const aiomq::Slot &slot) { return SlotWord(slot.word.load_acquire()); }

/// Tasks of one item through one slot: two workers that want it, a dispatcher that sometimes changes its
/// mind. @kKeyed: for worker 1 alone.
template <bool kKeyed>
class TasksOfOne : public Scenario {
  public:
    void *shared() override { return &memory_; }
    std::size_t shared_bytes() const override { return sizeof memory_; }
    std::vector<std::function<void()>> threads() override {
        return {[this] { dispatch(); }, [this] { work(0); }, [this] { work(1); }};
    }
    std::string verdict() override {
        for (std::uint32_t task = 0; task < kTasks; ++task)
            if (runs_[task] != (withdrawn_[task] ? 0 : 1))
                return "not run once, or withdrawn and run";
        return {};
    }

  private:
    static constexpr std::uint32_t kTasks = 4;
    static constexpr std::uint32_t kIncarnation = 5;

    void dispatch() {
        for (std::uint32_t task = 0; task < kTasks; ++task) {
            memory_.request = task * 10;
            if (kKeyed)
                publish_keyed(memory_.slot, kQueue, 1, {0, 1});
            else
                publish_ready(memory_.slot, kQueue, {0, 1});
            if (task % 2 == 1) yield();
            if (task % 2 == 1 && withdraw(memory_.slot)) {
                withdrawn_[task] = true;
                continue;
            }
            while (word_of(memory_.slot).phase() != Phase::kDone) yield();
            expect(memory_.slot.status == task + 1, "a result that is not the task's");
            expect(memory_.slot.value.load_relaxed() == task * 10 + 1, "a value that is not its");
            make_free(memory_.slot);
        }
        over_ = true;
    }
    void work(std::uint32_t self) {
        while (!over_) {
            SlotWord word;
            const std::uint32_t generation = word_of(memory_.slot).generation();
            const bool mine = kKeyed
                                  ? claim_keyed(memory_.slot, generation, self, kIncarnation, word)
                                  : claim(memory_.slot, kQueue, self, kIncarnation, word);
            if (mine) run(word, self);
            yield();
        }
    }
    void run(SlotWord word, std::uint32_t self) {
        expect(word.phase() == Phase::kClaimed && word.held_by(self, kIncarnation) &&
                   (!kKeyed || self == 1),
               "claimed by somebody else");
        const std::uint64_t task = memory_.request / 10;
        start_only_item(memory_.slot);
        ++runs_[task];
        memory_.slot.value.store_relaxed(memory_.request + 1);
        memory_.slot.status = static_cast<std::uint16_t>(task + 1);
        expect(finish(memory_.slot, word), "somebody changed a claimed slot");
    }

    struct Memory {
        aiomq::Slot slot{};
        std::uint64_t request = 0;
    } memory_;
    std::array<int, kTasks> runs_{};
    std::array<bool, kTasks> withdrawn_{};
    bool over_ = false;
};

/// A chunk: its worker starts items and publishes outcomes, the dispatcher delivers what is there and
/// takes back what has not started.
class Chunk : public Scenario {
  public:
    Chunk() { publish_ready(memory_.slot, kQueue, {0, kItems}); }
    void *shared() override { return &memory_; }
    std::size_t shared_bytes() const override { return sizeof memory_; }
    std::vector<std::function<void()>> threads() override {
        return {[this] { work(); }, [this] { dispatch(); }};
    }
    std::string verdict() override {
        for (std::uint32_t item = 0; item < kItems; ++item)
            if (started_[item] + withdrawn_[item] != 1)
                return "an item was started and withdrawn, or neither";
        return {};
    }

  private:
    static constexpr std::uint32_t kItems = 4;

    void work() {
        SlotWord word;
        if (!claim(memory_.slot, kQueue, 0, 1, word)) Machine::fail("nobody else wants it");
        memory_.named = 1;  // the outcome block is there
        memory_.slot.block_offset.store_release(64);
        std::uint32_t item = 0;
        while (start_item(memory_.slot, item)) {
            ++started_[item];
            memory_.data[item] = item + 1;
            memory_.outcomes[item].value.store_relaxed(item + 2);
            memory_.outcomes[item].head.store_release(aiomq::OutcomeHead{1, 2, 3}.pack());
        }
        expect(finish(memory_.slot, word), "somebody changed a claimed slot");
    }
    void dispatch() {
        while (word_of(memory_.slot).phase() == Phase::kReady) yield();
        deliver();
        const ItemRange back = withdraw_unstarted(memory_.slot, 2);
        for (std::uint32_t item = back.next; item < back.end; ++item) ++withdrawn_[item];
        while (word_of(memory_.slot).phase() != Phase::kDone) {
            deliver();
            yield();
        }
        deliver();
        const ItemRange range = ItemRange::unpack(memory_.slot.range.load_acquire());
        for (std::uint32_t item = 0; item < range.end; ++item)
            expect(delivered_[item], "DONE, and an outcome is not there");
    }
    void deliver() {
        if (memory_.slot.block_offset.load_acquire() == 0) return;
        expect(memory_.named == 1, "a block that is not made yet");
        for (std::uint32_t item = 0; item < kItems; ++item) {
            aiomq::ItemOutcome &outcome = memory_.outcomes[item];
            if (aiomq::OutcomeHead::unpack(outcome.head.load_acquire()).status == 0) continue;
            expect(outcome.value.load_relaxed() == item + 2 && memory_.data[item] == item + 1,
                   "an outcome without its value");
            delivered_[item] = true;
        }
    }

    struct Memory {
        aiomq::Slot slot{};
        std::uint64_t named = 0;
        std::array<aiomq::ItemOutcome, kItems> outcomes{};
        std::array<std::uint64_t, kItems> data{};
    } memory_;
    std::array<int, kItems> started_{};
    std::array<int, kItems> withdrawn_{};
    std::array<bool, kItems> delivered_{};
};

}  // namespace

std::vector<Kind> slot_scenarios() {
    return {{"tasks of one", make<TasksOfOne<false>>},
            {"keyed tasks", make<TasksOfOne<true>>},
            {"chunk", make<Chunk>}};
}

}  // namespace weak
