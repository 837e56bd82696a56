"""Source: the input of a map, pulled as it is wanted.

Items stand in `buffer` from `begin` on. `fill()` brings more, `advance()` takes them away. An
asynchronous input is read by a task of its own, which stops when it is as far ahead as was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sized
from contextvars import Context, copy_context
from itertools import islice
from typing import Any

_COPIED = (list, tuple, set, frozenset, dict)  # the caller may change these while the map runs


def length(iterable: Iterable[Any]) -> int | None:
    """How many items there are, if that is known and less than 2**63."""
    try:
        return len(iterable) if isinstance(iterable, Sized) else None
    except OverflowError:
        return None


class Source:
    """Items of an iterable. Not thread-safe."""

    total: int | None  # how many there will be, if that is known
    ended: bool  # nothing will come beyond what is in the buffer

    def __init__(self, iterable: Iterable[Any]) -> None:
        self.buffer: list[Any] | range = []
        self.begin = 0
        self.ended = False
        self._iterator: Iterator[Any] | None = None
        self._range: range | None = None
        self._context: Context | None = None
        if isinstance(iterable, _COPIED):
            self.buffer = list(iterable)
            self.total = len(self.buffer)
            self.ended = True
        else:
            self.total = length(iterable)
            if type(iterable) is range and self.total is not None:
                self._range = iterable  # stays one: nobody here needs objects of its numbers
            else:
                self._iterator = iter(iterable)
                self._context = copy_context()

    def start(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        """Called once, before the first fill(); `wake` is to be called when items have come."""

    def fill(self, size: int, ahead: int) -> int:
        """Have up to `size` items in the buffer; returns how many there are, maybe none yet.

        ahead: how many items may be read in advance, `size` at least. Runs user code and raises
        what that raises.
        """
        have = len(self.buffer) - self.begin
        if have == 0 and not self.ended:
            self.begin = 0
            self.buffer = []
            self.buffer = self._read_some(size)
            have = len(self.buffer)
            self.ended = have == 0
        return min(have, size)

    def _read_some(self, size: int) -> list[Any] | range:
        if self._range is not None:
            items, self._range = self._range[:size], self._range[size:]
            return items
        assert self._iterator is not None and self._context is not None
        return self._context.run(list, islice(self._iterator, size))

    def advance(self, count: int) -> None:
        """The first `count` items of the buffer are taken."""
        self.begin += count
        if self.begin == len(self.buffer):
            self.begin = 0
            self.buffer = []

    def close(self) -> None:
        """No more is wanted. An iterator is left as it is: it may be the caller's."""
        self.ended = True
        self.begin = 0
        self.buffer = []


class AsyncSource(Source):
    """Items of an asynchronous iterable, read by a task."""

    def __init__(self, iterable: AsyncIterable[Any]) -> None:
        super().__init__(())
        self.total = None
        self.ended = False
        self._items = aiter(iterable)
        self._context = copy_context()
        self._read: list[Any] = []
        self._most = 0  # items that may lie in `_read`
        self._error: BaseException | None = None
        self._room: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: Callable[[], None] | None = None
        self._waking = False
        self._finished = False  # the iterable has no more

    def start(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        """Begin to read."""
        assert self._context is not None
        self._loop = loop
        self._wake = wake
        self._task = self._context.run(loop.create_task, self._pull())

    def fill(self, size: int, ahead: int) -> int:
        """As Source.fill(); never waits."""
        if self.begin == len(self.buffer):
            self.begin = 0
            self.buffer, self._read = self._read, []
            if not self.buffer and self._finished:
                self.ended = True
                if self._error is not None:
                    raise self._error
        have = len(self.buffer) - self.begin
        self._most = ahead - have
        if len(self._read) < self._most and self._room is not None and not self._room.done():
            self._room.set_result(None)
        return min(have, size)

    def close(self) -> None:
        """Stop reading. Nobody waits until the iterable has noticed."""
        super().close()
        self._read = []
        if self._task is not None and not self._task.done():
            self._task.cancel()

    async def _pull(self) -> None:
        assert self._loop is not None
        try:
            while True:
                while len(self._read) >= self._most:
                    self._room = self._loop.create_future()
                    await self._room
                item = await anext(self._items)
                self._read.append(item)  # fill() may have put another list there meanwhile
                self._notify()
        except StopAsyncIteration:
            pass
        except asyncio.CancelledError as error:
            if self.ended:
                raise
            self._error = error  # the iterable's own, or of whoever cancels all tasks
        except BaseException as error:
            self._error = error
            if not isinstance(error, Exception):
                raise
        finally:
            if self.ended:
                close = getattr(self._items, "aclose", None)
                if close is not None:
                    await close()
            self._finished = True
            self._notify()

    def _notify(self) -> None:
        if not self._waking and not self.ended:
            assert self._loop is not None
            self._waking = True
            self._loop.call_soon(self._woken)

    def _woken(self) -> None:
        self._waking = False
        if not self.ended and self._wake is not None:
            self._wake()


def source_of(iterable: Any) -> Source:
    """The source for any iterable. Raises TypeError for what is none."""
    if isinstance(iterable, AsyncIterable) and not isinstance(iterable, Iterable):
        return AsyncSource(iterable)
    return Source(iterable)
