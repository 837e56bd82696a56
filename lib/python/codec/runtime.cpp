#include "runtime.hpp"

#include <dlfcn.h>

namespace aiomq::py {

Runtime runtime;

namespace {

PyInterpreterState *owner = nullptr;

template <class Function>
bool resolve(const char *name, Function &function) {
    void *symbol = dlsym(RTLD_DEFAULT, name);
    if (symbol == nullptr) {
        PyErr_Format(PyExc_ImportError, "this interpreter does not export %s", name);
        return false;
    }
    function = reinterpret_cast<Function>(symbol);
    return true;
}

/// Of the two the first, where there is one: without keywords they do the same, and it has less to ask.
template <class Function>
bool resolve_vectorcall(Function &function) {
    if (resolve("PyObject_Vectorcall", function)) {
        return true;
    }
    PyErr_Clear();
    return resolve("PyObject_VectorcallDict", function);
}

bool take(PyObject *support, const char *name, PyObject *&object) {
    object = PyDict_GetItemString(support, name);
    if (object == nullptr) {
        PyErr_Format(PyExc_ImportError, "libaiomq_py was given no %s", name);
        return false;
    }
    Py_INCREF(object);
    return true;
}

/// The one object that @object tells the garbage collector of; borrowed, null if they are not one.
PyObject *only_referent(PyObject *object) {
    struct Found {
        unsigned count = 0;
        PyObject *last = nullptr;
    } found;
    void *slot = PyType_GetSlot(Py_TYPE(object), Py_tp_traverse);
    if (slot == nullptr) {
        PyErr_Clear();
        return nullptr;
    }
    reinterpret_cast<traverseproc>(slot)(
        object,
        [](PyObject *each, void *ret) {
            static_cast<Found *>(ret)->count += 1;
            static_cast<Found *>(ret)->last = each;
            return 0;
        },
        &found);
    return found.count == 1 ? found.last : nullptr;
}

/// Learns where a context has its variables. They are all that one refers to which is not entered, so its
/// pointer to them is looked for in the object itself: no header says where it is.
bool find_variables(Runtime &ret) {
    const Ref context(ret.context_copy_current());
    const Ref size(context
                       ? PyObject_GetAttrString(
                             reinterpret_cast<PyObject *>(Py_TYPE(context.get())), "__basicsize__")
                       : nullptr);
    const std::size_t words = size ? PyLong_AsSize_t(size.get()) / sizeof(void *) : 0;
    const PyObject *variables = context ? only_referent(context.get()) : nullptr;
    const auto *object = reinterpret_cast<PyObject *const *>(context.get());
    unsigned found = 0;
    for (std::size_t i = 1; variables != nullptr && i < words; ++i) {
        if (object[i] == variables) {
            ret.context_variables = i;
            found += 1;
        }
    }
    if (found != 1) {
        ret.context_variables = 0;
    }
    return static_cast<bool>(size);
}

}  // namespace

bool runtime_init(PyObject *support) {
    // The objects above belong to one interpreter; a second one has to do without this library.
    PyInterpreterState *current = PyInterpreterState_Get();
    if (owner != nullptr && owner != current) {
        PyErr_SetString(PyExc_ImportError, "libaiomq_py serves another interpreter already");
        return false;
    }
    Runtime fresh{};
    if (!PyDict_Check(support)) {
        PyErr_SetString(PyExc_ImportError, "libaiomq_py was given no dict");
        return false;
    }
    const bool complete =
        resolve("PyContext_Copy", fresh.context_copy) &&
        resolve("PyContext_CopyCurrent", fresh.context_copy_current) &&
        resolve("PyContext_Enter", fresh.context_enter) &&
        resolve("PyContext_Exit", fresh.context_exit) && resolve_vectorcall(fresh.vectorcall) &&
        resolve("PyObject_VectorcallDict", fresh.vectorcall_dict) &&
        resolve("PyObject_GetBuffer", fresh.get_buffer) &&
        resolve("PyBuffer_Release", fresh.release_buffer) &&
        take(support, "EncodeError", fresh.encode_error) &&
        take(support, "TooLarge", fresh.too_large) &&
        take(support, "RemoteFailure", fresh.remote_failure) &&
        take(support, "DecodeFailure", fresh.decode_failure) &&
        take(support, "dumps", fresh.dumps) && take(support, "loads", fresh.loads) &&
        take(support, "as_coroutine", fresh.as_coroutine) &&
        take(support, "CancelledError", fresh.cancelled_error) &&
        take(support, "CoroutineType", fresh.coroutine_type) &&
        take(support, "GeneratorType", fresh.generator_type);
    if (!complete || !find_variables(fresh)) {
        return false;
    }
    runtime = fresh;
    owner = current;
    return true;
}

}  // namespace aiomq::py
