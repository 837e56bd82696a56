#include "supervisor.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "recovery.hpp"

namespace aiomq {
namespace {

/// What is quoted of a worker's stderr: the end of the text must fit a usual buffer.
constexpr std::size_t kStderrTailBytes = 2048;
/// epoll, timerfd, the pair for signals, and some to spare.
constexpr int kLibeventFds = 6;
constexpr int kFirstBackoffMs = 20;
/// What a stuck worker has between its group's stuck signal and the kill.
constexpr timeval kStuckSignalTime{0, 100000};
constexpr std::uint32_t kBackoffDoublings = 8;
/// Requests to retire that come within this time are one: see Supervisor::depart().
constexpr int kTogetherMs = 100;
constexpr std::uint64_t kTogetherNs = kTogetherMs * 1'000'000ULL;

constexpr const char *kAllAsked =
    "every worker was asked to leave (SIGTERM), so the pool was closed";

/// The last lines of what a worker wrote, for an error text.
std::string last_lines(const std::string &tail) {
    std::string text = tail;
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    return text;
}

}  // namespace

Supervisor::Supervisor(Pool &pool)
    : pool_(pool), watch_(pool), checkup_(pool), started_future_(started_.get_future()) {}

Supervisor::~Supervisor() {
    stop();
    // Events before their base.
    children_.clear();
    signal_event_.reset();
    audit_event_.reset();
    watch_event_.reset();
    limits_event_.reset();
    if (base_ != nullptr) event_base_free(base_);
}

int Supervisor::start() {
    // libevent ends the process when it can't make its own descriptors, so look before.
    if (const int error = sys::check_spare_fds(pool_.fd(), kLibeventFds); error != 0) return error;
    const auto streams = sys::occupy_closed_streams();
    event_config *config = event_config_new();
    if (config == nullptr) return -ENOMEM;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    base_ = event_base_new_with_config(config);
    event_config_free(config);
    if (base_ == nullptr || !add_events()) return -ENOMEM;
    for (std::uint32_t worker = 0; worker < pool_.worker_count(); ++worker) {
        children_.push_back(std::make_unique<Child>());
        children_.back()->owner = this;
        children_.back()->worker = worker;
    }
    // The thread inherits this mask: signals stay with the application's threads.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    try {
        thread_ = std::thread([this] { run(); });
    } catch (const std::system_error &failure) {
        error = -failure.code().value();
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return error;
}

bool Supervisor::add_events() {
    signal_event_.reset(event_new(
        base_, pool_.supervisor_fd(), EV_READ | EV_PERSIST,
        [](evutil_socket_t fd, short, void *self) {
            sys::event_consume(fd);
            static_cast<Supervisor *>(self)->on_signal();
        },
        this));
    audit_event_.reset(event_new(
        base_, pool_.audit_fd(), EV_READ | EV_PERSIST,
        [](evutil_socket_t fd, short, void *self) {
            sys::event_consume(fd);  // a timerfd's count is read like an eventfd's
            Pool &pool = static_cast<Supervisor *>(self)->pool_;
            const Pool::Lock lock(pool);
            pool.locked_wake_sleepers_with_hints();
            pool.locked_split();
        },
        this));
    watch_event_.reset(event_new(
        base_, pool_.watch_fd(), EV_READ | EV_PERSIST,
        [](evutil_socket_t fd, short, void *self) {
            sys::event_consume(fd);
            static_cast<Supervisor *>(self)->on_watch();
        },
        this));
    limits_event_.reset(event_new(
        base_, pool_.limits_fd(), EV_READ | EV_PERSIST,
        [](evutil_socket_t fd, short, void *self) {
            sys::event_consume(fd);
            static_cast<Supervisor *>(self)->on_limits();
        },
        this));
    for (const EventHandle *added : {&signal_event_, &audit_event_, &watch_event_, &limits_event_})
        if (*added == nullptr || event_add(added->get(), nullptr) != 0) return false;
    return true;
}

void Supervisor::on_watch() {
    const Pool::Lock lock(pool_);
    watch_.locked_look(sys::monotonic_ns());
    if (!pool_.locked_terminating() && checkup_.locked_look())
        pool_.locked_arm_watch();
    else
        pool_.locked_watch_ended();
}

const GroupConfig &Supervisor::group_of(const Child &child) const {
    return pool_.config().groups[pool_.config().group_of(child.worker)];
}

int Supervisor::wait_started() { return started_future_.get(); }

void Supervisor::stop() {
    if (!thread_.joinable()) return;
    stopping_.store_release(1);
    {
        const Pool::Lock lock(pool_);
        pool_.locked_terminate();
    }
    pool_.wake_supervisor();
    thread_.join();
}

void Supervisor::run() {
    pthread_setname_np(pthread_self(), "aiomq-superv");
    oom_kills_ = sys::cgroup_oom_kills();
    for (auto &child : children_) {
        spawn(*child);
        if (killing_) break;
    }
    on_signal();
    event_base_loop(base_, EVLOOP_NO_EXIT_ON_EMPTY);
}

void Supervisor::started(int error) {
    if (std::exchange(started_set_, true)) return;
    started_.set_value(error);
}

/// Somebody wrote the supervisor's eventfd: a worker is ready, or the pool's state changed.
void Supervisor::on_signal() {
    for (auto &child : children_) {
        if (child->pid == 0 || child->ready) continue;
        const std::uint32_t state = pool_.segment().area(child->worker).state.load_acquire();
        if (state == AIOMQ_WORKER_RUNNING || state == AIOMQ_WORKER_RETIRING) become_ready(*child);
    }
    bool terminating = false;
    {
        const Pool::Lock lock(pool_);
        if (pool_.segment().flags().corrupt.load_relaxed() != 0)
            pool_.locked_corrupt("a worker found it so");
        terminating = pool_.locked_terminating();
        // Nested work goes on whatever the application does.
        if (!terminating) pool_.locked_drain_lanes();
        pool_.locked_split();
    }
    if (terminating) end_workers();
    maybe_end();
}

void Supervisor::on_limits() {
    std::vector<std::uint32_t> stuck;
    {
        const Pool::Lock lock(pool_);
        stuck = pool_.locked_look_at_limits();
    }
    for (const std::uint32_t worker : stuck) end_stuck(*children_[worker]);
}

/// Ends a worker that is stuck in an item; with a stuck signal it first has a moment to say where.
void Supervisor::end_stuck(Child &child) {
    if (child.pid == 0) return;
    const int signal = group_of(child).stuck_signal;
    if (signal == 0) {
        kill_stuck(child);
        return;
    }
    child.exit_watch.signal(signal);
    child.kill_timer.reset(event_new(
        base_, -1, EV_TIMEOUT,
        [](evutil_socket_t, short, void *context) {
            auto &due = *static_cast<Child *>(context);
            due.owner->kill_stuck(due);
        },
        &child));
    if (child.kill_timer == nullptr || event_add(child.kill_timer.get(), &kStuckSignalTime) != 0)
        kill_stuck(child);
}

void Supervisor::kill_stuck(Child &child) {
    if (child.pid == 0) return;
    {
        const Pool::Lock lock(pool_);
        const auto culprit = pool_.locked_culprit(child.worker);
        if (!culprit) {  // it has ended after all
            pool_.seat(child.worker).overdue.clear();
            if (pool_.locked_has_limits()) pool_.locked_look_by(sys::monotonic_ns());
            return;
        }
        pool_.locked_event(AIOMQ_EVENT_KILLED, child.worker, child.pid, -SIGKILL,
                           "worker " + std::to_string(child.worker) + " (pid " +
                               std::to_string(child.pid) + ") is killed: " +
                               pool_.locked_item_name(*culprit) + " ran longer than its timeout");
    }
    child.exit_watch.signal(SIGKILL);
}

void Supervisor::become_ready(Child &child) {
    child.ready = true;
    failed_starts_ = 0;
    any_ready_ = true;
    read_stderr(child);
    child.stderr_event.reset();
    child.stderr_pipe.reset();
    const Pool::Lock lock(pool_);
    pool_.locked_release_takeover(child.worker);
    pool_.seat(child.worker).ready_once = true;
    pool_.locked_avoid(child.worker, false);
    pool_.locked_event(AIOMQ_EVENT_READY, child.worker, child.pid, 0,
                       "worker " + std::to_string(child.worker) + " is ready");
    for (std::uint32_t worker = 0; worker < pool_.worker_count(); ++worker)
        if (!pool_.seat(worker).ready_once) return;
    all_were_ready_ = true;
    if (pool_.locked_state() == AIOMQ_POOL_STARTING) pool_.locked_set_state(AIOMQ_POOL_RUNNING);
    started(0);
}

void Supervisor::read_stderr(Child &child) {
    char bytes[4096];
    while (child.stderr_pipe) {
        const ssize_t count = read(child.stderr_pipe.get(), bytes, sizeof bytes);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) {
            if (count == 0 || errno != EAGAIN) {
                child.stderr_event.reset();
                child.stderr_pipe.reset();
            }
            return;
        }
        child.stderr_tail.append(bytes, static_cast<std::size_t>(count));
        if (child.stderr_tail.size() > kStderrTailBytes)
            child.stderr_tail.erase(0, child.stderr_tail.size() - kStderrTailBytes);
    }
}

