#include "plan.hpp"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>

namespace aiomq::py {
namespace {

// What occurs twice in one value is written twice, up to so many words. A value with more is pickled,
// which keeps one copy; else a few nested pairs of the same pair would fill memory.
constexpr std::uint64_t kRepeatedWordsLimit = 512;
// Texts and byte strings shorter than this are not worth the look-up.
constexpr std::uint64_t kLargeBytes = 1024;

constexpr std::uint32_t bit(ValueKind kind) { return 1U << static_cast<unsigned>(kind); }

}  // namespace

NodeBuffer::~NodeBuffer() {
    if (nodes_ != inside_) {
        std::free(nodes_);
    }
}

bool NodeBuffer::grow() {
    const std::size_t capacity = capacity_ * 4;
    Node *old = nodes_ == inside_ ? nullptr : nodes_;
    auto *nodes = static_cast<Node *>(std::realloc(old, capacity * sizeof(Node)));
    if (nodes == nullptr) {
        return false;
    }
    if (old == nullptr) {
        std::memcpy(nodes, inside_, sizeof(inside_));
    }
    nodes_ = nodes;
    capacity_ = capacity;
    return true;
}

void Plan::reset() {
    nodes_.truncate(0);
    words_ = 0;
    buffer_words_ = 0;
    placed_ = nullptr;
    kinds_ = 0;
    kept_.clear();
}

Plan::Status Plan::add(PyObject *object) {
    if (Py_TYPE(object) == &PyLong_Type) {
        return add_int(object);  // contains nothing, so none of the below
    }
    const std::size_t size = nodes_.size();
    const std::uint64_t words = words_;
    const std::uint32_t kinds = kinds_;
    root_ = object;
    repeated_words_ = 0;
    inside_repeated_ = 0;
    if (!seen_.empty()) {
        seen_.clear();
    }
    const Status status = add_value(object, 0);
    if (status != Status::kOk) {
        nodes_.truncate(size);
        words_ = words;
        kinds_ = kinds;
    }
    return status;
}

Plan::Status Plan::add_pickle(const Pickled &pickled) {
    PyObject *data = pickled.bytes.get();
    const auto bytes = static_cast<std::uint64_t>(PyBytes_Size(data));
    if (pickled.buffers.empty()) {
        return add_data(ValueKind::PICKLE, PyBytes_AsString(data), bytes, words_of_bytes(bytes));
    }
    const std::uint64_t count = pickled.buffers.size();
    if (bytes > kBytesLimit || count > kElementsLimit) {
        return Status::kTooLarge;
    }
    for (const Buffer &buffer : pickled.buffers) {
        const std::uint64_t words = words_of_bytes(buffer.bytes());
        if (words > kWordsLimit) {
            return Status::kTooLarge;
        }
        buffer_words_ += aligned_words(words);
    }
    Node node{};
    node.pickled = &pickled;
    node.count = static_cast<std::uint32_t>(count);
    return add_node(
        ValueKind::BUFFERED, node,
        kBufferedSize.words() + words_of_bytes(bytes) + 1 + count * kBufferSize.words());
}

Plan::Status Plan::add_value(PyObject *object, unsigned depth) {
    const PyTypeObject *type = Py_TYPE(object);
    if (type == &PyLong_Type) {
        return add_int(object);
    }
    if (type == &PyUnicode_Type) {
        return add_text(object, depth);
    }
    if (type == &PyFloat_Type) {
        return push(ValueKind::FLOAT, std::bit_cast<std::int64_t>(PyFloat_AsDouble(object)));
    }
    if (object == Py_None) {
        return push(ValueKind::NONE, 0);
    }
    if (type == &PyBool_Type) {
        return push(ValueKind::BOOL, object == Py_True ? 1 : 0);
    }
    if (type == &PyBytes_Type) {
        return add_bytes(object, depth);
    }
    if (depth >= kDepthLimit) {
        return Status::kNotPlain;
    }
    if (type == &PyList_Type) {
        return add_sequence(object, ValueKind::LIST, depth);
    }
    if (type == &PyTuple_Type) {
        return add_sequence(object, ValueKind::TUPLE, depth);
    }
    if (type == &PyDict_Type) {
        return add_dict(object, depth);
    }
    if (type == &PySet_Type) {
        return add_set(object, ValueKind::SET, depth);
    }
    if (type == &PyFrozenSet_Type) {
        return add_set(object, ValueKind::FROZENSET, depth);
    }
    return Status::kNotPlain;
}

Plan::Status Plan::push(ValueKind kind, std::int64_t integer) {
    Node node{};
    node.integer = integer;
    node.kind = static_cast<std::uint16_t>(kind);
    kinds_ |= bit(kind);
    if (!nodes_.push(node)) {
        PyErr_NoMemory();
        return Status::kFailed;
    }
    return Status::kOk;
}

Plan::Status Plan::add_data(ValueKind kind, const void *data, std::uint64_t bytes,
                            std::uint64_t words) {
    if (bytes > kBytesLimit) {
        return Status::kTooLarge;
    }
    Node node{};
    node.data = data;
    node.count = static_cast<std::uint32_t>(bytes);
    return add_node(kind, node, bytes != 0 ? words : 0);
}

Plan::Status Plan::add_node(ValueKind kind, Node node, std::uint64_t words) {
    node.kind = static_cast<std::uint16_t>(kind);
    kinds_ |= bit(kind);
    words_ += words;
    if (this->words() > kWordsLimit) {
        return Status::kTooLarge;
    }
    if (!nodes_.push(node)) {
        PyErr_NoMemory();
        return Status::kFailed;
    }
    return Status::kOk;
}

Plan::Status Plan::add_int(PyObject *object) {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    return overflow == 0 ? push(ValueKind::INT, value) : add_bigint(object);
}

Plan::Status Plan::add_ints(PyObject *list, Py_ssize_t &ret_end) {
    const Py_ssize_t count = PyList_Size(list);
    Status status = Status::kOk;
    for (ret_end = 0; ret_end < count && status == Status::kOk; ++ret_end) {
        PyObject *object = PyList_GetItem(list, ret_end);
        if (Py_TYPE(object) != &PyLong_Type) {
            break;
        }
        int overflow = 0;
        const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
        if (overflow != 0) {
            break;
        }
        status = push(ValueKind::INT, value);
    }
    return status;
}

Plan::Status Plan::add_range(std::int64_t number, std::int64_t step, Py_ssize_t count) {
    Status status = Status::kOk;
    auto next = static_cast<std::uint64_t>(number);  // the one after the last need not fit
    for (Py_ssize_t i = 0; i < count && status == Status::kOk; ++i) {
        status = push(ValueKind::INT, static_cast<std::int64_t>(next));
        next += static_cast<std::uint64_t>(step);
    }
    return status;
}

// Through int's own methods: they run no Python code, and the limited API has nothing else.
Plan::Status Plan::add_bigint(PyObject *object) {
    const Ref bits(PyObject_CallMethod(object, "bit_length", nullptr));
    if (!bits) {
        return Status::kFailed;
    }
    const std::size_t bytes = PyLong_AsSize_t(bits.get()) / 8 + 1;
    const Ref method(PyObject_GetAttrString(object, "to_bytes"));
    const Ref arguments(Py_BuildValue("(ns)", static_cast<Py_ssize_t>(bytes), "little"));
    const Ref keywords(Py_BuildValue("{sO}", "signed", Py_True));
    if (!method || !arguments || !keywords) {
        return Status::kFailed;
    }
    Ref data(PyObject_Call(method.get(), arguments.get(), keywords.get()));
    if (!data) {
        return Status::kFailed;
    }
    const void *first = PyBytes_AsString(data.get());
    kept_.push_back(std::move(data));
    return add_data(ValueKind::BIGINT, first, bytes, words_of_bytes(bytes));
}

Plan::Status Plan::add_text(PyObject *object, unsigned depth) {
    Py_ssize_t size = 0;
    const char *data = PyUnicode_AsUTF8AndSize(object, &size);
    if (data == nullptr) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            return Status::kFailed;
        }
        PyErr_Clear();  // a lone surrogate
        return Status::kNotPlain;
    }
    const auto bytes = static_cast<std::uint64_t>(size);
    const std::uint64_t words = words_of_text(bytes);
    if (bytes >= kLargeBytes) {
        const Status status = note_large(object, words, depth);
        if (status != Status::kOk) {
            return status;
        }
    }
    return add_data(ValueKind::TEXT, data, bytes, words);
}

