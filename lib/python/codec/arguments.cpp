#include "arguments.hpp"

#include <bit>
#include <cstring>

#include "aiomq/aiomq.h"
#include "runtime.hpp"

namespace aiomq::py {
namespace {

// Up to here a private copy costs less than a page fault, and nobody can write to it.
constexpr std::uint64_t kCopyBytes = 64 << 10;

constexpr unsigned kArgsPointer = 0;
constexpr unsigned kKwargsPointer = 1;

/// A payload that is one value: the only argument. NULL without an exception: there is none.
PyObject *decode_scalar(unsigned kind, std::int64_t integer, const void *payload,
                        std::uint64_t bytes) {
    switch (kind) {
        case AIOMQ_KIND_BOOL:
            return PyBool_FromLong(integer != 0);
        case AIOMQ_KIND_INT:
            return PyLong_FromLongLong(integer);
        case AIOMQ_KIND_FLOAT:
            return PyFloat_FromDouble(std::bit_cast<double>(integer));
        case AIOMQ_KIND_BYTES:
            return PyBytes_FromStringAndSize(static_cast<const char *>(payload),
                                             static_cast<Py_ssize_t>(bytes));
        case AIOMQ_KIND_TEXT:
            return PyUnicode_DecodeUTF8(static_cast<const char *>(payload),
                                        static_cast<Py_ssize_t>(bytes), nullptr);
        default:
            return nullptr;
    }
}

}  // namespace

PyObject *CallArguments::call(PyObject *function) {
    if (tuple_) {
        return PyObject_Call(function, tuple_.get(), kwargs_.get());
    }
    return runtime.vectorcall(function, inside_ + 1, count_ | kArgumentsOffset, nullptr);
}

PyObject *CallArguments::as_pair() const {
    Ref tuple(tuple_ ? Ref::borrow(tuple_.get()).release() : PyTuple_New(count_));
    for (std::uint32_t i = 0; tuple && !tuple_ && i < count_; ++i) {
        Py_INCREF(inside_[1 + i]);
        PyTuple_SetItem(tuple.get(), static_cast<Py_ssize_t>(i), inside_[1 + i]);
    }
    Ref kwargs(kwargs_ ? Ref::borrow(kwargs_.get()).release() : PyDict_New());
    if (!tuple || !kwargs) {
        return nullptr;
    }
    return PyTuple_Pack(2, tuple.get(), kwargs.get());
}

bool Arguments::open(unsigned kind, std::int64_t integer, const void *payload, std::uint64_t bytes,
                     PyObject *lend, std::uint64_t number) {
    if (kind == AIOMQ_KIND_NONE) {
        return true;
    }
    if (kind < AIOMQ_KIND_VALUE) {
        same_ = Ref(decode_scalar(kind, integer, payload, bytes));
        return static_cast<bool>(same_);
    }
    if (kind > AIOMQ_KIND_CHUNK) {
        return damaged("a payload of unknown kind");
    }
    if (bytes <= kCopyBytes) {
        copy_.reset(new std::uint64_t[bytes / 8 + 1]);
        if (bytes != 0) {
            std::memcpy(copy_.get(), payload, bytes);
        }
        payload = copy_.get();
    }
    lending_ = Lending(lend, number, bytes);
    reader_ = Reader(payload, bytes, &lending_);
    if (!reader_.root(root_)) {
        return false;
    }
    if (kind == AIOMQ_KIND_CHUNK) {
        return open_chunk();
    }
    shape_ = kind == AIOMQ_KIND_CALL ? Shape::kCall : Shape::kValue;
    return true;
}

bool Arguments::open_chunk() {
    const std::uint64_t word = reader_.data(root_, 0);
    count_ = static_cast<std::uint32_t>(word);
    const auto which = static_cast<std::uint16_t>(word >> kChunkTagShift);
    if (count_ == 0 || count_ > AIOMQ_ITEMS_MAX) {
        return damaged("a chunk with an impossible number of calls");
    }
    if (which == schema::Chunk::CALLS) {
        shape_ = Shape::kCalls;
        return reader_.get_structs(root_, 0, calls_) &&
               (calls_.count == count_ || damaged("a chunk with calls missing"));
    }
    if (which != schema::Chunk::COLUMNS) {
        return damaged("a chunk of unknown kind");
    }
    shape_ = Shape::kColumns;
    ListView columns;
    if (!reader_.get_structs(root_, 0, columns)) {
        return false;
    }
    columns_.resize(columns.count);
    flat_ = columns.count <= CallArguments::kInside;
    for (std::uint32_t i = 0; i < columns.count; ++i) {
        if (!columns_[i].open(reader_, reader_.element(columns, i))) {
            return false;
        }
        if (columns_[i].count() != count_) {
            return damaged("a chunk whose column has another length");
        }
        flat_ = flat_ && columns_[i].is_flat();
    }
    return true;
}

bool Arguments::get_any(std::uint32_t index, CallArguments &ret) {
    ret.clear();
    const bool done = decode(index, ret);
    lending_.leave();
    return done;
}

bool Arguments::decode(std::uint32_t index, CallArguments &ret) {
    if (shape_ == Shape::kSame) {
        if (same_) {
            ret.inside_[1] = Ref::borrow(same_.get()).release();
            ret.count_ = 1;
        }
        return true;
    }
    reader_.renew_budget();
    if (shape_ == Shape::kValue) {
        return get_value(ret);
    }
    if (shape_ == Shape::kCall) {
        return get_call(root_, ret);
    }
    if (index >= count_) {
        PyErr_Format(PyExc_IndexError, "item %u of a chunk of %u", index, count_);
        return false;
    }
    return shape_ == Shape::kColumns ? get_columns(index, ret)
                                     : get_call(reader_.element(calls_, index), ret);
}

bool Arguments::get_value(CallArguments &ret) {
    ret.inside_[1] = decode_value(reader_, root_, 0);
    ret.count_ = ret.inside_[1] != nullptr ? 1 : 0;
    return ret.count_ == 1;
}

bool Arguments::get_columns(std::uint32_t index, CallArguments &ret) {
    const std::size_t width = columns_.size();
    if (width > CallArguments::kInside) {
        ret.tuple_ = Ref(PyTuple_New(static_cast<Py_ssize_t>(width)));
        if (!ret.tuple_) {
            return false;
        }
    }
    for (std::size_t i = 0; i < width; ++i) {
        PyObject *argument = columns_[i].element(reader_, index, 0);
        if (argument == nullptr) {
            return false;
        }
        if (ret.tuple_) {
            PyTuple_SetItem(ret.tuple_.get(), static_cast<Py_ssize_t>(i), argument);
        } else {
            ret.inside_[++ret.count_] = argument;
        }
    }
    return true;
}

bool Arguments::get_call(const StructView &call, CallArguments &ret) {
    StructView args_view;
    Column args;
    if (!reader_.get_struct(call, kArgsPointer, args_view) || !args.open(reader_, args_view)) {
        return false;
    }
    if (!reader_.is_null(call, kKwargsPointer)) {
        StructView kwargs_view;
        if (!reader_.get_struct(call, kKwargsPointer, kwargs_view)) {
            return false;
        }
        ret.tuple_ = Ref(decode_arguments(reader_, args));
        ret.kwargs_ = Ref(ret.tuple_ ? decode_mapping(reader_, kwargs_view, 0, true) : nullptr);
        return static_cast<bool>(ret.kwargs_);
    }
    if (args.count() > CallArguments::kInside) {
        ret.tuple_ = Ref(decode_arguments(reader_, args));
        return static_cast<bool>(ret.tuple_);
    }
    for (std::uint32_t i = 0; i < args.count(); ++i) {
        PyObject *argument = args.element(reader_, i, 0);
        if (argument == nullptr) {
            return false;
        }
        ret.inside_[++ret.count_] = argument;
    }
    return true;
}

}  // namespace aiomq::py
