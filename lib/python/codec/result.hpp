// Results: what an item returned, published as its outcome.
#pragma once

#include <cstdint>

#include "aiomq/aiomq.h"
#include "python.hpp"

namespace aiomq::py {

/// complete_item() raised: neither 0, 1 nor an errno.
inline constexpr int kRaised = -100000;

/// Publishes @value as the outcome of item @index. @ret_next: if not null, the next item may be started as
/// aiomq_worker_next() does, and is if @value can be dropped without running code. Returns as
/// aiomq_worker_complete(), or kRaised with EncodeError (can't be pickled), TooLarge or a BaseException set.
int complete_item(aiomq_worker *worker, std::uint32_t job, std::uint32_t index,
                  std::uint16_t status, PyObject *value, std::uint32_t *ret_next = nullptr);

/// Publishes @report, a `_report.Report`, as the outcome of item @index. Returns likewise.
int fail_item(aiomq_worker *worker, std::uint32_t job, std::uint32_t index, PyObject *report);

}  // namespace aiomq::py
