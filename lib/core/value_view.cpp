#include "value_view.hpp"

#include <bit>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "value_reader.hpp"

namespace aiomq {

bool damaged(const char *) { return false; }

namespace {

constexpr unsigned kTagWord = 0;
constexpr unsigned kScalarWord = 1;
constexpr std::uint64_t kTagMask = 0xffff;

/// What `place` of an aiomq_value holds.
enum Place : unsigned { kMessage, kMessageBytes, kColumn, kValues, kForm };
/// How a container's elements are found.
enum class Form : std::uint64_t {
    kPlain,  ///< it has one at most, without a message: `row` is its type, kColumn its bytes, kValues it
    kRoot,    ///< the value at kColumn is the only one
    kColumn,  ///< in the column at kColumn
    kDict,    ///< keys in the column at kColumn, values at kValues
    kRow      ///< element i is number `row` of column i of the Chunk at kColumn
};

constexpr int kDamaged = -EBADMSG;

/// A struct's position and shape in one word: messages have fewer than 2^29 words.
std::uint64_t pack(const StructView &view) {
    return view.at | std::uint64_t{view.data_words} << 32 | std::uint64_t{view.pointers} << 48;
}
StructView unpack(std::uint64_t word) {
    return {word & 0xffffffff, static_cast<std::uint16_t>(word >> 32),
            static_cast<std::uint16_t>(word >> 48)};
}

/// One column, opened.
class Column {
  public:
    bool open(Reader &reader, const StructView &view) { return view_.open(reader, view); }
    std::uint32_t count() const { return view_.list.count; }
    /// The type of its numbers if it is packed, else 0.
    std::uint32_t packed() const {
        if (view_.list.count == 0) return 0;
        if (view_.kind == ColumnKind::INTS) return AIOMQ_TYPE_INT;
        return view_.kind == ColumnKind::FLOATS ? AIOMQ_TYPE_FLOAT : 0;
    }
    const void *numbers(const Reader &reader) const { return reader.address(view_.list); }
    bool element(Reader &reader, std::uint32_t index, aiomq_value &ret) const;

