"""The C ABI as ctypes sees it: every struct and every function of aiomq.h, once.

This is the only module that names the C library. It holds no behaviour: callers compare return
codes themselves. Calls made through `lib` release the GIL; each costs 0.2 to 0.4 µs, so what runs
once per item goes through `_bridge` instead.

Pool and worker handles are plain integers here (the address that C gave us).
"""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    Union,
    c_char,
    c_char_p,
    c_double,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_ubyte,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

# enum aiomq_outcome
PENDING, OK, ERROR, CANCELLED, EXPIRED, TIMED_OUT, WORKER_DIED, POOL_CORRUPT, POOL_CLOSED = range(9)

# enum aiomq_kind
(
    KIND_NONE,
    KIND_BOOL,
    KIND_INT,
    KIND_FLOAT,
    KIND_BYTES,
    KIND_TEXT,
    KIND_VALUE,
    KIND_CALL,
    KIND_CHUNK,
    KIND_ERROR,
) = range(10)

# enum aiomq_event_kind
(
    EVENT_NONE,
    EVENT_SPAWNED,
    EVENT_READY,
    EVENT_DIED,
    EVENT_LEFT,
    EVENT_KILLED,
    EVENT_BROKEN,
    EVENT_CORRUPT,
    EVENT_CLOSED,
    EVENT_RETIRED,
    EVENT_BLOCKED,
    EVENT_POISONED,
) = range(12)

# enum aiomq_pool_state
POOL_STARTING, POOL_RUNNING, POOL_CLOSING, POOL_ENDED, POOL_BROKEN = range(5)

# enum aiomq_worker_state
WORKER_ABSENT, WORKER_STARTING, WORKER_RUNNING, WORKER_FAILED, WORKER_RETIRING = range(5)

# enum aiomq_pool_flags, enum aiomq_task_flags, enum aiomq_dispatch_flags
POOL_NOWAIT = 1
TASK_ADOPT, TASK_PROGRESS, TASK_KEYED, TASK_KEEP, TASK_FOLLOW = 1, 2, 4, 8, 16
CLOSE_DISCARD = 1
DISPATCH_COMPLETIONS, DISPATCH_ROOM, DISPATCH_STATE = 1, 2, 4

# limits
SPIN_AUTO = 2**64 - 1
NO_WORKER = 2**32 - 1
EXTRA_FD_BASE = 16
CAPACITY_MAX = 1048576
WORKERS_MAX = 1023
ITEMS_MAX = 65536
QUEUES_MAX = 16


class ItemValue(Union):
    """union inside aiomq_item."""

    _fields_ = (("integer", c_int64), ("real", c_double), ("data", c_void_p))


class Item(Structure):
    """aiomq_item: one result."""

    _fields_ = (
        ("index", c_uint32),
        ("status", c_uint16),
        ("kind", c_uint16),
        ("bytes", c_uint64),
        ("value", ItemValue),
    )


class Error(Structure):
    """aiomq_error: a decoded error."""

    _fields_ = (
        ("type", c_char_p),
        ("message", c_char_p),
        ("traceback", c_char_p),
        ("pickled", c_void_p),
        ("pickled_bytes", c_size_t),
        ("exit_status", c_int32),
        ("signal", c_int32),
        ("pid", c_int32),
    )


class Event(Structure):
    """aiomq_event: what the supervisor did or saw."""

    _fields_ = (
        ("sequence", c_uint64),
        ("time_ns", c_uint64),
        ("kind", c_uint32),
        ("worker", c_uint32),
        ("pid", c_int32),
        ("status", c_int32),
        ("text", c_char * 224),
    )


LogFunction = CFUNCTYPE(None, c_void_p, POINTER(Event))


class Group(Structure):
    """aiomq_group: workers of one kind."""

    _fields_ = (
        ("struct_bytes", c_uint32),
        ("workers", c_uint32),
        ("name", c_char_p),
        ("argv", POINTER(c_char_p)),
        ("environment", POINTER(c_char_p)),
        ("queues", POINTER(c_uint32)),
        ("queue_count", c_uint32),
        ("concurrency", c_uint32),
        ("max_tasks", c_uint64),
        ("max_memory_bytes", c_uint64),
        ("stuck_signal", c_int32),
        ("reserved", c_uint32),
    )


