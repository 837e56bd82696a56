/*
 * aiomq.h - the public interface of libaiomq: a shared-memory task queue for Linux.
 *
 * One process, the dispatcher, creates a pool. The pool spawns worker processes, each of which runs
 * an event loop. Tasks and results travel through one sealed memfd; nothing goes through a pipe,
 * nothing polls, and every task gets exactly one outcome, also when its worker is killed.
 *
 * Caveats, first:
 *  - Linux only. All processes of a pool run under one uid and trust each other; what the library
 *    guards against is dead peers and accidental corruption, not malice among peers.
 *  - A pool belongs to the process that created it: after fork(2) every call in the child gives
 *    -ECHILD. A worker handle belongs to the process that opened it, likewise.
 *  - Pool functions may be called from any thread unless a comment says otherwise. Worker functions
 *    may be called from one thread at a time.
 *  - No function blocks unless its comment says so. None prints. None throws. None calls exit().
 *  - Memory reached through a completion is valid until aiomq_pool_release(); memory reached through
 *    a job is valid until the job's last item is completed.
 *
 * Conventions: functions return 0 (or a count) or a negative errno; results come back through `ret_`
 * arguments, untouched on failure. Times are nanoseconds (`_ns`), sizes are bytes (`_bytes`). Option
 * structs begin with their own size and are filled by an _init function. Unknown flags are -EINVAL.
 */
#ifndef AIOMQ_AIOMQ_H
#define AIOMQ_AIOMQ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------
 * Values, outcomes, errors
 * ------------------------------------------------------------------------------------------- */

/** How a task, or one item of it, ended. Every item gets exactly one of these. */
enum aiomq_outcome {
    AIOMQ_PENDING = 0,      /**< not finished; never delivered */
    AIOMQ_OK = 1,           /**< the value is the result */
    AIOMQ_ERROR = 2,        /**< the task failed: the value is an error, see aiomq_error_decode() */
    AIOMQ_CANCELLED = 3,    /**< cancelled before or while it ran */
    AIOMQ_EXPIRED = 4,      /**< did not start in time */
    AIOMQ_TIMED_OUT = 5,    /**< ran longer than it was allowed to */
    AIOMQ_WORKER_DIED = 6,  /**< had started when its worker died: the value is an error */
    AIOMQ_POOL_CORRUPT = 7, /**< shared memory was damaged: the value is an error */
    AIOMQ_POOL_CLOSED = 8   /**< the pool ended first */
};

/** What a payload or a result is. BYTES and above live at `data`; below it in the scalar union. */
enum aiomq_kind {
    AIOMQ_KIND_NONE = 0,  /**< nothing */
    AIOMQ_KIND_BOOL = 1,  /**< `integer` is 0 or 1 */
    AIOMQ_KIND_INT = 2,   /**< `integer` */
    AIOMQ_KIND_FLOAT = 3, /**< `real` */
    AIOMQ_KIND_BYTES = 4, /**< raw bytes, meaning known to the two ends */
    AIOMQ_KIND_TEXT = 5,  /**< UTF-8, not terminated */
    AIOMQ_KIND_VALUE = 6, /**< Cap'n Proto message, root Value (schema/value.capnp) */
    AIOMQ_KIND_CALL = 7,  /**< Cap'n Proto message, root Call: arguments of one call */
    AIOMQ_KIND_CHUNK = 8, /**< Cap'n Proto message, root Chunk: arguments of many calls */
    AIOMQ_KIND_ERROR = 9  /**< Cap'n Proto message, root Error (schema/message.capnp) */
};

/** One result. Scalars are inline, everything else is `bytes` bytes at `data`. 24 bytes. */
typedef struct aiomq_item {
    uint32_t index;  /**< which item of the task, 0 for a task of one */
    uint16_t status; /**< enum aiomq_outcome */
    uint16_t kind;   /**< enum aiomq_kind */
    uint64_t bytes;  /**< length of `data`; 0 for scalars */
    union {
        int64_t integer;
        double real;
        const void *data; /**< 8-byte aligned for VALUE, CALL, CHUNK and ERROR */
    } value;
} aiomq_item;

/** A decoded error. The strings are NUL-terminated and live in the buffer given to the decoder. */
typedef struct aiomq_error {
    const char *type;      /**< exception class or error name, e.g. "builtins.ValueError" */
    const char *message;   /**< one line */
    const char *traceback; /**< many lines, or "" */
    const void *pickled;   /**< the pickled exception of a Python worker, or NULL */
    size_t pickled_bytes;
    int32_t exit_status; /**< WORKER_DIED: exit status of the worker, else -1 */
    int32_t signal;      /**< WORKER_DIED: signal that ended the worker, else 0 */
    int32_t pid;         /**< WORKER_DIED: the worker that died, else 0 */
} aiomq_error;

/**
 * aiomq_error_decode() - read the error that an item carries.
 * @item:         an item whose kind is AIOMQ_KIND_ERROR.
 * @buffer:       receives a private copy of the error that the strings point into.
 * @buffer_bytes: its size; item->bytes + 64 is always enough.
 * @ret_error:    filled on success.
 *
 * Return: 0, or -EINVAL   a NULL, or an item that carries no error
 *               -ENOBUFS  the buffer is too small
 *               -EBADMSG  the error's message is damaged
 * Since: 0.1
 */
int aiomq_error_decode(const aiomq_item *item, void *buffer, size_t buffer_bytes,
                       aiomq_error *ret_error);

/** aiomq_strerror() - what a negative errno means when libaiomq returns it. Never NULL. Since: 0.1 */
const char *aiomq_strerror(int error);

/** aiomq_outcome_name() - "OK", "WORKER_DIED", …; "UNKNOWN" for others. Since: 0.1 */
const char *aiomq_outcome_name(int outcome);

/** aiomq_version() - the library's version, "0.1.0". Since: 0.1 */
const char *aiomq_version(void);

/* ---------------------------------------------------------------------------------------------
 * Pool: the dispatcher's side
 * ------------------------------------------------------------------------------------------- */

typedef struct aiomq_pool aiomq_pool;

