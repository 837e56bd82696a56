#include "runner_type.hpp"

#include <algorithm>
#include <limits>
#include <memory>

#include "arguments_type.hpp"
#include "parameters.hpp"
#include "runner.hpp"
#include "runtime.hpp"

namespace aiomq::py {
namespace {

struct Object {
    PyObject head;
    Runner *runner;
};

Runner *held(PyObject *self) { return reinterpret_cast<Object *>(self)->runner; }

PyObject *create(PyTypeObject *cls, PyObject *args, PyObject *kwargs) {
    static const char *const kNames[] = {"worker",     "loop",       "item_class",
                                         "enter_task", "leave_task", "on_suspend",
                                         "on_trouble", "page",       nullptr};
    PyObject *given[8] = {};
    if (PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOOO|O", const_cast<char **>(kNames),
                                    &given[0], &given[1], &given[2], &given[3], &given[4],
                                    &given[5], &given[6], &given[7]) == 0) {
        return nullptr;
    }
    void *worker = nullptr;
    void *table = nullptr;
    const bool counts = given[7] != nullptr && given[7] != Py_None;
    const Ref address(counts ? PyObject_CallMethod(given[7], "address", nullptr) : nullptr);
    if (!to_address(given[0], &worker) || (counts && !address) ||
        (address && !to_address(address.get(), &table))) {
        return nullptr;
    }
    return guarded([&]() -> PyObject * {
        RunnerHooks hooks{Ref::borrow(given[1]),
                          Ref::borrow(given[2]),
                          Ref::borrow(given[3]),
                          Ref::borrow(given[4]),
                          Ref::borrow(given[5]),
                          Ref::borrow(given[6]),
                          Ref(runtime.context_copy_current())};
        if (!hooks.base_context) {
            return nullptr;
        }
        auto runner = std::make_unique<Runner>(static_cast<aiomq_worker *>(worker),
                                               std::move(hooks), FunctionTable(table));
        if (!runner->init()) {
            return nullptr;
        }
        auto allocate = reinterpret_cast<allocfunc>(PyType_GetSlot(cls, Py_tp_alloc));
        PyObject *self = allocate(cls, 0);
        if (self != nullptr) {
            reinterpret_cast<Object *>(self)->runner = runner.release();
        }
        return self;
    });
}

int traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    if (Runner *runner = held(self); runner != nullptr) {
        const RunnerHooks &hooks = runner->hooks();
        for (const Ref *ref : {&hooks.loop, &hooks.item_class, &hooks.enter_task, &hooks.leave_task,
                               &hooks.on_suspend, &hooks.on_trouble, &hooks.base_context}) {
            Py_VISIT(ref->get());
        }
        Py_VISIT(runner->spare());
        Py_VISIT(runner->shared_context());
    }
    return 0;
}

int clear(PyObject *self) {
    if (held(self) != nullptr) {
        held(self)->clear();
    }
    return 0;
}

void destroy(PyObject *self) {
    PyTypeObject *cls = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    delete held(self);
    auto free_memory = reinterpret_cast<freefunc>(PyType_GetSlot(cls, Py_tp_free));
    free_memory(self);
    Py_DECREF(cls);
}

bool to_permits(PyObject *object, std::uint32_t &permits) {
    std::int64_t number = 0;
    if (!to_integer(object, &number)) {
        return false;
    }
    constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
    permits = static_cast<std::uint32_t>(std::clamp<std::int64_t>(number, 0, kMost));
    return true;
}

PyObject *run(PyObject *self, PyObject *const *values, Py_ssize_t count, PyObject *keywords) {
    PyObject *given[10];
    Runner::Job job{};
    std::uint32_t permits = 0;
    std::uint64_t deadline_ns = 0;
    if (!parse("run", {values, count, keywords},
               {"job", "function", "arguments", "first_index", "permits", "deadline_ns", "plain",
                "timed", "shared", "number"},
               4, given) ||
        !to_number(given[0], &job.number) || !to_number(given[3], &job.first_index) ||
        !to_permits(given[4], permits) || !to_number(given[5], &deadline_ns)) {
        return nullptr;
    }
    if (given[9] != nullptr && !to_number(given[9], &job.function_number)) {
        return nullptr;
    }
    job.function = given[1];
    job.arguments = arguments_of(given[2]);
    if (job.arguments == nullptr) {
        return nullptr;
    }
    const int plain = given[6] != nullptr ? PyObject_IsTrue(given[6]) : 0;
    const int timed = given[7] != nullptr ? PyObject_IsTrue(given[7]) : 0;
    const int shared = given[8] != nullptr ? PyObject_IsTrue(given[8]) : 0;
    if (plain < 0 || timed < 0 || shared < 0) {
        return nullptr;
    }
    job.plain = plain != 0;
    job.timed = timed != 0;
    job.shared = shared != 0;
    return guarded([&]() -> PyObject * {
        Runner::Result result{};
        if (!held(self)->run(job, permits, deadline_ns, result)) {
            return nullptr;
        }
        return Py_BuildValue("(iI)", result.reason, result.suspended);
    });
}