class PoolOptions(Structure):
    """aiomq_pool_options."""

    _fields_ = (
        ("struct_bytes", c_uint32),
        ("flags", c_uint32),
        ("label", c_char_p),
        ("workers", c_uint32),
        ("capacity", c_uint32),
        ("argv", POINTER(c_char_p)),
        ("environment", POINTER(c_char_p)),
        ("extra_fds", POINTER(c_int)),
        ("extra_fd_count", c_uint32),
        ("start_limit", c_uint32),
        ("arena_start_bytes", c_uint64),
        ("arena_max_bytes", c_uint64),
        ("spin_ns", c_uint64),
        ("queues", POINTER(c_char_p)),
        ("queue_count", c_uint32),
        ("group_count", c_uint32),
        ("groups", POINTER(Group)),
        ("poison_limit", c_uint32),
        ("reserved", c_uint32),
        ("grace_ns", c_uint64),
        ("blocked_after_ns", c_uint64),
        ("log", LogFunction),
        ("log_user", c_void_p),
        ("error_text", c_void_p),
        ("error_text_bytes", c_size_t),
    )


class Task(Structure):
    """aiomq_task: what submit takes."""

    _fields_ = (
        ("struct_bytes", c_uint32),
        ("flags", c_uint32),
        ("function", c_uint32),
        ("kind", c_uint16),
        ("queue", c_uint16),
        ("items", c_uint32),
        ("retries", c_uint32),
        ("user", c_uint64),
        ("integer", c_int64),
        ("payload", c_void_p),
        ("payload_bytes", c_uint64),
        ("key", c_uint64),
        ("start_within_ns", c_uint64),
        ("timeout_ns", c_uint64),
    )


class Completion(Structure):
    """aiomq_completion: finished items of one task."""

    _fields_ = (
        ("task_id", c_uint64),
        ("user", c_uint64),
        ("items", POINTER(Item)),
        ("item_count", c_uint32),
        ("items_left", c_uint32),
        ("attempt", c_uint32),
        ("worker", c_uint32),
        ("loan", c_uint64),
        ("item", Item),
        ("bytes", c_ubyte * 40),
    )


class Job(Structure):
    """aiomq_job: a claimed task."""

    _fields_ = (
        ("task_id", c_uint64),
        ("job", c_uint32),
        ("function", c_uint32),
        ("flags", c_uint32),
        ("kind", c_uint16),
        ("attempt", c_uint16),
        ("first_item", c_uint32),
        ("end_item", c_uint32),
        ("integer", c_int64),
        ("payload", c_void_p),
        ("payload_bytes", c_uint64),
        ("timeout_ns", c_uint64),
        ("submitted_ns", c_uint64),
    )


class Call(Structure):
    """aiomq_call: one call of a native handler."""

    _fields_ = (("worker", c_void_p), ("job", POINTER(Job)), ("item", c_uint32), ("user", c_void_p))


HandlerFunction = CFUNCTYPE(c_int, POINTER(Call), POINTER(Item))
CancelFunction = CFUNCTYPE(None, c_void_p, c_uint32)
AnswerFunction = CFUNCTYPE(None, c_void_p, POINTER(Completion))


class Handler(Structure):
    """aiomq_handler."""

    _fields_ = (("name", c_char_p), ("function", HandlerFunction), ("user", c_void_p))


class RunOptions(Structure):
    """aiomq_run_options."""

    _fields_ = (
        ("struct_bytes", c_uint32),
        ("flags", c_uint32),
        ("handlers", POINTER(Handler)),
        ("handler_count", c_size_t),
        ("concurrency", c_uint32),
        ("reserved", c_uint32),
        ("base", c_void_p),
        ("cancel", CancelFunction),
        ("cancel_user", c_void_p),
        ("answer", AnswerFunction),
        ("answer_user", c_void_p),
    )


def _words(names: str) -> tuple[tuple[str, type[c_uint64]], ...]:
    return tuple((name, c_uint64) for name in names.split())


class PoolStats(Structure):
    """aiomq_pool_stats."""

    _fields_ = (
        ("struct_bytes", c_uint32),
        ("statistics_version", c_uint32),
        ("pid", c_int32),
        ("uid", c_uint32),
        ("state", c_uint32),
        ("capacity", c_uint32),
        ("workers", c_uint32),
        ("queues", c_uint32),
        *_words(
            "created_realtime_ns age_ns submitted ok failed cancelled worker_died other_outcomes"
            " requeued wakeups_sent wakeups_elided audits restarts retried nested splits"
            " request_used_bytes"
            " request_committed_bytes request_maximum_bytes result_used_bytes"
            " result_committed_bytes result_maximum_bytes events"
        ),
        ("label", c_char * 64),
    )


