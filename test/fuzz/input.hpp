// Input: the bytes that a fuzzer made, taken off piece by piece. At the end everything is 0, so that a
// target needs no special case for an input that is too short.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace aiomq_fuzz {

class Input {
  public:
    Input(const std::uint8_t *data, std::size_t size) : data_(data), left_(size) {}

    bool empty() const { return left_ == 0; }
    std::size_t left() const { return left_; }

    template <typename Number>
    Number take() {
        Number value{};
        const std::size_t bytes = std::min(sizeof value, left_);
        std::memcpy(&value, data_, bytes);
        skip(bytes);
        return value;
    }
    /// 0 … limit - 1; takes as many bytes as that needs.
    std::uint64_t below(std::uint64_t limit) {
        if (limit <= 1) return 0;
        if (limit <= 1ULL << 8) return take<std::uint8_t>() % limit;
        if (limit <= 1ULL << 16) return take<std::uint16_t>() % limit;
        return limit <= 1ULL << 32 ? take<std::uint32_t>() % limit : take<std::uint64_t>() % limit;
    }
    std::string bytes(std::size_t count) {
        count = std::min(count, left_);
        std::string taken(reinterpret_cast<const char *>(data_), count);
        skip(count);
        return taken;
    }
    std::string rest() { return bytes(left_); }

  private:
    void skip(std::size_t bytes) {
        data_ += bytes;
        left_ -= bytes;
    }

    const std::uint8_t *data_;
    std::size_t left_;
};

/// Ends the process as a crash does, so that the fuzzer keeps the input.
inline void require(bool holds, const char *what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

/// Reads every byte, so that a sanitizer or the kernel objects to what can't be read.
inline void touch(const void *data, std::uint64_t bytes) {
    const volatile unsigned char *at = static_cast<const unsigned char *>(data);
    for (std::uint64_t i = 0; i < bytes; ++i) (void)at[i];
}

}  // namespace aiomq_fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);
