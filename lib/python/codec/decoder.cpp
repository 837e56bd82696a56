#include "decoder.hpp"

#include <bit>

#include "lending.hpp"
#include "runtime.hpp"

namespace aiomq {

bool damaged(const char *what) {
    PyErr_Format(PyExc_ValueError, "damaged message: %s", what);
    return false;
}

}  // namespace aiomq

namespace aiomq::py {
namespace {

constexpr unsigned kTagWord = 0;
constexpr unsigned kScalarWord = 1;
constexpr unsigned kContentPointer = 0;
constexpr unsigned kKeysPointer = 0;
constexpr unsigned kValuesPointer = 1;
constexpr unsigned kPicklePointer = 0;
constexpr unsigned kBuffersPointer = 1;
constexpr unsigned kBytesWord = 0;
constexpr unsigned kWordsPointer = 0;

// Buffers from here on are views where they can be: a copy costs less than a loan below.
constexpr std::uint64_t kViewBytes = 64 << 10;

// PyBUF_READ: PyMemoryView_FromMemory() is in the limited API of 3.10, its flag only in that of 3.11.
constexpr int kReadOnly = 0x100;

Py_ssize_t ssize(std::uint64_t size) { return static_cast<Py_ssize_t>(size); }

PyObject *decode_text(const BytesView &text) {
    return PyUnicode_DecodeUTF8(text.data, ssize(text.size), nullptr);
}

PyObject *decode_bytes(const BytesView &bytes) {
    return PyBytes_FromStringAndSize(bytes.data, ssize(bytes.size));
}

PyObject *decode_bigint(const BytesView &bytes) {
    const Ref method(
        PyObject_GetAttrString(reinterpret_cast<PyObject *>(&PyLong_Type), "from_bytes"));
    const Ref arguments(Py_BuildValue("(Ns)", decode_bytes(bytes), "little"));
    const Ref keywords(Py_BuildValue("{sO}", "signed", Py_True));
    if (!method || !arguments || !keywords) {
        return nullptr;
    }
    return PyObject_Call(method.get(), arguments.get(), keywords.get());
}

/// @load(a view of the pickle). A view, because a copy of a large pickle costs as much as reading it. It
/// ends with this call.
template <class Load>
PyObject *load_pickle(const BytesView &bytes, Load load) {
    const Ref view(
        PyMemoryView_FromMemory(const_cast<char *>(bytes.data), ssize(bytes.size), kReadOnly));
    if (!view) {
        return nullptr;
    }
    Ref object(load(view.get()));
    const Ref pending(object ? Ref() : take_exception());
    const Ref released(PyObject_CallMethod(view.get(), "release", nullptr));
    if (pending) {
        PyErr_Clear();
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(pending.get())), pending.get());
        return nullptr;
    }
    return released ? object.release() : nullptr;
}

PyObject *decode_pickle(const BytesView &bytes) {
    return load_pickle(bytes, [](PyObject *view) {
        return PyObject_CallFunctionObjArgs(runtime.loads, view, nullptr);
    });
}

/// The buffer in @view: a view of the message if that is lent, else a copy.
Ref decode_buffer(Reader &reader, const StructView &view) {
    const std::uint64_t bytes = reader.data(view, kBytesWord);
    ListView words;
    if (!reader.get_numbers(view, kWordsPointer, ElementSize::kEightBytes, words)) {
        return Ref();
    }
    if (bytes > std::uint64_t{words.count} * sizeof(std::uint64_t)) {
        damaged("a buffer that is shorter than it says");
        return Ref();
    }
    const void *data = reader.address(words);
    if (bytes >= kViewBytes && reader.lending() != nullptr) {
        PyObject *loan = reader.lending()->loan();
        if (loan == nullptr) {
            return Ref();
        }
        if (loan != Py_None) {
            return Ref(PyObject_CallMethod(
                loan, "view", "KK",
                static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(data)),
                static_cast<unsigned long long>(bytes)));
        }
    }
    return Ref(PyBytes_FromStringAndSize(static_cast<const char *>(data), ssize(bytes)));
}

