#include "pool.hpp"

#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace aiomq {
namespace {

/// How long after a wake-up the supervisor looks whether it arrived; see supervisor.hpp.
constexpr long kAuditDelayNs = 5000000;
/// A shorter blocked_after_ns must not keep the supervisor busy.
constexpr std::uint64_t kShortestWatchNs = 1000000;
/// Nor may a longer one put off the checkup.
constexpr std::uint64_t kLongestWatchNs = 500000000;

/// Fails also when the memory cgroup has no room for what a pool of this layout begins with: writing that
/// would end in a kill.
Result<std::unique_ptr<Segment>> create_segment(const std::string &label, const Layout &layout) {
    const std::uint64_t needed =
        layout.workers_end + std::uint64_t{layout.slots} * sizeof(TaskRecord);
    if (sys::cgroup_available_bytes() < needed)
        return Result<std::unique_ptr<Segment>>::failure(-ENOMEM);
    return Segment::create(label, layout);
}

}  // namespace

Pool::Pool(PoolConfig config) : config_(std::move(config)) {}

Pool::~Pool() {
    if (fork_guard_ != nullptr) munmap(fork_guard_, sys::page_size());
}

int Pool::create(PoolConfig config, std::unique_ptr<Pool> &ret_pool, std::string &ret_text) {
    std::unique_ptr<Pool> pool(new Pool(std::move(config)));
    const int error = pool->open(ret_text);
    if (error != 0) return error;
    ret_pool = std::move(pool);
    return 0;
}

int Pool::open(std::string &ret_text) {
    // A page that the kernel clears in a forked child: telling the processes apart costs one load.
    void *guard =
        mmap(nullptr, sys::page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guard == MAP_FAILED) return -errno;
    fork_guard_ = static_cast<unsigned char *>(guard);
    if (madvise(guard, sys::page_size(), MADV_WIPEONFORK) != 0) return -errno;
    *fork_guard_ = 1;

    Layout layout{};
    if (!plan_layout(
            {config_.capacity, config_.workers, static_cast<std::uint32_t>(config_.queues.size()),
             config_.arena_max_bytes, sys::page_size()},
            layout)) {
        ret_text = "arena_max_bytes (" + std::to_string(config_.arena_max_bytes) + ") times " +
                   std::to_string(config_.workers + 1) +
                   " arenas is more than the address space holds";
        return -EINVAL;
    }
    auto segment = create_segment(config_.label, layout);
    if (!segment) {
        ret_text =
            "can't get the pool's shared memory: " + std::string(strerror(-segment.error())) +
            " (" + std::to_string(layout.segment_bytes) + " bytes of address space, " +
            std::to_string(layout.workers_end) +
            " committed); lower capacity, workers or arena_max_bytes";
        return segment.error();
    }
    segment_ = std::move(*segment);

    requests_ = Arena(segment_->fd(), layout.request_arena_offset, layout.arena_bytes);
    int error = requests_.start(config_.arena_start_bytes, 0, {});
    if (error != 0) {
        ret_text = "can't commit arena_start_bytes (" + std::to_string(config_.arena_start_bytes) +
                   ") of shared memory";
        return error;
    }
    counters().request_committed_bytes.store_relaxed(requests_.committed_bytes());

    const auto take = [&](auto fd, auto &ret) {
        if (error == 0 && !fd) {
            error = fd.error();
            ret_text = "can't open a descriptor: " + std::string(strerror(-error));
        }
        if (error == 0) ret = std::move(*fd);
    };
    take(sys::event_fd(), app_fd_);
    take(sys::event_fd(), supervisor_fd_);
    take(ExitWatch::self(), own_exit_);
    take(sys::timer_fd(), audit_fd_);
    take(sys::timer_fd(), watch_fd_);
    take(sys::timer_fd(), limits_fd_);
    seats_.resize(config_.workers);
    for (auto &seat : seats_) take(sys::event_fd(), seat.event_fd);
    if (error != 0) return error;

    for (std::uint32_t queue = 0; queue < layout.queues; ++queue) {
        rings_.emplace_back(segment_->ring_cells(queue), layout.ring_cells,
                            &segment_->queue_head(queue).head, &segment_->queue(queue).tail);
        rings_.back().initialise();
        std::strncpy(segment_->queue(queue).name, config_.queues[queue].c_str(),
                     kQueueNameBytes - 1);
    }
    pushed_.resize(layout.queues);
    serving_.resize(layout.queues);
    for (std::uint32_t worker = 0; worker < config_.workers; ++worker) enrol(worker);
    // Before any worker is spawned: a pool that does not wait is dispatched at once.
    for (std::uint32_t worker = 0; worker < config_.workers; ++worker) locked_reset_lanes(worker);
    tasks_.resize(layout.slots);
    free_slots_.reserve(layout.slots);
    for (std::uint32_t slot = layout.slots; slot-- > 0;) free_slots_.push_back(slot);
    kept_free_ = layout.reserved_slots;
    spin_ = SpinBudget(config_.spin_ns, config_.workers + 1, sys::usable_cpus());
    segment_->header().spin_ns = config_.spin_ns;
    segment_->header().arena_start_bytes = config_.arena_start_bytes;
    segment_->flags().application.store_relaxed(
        1);  // armed_: the fd works before the first dispatch
    segment_->publish();
    return 0;
}

