"""Current: what a task can learn about itself."""

from __future__ import annotations

import asyncio
import os
import threading
from contextvars import ContextVar
from typing import Any, NamedTuple

from aiomq._item import Item

_OUTSIDE = "current_task() was called outside of a pool's task"
_CHILD = (
    "current_task() was called in an asyncio task or thread that a pool's task has made; call it in"
    " the pool's task first"
)


class TaskInfo(NamedTuple):
    """A call, or an item of a map, as the worker that runs it sees it.

    id: the pool's number for the call, Task.id in the dispatcher, or for the chunk of items.
    item: which item of the chunk; 0 for a call.
    attempt: 1 for the first run; each run again after a worker's death adds 1.
    name: the function, "module:name".
    timeout: seconds from its own start, or None.
    """

    id: int
    item: int
    attempt: int
    name: str
    timeout: float | None


_of_context: ContextVar[TaskInfo | None] = ContextVar("aiomq_current_task", default=None)


def current_task() -> TaskInfo:
    """What is known of the call that is running here.

        log.info("attempt %d of %s", aiomq.current_task().attempt, aiomq.current_task().name)

    In an asyncio task or thread that a call makes after it has asked it is the same. Raises
    RuntimeError outside of a pool's task.
    """
    from aiomq import _pump

    pump = _pump.current
    if pump is None or pump.owner != os.getpid():
        raise RuntimeError(_OUTSIDE)
    task: Any = None
    if threading.get_ident() == pump.thread:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        if task is None and pump.starting:
            return pump.info(*pump.place())
    if isinstance(task, Item):
        info = pump.info(*pump.place_of(task))
        _of_context.set(info)
        return info
    known = _of_context.get()
    if known is None:
        raise RuntimeError(_CHILD if task is not None else _OUTSIDE)
    return known
