#include "encoder.hpp"

#include <algorithm>

#include "buffered_writer.hpp"
#include "runtime.hpp"

namespace aiomq::py {
namespace {

constexpr std::uint64_t kRootWords = 1;

/// Raises EncodeError(@name_culprit()) from the pending exception.
template <class Name>
void raise_encode_error(Name name_culprit) {
    const Ref cause = take_exception();
    const Ref culprit = name_culprit();
    const Ref error(culprit
                        ? PyObject_CallFunctionObjArgs(runtime.encode_error, culprit.get(), nullptr)
                        : nullptr);
    if (!error) {
        return;  // out of memory while naming it: that is what is raised
    }
    PyException_SetContext(error.get(), Ref::borrow(cause.get()).release());
    PyException_SetCause(error.get(), Ref::borrow(cause.get()).release());
    PyErr_SetObject(runtime.encode_error, error.get());
}

/// What dumps() returned: the pickle, or the pickle and a list of its buffers.
bool take_pickled(PyObject *made, Pickled &ret) {
    if (PyBytes_Check(made)) {
        ret.bytes = Ref::borrow(made);
        return true;
    }
    ret.bytes = Ref::borrow(PyTuple_GetItem(made, 0));
    PyObject *buffers = PyTuple_GetItem(made, 1);
    if (buffers == nullptr) {
        return false;
    }
    const Py_ssize_t count = PyList_Size(buffers);
    ret.buffers.reserve(static_cast<std::size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
        if (!ret.buffers.emplace_back(PyList_GetItem(buffers, i))) {
            return false;
        }
    }
    return true;
}

}  // namespace

bool Encoder::prepare_value(PyObject *object, const char *culprit) {
    shape_ = Shape::kValue;
    value_ = object;
    value_culprit_ = culprit;
    return prepare();
}

bool Encoder::prepare_call(PyObject *args, PyObject *kwargs) {
    shape_ = Shape::kCall;
    if (!PyTuple_Check(args) || !PyDict_Check(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "args must be a tuple and kwargs a dict");
        return false;
    }
    args_ = args;
    if (PyDict_Size(kwargs) != 0) {
        // A private copy: pickling an argument may change the dict that the caller passed.
        keywords_ = Ref(PyDict_Items(kwargs));
        if (!keywords_) {
            return false;
        }
        for (Py_ssize_t i = 0; i < PyList_Size(keywords_.get()); ++i) {
            PyObject *name = PyTuple_GetItem(PyList_GetItem(keywords_.get(), i), 0);
            if (!PyUnicode_CheckExact(name)) {
                PyErr_SetString(PyExc_TypeError, "keywords must be strings");
                return false;
            }
        }
    }
    return prepare();
}

bool Encoder::prepare_chunk(PyObject *items, Py_ssize_t start, Py_ssize_t stop, bool star) {
    const bool range = Py_TYPE(items) == &PyRange_Type;
    if (!range && !PyList_Check(items)) {
        PyErr_SetString(PyExc_TypeError, "items must be a list or a range");
        return false;
    }
    const Py_ssize_t size = PySequence_Size(items);
    if (size < 0) {
        return false;
    }
    if (start < 0 || start >= stop || stop > size) {
        PyErr_SetString(PyExc_ValueError, "start and stop must name one or more of the items");
        return false;
    }
    shape_ = Shape::kColumns;
    star_ = star;
    start_ = start;
    count_ = stop - start;
    if (range && !star) {
        return take_range(items, start, stop) && prepare();
    }
    return take_rows(items, start, stop) && prepare();
}

// Its numbers are never made into objects, unless they have more than 64 bits.
bool Encoder::take_range(PyObject *range, Py_ssize_t start, Py_ssize_t stop) {
    std::int64_t numbers[3] = {};  // the first, the one after it, the last
    const Py_ssize_t places[3] = {start, std::min(start + 1, stop - 1), stop - 1};
    int overflow = 0;
    for (int i = 0; i < 3 && overflow == 0; ++i) {
        const Ref number(PySequence_GetItem(range, places[i]));
        if (!number) {
            return false;
        }
        numbers[i] = PyLong_AsLongLongAndOverflow(number.get(), &overflow);
    }
    if (overflow != 0 || __builtin_sub_overflow(numbers[1], numbers[0], &step_)) {
        return take_rows(range, start, stop);
    }
    number_ = numbers[0];
    return true;
}

// A private list, because iterating an item or pickling one may change the caller's.
bool Encoder::take_rows(PyObject *items, Py_ssize_t start, Py_ssize_t stop) {
    if (PyList_Check(items)) {
        rows_ = Ref(PyList_GetSlice(items, start, stop));
    } else {
        const Ref slice(PySequence_GetSlice(items, start, stop));
        rows_ = Ref(slice ? PySequence_List(slice.get()) : nullptr);
    }
    if (!rows_) {
        return false;
    }
    if (PyList_Size(rows_.get()) != count_) {
        PyErr_SetString(PyExc_RuntimeError, "items changed while they were read");
        return false;
    }
    if (!star_) {
        return true;
    }
    for (Py_ssize_t i = 0; i < count_; ++i) {
        PyObject *row = PyList_GetItem(rows_.get(), i);
        if (!PyTuple_CheckExact(row)) {
            PyObject *tuple = PySequence_Tuple(row);
            if (tuple == nullptr) {
                if (PyErr_ExceptionMatches(PyExc_Exception)) {
                    raise_encode_error(
                        [&] { return Ref(PyUnicode_FromFormat("item %zd", start + i)); });
                }
                return false;
            }
            PyList_SetItem(rows_.get(), i, tuple);
            row = tuple;
        }
        const auto width = static_cast<std::uint32_t>(PyTuple_Size(row));
        if (i == 0) {
            width_ = width;
        } else if (width != width_) {
            shape_ = Shape::kCalls;
        }
    }
    return true;
}

// Pickling runs Python code, which may change what was planned before. So: plan everything, pickle what
// turned out not to be plain, and plan again, until a plan has all it needs.
bool Encoder::prepare() {
    for (;;) {
        quiet_.emplace();
        plan_.reset();
        wanted_.clear();
        ordinal_ = 0;
        plan_.add_words(kRootWords);
        const Plan::Status status = plan_all();
        if (status == Plan::Status::kOk && wanted_.empty()) {
            return true;
        }
        quiet_.reset();
        if (status == Plan::Status::kTooLarge) {
            PyErr_SetString(PyExc_ValueError,
                            "too large: a text or byte string has at most "
                            "536870910 bytes, a message 4 GiB");
            raise_encode_error([&] { return culprit(ordinal_ - 1); });
        }
        if (status != Plan::Status::kOk) {
            return false;
        }
        for (const Wanted &wanted : wanted_) {
            if (!pickle(wanted.ordinal, wanted.object)) {
                return false;
            }
        }
    }
}

Plan::Status Encoder::plan_all() {
    switch (shape_) {
        case Shape::kValue: {
            const Plan::Status status = add(value_);
            const bool content = plan_.words() > kRootWords;
            plan_.add_words(kValueSize.data_words + (content ? 1U : 0U));
            return status;
        }
        case Shape::kCall:
            return plan_call();
        case Shape::kColumns:
            return plan_columns();
        case Shape::kCalls:
            return plan_calls();
    }
    return Plan::Status::kFailed;
}

Plan::Status Encoder::plan_call() {
    Plan::Mark mark;
    Plan::Status status = plan_.begin_column(mark);
    const Py_ssize_t count = PyTuple_Size(args_);
    for (Py_ssize_t i = 0; status == Plan::Status::kOk && i < count; ++i) {
        status = add(PyTuple_GetItem(args_, i));
    }
    if (status != Plan::Status::kOk) {
        return status;
    }
    status = plan_.end_column(mark, static_cast<std::uint64_t>(count));
    if (!keywords_) {
        plan_.add_words(count != 0 ? 1 : 0);
        return status;
    }
    plan_.add_words(kCallSize.words() + kMappingSize.words());
    const Py_ssize_t keywords = PyList_Size(keywords_.get());
    for (const Py_ssize_t part : {0, 1}) {
        if (status == Plan::Status::kOk) {
            status = plan_.begin_column(mark);
        }
        for (Py_ssize_t i = 0; status == Plan::Status::kOk && i < keywords; ++i) {
            PyObject *object = PyTuple_GetItem(PyList_GetItem(keywords_.get(), i), part);
            status = part == 0 ? plan_.add(object) : add(object);
            if (status == Plan::Status::kNotPlain) {
                PyErr_SetString(PyExc_ValueError, "not valid Unicode");
                raise_encode_error([&] { return Ref(PyUnicode_FromFormat("keyword %R", object)); });
                status = Plan::Status::kFailed;
            }
        }
        if (status == Plan::Status::kOk) {
            status = plan_.end_column(mark, static_cast<std::uint64_t>(keywords));
        }
    }
    return status;
}

PyObject *Encoder::row_argument(Py_ssize_t row, Py_ssize_t argument) const {
    PyObject *item = PyList_GetItem(rows_.get(), row);
    return star_ ? PyTuple_GetItem(item, argument) : item;
}

Plan::Status Encoder::plan_columns() {
    plan_.add_words(kChunkSize.data_words);
    if (width_ != 0) {
        plan_.add_words(1 + 1 + width_ * std::uint64_t{kColumnSize.words()});
    }
    for (std::uint32_t column = 0; column < width_; ++column) {
        Plan::Mark mark;
        Plan::Status status = plan_.begin_column(mark);
        Py_ssize_t row = 0;
        if (status == Plan::Status::kOk && !rows_) {
            status = plan_.add_range(number_, step_, count_);
            row = count_;
        } else if (status == Plan::Status::kOk && !star_) {
            status = plan_.add_ints(rows_.get(), row);
        }
        ordinal_ += static_cast<std::size_t>(row);
        for (; status == Plan::Status::kOk && row < count_; ++row) {
            status = add(row_argument(row, column));
        }
        if (status == Plan::Status::kOk) {
            status = plan_.end_column(mark, static_cast<std::uint64_t>(count_), true);
        }
        if (status != Plan::Status::kOk) {
            return status;
        }
    }
    return Plan::Status::kOk;
}

Plan::Status Encoder::plan_calls() {
    plan_.add_words(kChunkSize.words() + 1 +
                    static_cast<std::uint64_t>(count_) * kCallSize.words());
    for (Py_ssize_t row = 0; row < count_; ++row) {
        Plan::Mark mark;
        Plan::Status status = plan_.begin_column(mark);
        const Py_ssize_t width = PyTuple_Size(PyList_GetItem(rows_.get(), row));
        for (Py_ssize_t i = 0; status == Plan::Status::kOk && i < width; ++i) {
            status = add(row_argument(row, i));
        }
        if (status == Plan::Status::kOk) {
            status = plan_.end_column(mark, static_cast<std::uint64_t>(width));
        }
        if (status != Plan::Status::kOk) {
            return status;
        }
    }
    return Plan::Status::kOk;
}

Plan::Status Encoder::add(PyObject *object) {
    const std::size_t ordinal = ordinal_++;
    if (ordinal < pickles_.size() && pickles_[ordinal].bytes) {
        return plan_.add_pickle(pickles_[ordinal]);
    }
    const Plan::Status status = plan_.add(object);
    if (status == Plan::Status::kNotPlain) {
        wanted_.push_back({ordinal, object});
        return Plan::Status::kOk;
    }
    return status;
}

bool Encoder::pickle(std::size_t ordinal, PyObject *object) {
    PyObject *arguments[] = {nullptr, object};
    const Ref made(runtime.vectorcall(runtime.dumps, arguments + 1, 1 | kArgumentsOffset, nullptr));
    Pickled pickled;
    if (!made || !take_pickled(made.get(), pickled)) {
        if (PyErr_ExceptionMatches(PyExc_Exception)) {
            raise_encode_error([&] { return culprit(ordinal); });
        }
        return false;
    }
    if (pickles_.size() <= ordinal) {
        pickles_.resize(ordinal + 1);
    }
    pickles_[ordinal] = std::move(pickled);
    return true;
}

const Place *Encoder::use_place(aiomq_pool *pool) {
    for (const Pickled &pickled : pickles_) {
        for (const Buffer &buffer : pickled.buffers) {
            const Place *place = find_place(pool, buffer);
            if (place == nullptr) {
                continue;
            }
            std::uint64_t *at = place->in_block(buffer);
            const std::uint64_t others =
                (words() - aligned_words(words_of_bytes(buffer.bytes()))) * sizeof(std::uint64_t);
            if (at == nullptr || others > place->room ||
                aiomq_pool_in_use(pool, place->block) != 0) {
                return nullptr;
            }
            plan_.leave_in_place(buffer, at);
            return place;
        }
    }
    return nullptr;
}

/// "argument 2", "keyword 'x'", "item 17", "item 17, argument 1". Arguments count from 1, items are the
/// caller's indices.
Ref Encoder::culprit(std::size_t ordinal) const {
    auto index = static_cast<Py_ssize_t>(ordinal);
    switch (shape_) {
        case Shape::kValue:
            return Ref(PyUnicode_FromString(value_culprit_));
        case Shape::kCall: {
            const Py_ssize_t count = PyTuple_Size(args_);
            if (index < count) {
                return Ref(PyUnicode_FromFormat("argument %zd", index + 1));
            }
            PyObject *entry = PyList_GetItem(keywords_.get(), index - count);
            return Ref(PyUnicode_FromFormat("keyword %R", PyTuple_GetItem(entry, 0)));
        }
        case Shape::kColumns: {
            if (!star_) {
                return Ref(PyUnicode_FromFormat("item %zd", start_ + index));
            }
            return Ref(PyUnicode_FromFormat("item %zd, argument %zd", start_ + index % count_,
                                            index / count_ + 1));
        }
        case Shape::kCalls: {
            Py_ssize_t row = 0;
            while (index >= PyTuple_Size(PyList_GetItem(rows_.get(), row))) {
                index -= PyTuple_Size(PyList_GetItem(rows_.get(), row));
                ++row;
            }
            return Ref(PyUnicode_FromFormat("item %zd, argument %zd", start_ + row, index + 1));
        }
    }
    return Ref();
}

void Encoder::write(std::uint64_t *words) const {
    BufferedWriter writer(plan_, words);
    switch (shape_) {
        case Shape::kValue:
            writer.write_value_root();
            break;
        case Shape::kCall:
            writer.write_call_root(static_cast<bool>(keywords_));
            break;
        case Shape::kColumns:
            writer.write_chunk_columns(static_cast<std::uint32_t>(count_), width_);
            break;
        case Shape::kCalls:
            writer.write_chunk_calls(static_cast<std::uint32_t>(count_));
            break;
    }
}

}  // namespace aiomq::py
