// Supervisor: how a worker is started, and what it inherits.
#include <fcntl.h>
#include <sched.h>

#include <csignal>
#include <cstring>

#include "supervisor.hpp"
#include "worker.hpp"

namespace aiomq {

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
        area.asked_ns.store_relaxed(0);
        area.abort_text[0] = '\0';
        // Computed now, with `alive` set under the same lock: what is released from here on goes to
        // the successor's inbox, what was released before is not in the list.
        error = pool_.locked_write_takeover(child.worker, pool_.locked_loaned_blocks(child.worker));
        seat.alive = error == 0;
        pool_.locked_hint_keyed(child.worker);
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
                             group_of(child).argv[0] + ": " + std::strerror(-error);
    {
        const Pool::Lock lock(pool_);
        pool_.seat(child.worker).alive = false;
        pool_.locked_release_takeover(child.worker);
        pool_.segment().area(child.worker).state.store_relaxed(AIOMQ_WORKER_ABSENT);
    }
    // At the start this is the answer to create; later it may pass (no process, no descriptor left).
    ++failed_starts_;
    if (any_ready_ && !hopeless(false))
        schedule_respawn(child, backoff_ms());
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
    pass(pool_.own_exit_fd(), inherited::kDispatcher);
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
    const GroupConfig &group = group_of(child);
    std::vector<std::string> environment;
    const auto is_ours = [](const std::string &entry) {
        return entry.starts_with(std::string(kWorkerVariable) + "=") ||
               entry.starts_with(std::string(kIndexVariable) + "=");
    };
    for (const std::string &entry : group.environment)
        if (!is_ours(entry)) environment.push_back(entry);
    environment.push_back(std::string(kWorkerVariable) + "=" + std::to_string(child.worker) + "." +
                          std::to_string(incarnation));
    environment.push_back(std::string(kIndexVariable) + "=" + std::to_string(child.worker));
    auto pid =
        sys::spawn(group.argv, environment, inherited,
                   inherited::kExtraBase + static_cast<int>(pool_.config().extra_fds.size()));
    if (!pid) return pid.error();
    auto watch = ExitWatch::child(*pid);
    child.exit_event.reset(!watch ? nullptr
                                  : event_new(
                                        base_, watch->fd(), EV_READ | EV_PERSIST,
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
        return watch ? -ENOMEM : watch.error();
    }
    child.pid = *pid;
    child.exit_watch = std::move(*watch);
    const Pool::Lock lock(pool_);
    pool_.segment().record(child.worker).pid = child.pid;
    pool_.locked_event(AIOMQ_EVENT_SPAWNED, child.worker, child.pid, 0,
                       "worker " + std::to_string(child.worker) + " was started");
    return 0;
}

}  // namespace aiomq
