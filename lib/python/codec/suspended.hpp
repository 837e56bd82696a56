// Suspended: an item that waits for something, and what is needed to go on with it. A Python object that
// is called by the future that the item awaits, as the callback for its end.
#pragma once

#include <cstdint>

#include "python.hpp"

namespace aiomq::py {

class Runner;
struct Account;

struct Suspended {
    PyObject head;
    // Strong references.
    PyObject *runner;
    PyObject *item;
    PyObject *coroutine;
    PyObject *context;

    Account *account;  ///< of its job; null when the item has ended
    std::uint32_t index;
    std::uint64_t started_ns;
    Suspended *previous;  ///< of the same job
    Suspended *next;
};

/// New reference or NULL; the caller fills in what is not a reference. @runner: the Python object.
Suspended *make_suspended(PyObject *runner, Ref item, Ref coroutine, Ref context);
/// Drops the references.
void forget(Suspended &suspended);
/// New reference or NULL with an exception set; must be called once before the other.
PyObject *make_suspended_type();

}  // namespace aiomq::py
