#include "prove.hpp"

#include <dlfcn.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>

extern "C" int __real_mprotect(void *address, std::size_t bytes, int protection);  // NOLINT

namespace prove {

#if defined(__x86_64__)

namespace {

struct Range {
    std::uintptr_t begin = 0;
    std::size_t bytes = 0;
    int protection = 0;

    bool has(std::uintptr_t place) const { return place - begin < bytes; }
};

constexpr greg_t kTrapFlag = 0x100;

Range whole;
std::array<Range, 8> parts;  ///< with protections of their own
std::size_t part_count = 0;
std::array<Range, 4>
    announced;  ///< the last ones: a copy has two, and the compiler may pair accesses
std::size_t next_announced = 0;
Range own_code;
char *report = nullptr;

int protection_of(std::uintptr_t place) {
    for (std::size_t i = part_count; i-- > 0;)
        if (parts[i].has(place)) return parts[i].protection;
    return whole.protection;
}

std::uintptr_t as_number(const void *address) {
    return reinterpret_cast<std::uintptr_t>(address);  // NOLINT
}

void set_default(int signal) {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, nullptr);
}

/// An access faulted: if it may be, lets its instruction through and stops behind it.
void on_fault(int, siginfo_t *info, void *context) {
    const std::uintptr_t place = as_number(info->si_addr);
    auto &registers = static_cast<ucontext_t *>(context)->uc_mcontext.gregs;
    if (!whole.has(place)) {  // a fault of its own: let it happen again
        set_default(SIGSEGV);
        return;
    }
    const auto code = static_cast<std::uintptr_t>(registers[REG_RIP]);
    bool allowed = !own_code.has(code);
    for (const Range &range : announced) allowed = allowed || range.has(place);
    if (!allowed) {
        std::snprintf(report, 256, "the access at offset 0x%zx of the segment by the code at 0x%zx",
                      place - whole.begin, code - own_code.begin);
        _exit(kUnannounced);
    }
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    __real_mprotect(reinterpret_cast<void *>(place / page * page), page,  // NOLINT
                    protection_of(place));
    registers[REG_EFL] |= kTrapFlag;
}

void on_step(int, siginfo_t *, void *context) {
    __real_mprotect(reinterpret_cast<void *>(whole.begin), whole.bytes, PROT_NONE);  // NOLINT
    static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_EFL] &= ~kTrapFlag;
}

void handle(int signal, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO;
    sigaction(signal, &action, nullptr);
}

/// The text of the library that this is a part of.
Range find_own_code() {
    Dl_info info{};
    dladdr(reinterpret_cast<const void *>(&find_own_code), &info);  // NOLINT
    const std::uintptr_t begin = as_number(info.dli_fbase);
    Range code{begin, 0, 0};
    FILE *maps = std::fopen("/proc/self/maps", "re");
    if (maps == nullptr) return code;
    char line[512];
    std::size_t from = 0;
    std::size_t to = 0;
    char kind[5] = {};
    while (std::fgets(line, sizeof line, maps) != nullptr) {
        Dl_info other{};
        if (std::sscanf(line, "%zx-%zx %4s", &from, &to, kind) == 3 && kind[2] == 'x' &&
            dladdr(reinterpret_cast<const void *>(from), &other) != 0 &&  // NOLINT
            other.dli_fbase == info.dli_fbase)
            code.bytes = to - begin;
    }
    std::fclose(maps);
    return code;
}

}  // namespace

bool active() { return whole.bytes != 0; }

void cover(void *memory, std::size_t bytes, int protection, char *trouble) {
    report = trouble;
    own_code = find_own_code();
    whole = {as_number(memory), bytes, protection};
    handle(SIGSEGV, on_fault);
    handle(SIGTRAP, on_step);
    __real_mprotect(memory, bytes, PROT_NONE);
}

int protect(void *address, std::size_t bytes, int protection) {
    const std::uintptr_t begin = as_number(address);
    if (!whole.has(begin)) return __real_mprotect(address, bytes, protection);
    if (part_count == parts.size()) {
        errno = ENOMEM;
        return -1;
    }
    parts[part_count++] = {begin, bytes, protection};
    return 0;
}

void announce(const void *address, std::size_t bytes) {
    announced[next_announced++ % announced.size()] = {as_number(address), bytes, 0};
}

#else

bool active() { return false; }
void cover(void *, std::size_t, int, char *) {}
int protect(void *address, std::size_t bytes, int protection) {
    return __real_mprotect(address, bytes, protection);
}
void announce(const void *, std::size_t) {}

#endif

}  // namespace prove
