"""Streams: what a generator yields in a worker, given to the caller as it is produced.

The call itself runs the generator and puts what it yields into a buffer beside it; when that is
full the generator waits. The caller takes what is there by calls of its own, pulls, which a key of
the stream's sends to the same worker, also when that is retiring. Neither holds a permit of the
worker while it waits. The call ends when a pull has told that the generator is over, so its outcome
comes after the last value.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aiomq import _abi, _checks
from aiomq._current import current_task
from aiomq._errors import WorkerDied
from aiomq._options import NONE, Options
from aiomq._reference import Streaming

if TYPE_CHECKING:
    from aiomq._submitter import Submitter
    from aiomq._task import Task

T = TypeVar("T")

_HOW = "aiomq stream"  # a keyword beside the function's own, which none of those can be


class Stream(Generic[T]):
    """What Pool.stream() returns. Iterate over it with `async for`, once.

    It gives the values in the order in which the generator yields them, as they come; then, if it
    raised, its exception. Leaving early ends the generator: it sees GeneratorExit, or
    CancelledError where it awaits.
    """

    def __init__(
        self,
        dispatcher: Submitter,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        buffersize: int,
        options: Options | None,
    ) -> None:
        """Raises as Pool.stream()."""
        _checks.size("buffersize", buffersize, 1)
        chosen = NONE if options is None else options
        if chosen.retries:
            raise ValueError("a stream can't be run again: retries must be 0")
        token = secrets.randbits(64)
        if not chosen.flags & _abi.TASK_KEYED:
            chosen = chosen._replace(flags=chosen.flags | _abi.TASK_KEYED, key=token)
        self._dispatcher = dispatcher
        self._pull_options = chosen._replace(
            flags=chosen.flags | _abi.TASK_FOLLOW, start_within_ns=0, timeout_ns=0
        )
        self._token = token
        self._iterating = False
        self._call: Task[None] = dispatcher.submit(
            Streaming(function), args, {**kwargs, _HOW: (token, buffersize)}, True, chosen
        )
        self._pull = self._next_pull()
        dispatcher.streams.add(self)

    def __aiter__(self) -> AsyncIterator[T]:
        if self._iterating:
            raise RuntimeError("a Stream can be iterated once")
        self._iterating = True
        return self._iterate()

    def cancel(self) -> None:
        """End the generator. Who iterates gets asyncio.CancelledError."""
        self._dispatcher.streams.discard(self)
        _cancel(self._dispatcher, self._call, self._pull)

    def __del__(self) -> None:
        pull: Task[Any] | None = getattr(self, "_pull", None)
        if pull is None or self._call.done() or pull.get_loop().is_closed():
            return
        # In any thread; the pool may have waited for this.
        pull.get_loop().call_soon_threadsafe(_cancel, self._dispatcher, self._call, pull)

    async def _iterate(self) -> AsyncIterator[T]:
        ended = False
        try:
            while not ended:
                values, ended = await self._taken()
                if not ended:
                    self._pull = self._next_pull()  # while these are looked at
                for value in values:
                    yield value
            await self._call
        finally:
            self.cancel()

    def _next_pull(self) -> Task[tuple[list[T], bool]]:
        return self._dispatcher.submit(pull, (self._token,), {}, True, self._pull_options, True)

    async def _taken(self) -> tuple[list[T], bool]:
        """What the pull under way brings. Raises why it can't bring more."""
        try:
            return await self._pull
        except (_Gone, WorkerDied):
            await self._call  # which says why
            raise


def _cancel(dispatcher: Submitter, *tasks: Task[Any]) -> None:
    """Cancel what is not done, and take note of the others' errors."""
    for task in tasks:
        if not task.cancel() and not task.cancelled():
            task.exception()
    dispatcher.drained()


# --- in the worker --------------------------------------------------------------------------------


class _Gone(LookupError):
    """There is no such stream in this worker, or no more."""


class _Source:
    """What a generator has yielded and nobody has taken yet."""

    def __init__(self, size: int) -> None:
        self.values: deque[Any] = deque()
        self.ended = False  # there will be no more
        self.gone = False  # and nobody is to take what there is
        self._size = size
        self._told = False  # that it has ended
        self._room: asyncio.Future[None] | None = None
        self._some: asyncio.Future[None] | None = None

    async def put(self, value: Any) -> None:
        """Add a value, when there is room for it."""
        while len(self.values) >= self._size:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        self.values.append(value)
        if _wake(self._some):
            # A generator that never waits would keep what it yields from those who wait for it.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            _flush()

    async def end(self) -> None:
        """There are no more values; returns when that is known where they go."""
        self.ended = True
        _wake(self._some)
        while not self._told:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def leave(self) -> None:
        """The call is over."""
        self.gone = True
        _wake(self._some)

    async def take(self) -> tuple[list[Any], bool]:
        """What there is, at least one value unless it has ended; and whether it has."""
        if not self.values and not self.ended:
            _lend()
            self._some = asyncio.get_running_loop().create_future()
            await self._some
        if self.gone:
            raise _Gone
        values = list(self.values)
        self.values.clear()
        self._told = self.ended
        _wake(self._room)
        return values, self.ended


_sources: dict[int, _Source] = {}


def streaming(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, None]]:
    """The coroutine function that runs a generator function for a Stream."""

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> None:
        token, size = kwargs.pop(_HOW)
        current_task()  # so that asyncio tasks of the generator's can ask, too
        _lend()
        source = _sources[token] = _Source(size)
        try:
            try:
                await asyncio.sleep(0)  # who has lent his permit has to wait once
                await _feed(source, function(*args, **kwargs))
            except Exception:
                await source.end()  # what was yielded before is told first
                raise
            await source.end()
        finally:
            del _sources[token]
            source.leave()

    return run


async def pull(token: int) -> tuple[list[Any], bool]:
    """Take what a stream has; see _Source.take()."""
    source = _sources.get(token)
    if source is None:
        raise _Gone
    return await source.take()


async def _feed(source: _Source, made: Any) -> None:
    """Put everything that an iterable, or an asynchronous one, gives."""
    if hasattr(made, "__aiter__"):
        close = getattr(made, "aclose", None)
        manager: Any = contextlib.nullcontext() if close is None else contextlib.aclosing(made)
        async with manager:
            async for value in made:
                await source.put(value)
        return
    if not hasattr(made, "__iter__"):
        close = getattr(made, "close", None)  # a coroutine's
        if close is not None:
            close()
        raise TypeError(f"a stream needs a generator or an iterable, not {type(made).__name__}")
    close = getattr(made, "close", None)
    try:
        for value in made:
            await source.put(value)
    finally:
        if close is not None:
            close()


def _wake(waiter: asyncio.Future[None] | None) -> bool:
    if waiter is None or waiter.done():
        return False
    waiter.set_result(None)
    return True


def _lend() -> None:
    """Let another call run in place of this one, which is going to wait."""
    from aiomq import _pump

    pump, task = _pump.current, asyncio.current_task()
    assert pump is not None
    pump.lend(task)  # type: ignore[arg-type]


def _flush() -> None:
    from aiomq import _pump

    assert _pump.current is not None
    _pump.current.flush()
