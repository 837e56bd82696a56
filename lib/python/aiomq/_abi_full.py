"""The C ABI, what an ordinary worker does without. See `_abi`.

Pools, views and native handlers; and items and nested tasks, which the codec deals with or which
few workers submit.
"""

from __future__ import annotations

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

from aiomq import _abi
from aiomq._abi import Job, handle, ret_address, ret_handle, ret_number


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


class Call(Structure):
    """aiomq_call: one call of a native handler."""

    _fields_ = (("worker", c_void_p), ("job", POINTER(Job)), ("item", c_uint32), ("user", c_void_p))


HandlerFunction = CFUNCTYPE(c_int, POINTER(Call), POINTER(Item))
CancelFunction = CFUNCTYPE(None, c_void_p, c_uint32, c_uint32)
AnswerFunction = CFUNCTYPE(None, c_void_p, POINTER(Completion))


class Handler(Structure):
    """aiomq_handler."""

    _fields_ = (("name", c_char_p), ("function", HandlerFunction), ("user", c_void_p))


ResolveFunction = CFUNCTYPE(c_int, c_void_p, c_char_p, c_size_t, POINTER(Handler))


PluginStart = CFUNCTYPE(c_int, c_void_p, c_void_p, c_char_p, c_size_t)
PluginStop = CFUNCTYPE(None, c_void_p)
PluginAnswer = CFUNCTYPE(c_int, c_void_p, POINTER(Completion))


class Plugin(Structure):
    """aiomq_plugin: tasks in a shared library."""

    _fields_ = (
        ("struct_bytes", c_uint32),
        ("version", c_uint32),
        ("handlers", POINTER(Handler)),
        ("handler_count", c_size_t),
        ("concurrency", c_uint32),
        ("reserved", c_uint32),
        ("user", c_void_p),
        ("start", PluginStart),
        ("stop", PluginStop),
        ("cancel", CancelFunction),
        ("answer", PluginAnswer),
        ("resolve", ResolveFunction),
    )


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
        ("resolve", ResolveFunction),
        ("resolve_user", c_void_p),
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


# As _abi.FUNCTIONS.
FUNCTIONS: _abi.Functions = {
    "error_decode": ("0.1", c_int, (POINTER(Item), c_void_p, c_size_t, POINTER(Error))),
    "outcome_name": ("0.1", c_char_p, (c_int,)),
    "version": ("0.1", c_char_p, ()),
    "worker_close": ("0.1", None, (ret_handle,)),
    "worker_start": ("0.1", c_int, (handle, c_uint32, ret_number)),
    "worker_alloc": ("0.1", c_int, (handle, c_uint32, c_uint64, ret_address)),
    "worker_complete": ("0.1", c_int, (handle, c_uint32, POINTER(Item))),
    "worker_next": ("0.1", c_int, (handle, c_uint32, POINTER(Item), ret_number)),
    "worker_fail": ("0.1", c_int, (handle, c_uint32, c_uint32, POINTER(Error))),
    "worker_enter": ("0.1", c_int, (handle, c_uint32, c_uint32)),
    "worker_submit": ("0.1", c_int, (handle, c_uint32, c_uint32, POINTER(Task), c_char_p)),
    "worker_collect": ("0.1", c_int64, (handle, POINTER(Completion), c_size_t)),
    "worker_cancel": ("0.1", c_int, (handle, c_uint64)),
    "pool_options_init": ("0.1", None, (POINTER(PoolOptions), c_size_t)),
    "pool_create": ("0.1", c_int, (POINTER(PoolOptions), ret_handle)),
    "pool_destroy": ("0.1", None, (ret_handle,)),
    "pool_state": ("0.1", c_int, (handle, c_void_p, c_size_t)),
    "pool_fd": ("0.1", c_int, (handle,)),
    "pool_dispatch": ("0.1", c_int, (handle,)),
    "pool_wait": ("0.1", c_int, (handle, c_uint64)),
    "pool_function": ("0.1", c_int, (handle, c_char_p, ret_number)),
    "pool_submit": ("0.1", c_int, (handle, POINTER(Task), POINTER(c_uint64))),
    "pool_submit_batch": ("0.1", c_int64, (handle, POINTER(Task), c_size_t, POINTER(c_uint64))),
    "pool_alloc": ("0.1", c_int, (handle, c_uint64, ret_address)),
    "pool_free": ("0.1", c_int, (handle, c_void_p)),
    "pool_in_use": ("0.1", c_int, (handle, c_void_p)),
    "pool_memory": ("0.1", c_int, (handle, ret_address, POINTER(c_uint64))),
    "pool_collect": ("0.1", c_int64, (handle, POINTER(Completion), c_size_t)),
    "pool_release": ("0.1", c_int, (handle, c_uint64)),
    "pool_cancel": ("0.1", c_int, (handle, c_uint64)),
    "pool_close": ("0.1", c_int, (handle, c_uint32)),
    "pool_queue": ("0.1", c_int, (handle, c_char_p, ret_number)),
    "pool_terminate": ("0.1", c_int, (handle,)),
    "pool_join": ("0.1", c_int, (handle, c_uint64)),
    "run_options_init": ("0.1", None, (POINTER(RunOptions), c_size_t)),
    "worker_run": ("0.1", c_int, (handle, POINTER(RunOptions))),
    "worker_event_base": ("0.1", c_void_p, (handle,)),
    "view_open": ("0.1", c_int, (c_int, ret_handle)),
    "pool_view": ("0.1", c_int, (handle, ret_handle)),
    "view_close": ("0.1", None, (ret_handle,)),
    "view_pool": ("0.1", c_int, (handle, POINTER(PoolStats))),
    "view_queue": ("0.1", c_int, (handle, c_uint32, POINTER(QueueStats))),
    "view_worker": ("0.1", c_int, (handle, c_uint32, POINTER(WorkerStats))),
    "view_task": ("0.1", c_int, (handle, c_uint32, POINTER(TaskStats))),
    "view_event": ("0.1", c_int, (handle, c_uint64, POINTER(Event))),
}

lib = _abi.lib
_abi.bind(FUNCTIONS)
