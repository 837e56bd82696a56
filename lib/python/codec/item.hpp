// Access to the light task (`_item.Item`, a Python class with slots) in which one item runs.
#pragma once

#include <cstdint>

#include "python.hpp"

namespace aiomq::py {

/// One attribute of the item class. A slot's own descriptor is called directly, which takes a third of the
/// time of a look-up by name; a class without that slot works too.
class ItemSlot {
  public:
    /// False with an exception set.
    bool init(PyObject *item_class, const char *name);
    /// False with an exception set.
    bool set(PyObject *item, PyObject *value) const;
    /// New reference or NULL with an exception set.
    PyObject *get(PyObject *item) const;
    /// Whether the attribute is Py_True (get) or not None (is_set); -1 with an exception set.
    int is_true(PyObject *item) const;
    int is_set(PyObject *item) const;

  private:
    Ref name_;
    Ref descriptor_;
    descrgetfunc get_ = nullptr;
    descrsetfunc set_ = nullptr;
};

/// What the item loop touches of an item.
struct ItemSlots {
    ItemSlot context;      // _ctx
    ItemSlot job;          // _job
    ItemSlot index;        // _index
    ItemSlot coroutine;    // _coro
    ItemSlot touched;      // _touched: something visible to others was changed
    ItemSlot must_cancel;  // _must_cancel: cancel() was called and not yet delivered
    ItemSlot waiter;       // _fut_waiter: the future that it awaits
    ItemSlot status;       // _status
    ItemSlot value;        // _value
    ItemSlot weak;         // __weakref__: somebody refers to it weakly

    /// False with an exception set.
    bool init(PyObject *item_class);
};

}  // namespace aiomq::py
