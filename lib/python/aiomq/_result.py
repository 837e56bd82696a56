"""PoolResult: the results of a map, packed into chunks, a bounded window of them in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sized
from contextvars import Context, copy_context
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aiomq import _abi
from aiomq._bridge import DecodeFailure
from aiomq._failure import exception_of

if TYPE_CHECKING:
    from aiomq._dispatcher import Dispatcher
    from aiomq._options import Options

T = TypeVar("T")

_EMPTY: Any = object()  # stands for a result that is not there yet
_CHUNKS_PER_WORKER = 3  # in flight: one runs, one is next, one is being encoded or decoded
_ITEMS_PER_PERMIT = 2  # in flight at least: items that sleep need a successor at hand
_LEAD = 65536  # results that an `async for` may lag behind
_TRIM = 4096  # results taken by an `async for` are forgotten in batches
_COPIED = (list, tuple, set, frozenset, dict)  # the caller may change these while the map runs


class Chunk:
    """A run of items that travel as one task."""

    __slots__ = ("count", "id", "result", "start", "user")

    def __init__(self, result: PoolResult[Any], user: int, start: int, count: int) -> None:
        self.result = result
        self.user = user
        self.start = start
        self.count = count
        self.id = 0

    def _complete(
        self,
        left: int,
        worker: int,
        values: list[Any] | None,
        others: list[tuple[int, int, Any]] | None,
    ) -> None:
        self.result._completed(self, left, worker, values, others)

    def _fail(self, error: BaseException, quiet: bool = False) -> None:
        self.result._fail(error, quiet)


class PoolResult(Generic[T]):
    """What Pool.map() and starmap() return. Await it, or iterate over it, once.

    `await result` gives the list of all results in input order. `async for` gives them in input
    order as they become ready and does not keep what it has given. In both cases the first error
    to complete cancels the rest and is raised (an `async for` first gives what was ready before
    the failed item); it does not wait for items that still run. Leaving an `async for` early
    cancels the rest; so does cancelling the task that awaits.

    The input is read as the workers need it, so it may be longer than memory; lists, tuples, sets
    and dicts are copied first.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        function: int,
        iterable: Iterable[Any],
        star: bool,
        chunksize: int | None,
        options: Options | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._options = options
        self._function = function
        self._star = star
        self._chunksize = chunksize
        self._sizer = dispatcher.sizer(function)
        self._context: Context | None = None
        if isinstance(iterable, _COPIED):
            self._buffer = list(iterable)
            self._source = iter(())
            self._total: int | None = len(self._buffer)
        else:
            self._buffer = []
            self._source = iter(iterable)
            self._total = len(iterable) if isinstance(iterable, Sized) else None
            self._context = copy_context()
        self._begin = 0  # first item of the buffer that was not submitted
        self._fed = 0  # items submitted
        self._finished = 0  # items whose outcome is here
        self._exhausted = False  # everything is submitted
        self._started = False
        self._over = False  # nothing more will be taken
        self._error: BaseException | None = None
        self._chunks: set[Chunk] = set()
        self._values: list[Any] = []
        self._position = 0  # of the next result for the iterator, in _values
        self._iterating = False
        self._done: asyncio.Future[None] | None = None
        self._ready: asyncio.Future[None] | None = None

    @classmethod
    def start(
        cls,
        dispatcher: Dispatcher,
        function: Callable[..., Any],
        iterable: Iterable[Any],
        star: bool,
        chunksize: int | None,
        options: Options | None,
    ) -> PoolResult[Any]:
        """A new map; submits its first window if a loop is running. Raises as Pool.map()."""
        dispatcher.check_owner()
        result = cls(dispatcher, dispatcher.function(function), iterable, star, chunksize, options)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return result
        result._start()
        return result

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._gather().__await__()

    def __aiter__(self) -> AsyncIterator[T]:
        if self._iterating:
            raise RuntimeError("a PoolResult can be iterated once")
        self._iterating = True
        return self._iterate()

    def done(self) -> bool:
        """Whether all results are there, or the map has failed or was cancelled."""
        return self._over

    def cancel(self) -> bool:
        """Stop the map: what has not started never will. False if it is over already."""
        if self._over:
            return False
        self._fail(asyncio.CancelledError())
        return True

    # --- for the caller ---------------------------------------------------------------------------

    def _start(self) -> None:
        """Submit the first window; raises what can't be pickled and what the input raises."""
        loop = self._dispatcher.bind()
        if self._started:
            return
        self._started = True
        self._done = loop.create_future()
        self._dispatcher.feeds[self] = None
        self._feed(direct=True)

    async def _gather(self) -> list[T]:
        if self._iterating:
            raise RuntimeError("this PoolResult is being iterated; await it or iterate, not both")
        self._start()
        assert self._done is not None
        try:
            await self._done
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self._values

    async def _iterate(self) -> AsyncIterator[T]:
        self._start()
        assert self._done is not None
        try:
            while True:
                values = self._values
                position = self._position
                stop = min(len(values), _TRIM)
                while position < stop:
                    value = values[position]
                    if value is _EMPTY:
                        break
                    values[position] = None
                    self._position = position = position + 1
                    yield value
                if position >= _TRIM:
                    del values[:position]
                    self._position = 0
                    self._feed()
                    await asyncio.sleep(0)  # others on this loop, and the pool itself, want a turn
                elif self._error is not None:
                    raise self._error
                elif self._over and position == len(values):
                    return
                else:
                    self._ready = self._dispatcher.loop.create_future()
                    await self._ready
        finally:
            self.cancel()
            if not self._done.cancelled():
                self._done.exception()  # it was raised, or the caller does not want to know

    # --- for the dispatcher -----------------------------------------------------------------------

    def _feed(self, direct: bool = False) -> None:
        """Submit chunks until the window is full. Errors are raised if `direct`, else kept."""
        if self._over or self._exhausted:
            return
        try:
            while self._wants_more() and self._submit():
                pass
        except BaseException as error:
            raised = direct or not isinstance(error, Exception)
            self._fail(error, quiet=raised)
            if raised:
                raise
        self._fed_all()

    def _fed_all(self) -> None:
        """If everything is submitted, the dispatcher has nothing to feed from here any more."""
        if self._exhausted:
            self._dispatcher.feeds.pop(self, None)
            self._dispatcher.drained()
            if self._finished == self._fed:
                self._finish()

    def _wants_more(self) -> bool:
        dispatcher = self._dispatcher
        if self._exhausted:
            return False
        if self._iterating and len(self._values) > _LEAD and not dispatcher.closing:
            return False
        workers = dispatcher.workers
        return (
            len(self._chunks) < _CHUNKS_PER_WORKER * workers
            or self._fed - self._finished
            < _ITEMS_PER_PERMIT * workers * dispatcher.childconcurrency
        )

    def _size(self) -> int:
        """Items of the next chunk."""
        most = self._dispatcher.most_items
        if self._chunksize is not None:
            return min(self._chunksize, most)
        size = min(self._sizer.size, most)
        if self._total is not None:  # towards the end smaller, so that all workers end together
            share = (self._total - self._fed) // (2 * self._dispatcher.workers)
            size = max(1, size // 16, min(size, share))
        return size

    def _fill(self, size: int) -> int:
        """Have up to `size` items in the buffer; returns how many there are. May run user code."""
        have = len(self._buffer) - self._begin
        if have == 0:
            self._begin = 0
            self._buffer = []
            if self._context is not None:
                self._buffer = self._context.run(list, islice(self._source, size))
            have = len(self._buffer)
        return min(have, size)

    def _submit(self) -> bool:
        """Submit one chunk; False if there is no room, or no item."""
        dispatcher = self._dispatcher
        count = self._fill(self._size())
        if count == 0:
            self._exhausted = True
            self._buffer = []
            return False
        while True:
            chunk = Chunk(self, dispatcher.next_user(), self._fed, count)
            outcome = dispatcher.submit_chunk(
                chunk, self._function, self._buffer, self._begin, self._star, self._options
            )
            if outcome > 0:
                break
            if outcome == 0:
                return False
            if count == 1:
                raise ValueError(
                    f"item {self._fed} is larger than the pool's memory for arguments (max_memory)"
                )
            count = (count + 1) // 2  # too large for the arena in one piece
        self._chunks.add(chunk)
        self._values.extend([_EMPTY] * count)
        self._fed += count
        self._begin += count
        if self._fed == self._total and self._begin == len(self._buffer):
            self._exhausted = True
            self._buffer = []
        return True

    def _completed(
        self,
        chunk: Chunk,
        left: int,
        worker: int,
        values: list[Any] | None,
        others: list[tuple[int, int, Any]] | None,
    ) -> None:
        if self._over:
            return
        kept = self._values
        start = chunk.start - (self._fed - len(kept))
        count = 0
        if values is not None:
            count = len(values)
            kept[start : start + count] = values
        elif others is not None:
            count = len(others)
            for index, status, value in others:
                if status != _abi.OK or isinstance(value, DecodeFailure):
                    self._fail(exception_of(status, value, self._dispatcher, worker))
                    return
                kept[start + index] = value
        self._finished += count
        if worker != _abi.NO_WORKER:
            self._sizer.observe(worker, count)
        if left == 0:
            self._chunks.discard(chunk)
        if self._exhausted and self._finished == self._fed:
            self._finish()
        elif self._ready is not None and kept[self._position] is not _EMPTY:
            self._wake_iterator()

    def _wake_iterator(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None and not ready.done():
            ready.set_result(None)

    def _finish(self) -> None:
        self._over = True
        self._chunks.clear()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
        self._wake_iterator()

    def _fail(self, error: BaseException, quiet: bool = False) -> None:
        """End the map with this error and cancel what is in flight."""
        if self._over:
            return
        if isinstance(error, StopIteration):  # which no Future may carry
            cause, error = error, RuntimeError("the input of the map raised StopIteration")
            error.__cause__ = cause
        self._over = True
        self._error = error
        self._buffer = []
        dispatcher = self._dispatcher
        dispatcher.feeds.pop(self, None)
        for chunk in self._chunks:
            dispatcher.cancel(chunk.id)
        self._chunks.clear()
        if self._done is not None and not self._done.done():
            if isinstance(error, asyncio.CancelledError):
                self._done.cancel()
            else:
                self._done.set_exception(error)
                if quiet:
                    self._done.exception()
        self._wake_iterator()
        dispatcher.drained()
