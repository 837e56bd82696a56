// Encoder: Python objects to one message. Pickles what is not plain, plans, then writes.
//
// Use: prepare_…() once; then words() and write(), before anything else runs in this thread, because the
// plan points into Python objects and the collector is held off until the Encoder is gone.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "place.hpp"
#include "plan.hpp"
#include "python.hpp"

namespace aiomq::py {

class Encoder {
  public:
    /// One result. @culprit names it in errors. False: EncodeError, or a BaseException, is set; so below.
    bool prepare_value(PyObject *object, const char *culprit);
    /// The arguments of one call: a tuple and a dict.
    bool prepare_call(PyObject *args, PyObject *kwargs);
    /// The arguments of @items[start:stop], a list or range. @star: each item is an iterable of arguments.
    bool prepare_chunk(PyObject *items, Py_ssize_t start, Py_ssize_t stop, bool star);

    /// Leaves the first buffer where it is that lies in a place of @pool which nobody else has. Then the
    /// message is to be written to the place's block, whose room it fits. Null: there is none.
    const Place *use_place(aiomq_pool *pool);
    /// Length of the message.
    std::uint64_t words() const { return plan_.words(); }
    /// Writes the message to words() words at @words, 8-byte aligned.
    void write(std::uint64_t *words) const;

  private:
    enum class Shape { kValue, kCall, kColumns, kCalls };

    bool prepare();
    Plan::Status plan_all();
    Plan::Status plan_call();
    Plan::Status plan_columns();
    Plan::Status plan_calls();
    /// Adds object number @ordinal, or its pickle, or notes that it needs one.
    Plan::Status add(PyObject *object);
    bool pickle(std::size_t ordinal, PyObject *object);
    bool take_range(PyObject *range, Py_ssize_t start, Py_ssize_t stop);
    bool take_rows(PyObject *items, Py_ssize_t start, Py_ssize_t stop);
    PyObject *row_argument(Py_ssize_t row, Py_ssize_t argument) const;
    Ref culprit(std::size_t ordinal) const;

    Shape shape_ = Shape::kValue;
    const char *value_culprit_ = nullptr;
    PyObject *value_ = nullptr;  // kValue; borrowed
    PyObject *args_ = nullptr;   // kCall; borrowed, a tuple
    Ref keywords_;               // kCall: list of (name, value), if there are any
    Ref rows_;                   // chunks: private list, of tuples if star; null: a range
    Py_ssize_t start_ = 0;
    Py_ssize_t count_ = 0;     // chunks: rows
    std::int64_t number_ = 0;  // of a range: the first, and how much to the next
    std::int64_t step_ = 0;
    bool star_ = false;
    std::uint32_t width_ = 1;  // kColumns: how many columns

    struct Wanted {
        std::size_t ordinal;
        PyObject *object;  // borrowed; the containers above keep it
    };

    Plan plan_;
    std::vector<Pickled> pickles_;  // by ordinal; empty until the first is needed
    std::vector<Wanted> wanted_;
    std::size_t ordinal_ = 0;
    std::optional<NoCollection> quiet_;
};

}  // namespace aiomq::py
