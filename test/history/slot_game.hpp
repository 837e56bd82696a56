// A dispatcher and workers at one slot; workers are killed, their tasks taken back, their places filled.
#pragma once

#include "slot_spec.hpp"
#include "slots.hpp"
#include "turns.hpp"

namespace aiomq_test {

/// Process 0 is the dispatcher, which is not killed: everything ends with it. 1 and 2 are workers, 3 and 4
/// their successors, who come when the dispatcher knows that they are dead. A word that is taken back from
/// the dead must be one that was read when they were known to be; @kLooksTooSoon: it is not.
template <bool kLooksTooSoon>
struct BasicSlotGame {
    using Specification = SlotSpecification;
    static constexpr std::uint32_t players = 5;
    static constexpr std::uint32_t kPlaces = 2;

    aiomq::Slot slot;

    void begin(Dice &dice, Turns &turns) {
        for (std::uint32_t player = 0; player <= kPlaces; ++player) turns.join(player);
        for (std::uint32_t player = 1; player < players; ++player)
            if (dice.one_in(2)) turns.dies_at[player] = 1 + dice.below(16);
    }

    void play(std::uint32_t player, Dice &dice, Record &record, Turns &turns) {
        if (player == 0)
            dispatch(dice, record, turns);
        else
            work(player, dice, record);
    }

    void end(Record &record) { look(players, record); }

    static History history(const Record &record) { return record.history(); }

  private:
    static std::uint8_t place(std::uint32_t player) {
        return static_cast<std::uint8_t>((player - 1) % kPlaces);
    }
    static std::uint8_t incarnation(std::uint32_t player) {
        return static_cast<std::uint8_t>(1 + (player - 1) / kPlaces);
    }
    aiomq::SlotWord look(std::uint32_t player, Record &record) {
        return aiomq::SlotWord(
            record.note(player, kLook, 0, [&] { return slot.word.load_acquire(); }));
    }

    // --- dispatcher -------------------------------------------------------------------------------

    void dispatch(Dice &dice, Record &record, Turns &turns) {
        for (std::uint64_t steps = 5 + dice.below(4); steps > 0; --steps) {
            moment();
            std::uint32_t dead = admit_successors(record, turns);
            const aiomq::SlotWord word = look(0, record);
            if (kLooksTooSoon) {
                moment();
                dead = admit_successors(record, turns);
            }
            switch (word.phase()) {
                case aiomq::Phase::kFree:
                    publish(dice, record, word.phase());
                    break;
                case aiomq::Phase::kReady:
                    if (dice.one_in(2))
                        record.note(0, kWithdraw, 0, [&] { return std::uint64_t{withdraw(slot)}; });
                    break;
                case aiomq::Phase::kClaimed:
                    at_claimed(word, dead, dice, record);
                    break;
                case aiomq::Phase::kDone:
                    free_it(record, word.phase());
                    break;
            }
        }
    }

    /// Gives a bit for each that is dead.
    static std::uint32_t admit_successors(const Record &record, Turns &turns) {
        std::uint32_t dead = 0;
        for (std::uint32_t player = 1; player < players; ++player) {
            if (record.died[player] == 0) continue;
            dead |= 1U << player;
            if (player <= kPlaces && turns.moments[player + kPlaces] == 0)
                turns.join(player + kPlaces);
        }
        return dead;
    }

    void at_claimed(aiomq::SlotWord word, std::uint32_t dead, Dice &dice, Record &record) {
        const std::uint32_t player = 1 + word.worker() + (word.incarnation() - 1) * kPlaces;
        if (player < players && (dead >> player & 1U) != 0) {
            if (dice.one_in(2))
                publish(dice, record, word.phase());
            else
                free_it(record, word.phase());
        } else if (dice.one_in(2)) {
            const auto from = static_cast<std::uint8_t>(dice.below(3));
            record.note(0, kWithdrawUnstarted, Ask{.items = from}.pack(),
                        [&] { return withdraw_unstarted(slot, from).pack(); });
        }
    }

    void publish(Dice &dice, Record &record, aiomq::Phase from) {
        const Ask ask{.queue = static_cast<std::uint8_t>(dice.below(2)),
                      .worker = static_cast<std::uint8_t>(dice.below(kPlaces)),
                      .keyed = static_cast<std::uint8_t>(dice.one_in(3)),
                      .items = static_cast<std::uint8_t>(1 + dice.below(3)),
                      .from = static_cast<std::uint8_t>(from)};
        record.note(0, kMakeReady, ask.pack(), [&] {
            const aiomq::ItemRange range{0, ask.items};
            if (ask.keyed != 0)
                publish_keyed(slot, ask.queue, ask.worker, range);
            else
                publish_ready(slot, ask.queue, range);
            return std::uint64_t{0};
        });
    }

    void free_it(Record &record, aiomq::Phase from) {
        const Ask ask{.from = static_cast<std::uint8_t>(from)};
        record.note(0, kMakeFree, ask.pack(), [&] {
            make_free(slot);
            return std::uint64_t{0};
        });
    }

    // --- worker -----------------------------------------------------------------------------------

    void work(std::uint32_t player, Dice &dice, Record &record) {
        for (std::uint64_t steps = 2 + dice.below(3); steps > 0; --steps) {
            moment();
            Ask ask{.queue = static_cast<std::uint8_t>(dice.below(2)),
                    .worker = place(player),
                    .incarnation = incarnation(player)};
            aiomq::SlotWord word;
            if (dice.one_in(3)) {
                // The generation that a hint would have brought.
                ask.generation = static_cast<std::uint16_t>(look(player, record).generation());
                moment();
                claim_one(player, kClaimKeyed, ask, record, word);
            } else {
                claim_one(player, kClaim, ask, record, word);
            }
            if (word.phase() == aiomq::Phase::kClaimed) run(player, word, ask, record);
        }
    }

    void claim_one(std::uint32_t player, SlotOperation kind, const Ask &ask, Record &record,
                   aiomq::SlotWord &ret_word) {
        record.note(player, kind, ask.pack(), [&] {
            const bool claimed =
                kind == kClaim
                    ? claim(slot, ask.queue, ask.worker, ask.incarnation, ret_word)
                    : claim_keyed(slot, ask.generation, ask.worker, ask.incarnation, ret_word);
            return claimed ? ret_word.bits() : 0;
        });
    }

    void run(std::uint32_t player, aiomq::SlotWord word, Ask ask, Record &record) {
        ask.generation = static_cast<std::uint16_t>(word.generation());
        std::uint64_t started = 1;
        while (started != 0) {
            moment();
            started = record.note(player, kStartItem, ask.pack(), [&] {
                std::uint32_t item = 0;
                return start_item(slot, item) ? kStarted + item : 0;
            });
        }
        moment();
        record.note(player, kFinish, ask.pack(), [&] { return std::uint64_t{finish(slot, word)}; });
    }
};

using SlotGame = BasicSlotGame<false>;

}  // namespace aiomq_test