/** What the supervisor did or saw; one entry of the log and of the ring of last events. */
enum aiomq_event_kind {
    AIOMQ_EVENT_NONE = 0,
    AIOMQ_EVENT_SPAWNED = 1, /**< a worker process was started */
    AIOMQ_EVENT_READY = 2,   /**< a worker said that it serves tasks */
    AIOMQ_EVENT_DIED = 3,    /**< a worker ended though nobody asked it to */
    AIOMQ_EVENT_LEFT = 4,    /**< a worker ended because the pool is closing */
    AIOMQ_EVENT_KILLED = 5,  /**< the supervisor killed a worker */
    AIOMQ_EVENT_BROKEN = 6,  /**< the pool gave up: workers can't start */
    AIOMQ_EVENT_CORRUPT = 7, /**< shared memory was damaged */
    AIOMQ_EVENT_CLOSED = 8,  /**< the pool was closed */
    AIOMQ_EVENT_RETIRED = 9, /**< a worker left to be replaced by a fresh one */
    AIOMQ_EVENT_BLOCKED =
        10, /**< a worker's loop has not turned for longer than blocked_after_ns */
    AIOMQ_EVENT_POISONED = 11 /**< a task reached poison_limit and is not run again */
};

typedef struct aiomq_event {
    uint64_t sequence; /**< 1, 2, 3, … */
    uint64_t time_ns;  /**< CLOCK_REALTIME */
    uint32_t kind;     /**< enum aiomq_event_kind */
    uint32_t worker;   /**< index, or AIOMQ_NO_WORKER */
    int32_t pid;       /**< of the worker, or 0 */
    int32_t status;    /**< exit status, or minus the signal */
    char text[224];    /**< one line, NUL-terminated */
} aiomq_event;

/** Called inside aiomq_pool_dispatch(), on the caller's thread, without any lock held. */
typedef void (*aiomq_log_function)(void *user, const aiomq_event *event);

#define AIOMQ_SPIN_AUTO UINT64_MAX  /**< spin as long as it pays; without a spare CPU, yield */
#define AIOMQ_EXTRA_FD_BASE 16      /**< number of the first of extra_fds in a worker */
#define AIOMQ_CAPACITY_MAX 1048576u /**< slots in a pool at most */
#define AIOMQ_WORKERS_MAX 1023u     /**< workers in a pool at most */
#define AIOMQ_NO_WORKER UINT32_MAX  /**< where there is no worker to name */
#define AIOMQ_ITEMS_MAX 65536u      /**< items in a task at most */
#define AIOMQ_QUEUES_MAX 16u        /**< queues in a pool at most */

enum aiomq_pool_flags {
    AIOMQ_POOL_NOWAIT = 1 /**< return before the workers are ready; see aiomq_pool_state() */
};

/**
 * Workers of one kind. Zero it, set struct_bytes and what you need; copied by create.
 *
 * Workers are numbered through all groups, in the order of the groups. A group serves its queues
 * strictly first to last: a later one waits while an earlier one has work. That is the whole priority
 * rule, and a group that lists another's queue last is how work is stolen.
 */
typedef struct aiomq_group {
    uint32_t struct_bytes;          /**< sizeof(aiomq_group); the stride in the array */
    uint32_t workers;               /**< 1 or more; all groups together at most AIOMQ_WORKERS_MAX */
    const char *name;               /**< shown by aiomq-stat; default: the program's name */
    const char *const *argv;        /**< default: the pool's */
    const char *const *environment; /**< default: the pool's */
    const uint32_t *queues;         /**< numbers of the queues it serves; default: all, in order */
    uint32_t queue_count;
    uint32_t concurrency; /**< items that a worker runs at once; 0: the program's own choice */
    uint64_t max_tasks;   /**< items after which a worker is replaced by a fresh one; 0: never */
    uint64_t max_memory_bytes; /**< private memory, shared pages not counted, above which it is; it
                                    finishes what runs first; 0: never */
    int32_t stuck_signal;      /**< sent 100 ms before a stuck worker is killed, so that it can say
                                    where it is stuck; 0: none */
    uint32_t reserved;         /**< 0 */
} aiomq_group;

/** Fill with aiomq_pool_options_init(), then change what you need. Copied by create. */
typedef struct aiomq_pool_options {
    uint32_t struct_bytes; /**< set by _init */
    uint32_t flags;        /**< enum aiomq_pool_flags */
    const char *label;     /**< shown by aiomq-stat; default: the program's name */
    uint32_t workers; /**< 1 … AIOMQ_WORKERS_MAX; default: usable CPUs (affinity, cgroup quota) */
    uint32_t capacity;       /**< slots, 1 … AIOMQ_CAPACITY_MAX; default 4096 */
    const char *const *argv; /**< worker program and arguments, NULL-terminated; required;
                                         searched in PATH when argv[0] has no slash */
    const char *const
        *environment;           /**< "NAME=value" strings, NULL-terminated; default: inherited */
    const int *extra_fds;       /**< descriptors that every worker inherits, also a respawned
                                         one, as AIOMQ_EXTRA_FD_BASE + i; duplicated by create */
    uint32_t extra_fd_count;    /**< at most 64 */
    uint32_t start_limit;       /**< start-up deaths in a row that break the pool while no
                                         worker serves tasks; default 3 */
    uint64_t arena_start_bytes; /**< committed for each arena at the start; default 1 MiB */
    uint64_t arena_max_bytes;   /**< each arena grows up to this; default: a quarter of RAM */
    uint64_t spin_ns;           /**< look this long before sleeping; default AIOMQ_SPIN_AUTO */
    const char *const *queues;  /**< names, the first is queue 0; default: one, "default" */
    uint32_t queue_count;       /**< at most AIOMQ_QUEUES_MAX; default 0: as said */
    uint32_t group_count; /**< default 0: one group of `workers` workers that serves all queues */
    const aiomq_group *groups; /**< then `workers` does not count */
    uint32_t poison_limit;     /**< a task that was running when so many workers died is not run
                                     again, whatever its retries; default 3 */
    uint32_t reserved;         /**< 0 */
    uint64_t grace_ns;         /**< so long after its timeout an item may still run before its
                                     worker is killed; default 2 s */
    uint64_t blocked_after_ns; /**< a worker that runs items and whose loop does not turn for so
                                     long raises AIOMQ_EVENT_BLOCKED; default 1 s; UINT64_MAX: never */
    aiomq_log_function log;    /**< receives events inside dispatch; default none */
    void *log_user;
    char *error_text; /**< optional: create writes here what went wrong, in words */
    size_t error_text_bytes;
} aiomq_pool_options;

