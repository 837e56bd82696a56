// Plan: Python objects measured and flattened, ready to be written without touching Python again.
//
// Why two steps: a message is built in shared memory, so its size must be known first, and nothing may
// change in between. A plan is made and written under one NoCollection, and neither step calls Python
// code, so the objects can't change and the addresses of their bytes stay valid. What is not plain is
// only reported here: the Encoder pickles it, which does run Python code, and plans again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "buffer.hpp"
#include "python.hpp"
#include "value_layout.hpp"
#include "value_writer.hpp"

namespace aiomq::py {

/// Nodes in a row. The first few, which is all that most calls need, live inside.
class NodeBuffer {
  public:
    NodeBuffer() = default;
    ~NodeBuffer();
    NodeBuffer(const NodeBuffer &) = delete;
    NodeBuffer &operator=(const NodeBuffer &) = delete;

    /// False: out of memory.
    bool push(const Node &node) {
        if (size_ == capacity_ && !grow()) {
            return false;
        }
        nodes_[size_++] = node;
        return true;
    }
    void truncate(std::size_t size) { size_ = size; }
    std::size_t size() const { return size_; }
    Node &operator[](std::size_t index) { return nodes_[index]; }
    const Node *begin() const { return nodes_; }

  private:
    static constexpr std::size_t kInside = 24;

    bool grow();

    Node inside_[kInside];
    Node *nodes_ = inside_;
    std::size_t size_ = 0;
    std::size_t capacity_ = kInside;
};

class Plan {
  public:
    enum class Status {
        kOk,
        kNotPlain,  ///< must be pickled; nothing was added
        kTooLarge,  ///< can't be a message at all
        kFailed     ///< a Python exception is set
    };

    /// Where a column began; end_column() needs it.
    struct Mark {
        std::size_t head;
        std::uint64_t words;
        std::uint32_t kinds;
    };

    void reset();
    /// Adds one argument, item or result.
    Status add(PyObject *object);
    /// Adds the ints that @list begins with, up to the first object that is not an int of 64 bits. Same
    /// as add() for each, only faster. @ret_end: index of that object.
    Status add_ints(PyObject *list, Py_ssize_t &ret_end);
    /// Adds @count ints from @number on, each @step more than the one before.
    Status add_range(std::int64_t number, std::int64_t step, Py_ssize_t count);
    /// Adds @pickled in place of an object that is not plain. Borrowed.
    Status add_pickle(const Pickled &pickled);
    /// What is added from here to end_column() is one column.
    Status begin_column(Mark &mark);
    /// @in_list: the column's own struct is an element of a list, counted by the caller.
    Status end_column(const Mark &mark, std::uint64_t count, bool in_list = false);
    /// Counts words of structs that the message has around the values.
    void add_words(std::uint64_t words) { words_ += words; }

    const Node *nodes() const { return nodes_.begin(); }
    /// Of the whole message: what is written in order, and the buffers behind it.
    std::uint64_t words() const {
        return buffer_words_ == 0 ? words_ : aligned_words(words_) + buffer_words_;
    }
    std::uint64_t words_in_order() const { return words_; }
    /// The message will point to @buffer where it is, which is @at.
    void leave_in_place(const Buffer &buffer, std::uint64_t *at) {
        buffer_words_ -= aligned_words(words_of_bytes(buffer.bytes()));
        placed_ = &buffer;
        placed_at_ = at;
    }
    /// Where @buffer is if it is left in place, else null.
    std::uint64_t *placed_at(const Buffer &buffer) const {
        return &buffer == placed_ ? placed_at_ : nullptr;
    }

  private:
    struct Visit {
        std::uint64_t words;
        bool repeated;
    };

    Status add_value(PyObject *object, unsigned depth);
    Status add_int(PyObject *object);
    Status add_bigint(PyObject *object);
    Status add_text(PyObject *object, unsigned depth);
    Status add_bytes(PyObject *object, unsigned depth);
    Status add_data(ValueKind kind, const void *data, std::uint64_t bytes, std::uint64_t words);
    Status add_node(ValueKind kind, Node node, std::uint64_t words);
    Status add_sequence(PyObject *object, ValueKind kind, unsigned depth);
    Status add_set(PyObject *object, ValueKind kind, unsigned depth);
    Status add_dict(PyObject *object, unsigned depth);
    Status push(ValueKind kind, std::int64_t integer);
    Status enter(PyObject *object, bool changeable, unsigned depth, Visit &visit);
    Status leave(const Visit &visit);
    Status note_large(PyObject *object, std::uint64_t words, unsigned depth);

    NodeBuffer nodes_;
    std::uint64_t words_ = 0;
    std::uint64_t buffer_words_ = 0;
    const Buffer *placed_ = nullptr;
    std::uint64_t *placed_at_ = nullptr;
    std::uint32_t kinds_ = 0;  // bit per ValueKind seen in the column being added

    // Of the object that add() is at: see enter().
    PyObject *root_ = nullptr;
    std::unordered_set<PyObject *> seen_;
    std::uint64_t repeated_words_ = 0;
    unsigned inside_repeated_ = 0;

    std::vector<Ref> kept_;  // bytes of big integers, which `data` of their nodes points into
};

}  // namespace aiomq::py