Plan::Status Plan::add_bytes(PyObject *object, unsigned depth) {
    const auto bytes = static_cast<std::uint64_t>(PyBytes_Size(object));
    const std::uint64_t words = words_of_bytes(bytes);
    if (bytes >= kLargeBytes) {
        const Status status = note_large(object, words, depth);
        if (status != Status::kOk) {
            return status;
        }
    }
    return add_data(ValueKind::BYTES, PyBytes_AsString(object), bytes, words);
}

Plan::Status Plan::note_large(PyObject *object, std::uint64_t words, unsigned depth) {
    if (depth == 0 || Py_REFCNT(object) <= 1 || seen_.insert(object).second) {
        return Status::kOk;
    }
    repeated_words_ += words;
    return repeated_words_ > kRepeatedWordsLimit ? Status::kNotPlain : Status::kOk;
}

// A list, dict or set that occurs twice in one value (or in itself) is one object, and the receiver must
// see one: only a pickle can say so. A tuple may be written twice, unless that makes too much of it. An
// object with one reference can't occur twice, so it is not looked up.
Plan::Status Plan::enter(PyObject *object, bool changeable, unsigned depth, Visit &visit) {
    visit.words = words_;
    visit.repeated = false;
    if (inside_repeated_ != 0 && changeable) {
        return Status::kNotPlain;
    }
    if (depth != 0 && Py_REFCNT(object) > 1) {
        visit.repeated = object == root_ || !seen_.insert(object).second;
    }
    if (visit.repeated) {
        if (changeable) {
            return Status::kNotPlain;
        }
        ++inside_repeated_;
    }
    return Status::kOk;
}

