// A payload for Python: one call for each of a row of numbers (schema/value.capnp, Chunk).
#pragma once

#include <cstdint>
#include <string>

namespace chaos {

/// Calls with @first, @first + 1, …: @count of them.
std::string chunk_of_numbers(std::int64_t first, std::uint32_t count);

}  // namespace chaos
