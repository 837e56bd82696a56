#include "value_reader.hpp"

namespace aiomq {
namespace {

PointerKind kind_of(std::uint64_t word) { return static_cast<PointerKind>(word & 3); }

std::uint16_t bits16(std::uint64_t word, unsigned shift) {
    return static_cast<std::uint16_t>(word >> shift);
}

std::uint32_t list_count(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 35); }

ElementSize list_element(std::uint64_t word) { return static_cast<ElementSize>(word >> 32 & 7); }

}  // namespace

Reader::Reader(const void *words, std::uint64_t bytes, py::Lending *lending)
    : words_(static_cast<const volatile std::uint64_t *>(words)),
      count_(bytes / 8),
      lending_(lending) {
    renew_budget();
}

bool Reader::charge(std::uint64_t words) {
    if (words >= budget_) {
        return damaged("it would unfold to more than its size");
    }
    budget_ -= words + 1;
    return true;
}

bool Reader::root(StructView &view) {
    if (count_ == 0) {
        return damaged("it is empty");
    }
    Target target;
    return follow_at(0, target) && as_struct(target, view);
}

bool Reader::follow(const StructView &view, unsigned pointer, Target &target) {
    if (pointer >= view.pointers) {
        target.null = true;
        return true;
    }
    return follow_at(view.at + view.data_words + pointer, target);
}

bool Reader::follow_at(std::uint64_t position, Target &target) {
    std::uint64_t word = load(position);
    if (word == 0) {
        target.null = true;
        return true;
    }
    if (kind_of(word) == PointerKind::kFar) {
        if ((word & 4) != 0) {
            return follow_far(word, target);
        }
        position = word >> 3 & 0x1fffffff;
        if (word >> 32 != 0 || !fits(position, 1)) {
            return damaged("a pointer leads out of it");
        }
        word = load(position);
    }
    if (kind_of(word) != PointerKind::kStruct && kind_of(word) != PointerKind::kList) {
        return damaged("a pointer of unknown kind");
    }
    const std::int64_t offset = static_cast<std::int32_t>(word & 0xffffffff) >> 2;
    const std::int64_t at = static_cast<std::int64_t>(position) + 1 + offset;
    if (at < 0 || at > static_cast<std::int64_t>(count_)) {
        return damaged("a pointer leads out of it");
    }
    target = {false, static_cast<std::uint64_t>(at), word};
    return true;
}

// A far pointer of the second kind leads to two words: where the content is, and what it is.
bool Reader::follow_far(std::uint64_t far, Target &target) {
    const std::uint64_t pad = far >> 3 & 0x1fffffff;
    if (far >> 32 != 0 || !fits(pad, 2)) {
        return damaged("a pointer leads out of it");
    }
    const std::uint64_t where = load(pad);
    const std::uint64_t what = load(pad + 1);
    const std::uint64_t at = where >> 3 & 0x1fffffff;
    if ((where & 7) != static_cast<std::uint64_t>(PointerKind::kFar) || where >> 32 != 0 ||
        at > count_) {
        return damaged("a pointer leads out of it");
    }
    if (kind_of(what) != PointerKind::kStruct && kind_of(what) != PointerKind::kList) {
        return damaged("a pointer of unknown kind");
    }
    target = {false, at, what};
    return true;
}

bool Reader::as_struct(const Target &target, StructView &ret) {
    ret = StructView{};
    if (target.null) {
        return true;
    }
    if (kind_of(target.word) != PointerKind::kStruct) {
        return damaged("a list where a struct should be");
    }
    const StructView view{target.at, bits16(target.word, 32), bits16(target.word, 48)};
    const std::uint64_t words = std::uint64_t{view.data_words} + view.pointers;
    if (!fits(view.at, words)) {
        return damaged("a struct reaches out of it");
    }
    ret = view;
    return charge(words);
}