class QueueStats(Structure):
    """aiomq_queue_stats."""

    _fields_ = (
        ("struct_bytes", c_uint32),
        ("ready", c_uint32),
        ("claimed", c_uint32),
        ("done", c_uint32),
        ("oldest_ns", c_uint64),
        ("name", c_char * 32),
    )


class WorkerStats(Structure):
    """aiomq_worker_stats."""

    _fields_ = (
        ("struct_bytes", c_uint32),
        ("pid", c_int32),
        ("state", c_uint32),
        ("sleeping", c_uint32),
        ("running", c_uint32),
        ("restarts", c_uint32),
        *_words("started completed failed wakeups used_bytes committed_bytes"),
        ("group", c_uint32),
        ("keyed", c_uint32),
        ("current_id", c_uint64),
        ("current_item", c_uint32),
        ("turns", c_uint32),
        ("blocked_ns", c_uint64),
        ("group_name", c_char * 32),
    )


class TaskStats(Structure):
    """aiomq_task_stats."""

    _fields_ = (
        ("struct_bytes", c_uint32),
        ("worker", c_uint32),
        ("task_id", c_uint64),
        ("age_ns", c_uint64),
        ("attempt", c_uint32),
        ("queue", c_uint32),
        ("items", c_uint32),
        ("started", c_uint32),
        ("function", c_char * 128),
    )


_handle = c_void_p
_ret_handle = POINTER(c_void_p)
_ret_address = POINTER(c_void_p)
_ret_number = POINTER(c_uint32)