PyObject *decode_buffered(Reader &reader, const StructView &view) {
    StructView buffered;
    BytesView pickle;
    ListView list;
    if (!reader.get_struct(view, kContentPointer, buffered) ||
        !reader.get_bytes(buffered, kPicklePointer, pickle) ||
        !reader.get_structs(buffered, kBuffersPointer, list)) {
        return nullptr;
    }
    const Ref buffers(PyList_New(0));
    for (std::uint32_t i = 0; buffers && i < list.count; ++i) {
        const Ref buffer = decode_buffer(reader, reader.element(list, i));
        if (!buffer || PyList_Append(buffers.get(), buffer.get()) != 0) {
            return nullptr;
        }
    }
    const Ref keywords(buffers ? Py_BuildValue("{sO}", "buffers", buffers.get()) : nullptr);
    if (!keywords) {
        return nullptr;
    }
    return load_pickle(pickle, [&](PyObject *pickled) -> PyObject * {
        const Ref arguments(PyTuple_Pack(1, pickled));
        return arguments ? PyObject_Call(runtime.loads, arguments.get(), keywords.get()) : nullptr;
    });
}

PyObject *decode_sequence(Reader &reader, const Column &column, unsigned depth, bool tuple) {
    const Py_ssize_t count = ssize(column.count());
    Ref sequence(tuple ? PyTuple_New(count) : PyList_New(count));
    for (Py_ssize_t i = 0; sequence && i < count; ++i) {
        PyObject *element = column.element(reader, static_cast<std::uint32_t>(i), depth + 1);
        if (element == nullptr) {
            return nullptr;
        }
        if (tuple) {
            PyTuple_SetItem(sequence.get(), i, element);
        } else {
            PyList_SetItem(sequence.get(), i, element);
        }
    }
    return sequence.release();
}

/// TypeError because something can't be hashed means that it should not be where it is.
void explain_unhashable() {
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        damaged("a key or set element that can't be hashed");
    }
}

PyObject *decode_set(Reader &reader, const Column &column, unsigned depth, bool frozen) {
    Ref set(frozen ? PyFrozenSet_New(nullptr) : PySet_New(nullptr));
    for (std::uint32_t i = 0; set && i < column.count(); ++i) {
        const Ref element(column.element(reader, i, depth + 1));
        if (!element) {
            return nullptr;
        }
        if (PySet_Add(set.get(), element.get()) != 0) {
            explain_unhashable();
            return nullptr;
        }
    }
    return set.release();
}

PyObject *decode_container(Reader &reader, const StructView &view, ValueKind kind, unsigned depth) {
    if (depth >= kDepthLimit) {
        damaged("it nests too deep");
        return nullptr;
    }
    StructView content;
    if (!reader.get_struct(view, kContentPointer, content)) {
        return nullptr;
    }
    if (kind == ValueKind::DICT) {
        return decode_mapping(reader, content, depth, false);
    }
    Column column;
    if (!column.open(reader, content)) {
        return nullptr;
    }
    if (kind == ValueKind::LIST || kind == ValueKind::TUPLE) {
        return decode_sequence(reader, column, depth, kind == ValueKind::TUPLE);
    }
    return decode_set(reader, column, depth, kind == ValueKind::FROZENSET);
}

}  // namespace

PyObject *Column::other_element(Reader &reader, std::uint32_t index, unsigned depth) const {
    BytesView bytes;
    switch (view_.kind) {
        case ColumnKind::VALUES:
            return decode_value(reader, reader.element(view_.list, index), depth);
        case ColumnKind::INTS:
            break;  // element() has dealt with it
        case ColumnKind::FLOATS:
            return PyFloat_FromDouble(std::bit_cast<double>(reader.number8(view_.list, index)));
        case ColumnKind::TEXTS:
            return view_.joined_element(reader, index, bytes) ? decode_text(bytes) : nullptr;
        case ColumnKind::BYTES:
            return view_.joined_element(reader, index, bytes) ? decode_bytes(bytes) : nullptr;
    }
    return nullptr;
}

