#include "collect.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "aiomq/aiomq.h"
#include "decoder.hpp"
#include "functions.hpp"
#include "lending.hpp"
#include "runtime.hpp"

namespace aiomq::py {
namespace {

constexpr std::size_t kBatch = 64;
// Up to here a message is decoded from a private copy, which its worker can't change any more.
constexpr std::uint64_t kCopyBytes = 64 << 10;

/// Gives back what a completion holds, however the decoding of it ends.
class Loans {
  public:
    Loans(aiomq_pool *pool, const aiomq_completion *completions, std::size_t count)
        : pool_(pool), completions_(completions), count_(count) {}
    ~Loans() {
        for (std::size_t i = released_; i < count_; ++i) {
            aiomq_pool_release(pool_, completions_[i].loan);
        }
    }
    Loans(const Loans &) = delete;
    Loans &operator=(const Loans &) = delete;
    /// Releases the next one, as soon as it has been decoded.
    void release_next() { aiomq_pool_release(pool_, completions_[released_++].loan); }
    /// Somebody else will.
    void leave_next() { ++released_; }

  private:
    aiomq_pool *pool_;
    const aiomq_completion *completions_;
    std::size_t count_;
    std::size_t released_ = 0;
};

PyObject *decode_message(const aiomq_item &item, Lending &lending) {
    if (item.bytes > kCopyBytes) {
        return decode_value_message(item.value.data, item.bytes, &lending);
    }
    constexpr std::size_t kStackWords = 128;
    std::uint64_t stack[kStackWords];
    std::unique_ptr<std::uint64_t[]> heap;
    std::uint64_t *copy = stack;
    if (item.bytes > sizeof(stack)) {
        heap.reset(new std::uint64_t[item.bytes / 8 + 1]);
        copy = heap.get();
    }
    if (item.bytes != 0) {
        std::memcpy(copy, item.value.data, item.bytes);
    }
    return decode_value_message(copy, item.bytes);
}

/// A text field of an error as str; what is not UTF-8 is replaced, since an error must arrive.
PyObject *error_text(const char *text) {
    const char *known = text != nullptr ? text : "";
    return PyUnicode_DecodeUTF8(known, static_cast<Py_ssize_t>(std::strlen(known)), "replace");
}

PyObject *decode_error(const aiomq_item &item) {
    const std::uint64_t bytes = item.bytes + 64;
    const std::unique_ptr<std::uint64_t[]> buffer(new std::uint64_t[bytes / 8 + 1]);
    aiomq_error error{};
    if (aiomq_error_decode(&item, buffer.get(), bytes, &error) != 0) {
        damaged("not an error");
        return nullptr;
    }
    const Ref pickled(error.pickled != nullptr
                          ? PyBytes_FromStringAndSize(static_cast<const char *>(error.pickled),
                                                      static_cast<Py_ssize_t>(error.pickled_bytes))
                          : Ref::borrow(Py_None).release());
    if (!pickled) {
        return nullptr;
    }
    return PyObject_CallFunction(runtime.remote_failure, "NNNOiii", error_text(error.type),
                                 error_text(error.message), error_text(error.traceback),
                                 pickled.get(), error.exit_status, error.signal, error.pid);
}

PyObject *decode_item(const aiomq_item &item, Lending &lending) {
    const auto *data = static_cast<const char *>(item.value.data);
    switch (item.kind) {
        case AIOMQ_KIND_NONE:
            Py_INCREF(Py_None);
            return Py_None;
        case AIOMQ_KIND_BOOL:
            return PyBool_FromLong(item.value.integer != 0);
        case AIOMQ_KIND_INT:
            return PyLong_FromLongLong(item.value.integer);
        case AIOMQ_KIND_FLOAT:
            return PyFloat_FromDouble(item.value.real);
        case AIOMQ_KIND_BYTES:
            return PyBytes_FromStringAndSize(data, static_cast<Py_ssize_t>(item.bytes));
        case AIOMQ_KIND_TEXT:
            return PyUnicode_DecodeUTF8(data, static_cast<Py_ssize_t>(item.bytes), nullptr);
        case AIOMQ_KIND_VALUE:
            return decode_message(item, lending);
        case AIOMQ_KIND_ERROR:
            return decode_error(item);
        default:
            damaged("a result of unknown kind");
            return nullptr;
    }
}

/// The pending exception as DecodeFailure(error): one bad result must not lose the others.
PyObject *wrap_failure() {
    const Ref error = take_exception();
    return error ? PyObject_CallFunctionObjArgs(runtime.decode_failure, error.get(), nullptr)
                 : nullptr;
}

/// What became of items. With null references: an exception is set.
struct Decoded {
    std::uint32_t start = 0;
    Ref values;  // results of successive items from `start` on, or None
    Ref others;  // else: what became of each
};

/// Whether the items are all OK and a run without a gap, and where that starts.
bool is_run(const aiomq_completion &completion, std::uint32_t &ret_start) {
    const aiomq_item *items = completion.items;
    const std::uint32_t count = completion.item_count;
    std::uint32_t first = UINT32_MAX;
    bool in_order = true;
    for (std::uint32_t i = 0; i < count; ++i) {
        if (items[i].status != AIOMQ_OK) {
            return false;
        }
        in_order = in_order && items[i].index - items[0].index == i;
        first = std::min(first, items[i].index);
    }
    ret_start = first;
    if (in_order) {
        return true;
    }
    std::vector<bool> seen(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t position = items[i].index - first;
        if (position >= count || seen[position]) {
            return false;
        }
        seen[position] = true;
    }
    return true;
}

/// One item that could not be decoded gets a DecodeFailure: it must not lose the others.
PyObject *decode_or_wrap(const aiomq_item &item, Lending &lending) {
    PyObject *value = decode_item(item, lending);
    return value != nullptr ? value : wrap_failure();
}

/// @ret_failed: an item could not be decoded.
PyObject *decode_run(const aiomq_completion &completion, std::uint32_t start, Lending &lending,
                     bool &ret_failed) {
    Ref values(PyList_New(static_cast<Py_ssize_t>(completion.item_count)));
    for (std::uint32_t i = 0; values && i < completion.item_count; ++i) {
        const aiomq_item &item = completion.items[i];
        PyObject *value = decode_item(item, lending);
        if (value == nullptr) {
            ret_failed = true;
            value = wrap_failure();
        }
        if (value == nullptr) {
            return nullptr;
        }
        PyList_SetItem(values.get(), static_cast<Py_ssize_t>(item.index - start), value);
    }
    return values.release();
}

/// @known: the values of a run from @start on, if they were decoded before.
PyObject *decode_others(const aiomq_completion &completion, std::uint32_t start, PyObject *known,
                        Lending &lending) {
    Ref others(PyList_New(static_cast<Py_ssize_t>(completion.item_count)));
    for (std::uint32_t i = 0; others && i < completion.item_count; ++i) {
        const aiomq_item &item = completion.items[i];
        const auto position = static_cast<Py_ssize_t>(item.index - start);
        Ref value = known != nullptr ? Ref::borrow(PyList_GetItem(known, position))
                                     : Ref(decode_or_wrap(item, lending));
        PyObject *entry =
            value ? Py_BuildValue("(IiN)", item.index, int{item.status}, value.release()) : nullptr;
        if (entry == nullptr) {
            return nullptr;
        }
        PyList_SetItem(others.get(), static_cast<Py_ssize_t>(i), entry);
    }
    return others.release();
}

Decoded decode_items(const aiomq_completion &completion, Lending &lending) {
    Decoded ret;
    bool failed = false;
    if (is_run(completion, ret.start)) {
        ret.values = Ref(decode_run(completion, ret.start, lending, failed));
        if (!ret.values) {
            return ret;
        }
    }
    if (ret.values && !failed) {
        ret.others = Ref::borrow(Py_None);
        return ret;
    }
    ret.others = Ref(decode_others(completion, ret.start, ret.values.get(), lending));
    ret.values = Ref::borrow(Py_None);
    return ret;
}

/// @lend: see Lending. @ret_lent: a loan gives back what the completion holds.
PyObject *decode_completion(const aiomq_completion &completion, PyObject *lend,
                            const FunctionTable &table, bool &ret_lent) {
    const std::uint64_t start_ns = table ? monotonic_ns() : 0;
    std::uint64_t bytes = 0;
    for (std::uint32_t i = 0; i < completion.item_count; ++i) {
        bytes += completion.items[i].bytes;
    }
    Lending lending(completion.loan != 0 ? lend : Py_None, completion.loan, bytes);
    Decoded decoded = decode_items(completion, lending);
    ret_lent = lending.lent();
    if (!decoded.values || !decoded.others) {
        return nullptr;
    }
    if (table) {
        const std::uint32_t function = function_of(completion.user);
        table.add(function, FunctionTable::kBytesOut, bytes);
        table.add_times(function, FunctionTable::kSecond, FunctionTable::kSecondNs,
                        monotonic_ns() - start_ns, 1);
    }
    return Py_BuildValue("(KIIINN)", static_cast<unsigned long long>(completion.user),
                         completion.items_left, completion.worker, decoded.start,
                         decoded.values.release(), decoded.others.release());
}

}  // namespace

PyObject *collect(const RawCall &call) {
    PyObject *given[3];
    void *address = nullptr;
    std::uint64_t limit = 0;
    if (!parse("collect", call, {"pool", "limit", "lend"}, 1, given) ||
        !to_address(given[0], &address) || !to_number(given[1], &limit)) {
        return nullptr;
    }
    auto *pool = static_cast<aiomq_pool *>(address);
    const FunctionTable table = table_of(pool);
    Ref list(PyList_New(0));
    while (list && limit != 0) {
        // Decoding may run Python code that calls this function again, so the batch is ours alone.
        aiomq_completion completions[kBatch];
        const std::size_t most = std::min<std::uint64_t>(kBatch, limit);
        const std::int64_t taken = aiomq_pool_collect(pool, completions, most);
        if (taken < 0 && PyList_Size(list.get()) != 0) {
            break;  // what was taken before must not be lost; the next call will tell
        }
        if (taken < 0) {
            errno = static_cast<int>(-taken);
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        const auto count = static_cast<std::size_t>(taken);
        Loans loans(pool, completions, count);
        for (std::size_t i = 0; i < count; ++i) {
            bool lent = false;
            const Ref entry(decode_completion(completions[i], given[2], table, lent));
            lent ? loans.leave_next() : loans.release_next();
            if (!entry || PyList_Append(list.get(), entry.get()) != 0) {
                return nullptr;
            }
        }
        if (count < most) {
            break;
        }
        limit -= count;
    }
    return list.release();
}

}  // namespace aiomq::py