/** aiomq_pool_options_init() - fill @options with the defaults. Since: 0.1 */
void aiomq_pool_options_init(aiomq_pool_options *options, size_t struct_bytes);

/**
 * aiomq_pool_create() - make a pool and spawn its workers.
 * @options:  from aiomq_pool_options_init(); NULL is -EINVAL, since argv has no default.
 * @ret_pool: set on success; end it with aiomq_pool_destroy().
 *
 * Blocks until every worker has called aiomq_worker_ready(), unless AIOMQ_POOL_NOWAIT is set. If
 * the process dies, however, every worker is gone within a second and nothing is left behind.
 *
 * Return: 0, or -EINVAL    a bad option, named in error_text
 *               -ENOENT    the worker program does not exist (or another exec error)
 *               -ECHILD    a worker ended before it was ready; error_text has its exit status
 *                          and the last lines it wrote to stderr
 *               -ENOMEM    memory can't be committed
 *               -EMFILE    no file descriptors left (or -ENFILE)
 *               -EDEADLK   this process was itself started as a worker and has not called
 *                          aiomq_worker_open() yet: it would start itself over and over
 * Since: 0.1
 */
int aiomq_pool_create(const aiomq_pool_options *options, aiomq_pool **ret_pool);

/**
 * aiomq_pool_destroy() - end the pool now and free it; sets *@pool to NULL; NULL-safe.
 *
 * Kills workers that still run, waits for their exit (milliseconds), frees all memory: completions
 * that were not released become invalid. No other thread may use the pool any more. After fork(2),
 * in the child, frees only what the child holds.
 * Since: 0.1
 */
void aiomq_pool_destroy(aiomq_pool **pool);

/** What aiomq_pool_state() returns. */
enum aiomq_pool_state {
    AIOMQ_POOL_STARTING = 0, /**< some worker is not ready for the first time yet */
    AIOMQ_POOL_RUNNING = 1,  /**< every worker has been ready at least once */
    AIOMQ_POOL_CLOSING = 2,  /**< closed, work may still run */
    AIOMQ_POOL_ENDED = 3,    /**< all workers are gone */
    AIOMQ_POOL_BROKEN = 4 /**< workers can't start, or memory is corrupt: nothing runs any more */
};

/**
 * aiomq_pool_state() - where in its life the pool is.
 * @text:       optional: receives why, when the state is AIOMQ_POOL_BROKEN, else "".
 * @text_bytes: its size.
 * Return: enum aiomq_pool_state, or -EINVAL, -ECHILD. A change makes the fd readable. Since: 0.1
 */
int aiomq_pool_state(aiomq_pool *pool, char *text, size_t text_bytes);

/**
 * aiomq_pool_fd() - one descriptor for any event loop: readable when dispatch has something to do.
 *
 * Owned by the pool; use it for polling only (level- or edge-triggered).
 * Return: the descriptor, or -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_pool_fd(aiomq_pool *pool);

/** What aiomq_pool_dispatch() found; a set of flags. */
enum aiomq_dispatch_flags {
    AIOMQ_DISPATCH_COMPLETIONS = 1, /**< call aiomq_pool_collect() until it returns 0 */
    AIOMQ_DISPATCH_ROOM = 2,        /**< a submit that gave -EAGAIN or -ENOMEM may be tried again */
    AIOMQ_DISPATCH_STATE = 4        /**< aiomq_pool_state() changed since the last dispatch */
};

/**
 * aiomq_pool_dispatch() - do what the fd stands for; never blocks.
 *
 * Takes the fd's wake-up, moves finished tasks to where collect finds them, runs the log callback,
 * and, when nothing is left, announces that the application may sleep. So the loop is: wait for the
 * fd; dispatch; collect until 0. When it returns 0 the fd will become readable for the next event.
 *
 * Return: a set of enum aiomq_dispatch_flags; 0: armed, safe to block on the fd;
 *         or -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_pool_dispatch(aiomq_pool *pool);

/**
 * aiomq_pool_wait() - block until aiomq_pool_dispatch() would return something, or @timeout_ns.
 * @timeout_ns: UINT64_MAX waits for ever; 0 is the same as dispatch.
 *
 * Spins or yields within the pool's spin budget first, then polls the fd. For programs without a loop.
 * Return: as aiomq_pool_dispatch(); 0: timed out; -EINTR: a signal came. Since: 0.1
 */
int aiomq_pool_wait(aiomq_pool *pool, uint64_t timeout_ns);

/**
 * aiomq_pool_function() - number of the function called @name, which travels once per pool.
 * @name:         at most 4000 bytes; for Python workers "module:qualified.name".
 * @ret_function: set on success; give it in aiomq_task. The same name gives the same number.
 *
 * Return: 0, or -EINVAL, -ECHILD, -ENOMEM, -ENOSPC (65,536 functions), -ESHUTDOWN. Since: 0.1
 */
int aiomq_pool_function(aiomq_pool *pool, const char *name, uint32_t *ret_function);

enum aiomq_task_flags {
    AIOMQ_TASK_ADOPT = 1,    /**< `payload` came from aiomq_pool_alloc(): no copy; the pool owns it
                                 once submit has succeeded for this task */
    AIOMQ_TASK_PROGRESS = 2, /**< deliver items as they finish, not only at the task's end */
    AIOMQ_TASK_KEYED = 4,  /**< run it on the worker that `key` belongs to: the same key goes to the
                               same worker while that lives */
    AIOMQ_TASK_KEEP = 8,   /**< with ADOPT: the memory stays the caller's, too: to read, to submit
                               again, and to give to aiomq_pool_free() when done */
    AIOMQ_TASK_FOLLOW = 16 /**< with KEYED: for work that the worker has under way; one that retires
                               takes it, too, while it runs something, and counts it for nothing */
};

