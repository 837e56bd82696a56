#include "functions.hpp"

#include <map>

namespace aiomq::py {
namespace {

std::map<const aiomq_pool *, FunctionTable> tables;  // the GIL is held

}  // namespace

FunctionTable table_of(const aiomq_pool *pool) {
    const auto found = tables.find(pool);
    return found != tables.end() ? found->second : FunctionTable();
}

PyObject *set_table(const RawCall &call) {
    PyObject *given[2];
    void *pool = nullptr;
    std::uint64_t address = 0;
    if (!parse("set_table", call, {"pool", "address"}, 0, given) || !to_address(given[0], &pool) ||
        !to_number(given[1], &address)) {
        return nullptr;
    }
    const auto *key = static_cast<const aiomq_pool *>(pool);
    if (address == 0) {
        tables.erase(key);
    } else {
        tables.insert_or_assign(key, FunctionTable(reinterpret_cast<void *>(address)));  // NOLINT
    }
    Py_INCREF(Py_None);
    return Py_None;
}

PyObject *count_encoded(const RawCall &call) {
    PyObject *given[4];
    void *pool = nullptr;
    std::uint32_t function = 0;
    std::uint64_t bytes = 0;
    std::uint64_t ns = 0;
    if (!parse("count_encoded", call, {"pool", "function", "nbytes", "nanoseconds"}, 0, given) ||
        !to_address(given[0], &pool) || !to_number(given[1], &function) ||
        !to_number(given[2], &bytes) || !to_number(given[3], &ns)) {
        return nullptr;
    }
    if (const FunctionTable table = table_of(static_cast<aiomq_pool *>(pool))) {
        table.add_encoded(function, bytes, ns);
    }
    Py_INCREF(Py_None);
    return Py_None;
}

}  // namespace aiomq::py
