"""Create: from Pool's arguments, checked and named, to a running C pool."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from aiomq import _abi, _abi_full, _checks, _main, _start
from aiomq._board import Board
from aiomq._depot import Depot
from aiomq._group import Group
from aiomq._logs import Logs, levels
from aiomq._native import command
from aiomq._stuck import SIGNAL, Stacks
from aiomq._trouble import create_error

lib = _abi_full.lib
logger = logging.getLogger("aiomq")

_MEMORY_MIN = 1 << 18
_MEMORY_MAX = 1 << 46  # half of the address space
_NEVER = 2**64 - 1
_LEVELS = {
    _abi.EVENT_DIED: logging.WARNING,
    _abi.EVENT_KILLED: logging.WARNING,
    _abi.EVENT_BLOCKED: logging.WARNING,
    _abi.EVENT_POISONED: logging.WARNING,
    _abi.EVENT_BROKEN: logging.ERROR,
    _abi.EVENT_CORRUPT: logging.CRITICAL,
}


class Wanted(NamedTuple):
    """Pool's arguments, as they were given."""

    processes: int | None
    initializer: Callable[..., Any] | None
    initargs: Iterable[Any]
    childconcurrency: int
    loop_initializer: Callable[[], Any] | None
    label: str | None
    capacity: int | None
    max_memory: int | None
    queues: Sequence[str] | None
    groups: Sequence[Group] | None
    maxtasksperchild: int | None
    max_memory_per_child: int | None
    poison_limit: int
    grace: float
    blocked_after: float | None
    finalizer: Callable[[], Any] | None
    forward_logs: bool


class Started(NamedTuple):
    """A pool that aiomq_pool_create() made, with what must live as long as it does."""

    address: int
    board: Board
    stacks: Stacks
    depot: Depot
    logs: Logs | None
    label: str
    workers: int
    queues: tuple[str, ...]
    childconcurrency: int
    arena_bytes: int  # what the arguments, and the results of each worker, may take
    log: object
    natives: dict[str, int]  # the queue of each plugin


def create(wanted: Wanted) -> Started:
    """Start a pool; does not wait for its workers. Raises what Pool() documents."""
    options = _abi_full.PoolOptions()
    lib.aiomq_pool_options_init(ctypes.byref(options), ctypes.sizeof(options))
    options.flags = _abi.POOL_NOWAIT
    _checks.size("childconcurrency", wanted.childconcurrency, 1)
    queues = _queues(wanted.queues)
    groups = _groups(wanted, options.workers, queues)
    served, natives = _served(groups, queues)
    workers = sum(group.processes for group in groups)
    if workers > _abi.WORKERS_MAX:
        raise ValueError(
            f"groups have {workers} processes; at most {_abi.WORKERS_MAX} are possible"
        )
    _set_scalars(options, wanted, workers)
    _checks.function("initializer", wanted.initializer)
    _checks.function("loop_initializer", wanted.loop_initializer)
    _checks.function("finalizer", wanted.finalizer)
    label = _start.default_label() if wanted.label is None else _checks.text("label", wanted.label)
    options.label = label.encode(errors="replace")
    if not isinstance(wanted.initargs, Iterable):
        raise TypeError(f"initargs must be iterable, not {type(wanted.initargs).__name__}")
    objects = _start.pickle_objects(
        wanted.initializer, tuple(wanted.initargs), wanted.loop_initializer, wanted.finalizer
    )
    options.argv = _strings(_start.command())
    options.queues = _strings([name.encode(errors="replace") for name in queues])
    options.queue_count = len(queues)
    options.groups = (_abi_full.Group * len(groups))(
        *(_group(group, wanted, numbers) for group, numbers in zip(groups, served, strict=True))
    )
    options.group_count = len(groups)
    setup = _start.Setup(
        _main.describe(),
        wanted.childconcurrency,
        objects,
        tuple(queues),
        workers,
        options.arena_max_bytes,
        levels() if wanted.forward_logs else None,
        natives,
    )
    log = _log_function(label)
    options.log = log
    return Started(
        *_create(options, setup, label),
        label,
        workers,
        tuple(queues),
        max(group.childconcurrency or wanted.childconcurrency for group in groups),
        options.arena_max_bytes,
        log,
        natives,
    )


def _create(
    options: _abi_full.PoolOptions, setup: _start.Setup, label: str
) -> tuple[int, Board, Stacks, Depot, Logs | None]:
    """Call aiomq_pool_create(); raises what its error means."""
    text = ctypes.create_string_buffer(4096)
    options.error_text = ctypes.addressof(text)
    options.error_text_bytes = len(text)
    address = ctypes.c_void_p()
    with contextlib.ExitStack() as undo:
        board = Board(setup.workers)
        undo.callback(board.close)
        stacks = Stacks(setup.workers)
        undo.callback(stacks.close)
        depot = Depot()
        undo.callback(depot.close)
        depot.put(_start.setup_bytes(setup))
        logs = None
        with contextlib.ExitStack() as inherited:  # the pool has its own of these
            reader = depot.reader()
            inherited.callback(os.close, reader)
            fds = [reader, board.fd, stacks.fd]
            if setup.levels is not None:
                logs = Logs(label, board)
                undo.callback(logs.close)
                inherited.enter_context(logs.writer)
                fds.append(logs.writer.fileno())
            options.extra_fds = (ctypes.c_int * len(fds))(*fds)
            options.extra_fd_count = len(fds)
            outcome = lib.aiomq_pool_create(ctypes.byref(options), ctypes.byref(address))
        if outcome < 0 or address.value is None:
            raise create_error(outcome, text.value.decode(errors="replace"))
        undo.pop_all()
    return address.value, board, stacks, depot, logs


