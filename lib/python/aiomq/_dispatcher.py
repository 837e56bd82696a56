"""Dispatcher: a pool's C handle in one event loop. Submits, delivers, waits for room, ends.

Internal; Pool is its face. One thread and one loop at a time use it. Nothing here blocks, polls or
starts a thread: the loop watches the pool's descriptor, and `_on_readable` does what there is to
do.

Every call that is on its way has an entry in `pending`, under the `user` number that travels with
it. The loop holds a dispatcher only while calls are pending; otherwise a pool that nobody holds is
collected, with a warning.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import weakref
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from aiomq import _abi, _bridge
from aiomq._backlog import Backlog, Waiting
from aiomq._chunks import ChunkSizer
from aiomq._handle import Handle
from aiomq._reference import Folding, is_by_value, name_of
from aiomq._task import Task
from aiomq._trouble import NO_ROOM, call_error, item_error, raise_for

if TYPE_CHECKING:
    from aiomq._create import Started
    from aiomq._map import Chunk, Map
    from aiomq._options import Options
    from aiomq._share import Shared

lib = _abi.lib

_COLLECT = 64  # completions taken in one go
_SLICE_NS = 3_000_000  # then other callbacks of the loop get a turn
_STATE = _abi.DISPATCH_STATE
_COMPLETIONS = _abi.DISPATCH_COMPLETIONS


class _Reader:
    """What the loop calls when the pool's descriptor is readable. Holds a busy dispatcher only."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.strong: Dispatcher | None = None
        self._weak = weakref.ref(dispatcher)

    def __call__(self) -> None:
        dispatcher = self._weak()
        if dispatcher is not None:
            dispatcher._on_readable()


