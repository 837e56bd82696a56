"""aiomq: coroutines and functions on many processes, over shared memory. Linux only.

    async with aiomq.Pool() as pool:
        result = await pool.apply(fetch, (url,))
        pages = await pool.map(fetch, urls)

Importing this package is cheap: each public name is loaded when it is first used, so that a worker
imports only what a worker needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiomq._blocking import Blocking, blocking
    from aiomq._calls import PoolCalls
    from aiomq._current import TaskInfo, current_task
    from aiomq._errors import (
        PoolBroken,
        QueueFull,
        RemoteError,
        StartExpired,
        TaskTimeout,
        WorkerDied,
    )
    from aiomq._group import Group
    from aiomq._native import Native, native
    from aiomq._nested import current_pool
    from aiomq._pool import Pool
    from aiomq._result import PoolResult
    from aiomq._share import Shared
    from aiomq._state import worker_state
    from aiomq._stats import FunctionStats, PoolStats, QueueStats, Times, WorkerStats
    from aiomq._stream import Stream
    from aiomq._task import Task
    from aiomq._unordered import UnorderedResult, as_completed

__version__ = "0.1.0"

__all__ = [
    "Blocking",
    "FunctionStats",
    "Group",
    "Native",
    "Pool",
    "PoolBroken",
    "PoolCalls",
    "PoolResult",
    "PoolStats",
    "QueueFull",
    "QueueStats",
    "RemoteError",
    "Shared",
    "StartExpired",
    "Stream",
    "Task",
    "TaskInfo",
    "TaskTimeout",
    "Times",
    "UnorderedResult",
    "WorkerDied",
    "WorkerStats",
    "as_completed",
    "blocking",
    "current_pool",
    "current_task",
    "native",
    "worker_state",
]

_homes = {
    "Blocking": "_blocking",
    "FunctionStats": "_stats",
    "Group": "_group",
    "Native": "_native",
    "Pool": "_pool",
    "PoolBroken": "_errors",
    "PoolCalls": "_calls",
    "PoolResult": "_result",
    "PoolStats": "_stats",
    "QueueFull": "_errors",
    "QueueStats": "_stats",
    "RemoteError": "_errors",
    "Shared": "_share",
    "StartExpired": "_errors",
    "Stream": "_stream",
    "Task": "_task",
    "TaskInfo": "_current",
    "TaskTimeout": "_errors",
    "Times": "_stats",
    "UnorderedResult": "_unordered",
    "WorkerDied": "_errors",
    "WorkerStats": "_stats",
    "as_completed": "_unordered",
    "blocking": "_blocking",
    "current_pool": "_nested",
    "current_task": "_current",
    "native": "_native",
    "worker_state": "_state",
}


def __getattr__(name: str) -> Any:
    home = _homes.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module("aiomq." + home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
