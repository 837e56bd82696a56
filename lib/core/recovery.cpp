#include "recovery.hpp"

#include <algorithm>
#include <cstdio>

namespace aiomq {
namespace {

/// How many exits the error of a poisonous task quotes.
constexpr std::size_t kMaxExits = 16;

/// "2 s", "0.25 s".
std::string seconds(std::uint64_t ns) {
    char text[32];
    std::snprintf(text, sizeof text, "%g s", static_cast<double>(ns) / 1e9);
    return text;
}

std::uint16_t *starts_of(AttemptBlock *block) {
    return block == nullptr ? nullptr : reinterpret_cast<std::uint16_t *>(block + 1);  // NOLINT
}

/// One worker's death and what follows for the tasks it held.
class Recovery {
  public:
    Recovery(Pool &pool, std::uint32_t worker, std::int32_t pid, const sys::ExitStatus &status,
             bool retired)
        : pool_(pool),
          worker_(worker),
          suspects_claimed_(!retired && !has_started()),
          current_(pool.locked_current(worker)),
          culprit_(pool.locked_culprit(worker)),
          exit_("worker " + std::to_string(worker) + " (pid " + std::to_string(pid) + ") " +
                sys::describe_exit(status)) {
        error_.exit_status = status.exit_code;
        error_.signal = status.signal;
        error_.pid = pid;
        // Now, while they are known: when their neighbours are dealt with they may have ended.
        if (culprit_) culprit_name_ = pool.locked_item_name(*culprit_);
        if (current_) current_name_ = pool.locked_item_name(*current_);
    }

    void recover_claimed(std::uint32_t slot);

  private:
    bool has_started() const;
    bool is_overdue(std::uint32_t slot, std::uint32_t item) const;
    bool is_current(std::uint32_t slot, std::uint32_t item) const {
        return current_ && current_->slot == slot && current_->item == item;
    }
    std::string worker_died(bool on_thread) const;
    void deliver(std::uint32_t slot, std::uint32_t item, int outcome, const char *type,
                 const std::string &message);
    std::string count_death(std::uint32_t slot);
    bool never_starts(std::uint32_t slot);
    void time_out(std::uint32_t slot, std::vector<std::uint32_t> &lost);
    void fail(std::uint32_t slot, std::vector<std::uint32_t> &lost);
    bool is_poisonous(std::uint32_t slot, const std::vector<std::uint32_t> &lost,
                      std::string &ret_text);
    void run_again(std::uint32_t slot, const std::vector<std::uint32_t> &again,
                   std::uint32_t started);