PyObject *decode_value(Reader &reader, const StructView &view, unsigned depth) {
    const std::uint64_t tag = reader.data(view, kTagWord);
    const auto kind = static_cast<ValueKind>(tag & 0xffff);
    BytesView bytes;
    switch (kind) {
        case ValueKind::NONE:
            Py_INCREF(Py_None);
            return Py_None;
        case ValueKind::BOOL:
            return PyBool_FromLong(static_cast<long>(tag >> kBoolShift & 1));
        case ValueKind::INT:
            return PyLong_FromLongLong(static_cast<long long>(reader.data(view, kScalarWord)));
        case ValueKind::FLOAT:
            return PyFloat_FromDouble(std::bit_cast<double>(reader.data(view, kScalarWord)));
        case ValueKind::TEXT:
            return reader.get_text(view, kContentPointer, bytes) ? decode_text(bytes) : nullptr;
        case ValueKind::BYTES:
            return reader.get_bytes(view, kContentPointer, bytes) ? decode_bytes(bytes) : nullptr;
        case ValueKind::BIGINT:
            return reader.get_bytes(view, kContentPointer, bytes) ? decode_bigint(bytes) : nullptr;
        case ValueKind::PICKLE:
            return reader.get_bytes(view, kContentPointer, bytes) ? decode_pickle(bytes) : nullptr;
        case ValueKind::LIST:
        case ValueKind::TUPLE:
        case ValueKind::DICT:
        case ValueKind::SET:
        case ValueKind::FROZENSET:
            return decode_container(reader, view, kind, depth);
        case ValueKind::BUFFERED:
            return decode_buffered(reader, view);
    }
    damaged("a value of unknown kind");
    return nullptr;
}

PyObject *decode_value_message(const void *words, std::uint64_t bytes, Lending *lending) {
    Reader reader(words, bytes, lending);
    StructView view;
    return reader.root(view) ? decode_value(reader, view, 0) : nullptr;
}

PyObject *decode_arguments(Reader &reader, const Column &column) {
    Ref tuple(PyTuple_New(ssize(column.count())));
    for (std::uint32_t i = 0; tuple && i < column.count(); ++i) {
        PyObject *argument = column.element(reader, i, 0);
        if (argument == nullptr) {
            return nullptr;
        }
        PyTuple_SetItem(tuple.get(), ssize(i), argument);
    }
    return tuple.release();
}

PyObject *decode_mapping(Reader &reader, const StructView &view, unsigned depth, bool texts_only) {
    StructView keys_view;
    StructView values_view;
    Column keys;
    Column values;
    if (!reader.get_struct(view, kKeysPointer, keys_view) || !keys.open(reader, keys_view) ||
        !reader.get_struct(view, kValuesPointer, values_view) ||
        !values.open(reader, values_view)) {
        return nullptr;
    }
    if (keys.count() != values.count()) {
        damaged("keys without values");
        return nullptr;
    }
    const unsigned inside = texts_only ? depth : depth + 1;
    Ref dict(PyDict_New());
    for (std::uint32_t i = 0; dict && i < keys.count(); ++i) {
        const Ref key(keys.element(reader, i, inside));
        if (!key) {
            return nullptr;
        }
        if (texts_only && !PyUnicode_CheckExact(key.get())) {
            damaged("a keyword that is no text");
            return nullptr;
        }
        const Ref value(values.element(reader, i, inside));
        if (!value) {
            return nullptr;
        }
        if (PyDict_SetItem(dict.get(), key.get(), value.get()) != 0) {
            explain_unhashable();
            return nullptr;
        }
    }
    return dict.release();
}

}  // namespace aiomq::py
