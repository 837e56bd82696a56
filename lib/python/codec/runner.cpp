#include "runner.hpp"

#include <algorithm>
#include <cerrno>

#include "result.hpp"
#include "runtime.hpp"

namespace aiomq::py {
namespace {

/// Looks at the clock after every item while items are slow, after every 16th while they are fast.
/// What a look finds to have ended since the last one has taken the mean of the time in between.
class Stopwatch {
  public:
    /// @last_ns: gets the time of each look.
    Stopwatch(const FunctionTable &table, std::uint32_t function, std::uint64_t end_ns,
              std::uint64_t &last_ns)
        : table_(table), function_(function), end_ns_(end_ns), last_ns_(last_ns) {
        last_ns_ = monotonic_ns();
    }
    ~Stopwatch() {
        if (table_ && ended_ != 0) {
            look();
        }
    }
    Stopwatch(const Stopwatch &) = delete;
    Stopwatch &operator=(const Stopwatch &) = delete;

    /// Before an item: whether the time is over.
    bool passed() {
        if (--left_ != 0) {
            return false;
        }
        const std::uint64_t before = last_ns_;
        look();
        const bool fast = stride_ != 0 && last_ns_ - before < kFastNs;
        stride_ = fast ? std::min(stride_ * 2, kMostItems) : 1;
        left_ = stride_;
        return last_ns_ >= end_ns_;
    }
    /// An item has ended in its first step.
    void ended() { ++ended_; }

  private:
    static constexpr std::uint64_t kFastNs = 100'000;
    static constexpr unsigned kMostItems = 16;

    void look() {
        const std::uint64_t now = monotonic_ns();
        if (table_ && ended_ != 0) {
            table_.add(function_, FunctionTable::kCalls, ended_);
            table_.add_times(function_, FunctionTable::kSecond, FunctionTable::kSecondNs,
                             now - last_ns_, ended_);
        }
        ended_ = 0;
        last_ns_ = now;
    }

    const FunctionTable &table_;
    std::uint32_t function_;
    std::uint64_t end_ns_;
    std::uint64_t &last_ns_;
    std::uint32_t ended_ = 0;
    unsigned stride_ = 0;  // no item yet
    unsigned left_ = 1;
};

/// Keeps a job's account while its items run, and the Runner from being entered again.
class Hold {
  public:
    Hold(bool &active, std::uint32_t job) : active_(active), job_(job), account_(ledger_open(job)) {
        active_ = true;
        ledger_hold(job, account_);
    }
    ~Hold() {
        active_ = false;
        ledger_unhold();
        if (account_.over) {
            ledger_close(job_);
        }
    }
    Hold(const Hold &) = delete;
    Hold &operator=(const Hold &) = delete;
    JobAccount &account() { return account_; }

