"""Submitter: the calls of one event loop, on their way into a pool.

A Dispatcher is the one whose loop also delivers results; an Outpost serves another thread's loop.
Internal; Pool is their face. One thread and one loop at a time use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import itertools
import os
import threading
import weakref
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from aiomq import _abi, _abi_full, _bridge
from aiomq._backlog import Backlog, Waiting
from aiomq._chunks import ChunkSizer, NativeSizer
from aiomq._handle import Handle
from aiomq._native import Native
from aiomq._reference import Function, is_by_value, label_of, name_of, sharing
from aiomq._task import Task
from aiomq._trouble import NO_ROOM, call_error, function_name, item_error, raise_for

if TYPE_CHECKING:
    from aiomq._create import Started
    from aiomq._map import Chunk, Map
    from aiomq._options import Options
    from aiomq._outpost import Abroad
    from aiomq._share import Shared
    from aiomq._stats import PoolStats
    from aiomq._stream import Stream

lib = _abi_full.lib


class Life:
    """What all loops that use a pool have in common."""

    def __init__(self, started: Started) -> None:
        self.address = started.address  # 0 when the pool is freed
        self.handle = Handle(started)
        self.natives = started.natives
        self.closing = False
        self.end_reason: BaseException | None = None
        self.end_text = "pool was terminated"
        self.pending: dict[int, Task[Any] | Chunk | Abroad] = {}  # by the `user` of the call
        self.functions: dict[Any, int] = {}
        self.sizers: dict[int, ChunkSizer] = {}
        self.next_user = itertools.count(1).__next__
        # Held by an outpost from before it submits until the call is in `pending`, and to free the
        # pool; what the dispatcher does by itself needs no lock.
        self.gate = threading.RLock()


class Submitter:
    """Submits calls and chunks, and keeps those that wait for room."""

    loop: Any  # the AbstractEventLoop, once bound

    def __init__(
        self,
        life: Life,
        workers: int,
        queues: tuple[str, ...],
        childconcurrency: int,
        most_items: int,
    ) -> None:
        self.life = life
        self.workers = workers
        self.queues = queues
        self.childconcurrency = childconcurrency
        self.most_items = most_items
        self.loop = None
        self.backlog = Backlog()
        self.feeds: dict[Map, None] = {}  # maps with items left to submit, in order
        self.streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()  # that have not ended

    def bind(self) -> asyncio.AbstractEventLoop:
        """The running loop, which is or becomes this one's. Raises RuntimeError."""
        raise NotImplementedError

    def drained(self) -> None:
        """Nothing waits here to be submitted."""
        raise NotImplementedError

    @property
    def closing(self) -> bool:
        """Whether the pool takes no more calls."""
        return self.life.closing

    def check_owner(self) -> None:
        """Raise RuntimeError in a process that was forked from the pool's."""
        if self.life.handle.owner != os.getpid():
            raise_for(-errno.ECHILD, self)

    def check_open(self) -> None:
        """Raise RuntimeError if the pool takes no more calls."""
        if self.life.end_reason is not None:
            raise self.end_error()
        if self.life.closing:
            raise RuntimeError("pool is closed")

    # --- submitting -------------------------------------------------------------------------------

    def function(self, function: Function, options: Options | None = None) -> int:
        """The pool's number for a function. Raises TypeError, ValueError as name_of()."""
        shared = options is not None and options.shared
        known = (function, shared) if shared else function
        try:
            number = self.life.functions.get(known)
        except TypeError:  # not hashable
            number = None
        if number is None:
            name = name_of(function, self.life.handle.depot)
            if shared:
                name = sharing(name)
            found = ctypes.c_uint32()
            outcome = lib.aiomq_pool_function(self.life.address, name.encode(), ctypes.byref(found))
            if outcome < 0:
                raise_for(outcome, self)
            number = found.value
            self.life.handle.board.name(number, label_of(name))
            if isinstance(function, Native):
                self.life.sizers.setdefault(number, NativeSizer(self.life.handle.board, number))
            # What is pickled may be another one next time: a closure, an object with state.
            if not is_by_value(name):
                with contextlib.suppress(TypeError):
                    self.life.functions[known] = number
        return number

    def natives(self) -> dict[str, int]:
        """The queue of each plugin that a group of the pool has."""
        return self.life.natives

    def user_of(self, function: int) -> int:
        """A number for a call that no other call has; the codec reads the function from it."""
        return function << 48 | self.life.next_user()

    def sizer(self, function: int) -> ChunkSizer:
        """What is known about the cost of a function."""
        sizer = self.life.sizers.get(function)
        if sizer is None:
            sizer = self.life.sizers[function] = ChunkSizer(self.life.handle.board, function)
        return sizer

    def submit(
        self,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait: bool,
        options: Options | None,
        follows: bool = False,
    ) -> Task[Any]:
        """Submit one call. Without room it waits, or raises QueueFull if `wait` is false.

        `follows`: it belongs to one that was made before, so a pool that closes takes it, too.
        """
        if self.life.closing and not (follows and self.life.address):
            self.check_open()
        loop = self.bind()
        number = None
        if type(function) is _function_type and options is None:
            number = self.life.functions.get(function)
        if number is None:
            number = self.function(function, options)
        user = self.user_of(number)
        outcome = -errno.EAGAIN
        if not self.backlog:
            address = self.life.address
            try:
                outcome = _bridge.submit_call(address, number, user, args, kwargs, 0, options)
            except _bridge.EncodeError as error:
                raise call_error(function, error) from error.__cause__
            except _bridge.TooLarge as error:
                what = f"the arguments of {function_name(function)}() are"
                raise error.explained(what, "arguments", self.life.handle.arena_bytes) from None
        task: Task[Any] = Task(self, loop)
        if outcome > 0:
            task._id = outcome
            self.add_pending(user, task)
        elif outcome not in NO_ROOM or not self.can_wait(outcome):
            raise_for(outcome, self)
        elif not wait:
            from aiomq._errors import QueueFull

            raise QueueFull("every slot of the pool is in use, or its memory for arguments is full")
        else:
            start_ns = monotonic_ns()
            try:
                kind, integer, payload = _bridge.encode_call(args, kwargs)
            except _bridge.EncodeError as error:
                raise call_error(function, error) from error.__cause__
            taken_ns = monotonic_ns() - start_ns
            self.backlog.add(Waiting(task, number, kind, integer, payload, taken_ns, options))
        return task

    def submit_chunk(
        self,
        chunk: Chunk,
        function: int,
        items: list[Any] | range,
        begin: int,
        star: bool,
        options: Options | None,
    ) -> int:
        """Submit a chunk. 1: done, 0: no room now, -1: too large in one piece. Raises the rest."""
        try:
            outcome = _bridge.submit_chunk(
                self.life.address,
                function,
                chunk.user,
                items,
                begin,
                begin + chunk.count,
                star,
                _abi.TASK_PROGRESS,
                options,
            )
        except _bridge.EncodeError as error:
            raise item_error(error, chunk.start - begin) from error.__cause__
        except _bridge.TooLarge as error:
            if chunk.count > 1:
                return -1
            what = f"item {chunk.start} is"
            raise error.explained(what, "arguments", self.life.handle.arena_bytes) from None
        if outcome > 0:
            chunk.id = outcome
            self.add_pending(chunk.user, chunk)
            return 1
        if outcome in NO_ROOM and self.can_wait(outcome):
            return 0
        if outcome in NO_ROOM and chunk.count > 1:
            return -1  # nothing will make room, but a smaller one may fit
        raise_for(outcome, self)
        raise AssertionError

    def can_wait(self, outcome: int) -> bool:
        """Whether room will come: not if memory is short though nothing is on its way."""
        return outcome == -errno.EAGAIN or bool(self.life.pending)

    def add_pending(self, user: int, entry: Task[Any] | Chunk) -> None:
        """Note a call that was submitted under this number."""
        raise NotImplementedError

    def cancel(self, task_id: int) -> None:
        """Withdraw a task, or ask its worker to stop it. Its outcome is ignored."""
        if self.life.address:
            lib.aiomq_pool_cancel(self.life.address, task_id)

    def share(self, value: Any) -> Shared[Any]:
        """Put an object into shared memory, as long as the pool lives."""
        from aiomq._share import share

        self.check_open()
        self.check_owner()
        return share(value, self.life.handle.shares)

    def buffer(self, nbytes: int) -> memoryview:
        """Memory for arguments. Raises as Pool.buffer()."""
        from aiomq._place import allocate

        with self.life.gate:
            self.check_open()
            self.check_owner()
            return allocate(self.life.handle, nbytes)

    # --- the pool's state -------------------------------------------------------------------------

    @property
    def freed(self) -> bool:
        """Whether the pool is gone for good."""
        return not self.life.address

    def state(self) -> tuple[int, str]:
        """Enum aiomq_pool_state, and why the pool is broken, if it is."""
        if not self.life.address:
            return _abi.POOL_ENDED, ""
        text = ctypes.create_string_buffer(4096)
        state: int = lib.aiomq_pool_state(self.life.address, text, len(text))
        return state, text.value.decode(errors="replace")

    def end_error(self) -> Exception:
        """What calls raise that the pool's end has ended."""
        state, text = self.state()
        if state == _abi.POOL_BROKEN:
            from aiomq._errors import PoolBroken

            return PoolBroken(text)
        error = RuntimeError(self.life.end_text)
        error.__cause__ = self.life.end_reason
        return error

    def stats(self) -> PoolStats:
        """What the pool is doing now. Raises RuntimeError when it has ended."""
        from aiomq._stats import stats_of

        with self.life.gate:
            self.check_owner()
            if self.freed:
                raise self.end_error()
            return stats_of(self.life.address, self.life.handle.board)

    def take_stack(self, worker: int) -> str:
        """Where a worker was stuck that was killed for it; "" if it could not say."""
        known = self.life.address and worker < self.workers
        return self.life.handle.stacks.take(worker) if known else ""


_function_type = type(lambda: None)
