// The part of Runner that goes on with items which have suspended.
#include "runner.hpp"
#include "runtime.hpp"

namespace aiomq::py {
namespace {

/// What is asked of coroutines, futures and loops by name; made once, kept for good.
struct Names {
    PyObject *add_done_callback = PyUnicode_InternFromString("add_done_callback");
    PyObject *blocking = PyUnicode_InternFromString("_asyncio_future_blocking");
    PyObject *call_soon = PyUnicode_InternFromString("call_soon");
    PyObject *context = PyUnicode_InternFromString("context");
    PyObject *get_loop = PyUnicode_InternFromString("get_loop");
    PyObject *result = PyUnicode_InternFromString("result");
    PyObject *resume = PyUnicode_InternFromString("resume");
    PyObject *throw_in = PyUnicode_InternFromString("throw");
};

const Names &names() {
    static const Names made;
    return made;
}

Ref call_method(PyObject *object, PyObject *name) {
    return Ref(PyObject_CallMethodObjArgs(object, name, nullptr));
}

/// object.name(argument, context=context)
Ref call_in_context(PyObject *object, PyObject *name, PyObject *argument, PyObject *context) {
    const Ref method(PyObject_GetAttr(object, name));
    const Ref keywords(PyDict_New());
    if (!method || !keywords || PyDict_SetItem(keywords.get(), names().context, context) != 0) {
        return Ref();
    }
    PyObject *arguments[] = {nullptr, argument};
    return Ref(
        runtime.vectorcall_dict(method.get(), arguments + 1, 1 | kArgumentsOffset, keywords.get()));
}

}  // namespace

bool Runner::suspend(Account &account, std::uint32_t index, Ref item, const Ref &yielded) {
    const Ref number(PyLong_FromUnsignedLong(account.job));
    const Ref position(PyLong_FromUnsignedLong(index));
    Ref coroutine(slots_.coroutine.get(item.get()));
    Ref context(slots_.context.get(item.get()));
    if (!number || !position || !coroutine || !context ||
        !slots_.job.set(item.get(), number.get()) ||
        !slots_.index.set(item.get(), position.get())) {
        return false;
    }
    PyObject *kept = item.get();
    Suspended *made =
        make_suspended(self_, std::move(item), std::move(coroutine), std::move(context));
    if (made == nullptr) {
        return false;
    }
    made->account = &account;
    made->index = index;
    made->started_ns = account.timed ? started_ns_ : looked_ns_;
    made->next = account.suspended;  // which takes over the reference
    if (made->next != nullptr) {
        made->next->previous = made;
    }
    account.suspended = made;
    suspended_ += 1;
    if (account.timed &&
        !Ref(PyObject_CallFunctionObjArgs(hooks_.on_suspend.get(), kept, nullptr))) {
        return false;
    }
    return Ref(PyObject_CallFunctionObjArgs(hooks_.register_task.get(), kept, nullptr)) &&
           park(*made, yielded.get());
}

/// Has the loop go on with @suspended once what it has yielded is done.
bool Runner::park(Suspended &suspended, PyObject *yielded) {
    if (yielded == Py_None) {
        return resume_soon(suspended, Ref());
    }
    if (await_future(suspended, yielded)) {
        return true;
    }
    Ref error = PyErr_Occurred() != nullptr ? take_exception() : Ref();
    if (!error) {
        error = Ref(PyObject_CallMethod(suspended.item, "_misuse", "O", yielded));
    }
    return error && resume_soon(suspended, std::move(error));
}

/// False, perhaps with an exception: it is none that can be awaited.
bool Runner::await_future(Suspended &suspended, PyObject *future) {
    const Ref blocking(PyObject_GetAttr(future, names().blocking));
    if (!blocking) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError) != 0) {
            PyErr_Clear();
        }
        return false;
    }
    const Ref loop = call_method(future, names().get_loop);
    if (PyObject_IsTrue(blocking.get()) != 1 || loop.get() != hooks_.loop.get() ||
        future == suspended.item || PyObject_SetAttr(future, names().blocking, Py_False) != 0 ||
        !call_in_context(future, names().add_done_callback, &suspended.head, suspended.context) ||
        !slots_.waiter.set(suspended.item, future)) {
        return false;
    }
    const int cancelled = slots_.must_cancel.is_true(suspended.item);
    return cancelled == 0 ||
           (cancelled == 1 && Ref(PyObject_CallMethod(suspended.item, "_cancel_waiter", nullptr)));
}

/// Has the loop go on with @suspended after what is in its queue now, as call_soon() does.
bool Runner::resume_soon(Suspended &suspended, Ref error) {
    const bool joins = !batches_.empty() && is_newest_in_loop(newest_handle_.get());
    if (!joins) {
        const Ref method(PyObject_GetAttr(self_, names().resume));
        newest_handle_ = method ? call_in_context(hooks_.loop.get(), names().call_soon,
                                                  method.get(), hooks_.base_context.get())
                                : Ref();
        if (!newest_handle_) {
            return false;
        }
        batches_.emplace_back();
    }
    batches_.back().push_back({Ref::borrow(&suspended.head), std::move(error)});
    return true;
}

/// Whether nothing was put into the loop's queue after @handle.
bool Runner::is_newest_in_loop(PyObject *handle) const {
    const Py_ssize_t count = loop_queue_ ? PySequence_Size(loop_queue_.get()) : 0;
    if (count <= 0) {
        return false;
    }
    return Ref(PySequence_GetItem(loop_queue_.get(), count - 1)).get() == handle;
}