void Supervisor::on_exit(Child &child) {
    sys::ExitStatus status;
    if (!sys::reap(child.pid, status)) return;
    if (status.signal == SIGKILL) {
        const std::uint64_t kills = sys::cgroup_oom_kills();
        status.out_of_memory = std::exchange(oom_kills_, kills) < kills;
    }
    read_stderr(child);
    child.exit_event.reset();
    child.stderr_event.reset();
    child.kill_timer.reset();
    child.exit_watch.reset();
    child.stderr_pipe.reset();
    const pid_t pid = std::exchange(child.pid, 0);
    const bool was_ready = std::exchange(child.ready, false);
    const std::string who =
        "worker " + std::to_string(child.worker) + " (pid " + std::to_string(pid) + ") ";
    const std::string what = who + sys::describe_exit(status);
    bool respawn = false;
    bool retired = false;
    {
        const Pool::Lock lock(pool_);
        const bool leaving = pool_.segment().header().leave.load_relaxed() != 0;
        const bool expected = pool_.locked_terminating() || (leaving && status.exit_code == 0);
        WorkerSeat &seat = pool_.seat(child.worker);
        WorkerArea &area = pool_.segment().area(child.worker);
        retired = !expected && was_ready && status.exit_code == 0 &&
                  area.state.load_acquire() == AIOMQ_WORKER_RETIRING;
        child.asked_ns = retired ? area.asked_ns.load_relaxed() : 0;
        pool_.locked_event(expected  ? AIOMQ_EVENT_LEFT
                           : retired ? AIOMQ_EVENT_RETIRED
                                     : AIOMQ_EVENT_DIED,
                           child.worker, pid,
                           status.signal != 0 ? -status.signal : status.exit_code,
                           retired ? who + "has retired" : what);
        seat.alive = false;
        pool_.segment().record(child.worker).pid = 0;
        pool_.locked_release_takeover(child.worker);
        if (area.state.load_relaxed() != AIOMQ_WORKER_FAILED)
            area.state.store_relaxed(AIOMQ_WORKER_ABSENT);
        // In a pool that ends by force every task gets the same outcome, once all workers are gone.
        if (!pool_.locked_terminating())
            locked_recover(pool_, child.worker, pid, status, retired || expected);
        respawn = !pool_.locked_terminating() && !leaving && !departing_;
    }
    if (!was_ready && respawn) failed_start(child, status);
    if (respawn && !killing_)
        schedule_respawn(child, child.asked_ns != 0 ? kTogetherMs : retired ? 0 : backoff_ms());
    maybe_end();
}

