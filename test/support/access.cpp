#include "access.hpp"

#include <algorithm>
#include <cstring>

namespace accesses {

Observer *observer = nullptr;

namespace {

template <typename Use>
auto as_word(const void *address, std::size_t bytes, Use use) {
    // NOLINTBEGIN: what the program declares as such
    auto *memory = const_cast<void *>(address);
    switch (bytes) {
        case 1:
            return use(reinterpret_cast<std::uint8_t *>(memory));
        case 2:
            return use(reinterpret_cast<std::uint16_t *>(memory));
        case 4:
            return use(reinterpret_cast<std::uint32_t *>(memory));
        default:
            return use(reinterpret_cast<std::uint64_t *>(memory));
    }
    // NOLINTEND
}

template <typename Word>
Word changed(Word *word, Change change, Word operand) {
    switch (change) {
        case Change::kExchange:
            return __atomic_exchange_n(word, operand, __ATOMIC_SEQ_CST);
        case Change::kAdd:
            return __atomic_fetch_add(word, operand, __ATOMIC_SEQ_CST);
        case Change::kOr:
            return __atomic_fetch_or(word, operand, __ATOMIC_SEQ_CST);
        default:
            return __atomic_fetch_and(word, operand, __ATOMIC_SEQ_CST);
    }
}

bool observed(const void *address) { return observer != nullptr && observer->covers(address); }

void plain(const void *address, std::size_t bytes, bool write, const void *site) {
    if (observed(address)) observer->plain(address, bytes, write, site);
}

}  // namespace

std::uint64_t real_load(const void *address, std::size_t bytes) {
    return as_word(address, bytes, [](auto *word) -> std::uint64_t {
        return __atomic_load_n(word, __ATOMIC_SEQ_CST);
    });
}

void real_store(void *address, std::size_t bytes, std::uint64_t value) {
    as_word(address, bytes, [&](auto *word) {
        __atomic_store_n(word, static_cast<std::remove_pointer_t<decltype(word)>>(value),
                         __ATOMIC_SEQ_CST);
    });
}

std::uint64_t real_change(void *address, std::size_t bytes, Change change, std::uint64_t operand) {
    return as_word(address, bytes, [&](auto *word) -> std::uint64_t {
        return changed(word, change, static_cast<std::remove_pointer_t<decltype(word)>>(operand));
    });
}

bool real_compare_exchange(void *address, std::size_t bytes, std::uint64_t &expected,
                           std::uint64_t desired) {
    return as_word(address, bytes, [&](auto *word) {
        using Word = std::remove_pointer_t<decltype(word)>;
        auto seen = static_cast<Word>(expected);
        const bool done = __atomic_compare_exchange_n(word, &seen, static_cast<Word>(desired),
                                                      false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        expected = seen;
        return done;
    });
}

namespace {

std::uint64_t load(const void *address, std::size_t bytes, int order, const void *site) {
    return observed(address) ? observer->load(address, bytes, order, site)
                             : real_load(address, bytes);
}

void store(void *address, std::size_t bytes, std::uint64_t value, int order, const void *site) {
    if (observed(address))
        observer->store(address, bytes, value, order, site);
    else
        real_store(address, bytes, value);
}

std::uint64_t change(void *address, std::size_t bytes, Change how, std::uint64_t operand, int order,
                     const void *site) {
    return observed(address) ? observer->change(address, bytes, how, operand, order, site)
                             : real_change(address, bytes, how, operand);
}

bool compare_exchange(void *address, std::size_t bytes, std::uint64_t &expected,
                      std::uint64_t desired, int order, int failure, const void *site) {
    return observed(address)
               ? observer->compare_exchange(address, bytes, expected, desired, order, failure, site)
               : real_compare_exchange(address, bytes, expected, desired);
}

}  // namespace
}  // namespace accesses

// --- what the compilers call ----------------------------------------------------------------------

// NOLINTBEGIN: names and shapes are theirs
#define SITE __builtin_return_address(0)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}
void __tsan_read_range(void *address, unsigned long bytes) {
    accesses::plain(address, bytes, false, SITE);
}
void __tsan_write_range(void *address, unsigned long bytes) {
    accesses::plain(address, bytes, true, SITE);
}

#define PLAIN(bytes)                                                                         \
    void __tsan_read##bytes(void *address) { accesses::plain(address, bytes, false, SITE); } \
    void __tsan_write##bytes(void *address) { accesses::plain(address, bytes, true, SITE); } \
    void __tsan_unaligned_read##bytes(void *address) {                                       \
        accesses::plain(address, bytes, false, SITE);                                        \
    }                                                                                        \
    void __tsan_unaligned_write##bytes(void *address) {                                      \
        accesses::plain(address, bytes, true, SITE);                                         \
    }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

#define CHANGE(bits, name, how)                                                                   \
    std::uint##bits##_t __tsan_atomic##bits##_##name(volatile void *address,                      \
                                                     std::uint##bits##_t operand, int order) {    \
        return static_cast<std::uint##bits##_t>(accesses::change(                                 \
            const_cast<void *>(address), bits / 8, accesses::Change::how, operand, order, SITE)); \
    }