bool Reader::as_list(const Target &target, ElementSize size, std::uint64_t element_bytes,
                     ListView &ret) {
    ret = ListView{};
    if (target.null) {
        return true;
    }
    if (kind_of(target.word) != PointerKind::kList || list_element(target.word) != size) {
        return damaged("not the kind of list that should be there");
    }
    ret.at = target.at;
    ret.count = list_count(target.word);
    const std::uint64_t words = words_of_bytes(ret.count * element_bytes);
    if (!fits(ret.at, words)) {
        return damaged("a list reaches out of it");
    }
    return charge(words);
}

bool Reader::get_struct(const StructView &view, unsigned pointer, StructView &ret) {
    Target target;
    return follow(view, pointer, target) && as_struct(target, ret);
}

bool Reader::get_structs(const StructView &view, unsigned pointer, ListView &ret) {
    Target target;
    // The count in a composite list's pointer is of words; the elements' is in the tag.
    if (!follow(view, pointer, target) ||
        !as_list(target, ElementSize::kComposite, sizeof(std::uint64_t), ret)) {
        return false;
    }
    if (target.null) {
        return true;
    }
    const std::uint64_t words = ret.count;
    if (!fits(ret.at, words + 1)) {
        return damaged("a list reaches out of it");
    }
    const std::uint64_t tag = load(ret.at);
    if (kind_of(tag) != PointerKind::kStruct) {
        return damaged("a list's tag is no struct");
    }
    ret.at += 1;
    ret.count = static_cast<std::uint32_t>(tag & 0xffffffff) >> 2;
    ret.element = {0, bits16(tag, 32), bits16(tag, 48)};
    ret.stride = std::uint32_t{ret.element.data_words} + ret.element.pointers;
    if (std::uint64_t{ret.count} * ret.stride > words) {
        return damaged("a list's elements reach out of it");
    }
    return ret.stride != 0 || charge(ret.count);
}

bool Reader::get_numbers(const StructView &view, unsigned pointer, ElementSize size,
                         ListView &ret) {
    Target target;
    return follow(view, pointer, target) &&
           as_list(target, size, size == ElementSize::kFourBytes ? 4 : 8, ret);
}

bool Reader::get_bytes(const StructView &view, unsigned pointer, BytesView &ret) {
    Target target;
    ListView list;
    ret = BytesView{};
    if (!follow(view, pointer, target) || !as_list(target, ElementSize::kByte, 1, list)) {
        return false;
    }
    if (list.count != 0) {
        // Handed out as ordinary memory: it is copied or decoded, in one pass, by whoever asked.
        ret = {const_cast<const char *>(reinterpret_cast<const volatile char *>(words_ + list.at)),
               list.count};
    }
    return true;
}

bool Reader::get_text(const StructView &view, unsigned pointer, BytesView &ret) {
    if (is_null(view, pointer)) {
        ret = BytesView{};
        return true;
    }
    if (!get_bytes(view, pointer, ret)) {
        return false;
    }
    if (ret.size == 0 || ret.data[ret.size - 1] != '\0') {
        return damaged("a text without its NUL");
    }
    ret.size -= 1;
    return true;
}

StructView Reader::element(const ListView &list, std::uint32_t index) const {
    StructView view = list.element;
    view.at = list.at + std::uint64_t{index} * list.stride;
    return view;
}

std::uint32_t Reader::number4(const ListView &list, std::uint32_t index) const {
    const std::uint64_t word = load(list.at + index / 2);
    return static_cast<std::uint32_t>(index % 2 == 0 ? word : word >> 32);
}

bool ColumnView::open(Reader &reader, const StructView &view) {
    kind = static_cast<ColumnKind>(reader.data(view, 0) & 0xffff);
    joined = BytesView{};
    switch (kind) {
        case ColumnKind::VALUES:
            return reader.get_structs(view, 0, list);
        case ColumnKind::INTS:
        case ColumnKind::FLOATS:
            return reader.get_numbers(view, 0, ElementSize::kEightBytes, list);
        case ColumnKind::TEXTS:
        case ColumnKind::BYTES:
            return reader.get_numbers(view, 0, ElementSize::kFourBytes, list) &&
                   reader.get_bytes(view, 1, joined);
    }
    return damaged("a column of unknown kind");
}

}  // namespace aiomq
