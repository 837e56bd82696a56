// Places: memory of a pool that the application fills itself. A message about a buffer that lies in one is
// built in front of it, in the same block, and nothing is copied.
#pragma once

#include <cstdint>

#include "aiomq/aiomq.h"
#include "parameters.hpp"

namespace aiomq::py {

class Buffer;

struct Place {
    aiomq_pool *pool;
    std::uint64_t *block;  ///< from aiomq_pool_alloc()
    std::uint64_t room;    ///< bytes in the block in front of the data
    const char *data;      ///< in the application's own mapping
    std::uint64_t bytes;

    /// Where in the block a buffer is that lies in this place; null if a message can't point to it.
    std::uint64_t *in_block(const Buffer &buffer) const;
};

/// The place of @pool in which all of @buffer lies, or null.
const Place *find_place(const aiomq_pool *pool, const Buffer &buffer);

/// add_place(pool, block, room, address, nbytes)
PyObject *add_place(const RawCall &call);
/// remove_place(address)
PyObject *remove_place(const RawCall &call);

}  // namespace aiomq::py
