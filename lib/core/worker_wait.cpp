// Worker: what it tells, what it is told, and sleep.
#include <unistd.h>

#include "worker.hpp"

namespace aiomq {
namespace {

/// How often the process's private memory is looked at, while items complete.
constexpr std::uint64_t kMemoryLookNs = 100'000'000;

}  // namespace

/// A completion is a hint: when the lane is full the dispatcher is told to look at all slots. The
/// dispatcher is woken, if it sleeps, before anything else runs here: see settle().
void Worker::tell(Notice notice, std::uint32_t slot) {
    if (outbox_.put(Message{notice, slot}.pack()) != LaneStatus::kOk) area_->rescan.store_seq(1);
    untold_ = true;
}

/// Ends a series of tell(): the total order that the sleeping protocol needs, then the look at the
/// flag. A pop's exchange serves as well, so that a busy worker pays for one locked instruction less.
void Worker::settle() {
    if (!untold_) return;
    outbox_.publish();
    wake_application();
}

void Worker::wake_application() {
    untold_ = false;
    const bool frees_room = segment_->header().nested_waiting.load_seq() != 0;
    if (std::exchange(for_supervisor_, false) || frees_room) {
        // It wakes the application, if need be.
        sys::event_signal(supervisor_fd_.get());
        return;
    }
    auto &flag = segment_->flags().application;
    if (flag.load_seq() != 0 && flag.exchange_seq(0) != 0) {
        sys::event_signal(application_fd_.get());
        area_->wakes_sent.add_by_single_writer(1);
    } else {
        area_->wakes_elided.add_by_single_writer(1);
    }
}

int Worker::flush() {
    for (const std::uint32_t handle : unreported_) {
        Job *job = find(handle);
        if (job == nullptr || !std::exchange(job->unreported, false)) continue;
        for_supervisor_ |= job->nested;
        tell(Notice::kProgress, job->slot);
    }
    unreported_.clear();
    settle();
    if (!outbox_backlog_.empty()) flush_outbox();
    if (std::exchange(given_back_, false)) sys::event_signal(supervisor_fd_.get());
    return 0;
}

void Worker::take_inbox() {
    if (!outbox_backlog_.empty()) flush_outbox();
    std::uint64_t cell = 0;
    bool any = false;
    while (inbox_.pop(cell) == LaneStatus::kOk) {
        any = true;
        const Message message = Message::unpack(cell);
        if (message.notice == Notice::kRelease) {
            arena_.release(message.value * kBlockAlign);
        } else if (message.notice == Notice::kAsk) {
            check_claims();
        } else if (message.notice == Notice::kCancel) {
            const NamedSlot named = NamedSlot::unpack(message.value);
            for (const auto &job : jobs_)
                if (job->in_use && job->slot == named.slot &&
                    job->word.generation() == named.generation) {
                    job->guarded = job->cancelled = true;
                    cancelled_.push_back(job->handle);
                }
        } else if (message.notice == Notice::kHint) {
            take_hint(NamedSlot::unpack(message.value));
        } else if (message.notice == Notice::kAnswer || message.notice == Notice::kRefused) {
            answers_.push_back(message);
            answers_unseen_ = true;
        }
    }
    if (!any) return;
    inbox_.publish();
    settle();
    count_memory();
    // The dispatcher holds more for us in its own memory: say that there is room now. To the supervisor,
    // since an application that only collects, or is busy, would not look.
    if (segment_->record(index_).inbox_waiting.load_seq() != 0)
        sys::event_signal(supervisor_fd_.get());
}

/// Every slot that says it is claimed by us is one of our jobs.
void Worker::check_claims() {
    std::vector<bool> ours(segment_->layout().slots);
    for (const auto &job : jobs_)
        if (job->in_use) ours[job->slot] = true;
    for (std::uint32_t slot = 0; slot < ours.size(); ++slot) {
        const SlotWord word(segment_->slot(slot).word.load_acquire());
        if (ours[slot] || word.phase() != Phase::kClaimed || !word.held_by(index_, incarnation_))
            continue;
        damaged();
        return;
    }
}

int Worker::cancelled(std::uint32_t &ret_job) {
    take_inbox();
    while (!cancelled_.empty()) {
        const std::uint32_t handle = cancelled_.back();
        cancelled_.pop_back();
        if (find(handle) == nullptr) continue;
        ret_job = handle;
        return 1;
    }
    return 0;
}

int Worker::retire() {
    const int before = errno;
    area_->asked_ns.store_relaxed(sys::monotonic_ns());
    take_no_more();
    sys::event_signal(event_fd_.get());  // a loop that blocks looks
    errno = before;
    return 0;
}

/// What is claimed and not started stays so: the exit gives it back. A handler may come between any two
/// lines of ready(), which looks at `retiring_` last.
void Worker::take_no_more() {
    retiring_.store_seq(1);
    if (is_ready_) area_->state.store_seq(AIOMQ_WORKER_RETIRING);
}

/// After an item, in a group with limits: has this process done its share?
void Worker::look_at_limits(const Job &job) {
    const WorkerRecord &record = segment_->record(index_);
    const bool counts = (job.view.flags & AIOMQ_TASK_FOLLOW) == 0;
    if (counts && record.max_tasks != 0 && ++completed_ >= record.max_tasks) take_no_more();
    if (record.max_memory_bytes == 0) return;
    const std::uint64_t now = sys::monotonic_coarse_ns();
    if (now - memory_seen_ns_ < kMemoryLookNs) return;
    memory_seen_ns_ = now;
    if (sys::private_memory_bytes() > record.max_memory_bytes) take_no_more();
}

bool Worker::something_there(bool wants_tasks) const {
    if (!inbox_.empty() || !cancelled_.empty() || segment_->header().leave.load_seq() != 0)
        return true;
    if (!wants_tasks) return false;
    for (const Served &served : served_)
        if (!served.keyed.empty() || !served.ring.empty()) return true;
    return false;
}

bool Worker::spin() {
    return spin_.spin([this] { return something_there(true); });
}

int Worker::sleep(bool wants_tasks) {
    if (!is_ready_) return -EPROTO;
    turn();
    flush();
    if (area_->current.load_relaxed() != 0) set_current(0);
    wants_tasks = wants_tasks && !retiring();  // what waits is for others
    SleepFlags &flags = segment_->flags();
    if (wants_tasks) WorkerBits(flags.wants_tasks).set(index_);
    WorkerBits(flags.asleep).set(index_);
    if (std::exchange(answers_unseen_, false) || something_there(wants_tasks)) {
        wake(false);
        return 1;
    }
    // Others have chunks with items that this worker could run.
    if (wants_tasks && segment_->header().to_split.load_seq() != 0)
        sys::event_signal(supervisor_fd_.get());
    return 0;
}

int Worker::wake(bool fd_readable) {
    turn();
    SleepFlags &flags = segment_->flags();
    WorkerBits(flags.wants_tasks).clear(index_);
    WorkerBits(flags.asleep).clear(index_);
    if (fd_readable) {
        sys::event_consume(event_fd_.get());
        area_->wakeups.add_by_single_writer(1);
    }
    return 0;
}

void Worker::count_memory() {
    area_->used_bytes.store_relaxed(arena_.used_bytes());
    area_->committed_bytes.store_relaxed(arena_.committed_bytes());
}

}  // namespace aiomq
