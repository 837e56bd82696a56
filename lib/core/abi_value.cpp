// The edge for values: aiomq/value.h.
#include <aiomq/aiomq.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <vector>

#include "edge.hpp"
#include "value_builder.hpp"
#include "value_view.hpp"

struct aiomq_value_writer {
    aiomq::ValueBuilder builder;
    std::int64_t measured = 0;           ///< bytes, since the last change; 0: not
    std::vector<std::uint64_t> message;  ///< of a task or item
};

namespace {

using aiomq::Node;
using aiomq::ValueKind;

template <typename Call>
int with_writer(aiomq_value_writer *writer, Call call) {
    if (writer == nullptr) return -EINVAL;
    writer->measured = 0;
    return aiomq::guarded([&] { return call(writer->builder); });
}

/// What a task's payload or an item's value is made of.
struct Content {
    std::uint16_t kind;
    std::int64_t integer;
    const void *data;
    std::uint64_t bytes;
};

int make_message(aiomq_value_writer &writer, std::uint16_t kind, Content &ret) {
    const std::int64_t bytes = writer.builder.measure(kind);
    if (bytes < 0) return static_cast<int>(bytes);
    writer.message.resize(static_cast<std::size_t>(bytes) / sizeof(std::uint64_t));
    writer.builder.store(writer.message.data());
    ret = {kind, 0, writer.message.data(), static_cast<std::uint64_t>(bytes)};
    return 0;
}

/// A value that needs no message. @bytes_too: nor do texts and bytes.
bool is_plain(const Node &node, bool bytes_too, Content &ret) {
    const auto plain = [&](unsigned kind) {
        ret = {static_cast<std::uint16_t>(kind), node.integer, nullptr, 0};
        return true;
    };
    const auto data = [&](unsigned kind) {
        ret = {static_cast<std::uint16_t>(kind), 0, node.count != 0 ? node.data : nullptr,
               node.count};
        return bytes_too;
    };
    switch (static_cast<ValueKind>(node.kind)) {
        case ValueKind::BOOL:
            return plain(AIOMQ_KIND_BOOL);
        case ValueKind::INT:
            return plain(AIOMQ_KIND_INT);
        case ValueKind::FLOAT:
            return plain(AIOMQ_KIND_FLOAT);
        case ValueKind::TEXT:
            return data(AIOMQ_KIND_TEXT);
        case ValueKind::BYTES:
            return data(AIOMQ_KIND_BYTES);
        default:
            return false;
    }
}

}  // namespace

AIOMQ_EXPORT int aiomq_value_writer_create(aiomq_value_writer **ret_writer) {
    if (ret_writer == nullptr) return -EINVAL;
    return aiomq::guarded([&] {
        *ret_writer = std::make_unique<aiomq_value_writer>().release();
        return 0;
    });
}

AIOMQ_EXPORT void aiomq_value_writer_destroy(aiomq_value_writer **writer) {
    if (writer == nullptr) return;
    delete *writer;
    *writer = nullptr;
}

AIOMQ_EXPORT int aiomq_value_writer_reset(aiomq_value_writer *writer) {
    return with_writer(writer, [](aiomq::ValueBuilder &builder) {
        builder.reset();
        return 0;
    });
}

AIOMQ_EXPORT int aiomq_value_write_none(aiomq_value_writer *writer) {
    return with_writer(
        writer, [](aiomq::ValueBuilder &builder) { return builder.add(ValueKind::NONE, 0); });
}

AIOMQ_EXPORT int aiomq_value_write_bool(aiomq_value_writer *writer, int value) {
    return with_writer(writer, [&](aiomq::ValueBuilder &builder) {
        return builder.add(ValueKind::BOOL, value != 0 ? 1 : 0);
    });
}

AIOMQ_EXPORT int aiomq_value_write_int(aiomq_value_writer *writer, int64_t value) {
    return with_writer(
        writer, [&](aiomq::ValueBuilder &builder) { return builder.add(ValueKind::INT, value); });
}