# name without "aiomq_" -> (since, result, arguments).
# Held against header, map and man pages by test/abi.
FUNCTIONS: dict[str, tuple[str, Any, tuple[Any, ...]]] = {
    "error_decode": ("0.1", c_int, (POINTER(Item), c_void_p, c_size_t, POINTER(Error))),
    "strerror": ("0.1", c_char_p, (c_int,)),
    "outcome_name": ("0.1", c_char_p, (c_int,)),
    "version": ("0.1", c_char_p, ()),
    "pool_options_init": ("0.1", None, (POINTER(PoolOptions), c_size_t)),
    "pool_create": ("0.1", c_int, (POINTER(PoolOptions), _ret_handle)),
    "pool_destroy": ("0.1", None, (_ret_handle,)),
    "pool_state": ("0.1", c_int, (_handle, c_void_p, c_size_t)),
    "pool_fd": ("0.1", c_int, (_handle,)),
    "pool_dispatch": ("0.1", c_int, (_handle,)),
    "pool_wait": ("0.1", c_int, (_handle, c_uint64)),
    "pool_function": ("0.1", c_int, (_handle, c_char_p, _ret_number)),
    "pool_submit": ("0.1", c_int, (_handle, POINTER(Task), POINTER(c_uint64))),
    "pool_submit_batch": ("0.1", c_int64, (_handle, POINTER(Task), c_size_t, POINTER(c_uint64))),
    "pool_alloc": ("0.1", c_int, (_handle, c_uint64, _ret_address)),
    "pool_free": ("0.1", c_int, (_handle, c_void_p)),
    "pool_in_use": ("0.1", c_int, (_handle, c_void_p)),
    "pool_memory": ("0.1", c_int, (_handle, _ret_address, POINTER(c_uint64))),
    "pool_collect": ("0.1", c_int64, (_handle, POINTER(Completion), c_size_t)),
    "pool_release": ("0.1", c_int, (_handle, c_uint64)),
    "pool_cancel": ("0.1", c_int, (_handle, c_uint64)),
    "pool_close": ("0.1", c_int, (_handle, c_uint32)),
    "pool_queue": ("0.1", c_int, (_handle, c_char_p, _ret_number)),
    "pool_terminate": ("0.1", c_int, (_handle,)),
    "pool_join": ("0.1", c_int, (_handle, c_uint64)),
    "worker_open": ("0.1", c_int, (_ret_handle, c_void_p, c_size_t)),
    "worker_close": ("0.1", None, (_ret_handle,)),
    "worker_index": ("0.1", c_int, (_handle,)),
    "worker_label": ("0.1", c_char_p, (_handle,)),
    "worker_ready": ("0.1", c_int, (_handle,)),
    "worker_abort": ("0.1", c_int, (_handle, c_char_p)),
    "worker_fd": ("0.1", c_int, (_handle,)),
    "worker_claim": ("0.1", c_int64, (_handle, POINTER(Job), c_size_t)),
    "worker_start": ("0.1", c_int, (_handle, c_uint32, _ret_number)),
    "worker_alloc": ("0.1", c_int, (_handle, c_uint32, c_uint64, _ret_address)),
    "worker_complete": ("0.1", c_int, (_handle, c_uint32, POINTER(Item))),
    "worker_next": ("0.1", c_int, (_handle, c_uint32, POINTER(Item), _ret_number)),
    "worker_fail": ("0.1", c_int, (_handle, c_uint32, c_uint32, POINTER(Error))),
    "worker_flush": ("0.1", c_int, (_handle,)),
    "worker_cancelled": ("0.1", c_int, (_handle, _ret_number)),
    "worker_sleep": ("0.1", c_int, (_handle, c_int)),
    "worker_wake": ("0.1", c_int, (_handle, c_int)),
    "worker_function": (
        "0.1",
        c_int,
        (_handle, c_uint32, POINTER(POINTER(c_char)), POINTER(c_size_t)),
    ),
    "worker_concurrency": ("0.1", c_int, (_handle,)),
    "worker_retire": ("0.1", c_int, (_handle,)),
    "worker_enter": ("0.1", c_int, (_handle, c_uint32, c_uint32)),
    "worker_submit": ("0.1", c_int, (_handle, c_uint32, c_uint32, POINTER(Task), c_char_p)),
    "worker_collect": ("0.1", c_int64, (_handle, POINTER(Completion), c_size_t)),
    "worker_cancel": ("0.1", c_int, (_handle, c_uint64)),
    "worker_retain": ("0.1", c_int, (_handle, c_uint32, POINTER(c_uint64))),
    "worker_release": ("0.1", c_int, (_handle, c_uint64)),
    "worker_memory": ("0.1", c_int, (_handle, _ret_address, POINTER(c_uint64))),
    "run_options_init": ("0.1", None, (POINTER(RunOptions), c_size_t)),
    "worker_run": ("0.1", c_int, (_handle, POINTER(RunOptions))),
    "worker_event_base": ("0.1", c_void_p, (_handle,)),
    "view_open": ("0.1", c_int, (c_int, _ret_handle)),
    "pool_view": ("0.1", c_int, (_handle, _ret_handle)),
    "view_close": ("0.1", None, (_ret_handle,)),
    "view_pool": ("0.1", c_int, (_handle, POINTER(PoolStats))),
    "view_queue": ("0.1", c_int, (_handle, c_uint32, POINTER(QueueStats))),
    "view_worker": ("0.1", c_int, (_handle, c_uint32, POINTER(WorkerStats))),
    "view_task": ("0.1", c_int, (_handle, c_uint32, POINTER(TaskStats))),
    "view_event": ("0.1", c_int, (_handle, c_uint64, POINTER(Event))),
}


def candidates(name: str) -> list[str]:
    """Where a library of ours may be, best first: paths, then the name for the system's loader.

    `name` is a file name such as "libaiomq.so".
    """
    here = os.path.dirname(os.path.abspath(__file__))
    folders = [folder for folder in os.environ.get("AIOMQ_LIBRARY_PATH", "").split(":") if folder]
    folders += [here, os.path.join(os.path.dirname(here), "aiomq.libs")]
    paths = [os.path.join(folder, name) for folder in folders]
    return [path for path in paths if os.path.exists(path)] + [name + ".0", name]


def _load() -> ctypes.CDLL:
    troubles = []
    for path in candidates("libaiomq.so"):
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            troubles.append(str(error))
            continue
        for name, (_, result, arguments) in FUNCTIONS.items():
            function = getattr(library, "aiomq_" + name)
            function.restype = result
            function.argtypes = arguments
        return library
    raise ImportError(
        "libaiomq.so was not found; set AIOMQ_LIBRARY_PATH to its folder ("
        + "; ".join(troubles)
        + ")"
    )


lib = _load()
