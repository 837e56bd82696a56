#include "submit.hpp"

#include <cerrno>
#include <cstdint>
#include <limits>

#include "aiomq/aiomq.h"
#include "encoder.hpp"
#include "functions.hpp"
#include "runtime.hpp"

namespace aiomq::py {
namespace {

// Up to here a message is built on the stack and copied by the submit, which costs less than a block.
constexpr std::uint64_t kCopiedWords = 64;

PyObject *as_bytes(const Encoder &encoder) {
    const auto bytes = static_cast<Py_ssize_t>(encoder.words() * sizeof(std::uint64_t));
    PyObject *payload = PyBytes_FromStringAndSize(nullptr, bytes);
    if (payload != nullptr) {
        // Aligned: the bytes follow the four words of the object's head.
        encoder.write(reinterpret_cast<std::uint64_t *>(PyBytes_AsString(payload)));
    }
    return payload;
}

PyObject *as_task_id(int error, const aiomq_task &task, std::uint64_t id) {
    if (error == -EMSGSIZE) {
        const Ref bytes(PyLong_FromUnsignedLongLong(task.payload_bytes));
        PyErr_SetObject(runtime.too_large, bytes.get());
        return nullptr;
    }
    return error != 0 ? PyLong_FromLong(error) : PyLong_FromUnsignedLongLong(id);
}

/// Measures how long the arguments of a task take to encode, from its making on.
class EncodeMeter {
  public:
    explicit EncodeMeter(const aiomq_pool *pool) : table_(table_of(pool)), ns_(now_ns()) {}

    void encoded() { ns_ = now_ns() - ns_; }
    void count(const aiomq_task &task) const {
        if (table_) {
            table_.add_encoded(task.function, task.payload_bytes, ns_);
        }
    }

  private:
    std::uint64_t now_ns() const { return table_ ? monotonic_ns() : 0; }