/** One task: a function and its payload, applied to `items` items. Zero it, set struct_bytes. */
typedef struct aiomq_task {
    uint32_t struct_bytes; /**< sizeof(aiomq_task); the stride in a batch */
    uint32_t flags;        /**< enum aiomq_task_flags */
    uint32_t function;     /**< from aiomq_pool_function() */
    uint16_t kind;         /**< enum aiomq_kind of the payload */
    uint16_t queue;        /**< 0, the default queue */
    uint32_t items;        /**< 1 … AIOMQ_ITEMS_MAX: how many calls the payload stands for */
    uint32_t retries;      /**< how often an item may be run again after its worker died, at
                              most 65,534; 0: never */
    uint64_t user;         /**< comes back in the completion */
    int64_t integer;       /**< the payload of kind BOOL or INT; the bits of kind FLOAT */
    const void *payload;   /**< of kind BYTES and above; NULL when payload_bytes is 0 */
    uint64_t payload_bytes;
    uint64_t key; /**< with AIOMQ_TASK_KEYED */
    uint64_t
        start_within_ns; /**< an item that has not started so long after submit gets EXPIRED and
                                   never runs; 0: no limit */
    uint64_t timeout_ns; /**< so long after its own start an item is cancelled and gets TIMED_OUT;
                                   if it does not end within grace_ns its worker is killed; 0: no limit */
} aiomq_task;

/**
 * aiomq_pool_submit() - queue one task; never waits.
 * @task:   copied before return (unless AIOMQ_TASK_ADOPT).
 * @ret_id: optional; set on success; unique in the pool, in submit order.
 *
 * Every item gets exactly one outcome, also if its worker is killed.
 *
 * Return: 0, or -EINVAL    NULL, unknown flag or kind, wrong struct_bytes, items out of range,
 *                          unknown function or queue, more than 65,534 retries
 *               -EAGAIN    every slot is in use: collect, or wait for the fd, and try again
 *               -ENOMEM    the request arena is full: as -EAGAIN; or the system gives no memory, and
 *                          with no task under way and no loan out nothing tells when it does again
 *               -EMSGSIZE  the payload can never fit arena_max_bytes
 *               -ESHUTDOWN the pool is closed
 *               -EPIPE     the pool is broken; see aiomq_pool_state()
 *               -ECHILD    the handle was created before fork(2)
 * Since: 0.1
 */
int aiomq_pool_submit(aiomq_pool *pool, const aiomq_task *task, uint64_t *ret_id);

/**
 * aiomq_pool_submit_batch() - queue @count tasks, in order, with one wake-up round.
 * @ret_ids: optional; @count numbers; the first (return value) are set.
 *
 * Return: how many were queued, from the first on (1 … @count); or, when none was, the error
 *         of the first as from aiomq_pool_submit(). Since: 0.1
 */
int64_t aiomq_pool_submit_batch(aiomq_pool *pool, const aiomq_task *tasks, size_t count,
                                uint64_t *ret_ids);

/**
 * aiomq_pool_alloc() - memory in the request arena, to be filled in place and submitted.
 * @bytes:   1 or more.
 * @ret_payload: set on success; 64-byte aligned, contents undefined.
 *
 * Give it to a submit with AIOMQ_TASK_ADOPT, or back with aiomq_pool_free().
 * Return: 0, or -EINVAL, -ENOMEM, -EMSGSIZE, -ESHUTDOWN, -EPIPE, -ECHILD as submit. Since: 0.1
 */
int aiomq_pool_alloc(aiomq_pool *pool, uint64_t bytes, void **ret_payload);

/** aiomq_pool_free() - give back memory from aiomq_pool_alloc() that was not submitted, or was with
 *  AIOMQ_TASK_KEEP. Return: 0, or -EINVAL: not from alloc; -ECHILD. Since: 0.1 */
int aiomq_pool_free(aiomq_pool *pool, void *payload);

/** aiomq_pool_in_use() - whether others than the caller have memory from aiomq_pool_alloc(): tasks it was
 *  submitted with, by AIOMQ_TASK_KEEP, and workers that keep it. Return: 1: they have; 0; or -EINVAL:
 *  not from alloc, or submitted without KEEP; -ECHILD. Since: 0.1 */
int aiomq_pool_in_use(aiomq_pool *pool, const void *payload);

/**
 * aiomq_pool_memory() - where the pool's memory is, for a mapping of one's own.
 * @ret_start, @ret_bytes: set on success; optional.
 *
 * What lies at @ret_start + n is at offset n of the file behind the descriptor, which is the pool's.
 * A mapping of one's own, read-only, stays when the pool is destroyed, and forks inherit it; what may
 * be read there, and how long, is as for the pool's mapping.
 * Return: the descriptor, or -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_pool_memory(aiomq_pool *pool, const void **ret_start, uint64_t *ret_bytes);

/** Finished items of one task. */
typedef struct aiomq_completion {
    uint64_t task_id;
    uint64_t user;           /**< from the task */
    const aiomq_item *items; /**< `item_count` finished items, in no order; for a task of one it is
                                  &item, so do not move the struct while you use it */
    uint32_t item_count;     /**< 1 or more */
    uint32_t items_left;     /**< items still to come; 0: this is the task's last completion */
    uint32_t attempt;        /**< 1 for the first run; each run of items again adds 1 */
    uint32_t worker;         /**< index of the worker that ran it, or AIOMQ_NO_WORKER */
    uint64_t loan;           /**< not 0: aiomq_pool_release() is due */
    aiomq_item item;
    uint8_t bytes[40]; /**< a short result lives here */
} aiomq_completion;

/**
 * aiomq_pool_collect() - take finished tasks; never blocks, no system call.
 * @ret_completions: room for @count.
 *
 * Each completion with a loan holds memory until aiomq_pool_release(); the task's slot is free again
 * either way. May be called without dispatch, e.g. in a busy loop.
 * Return: how many were taken, 0 if none; or -EINVAL, -ECHILD. Since: 0.1
 */
int64_t aiomq_pool_collect(aiomq_pool *pool, aiomq_completion *ret_completions, size_t count);

/**
 * aiomq_pool_release() - give back what a completion holds.
 * @loan: aiomq_completion.loan; 0 is allowed and does nothing.
 *
 * Any thread, also a finalizer that runs inside another call of this library.
 * Return: 0, or -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_pool_release(aiomq_pool *pool, uint64_t loan);

/**
 * aiomq_pool_cancel() - withdraw a task, or ask its worker to stop it.
 *
 * Items that have not started get CANCELLED at once; those that run are reported to the worker
 * (aiomq_worker_cancelled()), and their outcome is whatever the worker makes of it. The task gets its
 * outcomes by collect in any case.
 * Return: 0, or -ENOENT  it has ended already (or never existed); -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_pool_cancel(aiomq_pool *pool, uint64_t task_id);

enum aiomq_close_flags {
    AIOMQ_CLOSE_DISCARD = 1 /**< what has not started gets AIOMQ_POOL_CLOSED instead of running */
};

