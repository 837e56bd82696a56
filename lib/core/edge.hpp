// edge: what the exported functions have in common: no exception gets past them.
#pragma once

#include <cerrno>
#include <exception>
#include <new>
#include <system_error>

#define AIOMQ_EXPORT extern "C" __attribute__((visibility("default")))

namespace aiomq {

/// Runs @call; what it throws becomes an errno.
template <typename Call>
auto guarded(Call call) -> decltype(call()) {
    using Returned = decltype(call());
    try {
        return call();
    } catch (const std::bad_alloc &) {
        return static_cast<Returned>(-ENOMEM);
    } catch (const std::system_error &error) {
        return static_cast<Returned>(-error.code().value());
    } catch (const std::exception &) {
        return static_cast<Returned>(-EIO);
    }
}

}  // namespace aiomq