/// Writes down what a worker is for.
void Pool::enrol(std::uint32_t worker) {
    const std::uint32_t number = config_.group_of(worker);
    const GroupConfig &group = config_.groups[number];
    WorkerRecord &record = segment_->record(worker);
    record.group = number;
    record.concurrency = group.concurrency;
    record.max_tasks = group.max_tasks;
    record.max_memory_bytes = group.max_memory_bytes;
    std::strncpy(record.group_name, group.name.c_str(), kGroupNameBytes - 1);
    for (const std::uint8_t queue : group.queues) {
        record.served[record.served_count++] = queue;
        auto &mask = serving_[queue];
        mask.resize((config_.workers + 63) / 64);
        mask[worker / 64] |= 1ULL << (worker % 64);
    }
}

/// Releases the mutex, then takes in releases that were posted while it was held: their threads saw it
/// taken and left them to us.
void Pool::unlock() {
    now_ns_ = 0;
    mutex_.unlock();
    while (!releases_.empty() && mutex_.try_lock()) {
        locked_drain_releases();
        mutex_.unlock();
    }
}

void Pool::wake_application() {
    auto &flag = segment_->flags().application;
    if (flag.load_seq() != 0 && flag.exchange_seq(0) != 0) {
        sys::event_signal(app_fd_.get());
        counters().wakeups_sent.fetch_add_relaxed(1);
    }
}

/// As wake_application(), after a death: the dead may have taken the announcement back and not have
/// written the eventfd any more.
void Pool::locked_wake_application_anyway() {
    segment_->flags().application.store_seq(0);
    token_due_ = true;
    sys::event_signal(app_fd_.get());
    counters().wakeups_sent.fetch_add_relaxed(1);
}

void Pool::locked_set_state(PoolState state, const std::string &text) {
    if (state_ == state || state_ == AIOMQ_POOL_BROKEN) return;
    state_ = state;
    state_text_ = text;
    state_changed_ = true;
    segment_->header().statistics.state.store_relaxed(static_cast<std::uint32_t>(state));
    wake_application();
}

int Pool::state(std::string &ret_text) {
    const Lock lock(*this);
    ret_text = state_text_;
    return state_;
}

