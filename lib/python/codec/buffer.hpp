// Buffer: the bytes of a Python object, held in place while it lives. Pickled: a pickle and its buffers.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "python.hpp"
#include "runtime.hpp"

namespace aiomq::py {

class Buffer {
  public:
    /// @object: a contiguous buffer. Afterwards data() is null if that failed; then an exception is set.
    explicit Buffer(PyObject *object) {
        if (runtime.get_buffer(object, &view_, 0) != 0) {
            view_ = BufferView{};
        }
    }
    ~Buffer() {
        if (view_.object != nullptr) {
            runtime.release_buffer(&view_);
        }
    }
    Buffer(Buffer &&other) noexcept : view_(std::exchange(other.view_, BufferView{})) {}
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    Buffer &operator=(Buffer &&) = delete;

    explicit operator bool() const { return view_.object != nullptr; }
    const void *data() const { return view_.data; }
    std::uint64_t bytes() const { return static_cast<std::uint64_t>(view_.bytes); }

  private:
    BufferView view_{};
};

struct Pickled {
    Ref bytes;
    std::vector<Buffer> buffers;  ///< out of band; mostly none
};

}  // namespace aiomq::py
