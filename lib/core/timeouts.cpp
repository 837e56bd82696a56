#include "timeouts.hpp"

#include <algorithm>

namespace aiomq {
namespace {

/// Entries of ended items that are not worth looking for.
constexpr std::size_t kStaleEntries = 64;
/// One wait at most; the timer is then set again.
constexpr std::uint64_t kLongestWaitNs = 3600 * std::uint64_t{1000000000};

}  // namespace

Timeouts::Timeouts(Worker &worker, const aiomq_run_options &options, event_base *base)
    : worker_(worker),
      options_(options),
      timer_(event_new(
          base, -1, EV_TIMEOUT,
          [](evutil_socket_t, short, void *self) { static_cast<Timeouts *>(self)->on_time(); },
          this)) {}

void Timeouts::add(std::uint32_t job, std::uint32_t item, std::uint64_t timeout_ns) {
    if (options_.cancel == nullptr) return;
    const std::uint64_t started = worker_.started_ns(job, item);
    if (started == 0) return;  // the handler has completed it already
    if (entries_.size() > 2 * std::size_t{worker_.unfinished()} + kStaleEntries) {
        std::erase_if(entries_, [this](const Entry &entry) { return !runs(entry); });
        std::ranges::make_heap(entries_, std::ranges::greater{}, &Entry::due_ns);
    }
    // The stamp may be as early as the coarse clock lags, so only what is certain counts as spent.
    const std::uint64_t now_ns = sys::monotonic_ns();
    const std::uint64_t latest = started + sys::kCoarseLagNs;
    const std::uint64_t spent = now_ns > latest ? std::min(now_ns - latest, timeout_ns) : 0;
    const std::uint64_t due = later_by(now_ns, timeout_ns - spent);
    entries_.push_back({due, job, item});
    std::ranges::push_heap(entries_, std::ranges::greater{}, &Entry::due_ns);
    if (due < armed_ns_) arm();
}

void Timeouts::on_time() {
    const std::uint64_t now_ns = sys::monotonic_ns();
    while (!entries_.empty() && (entries_.front().due_ns <= now_ns || !runs(entries_.front()))) {
        const Entry entry = entries_.front();
        std::ranges::pop_heap(entries_, std::ranges::greater{}, &Entry::due_ns);
        entries_.pop_back();
        if (runs(entry)) options_.cancel(options_.cancel_user, entry.job, entry.item);
    }
    arm();
}

void Timeouts::arm() {
    armed_ns_ = UINT64_MAX;
    if (entries_.empty() || entries_.front().due_ns == UINT64_MAX) return;
    armed_ns_ = entries_.front().due_ns;
    const std::uint64_t now_ns = sys::monotonic_ns();
    const std::uint64_t wait_ns =
        std::min(armed_ns_ > now_ns ? armed_ns_ - now_ns : 0, kLongestWaitNs);
    const timeval wait{static_cast<time_t>(wait_ns / 1000000000),
                       static_cast<suseconds_t>(wait_ns % 1000000000 / 1000 + 1)};
    event_add(timer_.get(), &wait);
}

void Timeouts::settle() {
    if (entries_.empty() || worker_.unfinished() != 0) return;
    entries_.clear();
    armed_ns_ = UINT64_MAX;
    event_del(timer_.get());
}

}  // namespace aiomq
