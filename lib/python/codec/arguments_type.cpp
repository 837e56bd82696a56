#include "arguments_type.hpp"

#include "parameters.hpp"

namespace aiomq::py {
namespace {

struct Object {
    PyObject head;
    Arguments *arguments;
};

PyTypeObject *type = nullptr;

Arguments *held(PyObject *self) { return reinterpret_cast<Object *>(self)->arguments; }

PyObject *create(PyTypeObject *cls, PyObject *args, PyObject *kwargs) {
    static const char *const kNames[] = {"kind", "integer", "address", "nbytes",
                                         "lend", "job",     nullptr};
    unsigned int kind = 0;
    long long integer = 0;
    PyObject *address_object = nullptr;
    unsigned long long bytes = 0;
    PyObject *lend = Py_None;
    unsigned int job = 0;
    void *address = nullptr;
    if (PyArg_ParseTupleAndKeywords(args, kwargs, "ILOK|OI", const_cast<char **>(kNames), &kind,
                                    &integer, &address_object, &bytes, &lend, &job) == 0) {
        return nullptr;
    }
    // ctypes gives None for a null pointer.
    if (address_object != Py_None && !to_address(address_object, &address)) {
        return nullptr;
    }
    if (address == nullptr && bytes != 0) {
        PyErr_SetString(PyExc_ValueError, "a payload without an address");
        return nullptr;
    }
    return guarded([&]() -> PyObject * {
        auto arguments = std::make_unique<Arguments>();
        if (!arguments->open(kind, integer, address, bytes, lend, job)) {
            return nullptr;
        }
        auto allocate = reinterpret_cast<allocfunc>(PyType_GetSlot(cls, Py_tp_alloc));
        PyObject *self = allocate(cls, 0);
        if (self != nullptr) {
            reinterpret_cast<Object *>(self)->arguments = arguments.release();
        }
        return self;
    });
}

void destroy(PyObject *self) {
    PyTypeObject *cls = Py_TYPE(self);
    delete held(self);
    auto free_memory = reinterpret_cast<freefunc>(PyType_GetSlot(cls, Py_tp_free));
    free_memory(self);
    Py_DECREF(cls);
}

Py_ssize_t length(PyObject *self) { return static_cast<Py_ssize_t>(held(self)->count()); }

PyObject *get(PyObject *self, PyObject *index_object) {
    std::uint32_t index = 0;
    if (!to_number(index_object, &index)) {
        return nullptr;
    }
    return guarded([&]() -> PyObject * {
        CallArguments call;
        return held(self)->get(index, call) ? call.as_pair() : nullptr;
    });
}

PyMethodDef methods[] = {
    {"get", get, METH_O, "get(i): the arguments of call i as (tuple, dict)"},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>("Arguments(kind, integer, address, nbytes, lend=None, job=0)\n\n"
                                   "The payload of a task, decoded call by call.")},
    {Py_tp_new, reinterpret_cast<void *>(create)},
    {Py_tp_dealloc, reinterpret_cast<void *>(destroy)},
    {Py_tp_methods, methods},
    {Py_sq_length, reinterpret_cast<void *>(length)},
    {0, nullptr},
};

PyType_Spec spec = {"aiomq._bridge.Arguments", sizeof(Object), 0, Py_TPFLAGS_DEFAULT, slots};

}  // namespace

PyObject *make_arguments_type() {
    PyObject *made = PyType_FromSpec(&spec);
    if (made != nullptr) {
        type = reinterpret_cast<PyTypeObject *>(made);
        Py_INCREF(made);  // for `type`, which stays
    }
    return made;
}

Arguments *arguments_of(PyObject *object) {
    if (Py_TYPE(object) != type) {
        PyErr_SetString(PyExc_TypeError, "arguments must be an Arguments");
        return nullptr;
    }
    return held(object);
}

}  // namespace aiomq::py
