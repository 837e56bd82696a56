"""Outpost: a pool in the event loop of another thread than the dispatcher's.

It submits from its own thread, so user code (input, pickling) runs where it belongs, and gets the
results from the dispatcher's loop, which hands each to the loop that asked for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiomq._submitter import Submitter

if TYPE_CHECKING:
    from aiomq._dispatcher import Dispatcher
    from aiomq._map import Chunk
    from aiomq._options import Options
    from aiomq._reference import Function
    from aiomq._task import Task


class Abroad:
    """In place of an outpost's call in `pending`."""

    def __init__(
        self, home: Dispatcher, entry: Task[Any] | Chunk, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._loop = loop
        self._home = home
        self._entry = entry

    @property
    def id(self) -> int | None:
        """The pool's number for the call."""
        return self._entry.id

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that waits for it."""
        return self._loop

    def _complete(self, *outcome: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(self._entry._complete, *outcome)
        except RuntimeError:  # its loop was closed, so nobody waits
            if self.id:
                self._home.cancel(self.id)

    def _fail(self, error: BaseException, quiet: bool = False) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._entry._fail, error, quiet)


class Outpost(Submitter):
    """What a Dispatcher is to its own loop, to another one."""

    def __init__(self, home: Dispatcher, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            home.life, home.workers, home.queues, home.childconcurrency, home.most_items
        )
        self.loop = loop
        self._home = home

    def bind(self) -> asyncio.AbstractEventLoop:
        """The loop, which must be the one that runs. Raises RuntimeError."""
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("this call belongs to another event loop")
        loop: asyncio.AbstractEventLoop = self.loop
        return loop

    # --- what must not meet the pool's end --------------------------------------------------------

    def function(self, function: Function, options: Options | None = None) -> int:
        """As Submitter.function()."""
        with self.life.gate:
            self.check_open()
            return super().function(function, options)

    def submit(
        self,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait: bool,
        options: Options | None,
        follows: bool = False,
    ) -> Task[Any]:
        """As Submitter.submit()."""
        with self.life.gate:
            return super().submit(function, args, kwargs, wait, options, follows)

    def submit_chunk(
        self,
        chunk: Chunk,
        function: int,
        items: list[Any] | range,
        begin: int,
        star: bool,
        options: Options | None,
    ) -> int:
        """As Submitter.submit_chunk()."""
        with self.life.gate:
            if self.freed:
                raise self.end_error()
            return super().submit_chunk(chunk, function, items, begin, star, options)

    def cancel(self, task_id: int) -> None:
        """As Submitter.cancel()."""
        with self.life.gate:
            super().cancel(task_id)

    def state(self) -> tuple[int, str]:
        """As Submitter.state()."""
        with self.life.gate:
            return super().state()

    def take_stack(self, worker: int) -> str:
        """As Submitter.take_stack()."""
        with self.life.gate:
            return super().take_stack(worker)

    def add_pending(self, user: int, entry: Task[Any] | Chunk) -> None:
        """Note a call that was submitted under this number; the gate is held."""
        self.life.pending[user] = Abroad(self._home, entry, self.loop)

    def drained(self) -> None:
        """The pool may be able to close now."""
        if self.life.closing:
            self._post(self._home.loop, self._home.drained)

    # --- for the dispatcher, in its thread --------------------------------------------------------

    def waits(self) -> bool:
        """Whether anything waits here to be submitted."""
        return not self.loop.is_closed() and bool(self.backlog or self.feeds or self.streams)

    def call_room(self) -> None:
        """There may be room, or results that make some."""
        with self.life.gate:  # what finds no room is in the backlog when the gate is open
            waits = self.waits()
        if waits:
            self._post(self.loop, self._take_room)

    def call_close(self, drain: bool) -> None:
        """The pool takes no more calls."""
        self._post(self.loop, self._close, drain)

    def call_fail(self) -> None:
        """The pool has ended."""
        self._post(self.loop, self._fail_all)

    # --- in its own thread ------------------------------------------------------------------------

    def _take_room(self) -> None:
        if self.backlog:
            with self.life.gate:
                if not self.freed:
                    self.backlog.submit(self, self.life.address)
            self.drained()
        for feed in list(self.feeds):
            feed._feed()

    def _close(self, drain: bool) -> None:
        if not drain:
            self._fail_all()
        for feed in list(self.feeds):
            feed._feed()
        self.drained()

    def _fail_all(self) -> None:
        entries: list[Any] = [*self.backlog.take_all(), *self.feeds]
        self.feeds.clear()
        for entry in entries:
            entry._fail(self.end_error(), quiet=True)

    @staticmethod
    def _post(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # it was closed: nobody waits there
            loop.call_soon_threadsafe(function, *args)