AIOMQ_EXPORT int aiomq_value_write_float(aiomq_value_writer *writer, double value) {
    return with_writer(writer, [&](aiomq::ValueBuilder &builder) {
        return builder.add(ValueKind::FLOAT, std::bit_cast<std::int64_t>(value));
    });
}

AIOMQ_EXPORT int aiomq_value_write_text(aiomq_value_writer *writer, const char *text,
                                        size_t bytes) {
    if (text == nullptr && bytes != 0) return -EINVAL;
    if (!aiomq::is_utf8(text, bytes)) return -EILSEQ;
    return with_writer(writer, [&](aiomq::ValueBuilder &builder) {
        return builder.add_data(ValueKind::TEXT, text, bytes);
    });
}

AIOMQ_EXPORT int aiomq_value_write_bytes(aiomq_value_writer *writer, const void *data,
                                         size_t bytes) {
    if (data == nullptr && bytes != 0) return -EINVAL;
    return with_writer(writer, [&](aiomq::ValueBuilder &builder) {
        return builder.add_data(ValueKind::BYTES, data, bytes);
    });
}

AIOMQ_EXPORT int aiomq_value_write_ints(aiomq_value_writer *writer, const int64_t *values,
                                        size_t count) {
    if (values == nullptr && count != 0) return -EINVAL;
    return with_writer(writer, [&](aiomq::ValueBuilder &builder) {
        return builder.add_numbers(aiomq::ColumnKind::INTS, values, count);
    });
}

AIOMQ_EXPORT int aiomq_value_write_floats(aiomq_value_writer *writer, const double *values,
                                          size_t count) {
    if (values == nullptr && count != 0) return -EINVAL;
    return with_writer(writer, [&](aiomq::ValueBuilder &builder) {
        return builder.add_numbers(aiomq::ColumnKind::FLOATS, values, count);
    });
}

AIOMQ_EXPORT int aiomq_value_write_begin(aiomq_value_writer *writer, int type) {
    if (type < AIOMQ_TYPE_NONE || type > AIOMQ_TYPE_BUFFERED) return -EINVAL;
    return with_writer(writer, [&](aiomq::ValueBuilder &builder) {
        return builder.begin(static_cast<ValueKind>(type));
    });
}

AIOMQ_EXPORT int aiomq_value_write_end(aiomq_value_writer *writer) {
    return with_writer(writer, [](aiomq::ValueBuilder &builder) { return builder.end(); });
}

AIOMQ_EXPORT int aiomq_value_write_keyword(aiomq_value_writer *writer, const char *name) {
    if (name == nullptr || !aiomq::is_utf8(name, std::strlen(name))) return -EINVAL;
    return with_writer(writer, [&](aiomq::ValueBuilder &builder) { return builder.keyword(name); });
}

AIOMQ_EXPORT int aiomq_value_write_call(aiomq_value_writer *writer) {
    return with_writer(writer, [](aiomq::ValueBuilder &builder) { return builder.next_call(); });
}

AIOMQ_EXPORT int64_t aiomq_value_measure(aiomq_value_writer *writer, int kind) {
    if (writer == nullptr || kind < 0) return -EINVAL;
    writer->measured = 0;
    return aiomq::guarded([&] {
        const std::int64_t bytes = writer->builder.measure(static_cast<unsigned>(kind));
        writer->measured = std::max<std::int64_t>(bytes, 0);
        return bytes;
    });
}

AIOMQ_EXPORT int aiomq_value_store(aiomq_value_writer *writer, void *memory) {
    if (writer == nullptr || memory == nullptr || writer->measured == 0) return -EINVAL;
    writer->builder.store(static_cast<std::uint64_t *>(memory));
    return 0;
}

