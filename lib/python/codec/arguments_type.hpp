// The Python type around Arguments.
#pragma once

#include "arguments.hpp"
#include "python.hpp"

namespace aiomq::py {

/// The type "Arguments"; new reference or NULL with an exception set.
PyObject *make_arguments_type();

/// What an object of that type holds, as long as the object lives; NULL with TypeError set if it is
/// something else.
Arguments *arguments_of(PyObject *object);

}  // namespace aiomq::py
