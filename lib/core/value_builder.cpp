#include "value_builder.hpp"

#include <aiomq/aiomq.h>

#include <cerrno>

namespace aiomq {
namespace {

constexpr std::uint32_t bit(std::uint16_t kind) { return 1U << kind; }
constexpr std::uint32_t bit(ValueKind kind) { return bit(static_cast<std::uint16_t>(kind)); }

bool is_sequence(std::uint16_t kind) {
    return (bit(kind) & (bit(ValueKind::LIST) | bit(ValueKind::TUPLE) | bit(ValueKind::SET) |
                         bit(ValueKind::FROZENSET))) != 0;
}

Node node_of(ValueKind kind) {
    Node node{};
    node.kind = static_cast<std::uint16_t>(kind);
    return node;
}

/// The head of a column of @count elements with these @kinds and, of texts or bytes, @joined bytes.
Node head_of(std::uint32_t kinds, std::uint64_t count, std::uint64_t joined) {
    Node head{};
    head.count = static_cast<std::uint32_t>(count);
    ColumnKind kind = ColumnKind::VALUES;
    if (kinds == bit(ValueKind::INT)) kind = ColumnKind::INTS;
    if (kinds == bit(ValueKind::FLOAT)) kind = ColumnKind::FLOATS;
    if (joined <= kBytesLimit && kinds == bit(ValueKind::TEXT)) kind = ColumnKind::TEXTS;
    if (joined <= kBytesLimit && kinds == bit(ValueKind::BYTES)) kind = ColumnKind::BYTES;
    if (count == 0) return head;
    head.kind = static_cast<std::uint16_t>(kind);
    if (kind == ColumnKind::TEXTS || kind == ColumnKind::BYTES) head.joined = joined;
    return head;
}

}  // namespace

void ValueBuilder::reset() {
    nodes_.clear();
    open_.clear();
    starts_.clear();
    calls_.clear();
    names_.clear();
    named_ = false;
    shape_ = Shape::kNone;
}

/// A value begins at the end of nodes_.
int ValueBuilder::note_value() {
    if (open_.empty()) {
        if (!names_.empty() && !named_) return -EINVAL;  // a positional argument behind keywords
        named_ = false;
        starts_.push_back(nodes_.size());
    } else {
        open_.back().elements.push_back(nodes_.size());
    }
    return 0;
}

int ValueBuilder::add(ValueKind kind, std::int64_t integer) {
    if (const int error = note_value(); error != 0) return error;
    Node node = node_of(kind);
    node.integer = integer;
    nodes_.push_back(node);
    return 0;
}

int ValueBuilder::add_data(ValueKind kind, const void *data, std::uint64_t bytes) {
    if (bytes > kBytesLimit) return -EMSGSIZE;
    if (const int error = note_value(); error != 0) return error;
    Node node = node_of(kind);
    node.data = data;
    node.count = static_cast<std::uint32_t>(bytes);
    nodes_.push_back(node);
    return 0;
}

int ValueBuilder::add_numbers(ColumnKind kind, const void *numbers, std::uint64_t count) {
    if (count > kElementsLimit) return -EMSGSIZE;
    if (open_.size() >= kDepthLimit) return -EMSGSIZE;
    if (const int error = note_value(); error != 0) return error;
    nodes_.push_back(node_of(ValueKind::LIST));
    Node head{};
    head.count = static_cast<std::uint32_t>(count);
    if (count != 0) {
        head.kind = static_cast<std::uint16_t>(kind);
        head.data = numbers;
        head.array = 1;
    }
    nodes_.push_back(head);
    return 0;
}

int ValueBuilder::begin(ValueKind kind) {
    const auto number = static_cast<std::uint16_t>(kind);
    if (!is_sequence(number) && kind != ValueKind::DICT) return -EINVAL;
    if (open_.size() >= kDepthLimit) return -EMSGSIZE;
    if (const int error = note_value(); error != 0) return error;
    open_.push_back({nodes_.size(), {}});
    nodes_.push_back(node_of(kind));
    if (kind != ValueKind::DICT) nodes_.emplace_back();  // the head
    return 0;
}

int ValueBuilder::end() {
    if (open_.empty()) return -EINVAL;
    const Container &container = open_.back();
    const std::size_t count = container.elements.size();
    if (count > kElementsLimit) return -EMSGSIZE;
    laid_out_.clear();
    if (static_cast<ValueKind>(nodes_[container.node].kind) == ValueKind::DICT) {
        if (count % 2 != 0) return -EINVAL;
        nodes_[container.node].count = static_cast<std::uint32_t>(count / 2);
        for (const std::size_t side : {0, 1})
            append_column(count / 2,
                          [&](std::size_t i) { return container.elements[2 * i + side]; });
    } else {
        append_column(count, [&](std::size_t i) { return container.elements[i]; });
    }
    nodes_.resize(container.node + 1);
    nodes_.insert(nodes_.end(), laid_out_.begin(), laid_out_.end());
    open_.pop_back();
    return 0;
}

int ValueBuilder::keyword(std::string_view name) {
    if (!closed()) return -EINVAL;
    if (!calls_.empty()) return -EINVAL;  // a Chunk's calls have none
    names_.push_back(name);
    named_ = true;
    return 0;
}

int ValueBuilder::next_call() {
    if (!closed() || !names_.empty() || calls() >= AIOMQ_ITEMS_MAX) return -EINVAL;
    calls_.push_back(starts_.size());
    return 0;
}

/// One past the last node of the value that begins at @value.
std::size_t ValueBuilder::after(std::size_t value) const {
    const Node &node = nodes_[value];
    const bool dict = static_cast<ValueKind>(node.kind) == ValueKind::DICT;
    if (!is_sequence(node.kind) && !dict) return value + 1;
    std::size_t next = value + 1;
    for (int columns = dict ? 2 : 1; columns > 0; --columns) {
        const Node &head = nodes_[next++];
        if (head.array != 0) continue;
        for (std::uint32_t i = 0; i < head.count; ++i) next = after(next);
    }
    return next;
}

void ValueBuilder::append(std::vector<Node> &nodes, std::size_t value) const {
    const auto first = nodes_.begin() + static_cast<std::ptrdiff_t>(value);
    const auto upto = nodes_.begin() + static_cast<std::ptrdiff_t>(after(value));
    nodes.insert(nodes.end(), first, upto);
}

/// Lays out one column whose element i begins at start(i).
template <class Start>
void ValueBuilder::append_column(std::uint64_t count, Start start) {
    const std::size_t head = laid_out_.size();
    laid_out_.emplace_back();
    std::uint32_t kinds = 0;
    std::uint64_t joined = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::size_t value = start(i);
        kinds |= bit(nodes_[value].kind);
        joined += nodes_[value].count;
        append(laid_out_, value);
    }
    laid_out_[head] = head_of(kinds, count, joined);
}

