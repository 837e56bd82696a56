#include "place.hpp"

#include <map>

#include "buffer.hpp"
#include "value_layout.hpp"

namespace aiomq::py {
namespace {

std::map<const char *, Place> places;  // by data; the GIL is held

}  // namespace

std::uint64_t *Place::in_block(const Buffer &buffer) const {
    const auto offset =
        room + static_cast<std::uint64_t>(static_cast<const char *>(buffer.data()) - data);
    const std::uint64_t end = offset / sizeof(std::uint64_t) + words_of_bytes(buffer.bytes());
    if (offset % sizeof(std::uint64_t) != 0 || end > kWordsLimit) {
        return nullptr;
    }
    return block + offset / sizeof(std::uint64_t);
}

const Place *find_place(const aiomq_pool *pool, const Buffer &buffer) {
    const auto *data = static_cast<const char *>(buffer.data());
    auto found = places.upper_bound(data);
    if (found == places.begin()) {
        return nullptr;
    }
    const Place &place = (--found)->second;
    const bool inside = data + buffer.bytes() <= place.data + place.bytes;
    return place.pool == pool && inside && buffer.bytes() != 0 ? &place : nullptr;
}

PyObject *add_place(const RawCall &call) {
    PyObject *given[5];
    void *pool = nullptr;
    void *block = nullptr;
    void *data = nullptr;
    Place place{};
    if (!parse("add_place", call, {"pool", "block", "room", "address", "nbytes"}, 0, given) ||
        !to_address(given[0], &pool) || !to_address(given[1], &block) ||
        !to_number(given[2], &place.room) || !to_address(given[3], &data) ||
        !to_number(given[4], &place.bytes)) {
        return nullptr;
    }
    place.pool = static_cast<aiomq_pool *>(pool);
    place.block = static_cast<std::uint64_t *>(block);
    place.data = static_cast<const char *>(data);
    places.insert_or_assign(place.data, place);
    Py_INCREF(Py_None);
    return Py_None;
}

PyObject *remove_place(const RawCall &call) {
    PyObject *given[1];
    void *data = nullptr;
    if (!parse("remove_place", call, {"address"}, 0, given) || !to_address(given[0], &data)) {
        return nullptr;
    }
    places.erase(static_cast<const char *>(data));
    Py_INCREF(Py_None);
    return Py_None;
}

}  // namespace aiomq::py