    Pool &pool_;
    std::uint32_t worker_;
    bool suspects_claimed_;  ///< it ran nothing: what it was about to start may have killed it
    std::optional<Overdue> current_;
    std::optional<Overdue> culprit_;  ///< it was killed, or was about to be, for this item
    std::string exit_;
    std::string culprit_name_;
    std::string current_name_;
    ErrorText error_;
};

bool Recovery::is_overdue(std::uint32_t slot, std::uint32_t item) const {
    const auto &overdue = pool_.seat(worker_).overdue;
    return std::any_of(overdue.begin(), overdue.end(), [&](const Overdue &entry) {
        return entry.slot == slot && entry.item == item && entry.task_id == pool_.task(slot).id;
    });
}

/// What is said to an item that was running.
std::string Recovery::worker_died(bool on_thread) const {
    if (culprit_)
        return exit_ + " because " + culprit_name_ +
               " ran longer than its timeout; this task was running beside it";
    std::string text = exit_ + " while it ran this task";
    if (on_thread) return text + " on its thread";
    if (current_) text += "; its thread was running " + current_name_;
    return text;
}

void Recovery::deliver(std::uint32_t slot, std::uint32_t item, int outcome, const char *type,
                       const std::string &message) {
    error_.type = type;
    error_.message = message;
    pool_.locked_deliver_same(slot, item, item + 1, outcome, &error_, worker_);
}

/// The items of @lost that the worker was killed for end here, whatever their task's retries.
void Recovery::time_out(std::uint32_t slot, std::vector<std::uint32_t> &lost) {
    if (!culprit_) return;
    const std::string message = "ran longer than its timeout of " +
                                seconds(pool_.segment().request(slot).timeout_ns) +
                                " and did not end within " + seconds(pool_.config().grace_ns) +
                                " after it was cancelled; " + exit_;
    std::erase_if(lost, [&](std::uint32_t item) {
        if (!is_overdue(slot, item)) return false;
        deliver(slot, item, AIOMQ_TIMED_OUT, "aiomq.TaskTimeout", message);
        return true;
    });
}

/// Counts the death for a task with retries. True: too many; @ret_text lists them.
bool Recovery::is_poisonous(std::uint32_t slot, const std::vector<std::uint32_t> &lost,
                            std::string &ret_text) {
    if (pool_.task(slot).retries == 0 || lost.empty() || culprit_) return false;
    ret_text = count_death(slot);
    return !ret_text.empty();
}

/// "" while there were fewer than poison_limit for this slot, then the list of them.
std::string Recovery::count_death(std::uint32_t slot) {
    Deaths &deaths = pool_.locked_deaths(slot);
    ++deaths.count;
    if (deaths.exits.size() < kMaxExits) deaths.exits.push_back(exit_);
    if (deaths.count < pool_.config().poison_limit) return {};
    std::string text = "killed " + std::to_string(deaths.count) + " workers: ";
    for (std::size_t i = 0; i < deaths.exits.size(); ++i)
        text += (i == 0 ? "" : "; ") + deaths.exits[i];
    if (deaths.count > deaths.exits.size())
        text += "; and " + std::to_string(deaths.count - deaths.exits.size()) + " more";
    return text;
}

bool Recovery::has_started() const {
    for (std::uint32_t slot = 0; slot < pool_.slot_count(); ++slot) {
        const Slot &line = pool_.segment().slot(slot);
        const SlotWord word(line.word.load_acquire());
        if (pool_.task(slot).in_use && word.phase() == Phase::kClaimed &&
            word.held_by(worker_, pool_.seat(worker_).incarnation) &&
            ItemRange::unpack(line.range.load_acquire()).next >
                pool_.segment().request(slot).item_base)
            return true;
    }
    return false;
}

/// A slot that the worker had claimed and started nothing of. True: one worker after the other died so
/// far and no further, in the call's decoding or the import of its module, so its items end here.
bool Recovery::never_starts(std::uint32_t slot) {
    if (!suspects_claimed_ || culprit_) return false;
    const std::string text = count_death(slot);
    if (text.empty()) return false;
    const std::uint32_t first = pool_.segment().request(slot).item_base;
    const TaskRecord &task = pool_.task(slot);
    pool_.locked_event(AIOMQ_EVENT_POISONED, worker_, error_.pid, 0,
                       pool_.locked_item_name({slot, first, task.id}) + " " + text);
    const std::string message = text + "; it had not started";  // which the error only refers to
    error_.type = "aiomq.WorkerDied";
    error_.message = message;
    pool_.locked_deliver_same(slot, first, task.upto, AIOMQ_WORKER_DIED, &error_, worker_);
    return true;
}

/// Takes from @lost, and ends, the items that are not run again.
void Recovery::fail(std::uint32_t slot, std::vector<std::uint32_t> &lost) {
    const TaskRecord &task = pool_.task(slot);
    const std::uint16_t *starts = starts_of(pool_.locked_attempt_block(slot));
    // These have all retries before them, and nothing to do with what died before.
    if (starts != nullptr && std::none_of(lost.begin(), lost.end(),
                                          [&](std::uint32_t item) { return starts[item] != 0; }))
        pool_.locked_forget_deaths(slot);
    std::string poison;
    const bool poisonous = is_poisonous(slot, lost, poison);
    if (poisonous)
        pool_.locked_event(AIOMQ_EVENT_POISONED, worker_, error_.pid, 0,
                           pool_.locked_item_name({slot, lost.front(), task.id}) + " " + poison);
    std::erase_if(lost, [&](std::uint32_t item) {
        const std::uint32_t runs = starts == nullptr ? task.attempt : starts[item] + 1U;
        if (!poisonous && !task.cancelled && runs <= task.retries) return false;
        deliver(slot, item, AIOMQ_WORKER_DIED, "aiomq.WorkerDied",
                poisonous ? poison : worker_died(is_current(slot, item)));
        return true;
    });
}

/// Delivers what a dead worker had started in @slot, then makes the rest READY again or frees the slot.
void Recovery::recover_claimed(std::uint32_t slot) {
    TaskRecord &task = pool_.task(slot);
    Slot &line = pool_.segment().slot(slot);
    const Request &request = pool_.segment().request(slot);
    const ItemRange range = ItemRange::unpack(line.range.load_acquire());
    if (range.next < request.item_base || range.next > task.items ||
        (task.items > 1 && range.end > task.items)) {
        pool_.locked_corrupt("the item range of slot " + std::to_string(slot));
        return;
    }
    pool_.locked_deliver_published(slot, worker_);
    std::vector<std::uint32_t> lost;
    for (std::uint32_t item = request.item_base; item < std::min(range.next, task.upto); ++item)
        if (!Pool::is_delivered(task, item)) lost.push_back(item);
    time_out(slot, lost);
    if (!lost.empty()) fail(slot, lost);
    const bool started = range.next > request.item_base;
    if (started && task.retries == 0 && task.mourned) pool_.locked_forget_deaths(slot);
    if (lost.empty() && (range.next >= task.upto || (!started && never_starts(slot)))) {
        pool_.locked_free_slot(slot);
        return;
    }
    pool_.counters().retried.add_by_single_writer(lost.size());
    if (range.next < task.upto)
        pool_.counters().requeued.add_by_single_writer(task.upto - range.next);
    run_again(slot, lost, range.next);
}

/// Makes a slot READY from the first item of @again on, or from @started. The items below @started have
/// been started; of them those in @again are to run once more.
void Recovery::run_again(std::uint32_t slot, const std::vector<std::uint32_t> &again,
                         std::uint32_t started) {
    TaskRecord &task = pool_.task(slot);
    Request &request = pool_.segment().request(slot);
    const std::uint32_t next = again.empty() ? started : again.front();
    if (!again.empty()) {
        ++task.attempt;
        if (AttemptBlock *earlier = pool_.locked_attempt_block(slot); earlier != nullptr) {
            earlier->started_before = std::max(earlier->started_before, started);
            std::uint16_t *starts = starts_of(earlier);
            for (std::uint32_t item = next; item < started; ++item)
                starts[item] = Pool::is_delivered(task, item)
                                   ? kDelivered
                                   : static_cast<std::uint16_t>(starts[item] + 1);
        } else {
            request.start_by_ns = UINT64_MAX;  // it has met that limit
        }
    }
    request.attempt = task.attempt;
    request.item_base = next;
    // Its hint comes with the re-hint of all.
    pool_.locked_make_ready(slot, {next, task.upto});
}

}  // namespace

void locked_recover(Pool &pool, std::uint32_t worker, std::int32_t pid,
                    const sys::ExitStatus &status, bool retired) {
    Recovery recovery(pool, worker, pid, status, retired);
    WorkerArea &area = pool.segment().area(worker);
    pool.segment().record(worker).lost =
        area.started.load_relaxed() - area.completed.load_relaxed();
    SleepFlags &flags = pool.segment().flags();
    WorkerBits(flags.asleep).clear(worker);
    WorkerBits(flags.wants_tasks).clear(worker);
    for (std::uint32_t slot = 0; slot < pool.slot_count(); ++slot) {
        if (!pool.task(slot).in_use) continue;
        const SlotWord word(pool.segment().slot(slot).word.load_acquire());
        if (!word.held_by(worker, pool.seat(worker).incarnation)) continue;
        if (word.phase() == Phase::kDone)
            pool.locked_deliver_done(slot);
        else if (word.phase() == Phase::kClaimed)
            recovery.recover_claimed(slot);
    }
    pool.seat(worker).overdue.clear();
    area.current.store_relaxed(0);
    // Looks before left out what this worker ran.
    if (pool.locked_has_limits()) pool.locked_look_by(sys::monotonic_ns());
    pool.locked_forget_worker(worker);
    pool.locked_rehint();
    pool.locked_room();
    pool.locked_wake_everyone();
    pool.locked_wake_application_anyway();
}

void locked_fail_all(Pool &pool, int outcome, const ErrorText &error) {
    for (std::uint32_t slot = 0; slot < pool.slot_count(); ++slot) {
        TaskRecord &task = pool.task(slot);
        if (!task.in_use) continue;
        const SlotWord word(pool.segment().slot(slot).word.load_acquire());
        if (outcome != AIOMQ_POOL_CORRUPT && word.worker() < pool.worker_count()) {
            if (word.phase() == Phase::kDone) pool.locked_deliver_done(slot);
            if (!task.in_use) continue;
            if (word.phase() == Phase::kClaimed) pool.locked_deliver_published(slot, word.worker());
        }
        pool.locked_deliver_same(slot, pool.segment().request(slot).item_base, task.upto, outcome,
                                 &error, AIOMQ_NO_WORKER);
        pool.locked_free_slot(slot);
    }
    pool.wake_application();
}

}  // namespace aiomq
