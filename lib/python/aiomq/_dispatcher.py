"""Dispatcher: a pool in one event loop. Submits, delivers, waits for room, ends.

Internal; Pool is its face. Nothing here blocks, polls or starts a thread: the loop watches the
pool's descriptor, and `_on_readable` does what there is to do. Running loops of other threads have
outposts, which submit by themselves and get their results from here.

Every call that is on its way has an entry in `pending`, under the `user` number that travels with
it. The loop holds a dispatcher only while calls are pending; otherwise a pool that nobody holds is
collected, with a warning.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from aiomq import _abi, _abi_full, _bridge
from aiomq._submitter import Life, Submitter
from aiomq._trouble import raise_for

if TYPE_CHECKING:
    from aiomq._create import Started
    from aiomq._map import Chunk
    from aiomq._outpost import Outpost
    from aiomq._task import Task

lib = _abi_full.lib

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


class Dispatcher(Submitter):
    """A pool's handle, its loop, and the calls on their way."""

    def __init__(self, started: Started) -> None:
        super().__init__(
            Life(started),
            started.workers,
            started.queues,
            started.childconcurrency,
            # A chunk's outcomes have to find room in one worker's memory; each needs 16 bytes.
            min(_abi.ITEMS_MAX, started.arena_bytes // 64),
        )
        self._thread = 0  # of the loop
        self._watchers: list[asyncio.Future[None]] = []
        self._outposts: dict[asyncio.AbstractEventLoop, Outpost] = {}
        self._reader = _Reader(self)
        self._finalizer = weakref.finalize(self, self.life.handle.abandon)

    # --- loop -------------------------------------------------------------------------------------

    def here(self) -> Submitter:
        """What serves the loop that runs in this thread: this, or an outpost."""
        loop = asyncio._get_running_loop()
        if loop is None or loop is self.loop or self.loop is None or not self.loop.is_running():
            return self
        outpost = self._outposts.get(loop)
        if outpost is None:
            from aiomq._outpost import Outpost

            self.check_owner()
            self.check_open()
            for other in list(self._outposts):
                if other.is_closed():
                    del self._outposts[other]
            outpost = self._outposts[loop] = Outpost(self, loop)
        return outpost

    def elsewhere(self) -> bool:
        """Whether the loop runs now, in another thread than this."""
        return (
            self.loop is not None
            and self.loop.is_running()
            and self._thread != threading.get_ident()
        )

    async def _there(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the loop's own thread."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def bind(self) -> asyncio.AbstractEventLoop:
        """The running loop, which becomes the pool's if it has none. Raises RuntimeError."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.check_owner()  # after a fork there is none, and that is not the caller's mistake
            raise
        if loop is not self.loop:
            self._bind(loop)
        return loop

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.life.address:
            raise RuntimeError("pool is closed")
        self.check_owner()
        if self.loop is not None:
            if not self.loop.is_closed():
                raise RuntimeError(
                    "this pool is in use by another event loop; loops of other threads can use it"
                    " while that one runs"
                )
            self._forget_calls()
        self.life.handle.bind(loop, self._reader)
        self.loop = loop
        self._thread = threading.get_ident()
        self._outposts.pop(loop, None)

    def _forget_calls(self) -> None:
        """Drop the calls of a loop that was closed: nobody can get their results."""
        for user, entry in list(self.life.pending.items()):
            if entry.get_loop().is_closed():
                del self.life.pending[user]
                if entry.id:
                    lib.aiomq_pool_cancel(self.life.address, entry.id)
        self.backlog.take_all()
        self.feeds.clear()
        self._watchers.clear()
        self._reader.strong = self if self.life.pending else None

    def add_pending(self, user: int, entry: Task[Any] | Chunk) -> None:
        """Note a call that was submitted under this number."""
        self._reader.strong = self
        self.life.pending[user] = entry

    # --- delivering -------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            self._deliver()
        except BaseException as error:
            # Results may be lost, and nobody shall wait for them, or for the pool.
            self.life.end_reason = error
            self._free()
            raise

    def _deliver(self) -> None:
        """Do what the pool has, for one slice of time at most."""
        deadline = 0
        while self.life.address:
            flags = lib.aiomq_pool_dispatch(self.life.address)
            if flags == 0:
                return
            if flags < 0:
                raise_for(flags, self)
            if flags & _STATE:
                self._state_changed()
            if flags & _COMPLETIONS:
                self._collect()
            if self.backlog:
                self.backlog.submit(self, self.life.address)
                self.drained()
            for feed in list(self.feeds):
                feed._feed()
            if self._outposts:
                for outpost in list(self._outposts.values()):
                    outpost.call_room()
            now = monotonic_ns()
            if deadline == 0:
                deadline = now + _SLICE_NS
            elif now > deadline:
                self.loop.call_soon(self._on_readable)
                return

    def _collect(self) -> int:
        batch = _bridge.collect(self.life.address, _COLLECT, self.life.handle.lender.lend)
        pending = self.life.pending
        for user, left, worker, start, values, others in batch:
            entry = pending.get(user) if left else pending.pop(user, None)
            if entry is None and self._outposts:
                with self.life.gate:  # its outpost may be about to note it
                    entry = pending.get(user) if left else pending.pop(user, None)
            if entry is not None:
                entry._complete(left, worker, start, values, others)
        if not pending:
            self._reader.strong = None
        return len(batch)

    # --- life -------------------------------------------------------------------------------------

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
        if self.elsewhere():
            await self._there(self.started())
            return
        states = range(_abi.POOL_RUNNING, _abi.POOL_BROKEN + 1)
        if await self._reached(*states) == _abi.POOL_BROKEN:
            raise self.end_error()

    def close(self, drain: bool) -> None:
        """Take no more calls from outside; what was asked for, or has started, is still done."""
        self.check_owner()
        self.life.closing = True
        if self.elsewhere():
            self.loop.call_soon_threadsafe(self.close, drain)
            return
        if not drain and self.life.address:
            self.life.end_text = "pool is closed"
            lib.aiomq_pool_close(self.life.address, _abi.CLOSE_DISCARD)
            self._fail_all([*self.backlog.take_all(), *self.feeds])
            for stream in list(self.streams):
                stream.cancel()
        for feed in list(self.feeds):
            feed._feed()
        for outpost in list(self._outposts.values()):
            outpost.call_close(drain)
        self.drained()

    def drained(self) -> None:
        """Close the pool itself once nothing waits to be submitted."""
        if not self.life.closing or not self.life.address or self.backlog or self.feeds:
            return
        if self.streams:
            return
        if not any(outpost.waits() for outpost in list(self._outposts.values())):
            lib.aiomq_pool_close(self.life.address, 0)

    def terminate(self) -> None:
        """End the pool now; calls without a result fail with RuntimeError."""
        self.check_owner()
        self.life.closing = True
        self.life.end_text = "pool was terminated"
        if self.elsewhere():
            self.loop.call_soon_threadsafe(self.terminate)
        elif self.life.address:
            lib.aiomq_pool_terminate(self.life.address)
            self.fail_calls()

    def fail_calls(self) -> None:
        """End every call that has no result yet, each with an error of its own."""
        entries: list[Any] = list(self.life.pending.values())
        entries += self.backlog.take_all()
        entries += self.feeds
        self.life.pending.clear()
        self.feeds.clear()
        self._reader.strong = None
        self._fail_all(entries)
        for outpost in list(self._outposts.values()):
            outpost.call_fail()

    def _fail_all(self, entries: list[Any]) -> None:
        for entry in entries:
            if not entry.get_loop().is_closed():
                entry._fail(self.end_error(), quiet=True)

    async def join(self, timeout: float | None = None) -> None:
        """Wait until a closed pool's calls are done and its workers are gone, and free it."""
        if not self.life.address:
            return
        if self.elsewhere():
            await self._there(self.join(timeout))
            return
        await self._reached(_abi.POOL_ENDED, _abi.POOL_BROKEN, timeout=timeout)
        if self.life.address:
            while self._collect():
                pass
            self._free()

    def _free(self) -> None:
        """Give back all that the pool has, at once; calls without a result fail."""
        with self.life.gate:
            self.life.closing = True
            self.life.address = 0
        self._finalizer.detach()
        self.life.handle.free()
        self.fail_calls()
        self._wake_watchers()
