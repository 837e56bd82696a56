#include "load.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "../support/clock.hpp"
#include "chunk.hpp"

namespace chaos {
namespace {

using aiomq_test::now_ns;

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::size_t kMostHeld = 64;
constexpr int kCollect = 32;

}  // namespace

Load::Load(MixedPool &pool, Audit &audit, std::uint64_t seed, Temper temper)
    : pool_(pool), audit_(audit), temper_(temper), random_(seed) {}

// --- what a task is -------------------------------------------------------------------------------

/// Mostly little, sometimes nothing, seldom several MiB.
std::uint64_t Load::some_bytes() {
    const std::uint64_t kind = below(200);
    if (kind < 20) return 0;
    if (kind < 60) return below(49);
    if (kind < 150) return below(4096);
    if (kind < 197 || temper_ == Temper::kSteady) return below(1U << 16);
    return kind < 199 ? below(1U << 20) : below(4U << 20);
}

Load::Draft Load::draft() {
    Draft draft;
    draft.live.order.key = audit_.next_key();
    draft.task.struct_bytes = sizeof draft.task;
    draft.task.items = 1;
    draft.task.user = draft.live.order.key;
    const bool python = pool_.has_python() && one_in(5);
    if (!python)
        draft_native(draft);
    else if (one_in(3))
        draft_cells(draft);
    else
        draft_python(draft);
    choose_limits(draft);
    draft.live.items = draft.task.items;
    draft.task.payload = draft.payload.empty() ? nullptr : draft.payload.data();
    draft.task.payload_bytes = draft.payload.size();
    return draft;
}

void Load::draft_native(Draft &draft) {
    Order &order = draft.live.order;
    draft.task.queue = one_in(5) ? kUrgentQueue : kNativeQueue;
    if (one_in(8)) {  // no payload at all, or a number
        draft.task.function = pool_.functions().blank;
        order.result_bytes = kInteger;
        const bool numbered = one_in(2);
        draft.task.kind = numbered ? AIOMQ_KIND_INT : AIOMQ_KIND_NONE;
        draft.task.integer = static_cast<std::int64_t>(order.key);
        if (!numbered) order.magic = kById;
        if (one_in(4)) draft.task.items = 1 + static_cast<std::uint32_t>(below(100));
        return;
    }
    draft.task.function = pool_.functions().order;
    if (one_in(4)) draft.task.items = 2 + static_cast<std::uint32_t>(below(200));
    choose_deed(draft);
}

void Load::draft_python(Draft &draft) {
    draft.task.queue = kPythonQueue;
    choose_deed(draft);
    const Deed deed = draft.live.order.deed;
    const bool waits = deed == Deed::kNap || deed == Deed::kNest;
    draft.task.function = waits || (deed == Deed::kEcho && one_in(2))
                              ? pool_.functions().python_order
                              : pool_.functions().python_plain;
}

/// Items that are numbers: key and index.
void Load::draft_cells(Draft &draft) {
    Order &order = draft.live.order;
    order.result_bytes = kInteger;
    draft.task.queue = kPythonQueue;
    draft.task.function = one_in(2) ? pool_.functions().cell : pool_.functions().late_cell;
    if (one_in(2)) {
        draft.task.kind = AIOMQ_KIND_INT;
        draft.task.integer = static_cast<std::int64_t>(order.key << 16);
        return;
    }
    draft.task.items = 1 + static_cast<std::uint32_t>(below(200));
    draft.task.kind = AIOMQ_KIND_CHUNK;
    draft.payload = chunk_of_numbers(static_cast<std::int64_t>(order.key << 16), draft.task.items);
    if (one_in(3)) draft.task.flags |= AIOMQ_TASK_PROGRESS;
}

/// Fills the order and makes the payload of it.
void Load::choose_deed(Draft &draft) {
    Order &order = draft.live.order;
    const std::uint64_t kind = below(1000);
    const bool wild = temper_ == Temper::kWild;
    order.magic = kMagic;
    order.body_offset = below(kTextWindow);
    order.body_bytes = some_bytes();
    order.result_offset = below(kTextWindow);
    order.result_bytes = one_in(4) ? kInteger : some_bytes();
    if (kind < 100) {
        order.deed = Deed::kSpin;
        order.amount = static_cast<std::uint32_t>(below(200));
    } else if (kind < 250) {
        order.deed = Deed::kNap;
        order.amount = static_cast<std::uint32_t>(below(one_in(20) && wild ? 100'000 : 4'000));
    } else if (kind < 310) {
        order.deed = Deed::kNest;
        order.amount = static_cast<std::uint32_t>(1 + below(4));
        order.body_bytes = std::min<std::uint64_t>(order.body_bytes, 20'000);
        draft.task.items = 1;
    } else if (kind < 370) {
        order.deed = Deed::kRetain;
        order.amount = static_cast<std::uint32_t>(below(30'000));
    } else if (kind < 400 && wild) {
        order.deed = Deed::kFail;
    } else if (kind < 403 && wild && draft.task.items == 1) {
        order.deed = Deed::kStuck;
        order.amount = static_cast<std::uint32_t>(below(400'000));
    } else if (kind < 405 && wild && draft.task.items == 1) {
        order.deed = Deed::kDie;
    }
    if (draft.task.items > 1) {  // each item has a result of its own
        order.result_bytes = std::min<std::uint64_t>(order.result_bytes, below(4096));
        if (one_in(3)) draft.task.flags |= AIOMQ_TASK_PROGRESS;
    }
    draft.task.kind = AIOMQ_KIND_BYTES;
    draft.payload.assign(reinterpret_cast<const char *>(&order), sizeof order);
    draft.payload.append(reinterpret_cast<const char *>(pool_.ledger().text(order.body_offset)),
                         order.body_bytes);
}

void Load::choose_limits(Draft &draft) {
    Live &live = draft.live;
    aiomq_task &task = draft.task;
    if (one_in(10)) {
        task.flags |= AIOMQ_TASK_KEYED;
        if (one_in(3)) task.flags |= AIOMQ_TASK_FOLLOW;
        task.key = below(32);
    }
    if (one_in(3)) live.retries = static_cast<std::uint32_t>(one_in(4) ? 50 : 1 + below(3));
    task.retries = live.retries;
    if (temper_ == Temper::kSteady) return;
    if (one_in(12)) {
        live.may_expire = true;
        task.start_within_ns = (1 + below(30)) * kMillisecond;
    }
    if (one_in(10) || live.order.deed == Deed::kStuck) {
        live.may_time_out = true;
        task.timeout_ns = (5 + below(80)) * kMillisecond;
    }
}

// --- the way in -----------------------------------------------------------------------------------

/// False: no room now.
bool Load::submit(Draft &draft) {
    void *room = nullptr;
    if (draft.payload.size() > 48 && one_in(4)) {  // written in place
        if (aiomq_pool_alloc(pool_.get(), draft.payload.size(), &room) != 0) return false;
        std::memcpy(room, draft.payload.data(), draft.payload.size());
        draft.task.payload = room;
        draft.task.flags |= AIOMQ_TASK_ADOPT;
        if (one_in(2)) draft.task.flags |= AIOMQ_TASK_KEEP;
    }
    const int error = aiomq_pool_submit(pool_.get(), &draft.task, &draft.live.task_id);
    if (error != 0) {
        if (room != nullptr) aiomq_pool_free(pool_.get(), room);
        if (error == -EAGAIN || error == -ENOMEM) {
            ++refused_;
            return false;
        }
        char why[512] = "";
        aiomq_pool_state(pool_.get(), why, sizeof why);
        fprintf(stderr, "chaos: submit: %s: %s\n", aiomq_strerror(error), why);
        exit(1);
    }
    if ((draft.task.flags & AIOMQ_TASK_KEEP) != 0) aiomq_pool_free(pool_.get(), room);
    if (draft.live.order.magic == kById) draft.live.order.reserved = draft.live.task_id;
    audit_.submitted(draft.live);
    return true;
}

void Load::cancel_some() {
    if (temper_ == Temper::kSteady || !one_in(8)) return;
    Live *live = audit_.any(below(1U << 30));
    if (live == nullptr) return;
    live->cancelled = true;  // the pool may know already that it has ended
    aiomq_pool_cancel(pool_.get(), live->task_id);
}

/// Sometimes more than there is room for, sometimes nothing, so that everybody falls asleep.
void Load::choose_pace() {
    const std::uint64_t now = now_ns();
    if (now < pace_until_ns_) return;
    pace_until_ns_ = now + below(100) * kMillisecond;
    const std::size_t paces[] = {0, 1, 6, 24, 60, 120, 500};
    wanted_ = temper_ == Temper::kSteady ? 48 : paces[below(sizeof paces / sizeof *paces)];
}

// --- the way out ----------------------------------------------------------------------------------

bool Load::collect() {
    aiomq_completion completions[kCollect];
    const std::int64_t count = aiomq_pool_collect(pool_.get(), completions, kCollect);
    if (count <= 0) return false;
    audit_.read_ledger();
    for (std::int64_t i = 0; i < count; ++i) {
        const aiomq_completion &completion = completions[i];
        const Live *live = audit_.find(completion.user);
        const Order order = live == nullptr ? Order{} : live->order;
        audit_.take(completion);
        if (completion.loan != 0) hold(completion, order);
    }
    return true;
}

void Load::hold(const aiomq_completion &completion, const Order &order) {
    if (held_.size() >= kMostHeld || one_in(3)) {
        aiomq_pool_release(pool_.get(), completion.loan);
        return;
    }
    const std::uint64_t due = now_ns() + below(40) * kMillisecond;
    held_.push_back({completion.loan,
                     due,
                     completion.user,
                     order,
                     {completion.items, completion.items + completion.item_count}});
}

void Load::release_due(std::uint64_t now) {
    for (std::size_t i = 0; i < held_.size();) {
        if (held_[i].due_ns > now) {
            ++i;
            continue;
        }
        for (const aiomq_item &item : held_[i].items)
            audit_.look_again(held_[i].key, held_[i].order, item);
        aiomq_pool_release(pool_.get(), held_[i].loan);
        held_[i] = std::move(held_.back());
        held_.pop_back();
    }
}

// --- turns ----------------------------------------------------------------------------------------

void Load::turn() {
    choose_pace();
    for (int i = 0; i < 16 && audit_.live() < wanted_; ++i) {
        Draft next = draft();
        if (!submit(next)) break;
    }
    cancel_some();
    audit_.read_ledger();
    if (!collect()) aiomq_pool_wait(pool_.get(), kMillisecond);
    release_due(now_ns());
}

bool Load::drain(double seconds) {
    const auto patience = static_cast<std::uint64_t>(seconds * 1e9);
    std::uint64_t last_ns = now_ns();
    while (audit_.live() > 0) {
        audit_.read_ledger();
        if (collect())
            last_ns = now_ns();
        else
            aiomq_pool_wait(pool_.get(), 10 * kMillisecond);
        if (now_ns() - last_ns > patience) break;
        release_due(now_ns());
    }
    release_due(UINT64_MAX);
    audit_.read_ledger();
    return audit_.live() == 0;
}

}  // namespace chaos