#define ATOMIC(bits)                                                                               \
    std::uint##bits##_t __tsan_atomic##bits##_load(const volatile void *address, int order) {      \
        return static_cast<std::uint##bits##_t>(                                                   \
            accesses::load(const_cast<const void *>(address), bits / 8, order, SITE));             \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile void *address, std::uint##bits##_t value,            \
                                     int order) {                                                  \
        accesses::store(const_cast<void *>(address), bits / 8, value, order, SITE);                \
    }                                                                                              \
    CHANGE(bits, exchange, kExchange)                                                              \
    CHANGE(bits, fetch_add, kAdd)                                                                  \
    CHANGE(bits, fetch_or, kOr)                                                                    \
    CHANGE(bits, fetch_and, kAnd)                                                                  \
    std::uint##bits##_t __tsan_atomic##bits##_fetch_sub(volatile void *address,                    \
                                                        std::uint##bits##_t operand, int order) {  \
        return static_cast<std::uint##bits##_t>(                                                   \
            accesses::change(const_cast<void *>(address), bits / 8, accesses::Change::kAdd,        \
                             0 - static_cast<std::uint64_t>(operand), order, SITE));               \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile void *address, void *expected,      \
                                                      std::uint##bits##_t desired, int order,      \
                                                      int failure) {                               \
        auto &seen = *static_cast<std::uint##bits##_t *>(expected);                                \
        std::uint64_t found = seen;                                                                \
        const bool done = accesses::compare_exchange(const_cast<void *>(address), bits / 8, found, \
                                                     desired, order, failure, SITE);               \
        seen = static_cast<std::uint##bits##_t>(found);                                            \
        return done;                                                                               \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile void *address, void *expected,        \
                                                    std::uint##bits##_t desired, int order,        \
                                                    int failure) {                                 \
        return __tsan_atomic##bits##_compare_exchange_strong(address, expected, desired, order,    \
                                                             failure);                             \
    }                                                                                              \
    std::uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                \
        volatile void *address, std::uint##bits##_t expected, std::uint##bits##_t desired,         \
        int order, int failure) {                                                                  \
        std::uint64_t found = expected;                                                            \
        accesses::compare_exchange(const_cast<void *>(address), bits / 8, found, desired, order,   \
                                   failure, SITE);                                                 \
        return static_cast<std::uint##bits##_t>(found);                                            \
    }
ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

// With -Wl,--wrap: the compilers leave these to the runtime. Each has a point in its middle.
void *__real_memcpy(void *to, const void *from, std::size_t bytes);
void *__real_memmove(void *to, const void *from, std::size_t bytes);
void *__real_memset(void *to, int value, std::size_t bytes);
char *__real_strncpy(char *to, const char *from, std::size_t bytes);
int __real_memcmp(const void *one, const void *other, std::size_t bytes);

void *__wrap_memcpy(void *to, const void *from, std::size_t bytes) {
    const std::size_t half = bytes / 2;
    accesses::plain(from, bytes, false, SITE);
    accesses::plain(to, bytes, true, SITE);
    __real_memcpy(to, from, half);
    if (accesses::observed(to)) accesses::observer->copied(to, SITE);
    __real_memcpy(static_cast<char *>(to) + half, static_cast<const char *>(from) + half,
                  bytes - half);
    if (accesses::observed(to)) accesses::observer->copied(to, SITE);
    if (accesses::observed(from)) accesses::observer->copied(from, SITE);
    return to;
}
void *__wrap_memmove(void *to, const void *from, std::size_t bytes) {
    accesses::plain(from, bytes, false, SITE);
    accesses::plain(to, bytes, true, SITE);
    __real_memmove(to, from, bytes);
    if (accesses::observed(to)) accesses::observer->copied(to, SITE);
    if (accesses::observed(from)) accesses::observer->copied(from, SITE);
    return to;
}
void *__wrap_memset(void *to, int value, std::size_t bytes) {
    const std::size_t half = bytes / 2;
    accesses::plain(to, bytes, true, SITE);
    __real_memset(to, value, half);
    if (accesses::observed(to)) accesses::observer->copied(to, SITE);
    __real_memset(static_cast<char *>(to) + half, value, bytes - half);
    if (accesses::observed(to)) accesses::observer->copied(to, SITE);
    return to;
}
char *__wrap_strncpy(char *to, const char *from, std::size_t bytes) {
    accesses::plain(to, bytes, true, SITE);
    __real_strncpy(to, from, bytes);
    if (accesses::observed(to)) accesses::observer->copied(to, SITE);
    return to;
}
int __wrap_memcmp(const void *one, const void *other, std::size_t bytes) {
    accesses::plain(one, bytes, false, SITE);
    accesses::plain(other, bytes, false, SITE);
    const int difference = __real_memcmp(one, other, bytes);
    if (accesses::observed(one)) accesses::observer->copied(one, SITE);
    if (accesses::observed(other)) accesses::observer->copied(other, SITE);
    return difference;
}
}
// NOLINTEND
