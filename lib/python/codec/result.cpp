#include "result.hpp"

#include <cerrno>

#include "encoder.hpp"
#include "runtime.hpp"

namespace aiomq::py {
namespace {

// Up to here a message is built on the stack and copied by the completion, perhaps into the slot.
constexpr std::uint64_t kCopiedWords = 32;

/// Completes with @value as a Value message.
int complete_value(aiomq_worker *worker, std::uint32_t job, aiomq_item &item, PyObject *value) {
    Encoder encoder;
    if (!encoder.prepare_value(value, "the result")) {
        return kRaised;
    }
    std::uint64_t words[kCopiedWords];
    void *data = words;
    item.kind = AIOMQ_KIND_VALUE;
    item.bytes = encoder.words() * sizeof(std::uint64_t);
    if (encoder.words() > kCopiedWords) {
        const int error = aiomq_worker_alloc(worker, job, item.bytes, &data);
        if (error != 0) {
            return error;
        }
    }
    encoder.write(static_cast<std::uint64_t *>(data));
    item.value.data = data;
    return aiomq_worker_complete(worker, job, &item);
}

/// True: @value is raw bytes of @item now. False: it must be a message; no exception is set.
bool to_text(PyObject *value, aiomq_item &item) {
    Py_ssize_t size = 0;
    item.value.data = PyUnicode_AsUTF8AndSize(value, &size);
    if (item.value.data == nullptr) {
        PyErr_Clear();  // lone surrogates: the encoder will pickle them, or fail for want of memory
        return false;
    }
    item.kind = AIOMQ_KIND_TEXT;
    item.bytes = static_cast<std::uint64_t>(size);
    return true;
}

/// Fills @item if @value is a scalar, text or bytes.
bool to_simple(PyObject *value, aiomq_item &item) {
    const PyTypeObject *type = Py_TYPE(value);
    if (value == Py_None) {
        item.kind = AIOMQ_KIND_NONE;
    } else if (type == &PyLong_Type) {
        int overflow = 0;
        item.value.integer = PyLong_AsLongLongAndOverflow(value, &overflow);
        item.kind = AIOMQ_KIND_INT;
        return overflow == 0;
    } else if (type == &PyFloat_Type) {
        item.kind = AIOMQ_KIND_FLOAT;
        item.value.real = PyFloat_AsDouble(value);
    } else if (type == &PyBool_Type) {
        item.kind = AIOMQ_KIND_BOOL;
        item.value.integer = value == Py_True ? 1 : 0;
    } else if (type == &PyUnicode_Type) {
        return to_text(value, item);
    } else if (type == &PyBytes_Type) {
        item.kind = AIOMQ_KIND_BYTES;
        item.bytes = static_cast<std::uint64_t>(PyBytes_Size(value));
        item.value.data = PyBytes_AsString(value);
    } else {
        return false;
    }
    return true;
}

bool to_c_string(PyObject *object, const char **ret, Ref &keep) {
    // Not UTF-8 as it is: a message may contain lone surrogates, and a traceback must arrive anyway.
    keep = Ref(PyUnicode_AsEncodedString(object, "utf-8", "backslashreplace"));
    *ret = keep ? PyBytes_AsString(keep.get()) : nullptr;
    return *ret != nullptr;
}

}  // namespace

int complete_item(aiomq_worker *worker, std::uint32_t job, std::uint32_t index,
                  std::uint16_t status, PyObject *value, std::uint32_t *ret_next) {
    aiomq_item item{};
    item.index = index;
    item.status = status;
    int result = 0;
    if (!to_simple(value, item)) {
        result = complete_value(worker, job, item, value);
    } else if (ret_next == nullptr) {
        result = aiomq_worker_complete(worker, job, &item);
    } else {
        result = aiomq_worker_next(worker, job, &item, ret_next);
    }
    if (result != -EMSGSIZE) {
        return result;
    }
    const Ref bytes(PyLong_FromUnsignedLongLong(item.bytes));
    PyErr_SetObject(runtime.too_large, bytes.get());
    return kRaised;
}

int fail_item(aiomq_worker *worker, std::uint32_t job, std::uint32_t index, PyObject *report) {
    PyObject *type = nullptr;
    PyObject *message = nullptr;
    PyObject *traceback = nullptr;
    PyObject *pickled = nullptr;
    aiomq_error error{};
    Ref keep[3];
    if (PyArg_ParseTuple(report, "OOOO", &type, &message, &traceback, &pickled) == 0 ||
        !to_c_string(type, &error.type, keep[0]) ||
        !to_c_string(message, &error.message, keep[1]) ||
        !to_c_string(traceback, &error.traceback, keep[2])) {
        return kRaised;
    }
    if (pickled != Py_None) {
        char *bytes = nullptr;
        Py_ssize_t size = 0;
        if (PyBytes_AsStringAndSize(pickled, &bytes, &size) != 0) {
            return kRaised;
        }
        error.pickled = bytes;
        error.pickled_bytes = static_cast<std::size_t>(size);
    }
    error.exit_status = -1;
    return aiomq_worker_fail(worker, job, index, &error);
}

}  // namespace aiomq::py
