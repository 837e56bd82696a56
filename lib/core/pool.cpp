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
            {config_.capacity, config_.workers, 1, config_.arena_max_bytes, sys::page_size()},
            layout)) {
        ret_text = "arena_max_bytes (" + std::to_string(config_.arena_max_bytes) + ") times " +
                   std::to_string(config_.workers + 1) +
                   " arenas is more than the address space holds";
        return -EINVAL;
    }
    auto segment = Segment::create(config_.label, layout);
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

    const auto take = [&](Result<UniqueFd> fd, UniqueFd &ret) {
        if (error == 0 && !fd) {
            error = fd.error();
            ret_text = "can't open a descriptor: " + std::string(strerror(-error));
        }
        if (error == 0) ret = std::move(*fd);
    };
    take(sys::event_fd(), app_fd_);
    take(sys::event_fd(), supervisor_fd_);
    take(sys::open_pidfd(getpid()), own_pidfd_);
    take(sys::timer_fd(), audit_fd_);
    seats_.resize(config_.workers);
    for (auto &seat : seats_) take(sys::event_fd(), seat.event_fd);
    if (error != 0) return error;

    rings_.emplace_back(segment_->ring_cells(0), layout.ring_cells, &segment_->queue_head(0).head,
                        &segment_->queue(0).tail);
    rings_[0].initialise();
    std::strncpy(segment_->queue(0).name, "default", kQueueNameBytes - 1);
    // Before any worker is spawned: a pool that does not wait is dispatched at once.
    for (std::uint32_t worker = 0; worker < config_.workers; ++worker) locked_reset_lanes(worker);
    tasks_.resize(config_.capacity);
    free_slots_.reserve(config_.capacity);
    for (std::uint32_t slot = config_.capacity; slot-- > 0;) free_slots_.push_back(slot);
    spin_ = SpinBudget(config_.spin_ns, config_.workers + 1, sys::usable_cpus());
    segment_->header().spin_ns = config_.spin_ns;
    segment_->header().arena_start_bytes = config_.arena_start_bytes;
    segment_->flags().application.store_relaxed(
        1);  // armed_: the fd works before the first dispatch
    segment_->publish();
    return 0;
}

/// Releases the mutex, then takes in releases that were posted while it was held: their threads saw it
/// taken and left them to us.
void Pool::unlock() {
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
    EventRecord &record = segment_->event(sequence);
    record.sequence.store_release(0);
    record.time_ns = sys::realtime_ns();
    record.kind = static_cast<std::uint32_t>(kind);
    record.worker = worker;
    record.pid = pid;
    record.status = status;
    std::memset(record.text, 0, sizeof record.text);
    text.copy(record.text, sizeof record.text - 1);
    record.sequence.store_release(sequence);
    counters().events.store_relaxed(sequence);
    if (config_.log == nullptr) return;
    aiomq_event event{};
    event.sequence = sequence;
    event.time_ns = record.time_ns;
    event.kind = record.kind;
    event.worker = worker;
    event.pid = pid;
    event.status = status;
    std::memcpy(event.text, record.text, sizeof event.text);
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
    locked_event(AIOMQ_EVENT_CORRUPT, UINT32_MAX, 0, 0, text);
    closing_ = terminating_ = true;
    locked_set_state(AIOMQ_POOL_BROKEN, text);
    wake_supervisor();  // it ends the workers and fails what is left
}

bool Pool::locked_has_completions() const {
    if (!pending_.empty()) return true;
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
        // Only when somebody took our announcement back was the eventfd written, or is about to be.
        if (std::exchange(armed_, false) && flag.exchange_seq(0) == 0) token_due_ = true;
        if (token_due_ && sys::event_consume(app_fd_.get())) token_due_ = false;
        if (segment_->flags().corrupt.load_relaxed() != 0) locked_corrupt("a worker found it so");
        locked_drain_releases();
        locked_flush_inboxes();
        flags = locked_flags();
        if (flags == 0) {
            flag.store_seq(1);
            flags = locked_flags();  // the second look
            if (flags == 0)
                armed_ = true;
            else if (flag.exchange_seq(0) == 0)
                token_due_ = true;
        }
    }
    run_log();  // without the mutex: it is the application's code
    return flags;
}

int Pool::wait(std::uint64_t timeout_ns) {
    const std::uint64_t start = sys::monotonic_ns();
    for (;;) {
        if (timeout_ns != 0)
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

int Pool::close() {
    const Lock lock(*this);
    if (closing_) return 0;
    closing_ = true;
    locked_event(AIOMQ_EVENT_CLOSED, UINT32_MAX, 0, 0, "closed");
    locked_set_state(AIOMQ_POOL_CLOSING);
    locked_maybe_leave();
    return 0;
}

/// Closed and nothing left: the workers may go.
void Pool::locked_maybe_leave() {
    if (!closing_ || in_use_ != 0 || segment_->header().leave.load_relaxed() != 0) return;
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
    for (std::uint32_t worker = 0; worker < seats_.size(); ++worker) {
        locked_rescan(worker);
        LaneReader &lane = seats_[worker].outbox;
        for (std::uint64_t cell = 0; lane.pop(cell) == LaneStatus::kOk;)
            if (locked_take_message(worker, cell, completion)) pending_.push_back(completion);
        lane.publish();
    }
    locked_room();
    locked_maybe_leave();
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

/// Wakes up to one sleeping worker per new task, and has the supervisor look after them.
void Pool::locked_wake_workers(std::uint64_t tasks) {
    WorkerBits wants(segment_->flags().wants_tasks);
    std::uint64_t sent = 0;
    for (std::uint32_t worker = 0; sent < tasks && wants.take_any(worker_count(), worker); ++sent)
        sys::event_signal(seats_[worker].event_fd.get());
    PoolCounters &counts = counters();
    counts.wakeups_elided.add_by_single_writer(tasks - sent);
    if (sent == 0) return;
    counts.wakeups_sent.fetch_add_relaxed(sent);
    if (std::exchange(audit_armed_, true)) return;
    itimerspec once{};
    once.it_value.tv_nsec = kAuditDelayNs;
    timerfd_settime(audit_fd_.get(), 0, &once, nullptr);
}

/// The wake audit: hints are left and somebody sleeps, so a wake-up was swallowed. True if it woke.
bool Pool::locked_wake_sleepers_with_hints() {
    counters().audits.add_by_single_writer(1);
    audit_armed_ = false;
    bool hints = false;
    for (const Ring &ring : rings_) hints = hints || !ring.empty();
    if (!hints) return false;
    WorkerBits wants(segment_->flags().wants_tasks);
    if (!wants.any(worker_count())) return false;
    locked_wake_workers(worker_count());
    return true;
}

}  // namespace aiomq