void Pool::locked_event(EventKind kind, std::uint32_t worker, std::int32_t pid, std::int32_t status,
                        std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    const std::uint64_t sequence = counters().events.load_relaxed() + 1;
    EventEntry entry{};
    entry.time_ns = sys::realtime_ns();
    entry.kind = static_cast<std::uint32_t>(kind);
    entry.worker = worker;
    entry.pid = pid;
    entry.status = status;
    text.copy(entry.text, sizeof entry.text - 1);
    segment_->event(sequence).write(sequence, entry);
    counters().events.store_relaxed(sequence);
    if (config_.log == nullptr) return;
    aiomq_event event{};
    event.sequence = sequence;
    event.time_ns = entry.time_ns;
    event.kind = entry.kind;
    event.worker = worker;
    event.pid = pid;
    event.status = status;
    std::memcpy(event.text, entry.text, sizeof event.text);
    if (!log_.push(event)) ++log_dropped_;
    wake_application();
}

void Pool::run_log() {
    if (config_.log == nullptr || !log_mutex_.try_lock()) return;
    const std::lock_guard<std::mutex> one_reader(log_mutex_, std::adopt_lock);
    for (aiomq_event event; log_.pop(event);) config_.log(config_.log_user, &event);
}

void Pool::locked_corrupt(const std::string &what) {
    if (state_ == AIOMQ_POOL_BROKEN) return;
    const std::string text = "shared memory is damaged: " + what;
    locked_event(AIOMQ_EVENT_CORRUPT, AIOMQ_NO_WORKER, 0, 0, text);
    closing_ = terminating_ = true;
    locked_set_state(AIOMQ_POOL_BROKEN, text);
    wake_supervisor();  // it ends the workers and fails what is left
}

bool Pool::locked_has_completions() const {
    if (!pending_.empty()) return true;
    if (state_ == AIOMQ_POOL_BROKEN) return false;  // what is left gets its outcome at the end
    for (std::uint32_t worker = 0; worker < seats_.size(); ++worker)
        if (!seats_[worker].outbox.empty() || segment_->area(worker).rescan.load_seq() != 0)
            return true;
    return false;
}

int Pool::locked_flags() {
    int flags = 0;
    if (locked_has_completions()) flags |= AIOMQ_DISPATCH_COMPLETIONS;
    if (std::exchange(room_, false)) flags |= AIOMQ_DISPATCH_ROOM;
    if (std::exchange(state_changed_, false)) flags |= AIOMQ_DISPATCH_STATE;
    return flags;
}

int Pool::dispatch() {
    int flags = 0;
    {
        const Lock lock(*this);
        auto &flag = segment_->flags().application;
        // Only when somebody took our announcement back was the eventfd written, or is about to be. But a
        // write may cross the next one, and be read with it or after it: who has slept looks in any case,
        // or what is left would keep the fd readable for ever.
        const bool slept = std::exchange(armed_, false);
        if (slept && flag.exchange_seq(0) == 0) token_due_ = true;
        if ((slept || token_due_) && sys::event_consume(app_fd_.get())) token_due_ = false;
        if (segment_->flags().corrupt.load_relaxed() != 0) locked_corrupt("a worker found it so");
        locked_drain_releases();
        locked_flush_inboxes();
        flags = locked_flags();
        if (flags == 0) {
            flag.store_seq(1);
            locked_flush_inboxes();  // the second look
            flags = locked_flags();
            if (flags == 0) {
                armed_ = true;
                locked_watch_what_is_left();
            } else if (flag.exchange_seq(0) == 0) {
                token_due_ = true;
            }
        }
    }
    run_log();  // without the mutex: it is the application's code
    return flags;
}