/** aiomq_pool_close() - take no more tasks; those queued still run, then the workers leave.
 *  @flags: enum aiomq_close_flags; a pool that is closed may still be told to discard.
 *  Return: 0, also when closed before; or -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_pool_close(aiomq_pool *pool, uint32_t flags);

/** aiomq_pool_queue() - number of the queue called @name.
 *  Return: 0, or -ENOENT (no such queue), -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_pool_queue(aiomq_pool *pool, const char *name, uint32_t *ret_queue);

/**
 * aiomq_pool_terminate() - close, and end now: kill the workers; what has not finished gets
 * AIOMQ_POOL_CLOSED. Does not wait: see join.
 * Return: 0, also when ended before; or -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_pool_terminate(aiomq_pool *pool);

/**
 * aiomq_pool_join() - block until a closed pool's tasks are done and its workers are gone.
 * @timeout_ns: UINT64_MAX waits for ever; 0 only looks.
 *
 * Completions stay collectable after it. Without a reader a pool can still end: results wait.
 * Return: 0, or -EBUSY      the pool is not closed
 *               -ETIMEDOUT
 *               -EINVAL, -ECHILD
 * Since: 0.1
 */
int aiomq_pool_join(aiomq_pool *pool, uint64_t timeout_ns);

/* ---------------------------------------------------------------------------------------------
 * Worker: the other side
 * ------------------------------------------------------------------------------------------- */

typedef struct aiomq_worker aiomq_worker;

/**
 * aiomq_worker_open() - become the worker that this process was started as.
 * @ret_worker:       set on success; close with aiomq_worker_close().
 * @error_text:       optional: receives what went wrong, in words.
 * @error_text_bytes: its size.
 *
 * Call it first thing in main. Takes AIOMQ_WORKER out of the environment, marks the inherited
 * descriptors close-on-exec, asks the kernel to kill this process when the dispatcher is gone and
 * starts a watchdog thread for the same purpose.
 *
 * Return: 0, or -ENOENT   not started by a pool (AIOMQ_WORKER is not set)
 *               -EINVAL   AIOMQ_WORKER or the descriptors are not what a pool passes
 *               -EPROTO   the pool's memory has another format or version than this library
 *               -EALREADY opened before in this process
 *               -ENOMEM, -EMFILE
 * Since: 0.1
 */
int aiomq_worker_open(aiomq_worker **ret_worker, char *error_text, size_t error_text_bytes);

/** aiomq_worker_close() - free the handle; sets *@worker to NULL; NULL-safe. The process should exit
 *  soon: what it had claimed is recovered by its exit, not by this call. Since: 0.1 */
void aiomq_worker_close(aiomq_worker **worker);

/** aiomq_worker_index() - 0 … workers-1, or -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_worker_index(aiomq_worker *worker);

/** aiomq_worker_label() - the pool's label; NULL for a bad handle. Since: 0.1 */
const char *aiomq_worker_label(aiomq_worker *worker);

/**
 * aiomq_worker_ready() - say that this worker serves tasks now.
 *
 * Until then its stderr is watched for the pool's error text; from here on it is the dispatcher's own.
 * Return: 0, or -EINVAL, -ECHILD, -EALREADY. Since: 0.1
 */
int aiomq_worker_ready(aiomq_worker *worker);

/**
 * aiomq_worker_abort() - report why this worker can't start; the process should then exit.
 * @text: a line or more; the pool breaks with it if no worker has ever been ready.
 * Return: 0, or -EINVAL, -ECHILD, -EALREADY (it was ready before). Since: 0.1
 */
int aiomq_worker_abort(aiomq_worker *worker, const char *text);

/** aiomq_worker_fd() - readable when there may be work, a cancel or the end; poll only.
 *  Return: the descriptor, or -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_worker_fd(aiomq_worker *worker);

/** A claimed task. `job` names it in the calls below until its last item is completed. */
typedef struct aiomq_job {
    uint64_t task_id;
    uint32_t job;        /**< handle, reused after the end */
    uint32_t function;   /**< see aiomq_worker_function() */
    uint32_t flags;      /**< enum aiomq_task_flags */
    uint16_t kind;       /**< enum aiomq_kind of the payload */
    uint16_t attempt;    /**< 1 for the first run, at most 65,535 */
    uint32_t first_item; /**< first item that this attempt covers */
    uint32_t end_item;   /**< one past the last; may shrink: aiomq_worker_start() knows */
    int64_t integer;     /**< scalar payload */
    const void *payload; /**< shared, read-only; valid until the last item is completed */
    uint64_t payload_bytes;
    uint64_t
        timeout_ns; /**< after so long from its start an item is to be cancelled; 0: no limit */
    uint64_t submitted_ns; /**< CLOCK_MONOTONIC_COARSE at submit */
} aiomq_job;

/**
 * aiomq_worker_claim() - take tasks to run; never blocks, no system call.
 * @count: take at most this many; claim only what you start now: a claimed task is seen by nobody else.
 *
 * Return: how many were taken, 0: none there; or -EPROTO  not ready yet
 *               -ESHUTDOWN  the pool is closed and drained, or this worker retires: leave, with
 *                           status 0, when nothing runs
 *               -EBADMSG    shared memory is damaged: leave
 *               -EINVAL, -ECHILD
 * Since: 0.1
 */
int64_t aiomq_worker_claim(aiomq_worker *worker, aiomq_job *ret_jobs, size_t count);

/**
 * aiomq_worker_start() - begin the next item of a job.
 * @ret_item: its index, set on success.
 *
 * From here on the item counts as started: it is not run again when this worker dies, unless the task
 * has retries. Items that are too late or cancelled, or that an earlier attempt delivered, are passed
 * over.
 * Return: 0, or -ENODATA   no item left to start (all started, or withdrawn). When all started items
 *                          are completed too the job is over and its handle is invalid.
 *               -ENOMEM    no room for the job's outcomes now: wait for the fd, try again
 *               -ESHUTDOWN this worker retires: what has not started stays so, others run it
 *               -EINVAL, -ECHILD
 * Since: 0.1
 */
int aiomq_worker_start(aiomq_worker *worker, uint32_t job, uint32_t *ret_item);

