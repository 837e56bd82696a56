// Patches: what a fuzzer changes in memory that was sound, as a list of small writes. Most of a sound
// header survives, so that the damage gets past the first check.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <vector>

#include "input.hpp"

namespace aiomq_fuzz {

/// A part of a pool's memory.
struct Part {
    std::uint64_t offset;
    std::uint64_t bytes;
};

/// A number that looks right often enough to be followed.
inline std::uint64_t some_number(Input &input, const std::vector<std::uint64_t> &likely) {
    switch (input.below(6)) {
        case 0:
            return input.take<std::uint8_t>();
        case 1:
            return input.take<std::uint16_t>();
        case 2:
            return 1ULL << input.below(64);
        case 3:
            return ~std::uint64_t{input.take<std::uint8_t>()};
        case 4:
            return likely.empty()
                       ? 0
                       : likely[input.below(likely.size())] + input.below(256) * 8 - 1024;
        default:
            return input.take<std::uint64_t>();
    }
}

/// Writes one number of 1, 4 or 8 bytes somewhere into one of @parts of @memory.
inline void patch(Input &input, unsigned char *memory, const std::vector<Part> &parts,
                  const std::vector<std::uint64_t> &likely) {
    constexpr std::size_t kWidths[] = {8, 4, 1};
    const Part &part = parts[input.below(parts.size())];
    const std::size_t width = kWidths[input.below(3)];
    if (part.bytes < width) return;
    const std::uint64_t at = part.offset + input.below(part.bytes / width) * width;
    const std::uint64_t number = some_number(input, likely);
    std::memcpy(memory + at, &number, width);
}

}  // namespace aiomq_fuzz