int Pool::wait(std::uint64_t timeout_ns) {
    const std::uint64_t start = sys::monotonic_ns();
    for (;;) {
        // One thread that looks is enough, and the budget is for one.
        if (const std::unique_lock only(spin_mutex_, std::try_to_lock); only && timeout_ns != 0)
            spin_.spin([this] {
                const Lock lock(*this);
                return locked_has_completions() || room_ || state_changed_;
            });
        const int flags = dispatch();
        if (flags != 0) return flags;
        const std::uint64_t spent = sys::monotonic_ns() - start;
        if (timeout_ns != sys::kForever && spent >= timeout_ns) return 0;
        const int ready = sys::poll_readable(
            app_fd_.get(), timeout_ns == sys::kForever ? sys::kForever : timeout_ns - spent);
        if (ready < 0) return ready;
    }
}

int Pool::close(std::uint32_t flags) {
    const Lock lock(*this);
    locked_close(flags, "the pool was closed");
    return 0;
}

void Pool::locked_close(std::uint32_t flags, const std::string &why) {
    if (!closing_) {
        closing_ = true;
        locked_event(AIOMQ_EVENT_CLOSED, AIOMQ_NO_WORKER, 0, 0, why);
        locked_set_state(AIOMQ_POOL_CLOSING);
    }
    if ((flags & AIOMQ_CLOSE_DISCARD) != 0 && state_ != AIOMQ_POOL_BROKEN) {
        ErrorText error;
        error.type = "aiomq.PoolClosed";
        const std::string message = why + " before this task started";
        error.message = message;
        locked_refuse_nested();
        for (std::uint32_t slot = 0; slot < slot_count(); ++slot)
            if (tasks_[slot].in_use) locked_withdraw(slot, AIOMQ_POOL_CLOSED, &error);
        wake_application();
    }
    locked_maybe_leave();
}

int Pool::queue(std::string_view name, std::uint32_t &ret_queue) const {
    const auto found = std::find(config_.queues.begin(), config_.queues.end(), name);
    if (found == config_.queues.end()) return -ENOENT;
    ret_queue = static_cast<std::uint32_t>(found - config_.queues.begin());
    return 0;
}

/// Closed and nothing left: the workers may go.
void Pool::locked_maybe_leave() {
    if (!closing_ || in_use_ != 0 || segment_->header().leave.load_relaxed() != 0 ||
        locked_nested_left())
        return;
    segment_->header().leave.store_seq(1);
    locked_wake_everyone();
    wake_supervisor();
}

bool Pool::locked_finished() const {
    return state_ == AIOMQ_POOL_ENDED ||
           (state_ == AIOMQ_POOL_BROKEN &&
            std::none_of(seats_.begin(), seats_.end(),
                         [](const auto &seat) { return seat.alive; }));
}

/// Moves what workers have finished to private memory, so that a pool can end without a reader.
void Pool::locked_drain_lanes() {
    aiomq_completion completion;
    const std::size_t before = pending_.size();
    for (std::uint32_t worker = 0; worker < seats_.size(); ++worker) {
        locked_rescan(worker);
        LaneReader &lane = seats_[worker].outbox;
        std::uint64_t cell = 0;
        LaneStatus status = LaneStatus::kOk;
        while (state_ != AIOMQ_POOL_BROKEN && (status = lane.pop(cell)) == LaneStatus::kOk)
            if (locked_take_message(worker, cell, completion)) pending_.push_back(completion);
        if (status == LaneStatus::kCorrupt)
            locked_corrupt("the outbox of worker " + std::to_string(worker));
        locked_lane_read(worker);
    }
    const bool moved = locked_end_nested();
    locked_flush_inboxes();
    if (freed_ || moved) locked_room();
    locked_maybe_leave();
    if (pending_.size() > before) wake_application();
}