int ValueBuilder::lay_out(unsigned kind) {
    shape_ = Shape::kNone;
    laid_out_.clear();
    if (!closed()) return -EINVAL;
    const std::size_t positional = starts_.size() - names_.size();
    switch (kind) {
        case AIOMQ_KIND_VALUE:
            if (starts_.size() != 1 || !names_.empty() || !calls_.empty()) return -EINVAL;
            laid_out_ = nodes_;
            shape_ = Shape::kValue;
            return 0;
        case AIOMQ_KIND_CALL: {
            if (!calls_.empty()) return -EINVAL;
            append_column(positional, [&](std::size_t i) { return starts_[i]; });
            shape_ = Shape::kCall;
            if (names_.empty()) return 0;
            std::uint64_t joined = 0;
            for (const std::string_view name : names_) joined += name.size();
            laid_out_.push_back(head_of(bit(ValueKind::TEXT), names_.size(), joined));
            for (const std::string_view name : names_) {
                Node node = node_of(ValueKind::TEXT);
                node.data = name.data();
                node.count = static_cast<std::uint32_t>(name.size());
                laid_out_.push_back(node);
            }
            append_column(names_.size(), [&](std::size_t i) { return starts_[positional + i]; });
            return 0;
        }
        case AIOMQ_KIND_CHUNK:
            return names_.empty() ? lay_out_chunk() : -EINVAL;
        default:
            return -EINVAL;
    }
}

int ValueBuilder::lay_out_chunk() {
    const std::size_t count = calls();
    const auto first_of = [&](std::size_t call) { return call == 0 ? 0 : calls_[call - 1]; };
    const auto width_of = [&](std::size_t call) {
        return (call < calls_.size() ? calls_[call] : starts_.size()) - first_of(call);
    };
    const std::size_t width = width_of(0);
    bool same = true;
    for (std::size_t call = 1; call < count; ++call) same = same && width_of(call) == width;
    if (same) {
        for (std::size_t i = 0; i < width; ++i)
            append_column(count, [&](std::size_t call) { return starts_[first_of(call) + i]; });
        width_ = static_cast<std::uint32_t>(width);
        shape_ = Shape::kColumns;
        return 0;
    }
    for (std::size_t call = 0; call < count; ++call)
        append_column(width_of(call), [&](std::size_t i) { return starts_[first_of(call) + i]; });
    shape_ = Shape::kCalls;
    return 0;
}

