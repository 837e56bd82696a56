// See faults.h. System calls that libaiomq makes by syscall(2) are caught there.
#undef _FILE_OFFSET_BITS  // both names of a function are wanted: mmap and mmap64
#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))

enum name {
    kClone,
    kMmap,
    kMprotect,
    kFallocate,
    kFtruncate,
    kEventfd,
    kTimerfd,
    kEpollCreate,
    kEpollCtl,
    kEpollWait,
    kPidfdOpen,
    kPidfdSendSignal,
    kMemfdCreate,
    kPipe,
    kDuplicate,
    kThread,
    kReadEvent,
    kWriteEvent,
    kNames
};

static const char *const names[kNames + 1] = {
    [kClone] = "clone",
    [kMmap] = "mmap",
    [kMprotect] = "mprotect",
    [kFallocate] = "fallocate",
    [kFtruncate] = "ftruncate",
    [kEventfd] = "eventfd",
    [kTimerfd] = "timerfd_create",
    [kEpollCreate] = "epoll_create",
    [kEpollCtl] = "epoll_ctl",
    [kEpollWait] = "epoll_wait",
    [kPidfdOpen] = "pidfd_open",
    [kPidfdSendSignal] = "pidfd_send_signal",
    [kMemfdCreate] = "memfd_create",
    [kPipe] = "pipe",
    // fcntl(2) with F_DUPFD_CLOEXEC
    [kDuplicate] = "duplicate",
    [kThread] = "pthread_create",
    // read(2) and write(2) of 8 bytes, as with an eventfd or a timerfd
    [kReadEvent] = "read_event",
    [kWriteEvent] = "write_event",
};

static atomic_int armed = -1;
static atomic_long first_failing;
static atomic_long last_failing;
static atomic_int error_given;
static atomic_long calls;
static atomic_long failures;
static atomic_long mappings;
static char mark_path[256];

