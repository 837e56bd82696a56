#include "weak_memory.hpp"

#include <ucontext.h>

#include <algorithm>
#include <cstdlib>

namespace weak {
namespace {

constexpr std::size_t kStackBytes = 256 << 10;
/// More than any run here needs: threads that wait for each other in a loop have lost something.
constexpr std::uint64_t kMostSteps = 100'000;
/// How often a load gives the newest value although it need not.
constexpr unsigned kNewestPercent = 50;

Machine *machine = nullptr;

bool acquires(int order) {
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}
bool releases(int order) {
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

void join(View &view, const View &other) {
    for (const auto &[place, time] : other) {
        std::uint32_t &own = view[place];
        own = std::max(own, time);
    }
}

std::uintptr_t as_number(const void *address) {
    return reinterpret_cast<std::uintptr_t>(address);  // NOLINT
}

}  // namespace

struct Machine::Thread {
    std::function<void()> body;
    ucontext_t context{};
    std::vector<unsigned char> stack = std::vector<unsigned char>(kStackBytes);
    View view;
    std::function<bool()> ready;  ///< empty: it can go on
    bool ended = false;
};

namespace {
ucontext_t outside;
}  // namespace

Machine::Machine(std::uint64_t seed) : engine_(seed) { machine = this; }
Machine::~Machine() {
    accesses::observer = nullptr;
    machine = nullptr;
}
Machine *Machine::current() { return machine; }

void Machine::share(void *memory, std::size_t bytes) {
    begin_ = as_number(memory);
    bytes_ = bytes;
}

void Machine::weaken(const std::set<const void *> &sites, int order, bool failure) {
    weakened_ = sites;
    weakened_order_ = order;
    weakened_failure_ = failure;
}

bool Machine::covers(const void *address) const { return as_number(address) - begin_ < bytes_; }

void Machine::fail(const std::string &text) {
    machine->error_ = text;
    machine->step();  // for good
    std::abort();
}

View &Machine::view() { return threads_[running_]->view; }

std::string Machine::run(std::vector<std::function<void()>> bodies) {
    for (auto &body : bodies) {
        threads_.push_back(std::make_unique<Thread>());
        Thread &thread = *threads_.back();
        thread.body = std::move(body);
        // Its own clock starts behind what every thread knows.
        thread.view[clock_of(static_cast<std::uint32_t>(threads_.size() - 1))] = 1;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = thread.stack.size();
        thread.context.uc_link = &outside;
        makecontext(
            &thread.context,
            +[] {
                Thread &self = *machine->threads_[machine->running_];
                self.body();
                self.ended = true;
            },
            0);
    }
    accesses::observer = this;
    while (error_.empty()) {
        std::vector<std::uint32_t> able;
        bool left = false;
        for (std::uint32_t i = 0; i < threads_.size(); ++i) {
            if (threads_[i]->ended) continue;
            left = true;
            if (!threads_[i]->ready || threads_[i]->ready()) able.push_back(i);
        }
        if (!left) break;
        if (able.empty()) {
            error_ = "everyone waits: a wake-up was lost";
            break;
        }
        if (++steps_ > kMostSteps) {
            error_ = "it does not end";
            break;
        }
        running_ = able[engine_() % able.size()];
        threads_[running_]->ready = nullptr;
        swapcontext(&outside, &threads_[running_]->context);
    }
    accesses::observer = nullptr;
    return error_;
}

void Machine::step() { swapcontext(&threads_[running_]->context, &outside); }

void Machine::wait(const std::function<bool()> &ready) {
    threads_[running_]->ready = ready;
    step();
}

void Machine::give(View &channel) {
    join(channel, view());
    ++view()[clock_of(running_)];
}

void Machine::take(const View &channel) { join(view(), channel); }

Machine::Location &Machine::location(const void *address, std::size_t bytes) {
    Location &at = locations_[as_number(address)];
    if (at.history.empty()) at.history.push_back({accesses::real_load(address, bytes), {}});
    return at;
}

int Machine::order_of(const void *site, int order, int failure, char kind, bool failed) {
    places_.insert({site, order, failure, kind});
    if (failed == weakened_failure_ && weakened_.count(site) != 0) return weakened_order_;
    return failed ? failure : order;
}

void Machine::acquire(const Stored &stored, int order) {
    if (acquires(order)) join(view(), stored.view);
}

std::uint64_t Machine::read(const void *address, std::size_t bytes, int order) {
    Location &at = location(address, bytes);
    std::uint32_t &known = view()[as_number(address)];
    std::uint32_t from = known;
    if (order == __ATOMIC_SEQ_CST) from = std::max(from, at.last_seq);
    const auto newest = static_cast<std::uint32_t>(at.history.size() - 1);
    const std::uint32_t chosen =
        engine_() % 100 < kNewestPercent
            ? newest
            : from + static_cast<std::uint32_t>(engine_() % (newest - from + 1));
    known = chosen;
    acquire(at.history[chosen], order);
    return at.history[chosen].value;
}

void Machine::append(const void *address, Location &at, std::uint64_t value, int order,
                     const View *inherited) {
    const auto time = static_cast<std::uint32_t>(at.history.size());
    view()[as_number(address)] = time;
    Stored stored{value, {}};
    if (inherited != nullptr) stored.view = *inherited;  // a release sequence goes on
    if (releases(order)) {
        join(stored.view, view());
        ++view()[clock_of(running_)];
    }
    stored.view[as_number(address)] = time;
    at.history.push_back(std::move(stored));
    if (order == __ATOMIC_SEQ_CST) at.last_seq = time;
}

void Machine::barrier(int order) {
    if (!full_barriers_ || order != __ATOMIC_SEQ_CST) return;
    for (const auto &[place, time] : view()) {
        const auto at = locations_.find(place);
        if (at != locations_.end()) at->second.last_seq = std::max(at->second.last_seq, time);
    }
}

std::uint64_t Machine::load(const void *address, std::size_t bytes, int order, const void *site) {
    step();
    return read(address, bytes, order_of(site, order, order, 'l', false));
}

void Machine::store(void *address, std::size_t bytes, std::uint64_t value, int order,
                    const void *site) {
    step();
    order = order_of(site, order, order, 's', false);
    append(address, location(address, bytes), value, order, nullptr);
    accesses::real_store(address, bytes, value);
}

std::uint64_t Machine::change(void *address, std::size_t bytes, accesses::Change change,
                              std::uint64_t operand, int order, const void *site) {
    step();
    order = order_of(site, order, order, 'r', false);
    Location &at = location(address, bytes);
    const Stored before = at.history.back();
    acquire(before, order);
    accesses::real_change(address, bytes, change, operand);
    append(address, at, accesses::real_load(address, bytes), order, &before.view);
    barrier(order);
    return before.value;
}

bool Machine::compare_exchange(void *address, std::size_t bytes, std::uint64_t &expected,
                               std::uint64_t desired, int order, int failure, const void *site) {
    step();
    Location &at = location(address, bytes);
    const Stored before = at.history.back();
    if (before.value != expected) {
        failure = order_of(site, order, failure, 'c', true);
        const std::uint64_t found = read(address, bytes, failure);
        if (found == expected) {  // a stale value can't make it fail: it looks again
            view()[as_number(address)] = static_cast<std::uint32_t>(at.history.size() - 1);
            acquire(before, failure);
        }
        expected = found == expected ? before.value : found;
        return false;
    }
    order = order_of(site, order, failure, 'c', false);
    acquire(before, order);
    append(address, at, desired, order, &before.view);
    barrier(order);
    accesses::real_store(address, bytes, desired);
    return true;
}

void Machine::plain(const void *address, std::size_t bytes, bool write, const void *) {
    constexpr std::uintptr_t kGrain = 8;
    for (std::uintptr_t grain = as_number(address) / kGrain;
         grain <= (as_number(address) + bytes - 1) / kGrain; ++grain) {
        Plain &at = plain_[grain];
        View &known = view();
        const bool written_unseen = at.writer != 0 && at.writer - 1 != running_ &&
                                    known[clock_of(at.writer - 1)] < at.written;
        if (written_unseen) fail("a data race: an access meets another thread's write");
        if (!write) {
            at.reads[running_] = known[clock_of(running_)];
            continue;
        }
        for (const auto &[reader, time] : at.reads)
            if (reader != running_ && known[clock_of(reader)] < time)
                fail("a data race: a write meets another thread's read");
        at.reads.clear();
        at.writer = running_ + 1;
        at.written = known[clock_of(running_)];
    }
}

}  // namespace weak