  private:
    ColumnView view_;
};

Reader reader_of(const aiomq_value &value) {
    return {reinterpret_cast<const void *>(value.place[kMessage]), value.place[kMessageBytes]};
}

/// A value of @type that says in which message it lies.
aiomq_value blank(const aiomq_value &like, std::uint32_t type) {
    aiomq_value value{};
    value.type = type;
    value.place[kMessage] = like.place[kMessage];
    value.place[kMessageBytes] = like.place[kMessageBytes];
    return value;
}

void set_data(aiomq_value &value, std::uint32_t type, const BytesView &bytes) {
    value.type = type;
    value.count = bytes.size;
    value.value.data = bytes.data;
}

bool open_column(Reader &reader, const StructView &view, aiomq_value &ret) {
    Column column;
    if (!column.open(reader, view)) return false;
    ret.count = column.count();
    ret.packed = column.packed();
    if (ret.packed != 0) ret.value.data = column.numbers(reader);
    ret.place[kColumn] = pack(view);
    ret.place[kForm] = static_cast<std::uint64_t>(Form::kColumn);
    return true;
}

bool open_mapping(Reader &reader, const StructView &view, aiomq_value &ret) {
    StructView keys;
    StructView values;
    Column key_column;
    Column value_column;
    if (!reader.get_struct(view, 0, keys) || !reader.get_struct(view, 1, values) ||
        !key_column.open(reader, keys) || !value_column.open(reader, values))
        return false;
    if (key_column.count() != value_column.count()) return damaged("keys without values");
    ret.count = key_column.count();
    ret.place[kColumn] = pack(keys);
    ret.place[kValues] = pack(values);
    ret.place[kForm] = static_cast<std::uint64_t>(Form::kDict);
    return true;
}

bool open_value(Reader &reader, const StructView &view, aiomq_value &ret) {
    const std::uint64_t tag = reader.data(view, kTagWord);
    const auto kind = static_cast<ValueKind>(tag & kTagMask);
    ret.type = static_cast<std::uint32_t>(tag & kTagMask);
    BytesView bytes;
    StructView content;
    switch (kind) {
        case ValueKind::NONE:
            return true;
        case ValueKind::BOOL:
            ret.value.integer = static_cast<std::int64_t>(tag >> kBoolShift & 1);
            return true;
        case ValueKind::INT:
            ret.value.integer = static_cast<std::int64_t>(reader.data(view, kScalarWord));
            return true;
        case ValueKind::FLOAT:
            ret.value.real = std::bit_cast<double>(reader.data(view, kScalarWord));
            return true;
        case ValueKind::TEXT:
            if (!reader.get_text(view, 0, bytes)) return false;
            set_data(ret, ret.type, bytes);
            return true;
        case ValueKind::BIGINT:
        case ValueKind::BYTES:
        case ValueKind::PICKLE:
            if (!reader.get_bytes(view, 0, bytes)) return false;
            set_data(ret, ret.type, bytes);
            return true;
        case ValueKind::LIST:
        case ValueKind::TUPLE:
        case ValueKind::SET:
        case ValueKind::FROZENSET:
            return reader.get_struct(view, 0, content) && open_column(reader, content, ret);
        case ValueKind::DICT:
            return reader.get_struct(view, 0, content) && open_mapping(reader, content, ret);
        case ValueKind::BUFFERED:
            if (!reader.get_struct(view, 0, content) || !reader.get_bytes(content, 0, bytes))
                return false;
            set_data(ret, ret.type, bytes);
            return true;
    }
    return damaged("a value of unknown kind");
}

bool Column::element(Reader &reader, std::uint32_t index, aiomq_value &ret) const {
    switch (view_.kind) {
        case ColumnKind::VALUES:
            return open_value(reader, reader.element(view_.list, index), ret);
        case ColumnKind::INTS:
            ret.type = AIOMQ_TYPE_INT;
            ret.value.integer = static_cast<std::int64_t>(reader.number8(view_.list, index));
            return true;
        case ColumnKind::FLOATS:
            ret.type = AIOMQ_TYPE_FLOAT;
            ret.value.real = std::bit_cast<double>(reader.number8(view_.list, index));
            return true;
        case ColumnKind::TEXTS:
        case ColumnKind::BYTES: {
            BytesView bytes;
            if (!view_.joined_element(reader, index, bytes)) return false;
            set_data(ret, view_.kind == ColumnKind::TEXTS ? AIOMQ_TYPE_TEXT : AIOMQ_TYPE_BYTES,
                     bytes);
            return true;
        }
    }
    return false;
}

/// Element @index of the column that is packed in @place.
int column_element(const aiomq_value &container, std::uint64_t place, std::uint32_t index,
                   aiomq_value &ret) {
    Reader reader = reader_of(container);
    Column column;
    aiomq_value value = blank(container, 0);
    if (!column.open(reader, unpack(place)) || index >= column.count() ||
        !column.element(reader, index, value))
        return kDamaged;
    ret = value;
    return 0;
}

int row_element(const aiomq_value &row, std::uint32_t index, aiomq_value &ret) {
    Reader reader = reader_of(row);
    ListView columns;
    if (!reader.get_structs(unpack(row.place[kColumn]), 0, columns) || index >= columns.count)
        return kDamaged;
    Column column;
    aiomq_value value = blank(row, 0);
    if (!column.open(reader, reader.element(columns, index)) || row.row >= column.count() ||
        !column.element(reader, row.row, value))
        return kDamaged;
    ret = value;
    return 0;
}

int root_element(const aiomq_value &container, aiomq_value &ret) {
    Reader reader = reader_of(container);
    aiomq_value value = blank(container, 0);
    if (!open_value(reader, unpack(container.place[kColumn]), value)) return kDamaged;
    ret = value;
    return 0;
}

/// A tuple of one value that contains no others.
void set_only(aiomq_value &tuple, const aiomq_value &only) {
    tuple.count = 1;
    tuple.row = only.type;
    tuple.place[kColumn] = only.count;
    tuple.place[kValues] = std::bit_cast<std::uint64_t>(only.value.integer);
    tuple.place[kForm] = static_cast<std::uint64_t>(Form::kPlain);
}

/// A payload or result without a message. False: it is none of these.
bool open_plain(unsigned kind, std::int64_t integer, const void *data, std::uint64_t bytes,
                aiomq_value &ret) {
    ret = aiomq_value{};
    switch (kind) {
        case AIOMQ_KIND_NONE:
            return true;
        case AIOMQ_KIND_BOOL:
            ret.type = AIOMQ_TYPE_BOOL;
            ret.value.integer = integer != 0 ? 1 : 0;
            return true;
        case AIOMQ_KIND_INT:
            ret.type = AIOMQ_TYPE_INT;
            ret.value.integer = integer;
            return true;
        case AIOMQ_KIND_FLOAT:
            ret.type = AIOMQ_TYPE_FLOAT;
            ret.value.real = std::bit_cast<double>(integer);
            return true;
        case AIOMQ_KIND_BYTES:
        case AIOMQ_KIND_TEXT:
            if (bytes > UINT32_MAX) return false;
            ret.type = kind == AIOMQ_KIND_TEXT ? AIOMQ_TYPE_TEXT : AIOMQ_TYPE_BYTES;
            ret.count = static_cast<std::uint32_t>(bytes);
            ret.value.data = data;
            return true;
        default:
            return false;
    }
}

aiomq_value in_message(const void *data, std::uint64_t bytes) {
    aiomq_value value{};
    value.place[kMessage] = reinterpret_cast<std::uintptr_t>(data);
    value.place[kMessageBytes] = bytes;
    return value;
}

bool open_call(Reader &reader, const StructView &call, aiomq_value &positional,
               aiomq_value &keywords) {
    StructView args;
    StructView kwargs;
    return reader.get_struct(call, 0, args) && open_column(reader, args, positional) &&
           reader.get_struct(call, 1, kwargs) && open_mapping(reader, kwargs, keywords);
}

bool open_chunk(Reader &reader, const StructView &root, std::uint32_t item, aiomq_value &positional,
                aiomq_value &keywords) {
    const std::uint64_t word = reader.data(root, 0);
    if (item >= static_cast<std::uint32_t>(word)) return damaged("a chunk with calls missing");
    ListView list;
    if (!reader.get_structs(root, 0, list)) return false;
    const auto which = static_cast<std::uint16_t>(word >> kChunkTagShift);
    if (which == schema::Chunk::CALLS)
        return item < list.count
                   ? open_call(reader, reader.element(list, item), positional, keywords)
                   : damaged("a chunk with calls missing");
    if (which != schema::Chunk::COLUMNS) return damaged("a chunk of unknown kind");
    positional.count = list.count;
    if (list.count == 1) {  // which is what most maps send: found once, here
        Column column;
        aiomq_value only = blank(positional, 0);
        if (!column.open(reader, reader.element(list, 0)) || item >= column.count() ||
            !column.element(reader, item, only))
            return false;
        if (only.type <= AIOMQ_TYPE_BYTES) {
            set_only(positional, only);
            return true;
        }
    }
    positional.row = item;
    positional.place[kColumn] = pack(root);
    positional.place[kForm] = static_cast<std::uint64_t>(Form::kRow);
    return true;
}

}  // namespace

int open_item(const aiomq_item &item, aiomq_value &ret) {
    const std::uint64_t bytes = item.bytes;
    aiomq_value value;
    if (open_plain(item.kind, item.value.integer, item.value.data, bytes, value)) {
        ret = value;
        return 0;
    }
    if (item.kind != AIOMQ_KIND_VALUE) return -EINVAL;
    value = in_message(item.value.data, bytes);
    Reader reader(item.value.data, bytes);
    StructView root;
    if (!reader.root(root) || !open_value(reader, root, value)) return kDamaged;
    ret = value;
    return 0;
}

int open_arguments(const aiomq_job &job, std::uint32_t item, aiomq_value &ret_positional,
                   aiomq_value &ret_keywords) {
    aiomq_value keywords = in_message(job.payload, job.payload_bytes);
    keywords.type = AIOMQ_TYPE_DICT;
    aiomq_value positional = keywords;
    positional.type = AIOMQ_TYPE_TUPLE;
    aiomq_value only;
    if (job.kind == AIOMQ_KIND_NONE) {
        // no argument
    } else if (open_plain(job.kind, job.integer, job.payload, job.payload_bytes, only)) {
        set_only(positional, only);
    } else {
        Reader reader(job.payload, job.payload_bytes);
        StructView root;
        if (!reader.root(root)) return kDamaged;
        bool done = false;
        if (job.kind == AIOMQ_KIND_CALL) {
            done = open_call(reader, root, positional, keywords);
        } else if (job.kind == AIOMQ_KIND_CHUNK) {
            done = open_chunk(reader, root, item, positional, keywords);
        } else if (job.kind == AIOMQ_KIND_VALUE) {
            positional.count = 1;
            positional.place[kColumn] = pack(root);
            positional.place[kForm] = static_cast<std::uint64_t>(Form::kRoot);
            done = true;
        }
        if (!done) return kDamaged;
    }
    ret_positional = positional;
    ret_keywords = keywords;
    return 0;
}

int open_argument_column(const aiomq_job &job, std::uint32_t index, aiomq_value &ret) {
    if (job.kind != AIOMQ_KIND_CHUNK) return -ENOENT;
    aiomq_value column = in_message(job.payload, job.payload_bytes);
    column.type = AIOMQ_TYPE_LIST;
    Reader reader(job.payload, job.payload_bytes);
    StructView root;
    ListView columns;
    if (!reader.root(root)) return kDamaged;
    const std::uint64_t word = reader.data(root, 0);
    if (static_cast<std::uint16_t>(word >> kChunkTagShift) != schema::Chunk::COLUMNS)
        return -ENOENT;
    if (!reader.get_structs(root, 0, columns)) return kDamaged;
    if (index >= columns.count) return -ENOENT;
    if (!open_column(reader, reader.element(columns, index), column) ||
        column.count != static_cast<std::uint32_t>(word))
        return kDamaged;
    ret = column;
    return 0;
}

int open_element(const aiomq_value &container, std::uint32_t index, aiomq_value &ret) {
    if (container.type < AIOMQ_TYPE_LIST || container.type > AIOMQ_TYPE_FROZENSET) return -EINVAL;
    if (index >= container.count) return -ENOENT;
    switch (static_cast<Form>(container.place[kForm])) {
        case Form::kColumn:
            return column_element(container, container.place[kColumn], index, ret);
        case Form::kDict:
            return column_element(container, container.place[kValues], index, ret);
        case Form::kRow:
            return row_element(container, index, ret);
        case Form::kRoot:
            return root_element(container, ret);
        case Form::kPlain:
            break;
    }
    aiomq_value only{};
    only.type = container.row;
    only.count = static_cast<std::uint32_t>(container.place[kColumn]);
    only.value.integer = std::bit_cast<std::int64_t>(container.place[kValues]);
    ret = only;
    return 0;
}

int open_key(const aiomq_value &dict, std::uint32_t index, aiomq_value &ret) {
    if (dict.type != AIOMQ_TYPE_DICT) return -EINVAL;
    if (index >= dict.count) return -ENOENT;
    return column_element(dict, dict.place[kColumn], index, ret);
}

int find_key(const aiomq_value &dict, const char *key, aiomq_value &ret) {
    if (dict.type != AIOMQ_TYPE_DICT) return -EINVAL;
    const std::string_view wanted(key);
    for (std::uint32_t i = 0; i < dict.count; ++i) {
        aiomq_value found;
        if (const int error = open_key(dict, i, found); error != 0) return error;
        if (found.type == AIOMQ_TYPE_TEXT &&
            wanted == std::string_view(static_cast<const char *>(found.value.data), found.count))
            return open_element(dict, i, ret);
    }
    return -ENOENT;
}

bool is_utf8(const char *text, std::size_t bytes) {
    const auto *at = reinterpret_cast<const unsigned char *>(text);
    const auto *end = at + bytes;
    while (at != end) {
        if (end - at >= 8) {  // mostly ASCII
            std::uint64_t eight = 0;
            std::memcpy(&eight, at, sizeof eight);
            if ((eight & 0x8080808080808080) == 0) {
                at += 8;
                continue;
            }
        }
        const unsigned char first = *at++;
        if (first < 0x80) continue;
        const int more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
        if (first < 0xc2 || first > 0xf4 || end - at < more) return false;
        std::uint32_t point = first & (0x3fU >> more);
        for (int i = 0; i < more; ++i) {
            if ((*at & 0xc0) != 0x80) return false;
            point = point << 6 | (*at++ & 0x3fU);
        }
        if ((more == 2 && (point < 0x800 || (point >= 0xd800 && point < 0xe000))) ||
            (more == 3 && (point < 0x10000 || point > 0x10ffff)))
            return false;
    }
    return true;
}

}  // namespace aiomq
