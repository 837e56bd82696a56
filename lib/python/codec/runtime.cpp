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

bool take(PyObject *support, const char *name, PyObject *&object) {
    object = PyDict_GetItemString(support, name);
    if (object == nullptr) {
        PyErr_Format(PyExc_ImportError, "libaiomq_py was given no %s", name);
        return false;
    }
    Py_INCREF(object);
    return true;
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
    const bool complete = resolve("PyContext_Copy", fresh.context_copy) &&
                          resolve("PyContext_CopyCurrent", fresh.context_copy_current) &&
                          resolve("PyContext_Enter", fresh.context_enter) &&
                          resolve("PyContext_Exit", fresh.context_exit) &&
                          resolve("PyObject_VectorcallDict", fresh.vectorcall) &&
                          resolve("PyObject_GetBuffer", fresh.get_buffer) &&
                          resolve("PyBuffer_Release", fresh.release_buffer) &&
                          take(support, "EncodeError", fresh.encode_error) &&
                          take(support, "TooLarge", fresh.too_large) &&
                          take(support, "RemoteFailure", fresh.remote_failure) &&
                          take(support, "DecodeFailure", fresh.decode_failure) &&
                          take(support, "dumps", fresh.dumps) &&
                          take(support, "loads", fresh.loads) &&
                          take(support, "as_coroutine", fresh.as_coroutine) &&
                          take(support, "CancelledError", fresh.cancelled_error) &&
                          take(support, "CoroutineType", fresh.coroutine_type) &&
                          take(support, "GeneratorType", fresh.generator_type);
    if (!complete) {
        return false;
    }
    runtime = fresh;
    owner = current;
    return true;
}

}  // namespace aiomq::py
