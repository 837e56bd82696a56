#include "supervisor.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "recovery.hpp"
#include "worker.hpp"

namespace aiomq {
namespace {

/// What is quoted of a worker's stderr: the end of the text must fit a usual buffer.
constexpr std::size_t kStderrTailBytes = 2048;
/// epoll, timerfd, the pair for signals, and some to spare.
constexpr int kLibeventFds = 6;
constexpr int kFirstBackoffMs = 20;
constexpr std::uint32_t kBackoffDoublings = 8;

/// The last lines of what a worker wrote, for an error text.
std::string last_lines(const std::string &tail) {
    std::string text = tail;
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    return text;
}

}  // namespace

Supervisor::Supervisor(Pool &pool) : pool_(pool), started_future_(started_.get_future()) {}

Supervisor::~Supervisor() {
    stop();
    // Events before their base.
    children_.clear();
    signal_event_.reset();
    audit_event_.reset();
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
        },
        this));
    return signal_event_ != nullptr && audit_event_ != nullptr &&
           event_add(signal_event_.get(), nullptr) == 0 &&
           event_add(audit_event_.get(), nullptr) == 0;
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
        if (pool_.segment().area(child->worker).state.load_acquire() == AIOMQ_WORKER_RUNNING)
            become_ready(*child);
    }
    bool terminating = false;
    {
        const Pool::Lock lock(pool_);
        if (pool_.segment().flags().corrupt.load_relaxed() != 0)
            pool_.locked_corrupt("a worker found it so");
        terminating = pool_.locked_terminating();
    }
    if (terminating) end_workers();
    maybe_end();
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
    read_stderr(child);
    child.exit_event.reset();
    child.stderr_event.reset();
    child.pidfd.reset();
    child.stderr_pipe.reset();
    const pid_t pid = std::exchange(child.pid, 0);
    const bool was_ready = std::exchange(child.ready, false);
    const std::string what = "worker " + std::to_string(child.worker) + " (pid " +
                             std::to_string(pid) + ") " + sys::describe_exit(status);
    bool respawn = false;
    {
        const Pool::Lock lock(pool_);
        const bool leaving = pool_.segment().header().leave.load_relaxed() != 0;
        const bool expected = pool_.locked_terminating() || (leaving && status.exit_code == 0);
        pool_.locked_event(expected ? AIOMQ_EVENT_LEFT : AIOMQ_EVENT_DIED, child.worker, pid,
                           status.signal != 0 ? -status.signal : status.exit_code, what);
        WorkerSeat &seat = pool_.seat(child.worker);
        WorkerArea &area = pool_.segment().area(child.worker);
        seat.alive = false;
        pool_.segment().record(child.worker).pid = 0;
        pool_.locked_release_takeover(child.worker);
        if (area.state.load_relaxed() != AIOMQ_WORKER_FAILED)
            area.state.store_relaxed(AIOMQ_WORKER_ABSENT);
        // In a pool that ends by force every task gets the same outcome, once all workers are gone.
        if (!pool_.locked_terminating()) locked_recover(pool_, child.worker, pid, status);
        respawn = !pool_.locked_terminating() && !leaving;
    }
    if (!was_ready && respawn) failed_start(child, status);
    if (respawn && !killing_) schedule_respawn(child);
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
        text = "worker " + std::to_string(child.worker) + " (" + pool_.config().argv[0] + ") " +
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
        pool_.locked_event(AIOMQ_EVENT_BROKEN, UINT32_MAX, 0, 0, text);
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
        if (child->pid != 0) sys::signal_process(child->pidfd.get(), SIGKILL);
    }
}

/// When the last worker is gone: every task that is left gets its outcome, and the pool has ended.
void Supervisor::maybe_end() {
    for (const auto &child : children_)
        if (child->pid != 0 || child->respawn_due) return;
    {
        const Pool::Lock lock(pool_);
        const bool leaving = pool_.segment().header().leave.load_relaxed() != 0;
        if (!leaving && !pool_.locked_terminating()) return;
        std::string text = "the pool was terminated";
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
        pool_.wake_application();
    }
    started(-ESHUTDOWN);
    if (stopping_.load_acquire() != 0) event_base_loopbreak(base_);
}

void Supervisor::schedule_respawn(Child &child) {
    const std::uint32_t doublings = std::min(failed_starts_, kBackoffDoublings);
    const int delay_ms = failed_starts_ == 0 ? 0 : kFirstBackoffMs << doublings;
    const timeval delay{delay_ms / 1000, delay_ms % 1000 * 1000};
    child.respawn_due = true;
    child.respawn_timer.reset(event_new(
        base_, -1, EV_TIMEOUT,
        [](evutil_socket_t, short, void *context) {
            auto &due = *static_cast<Child *>(context);
            due.respawn_due = false;
            due.owner->spawn(due);
        },
        &child));
    event_add(child.respawn_timer.get(), &delay);
}

