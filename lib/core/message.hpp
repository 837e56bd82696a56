// Envelopes: Cap'n Proto messages that live in shared memory, built in place and read from a copy.
//
// When to use: for what a peer wrote in words (errors). When not: for scalars and raw bytes, which sit
// in the slot or in a block as they are, and for large data, which never sits inside an envelope.
//
// A message is one unframed segment: its root pointer first, its length in the slot or item that names
// it. Reading is bounded by that length; Cap'n Proto validates each pointer as it follows it, so a
// private copy is read, because a peer could still write to the shared one in between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "sys.hpp"

namespace aiomq {

/// An error as the core handles it. The views belong to whoever filled it in.
struct ErrorText {
    std::string_view type;
    std::string_view message;
    std::string_view traceback;
    std::string_view pickled;
    std::int32_t exit_status = -1;
    std::int32_t signal = 0;
    std::int32_t pid = 0;
};

/// Longest texts kept; more is cut, since an error must always fit.
inline constexpr std::size_t kErrorTextBytes = 64 << 10;
inline constexpr std::size_t kErrorPickleBytes = 1 << 20;

/// At most @limit bytes of @text, not ending inside a UTF-8 sequence.
std::string_view cut(std::string_view text, std::size_t limit);
/// @error with its texts cut to what an envelope holds. A pickle that is too long is dropped whole.
ErrorText bounded(const ErrorText &error);
/// Bytes that build_error() needs for a bounded @error.
std::size_t error_bytes(const ErrorText &error);
/// Builds the envelope in @memory (8-byte aligned, error_bytes() long). Returns the bytes used.
std::size_t build_error(const ErrorText &error, void *memory, std::size_t bytes);

/// Copies @data to @buffer and reads it there: -ENOBUFS, -EBADMSG. Strings end with a NUL.
int read_error(const void *data, std::size_t bytes, void *buffer, std::size_t buffer_bytes,
               ErrorText &ret_error);

}  // namespace aiomq
