#include "buffered_writer.hpp"

namespace aiomq::py {

/// Zeros from @from to @to, which is returned.
std::uint64_t *BufferedWriter::fill_up(std::uint64_t *from, std::uint64_t *to) {
    while (from != to) {
        *from++ = 0;
    }
    return to;
}

void BufferedWriter::write_buffered(const Node &node, std::uint64_t *pointer) {
    const Pickled &pickled = *node.pickled;
    *pointer = struct_pointer(distance(pointer, end()), kBufferedSize);
    std::uint64_t *buffered = take(kBufferedSize.words());
    Node pickle{};
    pickle.data = PyBytes_AsString(pickled.bytes.get());
    pickle.count = static_cast<std::uint32_t>(PyBytes_Size(pickled.bytes.get()));
    write_bytes(pickle, buffered);
    const std::uint64_t words = std::uint64_t{node.count} * kBufferSize.words();
    buffered[1] = list_pointer(distance(buffered + 1, end()), ElementSize::kComposite, words);
    *take(1) = composite_tag(node.count, kBufferSize);
    std::uint64_t *element = take(words);
    for (const Buffer &buffer : pickled.buffers) {
        const std::uint64_t content = words_of_bytes(buffer.bytes());
        element[0] = buffer.bytes();
        element[1] = 0;
        if (const std::uint64_t *placed = plan_.placed_at(buffer); placed != nullptr) {
            element[1] =
                list_pointer(distance(element + 1, placed), ElementSize::kEightBytes, content);
        } else if (content != 0) {
            element[1] =
                list_pointer(distance(element + 1, buffers_), ElementSize::kEightBytes, content);
            fill(buffers_, buffer.data(), buffer.bytes(), content);
            buffers_ = fill_up(buffers_ + content, buffers_ + aligned_words(content));
        }
        element += kBufferSize.words();
    }
}

}  // namespace aiomq::py
