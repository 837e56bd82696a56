// Parameters: the arguments of the library's functions, by position or keyword, as C values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>

#include "python.hpp"

namespace aiomq::py {

/// What a METH_FASTCALL | METH_KEYWORDS function is called with.
struct RawCall {
    PyObject *const *values;
    Py_ssize_t count;
    PyObject *keywords;  ///< tuple of names, or NULL
};

/// Sorts @call into @ret, in the order of @names; the last @optional may be missing (NULL). False with
/// TypeError set.
bool parse(const char *function, const RawCall &call, const char *const *names, std::size_t count,
           std::size_t optional, PyObject **ret);

template <std::size_t kCount>
bool parse(const char *function, const RawCall &call, const char *const (&names)[kCount],
           std::size_t optional, PyObject *(&ret)[kCount]) {
    return parse(function, call, names, kCount, optional, static_cast<PyObject **>(ret));
}

/// False with an exception set; so below.
bool to_address(PyObject *object, void **ret);
bool to_number(PyObject *object, std::uint64_t *ret);
bool to_number(PyObject *object, std::uint32_t *ret);
bool to_integer(PyObject *object, std::int64_t *ret);

/// Runs @body, which returns a new reference or NULL; turns C++ exceptions into Python ones. No exception
/// may cross into the interpreter.
template <class Body>
PyObject *guarded(Body body) noexcept {
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return PyErr_NoMemory();
    } catch (const std::exception &error) {
        PyErr_SetString(PyExc_SystemError, error.what());
        return nullptr;
    }
}

}  // namespace aiomq::py