  private:
    bool &active_;
    std::uint32_t job_;
    JobAccount &account_;
};

Ref call_two(PyObject *callable, PyObject *first, PyObject *second) {
    PyObject *arguments[] = {nullptr, first, second};
    return Ref(runtime.vectorcall(callable, arguments + 1, 2 | kArgumentsOffset, nullptr));
}

/// Whether @value is certainly nothing to await. Cheap; other types are looked at in Python.
bool is_plain_value(PyObject *value) {
    PyTypeObject *type = Py_TYPE(value);
    if (value == Py_None || type == &PyLong_Type || type == &PyUnicode_Type ||
        type == &PyFloat_Type || type == &PyDict_Type || type == &PyList_Type ||
        type == &PyTuple_Type || type == &PyBytes_Type) {
        return true;
    }
    // Generators may be coroutines of types.coroutine().
    return reinterpret_cast<PyObject *>(type) != runtime.generator_type &&
           PyType_GetSlot(type, Py_am_await) == nullptr;
}

}  // namespace

void Runner::clear() {
    spare_ = Ref();
    shared_context_ = Ref();
    waiting_.clear();
    hooks_ = RunnerHooks{};
}

bool Runner::run(const Job &job, std::uint32_t permits, std::uint64_t deadline_ns, Result &ret) {
    if (active_ || !hooks_.loop) {
        PyErr_SetString(PyExc_RuntimeError, "the item loop is running already");
        return false;
    }
    Hold hold(active_, job.number);
    const bool done = job.plain && job.shared
                          ? run_in_shared_context(job, hold.account(), permits, deadline_ns, ret)
                          : loop(job, hold.account(), permits, deadline_ns, ret);
    if (!done) {
        return false;
    }
    enter_item(UINT32_MAX, 0);
    // What the last item's context holds must not live until the next job.
    return !spare_ || slots_.context.set(spare_.get(), Py_None);
}

bool Runner::run_in_shared_context(const Job &job, JobAccount &account, std::uint32_t permits,
                                   std::uint64_t deadline_ns, Result &ret) {
    if (!shared_context_) {
        shared_context_ = copy_context();
    }
    if (!shared_context_ || runtime.context_enter(shared_context_.get()) != 0) {
        return false;
    }
    const bool done = loop(job, account, permits, deadline_ns, ret);
    const Ref raised(done ? Ref() : take_exception());
    if (runtime.context_exit(shared_context_.get()) != 0) {
        return false;
    }
    if (raised) {
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(raised.get())), raised.get());
    }
    return done;
}

bool Runner::loop(const Job &job, JobAccount &account, std::uint32_t permits,
                  std::uint64_t deadline_ns, Result &ret) {
    ret = {kOver, 0};
    Stopwatch watch(table_, job.function_number, deadline_ns, looked_ns_);
    if (!waiting_.empty() && !publish_waiting(job, ret)) {
        return false;
    }
    while (ret.reason == 0 && !account.over) {
        if (ret.suspended >= permits) {
            ret.reason = kPermitsUsed;
            return true;
        }
        if (watch.passed()) {
            ret.reason = kDeadline;
            return true;
        }
        std::uint32_t index = 0;
        const int error = aiomq_worker_start(worker_, job.number, &index);
        if (error == -ENODATA) {
            account.over = account.running == 0;
            ret.reason = account.over ? kOver : kAllStarted;
            return true;
        }
        if (error != 0) {
            ret.reason = error;
            return true;
        }
        if (index < job.first_index) {
            ret.reason = -EBADMSG;  // it belongs to an attempt before this one
            return true;
        }
        account.running += 1;
        index_ = index;
        if (job.timed) {
            started_ns_ = monotonic_ns();
        }
        const std::uint32_t suspended = ret.suspended;
        if (!run_item(job, index, ret)) {
            return false;
        }
        if (ret.suspended == suspended) {
            watch.ended();
        }
    }
    return true;
}

bool Runner::run_item(const Job &job, std::uint32_t index, Result &ret) {
    CallArguments call;
    if (!job.arguments->get(index, call)) {
        return trouble(job, index, take_exception());
    }
    return job.plain ? run_plain(job, index, call, ret) : run_task(job, index, call, ret);
}

bool Runner::run_plain(const Job &job, std::uint32_t index, CallArguments &call, Result &ret) {
    Ref context;
    if (!job.shared) {
        context = copy_context();
        if (!context || runtime.context_enter(context.get()) != 0) {
            return false;
        }
    }
    Ref result(call.call(job.function));
    Ref exception(result ? Ref() : take_exception());
    call.clear();  // views among them are to go back before the outcome tells that the task is over
    if (context && runtime.context_exit(context.get()) != 0) {
        return false;
    }
    if (!result) {
        return settle(job, index, Ref(), {End::kRaised, std::move(exception)}, ret);
    }
    if (is_plain_value(result.get())) {
        return finish(job, index, AIOMQ_OK, std::move(result), ret);
    }
    if (!context) {
        context = Ref(runtime.context_copy_current());
    }
    return run_awaitable(job, index, std::move(context), std::move(result), ret);
}

