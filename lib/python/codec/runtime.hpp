// Runtime: what the codec needs of the interpreter beyond the limited API, resolved once.
#pragma once

#include <cstddef>

#include "python.hpp"

namespace aiomq::py {

/// CPython's Py_buffer, whose layout the limited API promises from 3.11 on.
struct BufferView {
    void *data;
    PyObject *object;
    Py_ssize_t bytes;
    Py_ssize_t item_bytes;
    int readonly;
    int dimensions;
    char *format;
    Py_ssize_t *shape;
    Py_ssize_t *strides;
    Py_ssize_t *suboffsets;
    void *internal;
};

/// Filled by runtime_init() and never changed: the objects live as long as the process.
struct Runtime {
    // Not in the limited API, but exported with these signatures by 3.10 to 3.13.
    PyObject *(*context_copy)(PyObject *context);
    PyObject *(*context_copy_current)();
    int (*context_enter)(PyObject *context);
    int (*context_exit)(PyObject *context);
    /// Never with @keywords: where 3.10 has no such function it is vectorcall_dict, which takes others.
    PyObject *(*vectorcall)(PyObject *callable, PyObject *const *arguments, std::size_t count,
                            PyObject *keywords);
    PyObject *(*vectorcall_dict)(PyObject *callable, PyObject *const *arguments, std::size_t count,
                                 PyObject *keywords);
    int (*get_buffer)(PyObject *object, BufferView *view, int flags);
    void (*release_buffer)(BufferView *view);

    // Where in a context is the pointer to its variables, in words; 0 if the interpreter does not tell.
    std::size_t context_variables;

    PyObject *encode_error;     // _bridge.EncodeError
    PyObject *too_large;        // _bridge.TooLarge
    PyObject *remote_failure;   // _bridge.RemoteFailure
    PyObject *decode_failure;   // _bridge.DecodeFailure
    PyObject *dumps;            // _buffers.dumps
    PyObject *loads;            // pickle.loads
    PyObject *as_coroutine;     // _bridge.as_coroutine
    PyObject *cancelled_error;  // asyncio.CancelledError
    PyObject *coroutine_type;   // types.CoroutineType
    PyObject *generator_type;   // types.GeneratorType
};

extern Runtime runtime;

/// Room for `self` in front of the arguments: saves a bound method's callee from copying them.
inline constexpr std::size_t kArgumentsOffset = std::size_t{1} << (8 * sizeof(std::size_t) - 1);

/// Takes what @support, a dict, holds under the names above. On failure an ImportError is set, and the
/// package falls back to pure Python.
bool runtime_init(PyObject *support);

}  // namespace aiomq::py