Plan::Status Plan::leave(const Visit &visit) {
    if (!visit.repeated) {
        return Status::kOk;
    }
    --inside_repeated_;
    repeated_words_ += words_ - visit.words;
    return repeated_words_ > kRepeatedWordsLimit ? Status::kNotPlain : Status::kOk;
}

Plan::Status Plan::begin_column(Mark &mark) {
    mark = {nodes_.size(), words_, kinds_};
    kinds_ = 0;
    if (!nodes_.push(Node{})) {
        PyErr_NoMemory();
        return Status::kFailed;
    }
    return Status::kOk;
}

Plan::Status Plan::end_column(const Mark &mark, std::uint64_t count, bool in_list) {
    const std::uint32_t kinds = kinds_;
    kinds_ = mark.kinds;
    if (count > kElementsLimit) {
        return Status::kTooLarge;
    }
    Node &head = nodes_[mark.head];
    head.count = static_cast<std::uint32_t>(count);
    if (count == 0) {
        return Status::kOk;
    }
    ColumnKind kind = ColumnKind::VALUES;
    std::uint64_t joined = 0;
    if (kinds == bit(ValueKind::INT)) {
        kind = ColumnKind::INTS;
    } else if (kinds == bit(ValueKind::FLOAT)) {
        kind = ColumnKind::FLOATS;
    } else if (kinds == bit(ValueKind::TEXT) || kinds == bit(ValueKind::BYTES)) {
        for (std::size_t i = mark.head + 1; i < nodes_.size(); ++i) {
            joined += nodes_[i].count;
        }
        if (joined <= kBytesLimit) {
            kind = kinds == bit(ValueKind::TEXT) ? ColumnKind::TEXTS : ColumnKind::BYTES;
        }
    }
    head.kind = static_cast<std::uint16_t>(kind);
    head.joined = joined;
    std::uint64_t struct_words = kColumnSize.data_words + 1U;
    switch (kind) {
        case ColumnKind::VALUES:
            words_ += 1 + count * kValueSize.words();
            break;
        case ColumnKind::INTS:
        case ColumnKind::FLOATS:
            words_ += count;
            break;
        case ColumnKind::TEXTS:
        case ColumnKind::BYTES:
            struct_words += joined != 0 ? 1 : 0;
            // What was counted for the elements one by one is not written.
            words_ = mark.words + words_of_ends(count) + words_of_bytes(joined);
            break;
    }
    if (!in_list) {
        words_ += struct_words;
    }
    return words() > kWordsLimit ? Status::kTooLarge : Status::kOk;
}

