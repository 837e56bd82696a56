// Reader: structs and lists of a flat Cap'n Proto message, every bound checked.
//
// The message may lie in memory that another process could still write to. So each word is loaded once
// and judged by what was loaded; nothing that was checked is loaded again. What is read is then at worst
// nonsense, never out of bounds. When not to use: for messages of several segments.
//
// Errors: functions return what damaged() returns, which is false.
#pragma once

#include <cstddef>
#include <cstdint>

#include "value_layout.hpp"

namespace aiomq {

namespace py {
class Lending;  // what keeps a message whose views outlive their reading: the codec's
}

/// Called when a message is damaged: notes @what is wrong, as its program does that, and returns false.
/// The library says no more than -EBADMSG, the codec raises ValueError.
bool damaged(const char *what);

/// A struct in a message: word positions. All fields of a null pointer's struct are 0 or null.
struct StructView {
    std::uint64_t at = 0;
    std::uint16_t data_words = 0;
    std::uint16_t pointers = 0;
};

/// A list in a message. Composite lists have `stride` words for each element.
struct ListView {
    std::uint64_t at = 0;
    std::uint32_t count = 0;
    std::uint32_t stride = 0;
    StructView element;  ///< shape of composite elements; `at` is not used
};

/// A run of bytes in a message.
struct BytesView {
    const char *data = "";
    std::uint32_t size = 0;
};

class Reader {
  public:
    Reader() = default;
    /// @words: 8-byte aligned; @bytes that are not a whole word are not looked at.
    Reader(const void *words, std::uint64_t bytes, py::Lending *lending = nullptr);

    /// Allows one reading of the message: at most so much is followed until the next call. Whoever reads a
    /// tree of objects reads each word once; charge() adds one for each object, whose pointer was a word
    /// too. Pointers that share objects, which no writer of ours makes, come to the end of it.
    void renew_budget() { budget_ = 2 * count_ + kFreeElements; }

    bool root(StructView &view);
    std::uint64_t data(const StructView &view, unsigned word) const {
        return word < view.data_words ? load(view.at + word) : 0;
    }
    bool is_null(const StructView &view, unsigned pointer) const {
        return pointer >= view.pointers || load(view.at + view.data_words + pointer) == 0;
    }
    /// A null pointer gives a view without fields, without elements, without bytes.
    bool get_struct(const StructView &view, unsigned pointer, StructView &ret);
    /// A list of structs.
    bool get_structs(const StructView &view, unsigned pointer, ListView &ret);
    /// A list of 4- or 8-byte numbers.
    bool get_numbers(const StructView &view, unsigned pointer, ElementSize size, ListView &ret);
    bool get_bytes(const StructView &view, unsigned pointer, BytesView &ret);
    bool get_text(const StructView &view, unsigned pointer, BytesView &ret);

    /// @index below list.count, which is up to the caller; so below.
    StructView element(const ListView &list, std::uint32_t index) const;
    std::uint64_t number8(const ListView &list, std::uint32_t index) const {
        return load(list.at + index);
    }
    std::uint32_t number4(const ListView &list, std::uint32_t index) const;
    /// Where the list's elements are; handed out as ordinary memory.
    const void *address(const ListView &list) const {
        return const_cast<const std::uint64_t *>(words_ + list.at);
    }

    /// What keeps the message when views of it are to outlive the decoding; may be null.
    py::Lending *lending() const { return lending_; }

  private:
    /// Elements without size cost no words of the message, but objects of ours.
    static constexpr std::uint64_t kFreeElements = 65536;

    /// What a pointer leads to, within bounds.
    struct Target {
        bool null = true;
        std::uint64_t at = 0;    // of the content
        std::uint64_t word = 0;  // the pointer's own word, for kind and sizes
    };

    std::uint64_t load(std::uint64_t position) const { return words_[position]; }
    bool follow(const StructView &view, unsigned pointer, Target &target);
    bool follow_at(std::uint64_t position, Target &target);
    bool follow_far(std::uint64_t far, Target &target);
    bool as_struct(const Target &target, StructView &ret);
    bool as_list(const Target &target, ElementSize size, std::uint64_t element_bytes,
                 ListView &ret);
    bool fits(std::uint64_t at, std::uint64_t words) const {
        return at <= count_ && words <= count_ - at;
    }
    bool charge(std::uint64_t words);

    const volatile std::uint64_t *words_ = nullptr;
    std::uint64_t count_ = 0;
    std::uint64_t budget_ = 0;
    py::Lending *lending_ = nullptr;
};

/// One column, opened: where its elements are.
struct ColumnView {
    ColumnKind kind = ColumnKind::VALUES;
    ListView list;
    BytesView joined;  ///< of texts or bytes: `list` has their ends

    bool open(Reader &reader, const StructView &view);
    /// Element @index, below list.count, of texts or bytes.
    bool joined_element(const Reader &reader, std::uint32_t index, BytesView &ret) const {
        const std::uint32_t start = index == 0 ? 0 : reader.number4(list, index - 1);
        const std::uint32_t end = reader.number4(list, index);
        if (start > end || end > joined.size) {
            return damaged("an element reaches out of its column");
        }
        ret = {joined.data + start, end - start};
        return true;
    }
};

}  // namespace aiomq
