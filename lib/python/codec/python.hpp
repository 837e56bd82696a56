// Python.h with the limited API, and Ref, which owns one reference.
#pragma once

#include <Python.h>

#include <utility>

namespace aiomq::py {

/// Owns one reference to a Python object, or nothing. The GIL must be held wherever one is destroyed.
class Ref {
  public:
    Ref() = default;
    /// Takes over a new reference, or the NULL of a call that failed.
    explicit Ref(PyObject *stolen) : object_(stolen) {}
    static Ref borrow(PyObject *object) {
        Py_XINCREF(object);
        return Ref(object);
    }
    Ref(Ref &&other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    Ref &operator=(Ref &&other) noexcept {
        PyObject *old = std::exchange(object_, std::exchange(other.object_, nullptr));
        Py_XDECREF(old);
        return *this;
    }
    Ref(const Ref &) = delete;
    Ref &operator=(const Ref &) = delete;
    ~Ref() { Py_XDECREF(object_); }

    PyObject *get() const { return object_; }
    PyObject *release() { return std::exchange(object_, nullptr); }
    explicit operator bool() const { return object_ != nullptr; }

  private:
    PyObject *object_ = nullptr;
};

/// Keeps the garbage collector from running while it lives. Before 3.12 an allocation may start a
/// collection, and that runs finalizers, which may change the very objects that are being read.
class NoCollection {
  public:
    NoCollection() : was_enabled_(PyGC_Disable() != 0) {}
    ~NoCollection() {
        if (was_enabled_) {
            PyGC_Enable();
        }
    }
    NoCollection(const NoCollection &) = delete;
    NoCollection &operator=(const NoCollection &) = delete;

  private:
    bool was_enabled_;
};

/// The pending exception, normalized and taken off the thread; with its traceback.
inline Ref take_exception() {
    PyObject *type = nullptr;
    PyObject *value = nullptr;
    PyObject *traceback = nullptr;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != nullptr) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return Ref(value);
}

}  // namespace aiomq::py
