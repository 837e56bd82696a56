// The Python type around Runner.
#pragma once

#include "python.hpp"

namespace aiomq::py {

/// The type "Runner"; new reference or NULL with an exception set.
PyObject *make_runner_type();

}  // namespace aiomq::py