AIOMQ_EXPORT int aiomq_value_task(aiomq_value_writer *writer, aiomq_task *task) {
    if (task == nullptr) return -EINVAL;
    return with_writer(writer, [&](aiomq::ValueBuilder &builder) {
        Content content{AIOMQ_KIND_NONE, 0, nullptr, 0};
        const Node *single = builder.single();
        if (!builder.empty() && (single == nullptr || !is_plain(*single, false, content))) {
            const unsigned kind = builder.calls() > 1 ? AIOMQ_KIND_CHUNK : AIOMQ_KIND_CALL;
            const int error = make_message(*writer, static_cast<std::uint16_t>(kind), content);
            if (error != 0) return error;
        }
        task->kind = content.kind;
        task->integer = content.integer;
        task->payload = content.data;
        task->payload_bytes = content.bytes;
        task->items = static_cast<std::uint32_t>(builder.calls());
        return 0;
    });
}

AIOMQ_EXPORT int aiomq_value_item(aiomq_value_writer *writer, aiomq_item *item) {
    if (item == nullptr) return -EINVAL;
    return with_writer(writer, [&](aiomq::ValueBuilder &builder) {
        Content content{AIOMQ_KIND_NONE, 0, nullptr, 0};
        const Node *single = builder.single();
        const bool none =
            single != nullptr && static_cast<ValueKind>(single->kind) == ValueKind::NONE;
        if (!none && !builder.empty() && (single == nullptr || !is_plain(*single, true, content)))
            if (const int error = make_message(*writer, AIOMQ_KIND_VALUE, content); error != 0)
                return error;
        item->kind = content.kind;
        item->bytes = content.bytes;
        if (content.kind < AIOMQ_KIND_BYTES)
            item->value.integer = content.integer;
        else
            item->value.data = content.data;
        return 0;
    });
}

AIOMQ_EXPORT int aiomq_value_open(const aiomq_item *item, aiomq_value *ret_value) {
    if (item == nullptr || ret_value == nullptr) return -EINVAL;
    return aiomq::open_item(*item, *ret_value);
}

AIOMQ_EXPORT int aiomq_value_arguments(const aiomq_job *job, uint32_t item,
                                       aiomq_value *ret_positional, aiomq_value *ret_keywords) {
    if (job == nullptr || ret_positional == nullptr || ret_keywords == nullptr) return -EINVAL;
    return aiomq::open_arguments(*job, item, *ret_positional, *ret_keywords);
}

AIOMQ_EXPORT int aiomq_value_column(const aiomq_job *job, uint32_t index, aiomq_value *ret_column) {
    if (job == nullptr || ret_column == nullptr) return -EINVAL;
    return aiomq::open_argument_column(*job, index, *ret_column);
}

AIOMQ_EXPORT int aiomq_value_element(const aiomq_value *container, uint32_t index,
                                     aiomq_value *ret_value) {
    if (container == nullptr || ret_value == nullptr) return -EINVAL;
    return aiomq::open_element(*container, index, *ret_value);
}

AIOMQ_EXPORT int aiomq_value_key(const aiomq_value *dict, uint32_t index, aiomq_value *ret_key) {
    if (dict == nullptr || ret_key == nullptr) return -EINVAL;
    return aiomq::open_key(*dict, index, *ret_key);
}

AIOMQ_EXPORT int aiomq_value_find(const aiomq_value *dict, const char *key,
                                  aiomq_value *ret_value) {
    if (dict == nullptr || key == nullptr || ret_value == nullptr) return -EINVAL;
    return aiomq::find_key(*dict, key, *ret_value);
}

AIOMQ_EXPORT const char *aiomq_type_name(int type) {
    static constexpr const char *kNames[] = {
        "none", "bool",  "int",  "bigint", "float",     "text",   "bytes",
        "list", "tuple", "dict", "set",    "frozenset", "pickle", "pickle with buffers"};
    if (type < AIOMQ_TYPE_NONE || type > AIOMQ_TYPE_BUFFERED) return "unknown";
    return kNames[type];
}
