#include "value_writer.hpp"

namespace aiomq {
namespace {

ValueKind value_kind(const Node &node) { return static_cast<ValueKind>(node.kind); }

/// Whether a Value of this node has a content pointer that is not null.
bool has_content(const Node &node, const Node &after) {
    switch (value_kind(node)) {
        case ValueKind::BIGINT:
        case ValueKind::TEXT:
        case ValueKind::BYTES:
        case ValueKind::PICKLE:
        case ValueKind::DICT:
        case ValueKind::BUFFERED:
            return node.count != 0;
        case ValueKind::LIST:
        case ValueKind::TUPLE:
        case ValueKind::SET:
        case ValueKind::FROZENSET:
            return after.count != 0;  // the head of its column
        default:
            return false;
    }
}

}  // namespace

std::uint64_t *Writer::take(std::uint64_t words) {
    std::uint64_t *taken = end_;
    end_ += words;
    return taken;
}

void Writer::write_value_root() {
    std::uint64_t *root = take(1);
    // A scalar's node is the only one, so there may be nothing behind it; then `after` is not used.
    const bool content = has_content(next_[0], next_[1]);
    const StructSize size{kValueSize.data_words, static_cast<std::uint16_t>(content ? 1 : 0)};
    std::uint64_t *value = take(size.words());
    *root = struct_pointer(0, size);
    if (content) {
        write_value(value);
    } else {
        std::uint64_t whole[3];
        write_value(whole);
        std::memcpy(value, whole, kValueSize.data_words * sizeof(std::uint64_t));
    }
}

void Writer::write_call_root(bool keywords) {
    std::uint64_t *root = take(1);
    const auto pointers = static_cast<std::uint16_t>(keywords ? 2 : next_->count != 0 ? 1 : 0);
    const StructSize size{0, pointers};
    std::uint64_t *call = take(size.words());
    *root = struct_pointer(0, size);
    if (pointers == 0) {
        ++next_;
        return;
    }
    write_column(call);
    if (keywords) {
        call[1] = struct_pointer(distance(call + 1, end_), kMappingSize);
        write_mapping_fields(take(kMappingSize.words()));
    }
}

void Writer::write_chunk_columns(std::uint32_t count, std::uint32_t columns) {
    std::uint64_t *root = take(1);
    const StructSize size{kChunkSize.data_words, static_cast<std::uint16_t>(columns != 0 ? 1 : 0)};
    std::uint64_t *chunk = take(size.words());
    *root = struct_pointer(0, size);
    chunk[0] = count | static_cast<std::uint64_t>(schema::Chunk::COLUMNS) << kChunkTagShift;
    if (columns == 0) {
        return;
    }
    const std::uint64_t words = std::uint64_t{columns} * kColumnSize.words();
    chunk[1] = list_pointer(distance(chunk + 1, end_), ElementSize::kComposite, words);
    *take(1) = composite_tag(columns, kColumnSize);
    std::uint64_t *elements = take(words);
    for (std::uint32_t i = 0; i < columns; ++i) {
        std::uint64_t *column = elements + std::uint64_t{i} * kColumnSize.words();
        column[2] = 0;
        const Node &head = *next_++;
        write_column_fields(head, column);
    }
}

void Writer::write_chunk_calls(std::uint32_t count) {
    std::uint64_t *root = take(1);
    std::uint64_t *chunk = take(kChunkSize.words());
    *root = struct_pointer(0, kChunkSize);
    chunk[0] = count | static_cast<std::uint64_t>(schema::Chunk::CALLS) << kChunkTagShift;
    const std::uint64_t words = std::uint64_t{count} * kCallSize.words();
    chunk[1] = list_pointer(distance(chunk + 1, end_), ElementSize::kComposite, words);
    *take(1) = composite_tag(count, kCallSize);
    std::uint64_t *elements = take(words);
    for (std::uint32_t i = 0; i < count; ++i) {
        std::uint64_t *call = elements + std::uint64_t{i} * kCallSize.words();
        write_column(call);
        call[1] = 0;
    }
}

void Writer::write_value(std::uint64_t *at) {
    const Node &node = *next_++;
    at[0] = node.kind;
    at[1] = 0;
    at[2] = 0;
    switch (value_kind(node)) {
        case ValueKind::NONE:
            break;
        case ValueKind::BOOL:
            at[0] |= static_cast<std::uint64_t>(node.integer) << kBoolShift;
            break;
        case ValueKind::INT:
        case ValueKind::FLOAT:
            at[1] = static_cast<std::uint64_t>(node.integer);
            break;
        case ValueKind::TEXT:
            write_text(node, at + 2);
            break;
        case ValueKind::BIGINT:
        case ValueKind::BYTES:
        case ValueKind::PICKLE:
            write_bytes(node, at + 2);
            break;
        case ValueKind::LIST:
        case ValueKind::TUPLE:
        case ValueKind::SET:
        case ValueKind::FROZENSET:
            write_column(at + 2);
            break;
        case ValueKind::DICT:
            write_mapping(node.count, at + 2);
            break;
        case ValueKind::BUFFERED:
            write_buffered(node, at + 2);
            break;
    }
}

void Writer::write_text(const Node &node, std::uint64_t *pointer) {
    if (node.count == 0) {
        return;
    }
    const std::uint64_t words = words_of_text(node.count);
    *pointer = list_pointer(distance(pointer, end_), ElementSize::kByte, node.count + 1ULL);
    fill(take(words), node.data, node.count, words);
}

void Writer::write_bytes(const Node &node, std::uint64_t *pointer) {
    if (node.count == 0) {
        return;
    }
    const std::uint64_t words = words_of_bytes(node.count);
    *pointer = list_pointer(distance(pointer, end_), ElementSize::kByte, node.count);
    fill(take(words), node.data, node.count, words);
}

void Writer::write_buffered(const Node &, std::uint64_t *) {}

void Writer::write_mapping(std::uint32_t count, std::uint64_t *pointer) {
    if (count == 0) {
        next_ += 2;  // the heads of two empty columns
        return;
    }
    *pointer = struct_pointer(distance(pointer, end_), kMappingSize);
    write_mapping_fields(take(kMappingSize.words()));
}

void Writer::write_mapping_fields(std::uint64_t *at) {
    write_column(at);
    write_column(at + 1);
}

void Writer::write_column(std::uint64_t *pointer) {
    const Node &head = *next_++;
    if (head.count == 0) {
        *pointer = 0;
        return;
    }
    const StructSize size = column_size(head);
    *pointer = struct_pointer(distance(pointer, end_), size);
    write_column_fields(head, take(size.words()));
}

void Writer::write_column_fields(const Node &head, std::uint64_t *at) {
    at[0] = head.kind;
    switch (static_cast<ColumnKind>(head.kind)) {
        case ColumnKind::VALUES:
            write_values(head.count, at + 1);
            break;
        case ColumnKind::INTS:
        case ColumnKind::FLOATS:
            write_scalars(head, at + 1);
            break;
        case ColumnKind::TEXTS:
        case ColumnKind::BYTES:
            write_joined(head, at + 1);
            break;
    }
}

void Writer::write_values(std::uint32_t count, std::uint64_t *pointer) {
    const std::uint64_t words = std::uint64_t{count} * kValueSize.words();
    *pointer = list_pointer(distance(pointer, end_), ElementSize::kComposite, words);
    *take(1) = composite_tag(count, kValueSize);
    std::uint64_t *elements = take(words);
    for (std::uint32_t i = 0; i < count; ++i) {
        write_value(elements + std::uint64_t{i} * kValueSize.words());
    }
}

void Writer::write_scalars(const Node &head, std::uint64_t *pointer) {
    const std::uint32_t count = head.count;
    *pointer = list_pointer(distance(pointer, end_), ElementSize::kEightBytes, count);
    std::uint64_t *elements = take(count);
    if (head.array != 0) {
        std::memcpy(elements, head.data, count * sizeof(std::uint64_t));
        return;
    }
    for (std::uint32_t i = 0; i < count; ++i) {
        elements[i] = static_cast<std::uint64_t>(next_[i].integer);
    }
    next_ += count;
}

void Writer::write_joined(const Node &head, std::uint64_t *pointers) {
    pointers[0] = list_pointer(distance(pointers, end_), ElementSize::kFourBytes, head.count);
    const std::uint64_t end_words = words_of_ends(head.count);
    std::uint64_t *ends = take(end_words);
    ends[end_words - 1] = 0;
    char *joined = nullptr;
    if (head.joined != 0) {
        const std::uint64_t words = words_of_bytes(head.joined);
        pointers[1] = list_pointer(distance(pointers + 1, end_), ElementSize::kByte, head.joined);
        std::uint64_t *data = take(words);
        data[words - 1] = 0;
        joined = reinterpret_cast<char *>(data);
    }
    std::uint32_t end = 0;
    for (std::uint32_t i = 0; i < head.count; ++i) {
        const Node &node = next_[i];
        if (node.count != 0) {
            std::memcpy(joined + end, node.data, node.count);
            end += node.count;
        }
        std::memcpy(reinterpret_cast<char *>(ends) + std::size_t{i} * sizeof(end), &end,
                    sizeof(end));
    }
    next_ += head.count;
}

}  // namespace aiomq