/**
 * aiomq_worker_alloc() - room for one result in this worker's arena, to be filled in place.
 * @ret_data: set on success; 8-byte aligned. Name it in the item of aiomq_worker_complete(); what is
 *            never named is given back with the job.
 * Return: 0, or -ENOMEM (now; wait for the fd), -EMSGSIZE (never), -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_worker_alloc(aiomq_worker *worker, uint32_t job, uint64_t bytes, void **ret_data);

/**
 * aiomq_worker_complete() - publish the outcome of a started item.
 * @item: index, status (AIOMQ_OK, AIOMQ_ERROR, AIOMQ_CANCELLED or AIOMQ_TIMED_OUT), kind and value.
 *        `data` inside memory from aiomq_worker_alloc() is published in place, other data is copied.
 *
 * Return: 1: that was the job's last item, the handle is invalid; 0: the job goes on;
 *         or -ENOMEM (now: the item stays started; wait for the fd, try again), -EMSGSIZE (never
 *         fits: complete it with an error), -EALREADY (has an outcome), -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_worker_complete(aiomq_worker *worker, uint32_t job, const aiomq_item *item);

/**
 * aiomq_worker_next() - complete an item and start the next of the same job: for items so short that a
 *                       call counts.
 * @item: as for aiomq_worker_complete().
 * @ret_item: index of the item that has started; UINT32_MAX if none has. While the job goes on
 *            aiomq_worker_start() then says why.
 * Return: as aiomq_worker_complete(). Since: 0.1
 */
int aiomq_worker_next(aiomq_worker *worker, uint32_t job, const aiomq_item *item,
                      uint32_t *ret_item);

/**
 * aiomq_worker_fail() - complete() with AIOMQ_ERROR and an error envelope built in place.
 * @error: type, message, traceback (each may be NULL), pickled.
 * Too large an error is cut to fit. Return: as aiomq_worker_complete(). Since: 0.1
 */
int aiomq_worker_fail(aiomq_worker *worker, uint32_t job, uint32_t item, const aiomq_error *error);

/** aiomq_worker_flush() - tell the dispatcher of finished items of unfinished AIOMQ_TASK_PROGRESS
 *  jobs. Call it when there is nothing else to run, or every few milliseconds of busy time.
 *  Return: 0, or -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_worker_flush(aiomq_worker *worker);

/**
 * aiomq_worker_cancelled() - take the next cancel request.
 * @ret_job: set when there is one: stop this job's running items if you can. Items not started will
 *           not be: call aiomq_worker_start() once more to learn it.
 * Return: 1 with a job, 0 if there is none; or -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_worker_cancelled(aiomq_worker *worker, uint32_t *ret_job);

/**
 * aiomq_worker_sleep() - announce that this worker is about to block on its fd.
 * @wants_tasks: not 0: a new task may wake it; 0: only cancels, room and the end may.
 *
 * Return: 1: something is there already, do not block; 0: armed, block; after waking call
 *         aiomq_worker_wake(); or -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_worker_sleep(aiomq_worker *worker, int wants_tasks);

/** aiomq_worker_wake() - take back what sleep announced.
 *  @fd_readable: not 0: the fd was seen readable, so consume the wake-up (one read).
 *  Return: 0, or -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_worker_wake(aiomq_worker *worker, int fd_readable);

/**
 * aiomq_worker_function() - name of function number @function.
 * @ret_name: valid while the worker handle is; not necessarily NUL-terminated.
 * Return: 0, or -ENOENT (no such function), -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_worker_function(aiomq_worker *worker, uint32_t function, const char **ret_name,
                          size_t *ret_name_bytes);

/** aiomq_worker_concurrency() - items that the group's options let this worker run at once; 0: its own
 *  choice. Or -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_worker_concurrency(aiomq_worker *worker);

/**
 * aiomq_worker_retire() - finish what runs, take no more tasks, then be replaced by a fresh worker.
 *
 * From now on claim and start give -ESHUTDOWN; the process should exit with status 0 once nothing runs.
 * What it had claimed and not started is run by others. Safe in a signal handler; keeps errno.
 * aiomq_worker_run() calls it on SIGTERM, unless the program has a handler of its own, and at max_tasks
 * and max_memory_bytes a worker retires by itself. When all workers of a pool, two or more, are asked by
 * this call within 100 ms, the pool closes instead of replacing them.
 * Return: 0, or -EINVAL, -ECHILD. Since: 0.1
 */
int aiomq_worker_retire(aiomq_worker *worker);

/** aiomq_worker_enter() - say which item this worker's thread runs now; @job UINT32_MAX: none, the loop.
 *
 *  For loops whose items suspend: what is entered is named when the loop blocks or the worker dies.
 *  aiomq_worker_start() enters the item that it starts. Return: 0, or -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_worker_enter(aiomq_worker *worker, uint32_t job, uint32_t item);

/**
 * aiomq_worker_submit() - submit a task to this worker's own pool on behalf of a running item.
 * @job:      the item's job; while it has nested tasks under way it does not count as running.
 * @item:     its index.
 * @task:     as for aiomq_pool_submit(), without ADOPT; `function` is ignored; `user` comes back.
 * @function: the name, at most 4000 bytes.
 *
 * Never waits. Room is found by the dispatcher; some slots are kept for nested work. When there is none,
 * and every task in the pool waits for nested work itself, the oldest gets an AIOMQ_ERROR of the type
 * "aiomq.QueueFull". The nested task ends with the worker: when this process dies it is cancelled.
 * Return: 0, or -EINVAL   as aiomq_pool_submit(), or the item does not run
 *               -ENOMEM   no room in this worker's arena now: wait for the fd
 *               -EMSGSIZE the payload can never fit
 *               -ESHUTDOWN, -ECHILD
 * Since: 0.1
 */
int aiomq_worker_submit(aiomq_worker *worker, uint32_t job, uint32_t item, const aiomq_task *task,
                        const char *function);

/** aiomq_worker_collect() - take finished nested tasks, as aiomq_pool_collect(); those that could not be
 *  submitted come back with an error. Never blocks; the fd tells. Give loans back with
 *  aiomq_worker_release(). Return: how many; or -EINVAL, -ECHILD. Since: 0.1 */
int64_t aiomq_worker_collect(aiomq_worker *worker, aiomq_completion *ret_completions, size_t count);

