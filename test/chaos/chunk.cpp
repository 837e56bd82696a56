#include "chunk.hpp"

#include <capnp/message.h>

#include "value.capnp.h"

namespace chaos {

std::string chunk_of_numbers(std::int64_t first, std::uint32_t count) {
    capnp::MallocMessageBuilder message(count + 64);  // words; one segment
    auto chunk = message.initRoot<aiomq::schema::Chunk>();
    chunk.setCount(count);
    auto numbers = chunk.initColumns(1)[0].initInts(count);
    for (std::uint32_t i = 0; i < count; ++i) numbers.set(i, first + i);
    const auto bytes = message.getSegmentsForOutput()[0].asBytes();
    return {reinterpret_cast<const char *>(bytes.begin()), bytes.size()};
}

}  // namespace chaos