    FunctionTable table_;
    std::uint64_t ns_;
};

PyObject *submit(aiomq_pool *pool, Encoder &encoder, aiomq_task &task, EncodeMeter &meter) {
    std::uint64_t id = 0;
    std::uint64_t words[kCopiedWords];
    void *allocated = nullptr;
    task.struct_bytes = sizeof(task);
    task.payload_bytes = encoder.words() * sizeof(std::uint64_t);
    if (encoder.words() <= kCopiedWords) {
        encoder.write(words);
        task.payload = words;
    } else if (const Place *place = encoder.use_place(pool); place != nullptr) {
        encoder.write(place->block);
        task.payload = place->block;
        task.payload_bytes = place->room + place->bytes;
        task.flags |= AIOMQ_TASK_ADOPT | AIOMQ_TASK_KEEP;
    } else {
        const int error = aiomq_pool_alloc(pool, task.payload_bytes, &allocated);
        if (error != 0) {
            return as_task_id(error, task, id);
        }
        encoder.write(static_cast<std::uint64_t *>(allocated));
        task.payload = allocated;
        task.flags |= AIOMQ_TASK_ADOPT;
    }
    meter.encoded();
    const int error = aiomq_pool_submit(pool, &task, &id);
    if (error == 0) {
        meter.count(task);
    } else if (allocated != nullptr) {
        aiomq_pool_free(pool, allocated);
    }
    return as_task_id(error, task, id);
}

/// Reads the tuple `_options.Options`, or None.
bool to_options(PyObject *options, aiomq_task &task) {
    if (options == nullptr || options == Py_None) {
        return true;
    }
    std::uint32_t flags = 0;
    std::uint32_t queue = 0;
    PyObject *field[6];
    for (Py_ssize_t i = 0; i < 6; ++i) {
        field[i] = PyTuple_GetItem(options, i);
        if (field[i] == nullptr) {
            return false;
        }
    }
    if (!to_number(field[0], &flags) || !to_number(field[1], &queue) ||
        !to_number(field[2], &task.retries) || !to_number(field[3], &task.key) ||
        !to_number(field[4], &task.start_within_ns) || !to_number(field[5], &task.timeout_ns)) {
        return false;
    }
    task.flags |= flags;
    task.queue = static_cast<std::uint16_t>(queue);
    return true;
}

bool to_task(PyObject *function, PyObject *user, PyObject *flags, PyObject *options,
             aiomq_task &task) {
    return to_number(function, &task.function) && to_number(user, &task.user) &&
           (flags == nullptr || to_number(flags, &task.flags)) && to_options(options, task);
}

struct Slice {
    Py_ssize_t start;
    Py_ssize_t stop;
    bool star;
};

bool to_slice(PyObject *start, PyObject *stop, PyObject *star, Slice &slice) {
    std::int64_t first = 0;
    std::int64_t last = 0;
    if (!to_integer(start, &first) || !to_integer(stop, &last)) {
        return false;
    }
    const int truth = PyObject_IsTrue(star);
    slice = {static_cast<Py_ssize_t>(first), static_cast<Py_ssize_t>(last), truth == 1};
    return truth >= 0;
}

}  // namespace

PyObject *encode_call(const RawCall &call) {
    PyObject *given[2];
    Encoder encoder;
    if (!parse("encode_call", call, {"args", "kwargs"}, 0, given) ||
        !encoder.prepare_call(given[0], given[1])) {
        return nullptr;
    }
    return Py_BuildValue("(iiN)", AIOMQ_KIND_CALL, 0, as_bytes(encoder));
}

PyObject *encode_value(const RawCall &call) {
    PyObject *given[1];
    Encoder encoder;
    if (!parse("encode_value", call, {"value"}, 0, given) ||
        !encoder.prepare_value(given[0], "the value")) {
        return nullptr;
    }
    return as_bytes(encoder);
}

PyObject *encode_chunk(const RawCall &call) {
    PyObject *given[4];
    Slice slice;
    Encoder encoder;
    if (!parse("encode_chunk", call, {"items", "start", "stop", "star"}, 0, given) ||
        !to_slice(given[1], given[2], given[3], slice) ||
        !encoder.prepare_chunk(given[0], slice.start, slice.stop, slice.star)) {
        return nullptr;
    }
    return as_bytes(encoder);
}

PyObject *submit_call(const RawCall &call) {
    PyObject *given[7];
    void *pool = nullptr;
    aiomq_task task{};
    Encoder encoder;
    if (!parse("submit_call", call,
               {"pool", "function", "user", "args", "kwargs", "flags", "options"}, 2, given) ||
        !to_address(given[0], &pool) || !to_task(given[1], given[2], given[5], given[6], task)) {
        return nullptr;
    }
    EncodeMeter meter(static_cast<aiomq_pool *>(pool));
    if (!encoder.prepare_call(given[3], given[4])) {
        return nullptr;
    }
    task.kind = AIOMQ_KIND_CALL;
    task.items = 1;
    return submit(static_cast<aiomq_pool *>(pool), encoder, task, meter);
}

PyObject *submit_chunk(const RawCall &call) {
    PyObject *given[9];
    void *pool = nullptr;
    aiomq_task task{};
    Slice slice;
    Encoder encoder;
    if (!parse("submit_chunk", call,
               {"pool", "function", "user", "items", "start", "stop", "star", "flags", "options"},
               2, given) ||
        !to_address(given[0], &pool) || !to_task(given[1], given[2], given[7], given[8], task) ||
        !to_slice(given[4], given[5], given[6], slice)) {
        return nullptr;
    }
    if (slice.stop - slice.start > static_cast<Py_ssize_t>(AIOMQ_ITEMS_MAX)) {
        return PyLong_FromLong(-EINVAL);
    }
    EncodeMeter meter(static_cast<aiomq_pool *>(pool));
    if (!encoder.prepare_chunk(given[3], slice.start, slice.stop, slice.star)) {
        return nullptr;
    }
    task.kind = AIOMQ_KIND_CHUNK;
    task.items = static_cast<std::uint32_t>(slice.stop - slice.start);
    return submit(static_cast<aiomq_pool *>(pool), encoder, task, meter);
}

}  // namespace aiomq::py
