#include "suspended.hpp"

#include "runner.hpp"
#include "runner_type.hpp"

namespace aiomq::py {
namespace {

PyTypeObject *type = nullptr;

Suspended *as_suspended(PyObject *self) { return reinterpret_cast<Suspended *>(self); }

int traverse(PyObject *self, visitproc visit, void *arg) {
    Suspended *suspended = as_suspended(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(suspended->runner);
    Py_VISIT(suspended->item);
    Py_VISIT(suspended->coroutine);
    Py_VISIT(suspended->context);
    return 0;
}

int clear(PyObject *self) {
    forget(*as_suspended(self));
    return 0;
}

void destroy(PyObject *self) {
    PyTypeObject *cls = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    auto free_memory = reinterpret_cast<freefunc>(PyType_GetSlot(cls, Py_tp_free));
    free_memory(self);
    Py_DECREF(cls);
}

PyObject *call(PyObject *self, PyObject *args, PyObject * /*kwargs*/) {
    PyObject *future = PyTuple_GetItem(args, 0);
    if (future == nullptr) {
        return nullptr;
    }
    const Ref keep = Ref::borrow(self);
    Suspended &suspended = *as_suspended(self);
    if (suspended.account == nullptr) {
        Py_INCREF(Py_None);  // it has ended, or the Runner has
        return Py_None;
    }
    const Ref owner = Ref::borrow(suspended.runner);
    Runner *runner = runner_of(owner.get());
    return runner->go_on([&] { return runner->wake(suspended, future); });
}

PyObject *represent(PyObject *self) {
    PyObject *item = as_suspended(self)->item;
    return PyUnicode_FromFormat("<wake-up of %R>", item != nullptr ? item : Py_None);
}

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>("Goes on with an item that has suspended.")},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_dealloc, reinterpret_cast<void *>(destroy)},
    {Py_tp_call, reinterpret_cast<void *>(call)},
    {Py_tp_repr, reinterpret_cast<void *>(represent)},
    {0, nullptr},
};

PyType_Spec spec = {"aiomq._bridge.Suspended", sizeof(Suspended), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};

}  // namespace

Suspended *make_suspended(PyObject *runner, Ref item, Ref coroutine, Ref context) {
    static const auto allocate = reinterpret_cast<allocfunc>(PyType_GetSlot(type, Py_tp_alloc));
    Suspended *made = as_suspended(allocate(type, 0));
    if (made != nullptr) {
        Py_INCREF(runner);
        made->runner = runner;
        made->item = item.release();
        made->coroutine = coroutine.release();
        made->context = context.release();
    }
    return made;
}

void forget(Suspended &suspended) {
    Py_CLEAR(suspended.runner);
    Py_CLEAR(suspended.item);
    Py_CLEAR(suspended.coroutine);
    Py_CLEAR(suspended.context);
}

PyObject *make_suspended_type() {
    PyObject *made = PyType_FromSpec(&spec);
    if (made != nullptr) {
        type = reinterpret_cast<PyTypeObject *>(made);
        Py_INCREF(made);  // for `type`, which stays
    }
    return made;
}

}  // namespace aiomq::py
