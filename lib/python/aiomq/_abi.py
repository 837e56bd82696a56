"""The C ABI as ctypes sees it: every struct and every function of aiomq.h, here or in `_abi_full`.

Here is what every worker needs; each struct and each function takes kilobytes of every process that
knows it. These two are the only modules that name the C library. They hold no behaviour: callers
compare return codes themselves. Calls made through `lib` release the GIL; each costs 0.2 to 0.4 µs,
so what runs once per item goes through `_bridge` instead.

Pool and worker handles are plain integers here (the address that C gave us).
"""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, TypeAlias

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


# Types of arguments.
handle = c_void_p
ret_handle = POINTER(c_void_p)
ret_address = POINTER(c_void_p)
ret_number = POINTER(c_uint32)

Functions: TypeAlias = "dict[str, tuple[str, Any, tuple[Any, ...]]]"

# name without "aiomq_" -> (since, result, arguments).
# Held against header, map and man pages by test/abi.
FUNCTIONS: Functions = {
    "strerror": ("0.1", c_char_p, (c_int,)),
    "worker_open": ("0.1", c_int, (ret_handle, c_void_p, c_size_t)),
    "worker_index": ("0.1", c_int, (handle,)),
    "worker_label": ("0.1", c_char_p, (handle,)),
    "worker_ready": ("0.1", c_int, (handle,)),
    "worker_abort": ("0.1", c_int, (handle, c_char_p)),
    "worker_fd": ("0.1", c_int, (handle,)),
    "worker_claim": ("0.1", c_int64, (handle, POINTER(Job), c_size_t)),
    "worker_flush": ("0.1", c_int, (handle,)),
    "worker_cancelled": ("0.1", c_int, (handle, ret_number)),
    "worker_sleep": ("0.1", c_int, (handle, c_int)),
    "worker_wake": ("0.1", c_int, (handle, c_int)),
    "worker_function": (
        "0.1",
        c_int,
        (handle, c_uint32, POINTER(POINTER(c_char)), POINTER(c_size_t)),
    ),
    "worker_concurrency": ("0.1", c_int, (handle,)),
    "worker_retire": ("0.1", c_int, (handle,)),
    "worker_retain": ("0.1", c_int, (handle, c_uint32, POINTER(c_uint64))),
    "worker_release": ("0.1", c_int, (handle, c_uint64)),
    "worker_memory": ("0.1", c_int, (handle, ret_address, POINTER(c_uint64))),
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


def bind(functions: Functions) -> None:
    """Give functions of the library their types: they must not be called before."""
    for name, (_, result, arguments) in functions.items():
        function = getattr(lib, "aiomq_" + name)
        function.restype = result
        function.argtypes = arguments


def _load() -> ctypes.CDLL:
    troubles = []
    for path in candidates("libaiomq.so"):
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            troubles.append(str(error))
            continue
        return library
    raise ImportError(
        "libaiomq.so was not found; set AIOMQ_LIBRARY_PATH to its folder ("
        + "; ".join(troubles)
        + ")"
    )


lib = _load()
bind(FUNCTIONS)