/** aiomq_worker_cancel() - cancel the nested tasks of this worker whose `user` is @user.
 *  Return: 0, or -ENOENT, -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_worker_cancel(aiomq_worker *worker, uint64_t user);

/** aiomq_worker_retain() - keep a job's payload readable after the job's end.
 *  @ret_loan: give it to aiomq_worker_release(). The task's slot is not held.
 *  Return: 0, or -ENODATA (the payload lives in the slot: copy it), -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_worker_retain(aiomq_worker *worker, uint32_t job, uint64_t *ret_loan);

/** aiomq_worker_release() - give back what a nested completion or aiomq_worker_retain() holds.
 *  @loan: 0 is allowed and does nothing. Return: 0, or -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_worker_release(aiomq_worker *worker, uint64_t loan);

/** aiomq_worker_memory() - as aiomq_pool_memory(), in a worker.
 *  Return: the descriptor, or -EINVAL, -ECHILD. Since: 0.1 */
int aiomq_worker_memory(aiomq_worker *worker, const void **ret_start, uint64_t *ret_bytes);

/** One call of a handler. */
typedef struct aiomq_call {
    aiomq_worker *worker;
    const aiomq_job *job; /**< valid while the item is not completed */
    uint32_t item;        /**< index of the item to compute */
    void *user;           /**< from the handler */
} aiomq_call;

/**
 * A task of a native worker. Set *@ret_item's kind and value and return 0 (status is AIOMQ_OK unless
 * set), or return a negative errno for an ERROR outcome, or 1 after keeping worker, job number and
 * item: then complete it later from the same event loop. @ret_item's data is copied, or lives in
 * memory from aiomq_worker_alloc().
 */
typedef int (*aiomq_handler_function)(const aiomq_call *call, aiomq_item *ret_item);

typedef struct aiomq_handler {
    const char *name; /**< what aiomq_pool_function() was given */
    aiomq_handler_function function;
    void *user;
} aiomq_handler;

struct event_base;

/** Fill with aiomq_run_options_init(). */
typedef struct aiomq_run_options {
    uint32_t struct_bytes;
    uint32_t flags;                /**< 0 */
    const aiomq_handler *handlers; /**< the table */
    size_t handler_count;          /**< 1 or more */
    uint32_t concurrency;          /**< items running at once at most; default 1 */
    uint32_t reserved;             /**< 0 */
    struct event_base *base;       /**< a libevent loop to use; default: its own */
    /** Optional: stop running items of a job: @item, whose time is over, or, when @item is UINT32_MAX, all
     *  of them, since the job is cancelled. */
    void (*cancel)(void *user, uint32_t job, uint32_t item);
    void *cancel_user;
    /** Receives each finished nested task; give its loan back with aiomq_worker_release(). */
    void (*answer)(void *user, const aiomq_completion *completion);
    void *answer_user;
    /** Optional: finds the handler for a name that is not in the table. 0 with *@ret_handler set, whose
     *  name and user stay; anything else: there is none. Asked once for each name. */
    int (*resolve)(void *user, const char *name, size_t name_bytes, aiomq_handler *ret_handler);
    void *resolve_user;
} aiomq_run_options;

/** aiomq_run_options_init() - fill @options with the defaults. Since: 0.1 */
void aiomq_run_options_init(aiomq_run_options *options, size_t struct_bytes);

/**
 * aiomq_worker_run() - ready(), then serve tasks on a libevent loop until the pool ends.
 *
 * Blocks. A task whose function is not in the table gets an ERROR outcome that names it. Inside of it, in
 * handlers and in events of its loop, aiomq_worker_complete(), fail and submit never say -ENOMEM: what
 * there is no room for now is kept, and done when there is. A result that can never fit becomes an error
 * of the type "aiomq.ResultTooLarge".
 * Return: 0: the pool was closed and is drained; or -EINVAL (a bad option), -EBADMSG, -ENOMEM.
 * Since: 0.1
 */
int aiomq_worker_run(aiomq_worker *worker, const aiomq_run_options *options);

/** aiomq_worker_event_base() - the loop of aiomq_worker_run(), for handlers; NULL outside. Since: 0.1 */
struct event_base *aiomq_worker_event_base(aiomq_worker *worker);

#define AIOMQ_PLUGIN_VERSION 1u /**< of aiomq_plugin */
/** The function that a plugin exports: `const aiomq_plugin *aiomq_plugin_entry(void)`. */
#define AIOMQ_PLUGIN_ENTRY "aiomq_plugin_entry"

/** Tasks in a shared library, for aiomq-worker(1). All but the first four members are optional. */
typedef struct aiomq_plugin {
    uint32_t struct_bytes;         /**< sizeof(aiomq_plugin) */
    uint32_t version;              /**< AIOMQ_PLUGIN_VERSION */
    const aiomq_handler *handlers; /**< the table */
    size_t handler_count;          /**< 1 or more */
    uint32_t concurrency; /**< items running at once at most; the largest of all plugins counts */
    uint32_t reserved;    /**< 0 */
    void *user;           /**< given to the functions below */
    /** Before the first task. Not 0: the worker can't start; @error_text says why. */
    int (*start)(void *user, aiomq_worker *worker, char *error_text, size_t error_text_bytes);
    void (*stop)(void *user); /**< after the last one */
    /** As in aiomq_run_options; answer returns 1 if the nested task was this plugin's, else 0. */
    void (*cancel)(void *user, uint32_t job, uint32_t item);
    int (*answer)(void *user, const aiomq_completion *completion);
    int (*resolve)(void *user, const char *name, size_t name_bytes, aiomq_handler *ret_handler);
} aiomq_plugin;

/* ---------------------------------------------------------------------------------------------
 * Values: arguments and results that every language understands
 * ------------------------------------------------------------------------------------------- */

#include <aiomq/value.h>

/* ---------------------------------------------------------------------------------------------
 * View: looking at a pool from outside
 * ------------------------------------------------------------------------------------------- */

typedef struct aiomq_view aiomq_view;

