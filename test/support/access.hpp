// What the compiler's ThreadSanitizer instrumentation says of a program's accesses to memory, without
// ThreadSanitizer: code compiled with -fsanitize=thread calls a function before each plain access and
// instead of each atomic operation. Here those functions ask an Observer.
//
// When to use: to stop, kill, delay or reorder the *real* code at each of its accesses. The code itself
// has no hooks, so none can be forgotten, and a release build has nothing to compile out.
// When not: for anything that is timed.
//
// Link access.cpp, compiled without the instrumentation, with what is compiled with it, and do not link
// with -fsanitize=thread. The interface is that of compiler-rt, lib/tsan/rtl/tsan_interface*.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace accesses {

/// What a read-modify-write does with its operand.
enum class Change { kExchange, kAdd, kOr, kAnd };

/// Asked for each access in an area that it covers. @order, @failure: __ATOMIC_*; @site: the code after
/// the access.
class Observer {
  public:
    virtual ~Observer() = default;
    virtual bool covers(const void *address) const = 0;
    /// Before a plain access; the access follows.
    virtual void plain(const void *address, std::size_t bytes, bool write, const void *site) = 0;
    /// After a copy by memcpy() and the like, whose plain() came before.
    virtual void copied(const void *address, const void *site) = 0;
    virtual std::uint64_t load(const void *address, std::size_t bytes, int order,
                               const void *site) = 0;
    virtual void store(void *address, std::size_t bytes, std::uint64_t value, int order,
                       const void *site) = 0;
    virtual std::uint64_t change(void *address, std::size_t bytes, Change change,
                                 std::uint64_t operand, int order, const void *site) = 0;
    virtual bool compare_exchange(void *address, std::size_t bytes, std::uint64_t &expected,
                                  std::uint64_t desired, int order, int failure,
                                  const void *site) = 0;
};

/// nullptr: accesses are made as if nothing was there.
extern Observer *observer;

// The operations themselves, sequentially consistent.
std::uint64_t real_load(const void *address, std::size_t bytes);
void real_store(void *address, std::size_t bytes, std::uint64_t value);
std::uint64_t real_change(void *address, std::size_t bytes, Change change, std::uint64_t operand);
bool real_compare_exchange(void *address, std::size_t bytes, std::uint64_t &expected,
                           std::uint64_t desired);

}  // namespace accesses