bool Runner::run_task(const Job &job, std::uint32_t index, CallArguments &call, Result &ret) {
    Ref item = take_item();
    const Ref context = copy_context();
    if (!item || !context || !slots_.context.set(item.get(), context.get()) || !enter(item.get())) {
        return false;
    }
    if (runtime.context_enter(context.get()) != 0) {
        return false;
    }
    Step step = first_step(item.get(), Ref(call.call(job.function)));
    if (runtime.context_exit(context.get()) != 0 || !leave(item.get())) {
        return false;
    }
    call.clear();
    return settle(job, index, std::move(item), std::move(step), ret);
}

// A plain function returned something that may have to be awaited: then it is run as a coroutine, from
// here on as a task, in the context that it was made in.
bool Runner::run_awaitable(const Job &job, std::uint32_t index, Ref context, Ref awaitable,
                           Result &ret) {
    Ref item = take_item();
    if (!item || !slots_.context.set(item.get(), context.get()) || !enter(item.get())) {
        return false;
    }
    if (runtime.context_enter(context.get()) != 0) {
        return false;
    }
    Step step = first_step(item.get(), std::move(awaitable));
    if (runtime.context_exit(context.get()) != 0 || !leave(item.get())) {
        return false;
    }
    return settle(job, index, std::move(item), std::move(step), ret);
}

/// Goes on with what the function returned (null: it raised). Leaves no exception set.
Runner::Step Runner::first_step(PyObject *item, Ref result) {
    if (result && reinterpret_cast<PyObject *>(Py_TYPE(result.get())) != runtime.coroutine_type) {
        if (is_plain_value(result.get())) {
            return {End::kReturned, std::move(result)};
        }
        Ref coroutine(PyObject_CallFunctionObjArgs(runtime.as_coroutine, result.get(), nullptr));
        if (coroutine && coroutine.get() == Py_None) {
            return {End::kReturned, std::move(result)};
        }
        result = std::move(coroutine);
    }
    if (!result || !slots_.coroutine.set(item, result.get())) {
        return {End::kRaised, take_exception()};
    }
    PyObject *value = nullptr;
    switch (PyIter_Send(result.get(), Py_None, &value)) {
        case PYGEN_RETURN:
            return {End::kReturned, Ref(value)};
        case PYGEN_NEXT:
            return {End::kSuspended, Ref(value)};
        case PYGEN_ERROR:
            break;
    }
    return {End::kRaised, take_exception()};
}

bool Runner::settle(const Job &job, std::uint32_t index, Ref item, Step step, Result &ret) {
    if (step.end == End::kSuspended) {
        return suspend(job, index, std::move(item), step.value, ret);
    }
    std::uint16_t status = AIOMQ_OK;
    if (step.end == End::kRaised) {
        const int cancelled = PyObject_IsInstance(step.value.get(), runtime.cancelled_error);
        if (cancelled < 0) {
            return false;
        }
        status = cancelled != 0 ? AIOMQ_CANCELLED : AIOMQ_ERROR;
    }
    if (item) {
        const int touched = slots_.touched.is_true(item.get());
        const int cancel = touched == 1 ? slots_.must_cancel.is_true(item.get()) : 0;
        if (touched < 0 || cancel < 0) {
            return false;
        }
        if (cancel != 0 && status == AIOMQ_OK) {
            status = AIOMQ_CANCELLED;  // it returned although it was asked to stop: as asyncio does
        }
        if (!retire(std::move(item), touched != 0, status, step.value.get())) {
            return false;
        }
    }
    if (status == AIOMQ_ERROR) {
        return trouble(job, index, std::move(step.value));
    }
    if (status == AIOMQ_CANCELLED) {
        step.value = Ref::borrow(Py_None);
    }
    return finish(job, index, status, std::move(step.value), ret);
}

