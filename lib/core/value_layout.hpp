// Word layout of schema/value.capnp: what the writer and the reader have in common, and the codec of
// Python, which is built of these files, too.
//
// Hand-written rather than through the generated classes. Most messages are one call with one or two
// arguments, and the generated classes (Cap'n Proto 0.9.2) take 50 ns to build and 76 ns to read one with
// a single int, which leaves nothing of a goal of 80 for Python's side; by hand it is 9 and 25. And a
// reader that loads each word once can read shared memory in place. The sizes and numbers below come from
// the generated header, so a change of the schema that matters does not compile, and test_codec holds
// whole messages against the schema compiler's own codec.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "value.capnp.h"

namespace aiomq {

static_assert(std::endian::native == std::endian::little, "Cap'n Proto words are little-endian");

using ValueKind = schema::Value::Which;
using ColumnKind = schema::Column::Which;

/// Sizes of a struct's two sections, in words.
struct StructSize {
    std::uint16_t data_words;
    std::uint16_t pointers;

    constexpr std::uint32_t words() const { return std::uint32_t{data_words} + pointers; }
};

template <class Struct>
inline constexpr StructSize kSizeOf{Struct::_capnpPrivate::dataWordSize,
                                    Struct::_capnpPrivate::pointerCount};

inline constexpr StructSize kValueSize = kSizeOf<schema::Value>;
inline constexpr StructSize kColumnSize = kSizeOf<schema::Column>;
inline constexpr StructSize kMappingSize = kSizeOf<schema::Mapping>;
inline constexpr StructSize kCallSize = kSizeOf<schema::Call>;
inline constexpr StructSize kChunkSize = kSizeOf<schema::Chunk>;
inline constexpr StructSize kBufferedSize = kSizeOf<schema::Buffered>;
inline constexpr StructSize kBufferSize = kSizeOf<schema::Buffer>;

// The writer and the reader place fields by hand: data words first, then pointers, as below.
static_assert(kValueSize.data_words == 2 && kValueSize.pointers == 1);    // tag; scalar; content
static_assert(kColumnSize.data_words == 1 && kColumnSize.pointers == 2);  // tag; list, joined bytes
static_assert(kMappingSize.data_words == 0 && kMappingSize.pointers == 2);    // keys, values
static_assert(kCallSize.data_words == 0 && kCallSize.pointers == 2);          // args, kwargs
static_assert(kChunkSize.data_words == 1 && kChunkSize.pointers == 1);        // count, tag; list
static_assert(kBufferedSize.data_words == 0 && kBufferedSize.pointers == 2);  // pickle, buffers
static_assert(kBufferSize.data_words == 1 && kBufferSize.pointers == 1);      // bytes; words

/// In a Value of kind bool: the bit beside the 16-bit tag.
inline constexpr unsigned kBoolShift = 16;
/// In a Chunk: the 16-bit tag beside the 32-bit count.
inline constexpr unsigned kChunkTagShift = 32;

/// How deep values nest at most; deeper ones are pickled.
inline constexpr unsigned kDepthLimit = 64;
/// Longest text or byte string: a list pointer counts 29 bits of bytes, one of them a text's NUL.
inline constexpr std::uint64_t kBytesLimit = (std::uint64_t{1} << 29) - 2;
/// Most elements of a list, for the same reason.
inline constexpr std::uint64_t kElementsLimit = (std::uint64_t{1} << 29) - 1;
/// Longest message in words: a pointer reaches as far.
inline constexpr std::uint64_t kWordsLimit = (std::uint64_t{1} << 29) - 1;

enum class PointerKind : unsigned { kStruct = 0, kList = 1, kFar = 2, kOther = 3 };

/// Element sizes of lists, as in a list pointer.
enum class ElementSize : unsigned {
    kVoid = 0,
    kBit = 1,
    kByte = 2,
    kTwoBytes = 3,
    kFourBytes = 4,
    kEightBytes = 5,
    kPointer = 6,
    kComposite = 7
};

constexpr std::uint64_t words_of_bytes(std::uint64_t bytes) { return (bytes + 7) / 8; }
constexpr std::uint64_t words_of_text(std::uint64_t bytes) { return words_of_bytes(bytes + 1); }
/// Up to the next multiple of 64 bytes, at which buffers begin.
constexpr std::uint64_t aligned_words(std::uint64_t words) { return (words + 7) / 8 * 8; }
constexpr std::uint64_t words_of_ends(std::uint64_t count) { return (count + 1) / 2; }

/// A pointer word to a struct @distance words after the word that follows the pointer.
constexpr std::uint64_t struct_pointer(std::uint64_t distance, StructSize size) {
    // A struct without words is told from null by an offset of -1.
    const std::uint64_t offset = size.words() == 0 ? 0x3fffffff : distance;
    return offset << 2 | std::uint64_t{size.data_words} << 32 | std::uint64_t{size.pointers} << 48;
}

constexpr std::uint64_t list_pointer(std::uint64_t distance, ElementSize element,
                                     std::uint64_t count) {
    return distance << 2 | static_cast<std::uint64_t>(PointerKind::kList) |
           static_cast<std::uint64_t>(element) << 32 | count << 35;
}

/// The tag word in front of a list of @count structs.
constexpr std::uint64_t composite_tag(std::uint64_t count, StructSize size) {
    return count << 2 | std::uint64_t{size.data_words} << 32 | std::uint64_t{size.pointers} << 48;
}

}  // namespace aiomq