Plan::Status Plan::add_sequence(PyObject *object, ValueKind kind, unsigned depth) {
    Visit visit;
    Mark mark;
    Status status = enter(object, kind == ValueKind::LIST, depth, visit);
    if (status != Status::kOk || (status = push(kind, 0)) != Status::kOk ||
        (status = begin_column(mark)) != Status::kOk) {
        return status;
    }
    const bool is_list = kind == ValueKind::LIST;
    const Py_ssize_t count = is_list ? PyList_Size(object) : PyTuple_Size(object);
    for (Py_ssize_t i = 0; i < count; ++i) {
        PyObject *element = is_list ? PyList_GetItem(object, i) : PyTuple_GetItem(object, i);
        status = add_value(element, depth + 1);
        if (status != Status::kOk) {
            return status;
        }
    }
    status = end_column(mark, static_cast<std::uint64_t>(count));
    return status != Status::kOk ? status : leave(visit);
}

Plan::Status Plan::add_set(PyObject *object, ValueKind kind, unsigned depth) {
    Visit visit;
    Mark mark;
    Status status = enter(object, kind == ValueKind::SET, depth, visit);
    if (status != Status::kOk || (status = push(kind, 0)) != Status::kOk ||
        (status = begin_column(mark)) != Status::kOk) {
        return status;
    }
    const Ref iterator(PyObject_GetIter(object));
    if (!iterator) {
        return Status::kFailed;
    }
    std::uint64_t count = 0;
    while (PyObject *element = PyIter_Next(iterator.get())) {
        Py_DECREF(element);  // the set keeps it
        ++count;
        status = add_value(element, depth + 1);
        if (status != Status::kOk) {
            return status;
        }
    }
    if (PyErr_Occurred() != nullptr) {
        return Status::kFailed;
    }
    status = end_column(mark, count);
    return status != Status::kOk ? status : leave(visit);
}

Plan::Status Plan::add_dict(PyObject *object, unsigned depth) {
    Visit visit;
    Status status = enter(object, true, depth, visit);
    if (status != Status::kOk || (status = push(ValueKind::DICT, 0)) != Status::kOk) {
        return status;
    }
    const auto count = static_cast<std::uint64_t>(PyDict_Size(object));
    if (count > kElementsLimit) {
        return Status::kTooLarge;
    }
    nodes_[nodes_.size() - 1].count = static_cast<std::uint32_t>(count);
    if (count != 0) {
        words_ += kMappingSize.words();
    }
    for (const bool keys : {true, false}) {
        Mark mark;
        status = begin_column(mark);
        PyObject *key = nullptr;
        PyObject *value = nullptr;
        Py_ssize_t position = 0;
        while (status == Status::kOk && PyDict_Next(object, &position, &key, &value) != 0) {
            status = add_value(keys ? key : value, depth + 1);
        }
        if (status != Status::kOk || (status = end_column(mark, count)) != Status::kOk) {
            return status;
        }
    }
    return leave(visit);
}

}  // namespace aiomq::py
