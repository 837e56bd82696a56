"""Map: one map on its way: its input in chunks, a bounded window of them in flight.

How the results are taken is up to the classes derived from it, in _result.py and _unordered.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pickle import PicklingError
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from aiomq import _abi
from aiomq._bridge import DecodeFailure
from aiomq._chunks import AHEAD, shrunk
from aiomq._failure import exception_of
from aiomq._source import source_of

if TYPE_CHECKING:
    from aiomq._options import Options
    from aiomq._submitter import Submitter

_ITEMS_PER_PERMIT = 2  # in flight at least: items that sleep need a successor at hand
_PARTS = 4  # a window of `buffersize` is filled again by so many parts at most
LEAD = 65536  # results that whoever iterates may lag behind


class MapOptions(NamedTuple):
    """What a map is told beyond its function and input, checked."""

    star: bool
    chunksize: int | None
    buffersize: int | None
    return_exceptions: bool
    progress: Callable[[int, int | None], object] | None


class Chunk:
    """A run of items that travel as one task."""

    __slots__ = ("count", "id", "result", "start", "user")

    def __init__(self, result: Map, user: int, start: int, count: int) -> None:
        self.result = result
        self.user = user
        self.start = start
        self.count = count
        self.id = 0

    def _complete(
        self,
        left: int,
        worker: int,
        start: int,
        values: list[Any] | None,
        others: list[tuple[int, int, Any]] | None,
    ) -> None:
        self.result._completed(self, left, worker, start, values, others)

    def get_loop(self) -> Any:
        """The loop that its map belongs to."""
        return self.result.get_loop()

    def _fail(self, error: BaseException, quiet: bool = False) -> None:
        self.result._fail(error, quiet)


class Map:
    """A map of which nothing is taken yet. Subclasses keep the results."""

    def __init__(
        self,
        dispatcher: Submitter,
        function: int,
        iterable: Any,
        how: MapOptions,
        options: Options | None,
    ) -> None:
        self._dispatcher = dispatcher
        self._options = options
        self._how = how
        self._function = function
        self._sizer = dispatcher.sizer(function)
        self._source = source_of(iterable)
        self._fed = 0  # items submitted
        self._finished = 0  # items whose outcome is here
        self._exhausted = False  # everything is submitted
        self._started = False
        self._over = False  # nothing more will be taken
        self._error: BaseException | None = None
        self._chunks: set[Chunk] = set()
        self._done: asyncio.Future[None] | None = None
        self._ready: asyncio.Future[None] | None = None  # what an iterator waits for

    @classmethod
    def start(
        cls: type[M],
        dispatcher: Submitter,
        function: Callable[..., Any],
        iterable: Any,
        how: MapOptions,
        options: Options | None,
        **more: Any,
    ) -> M:
        """A new map; submits its first window if a loop is running. Raises as Pool.map()."""
        dispatcher.check_owner()
        result = cls(
            dispatcher, dispatcher.function(function, options), iterable, how, options, **more
        )
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return result
        result._start()
        return result

    def done(self) -> bool:
        """Whether all results are there, or the map has failed or was cancelled."""
        return self._over

    def get_loop(self) -> Any:
        """The loop that it belongs to; None before it has one."""
        return self._dispatcher.loop

    def cancel(self) -> bool:
        """Stop the map: what has not started never will. False if it is over already."""
        if self._over:
            return False
        self._fail(asyncio.CancelledError())
        return True

    # --- for subclasses: where results go ---------------------------------------------------------

    def _expect(self, items: Sequence[Any], begin: int, count: int) -> None:
        """The next `count` items are submitted: items[begin] and those after it."""

    def _keep(self, first: int, values: list[Any]) -> None:
        """Results of successive items; item `first` is the first."""
        raise NotImplementedError

    def _held(self) -> int:
        """Items that are submitted, with and without a result, which nobody has taken."""
        raise NotImplementedError

    def _ahead(self) -> int:
        """How many chunks each worker is to have."""
        return AHEAD

    def _lag(self) -> int:
        """How far whoever iterates may be behind; 0 when nobody iterates."""
        raise NotImplementedError

    def _has_next(self) -> bool:
        """Whether an iterator that waits can go on."""
        raise NotImplementedError

    def _blame(self, error: PicklingError, _item: Any) -> PicklingError:
        """For an item, here or after it, that can't be sent."""
        return error

    def _progress(self) -> tuple[int, int | None]:
        """How many calls of the function are done, and how many there will be, if that is known."""
        return self._finished, self._source.total

    # --- submitting -------------------------------------------------------------------------------

    def _start(self) -> None:
        """Submit the first window; raises what can't be pickled and what the input raises."""
        loop = self._dispatcher.bind()
        if self._started:
            return
        self._started = True
        self._done = loop.create_future()
        self._dispatcher.feeds[self] = None
        self._source.start(loop, self._feed)
        self._feed(direct=True)

    def _feed(self, direct: bool = False) -> None:
        """Submit chunks until the window is full. Errors are raised if `direct`, else kept."""
        if self._over or self._exhausted:
            return
        try:
            while (room := self._room()) > 0 and self._submit(room):
                pass
        except BaseException as error:
            raised = direct or not isinstance(error, Exception | asyncio.CancelledError)
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

    def _room(self) -> int:
        """How many more items may be submitted now; 0: the window is full."""
        dispatcher = self._dispatcher
        if self._exhausted:
            return 0
        most = self._how.buffersize
        if most is not None and not dispatcher.closing:
            room = most - self._held()
            # A chunk for each result that is taken would cost more than many items.
            return room if room >= min(self._sizer.size, max(1, most // _PARTS)) else 0
        if self._lag() > LEAD and not dispatcher.closing:
            return 0
        workers = dispatcher.workers
        permits = _ITEMS_PER_PERMIT * workers * dispatcher.childconcurrency
        missing = permits - (self._fed - self._finished)
        if missing <= 0 and len(self._chunks) < self._ahead() * workers:
            missing = 1
        return missing

    def _size(self) -> int:
        """Items of the next chunk."""
        most = self._dispatcher.most_items
        if self._how.chunksize is not None:
            return min(self._how.chunksize, most)
        size = min(self._sizer.size, most)
        total = self._source.total
        if total is not None:  # towards the end smaller, so that all workers end together
            size = shrunk(size, total - self._fed, self._dispatcher.workers)
        return size

    def _submit(self, room: int) -> bool:
        """Submit one chunk; False if there is no room, or no item."""
        dispatcher = self._dispatcher
        source = self._source
        size = self._size()
        if self._how.buffersize is None:
            room = max(size, room)
        count = source.fill(min(size, room), room)
        if count == 0:
            self._exhausted = source.ended
            return False
        while True:
            chunk = Chunk(self, dispatcher.user_of(self._function), self._fed, count)
            try:
                outcome = dispatcher.submit_chunk(
                    chunk,
                    self._function,
                    source.buffer,
                    source.begin,
                    self._how.star,
                    self._options,
                )
            except PicklingError as error:
                raise self._blame(error, source.buffer[source.begin]) from error.__cause__
            if outcome > 0:
                break
            if outcome == 0:
                return False
            count = (count + 1) // 2  # too large for the arena in one piece
        self._chunks.add(chunk)
        self._expect(source.buffer, source.begin, count)
        self._fed += count
        source.advance(count)
        self._exhausted = self._fed == source.total and not source.buffer
        return True

    # --- delivering -------------------------------------------------------------------------------

    def _completed(
        self,
        chunk: Chunk,
        left: int,
        worker: int,
        start: int,
        values: list[Any] | None,
        others: list[tuple[int, int, Any]] | None,
    ) -> None:
        if self._over:
            return
        count = 0
        if values is not None:
            count = len(values)
            self._keep(chunk.start + start, values)
        elif others is not None:
            count = len(others)
            for index, status, value in others:
                kept = value
                if status != _abi.OK or isinstance(value, DecodeFailure):
                    kept = exception_of(status, value, self._dispatcher, worker)
                    if not self._how.return_exceptions:
                        self._fail(kept)
                        return
                self._keep(chunk.start + index, [kept])
        self._finished += count
        if worker != _abi.NO_WORKER:
            self._sizer.observe(worker, count)
        if left == 0:
            self._chunks.discard(chunk)
        if self._how.progress is not None and not self._tell(self._how.progress):
            return
        if self._exhausted and self._finished == self._fed:
            self._finish()
        elif self._ready is not None and self._has_next():
            self._wake_iterator()

    def _tell(self, progress: Callable[[int, int | None], object]) -> bool:
        """Call the caller's function; what it raises ends the map."""
        try:
            progress(*self._progress())
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
        return not self._over

    async def _wait(self) -> None:
        """Until _has_next(), or the map is over."""
        self._ready = self._dispatcher.loop.create_future()
        await self._ready

    def _leave(self) -> None:
        """Whoever iterated is gone; what is left of the map ends."""
        self.cancel()
        if self._done is not None and not self._done.cancelled():
            self._done.exception()  # it was raised, or the caller does not want to know

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
        self._source.close()
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


M = TypeVar("M", bound=Map)
