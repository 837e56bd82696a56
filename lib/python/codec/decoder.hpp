// Decoder: Values and Columns of a message as Python objects.
//
// Decoding runs Python code when a pickle is met (and then anything may happen, but not to the Reader,
// which holds no Python objects). Functions return a new reference, or NULL with an exception set.
#pragma once

#include <cstdint>

#include "python.hpp"
#include "value_layout.hpp"
#include "value_reader.hpp"

namespace aiomq::py {

/// One column, opened: its elements can be had one by one in any order.
class Column {
  public:
    Column() = default;

    /// False with ValueError set: damaged.
    bool open(Reader &reader, const StructView &view) { return view_.open(reader, view); }
    std::uint32_t count() const { return view_.list.count; }
    /// Its elements are scalars, texts or byte strings, in a row.
    bool is_flat() const { return view_.kind != ColumnKind::VALUES; }
    /// Element @index, below count(). @depth of the element itself.
    PyObject *element(Reader &reader, std::uint32_t index, unsigned depth) const {
        return view_.kind == ColumnKind::INTS
                   ? PyLong_FromLongLong(static_cast<long long>(reader.number8(view_.list, index)))
                   : other_element(reader, index, depth);
    }

  private:
    PyObject *other_element(Reader &reader, std::uint32_t index, unsigned depth) const;

    ColumnView view_;
};

/// The value in @view.
PyObject *decode_value(Reader &reader, const StructView &view, unsigned depth);

/// A whole message whose root is a Value.
PyObject *decode_value_message(const void *words, std::uint64_t bytes, Lending *lending = nullptr);

/// @column as a tuple: the positional arguments of a call.
PyObject *decode_arguments(Reader &reader, const Column &column);

/// The dict in @view, a Mapping. @texts_only: ValueError if a key is no text.
PyObject *decode_mapping(Reader &reader, const StructView &view, unsigned depth, bool texts_only);

}  // namespace aiomq::py
