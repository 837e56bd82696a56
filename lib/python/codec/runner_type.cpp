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

/// Fills in what @owner has under the names of the hooks. False with an exception set.
bool take_hooks(PyObject *owner, RunnerHooks &hooks) {
    struct Named {
        const char *name;
        Ref &hook;
    };
    for (const Named &each :
         {Named{"report", hooks.report}, Named{"on_suspend", hooks.on_suspend},
          Named{"on_end", hooks.on_end}, Named{"on_free", hooks.on_free},
          Named{"on_over", hooks.on_over}, Named{"on_failure", hooks.on_failure}}) {
        each.hook = Ref(PyObject_GetAttrString(owner, each.name));
        if (!each.hook) {
            return false;
        }
    }
    hooks.base_context = Ref(runtime.context_copy_current());
    return static_cast<bool>(hooks.base_context);
}

PyObject *create(PyTypeObject *cls, PyObject *args, PyObject *kwargs) {
    static const char *const kNames[] = {"worker",     "loop",       "item_class",
                                         "enter_task", "leave_task", "register_task",
                                         "owner",      "page",       nullptr};
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
        RunnerHooks hooks;
        hooks.loop = Ref::borrow(given[1]);
        hooks.item_class = Ref::borrow(given[2]);
        hooks.enter_task = Ref::borrow(given[3]);
        hooks.leave_task = Ref::borrow(given[4]);
        hooks.register_task = Ref::borrow(given[5]);
        if (!take_hooks(given[6], hooks)) {
            return nullptr;
        }
        auto allocate = reinterpret_cast<allocfunc>(PyType_GetSlot(cls, Py_tp_alloc));
        Ref self(allocate(cls, 0));
        if (!self) {
            return nullptr;
        }
        auto *runner = new Runner(self.get(), static_cast<aiomq_worker *>(worker), std::move(hooks),
                                  FunctionTable(table));
        reinterpret_cast<Object *>(self.get())->runner = runner;
        return runner->init() ? self.release() : nullptr;
    });
}

int traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return held(self) != nullptr ? held(self)->traverse(visit, arg) : 0;
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
    if (held(self) != nullptr) {
        held(self)->clear();  // gives back what it has suspended
    }
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

PyObject *resume(PyObject *self, PyObject * /*unused*/) {
    return held(self)->go_on([&] { return held(self)->resume(); });
}

PyObject *publish_waiting(PyObject *self, PyObject * /*unused*/) {
    return guarded([&]() -> PyObject * {
        return held(self)->publish_waiting() ? PyBool_FromLong(held(self)->waiting() == 0)
                                             : nullptr;
    });
}

PyObject *items_of(PyObject *self, PyObject *number) {
    std::uint32_t job = 0;
    return to_number(number, &job) ? held(self)->items_of(job) : nullptr;
}

PyObject *get_suspended(PyObject *self, void * /*closure*/) {
    return PyLong_FromUnsignedLong(held(self)->suspended());
}

PyObject *get_waiting(PyObject *self, void * /*closure*/) {
    return PyLong_FromSize_t(held(self)->waiting());
}

PyObject *get_started_ns(PyObject *self, void * /*closure*/) {
    return PyLong_FromUnsignedLongLong(held(self)->started_ns());
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
    {"resume", resume, METH_NOARGS, "resume(): for the loop"},
    {"publish_waiting", publish_waiting, METH_NOARGS, "publish_waiting() -> whether nothing waits"},
    {"items_of", items_of, METH_O, "items_of(job) -> the items of a job that have suspended"},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef properties[] = {
    {"index", get_index, nullptr, "of the item that was started last", nullptr},
    {"suspended", get_suspended, nullptr, "how many items have suspended", nullptr},
    {"waiting", get_waiting, nullptr, "how many outcomes wait for room", nullptr},
    {"started_ns", get_started_ns, nullptr, "when the newest item of a timed job started", nullptr},
    {"base_context", get_base_context, set_base_context, "copied for each item", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc,
     const_cast<char *>("Runner(worker, loop, item_class, enter_task, leave_task,"
                        " register_task, owner, page=None)\n\nThe item loop of a worker.")},
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

Runner *runner_of(PyObject *object) { return held(object); }

}  // namespace aiomq::py
