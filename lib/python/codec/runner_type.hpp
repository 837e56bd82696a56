// The Python type around Runner.
#pragma once

#include "python.hpp"

namespace aiomq::py {

class Runner;

/// New reference or NULL with an exception set.
PyObject *make_runner_type();
/// The Runner in an object of that type.
Runner *runner_of(PyObject *object);

}  // namespace aiomq::py