/// Whether start-up deaths say that workers can't start at all. While others serve tasks, a place that
/// stays empty is tried again with back-off instead.
bool Supervisor::hopeless(bool reported) const {
    if (reported && !any_ready_) return true;  // it said why, and nothing shows the contrary
    if (failed_starts_ < pool_.config().start_limit) return false;
    return !all_were_ready_ || std::none_of(children_.begin(), children_.end(),
                                            [](const auto &child) { return child->ready; });
}

void Supervisor::failed_start(Child &child, const sys::ExitStatus &status) {
    WorkerArea &area = pool_.segment().area(child.worker);
    ++failed_starts_;
    const bool reported = area.state.load_acquire() == AIOMQ_WORKER_FAILED;
    if (!hopeless(reported)) return;
    std::string text;
    if (reported) {
        area.abort_text[kAbortTextBytes - 1] = '\0';
        text = "worker " + std::to_string(child.worker) + " can't start: " + area.abort_text;
    } else {
        text = "worker " + std::to_string(child.worker) + " (" + group_of(child).argv[0] + ") " +
               sys::describe_exit(status) + " before it was ready";
        const std::string lines = last_lines(child.stderr_tail);
        text +=
            lines.empty() ? "; it wrote nothing to stderr" : "; its stderr ended with:\n" + lines;
    }
    break_pool(-ECHILD, text);
}