typedef struct aiomq_pool_stats {
    uint32_t struct_bytes; /**< set by the caller before the call: sizeof(aiomq_pool_stats) */
    uint32_t statistics_version;
    int32_t pid;       /**< of the dispatcher, in its own pid namespace */
    uint32_t uid;      /**< of the dispatcher */
    uint32_t state;    /**< enum aiomq_pool_state */
    uint32_t capacity; /**< slots for the application; those for nested work come on top */
    uint32_t workers;
    uint32_t queues;
    uint64_t created_realtime_ns;
    uint64_t age_ns;
    uint64_t submitted; /**< items, as are the next seven */
    uint64_t ok;
    uint64_t failed;
    uint64_t cancelled;
    uint64_t worker_died;
    uint64_t other_outcomes; /**< EXPIRED, TIMED_OUT, POOL_CORRUPT, POOL_CLOSED */
    uint64_t requeued;       /**< claimed by a worker that died, not started, queued again */
    uint64_t wakeups_sent;   /**< eventfd writes to workers and to the application */
    uint64_t wakeups_elided; /**< hints that needed none */
    uint64_t audits;         /**< wake audits run */
    uint64_t restarts;       /**< workers replaced */
    uint64_t retried;        /**< items run again after a death */
    uint64_t nested;         /**< items submitted by workers; included in submitted */
    uint64_t splits;         /**< times that a chunk's rest went to an idle worker */
    uint64_t request_used_bytes;
    uint64_t request_committed_bytes;
    uint64_t request_maximum_bytes;
    uint64_t result_used_bytes;      /**< over all workers */
    uint64_t result_committed_bytes; /**< over all workers */
    uint64_t result_maximum_bytes;   /**< over all workers */
    uint64_t events;                 /**< sequence number of the newest event */
    char label[64];
} aiomq_pool_stats;

typedef struct aiomq_queue_stats {
    uint32_t struct_bytes;
    uint32_t ready;     /**< tasks waiting */
    uint32_t claimed;   /**< tasks in workers */
    uint32_t done;      /**< tasks finished and not yet taken by the dispatcher */
    uint64_t oldest_ns; /**< how long the oldest waiting task has waited; 0 if none waits */
    char name[32];
} aiomq_queue_stats;

/** What a worker is doing. */
enum aiomq_worker_state {
    AIOMQ_WORKER_ABSENT = 0,   /**< no process now */
    AIOMQ_WORKER_STARTING = 1, /**< spawned, not ready */
    AIOMQ_WORKER_RUNNING = 2,  /**< ready */
    AIOMQ_WORKER_FAILED = 3,   /**< reported that it can't start */
    AIOMQ_WORKER_RETIRING = 4  /**< finishes what runs and takes no more */
};

typedef struct aiomq_worker_stats {
    uint32_t struct_bytes;
    int32_t pid;       /**< 0 if there is none */
    uint32_t state;    /**< enum aiomq_worker_state */
    uint32_t sleeping; /**< 1: blocked on its fd */
    uint32_t running;  /**< items started and not completed */
    uint32_t restarts; /**< how often this place was filled again */
    uint64_t started;  /**< items, in all incarnations, as are the next two */
    uint64_t completed;
    uint64_t failed;     /**< completed with another outcome than OK; included in completed */
    uint64_t wakeups;    /**< how often it slept and was woken */
    uint64_t used_bytes; /**< of its result arena */
    uint64_t committed_bytes;
    uint32_t group;
    uint32_t keyed;      /**< tasks that wait for this very worker */
    uint64_t current_id; /**< task whose item its thread runs now; 0: none */
    uint32_t current_item;
    uint32_t turns;      /**< changes whenever its loop turns */
    uint64_t blocked_ns; /**< for how long the loop has been seen not to turn; 0: it turns */
    char group_name[32];
} aiomq_worker_stats;

/** A task that a worker has claimed. */
typedef struct aiomq_task_stats {
    uint32_t struct_bytes;
    uint32_t worker;
    uint64_t task_id;
    uint64_t age_ns; /**< since submit */
    uint32_t attempt;
    uint32_t queue;
    uint32_t items;   /**< of the task */
    uint32_t started; /**< of them, by anyone */
    char function[128];
} aiomq_task_stats;

/**
 * aiomq_view_open() - look at a pool through a descriptor of its memfd.
 * @fd: e.g. from open("/proc/<pid>/fd/<n>", O_RDONLY); stays the caller's.
 *
 * Maps read-only; works while the pool is busy, stopped or hung. Only the statistics block's own
 * version must be one that this library knows; the rest of the format may be of another build.
 * Return: 0, or -EINVAL, -EMEDIUMTYPE (not a pool's memory), -EPERM (not sealed against shrinking),
 *         -EPROTO (a statistics version unknown here), -EBADMSG (damaged), -ENOMEM. Since: 0.1
 */
int aiomq_view_open(int fd, aiomq_view **ret_view);

/** aiomq_pool_view() - a view of one's own pool; close it before the pool is destroyed.
 *  Return: 0, or -EINVAL, -ECHILD, -ENOMEM. Since: 0.1 */
int aiomq_pool_view(aiomq_pool *pool, aiomq_view **ret_view);

/** aiomq_view_close() - unmap; sets *@view to NULL; NULL-safe. Since: 0.1 */
void aiomq_view_close(aiomq_view **view);

/** aiomq_view_pool() - totals. Set struct_bytes first. Return: 0, or -EINVAL, -EBADMSG. Since: 0.1 */
int aiomq_view_pool(aiomq_view *view, aiomq_pool_stats *ret_stats);

/** aiomq_view_queue() - queue number @queue. Return: 0, or -ENOENT, -EINVAL, -EBADMSG. Since: 0.1 */
int aiomq_view_queue(aiomq_view *view, uint32_t queue, aiomq_queue_stats *ret_stats);

/** aiomq_view_worker() - worker number @worker. Return: 0, or -ENOENT, -EINVAL, -EBADMSG. Since: 0.1 */
int aiomq_view_worker(aiomq_view *view, uint32_t worker, aiomq_worker_stats *ret_stats);

/** aiomq_view_task() - the task in slot number @slot, if a worker has claimed it; slots are 0 and up.
 *  Return: 0, or -ENODATA (nobody has claimed it), -ENOENT (no such slot), -EINVAL, -EBADMSG. Since: 0.1 */
int aiomq_view_task(aiomq_view *view, uint32_t slot, aiomq_task_stats *ret_stats);

/** aiomq_view_event() - the event with this sequence number, if it is among the last 64.
 *  Return: 0, or -ENOENT (older, or not there yet), -EINVAL, -EBADMSG. Since: 0.1 */
int aiomq_view_event(aiomq_view *view, uint64_t sequence, aiomq_event *ret_event);

#ifdef __cplusplus
}
#endif

#endif /* AIOMQ_AIOMQ_H */
