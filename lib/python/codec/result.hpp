// Results: what an item returned, published as its outcome.
#pragma once

#include <cstdint>

#include "aiomq/aiomq.h"
#include "parameters.hpp"
#include "python.hpp"

namespace aiomq::py {

/// complete_item() raised: neither 0, 1 nor an errno.
inline constexpr int kRaised = -100000;

/// Publishes @value as the outcome of item @index. Returns as aiomq_worker_complete(), or kRaised with
/// EncodeError (can't be pickled) or a BaseException set.
int complete_item(aiomq_worker *worker, std::uint32_t job, std::uint32_t index,
                  std::uint16_t status, PyObject *value);

/// publish(worker, job, index, status, value) -> 1, 0 or -errno
PyObject *publish(const RawCall &call);
/// publish_error(worker, job, index, type, message, traceback, pickled) -> 1, 0 or -errno
PyObject *publish_error(const RawCall &call);

}  // namespace aiomq::py