class Dispatcher:
    """A pool's handle, its loop, and the calls on their way."""

    def __init__(self, started: Started) -> None:
        address = started.address
        self.workers = started.workers
        self.queues = started.queues
        # A chunk's outcomes have to find room in one worker's memory; each needs 16 bytes.
        self.most_items = min(_abi.ITEMS_MAX, started.arena_bytes // 64)
        self.childconcurrency = started.childconcurrency
        self.loop: Any = None  # the AbstractEventLoop, once bound
        self.pending: dict[int, Task[Any] | Chunk] = {}
        self.backlog = Backlog()
        self.feeds: dict[Map, None] = {}  # maps with items left to submit, in order
        self.closing = False
        self._address = address
        self._board = started.board
        self._stacks = started.stacks
        self._functions: dict[Any, int] = {}
        self._sizers: dict[int, ChunkSizer] = {}
        self._users = 0
        self._end_reason: BaseException | None = None
        self._watchers: list[asyncio.Future[None]] = []
        self._reader = _Reader(self)
        self._end_text = "pool was terminated"
        self._handle = Handle(started)
        self._finalizer = weakref.finalize(self, self._handle.abandon)

    # --- loop -------------------------------------------------------------------------------------

    def bind(self) -> asyncio.AbstractEventLoop:
        """The running loop, which becomes the pool's if it has none. Raises RuntimeError."""
        loop = self._running_loop()
        if loop is not self.loop:
            self._bind(loop)
        return loop

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            self.check_owner()  # after a fork there is none, and that is not the caller's mistake
            raise

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._address:
            raise RuntimeError("pool is closed")
        self.check_owner()
        if self.loop is not None:
            if not self.loop.is_closed():
                raise RuntimeError("this pool is in use by another event loop")
            self._forget_calls()
        self._handle.bind(loop, self._reader)
        self.loop = loop

    def check_owner(self) -> None:
        """Raise RuntimeError in a process that was forked from the pool's."""
        if self._handle.owner != os.getpid():
            raise_for(-errno.ECHILD, self)

    def check_open(self) -> None:
        """Raise RuntimeError if the pool takes no more calls."""
        if self._end_reason is not None:
            raise self.end_error()
        if self.closing:
            raise RuntimeError("pool is closed")

    def _forget_calls(self) -> None:
        """Drop the calls of a loop that was closed: nobody can get their results."""
        for entry in self.pending.values():
            if entry.id:
                lib.aiomq_pool_cancel(self._address, entry.id)
        self.pending.clear()
        self.backlog.take_all()
        self.feeds.clear()
        self._watchers.clear()
        self._reader.strong = None

    # --- submitting -------------------------------------------------------------------------------

    def next_user(self) -> int:
        """A number for a call that no other call has."""
        self._users = user = self._users + 1
        return user

    def function(self, function: Callable[..., Any] | Folding) -> int:
        """The pool's number for a function. Raises TypeError, ValueError as name_of()."""
        try:
            number = self._functions.get(function)
        except TypeError:  # not hashable
            number = None
        if number is None:
            name = name_of(function, self._handle.depot)
            found = ctypes.c_uint32()
            outcome = lib.aiomq_pool_function(self._address, name.encode(), ctypes.byref(found))
            if outcome < 0:
                raise_for(outcome, self)
            number = found.value
            # What is pickled may be another one next time: a closure, an object with state.
            if not is_by_value(name):
                with contextlib.suppress(TypeError):
                    self._functions[function] = number
        return number

    def sizer(self, function: int) -> ChunkSizer:
        """What is known about the cost of a function."""
        sizer = self._sizers.get(function)
        if sizer is None:
            sizer = self._sizers[function] = ChunkSizer(self._board, function)
        return sizer

    def submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait: bool,
        options: Options | None,
    ) -> Task[Any]:
        """Submit one call. Without room it waits, or raises QueueFull if `wait` is false."""
        if self.closing:
            self.check_open()
        loop = self._running_loop()
        if loop is not self.loop:
            self._bind(loop)
        number = self._functions.get(function) if type(function) is _function_type else None
        if number is None:
            number = self.function(function)
        self._users = user = self._users + 1
        outcome = -errno.EAGAIN
        if not self.backlog:
            try:
                outcome = _bridge.submit_call(self._address, number, user, args, kwargs, 0, options)
            except _bridge.EncodeError as error:
                raise call_error(function, error) from error.__cause__
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
            try:
                kind, integer, payload = _bridge.encode_call(args, kwargs)
            except _bridge.EncodeError as error:
                raise call_error(function, error) from error.__cause__
            self.backlog.add(Waiting(task, number, kind, integer, payload, options))
        return task

    def submit_chunk(
        self,
        chunk: Chunk,
        function: int,
        items: list[Any],
        begin: int,
        star: bool,
        options: Options | None,
    ) -> int:
        """Submit a chunk. 1: done, 0: no room now, -1: too large for the pool; raises the rest."""
        try:
            outcome = _bridge.submit_chunk(
                self._address,
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
        if outcome > 0:
            chunk.id = outcome
            self.add_pending(chunk.user, chunk)
            return 1
        if outcome in NO_ROOM and self.can_wait(outcome):
            return 0
        if outcome == -errno.EMSGSIZE:
            return -1
        if outcome in NO_ROOM and chunk.count > 1:
            return -1  # nothing will make room, but a smaller one may fit
        raise_for(outcome, self)
        raise AssertionError

    def can_wait(self, outcome: int) -> bool:
        """Whether room will come: not if memory is short though nothing is on its way."""
        return outcome == -errno.EAGAIN or bool(self.pending)

    def add_pending(self, user: int, entry: Task[Any] | Chunk) -> None:
        """Note a call that was submitted under this number."""
        self._reader.strong = self
        self.pending[user] = entry

    def cancel(self, task_id: int) -> None:
        """Withdraw a task, or ask its worker to stop it. Its outcome is ignored."""
        if self._address:
            lib.aiomq_pool_cancel(self._address, task_id)

    def share(self, value: Any) -> Shared[Any]:
        """Put an object into shared memory, as long as the pool lives."""
        from aiomq._share import share

        self.check_open()
        self.check_owner()
        return share(value, self._handle.shares)

    # --- delivering -------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            self._deliver()
        except BaseException as error:
            # Results may be lost, and nobody shall wait for them, or for the pool.
            self._end_reason = error
            self._free()
            raise

    def _deliver(self) -> None:
        """Do what the pool has, for one slice of time at most."""
        deadline = 0
        while self._address:
            flags = lib.aiomq_pool_dispatch(self._address)
            if flags == 0:
                return
            if flags < 0:
                raise_for(flags, self)
            if flags & _STATE:
                self._state_changed()
            if flags & _COMPLETIONS:
                self._collect()
            if self.backlog:
                self.backlog.submit(self, self._address)
                self.drained()
            for feed in list(self.feeds):
                feed._feed()
            now = monotonic_ns()
            if deadline == 0:
                deadline = now + _SLICE_NS
            elif now > deadline:
                self.loop.call_soon(self._on_readable)
                return

    def _collect(self) -> int:
        batch = _bridge.collect(self._address, _COLLECT)
        pending = self.pending
        for user, left, worker, values, others in batch:
            entry = pending.get(user) if left else pending.pop(user, None)
            if entry is not None:
                entry._complete(left, worker, values, others)
        if not pending:
            self._reader.strong = None
        return len(batch)

    # --- life -------------------------------------------------------------------------------------

    @property
    def freed(self) -> bool:
        """Whether the pool is gone for good."""
        return not self._address

    def state(self) -> tuple[int, str]:
        """Enum aiomq_pool_state, and why the pool is broken, if it is."""
        if not self._address:
            return _abi.POOL_ENDED, ""
        text = ctypes.create_string_buffer(4096)
        state: int = lib.aiomq_pool_state(self._address, text, len(text))
        return state, text.value.decode(errors="replace")

    def end_error(self) -> Exception:
        """What calls raise that the pool's end has ended."""
        state, text = self.state()
        if state == _abi.POOL_BROKEN:
            from aiomq._errors import PoolBroken

            return PoolBroken(text)
        error = RuntimeError(self._end_text)
        error.__cause__ = self._end_reason
        return error

    def take_stack(self, worker: int) -> str:
        """Where a worker was stuck that was killed for it; "" if it could not say."""
        return self._stacks.take(worker) if self._address and worker < self.workers else ""

    def _state_changed(self) -> None:
        if self.state()[0] == _abi.POOL_BROKEN:
            self.fail_calls()
        self._wake_watchers()

    def _wake_watchers(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def _reached(self, *states: int, timeout: float | None = None) -> int:
        """Wait until the pool is in one of these states. Raises TimeoutError."""
        loop = self.bind()
        timer = None if timeout is None else loop.call_later(timeout, self._wake_watchers)
        end = None if timeout is None else loop.time() + timeout
        try:
            while True:
                state, _ = self.state()
                if state in states:
                    return state
                if end is not None and loop.time() >= end:
                    raise TimeoutError("the pool has not ended yet")
                watcher: asyncio.Future[None] = loop.create_future()
                self._watchers.append(watcher)
                await watcher
        finally:
            if timer is not None:
                timer.cancel()

    async def started(self) -> None:
        """Wait until every worker is ready. Raises PoolBroken if they can't start."""
        states = range(_abi.POOL_RUNNING, _abi.POOL_BROKEN + 1)
        if await self._reached(*states) == _abi.POOL_BROKEN:
            raise self.end_error()

    def close(self, drain: bool) -> None:
        """Take no more calls from outside; what was asked for, or has started, is still done."""
        self.check_owner()
        self.closing = True
        if not drain and self._address:
            self._end_text = "pool is closed"
            lib.aiomq_pool_close(self._address, _abi.CLOSE_DISCARD)
            self._fail_all([*self.backlog.take_all(), *self.feeds])
        for feed in list(self.feeds):
            feed._feed()
        self.drained()

    def drained(self) -> None:
        """Close the pool itself once nothing waits to be submitted."""
        if self.closing and self._address and not self.backlog and not self.feeds:
            lib.aiomq_pool_close(self._address, 0)

    def terminate(self) -> None:
        """End the pool now; calls without a result fail with RuntimeError."""
        self.check_owner()
        self.closing = True
        self._end_text = "pool was terminated"
        if self._address:
            lib.aiomq_pool_terminate(self._address)
            self.fail_calls()

    def fail_calls(self) -> None:
        """End every call that has no result yet, each with an error of its own."""
        entries: list[Any] = list(self.pending.values())
        entries += self.backlog.take_all()
        entries += self.feeds
        self.pending.clear()
        self.feeds.clear()
        self._reader.strong = None
        self._fail_all(entries)

    def _fail_all(self, entries: list[Any]) -> None:
        if self.loop is None or self.loop.is_closed():
            return
        for entry in entries:
            entry._fail(self.end_error(), quiet=True)

    async def join(self, timeout: float | None = None) -> None:
        """Wait until a closed pool's calls are done and its workers are gone, and free it."""
        if not self._address:
            return
        await self._reached(_abi.POOL_ENDED, _abi.POOL_BROKEN, timeout=timeout)
        if self._address:
            while self._collect():
                pass
            self._free()

    def _free(self) -> None:
        """Give back all that the pool has, at once; calls without a result fail."""
        self.closing = True
        self._address = 0
        self._finalizer.detach()
        self._handle.free()
        self.fail_calls()
        self._wake_watchers()


_function_type = type(lambda: None)
