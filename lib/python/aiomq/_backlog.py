"""Backlog: encoded calls that wait for room in a pool, first come, first served."""

from __future__ import annotations

import ctypes
import errno
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from aiomq import _abi_full, _bridge
from aiomq._bridge_types import TooLarge
from aiomq._options import NONE
from aiomq._trouble import NO_ROOM, raise_for

if TYPE_CHECKING:
    from aiomq._options import Options
    from aiomq._submitter import Submitter
    from aiomq._task import Task


class Waiting(NamedTuple):
    """An encoded call and the Task that was returned for it."""

    task: Task[Any]
    function: int
    kind: int
    integer: int
    payload: bytes
    encode_ns: int
    options: Options | None


class Backlog:
    """The waiting calls of one pool. Their arguments are kept encoded, as they were at the call."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, waiting: Waiting) -> None:
        """Put a call at the end of the line."""
        self._waiting.append(waiting)

    def take_all(self) -> list[Task[Any]]:
        """Empty the line; returns the tasks that were in it."""
        tasks = [waiting.task for waiting in self._waiting]
        self._waiting.clear()
        return tasks

    def submit(self, dispatcher: Submitter, address: int) -> None:
        """Submit calls in order, as far as there is room. Cancelled ones are dropped."""
        call = _abi_full.Task()
        call.struct_bytes = ctypes.sizeof(call)
        call.items = 1
        number = ctypes.c_uint64()
        while self._waiting:
            task, call.function, call.kind, call.integer, payload, encode_ns, options = (
                self._waiting[0]
            )
            if not task.done():
                (
                    call.flags,
                    call.queue,
                    call.retries,
                    call.key,
                    call.start_within_ns,
                    call.timeout_ns,
                ) = (options or NONE)[:6]
                call.user = dispatcher.user_of(call.function)
                call.payload = ctypes.cast(ctypes.c_char_p(payload), ctypes.c_void_p)
                call.payload_bytes = len(payload)
                outcome = _abi_full.lib.aiomq_pool_submit(
                    address, ctypes.byref(call), ctypes.byref(number)
                )
                if outcome in NO_ROOM and dispatcher.can_wait(outcome):
                    return
                if outcome == 0:
                    _bridge.count_encoded(address, call.function, len(payload), encode_ns)
                    task._id = number.value
                    dispatcher.add_pending(call.user, task)
                else:
                    try:
                        if outcome == -errno.EMSGSIZE:
                            too_large = TooLarge(len(payload))
                            most = dispatcher.life.handle.arena_bytes
                            raise too_large.explained("the arguments are", "arguments", most)
                        raise_for(outcome, dispatcher)
                    except Exception as error:
                        task._fail(error)
            self._waiting.popleft()
