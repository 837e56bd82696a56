// Calls and chunks of calls, encoded into the request arena and submitted.
#pragma once

#include "parameters.hpp"
#include "python.hpp"

namespace aiomq::py {

/// encode_call(args, kwargs) -> (kind, integer, payload)
PyObject *encode_call(const RawCall &call);
/// encode_value(value) -> payload, a Value message; for tests
PyObject *encode_value(const RawCall &call);
/// encode_chunk(items, start, stop, star) -> payload; for tests
PyObject *encode_chunk(const RawCall &call);
/// submit_call(pool, function, user, args, kwargs, flags=0) -> task id or -errno
PyObject *submit_call(const RawCall &call);
/// submit_chunk(pool, function, user, items, start, stop, star, flags=0) -> task id or -errno
PyObject *submit_chunk(const RawCall &call);

}  // namespace aiomq::py