/// The next definition of a function, looked up once: signal handlers call some.
#define NEXT(function)                                                                    \
    __extension__({                                                                       \
        static _Atomic(void *) next;                                                      \
        if (atomic_load(&next) == NULL) atomic_store(&next, dlsym(RTLD_NEXT, #function)); \
        (__typeof__(&(function)))atomic_load(&next);                                      \
    })

/// Tells the file of this failure. False: another process has had it.
static int mark(void) {
    if (mark_path[0] == '\0') return 1;
    const int only = atomic_load(&first_failing) == atomic_load(&last_failing);
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (only ? O_EXCL : 0);
    const int fd = open(mark_path, flags, 0666);
    if (fd < 0) return 0;
    const ssize_t written = NEXT(write)(fd, "x", 1);
    close(fd);
    return written == 1;
}

/// The error that this call of @name is to fail with; 0: it goes on.
static int fault(enum name name) {
    if (atomic_load(&armed) != (int)name) return 0;
    const long number = atomic_fetch_add(&calls, 1) + 1;
    if (number < atomic_load(&first_failing) || number > atomic_load(&last_failing)) return 0;
    const int before = errno;
    const int wanted = mark();
    errno = before;
    if (!wanted) return 0;
    atomic_fetch_add(&failures, 1);
    return atomic_load(&error_given);
}

SHOWN int fault_arm(const char *name, long first, long last, int error) {
    for (int i = 0; i < kNames; ++i) {
        if (strcmp(names[i], name) != 0) continue;
        atomic_store(&armed, -1);
        atomic_store(&first_failing, first);
        atomic_store(&last_failing, first > 0 ? last : -1);
        atomic_store(&error_given, error);
        atomic_store(&calls, 0);
        atomic_store(&failures, 0);
        atomic_store(&armed, i);
        return 0;
    }
    return -1;
}

SHOWN void fault_disarm(void) { atomic_store(&armed, -1); }
SHOWN long fault_calls(void) { return atomic_load(&calls); }
SHOWN long fault_failures(void) { return atomic_load(&failures); }
SHOWN long fault_mappings(void) { return atomic_load(&mappings); }
SHOWN const char *const *fault_names(void) { return names; }

__attribute__((constructor)) static void arm_from_environment(void) {
    const char *wish = getenv("AIOMQ_FAULT");
    if (wish == NULL) return;
    char text[512];
    strncpy(text, wish, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    char *rest = text;
    const char *part[5] = {"", "0", "0", "0", ""};
    for (int i = 0; i < 5 && rest != NULL; ++i) part[i] = strsep(&rest, ":");
    strncpy(mark_path, part[4], sizeof mark_path - 1);
    if (fault_arm(part[0], atol(part[1]), atol(part[2]), atoi(part[3])) != 0) abort();
}

// --- those that give -1 and errno -----------------------------------------------------------------

#define FAILS(name, failed)              \
    do {                                 \
        const int failing = fault(name); \
        if (failing != 0) {              \
            errno = failing;             \
            return failed;               \
        }                                \
    } while (0)

static void *mapped(void *memory) {
    if (memory != MAP_FAILED) atomic_fetch_add(&mappings, 1);
    return memory;
}

SHOWN void *mmap(void *address, size_t bytes, int access, int flags, int fd, off_t offset) {
    FAILS(kMmap, MAP_FAILED);
    return mapped(NEXT(mmap)(address, bytes, access, flags, fd, offset));
}

SHOWN void *mmap64(void *address, size_t bytes, int access, int flags, int fd, off64_t offset) {
    FAILS(kMmap, MAP_FAILED);
    return mapped(NEXT(mmap64)(address, bytes, access, flags, fd, offset));
}

SHOWN int munmap(void *address, size_t bytes) {
    const int result = NEXT(munmap)(address, bytes);
    if (result == 0) atomic_fetch_sub(&mappings, 1);
    return result;
}

SHOWN int mprotect(void *address, size_t bytes, int access) {
    FAILS(kMprotect, -1);
    return NEXT(mprotect)(address, bytes, access);
}

SHOWN int fallocate(int fd, int mode, off_t offset, off_t bytes) {
    FAILS(kFallocate, -1);
    return NEXT(fallocate)(fd, mode, offset, bytes);
}

SHOWN int fallocate64(int fd, int mode, off64_t offset, off64_t bytes) {
    FAILS(kFallocate, -1);
    return NEXT(fallocate64)(fd, mode, offset, bytes);
}

SHOWN int ftruncate(int fd, off_t bytes) {
    FAILS(kFtruncate, -1);
    return NEXT(ftruncate)(fd, bytes);
}

SHOWN int ftruncate64(int fd, off64_t bytes) {
    FAILS(kFtruncate, -1);
    return NEXT(ftruncate64)(fd, bytes);
}

SHOWN int eventfd(unsigned int count, int flags) {
    FAILS(kEventfd, -1);
    return NEXT(eventfd)(count, flags);
}

SHOWN int timerfd_create(clockid_t clock, int flags) {
    FAILS(kTimerfd, -1);
    return NEXT(timerfd_create)(clock, flags);
}

SHOWN int epoll_create(int size) {
    FAILS(kEpollCreate, -1);
    return NEXT(epoll_create)(size);
}

SHOWN int epoll_create1(int flags) {
    FAILS(kEpollCreate, -1);
    return NEXT(epoll_create1)(flags);
}

SHOWN int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) {
    FAILS(kEpollCtl, -1);
    return NEXT(epoll_ctl)(epoll, what, fd, event);
}

SHOWN int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    FAILS(kEpollWait, -1);
    return NEXT(epoll_wait)(epoll, events, most, timeout);
}

SHOWN int memfd_create(const char *name, unsigned int flags) {
    FAILS(kMemfdCreate, -1);
    return NEXT(memfd_create)(name, flags);
}

SHOWN int pipe2(int ends[2], int flags) {
    FAILS(kPipe, -1);
    return NEXT(pipe2)(ends, flags);
}

SHOWN ssize_t read(int fd, void *bytes, size_t size) {
    if (size == sizeof(eventfd_t)) FAILS(kReadEvent, -1);
    return NEXT(read)(fd, bytes, size);
}

SHOWN ssize_t write(int fd, const void *bytes, size_t size) {
    if (size == sizeof(eventfd_t)) FAILS(kWriteEvent, -1);
    return NEXT(write)(fd, bytes, size);
}

/// All that the rest of a call of fcntl(2) can be fits a pointer.
static int control(int (*next)(int, int, ...), int fd, int command, void *argument) {
    if (command == F_DUPFD_CLOEXEC) FAILS(kDuplicate, -1);
    return next(fd, command, argument);
}

SHOWN int fcntl(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return control(NEXT(fcntl), fd, command, argument);
}

SHOWN int fcntl64(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return control(NEXT(fcntl64), fd, command, argument);
}

SHOWN long syscall(long number, ...) {
    long argument[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; ++i) argument[i] = va_arg(rest, long);
    va_end(rest);
    if (number == SYS_pidfd_open) FAILS(kPidfdOpen, -1);
    if (number == SYS_pidfd_send_signal) FAILS(kPidfdSendSignal, -1);
    if (number == SYS_memfd_create) FAILS(kMemfdCreate, -1);
    return NEXT(syscall)(number, argument[0], argument[1], argument[2], argument[3], argument[4],
                         argument[5]);
}

// What starts a process, as glibc's own posix_spawn(3) does; threads come from within glibc.
SHOWN int clone(int (*body)(void *), void *stack, int flags, void *argument, ...) {
    FAILS(kClone, -1);
    return NEXT(clone)(body, stack, flags, argument);
}

// --- those that give the error itself -------------------------------------------------------------

SHOWN int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *),
                         void *argument) {
    const int error = fault(kThread);
    return error != 0 ? error : NEXT(pthread_create)(thread, attributes, body, argument);
}
