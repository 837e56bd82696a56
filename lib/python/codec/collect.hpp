// Collect: finished tasks of a pool as Python values.
#pragma once

#include "parameters.hpp"
#include "python.hpp"

namespace aiomq::py {

/// collect(pool, limit) -> list of (user, items_left, worker, values, others); see _bridge.py
PyObject *collect(const RawCall &call);

}  // namespace aiomq::py