void Supervisor::break_pool(int error, const std::string &text) {
    {
        const Pool::Lock lock(pool_);
        pool_.locked_event(AIOMQ_EVENT_BROKEN, AIOMQ_NO_WORKER, 0, 0, text);
        pool_.locked_terminate();
        pool_.locked_set_state(AIOMQ_POOL_BROKEN, text);
    }
    end_workers();
    started(error);
}

void Supervisor::end_workers() {
    if (std::exchange(killing_, true)) return;
    for (auto &child : children_) {
        child->respawn_timer.reset();
        child->respawn_due = false;
        if (child->pid != 0) child->exit_watch.signal(SIGKILL);
    }
}

/// When the last worker is gone: every task that is left gets its outcome, and the pool has ended.
void Supervisor::maybe_end() {
    for (const auto &child : children_)
        if (child->pid != 0 || child->respawn_due) return;
    {
        const Pool::Lock lock(pool_);
        const bool leaving = pool_.segment().header().leave.load_relaxed() != 0;
        if (!leaving && !pool_.locked_terminating() && !departing_) return;
        std::string text = departing_ ? kAllAsked : "the pool was terminated";
        ErrorText error;
        error.type = "aiomq.PoolClosed";
        int outcome = AIOMQ_POOL_CLOSED;
        if (pool_.locked_state() == AIOMQ_POOL_BROKEN) {
            text = pool_.locked_state_text();
            error.type = "aiomq.PoolBroken";
            if (text.starts_with("shared memory")) {
                outcome = AIOMQ_POOL_CORRUPT;
                error.type = "aiomq.PoolCorrupt";
            }
        }
        error.message = text;
        locked_fail_all(pool_, outcome, error);
        pool_.locked_set_state(AIOMQ_POOL_ENDED);
        pool_.locked_nudge_application();
    }
    started(-ESHUTDOWN);
    if (stopping_.load_acquire() != 0) event_base_loopbreak(base_);
}

int Supervisor::backoff_ms() const {
    return failed_starts_ == 0 ? 0 : kFirstBackoffMs << std::min(failed_starts_, kBackoffDoublings);
}

/// When this worker, or the one that left this place last, was asked to retire; 0: it was not. Who has not
/// said yet that it is ready may have been asked all the same.
std::uint64_t Supervisor::asked_ns(const Child &child) const {
    if (child.pid == 0) return child.asked_ns;
    return pool_.segment().area(child.worker).asked_ns.load_relaxed();
}

/// Whether all workers were asked to leave when @child was: then it is the end of a service or of a
/// session, which asks every process. In a pool of one worker nothing tells that from a replacement.
bool Supervisor::all_were_asked(const Child &child) const {
    std::uint32_t asked = 0;
    for (const auto &other : children_) {
        const std::uint64_t when = asked_ns(*other);
        const std::uint64_t apart =
            when > child.asked_ns ? when - child.asked_ns : child.asked_ns - when;
        if (when != 0 && apart <= kTogetherNs)
            ++asked;
        else if (other->pid != 0)
            return false;
    }
    return asked > 1;
}

/// Every worker was asked to leave, and the dispatcher has not closed the pool: to start others in their
/// place would be to go against whoever asked. What runs finishes, what has not started does not.
void Supervisor::depart() {
    departing_ = true;
    for (auto &child : children_) {
        child->respawn_timer.reset();
        child->respawn_due = false;
    }
    {
        const Pool::Lock lock(pool_);
        pool_.locked_close(AIOMQ_CLOSE_DISCARD, kAllAsked);
    }
    maybe_end();
}

void Supervisor::schedule_respawn(Child &child, int delay_ms) {
    if (failed_starts_ > 0) {
        const Pool::Lock lock(pool_);
        pool_.locked_avoid(child.worker, true);
    }
    const timeval delay{delay_ms / 1000, delay_ms % 1000 * 1000};
    child.respawn_due = true;
    child.respawn_timer.reset(event_new(
        base_, -1, EV_TIMEOUT,
        [](evutil_socket_t, short, void *context) {
            auto &due = *static_cast<Child *>(context);
            due.respawn_due = false;
            if (due.asked_ns != 0 && due.owner->all_were_asked(due))
                due.owner->depart();
            else
                due.owner->spawn(due);
        },
        &child));
    event_add(child.respawn_timer.get(), &delay);
}

}  // namespace aiomq
