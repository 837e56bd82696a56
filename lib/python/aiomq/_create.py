"""Create: from Pool's arguments, checked and named, to a running C pool."""

from __future__ import annotations

import ctypes
import logging
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from aiomq import _abi, _start
from aiomq._board import Board
from aiomq._trouble import create_error

lib = _abi.lib
logger = logging.getLogger("aiomq")

_MEMORY_MIN = 1 << 18
_MEMORY_MAX = 1 << 46  # half of the address space
_LEVELS = {
    _abi.EVENT_DIED: logging.WARNING,
    _abi.EVENT_KILLED: logging.WARNING,
    _abi.EVENT_BROKEN: logging.ERROR,
    _abi.EVENT_CORRUPT: logging.CRITICAL,
}


class Started(NamedTuple):
    """A pool that aiomq_pool_create() made, with what must live as long as it does."""

    address: int
    label: str
    workers: int
    arena_bytes: int  # what the arguments, and the results of each worker, may take
    board: Board
    log: object


def size(name: str, value: Any, low: int, high: int | None = None) -> int:
    """An integer option within its bounds; raises TypeError or ValueError naming it."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    number = operator.index(value)
    if number < low:
        raise ValueError(f"{name} must be at least {low}, not {number}")
    if high is not None and number > high:
        raise ValueError(f"{name} must be at most {high}, not {number}")
    return number


def function(name: str, value: Any) -> None:
    """Raise TypeError unless the option is None or can be called."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, not {type(value).__name__}")


def create(
    processes: int | None,
    initializer: Callable[..., Any] | None,
    initargs: Iterable[Any],
    childconcurrency: int,
    loop_initializer: Callable[[], Any] | None,
    label: str | None,
    capacity: int | None,
    max_memory: int | None,
) -> Started:
    """Start a pool; does not wait for its workers. Raises what Pool() documents."""
    options = _abi.PoolOptions()
    lib.aiomq_pool_options_init(ctypes.byref(options), ctypes.sizeof(options))
    options.flags = _abi.POOL_NOWAIT
    if processes is not None:
        options.workers = size("processes", processes, 1, _abi.WORKERS_MAX)
    if capacity is not None:
        options.capacity = size("capacity", capacity, 1, _abi.CAPACITY_MAX)
    workers: int = options.workers
    if max_memory is not None:
        arenas = workers + 1
        share = size("max_memory", max_memory, _MEMORY_MIN * arenas, _MEMORY_MAX) // arenas
        options.arena_max_bytes = share
        options.arena_start_bytes = min(options.arena_start_bytes, share)
    size("childconcurrency", childconcurrency, 1)
    function("initializer", initializer)
    function("loop_initializer", loop_initializer)
    if label is None:
        label = _start.default_label()
    elif not isinstance(label, str):
        raise TypeError(f"label must be a str, not {type(label).__name__}")
    elif "\0" in label or not label:
        raise ValueError("label must not be empty or contain a null character")
    options.label = label.encode(errors="replace")

    if not isinstance(initargs, Iterable):
        raise TypeError(f"initargs must be iterable, not {type(initargs).__name__}")
    objects = _start.pickle_objects(initializer, tuple(initargs), loop_initializer)
    argv = _start.command()
    options.argv = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    log = _log_function(label)
    options.log = log
    text = ctypes.create_string_buffer(4096)
    options.error_text = ctypes.addressof(text)
    options.error_text_bytes = len(text)
    address = ctypes.c_void_p()
    board = Board(workers)
    try:
        with _start.descriptors(childconcurrency, objects, board) as fds:
            options.extra_fds = (ctypes.c_int * len(fds))(*fds)
            options.extra_fd_count = len(fds)
            outcome = lib.aiomq_pool_create(ctypes.byref(options), ctypes.byref(address))
        if outcome < 0:
            raise create_error(outcome, text.value.decode(errors="replace"))
    except BaseException:
        board.close()
        raise
    assert address.value is not None
    return Started(address.value, label, workers, options.arena_max_bytes, board, log)


def _log_function(label: str) -> object:
    """The callback through which the supervisor's events reach the logger "aiomq"."""

    def log(_user: int | None, event: Any) -> None:
        entry = event.contents
        level = _LEVELS.get(entry.kind, logging.DEBUG)
        logger.log(level, "%s: %s", label, entry.text.decode(errors="replace"))

    return _abi.LogFunction(log)