bool Runner::resume() {
    if (batches_.empty()) {
        return true;
    }
    std::vector<Resumption> batch = std::move(batches_.front());
    batches_.pop_front();
    for (Resumption &each : batch) {
        Suspended &suspended = suspended_of(each.suspended);
        const Ref context = Ref::borrow(suspended.context);
        if (suspended.account == nullptr) {
            continue;  // the Runner was cleared
        }
        if (runtime.context_enter(context.get()) != 0) {
            return false;
        }
        const bool done = step(suspended, std::move(each.error));
        if (!done || runtime.context_exit(context.get()) != 0) {
            return false;
        }
    }
    return tell_owner();
}

bool Runner::wake(Suspended &suspended, PyObject *future) {
    Ref error;
    if (!call_method(future, names().result)) {
        error = take_exception();
    }
    return step(suspended, std::move(error)) && tell_owner();
}

/// Runs an item to its next suspension or its end; its context is entered.
bool Runner::step(Suspended &suspended, Ref error) {
    const std::uint64_t start_ns = table_ ? monotonic_ns() : 0;
    const std::uint32_t function = suspended.account->function;
    PyObject *item = suspended.item;
    const int cancelled = slots_.must_cancel.is_true(item);
    if (cancelled < 0 || (cancelled == 1 && !cancel_at_once(item, error)) ||
        !slots_.waiter.set(item, Py_None) || !enter(item)) {
        return false;
    }
    aiomq_worker_enter(worker_, suspended.account->job, suspended.index);
    Step step = advance(suspended.coroutine, std::move(error));
    aiomq_worker_enter(worker_, UINT32_MAX, 0);
    if (!leave(item)) {
        return false;
    }
    if (table_) {
        table_.add(function, FunctionTable::kBusyNs, monotonic_ns() - start_ns);
    }
    return step.end == End::kSuspended ? park(suspended, step.value.get())
                                       : end(suspended, std::move(step));
}

/// The item was asked to stop: CancelledError is what it gets, whatever it has waited for.
bool Runner::cancel_at_once(PyObject *item, Ref &error) {
    const int already = error ? PyObject_IsInstance(error.get(), runtime.cancelled_error) : 0;
    if (already == 0) {
        error = Ref(PyObject_CallMethod(item, "_cancelled_error", nullptr));
    }
    return already >= 0 && error && slots_.must_cancel.set(item, Py_False);
}

/// Sends None, or throws @error. Leaves no exception set.
Runner::Step Runner::advance(PyObject *coroutine, Ref error) {
    PyObject *value = nullptr;
    if (!error) {
        switch (PyIter_Send(coroutine, Py_None, &value)) {
            case PYGEN_RETURN:
                return {End::kReturned, Ref(value)};
            case PYGEN_NEXT:
                return {End::kSuspended, Ref(value)};
            case PYGEN_ERROR:
                break;
        }
        return {End::kRaised, take_exception()};
    }
    value = PyObject_CallMethodObjArgs(coroutine, names().throw_in, error.get(), nullptr);
    if (value != nullptr) {
        return {End::kSuspended, Ref(value)};
    }
    const bool returned = PyErr_ExceptionMatches(PyExc_StopIteration) != 0;
    Ref raised = take_exception();
    if (returned) {
        return {End::kReturned, Ref(PyObject_GetAttrString(raised.get(), "value"))};
    }
    return {End::kRaised, std::move(raised)};
}

bool Runner::end(Suspended &suspended, Step step) {
    Account &account = *suspended.account;
    const std::uint32_t index = suspended.index;
    const Ref item = Ref::borrow(suspended.item);
    if (table_) {
        table_.add(account.function, FunctionTable::kCalls, 1);
        table_.add_times(account.function, FunctionTable::kSecond, FunctionTable::kSecondNs,
                         monotonic_ns() - suspended.started_ns, 1);
    }
    unlink(suspended);
    forget(suspended);
    freed_ = true;
    Outcome outcome;
    if (!outcome_of(item.get(), std::move(step), outcome) || !tell_item(item.get(), outcome) ||
        !publish(account, index, std::move(outcome))) {
        return false;
    }
    return !account.over || tell_over(account);
}

/// Takes @suspended out of what its job has suspended.
void Runner::unlink(Suspended &suspended) {
    const Ref reference(&suspended.head);
    (suspended.previous != nullptr ? suspended.previous->next : suspended.account->suspended) =
        suspended.next;
    if (suspended.next != nullptr) {
        suspended.next->previous = suspended.previous;
    }
    suspended.account = nullptr;
    suspended_ -= 1;
}

PyObject *Runner::items_of(std::uint32_t job) const {
    Ref items(PyList_New(0));
    const auto found = accounts_.find(job);
    if (items && found != accounts_.end()) {
        for (Suspended *each = found->second.suspended; each != nullptr; each = each->next) {
            if (PyList_Append(items.get(), each->item) != 0) {
                return nullptr;
            }
        }
    }
    return items.release();
}

/// If items have ended, others may run instead; not while outcomes wait for room.
bool Runner::tell_owner() {
    if (!freed_ || !waiting_.empty()) {
        return true;
    }
    freed_ = false;
    return static_cast<bool>(Ref(PyObject_CallFunctionObjArgs(hooks_.on_free.get(), nullptr)));
}

/// Tells the owner of the pending exception.
PyObject *Runner::fail() {
    const Ref error = take_exception();
    return PyObject_CallFunctionObjArgs(hooks_.on_failure.get(), error.get(), nullptr);
}

/// A job is over that no run() is at.
bool Runner::tell_over(Account &account) {
    const Ref number(PyLong_FromUnsignedLong(account.job));
    close(account);
    return number && Ref(PyObject_CallFunctionObjArgs(hooks_.on_over.get(), number.get(), nullptr));
}

}  // namespace aiomq::py
