#include "runner.hpp"

#include <cerrno>

#include "result.hpp"
#include "runtime.hpp"
#include "stopwatch.hpp"

namespace aiomq::py {
namespace {

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

/// Keeps a job's account while its items run, and the Runner from being entered again.
class Runner::Hold {
  public:
    Hold(Runner &runner, const Job &job) : runner_(runner), account_(runner.accounts_[job.number]) {
        runner_.active_ = true;
        account_.job = job.number;
        account_.function = job.function_number;
        account_.timed = job.timed;
    }
    ~Hold() {
        runner_.active_ = false;
        if (account_.over) {
            runner_.close(account_);
        }
    }
    Hold(const Hold &) = delete;
    Hold &operator=(const Hold &) = delete;
    Account &account() { return account_; }

  private:
    Runner &runner_;
    Account &account_;
};

bool Runner::init() {
    loop_queue_ = Ref(PyObject_GetAttrString(hooks_.loop.get(), "_ready"));
    if (!loop_queue_) {
        PyErr_Clear();  // not one of asyncio's own loops
    }
    return slots_.init(hooks_.item_class.get());
}

int Runner::traverse(visitproc visit, void *arg) const {
    for (const Ref *ref :
         {&hooks_.loop, &hooks_.item_class, &hooks_.enter_task, &hooks_.leave_task,
          &hooks_.register_task, &hooks_.report, &hooks_.on_suspend, &hooks_.on_end,
          &hooks_.on_free, &hooks_.on_over, &hooks_.on_failure, &hooks_.base_context,
          &shared_context_, &spare_, &newest_handle_, &loop_queue_}) {
        Py_VISIT(ref->get());
    }
    if (const int stop = item_context_.traverse(visit, arg); stop != 0) {
        return stop;
    }
    for (const auto &[job, account] : accounts_) {
        for (Suspended *each = account.suspended; each != nullptr; each = each->next) {
            Py_VISIT(&each->head);
        }
    }
    for (const auto &batch : batches_) {
        for (const Resumption &each : batch) {
            Py_VISIT(each.suspended.get());
            Py_VISIT(each.error.get());
        }
    }
    for (const Waiting &each : waiting_) {
        Py_VISIT(each.outcome.value.get());
    }
    return 0;
}

void Runner::clear() {
    spare_ = Ref();
    shared_context_ = Ref();
    newest_handle_ = Ref();
    loop_queue_ = Ref();
    const auto batches = std::move(batches_);
    batches_.clear();
    const auto waiting = std::move(waiting_);
    waiting_.clear();
    while (!accounts_.empty()) {
        Account &account = accounts_.begin()->second;
        if (account.suspended != nullptr) {
            unlink(*account.suspended);
        } else {
            accounts_.erase(accounts_.begin());
        }
    }
    hooks_ = RunnerHooks{};
}

bool Runner::run(const Job &job, std::uint32_t permits, std::uint64_t deadline_ns, Result &ret) {
    if (active_ || !hooks_.loop) {
        PyErr_SetString(PyExc_RuntimeError, "the item loop is running already");
        return false;
    }
    Hold hold(*this, job);
    const std::uint32_t before = suspended_;
    const bool done = job.plain && job.shared
                          ? run_in_shared_context(job, hold.account(), permits, deadline_ns, ret)
                          : loop(job, hold.account(), permits, deadline_ns, ret);
    if (!item_context_.leave() || !done) {
        return false;
    }
    ret.suspended = suspended_ - before;
    aiomq_worker_enter(worker_, UINT32_MAX, 0);
    // What the last item's context holds must not live until the next job.
    return !spare_ || slots_.context.set(spare_.get(), Py_None);
}

bool Runner::run_in_shared_context(const Job &job, Account &account, std::uint32_t permits,
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

// Flattened: the work for a tiny item is not much more than the calls between these functions would be.
[[gnu::flatten]] bool Runner::loop(const Job &job, Account &account, std::uint32_t permits,
                                   std::uint64_t deadline_ns, Result &ret) {
    ret = {kOver, 0};
    next_ = UINT32_MAX;
    Stopwatch watch(table_, job.function_number, deadline_ns, looked_ns_);
    const std::uint32_t before = suspended_;
    while (!account.over) {
        std::uint32_t index = std::exchange(next_, UINT32_MAX);
        const bool is_late = watch.passed();  // never if one has started
        if (index == UINT32_MAX && suspended_ - before >= permits) {
            ret.reason = kPermitsUsed;
            return true;
        }
        if (index == UINT32_MAX && is_late) {
            ret.reason = kDeadline;
            return true;
        }
        const int error = index == UINT32_MAX ? aiomq_worker_start(worker_, job.number, &index) : 0;
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
        const std::uint32_t suspended = suspended_;
        followed_ = watch.is_due() || job.timed ? nullptr : &account;
        const bool done = run_item(job, account, index);
        followed_ = nullptr;  // an item that has suspended ends elsewhere
        if (!done) {
            return false;
        }
        if (suspended_ == suspended) {
            watch.ended();
        }
        if (!waiting_.empty() && next_ == UINT32_MAX) {
            ret.reason = account.over ? kOver : -ENOMEM;
            return true;
        }
    }
    return true;
}

bool Runner::run_item(const Job &job, Account &account, std::uint32_t index) {
    CallArguments call;
    // What unpickling sets is seen by nobody: run_plain() looks again.
    if (job.plain && !job.shared && !item_context_.enter(hooks_.base_context.get())) {
        return false;
    }
    if (!job.arguments->get(index, call)) {
        return publish(account, index, {AIOMQ_ERROR, false, take_exception()});
    }
    return job.plain ? run_plain(job, account, index, call) : run_task(job, account, index, call);
}

bool Runner::run_plain(const Job &job, Account &account, std::uint32_t index, CallArguments &call) {
    if (!job.shared && !item_context_.enter(hooks_.base_context.get())) {
        return false;
    }
    Ref result(call.call(job.function));
    Ref exception(result ? Ref() : take_exception());
    call.clear();  // views among them are to go back before the outcome tells that the task is over
    if (result && is_plain_value(result.get())) {
        return (job.shared || item_context_.check()) &&
               publish(account, index, {AIOMQ_OK, false, std::move(result)});
    }
    if (result) {
        Ref context = job.shared ? Ref(runtime.context_copy_current()) : item_context_.take();
        return context && run_awaitable(account, index, std::move(context), std::move(result));
    }
    return item_context_.leave() &&
           settle(account, index, Ref(), {End::kRaised, std::move(exception)});
}

bool Runner::run_task(const Job &job, Account &account, std::uint32_t index, CallArguments &call) {
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
    return settle(account, index, std::move(item), std::move(step));
}

// A plain function returned something that may have to be awaited: then it is run as a coroutine, from
// here on as a task, in the context that it was made in.
bool Runner::run_awaitable(Account &account, std::uint32_t index, Ref context, Ref awaitable) {
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
    return settle(account, index, std::move(item), std::move(step));
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
    return advance(result.get(), Ref());
}

bool Runner::settle(Account &account, std::uint32_t index, Ref item, Step step) {
    if (step.end == End::kSuspended) {
        return suspend(account, index, std::move(item), step.value);
    }
    Outcome outcome;
    return outcome_of(item.get(), std::move(step), outcome) &&
           (!item || retire(std::move(item), outcome)) &&
           publish(account, index, std::move(outcome));
}

/// @item: null if there is none.
bool Runner::outcome_of(PyObject *item, Step step, Outcome &ret) {
    const int touched = item != nullptr ? slots_.touched.is_true(item) : 0;
    const int cancelled = touched == 1 ? slots_.must_cancel.is_true(item) : 0;
    if (touched < 0 || cancelled < 0) {
        return false;
    }
    ret.touched = touched == 1;
    if (step.end == End::kRaised) {
        const int is_cancel = PyObject_IsInstance(step.value.get(), runtime.cancelled_error);
        if (is_cancel < 0) {
            return false;
        }
        ret.status = is_cancel != 0 ? AIOMQ_CANCELLED : AIOMQ_ERROR;
    } else if (cancelled != 0) {
        ret.status = AIOMQ_CANCELLED;  // it returned although it was asked to stop, as asyncio does
    }
    ret.value = ret.status == AIOMQ_CANCELLED ? Ref::borrow(Py_None) : std::move(step.value);
    return true;
}

/// Keeps @item, which has ended in its first step, for the next one, if nobody can tell; else tells it
/// how it ended.
bool Runner::retire(Ref item, Outcome &outcome) {
    if (!outcome.touched && Py_REFCNT(item.get()) == 1) {
        const int weak = slots_.weak.is_set(item.get());
        if (weak < 0) {
            return false;
        }
        if (weak == 0) {
            spare_ = std::move(item);
            return slots_.coroutine.set(spare_.get(), Py_None);
        }
    }
    return tell_item(item.get(), outcome);
}

/// Tells an item how it ended, and the owner, if that wants to know; what the owner says counts.
bool Runner::tell_item(PyObject *item, Outcome &outcome) {
    const Ref status(PyLong_FromLong(outcome.status));
    if (!status) {
        return false;
    }
    if (!outcome.touched) {
        return slots_.status.set(item, status.get()) && slots_.value.set(item, outcome.value.get());
    }
    const Ref watched(
        PyObject_CallMethod(item, "_finish", "OO", status.get(), outcome.value.get()));
    if (!watched || watched.get() != Py_True) {
        return static_cast<bool>(watched);
    }
    const Ref told(PyObject_CallFunctionObjArgs(hooks_.on_end.get(), item, nullptr));
    unsigned short changed = 0;
    PyObject *value = nullptr;
    if (!told || PyArg_ParseTuple(told.get(), "HO", &changed, &value) == 0) {
        return false;
    }
    outcome.status = changed;
    outcome.value = Ref::borrow(value);
    return true;
}

/// Publishes an outcome, or keeps it until there is room.
bool Runner::publish(Account &account, std::uint32_t index, Outcome outcome) {
    if (outcome.status == AIOMQ_ERROR && !report(account, outcome)) {
        return false;
    }
    if (waiting_.empty() && !put(account, index, outcome)) {
        return false;
    }
    if (outcome.value) {
        waiting_.push_back({&account, index, std::move(outcome)});
    }
    return true;
}

bool Runner::publish_waiting() {
    while (!waiting_.empty()) {
        Waiting &next = waiting_.front();
        Account &account = *next.account;
        if (!put(account, next.index, next.outcome)) {
            return false;
        }
        if (next.outcome.value) {
            return true;
        }
        waiting_.pop_front();
        if (account.over && !tell_over(account)) {
            return false;
        }
    }
    return true;
}

/// Publishes @outcome, which carries a report if it is an error, and takes its value away; leaves it if
/// there is no room now.
bool Runner::put(Account &account, std::uint32_t index, Outcome &outcome) {
    while (true) {
        const bool is_error = outcome.status == AIOMQ_ERROR;
        // Not for an item that ends while another one runs.
        std::uint32_t *next = followed_ == &account && index == index_ ? &next_ : nullptr;
        const int result = is_error ? fail_item(worker_, account.job, index, outcome.value.get())
                                    : complete_item(worker_, account.job, index, outcome.status,
                                                    outcome.value.get(), next);
        if (result == 0 || result == 1) {
            account.running -= 1;
            account.over = result == 1;
            outcome.value = Ref();
            return true;
        }
        if (result == -ENOMEM) {
            return true;
        }
        if (result != kRaised) {
            errno = -result;
            PyErr_SetFromErrno(PyExc_OSError);
        }
        if (is_error || result != kRaised) {
            return false;
        }
        outcome.value = take_exception();
        outcome.status = AIOMQ_ERROR;
        if (!report(account, outcome)) {
            return false;
        }
    }
}

/// Puts the owner's report in place of the exception.
bool Runner::report(const Account &account, Outcome &outcome) {
    if (!outcome.value) {
        return false;
    }
    if (table_) {
        table_.add(account.function, FunctionTable::kErrors, 1);
    }
    outcome.value =
        Ref(PyObject_CallFunctionObjArgs(hooks_.report.get(), outcome.value.get(), nullptr));
    return static_cast<bool>(outcome.value);
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
