// The one door of libaiomq_py: a function, called over ctypes once, that returns all others as built-ins,
// so that no later call pays for ctypes.
#include "arguments_type.hpp"
#include "collect.hpp"
#include "decoder.hpp"
#include "functions.hpp"
#include "parameters.hpp"
#include "place.hpp"
#include "runner_type.hpp"
#include "runtime.hpp"
#include "submit.hpp"
#include "suspended.hpp"

namespace aiomq::py {
namespace {

using Body = PyObject *(*)(const RawCall &call);

template <Body kBody>
PyObject *function(PyObject * /*self*/, PyObject *const *values, Py_ssize_t count,
                   PyObject *keywords) {
    return guarded([&] { return kBody({values, count, keywords}); });
}

PyObject *decode_value_bytes(const RawCall &call) {
    PyObject *given[1];
    char *data = nullptr;
    Py_ssize_t size = 0;
    if (!parse("decode_value", call, {"payload"}, 0, given) ||
        PyBytes_AsStringAndSize(given[0], &data, &size) != 0) {
        return nullptr;
    }
    return decode_value_message(data, static_cast<std::uint64_t>(size));
}

template <Body kBody>
constexpr PyMethodDef method(const char *name, const char *doc) {
    return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function<kBody>)),
            METH_FASTCALL | METH_KEYWORDS, doc};
}

PyMethodDef methods[] = {
    method<encode_call>("encode_call", "encode_call(args, kwargs) -> (kind, integer, payload)"),
    method<encode_value>("encode_value", "encode_value(value) -> payload"),
    method<encode_chunk>("encode_chunk", "encode_chunk(items, start, stop, star) -> payload"),
    method<decode_value_bytes>("decode_value", "decode_value(payload) -> value"),
    method<submit_call>("submit_call", "submit_call(pool, function, user, args, kwargs, flags=0)"),
    method<submit_chunk>("submit_chunk",
                         "submit_chunk(pool, function, user, items, start, stop, star, flags=0)"),
    method<set_table>("set_table", "set_table(pool, address)"),
    method<count_encoded>("count_encoded", "count_encoded(pool, function, nbytes, nanoseconds)"),
    method<add_place>("add_place", "add_place(pool, block, room, address, nbytes)"),
    method<remove_place>("remove_place", "remove_place(address)"),
    method<collect>("collect", "collect(pool, limit, lend=None)"),
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "aiomq._bridge.native",
    nullptr,
    -1,
    methods,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

bool add_type(PyObject *module, const char *name, PyObject *type) {
    if (type == nullptr) {
        return false;
    }
    if (PyModule_AddObject(module, name, type) != 0) {
        Py_DECREF(type);
        return false;
    }
    return true;
}

}  // namespace
}  // namespace aiomq::py

/// aiomq_py_module() - the codec and the item loop as a module. @support: dict of what it needs of
/// Python, see Runtime. New reference, or NULL with ImportError set: use the pure-Python bridge.
extern "C" __attribute__((visibility("default"))) PyObject *aiomq_py_module(PyObject *support) {
    using namespace aiomq::py;
    if (!runtime_init(support)) {
        return nullptr;
    }
    Ref module(PyModule_Create(&definition));
    if (!module || !add_type(module.get(), "Arguments", make_arguments_type()) ||
        !add_type(module.get(), "Runner", make_runner_type()) ||
        !add_type(module.get(), "Suspended", make_suspended_type())) {
        return nullptr;
    }
    return module.release();
}