bool Runner::suspend(const Job &job, std::uint32_t index, Ref item, const Ref &yielded,
                     Result &ret) {
    const Ref number(PyLong_FromUnsignedLong(job.number));
    const Ref position(PyLong_FromUnsignedLong(index));
    if (!number || !position || !slots_.job.set(item.get(), number.get()) ||
        !slots_.index.set(item.get(), position.get())) {
        return false;
    }
    ret.suspended += 1;
    PyObject *arguments[] = {nullptr, item.get(), number.get(), position.get(), yielded.get()};
    const Ref done(
        runtime.vectorcall(hooks_.on_suspend.get(), arguments + 1, 4 | kArgumentsOffset, nullptr));
    return static_cast<bool>(done);
}

/// Keeps @item for the next one, if nobody can tell; else tells it how it ended.
bool Runner::retire(Ref item, bool touched, int status, PyObject *value) {
    if (!touched && Py_REFCNT(item.get()) == 1) {
        const int weak = slots_.weak.is_set(item.get());
        if (weak < 0) {
            return false;
        }
        if (weak == 0) {
            spare_ = std::move(item);
            return slots_.coroutine.set(spare_.get(), Py_None);
        }
    }
    const Ref done(PyObject_CallMethod(item.get(), "_finish", "iO", status, value));
    return static_cast<bool>(done);
}

bool Runner::finish(const Job &job, std::uint32_t index, std::uint16_t status, Ref value,
                    Result &ret) {
    const int result = complete_item(worker_, job.number, index, status, value.get());
    if (result == 0 || result == 1) {
        return true;
    }
    if (result == kRaised) {
        return trouble(job, index, take_exception());
    }
    if (result == -EMSGSIZE) {
        // Without a cause: it was encoded, but does not fit into the pool's memory.
        return trouble(job, index,
                       Ref(PyObject_CallFunction(runtime.encode_error, "s", "the result")));
    }
    if (result == -ENOMEM) {
        waiting_[job.number].push_back({index, status, std::move(value)});
    }
    ret.reason = result;
    return true;
}

bool Runner::trouble(const Job &job, std::uint32_t index, Ref exception) {
    if (!exception) {
        return false;
    }
    if (table_) {
        table_.add(job.function_number, FunctionTable::kErrors, 1);
    }
    const Ref done(
        PyObject_CallFunction(hooks_.on_trouble.get(), "IIO", job.number, index, exception.get()));
    return static_cast<bool>(done);
}

bool Runner::publish_waiting(const Job &job, Result &ret) {
    const auto found = waiting_.find(job.number);
    if (found == waiting_.end()) {
        return true;
    }
    std::vector<Waiting> waiting = std::move(found->second);
    waiting_.erase(found);
    for (Waiting &entry : waiting) {
        // Once one found no room, the others go back in line.
        if (ret.reason != 0) {
            waiting_[job.number].push_back(std::move(entry));
        } else if (!finish(job, entry.index, entry.status, std::move(entry.value), ret)) {
            return false;
        }
    }
    return true;
}

void Runner::count_ended(std::uint32_t function, std::uint64_t started_ns, std::uint64_t busy_ns,
                         bool raised) const {
    if (!table_) {
        return;
    }
    table_.add(function, FunctionTable::kCalls, 1);
    table_.add(function, FunctionTable::kBusyNs, busy_ns);
    table_.add_times(function, FunctionTable::kSecond, FunctionTable::kSecondNs,
                     monotonic_ns() - started_ns, 1);
    if (raised) {
        table_.add(function, FunctionTable::kErrors, 1);
    }
}

Ref Runner::take_item() {
    if (spare_) {
        return std::move(spare_);
    }
    return Ref(PyObject_CallFunctionObjArgs(hooks_.item_class.get(), hooks_.loop.get(), nullptr));
}

bool Runner::enter(PyObject *item) {
    return static_cast<bool>(call_two(hooks_.enter_task.get(), hooks_.loop.get(), item));
}

bool Runner::leave(PyObject *item) {
    return static_cast<bool>(call_two(hooks_.leave_task.get(), hooks_.loop.get(), item));
}

Ref Runner::copy_context() const { return Ref(runtime.context_copy(hooks_.base_context.get())); }

}  // namespace aiomq::py
