#include "item_context.hpp"

#include "runtime.hpp"

namespace aiomq::py {
namespace {

// References to an entered context: ours and the thread's.
constexpr Py_ssize_t kOwnReferences = 2;

/// The map in which @context keeps its variables; borrowed, null if the interpreter does not show it.
PyObject *variables_of(PyObject *context) {
    const std::size_t at = runtime.context_variables;
    return at == 0 ? nullptr : reinterpret_cast<PyObject *const *>(context)[at];
}

}  // namespace

bool ItemContext::is_untouched() const {
    return variables_ && variables_of(context_.get()) == variables_.get() &&
           Py_REFCNT(context_.get()) == kOwnReferences;
}

bool ItemContext::renew(PyObject *base) {
    if (!leave()) {
        return false;
    }
    Ref fresh(runtime.context_copy(base));
    if (!fresh || runtime.context_enter(fresh.get()) != 0) {
        return false;
    }
    variables_ = Ref::borrow(variables_of(fresh.get()));
    context_ = std::move(fresh);
    return true;
}

bool ItemContext::leave() { return !context_ || static_cast<bool>(take()); }

Ref ItemContext::take() {
    PyObject *type = nullptr;
    PyObject *value = nullptr;
    PyObject *traceback = nullptr;
    PyErr_Fetch(&type, &value, &traceback);
    variables_ = Ref();
    Ref context = std::move(context_);
    if (runtime.context_exit(context.get()) != 0) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        return Ref();
    }
    PyErr_Restore(type, value, traceback);
    return context;
}

int ItemContext::traverse(visitproc visit, void *arg) const {
    Py_VISIT(context_.get());
    Py_VISIT(variables_.get());
    return 0;
}

}  // namespace aiomq::py