int Pool::join(std::uint64_t timeout_ns) {
    const std::uint64_t start = sys::monotonic_ns();
    for (;;) {
        {
            const Lock lock(*this);
            if (!closing_) return -EBUSY;
            auto &flag = segment_->flags().application;
            flag.store_seq(1);
            locked_drain_lanes();  // after the announcement: this is the second look
            locked_drain_releases();
            locked_flush_inboxes();
            locked_watch_what_is_left();
            const bool finished = locked_finished();
            const bool late =
                timeout_ns != sys::kForever && sys::monotonic_ns() - start >= timeout_ns;
            if (finished || late) {
                // The fd's wake-ups were taken here; the application's loop gets one of its own.
                flag.store_seq(0);
                armed_ = false;
                token_due_ = true;
                sys::event_signal(app_fd_.get());
                return finished ? 0 : -ETIMEDOUT;
            }
        }
        const std::uint64_t spent = sys::monotonic_ns() - start;
        const int ready = sys::poll_readable(
            app_fd_.get(),
            timeout_ns == sys::kForever ? sys::kForever : timeout_ns - std::min(spent, timeout_ns));
        if (ready < 0 && ready != -EINTR) return ready;
        if (ready > 0) sys::event_consume(app_fd_.get());
    }
}

void Pool::locked_wake_everyone() {
    SleepFlags &flags = segment_->flags();
    for (std::uint32_t worker = 0; worker < seats_.size(); ++worker) {
        WorkerBits(flags.wants_tasks).clear(worker);
        WorkerBits(flags.asleep).clear(worker);
        sys::event_signal(seats_[worker].event_fd.get());
    }
}

/// Ends a batch of locked_push_hint(): shows the hints to sleepers, wakes up to one of them per hint,
/// and has the supervisor look after them.
void Pool::locked_publish_hints() {
    for (std::uint32_t queue = 0; queue < rings_.size(); ++queue) {
        if (pushed_[queue] == 0) continue;
        rings_[queue].publish();
        locked_wake_workers(queue, std::exchange(pushed_[queue], 0));
    }
}

void Pool::locked_wake_workers(std::uint32_t queue, std::uint64_t tasks) {
    WorkerBits wants(segment_->flags().wants_tasks);
    std::uint64_t sent = 0;
    for (std::uint32_t worker = 0;
         sent < tasks && wants.take_any(serving_[queue], worker_count(), worker); ++sent)
        sys::event_signal(seats_[worker].event_fd.get());
    PoolCounters &counts = counters();
    counts.wakeups_elided.add_by_single_writer(tasks - sent);
    if (sent == 0) return;
    counts.wakeups_sent.fetch_add_relaxed(sent);
    locked_arm_audit();
}

void Pool::locked_arm_audit() {
    if (std::exchange(audit_armed_, true)) return;
    itimerspec once{};
    once.it_value.tv_nsec = kAuditDelayNs;
    timerfd_settime(audit_fd_.get(), 0, &once, nullptr);
}

void Pool::locked_arm_watch() {
    watch_armed_ = true;
    const std::uint64_t period =
        std::clamp(config_.blocked_after_ns / 2, kShortestWatchNs, kLongestWatchNs);
    itimerspec once{};
    once.it_value.tv_sec = static_cast<time_t>(period / 1000000000);
    once.it_value.tv_nsec = static_cast<long>(period % 1000000000);
    timerfd_settime(watch_fd_.get(), 0, &once, nullptr);
}

void Pool::locked_nudge_application() {
    const bool over = state_ == AIOMQ_POOL_ENDED || state_ == AIOMQ_POOL_BROKEN;
    if (!over && !locked_has_completions()) return;
    token_due_ = true;
    sys::event_signal(app_fd_.get());
}

/// The wake audit: hints are left and somebody sleeps, so a wake-up was swallowed. True if it woke.
bool Pool::locked_wake_sleepers_with_hints() {
    counters().audits.add_by_single_writer(1);
    audit_armed_ = false;
    bool woke = false;
    const WorkerBits wants(segment_->flags().wants_tasks);
    for (std::uint32_t queue = 0; queue < rings_.size(); ++queue) {
        if (rings_[queue].empty() || !wants.any(serving_[queue], worker_count())) continue;
        locked_wake_workers(queue, worker_count());
        woke = true;
    }
    return woke;
}

}  // namespace aiomq
