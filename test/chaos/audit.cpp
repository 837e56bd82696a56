#include "audit.hpp"

#include <csignal>
#include <cstdio>

namespace chaos {
namespace {

constexpr unsigned kMostComplaints = 30;

std::string name_of(const Live &live, std::uint32_t item) {
    return "task " + std::to_string(live.order.key) + " (id " + std::to_string(live.task_id) +
           ", deed " + std::to_string(static_cast<unsigned>(live.order.deed)) + ", retries " +
           std::to_string(live.retries) + ") item " + std::to_string(item) + " of " +
           std::to_string(live.items);
}

}  // namespace

void Audit::complain(std::uint64_t &count, const std::string &what) {
    ++count;
    if (++complaints_ <= kMostComplaints) fprintf(stderr, "audit: %s\n", what.c_str());
}

void Audit::submitted(const Live &live) {
    Live &entry = live_[live.order.key] = live;
    entry.states.resize(live.items);
    entry.left = live.items;
    key_of_id_[live.task_id] = live.order.key;
    ++findings_.tasks;
    findings_.items += live.items;
    findings_.payload_bytes += live.order.body_bytes;
}

Live *Audit::find(std::uint64_t key) {
    const auto place = live_.find(key);
    return place == live_.end() ? nullptr : &place->second;
}

Live *Audit::any(std::uint64_t random) {
    if (live_.empty()) return nullptr;
    for (std::size_t bucket = random % live_.bucket_count();;
         bucket = (bucket + 1) % live_.bucket_count())
        if (live_.begin(bucket) != live_.end(bucket)) return &live_.begin(bucket)->second;
}

// --- what was run ---------------------------------------------------------------------------------

void Audit::read_ledger() {
    ledger_.read([this](std::uint32_t, const Entry &entry) { take_entry(entry); });
}

void Audit::take_entry(const Entry &entry) {
    if (entry.what == What::kBegin) ++findings_.executions;
    if (entry.what == What::kWrong) {
        complain(findings_.wrong_results, "a worker found wrong bytes, kind " +
                                              std::to_string(entry.detail) + ", task " +
                                              std::to_string(entry.key));
        return;
    }
    if ((entry.key & kNested) != 0) return take_nested(entry);
    std::uint64_t key = entry.key;
    if ((key & kById) != 0) {
        const auto place = key_of_id_.find(key & ~kById);
        key = place == key_of_id_.end() ? 0 : place->second;
    }
    Live *live = find(key);
    if (live == nullptr || entry.item >= live->items || live->states[entry.item].done)
        return complain(findings_.twice, "task " + std::to_string(entry.key) + " item " +
                                             std::to_string(entry.item) +
                                             " was run after its outcome, note " +
                                             std::to_string(static_cast<unsigned>(entry.what)));
    if (entry.what == What::kBegin) return begin(*live, entry);
    ItemState &state = live->states[entry.item];
    for (RunState &run : state.runs) {
        if (run.number != entry.run) continue;
        run.end_ns = entry.detail;
        run.ended = entry.what == What::kEnd;
        state.stopped = state.stopped || entry.what == What::kStopped;
        return;
    }
    complain(findings_.twice, name_of(*live, entry.item) + " ended and had not begun");
}

void Audit::begin(Live &live, const Entry &entry) {
    ItemState &state = live.states[entry.item];
    if (live.order.deed == Deed::kDie) killed_.insert(static_cast<std::int32_t>(entry.run >> 32));
    state.runs.push_back({entry.run, entry.detail});
    if (state.runs.size() > 1) ++findings_.reruns;
    if (state.runs.size() > live.retries + 1)
        complain(findings_.twice, name_of(live, entry.item) + " began for the " +
                                      std::to_string(state.runs.size()) + "th time");
}

/// An item is run again after the death of its process: never in the same one, nor beside itself.
void Audit::check_runs(const Live &live, const ItemState &state, std::uint32_t item) {
    for (const RunState &run : state.runs)
        for (const RunState &other : state.runs) {
            if (run.number >= other.number) continue;
            if (run.number >> 32 == other.number >> 32)
                complain(findings_.twice, name_of(live, item) + " began twice in one process");
            if (run.begin_ns < other.end_ns && other.begin_ns < run.end_ns)
                complain(findings_.twice, name_of(live, item) + ": two runs overlap");
        }
}

/// Nested tasks have no retries, and their submitters are not told of by us: each begins once.
void Audit::take_nested(const Entry &entry) {
    if (entry.what != What::kBegin) return;
    ++findings_.nested;
    std::uint64_t &last = nested_[entry.key % nested_.size()];
    if (last == entry.key)
        complain(findings_.twice, "nested task " + std::to_string(entry.key) + " began twice");
    last = entry.key;
}

// --- what came back -------------------------------------------------------------------------------

void Audit::take(const aiomq_completion &completion) {
    Live *live = find(completion.user);
    if (live == nullptr || live->task_id != completion.task_id)
        return complain(findings_.told_twice, "a completion of task id " +
                                                  std::to_string(completion.task_id) +
                                                  ", which has ended or never was");
    for (std::uint32_t i = 0; i < completion.item_count; ++i)
        take_item(*live, completion, completion.items[i]);
    if (live->left != completion.items_left)
        complain(findings_.told_twice, name_of(*live, 0) + ": items_left is " +
                                           std::to_string(completion.items_left) +
                                           " and should be " + std::to_string(live->left));
    if (completion.items_left != 0) return;
    key_of_id_.erase(live->task_id);
    live_.erase(live->order.key);
}

void Audit::take_item(Live &live, const aiomq_completion &completion, const aiomq_item &item) {
    if (item.index >= live.items || live.states[item.index].done)
        return complain(findings_.told_twice, name_of(live, item.index) + " has two outcomes");
    ItemState &state = live.states[item.index];
    state.done = true;
    --live.left;
    check_runs(live, state, item.index);
    ++findings_.outcomes[item.status];
    std::string why;
    if (!outcome_fits(live, state, completion, item, why)) {
        complain(findings_.wrong_outcomes,
                 name_of(live, item.index) + " ended as " + aiomq_outcome_name(item.status) +
                     ", begun " + std::to_string(state.runs.size()) + " times, attempt " +
                     std::to_string(completion.attempt) + ": " + why);
    } else if (item.status == AIOMQ_OK && !result_fits(live.order, &state, item)) {
        complain(findings_.wrong_results, name_of(live, item.index) + " has a wrong result");
    }
}

bool Audit::outcome_fits(const Live &live, const ItemState &state,
                         const aiomq_completion &completion, const aiomq_item &item,
                         std::string &why) {
    if (state.runs.size() > completion.attempt) {
        why = "it ran more often than the attempt says";
        return false;
    }
    switch (item.status) {
        case AIOMQ_OK:
            return state.ended() && live.order.deed != Deed::kFail;
        case AIOMQ_ERROR: {
            char buffer[8192];
            aiomq_error error{};
            if (aiomq_error_decode(&item, buffer, sizeof buffer, &error) == 0)
                why = std::string(error.type) + ": " + error.message;
            return live.order.deed == Deed::kFail && !state.runs.empty() &&
                   (why.rfind("aiomq.HandlerError", 0) == 0 ||
                    why.rfind("chaos_worker.Asked", 0) == 0);
        }
        case AIOMQ_CANCELLED:
            return (live.cancelled || live.may_time_out) &&
                   (state.runs.empty() || state.stopped || live.retries > 0);
        case AIOMQ_EXPIRED:
            return live.may_expire && state.runs.empty();
        case AIOMQ_TIMED_OUT:
            return live.may_time_out;
        case AIOMQ_WORKER_DIED:
            return death_fits(live, state, completion, item, why);
        default:
            return false;
    }
}

bool Audit::death_fits(const Live &live, const ItemState &state, const aiomq_completion &completion,
                       const aiomq_item &item, std::string &why) {
    std::vector<char> buffer(item.bytes + 64);
    aiomq_error error{};
    if (aiomq_error_decode(&item, buffer.data(), buffer.size(), &error) != 0) {
        why = "its error can't be read";
        return false;
    }
    why = error.message;
    deaths_.push_back({error.pid, name_of(live, item.index) + ": " + why});
    if (error.signal != SIGKILL && error.signal != SIGTERM) return false;
    const bool poisoned = why.rfind("killed ", 0) == 0;
    const bool used_up = completion.attempt > live.retries || live.cancelled;
    return (poisoned || used_up) && state.runs.size() <= live.retries + 1;
}

bool Audit::result_fits(const Order &order, const ItemState *state, const aiomq_item &item) const {
    if (order.result_bytes == kInteger) {
        const std::int64_t wanted =
            integer_result(order.magic == kById ? kById | order.reserved : order.key, item.index);
        return item.kind == AIOMQ_KIND_INT && item.value.integer == wanted;
    }
    Answer head{};
    if (item.kind != AIOMQ_KIND_BYTES || item.bytes != sizeof head + order.result_bytes)
        return false;
    const auto *bytes = static_cast<const unsigned char *>(item.value.data);
    std::memcpy(&head, bytes, sizeof head);
    const auto made_it = [&](const RunState &run) { return run.ended && run.number == head.run; };
    return head.key == order.key && head.item == item.index &&
           (state == nullptr || std::any_of(state->runs.begin(), state->runs.end(), made_it)) &&
           std::memcmp(bytes + sizeof head, ledger_.text(result_offset(order, item.index)),
                       order.result_bytes) == 0;
}

void Audit::look_again(std::uint64_t key, const Order &order, const aiomq_item &item) {
    if (item.status == AIOMQ_OK && !result_fits(order, nullptr, item))
        complain(findings_.wrong_results,
                 "the result of task " + std::to_string(key) + " changed while it was on loan");
}

// --- who died -------------------------------------------------------------------------------------

void Audit::event(const aiomq_event &event) {
    if (event.kind == AIOMQ_EVENT_KILLED) killed_.insert(event.pid);
    if (event.kind == AIOMQ_EVENT_CORRUPT || event.kind == AIOMQ_EVENT_BROKEN)
        complain(findings_.wrong_deaths, event.text);
    if (event.kind != AIOMQ_EVENT_DIED) return;
    if (event.status != -SIGKILL && event.status != -SIGTERM)
        complain(findings_.wrong_deaths, event.text);
    else
        deaths_.push_back({event.pid, event.text});
}

void Audit::forget_explained() {
    std::erase_if(deaths_, [this](const Death &death) { return killed_.count(death.pid) != 0; });
}

void Audit::finish() {
    forget_explained();
    for (const auto &[key, live] : live_)
        complain(findings_.lost, name_of(live, 0) + " is lost: " + std::to_string(live.left) +
                                     " items without an outcome");
    for (const Death &death : deaths_)
        complain(findings_.wrong_deaths,
                 "nobody killed " + std::to_string(death.pid) + ": " + death.text);
    deaths_.clear();
}

}  // namespace chaos
