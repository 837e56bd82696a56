// ItemContext: the context of plain calls that are to see nothing of each other's context variables.
//
// Every call starts with the base context's variables. A call that leaves them as they were leaves its
// context to the next one, which can't tell: so most calls need no context of their own. The interpreter
// keeps a context's variables in an immutable map, and a change replaces the map (PEP 567, "HAMT").
#pragma once

#include "python.hpp"

namespace aiomq::py {

class ItemContext {
  public:
    /// Sees to it that such a context is entered. False with an exception set.
    [[nodiscard]] bool enter(PyObject *base) { return (context_ && is_untouched()) || renew(base); }
    /// Leaves the context if a call has changed it, and with it what it holds.
    [[nodiscard]] bool check() { return is_untouched() || leave(); }
    /// Leaves it if one is entered; keeps an exception that is set.
    [[nodiscard]] bool leave();
    /// The same for a context that goes on to be used: new reference, or null with an exception set.
    Ref take();
    /// For the garbage collector.
    int traverse(visitproc visit, void *arg) const;

  private:
    bool is_untouched() const;
    bool renew(PyObject *base);

    Ref context_;    // entered, or null
    Ref variables_;  // of the base context; null: this interpreter does not show them
};

}  // namespace aiomq::py
