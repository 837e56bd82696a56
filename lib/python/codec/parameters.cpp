#include "parameters.hpp"

#include <limits>

namespace aiomq::py {

bool parse(const char *function, const RawCall &call, const char *const *names, std::size_t count,
           std::size_t optional, PyObject **ret) {
    const auto given = static_cast<std::size_t>(call.count);
    if (given > count) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zu arguments, not %zu", function, count, given);
        return false;
    }
    for (std::size_t i = 0; i < count; ++i) {
        ret[i] = i < given ? call.values[i] : nullptr;
    }
    const Py_ssize_t keywords = call.keywords != nullptr ? PyTuple_Size(call.keywords) : 0;
    for (Py_ssize_t k = 0; k < keywords; ++k) {
        PyObject *name = PyTuple_GetItem(call.keywords, k);
        std::size_t i = 0;
        while (i < count && PyUnicode_CompareWithASCIIString(name, names[i]) != 0) {
            ++i;
        }
        if (i == count || ret[i] != nullptr) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected argument %R", function, name);
            return false;
        }
        ret[i] = call.values[call.count + k];
    }
    for (std::size_t i = 0; i < count - optional; ++i) {
        if (ret[i] == nullptr) {
            PyErr_Format(PyExc_TypeError, "%s() needs %s", function, names[i]);
            return false;
        }
    }
    return true;
}

bool to_address(PyObject *object, void **ret) {
    void *address = PyLong_AsVoidPtr(object);
    if (address == nullptr && PyErr_Occurred() != nullptr) {
        return false;
    }
    *ret = address;
    return true;
}

bool to_number(PyObject *object, std::uint64_t *ret) {
    const unsigned long long number = PyLong_AsUnsignedLongLong(object);
    if (number == std::numeric_limits<unsigned long long>::max() && PyErr_Occurred() != nullptr) {
        return false;
    }
    *ret = number;
    return true;
}

bool to_number(PyObject *object, std::uint32_t *ret) {
    std::uint64_t number = 0;
    if (!to_number(object, &number)) {
        return false;
    }
    if (number > std::numeric_limits<std::uint32_t>::max()) {
        PyErr_SetString(PyExc_OverflowError, "number needs more than 32 bits");
        return false;
    }
    *ret = static_cast<std::uint32_t>(number);
    return true;
}

bool to_integer(PyObject *object, std::int64_t *ret) {
    const long long number = PyLong_AsLongLong(object);
    if (number == -1 && PyErr_Occurred() != nullptr) {
        return false;
    }
    *ret = number;
    return true;
}

}  // namespace aiomq::py