void Supervisor::spawn(Child &child) {
    std::uint32_t incarnation = 0;
    int error = 0;
    {
        const Pool::Lock lock(pool_);
        if (pool_.locked_terminating()) return;
        WorkerSeat &seat = pool_.seat(child.worker);
        WorkerRecord &record = pool_.segment().record(child.worker);
        incarnation = ++seat.incarnation & SlotWord::kIncarnationMask;
        seat.incarnation = incarnation;
        record.incarnation = incarnation;
        pool_.locked_reset_lanes(child.worker);
        WorkerArea &area = pool_.segment().area(child.worker);
        area.state.store_relaxed(AIOMQ_WORKER_STARTING);
        area.abort_text[0] = '\0';
        // Computed now, with `alive` set under the same lock: what is released from here on goes to
        // the successor's inbox, what was released before is not in the list.
        error = pool_.locked_write_takeover(child.worker, pool_.locked_loaned_blocks(child.worker));
        seat.alive = error == 0;
        if (seat.ready_once) {
            ++record.restarts;
            pool_.counters().restarts.add_by_single_writer(1);
        }
    }
    child.stderr_tail.clear();
    // Without the list a successor would overwrite what the application still reads.
    if (error == 0) error = launch(child, incarnation);
    if (error == 0) return;
    const std::string text = "can't start worker " + std::to_string(child.worker) + ": " +
                             pool_.config().argv[0] + ": " + std::strerror(-error);
    {
        const Pool::Lock lock(pool_);
        pool_.seat(child.worker).alive = false;
        pool_.locked_release_takeover(child.worker);
        pool_.segment().area(child.worker).state.store_relaxed(AIOMQ_WORKER_ABSENT);
    }
    // At the start this is the answer to create; later it may pass (no process, no descriptor left).
    ++failed_starts_;
    if (any_ready_ && !hopeless(false))
        schedule_respawn(child);
    else
        break_pool(error, text);
    maybe_end();
}

int Supervisor::inherit(Child &child, UniqueFd &ret_stderr_write,
                        std::vector<UniqueFd> &ret_sources,
                        std::vector<sys::InheritedFd> &ret_inherited) {
    const PoolConfig &config = pool_.config();
    int error = 0;
    const int lowest = inherited::kExtraBase + static_cast<int>(config.extra_fds.size());
    const auto pass = [&](int fd, int target) {
        if (error != 0) return;
        auto source = sys::duplicate(fd, lowest);  // above every target
        if (!source) {
            error = source.error();
            return;
        }
        ret_inherited.push_back({source->get(), target});
        ret_sources.push_back(std::move(*source));
    };
    if (const int broken = sys::make_pipe(child.stderr_pipe, ret_stderr_write); broken != 0)
        return broken;
    fcntl(child.stderr_pipe.get(), F_SETFL, O_NONBLOCK);
    auto null = sys::open_null();
    if (!null) return null.error();
    pass(null->get(), STDIN_FILENO);
    pass(sys::is_open(STDOUT_FILENO) ? STDOUT_FILENO : null->get(), STDOUT_FILENO);
    pass(ret_stderr_write.get(), STDERR_FILENO);
    pass(pool_.segment().fd(), inherited::kMemory);
    pass(pool_.seat(child.worker).event_fd.get(), inherited::kOwnEvent);
    pass(pool_.fd(), inherited::kApplicationEvent);
    pass(pool_.supervisor_fd(), inherited::kSupervisorEvent);
    pass(pool_.dispatcher_pidfd(), inherited::kDispatcherPidfd);
    pass(sys::is_open(STDERR_FILENO) ? STDERR_FILENO : null->get(), inherited::kStderr);
    for (std::size_t i = 0; i < config.extra_fds.size(); ++i)
        pass(config.extra_fds[i].get(), inherited::kExtraBase + static_cast<int>(i));
    return error;
}

int Supervisor::launch(Child &child, std::uint32_t incarnation) {
    UniqueFd stderr_write;
    std::vector<UniqueFd> sources;
    std::vector<sys::InheritedFd> inherited;
    if (const int error = inherit(child, stderr_write, sources, inherited); error != 0)
        return error;
    const PoolConfig &config = pool_.config();
    std::vector<std::string> environment;
    const auto is_ours = [](const std::string &entry) {
        return entry.starts_with(std::string(kWorkerVariable) + "=") ||
               entry.starts_with(std::string(kIndexVariable) + "=");
    };
    for (const std::string &entry : config.environment)
        if (!is_ours(entry)) environment.push_back(entry);
    environment.push_back(std::string(kWorkerVariable) + "=" + std::to_string(child.worker) + "." +
                          std::to_string(incarnation));
    environment.push_back(std::string(kIndexVariable) + "=" + std::to_string(child.worker));
    auto pid = sys::spawn(config.argv, environment, inherited,
                          inherited::kExtraBase + static_cast<int>(config.extra_fds.size()));
    if (!pid) return pid.error();
    auto pidfd = sys::open_pidfd(*pid);
    child.exit_event.reset(!pidfd ? nullptr
                                  : event_new(
                                        base_, pidfd->get(), EV_READ | EV_PERSIST,
                                        [](evutil_socket_t, short, void *context) {
                                            auto &ended = *static_cast<Child *>(context);
                                            ended.owner->on_exit(ended);
                                        },
                                        &child));
    child.stderr_event.reset(event_new(
        base_, child.stderr_pipe.get(), EV_READ | EV_PERSIST,
        [](evutil_socket_t, short, void *context) {
            auto &writer = *static_cast<Child *>(context);
            writer.owner->read_stderr(writer);
        },
        &child));
    if (child.exit_event == nullptr || child.stderr_event == nullptr ||
        event_add(child.exit_event.get(), nullptr) != 0 ||
        event_add(child.stderr_event.get(), nullptr) != 0) {
        // Nobody would notice its end, so it ends here: our own child, not reaped, so the pid is its.
        child.exit_event.reset();
        child.stderr_event.reset();
        kill(*pid, SIGKILL);
        sys::ExitStatus ignored;
        while (!sys::reap(*pid, ignored)) sched_yield();
        return pidfd ? -ENOMEM : pidfd.error();
    }
    child.pid = *pid;
    child.pidfd = std::move(*pidfd);
    const Pool::Lock lock(pool_);
    pool_.segment().record(child.worker).pid = child.pid;
    pool_.locked_event(AIOMQ_EVENT_SPAWNED, child.worker, child.pid, 0,
                       "worker " + std::to_string(child.worker) + " was started");
    return 0;
}

}  // namespace aiomq
