#include "item.hpp"

namespace aiomq::py {

bool ItemSlot::init(PyObject *item_class, const char *name) {
    name_ = Ref(PyUnicode_InternFromString(name));
    if (!name_) {
        return false;
    }
    descriptor_ = Ref(PyObject_GetAttr(item_class, name_.get()));
    if (!descriptor_) {
        PyErr_Clear();  // an attribute of instances only
        return true;
    }
    PyTypeObject *type = Py_TYPE(descriptor_.get());
    get_ = reinterpret_cast<descrgetfunc>(PyType_GetSlot(type, Py_tp_descr_get));
    set_ = reinterpret_cast<descrsetfunc>(PyType_GetSlot(type, Py_tp_descr_set));
    if (set_ == nullptr) {
        get_ = nullptr;  // a class attribute's value, no data descriptor: look it up each time
    }
    return true;
}

bool ItemSlot::set(PyObject *item, PyObject *value) const {
    const int failed = set_ != nullptr ? set_(descriptor_.get(), item, value)
                                       : PyObject_SetAttr(item, name_.get(), value);
    return failed == 0;
}

PyObject *ItemSlot::get(PyObject *item) const {
    return get_ != nullptr
               ? get_(descriptor_.get(), item, reinterpret_cast<PyObject *>(Py_TYPE(item)))
               : PyObject_GetAttr(item, name_.get());
}

int ItemSlot::is_true(PyObject *item) const {
    const Ref value(get(item));
    return value ? static_cast<int>(value.get() == Py_True) : -1;
}

int ItemSlot::is_set(PyObject *item) const {
    const Ref value(get(item));
    return value ? static_cast<int>(value.get() != Py_None) : -1;
}

bool ItemSlots::init(PyObject *item_class) {
    return context.init(item_class, "_ctx") && job.init(item_class, "_job") &&
           index.init(item_class, "_index") && coroutine.init(item_class, "_coro") &&
           touched.init(item_class, "_touched") && must_cancel.init(item_class, "_must_cancel") &&
           waiter.init(item_class, "_fut_waiter") && status.init(item_class, "_status") &&
           value.init(item_class, "_value") && weak.init(item_class, "__weakref__");
}

}  // namespace aiomq::py