def _set_scalars(options: _abi_full.PoolOptions, wanted: Wanted, workers: int) -> None:
    if wanted.capacity is not None:
        options.capacity = _checks.size("capacity", wanted.capacity, 1, _abi.CAPACITY_MAX)
    if wanted.max_memory is not None:
        arenas = workers + 1
        least = _MEMORY_MIN * arenas
        share = _checks.size("max_memory", wanted.max_memory, least, _MEMORY_MAX) // arenas
        options.arena_max_bytes = share
        options.arena_start_bytes = min(options.arena_start_bytes, share)
    options.poison_limit = _checks.size("poison_limit", wanted.poison_limit, 1, 2**31)
    options.grace_ns = _checks.nanoseconds("grace", wanted.grace)
    options.blocked_after_ns = (
        _NEVER
        if wanted.blocked_after is None
        else _checks.nanoseconds("blocked_after", wanted.blocked_after)
    )


def _queues(given: Sequence[str] | None) -> list[str]:
    queues = ["default"] if given is None else _checks.texts("queues", given)
    if not queues:
        raise ValueError("queues must not be empty")
    if len(queues) > _abi.QUEUES_MAX:
        raise ValueError(f"queues has {len(queues)} names; at most {_abi.QUEUES_MAX} are possible")
    if len(set(queues)) < len(queues):
        raise ValueError("queues must not name a queue twice")
    return queues


def _groups(wanted: Wanted, usable: int, queues: list[str]) -> list[Group]:
    """The groups, or the one that `processes` stands for."""
    if wanted.groups is None:
        processes = usable if wanted.processes is None else wanted.processes
        return [Group(processes)]
    if wanted.processes is not None:
        raise ValueError("processes must be left out when there are groups, which have their own")
    if not isinstance(wanted.groups, Iterable):
        raise TypeError(f"groups must be a sequence, not {type(wanted.groups).__name__}")
    groups = list(wanted.groups)
    if not groups:
        raise ValueError("groups must not be empty")
    for index, group in enumerate(groups):
        if not isinstance(group, Group):
            raise TypeError(f"groups[{index}] must be an aiomq.Group, not {type(group).__name__}")
        for name in group.queues or ():
            if name not in queues:
                known = ", ".join(map(repr, queues))
                raise ValueError(f"groups[{index}]: queue {name!r} is none of the pool's: {known}")
    return groups


def _served(
    groups: list[Group], queues: list[str]
) -> tuple[list[list[int] | None], dict[str, int]]:
    """The numbers of the queues that each group serves, None for all; and the queue of each plugin.

    Groups with plugins have a queue of their own, which is added to `queues`, unless all have some.
    """
    given = len(queues)
    served: list[list[int] | None] = []
    natives: dict[str, int] = {}
    for index, group in enumerate(groups):
        numbers = None if group.queues is None else [queues.index(name) for name in group.queues]
        if group.plugins is not None:
            if numbers is None and all(other.plugins for other in groups):
                numbers = list(range(given))
            elif numbers is None:
                numbers = [len(queues)]
                queues.append(f"native-{index}")
            for plugin in group.plugins:
                natives.setdefault(plugin, numbers[0])
        served.append(numbers)
    if len(queues) > _abi.QUEUES_MAX:
        raise ValueError(
            f"with those of the plugins there are {len(queues)} queues; at most {_abi.QUEUES_MAX}"
            " are possible"
        )
    if len(queues) > given:  # Python workers can't run what is in the others
        served = [list(range(given)) if numbers is None else numbers for numbers in served]
    return served, natives


def _group(group: Group, wanted: Wanted, served: list[int] | None) -> _abi_full.Group:
    """As C wants it."""
    result = _abi_full.Group(struct_bytes=ctypes.sizeof(_abi_full.Group), workers=group.processes)
    if group.name is not None:
        result.name = group.name.encode(errors="replace")
    if group.program is not None:
        result.argv = _strings(group.program)
    elif group.plugins is not None:
        result.argv = _strings(command(group.plugins))
    else:
        result.stuck_signal = SIGNAL
    if served is not None:
        result.queues = (ctypes.c_uint32 * len(served))(*served)
        result.queue_count = len(served)
    result.concurrency = group.childconcurrency or 0
    for name, field in (
        ("maxtasksperchild", "max_tasks"),
        ("max_memory_per_child", "max_memory_bytes"),
    ):
        value, default = getattr(group, name), getattr(wanted, name)
        if default is not None:
            default = _checks.size(name, default, 1, 2**62)
        setattr(result, field, value or default or 0)
    return result


def _strings(words: Sequence[bytes]) -> Any:
    """A NULL-terminated array."""
    return (ctypes.c_char_p * (len(words) + 1))(*words, None)


def _log_function(label: str) -> object:
    """The callback through which the supervisor's events reach the logger "aiomq"."""

    def log(_user: int | None, event: Any) -> None:
        entry = event.contents
        level = _LEVELS.get(entry.kind, logging.DEBUG)
        logger.log(level, "%s: %s", label, entry.text.decode(errors="replace"))

    return _abi_full.LogFunction(log)
