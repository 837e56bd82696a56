// Shows that the library announces every access that it makes to shared memory: the memory is kept
// inaccessible, so each access faults, and one that was not announced ends the process with a report.
//
// Other code may access it unannounced: the functions of a worker's user and Cap'n Proto, which only
// write where no other process looks yet.
#pragma once

#include <cstddef>

namespace prove {

/// Ends the worker whose library made an access that was not announced.
inline constexpr int kUnannounced = 99;

/// Whether this machine has what it takes: single steps in a signal handler (x86-64).
#if defined(__x86_64__)
inline constexpr bool kPossible = true;
#else
inline constexpr bool kPossible = false;
#endif
bool active();
/// From now on @memory is inaccessible, but for one instruction at a time. @trouble: 256 bytes for a report.
void cover(void *memory, std::size_t bytes, int protection, char *trouble);
/// For mprotect() on a part of it.
int protect(void *address, std::size_t bytes, int protection);
/// The next access of the library is to here.
void announce(const void *address, std::size_t bytes);

}  // namespace prove