/// Runs before and after each step of a suspended item, so it takes positions only.
PyObject *enter(PyObject *self, PyObject *const *values, Py_ssize_t count) {
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "enter() takes a job and an index");
        return nullptr;
    }
    std::uint32_t job = 0;
    std::uint32_t index = 0;
    if (!to_number(values[0], &job) || !to_number(values[1], &index)) {
        return nullptr;
    }
    held(self)->enter_item(job, index);  // whatever it says: it is for diagnosis only
    Py_INCREF(Py_None);
    return Py_None;
}

/// Runs for each item that had suspended, so it takes positions only.
PyObject *count_ended(PyObject *self, PyObject *const *values, Py_ssize_t count) {
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "count_ended() takes four arguments");
        return nullptr;
    }
    std::uint32_t function = 0;
    std::uint64_t started_ns = 0;
    std::uint64_t busy_ns = 0;
    if (!to_number(values[0], &function) || !to_number(values[1], &started_ns) ||
        !to_number(values[2], &busy_ns)) {
        return nullptr;
    }
    held(self)->count_ended(function, started_ns, busy_ns, values[3] == Py_True);
    Py_INCREF(Py_None);
    return Py_None;
}

PyObject *get_started_ns(PyObject *self, void * /*closure*/) {
    return PyLong_FromUnsignedLongLong(held(self)->started_ns());
}

PyObject *get_looked_ns(PyObject *self, void * /*closure*/) {
    return PyLong_FromUnsignedLongLong(held(self)->looked_ns());
}

PyObject *get_index(PyObject *self, void * /*closure*/) {
    return PyLong_FromUnsignedLong(held(self)->index());
}

PyObject *get_base_context(PyObject *self, void * /*closure*/) {
    return Ref::borrow(held(self)->hooks().base_context.get()).release();
}

int set_base_context(PyObject *self, PyObject *value, void * /*closure*/) {
    // Only a Context can be copied; find out now rather than in the loop.
    Ref copy(value != nullptr ? runtime.context_copy(value) : nullptr);
    if (!copy) {
        if (PyErr_Occurred() == nullptr) {
            PyErr_SetString(PyExc_AttributeError, "base_context can't be deleted");
        }
        return -1;
    }
    held(self)->hooks().base_context = std::move(copy);
    return 0;
}

PyMethodDef methods[] = {
    {"run", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(run)),
     METH_FASTCALL | METH_KEYWORDS,
     "run(job, function, arguments, first_index, permits, deadline_ns, plain=False, timed=False,"
     " shared=False, number=0)"
     " -> (reason, suspended)"},
    {"enter", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(enter)), METH_FASTCALL,
     "enter(job, index): which item runs now"},
    {"count_ended", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(count_ended)),
     METH_FASTCALL,
     "count_ended(function, started_ns, busy_ns, raised): an item that had suspended has ended"},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef properties[] = {
    {"index", get_index, nullptr, "of the item that was started last", nullptr},
    {"looked_ns", get_looked_ns, nullptr, "of the last look at the clock before it", nullptr},
    {"started_ns", get_started_ns, nullptr, "when the newest item of a timed job started", nullptr},
    {"base_context", get_base_context, set_base_context, "copied for each item", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>("Runner(worker, loop, item_class, enter_task, leave_task,"
                                   " on_suspend, on_trouble)\n\nThe item loop of a worker.")},
    {Py_tp_new, reinterpret_cast<void *>(create)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_dealloc, reinterpret_cast<void *>(destroy)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, nullptr},
};

PyType_Spec spec = {"aiomq._bridge.Runner", sizeof(Object), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};

}  // namespace

PyObject *make_runner_type() { return PyType_FromSpec(&spec); }

}  // namespace aiomq::py
