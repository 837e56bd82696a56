#include "killer.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../support/clock.hpp"
#include "census.hpp"

namespace chaos {
namespace {

using aiomq_test::now_ns;

/// All workers asked within 100 ms would close the pool.
constexpr std::uint64_t kBetweenTermsNs = 400'000'000;
constexpr std::uint64_t kLongestWatchNs = 2'000'000;
/// Python starts slowly, and one that is always killed runs nothing.
constexpr std::uint64_t kPythonPercent = 8;

}  // namespace

Killer::Killer(MixedPool &pool, std::uint64_t seed, double per_second)
    : pool_(pool), random_(seed), per_second_(per_second), struck_(pool.workers()) {
    if (aiomq_pool_view(pool.get(), &view_) != 0) abort();
    thread_ = std::thread([this] { run(); });
}

Killer::~Killer() {
    stop();
    aiomq_view_close(&view_);
}

void Killer::stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
}

std::vector<std::int32_t> Killer::take_killed() {
    const std::lock_guard lock(mutex_);
    return std::move(killed_);
}

Blows Killer::blows() const {
    const std::lock_guard lock(mutex_);
    return blows_;
}

void Killer::nap_us(std::uint64_t microseconds) const {
    const std::uint64_t end = now_ns() + microseconds * 1000;
    if (microseconds > 200) usleep(static_cast<useconds_t>(microseconds - 150));
    while (now_ns() < end) asm volatile("");
}

void Killer::run() {
    prctl(PR_SET_TIMERSLACK, 1);
    const auto pause = static_cast<std::uint64_t>(2e6 / per_second_);
    while (!stop_) {
        for (std::uint64_t left = below(pause); left > 0 && !stop_;) {
            const std::uint64_t part = left < 20000 ? left : 20000;
            nap_us(part);
            left -= part;
        }
        if (stop_) return;
        const Victim victim = choose();
        if (victim.fd < 0) continue;
        strike(victim);
        close(victim.fd);
    }
}

/// A worker of ours that lives; fd -1 when the place that was chosen is empty.
Killer::Victim Killer::choose() {
    Victim victim;
    do victim.worker = static_cast<std::uint32_t>(below(pool_.workers()));
    while (pool_.is_python(victim.worker) != (pool_.has_python() && below(100) < kPythonPercent));
    aiomq_worker_stats stats{};
    stats.struct_bytes = sizeof stats;
    if (aiomq_view_worker(view_, victim.worker, &stats) != 0 || stats.pid <= 0) return victim;
    // Some are killed before they serve; most must come to it, or little would run.
    if (stats.state != AIOMQ_WORKER_RUNNING && below(5) != 0) return victim;
    if (stats.pid == struck_[victim.worker]) return victim;  // it is dying: no second death
    victim.pid = stats.pid;
    victim.fd = static_cast<int>(syscall(SYS_pidfd_open, stats.pid, 0));
    if (victim.fd < 0 || parent_of(stats.pid) == getpid()) return victim;
    close(victim.fd);  // the number is another process's by now
    victim.fd = -1;
    return victim;
}

void Killer::strike(const Victim &victim) {
    const std::uint64_t kind = below(100);
    if (below(2) == 0) wait_for_moment(victim.worker);
    if (kind < 70) {
        send(victim, SIGKILL);
    } else if (kind < 95) {
        if (!send(victim, SIGSTOP)) return;
        nap_us(below(8) == 0 ? below(150'000) : below(3'000));
        send(victim, below(2) == 0 ? SIGKILL : SIGCONT);
    } else if (now_ns() - last_term_ns_ > kBetweenTermsNs) {
        last_term_ns_ = now_ns();
        send(victim, SIGTERM);
    }
}

/// Until the worker writes to its ledger, and a few microseconds more.
void Killer::wait_for_moment(std::uint32_t worker) {
    const std::atomic<std::uint64_t> &head = pool_.ledger().ring(worker).head;
    const std::uint64_t before = head.load(std::memory_order_acquire);
    const std::uint64_t end = now_ns() + kLongestWatchNs;
    while (head.load(std::memory_order_acquire) == before && now_ns() < end) sched_yield();
    nap_us(below(60));
}

bool Killer::send(const Victim &victim, int signal) {
    const std::lock_guard lock(mutex_);
    if (signal == SIGKILL || signal == SIGTERM) killed_.push_back(victim.pid);
    if (syscall(SYS_pidfd_send_signal, victim.fd, signal, nullptr, 0) != 0) return false;
    if (signal == SIGKILL) {
        struck_[victim.worker] = victim.pid;
        ++blows_.kills;
        if (pool_.is_python(victim.worker)) ++blows_.python_kills;
    }
    if (signal == SIGSTOP) ++blows_.stops;
    if (signal == SIGTERM) ++blows_.terms;
    return true;
}

}  // namespace chaos