/// Words of what the value's pointer leads to. @ret_content: whether there is anything.
std::uint64_t ValueBuilder::measure_value(const Node *&next, bool &ret_content) const {
    const Node &node = *next++;
    ret_content = true;
    std::uint64_t words = 0;
    if (is_sequence(node.kind)) {
        words = measure_column(next);
    } else {
        switch (static_cast<ValueKind>(node.kind)) {
            case ValueKind::DICT: {
                const std::uint64_t keys = measure_column(next);
                const std::uint64_t values = measure_column(next);
                if (node.count != 0) words = kMappingSize.words() + keys + values;
                break;
            }
            case ValueKind::TEXT:
                if (node.count != 0) words = words_of_text(node.count);
                break;
            case ValueKind::BYTES:
            case ValueKind::BIGINT:
            case ValueKind::PICKLE:
                words = words_of_bytes(node.count);
                break;
            default:
                break;
        }
    }
    ret_content = words != 0;
    return words;
}

/// Words of a column, its own struct included; 0 for an empty one.
std::uint64_t ValueBuilder::measure_column(const Node *&next) const {
    const Node &head = *next;
    const std::uint64_t content = measure_elements(next);
    return head.count == 0 ? 0 : column_size(head).words() + content;
}

/// Words of what a column's pointers lead to.
std::uint64_t ValueBuilder::measure_elements(const Node *&next) const {
    const Node &head = *next++;
    if (head.count == 0) return 0;
    std::uint64_t words = 0;
    bool content = false;
    switch (static_cast<ColumnKind>(head.kind)) {
        case ColumnKind::VALUES:
            words += 1 + std::uint64_t{head.count} * kValueSize.words();
            for (std::uint32_t i = 0; i < head.count; ++i) words += measure_value(next, content);
            break;
        case ColumnKind::INTS:
        case ColumnKind::FLOATS:
            words += head.count;
            if (head.array == 0) next += head.count;
            break;
        case ColumnKind::TEXTS:
        case ColumnKind::BYTES:
            words += words_of_ends(head.count) + words_of_bytes(head.joined);
            next += head.count;
            break;
    }
    return words;
}

std::int64_t ValueBuilder::measure(unsigned kind) {
    if (const int error = lay_out(kind); error != 0) return error;
    const Node *next = laid_out_.data();
    const Node *end = next + laid_out_.size();
    std::uint64_t words = 1;
    bool content = false;
    switch (shape_) {
        case Shape::kValue: {
            const std::uint64_t inside = measure_value(next, content);
            words += kValueSize.data_words + (content ? 1U : 0U) + inside;
            break;
        }
        case Shape::kCall: {
            const std::uint64_t args = measure_column(next);
            const bool keywords = next != end;
            words += (keywords ? 2U : args != 0 ? 1U : 0U) + args;
            if (keywords) {
                words += kMappingSize.words() + measure_column(next);
                words += measure_column(next);
            }
            break;
        }
        case Shape::kColumns:
            words += kChunkSize.data_words;
            if (width_ == 0) break;
            words += 2 + std::uint64_t{width_} * kColumnSize.words();
            for (std::uint32_t i = 0; i < width_; ++i) words += measure_elements(next);
            break;
        case Shape::kCalls:
            words += kChunkSize.words() + 1 + calls() * kCallSize.words();
            while (next != end) words += measure_column(next);
            break;
        case Shape::kNone:
            break;
    }
    if (words > kWordsLimit) return -EMSGSIZE;
    return static_cast<std::int64_t>(words * sizeof(std::uint64_t));
}

void ValueBuilder::store(std::uint64_t *words) const {
    Writer writer(laid_out_.data(), words);
    switch (shape_) {
        case Shape::kValue:
            writer.write_value_root();
            break;
        case Shape::kCall:
            writer.write_call_root(!names_.empty());
            break;
        case Shape::kColumns:
            writer.write_chunk_columns(static_cast<std::uint32_t>(calls()), width_);
            break;
        case Shape::kCalls:
            writer.write_chunk_calls(static_cast<std::uint32_t>(calls()));
            break;
        case Shape::kNone:
            break;
    }
}

}  // namespace aiomq
