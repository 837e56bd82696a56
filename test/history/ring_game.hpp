// Processes that push to a small ring and pop from it, at random.
#pragma once

#include "ring.hpp"
#include "ring_spec.hpp"
#include "turns.hpp"

namespace aiomq_test {

/// @kOnlyPusher: process 0 uses put() and publish(), the others pop; else all do all.
template <std::uint32_t Capacity, bool kOnlyPusher>
struct RingGame {
    using Specification = RingSpecification<Capacity>;
    static constexpr std::uint32_t players = 3;

    aiomq::Atomic<std::uint64_t> cells[Capacity];
    aiomq::Atomic<std::uint64_t> head;
    aiomq::Atomic<std::uint64_t> tail;

    aiomq::Ring ring() { return {cells, Capacity, &head, &tail}; }

    void begin(Dice &dice, Turns &turns) {
        ring().initialise();
        for (std::uint32_t player = 0; player < players; ++player) {
            turns.join(player);
            // With the only pusher everything ends, so it is not killed.
            if (!(kOnlyPusher && player == 0) && dice.one_in(4))
                turns.dies_at[player] = 1 + dice.below(24);
        }
    }

    void play(std::uint32_t player, Dice &dice, Record &record, Turns & /*turns*/) {
        aiomq::Ring mine = ring();
        if (kOnlyPusher && player == 0) {
            mine.initialise();  // it has cursors of its own; the words are as they were
            put_some(mine, dice, record);
            return;
        }
        for (std::uint64_t calls = 3 + dice.below(4); calls > 0; --calls) {
            moment();
            const std::uint64_t choice = dice.below(kOnlyPusher ? 4 : 9);
            if (choice < 2) {
                record.note(player, kEmpty, 0, [&] { return std::uint64_t{mine.empty()}; });
            } else if (choice < 5) {
                pop(mine, player, record);
            } else {
                const std::uint64_t value = player * 10 + calls;
                record.note(player, kPush, value, [&] {
                    return static_cast<std::uint64_t>(mine.push(static_cast<std::uint32_t>(value)));
                });
            }
        }
    }

    /// Empties the ring, and what is found belongs to the history.
    void end(Record &record) {
        aiomq::Ring mine = ring();
        record.note(players, kEmpty, 0, [&] { return std::uint64_t{mine.empty()}; });
        for (std::uint32_t i = 0; i <= Capacity; ++i)
            if (pop(mine, players, record) < kPopped) break;
    }

    /// The calls of processes, with the second half of each push.
    static History history(const Record &record) {
        History history = record.history();
        const std::size_t calls = history.size();
        for (std::size_t i = 0; i < calls; ++i) {
            Operation show = history[i];
            if (show.kind != kPush || (show.returned && show.result != kStatusOk)) continue;
            show.kind = kShow;
            show.after = static_cast<int>(i);
            // The next pusher does it for the dead.
            if (!show.returned) show.end = UINT64_MAX;
            history.push_back(show);
        }
        return history;
    }

  private:
    static std::uint64_t pop(aiomq::Ring &mine, std::uint32_t player, Record &record) {
        return record.note(player, kPop, 0, [&] {
            std::uint32_t value = 0;
            const aiomq::RingStatus status = mine.pop(value);
            return status == aiomq::RingStatus::kOk ? kPopped + value
                                                    : static_cast<std::uint64_t>(status);
        });
    }

    static void put_some(aiomq::Ring &mine, Dice &dice, Record &record) {
        for (std::uint64_t calls = 3 + dice.below(4); calls > 0; --calls) {
            moment();
            if (dice.one_in(3)) {
                record.note(0, kPublishTail, 0, [&] {
                    mine.publish();
                    return std::uint64_t{0};
                });
                continue;
            }
            record.note(0, kPut, calls, [&] {
                return static_cast<std::uint64_t>(mine.put(static_cast<std::uint32_t>(calls)));
            });
        }
    }
};

static_assert(static_cast<std::uint64_t>(aiomq::RingStatus::kOk) == kStatusOk &&
              static_cast<std::uint64_t>(aiomq::RingStatus::kEmpty) == kStatusEmpty &&
              static_cast<std::uint64_t>(aiomq::RingStatus::kFull) == kStatusFull);

}  // namespace aiomq_test
