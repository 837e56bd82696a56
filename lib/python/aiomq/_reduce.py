"""Reduction: a map whose results are folded where they arise; only partial results travel.

In a worker folding() makes one value of each chunk's results. The chunk is one item to the pool:
it has one outcome, all of its items or none. In the dispatcher neighbours are merged as they come,
in a binary tree over the chunks, so that a result that grows is copied a logarithmic number of
times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from inspect import isawaitable
from pickle import PicklingError
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from aiomq._batches import batches_of, blame
from aiomq._chunks import Pace, shrunk
from aiomq._map import Map, MapOptions
from aiomq._native import Native
from aiomq._reference import Folding
from aiomq._source import length

if TYPE_CHECKING:
    from aiomq._options import Options
    from aiomq._submitter import Submitter

NOTHING: Any = object()  # no value yet, or none given
_CHUNKS_PER_PERMIT = 2  # in flight

Reduce = Callable[[Any, Any], Any]


def folding(
    function: Callable[[Any], Any], reduce: Reduce
) -> Callable[[Any], Coroutine[Any, Any, tuple[int, Any]]]:
    """In a worker: takes a chunk; gives how long it took in nanoseconds, and the partial result."""

    async def fold(items: Any) -> tuple[int, Any]:
        started = monotonic_ns()
        partial = NOTHING
        for item in items:
            value = function(item)
            if isawaitable(value):
                value = await value
            if partial is NOTHING:
                partial = value
                continue
            partial = reduce(partial, value)
            if isawaitable(partial):
                partial = await partial
        return monotonic_ns() - started, partial

    return fold


class Reduction(Map):
    """What Pool.map_reduce() awaits."""

    def __init__(
        self,
        dispatcher: Submitter,
        function: Callable[..., Any],
        iterable: Any,
        reduce: Reduce,
        how: MapOptions,
        options: Options | None,
    ) -> None:
        self._lanes = dispatcher.workers * dispatcher.childconcurrency
        self._pace = Pace()
        self._reduce = self._remote(reduce, options) if isinstance(reduce, Native) else reduce
        self._arrived: deque[tuple[int, Any]] = deque()  # chunks' numbers and partial results
        self._nodes: dict[tuple[int, int], Any] = {}  # by level and place
        self._sizes: dict[int, int] = {}  # items of the chunks in flight
        self._before = 0  # items of the chunks that are submitted
        self._merged = 0
        self._reduced = 0  # items of the chunks that came back
        self._calls = length(iterable)
        size: Any = how.chunksize or self._next_size
        super().__init__(
            dispatcher,
            dispatcher.function(Folding(function, reduce)),
            batches_of(iterable, size, isinstance(function, Native)),
            how._replace(chunksize=1, buffersize=_CHUNKS_PER_PERMIT * self._lanes),
            options,
        )

    async def run(self, initial: Any) -> Any:
        """The result; raises TypeError if there is no item and no `initial`."""
        self._start()
        try:
            while True:
                while self._arrived:
                    await self._merge(0, *self._arrived.popleft())
                    self._merged += 1
                    self._feed()
                if self._error is not None:
                    raise self._error
                if self._over:
                    return await self._root(initial)
                await self._wait()
        finally:
            self._leave()

    def _remote(self, reduce: Native, options: Options | None) -> Reduce:
        """A native function runs in its workers only."""

        def join(left: Any, right: Any) -> Any:
            return self._dispatcher.submit(reduce, (left, right), {}, True, options)

        return join

    def _next_size(self, left: int | None) -> int:
        size = self._pace.size
        return size if left is None else shrunk(size, left, self._lanes)

    # --- the tree ---------------------------------------------------------------------------------

    async def _merge(self, level: int, place: int, value: Any) -> None:
        """Put a value at its place; while its neighbour is there, the two make one, a level up."""
        while (neighbour := self._nodes.pop((level, place ^ 1), NOTHING)) is not NOTHING:
            pair = (neighbour, value) if place & 1 else (value, neighbour)
            value = await self._joined(*pair)
            level, place = level + 1, place >> 1
        self._nodes[level, place] = value

    async def _root(self, initial: Any) -> Any:
        """What is left are subtrees without a neighbour, the larger the further left."""
        result = NOTHING
        for key in sorted(self._nodes):  # from the right end on: the lowest levels first
            value = self._nodes[key]
            result = value if result is NOTHING else await self._joined(value, result)
        if initial is NOTHING:
            if result is NOTHING:
                raise TypeError("map_reduce() of an empty iterable with no initial value")
            return result
        return initial if result is NOTHING else await self._joined(initial, result)

    async def _joined(self, left: Any, right: Any) -> Any:
        result = self._reduce(left, right)
        return await result if isawaitable(result) else result

    # --- for Map ----------------------------------------------------------------------------------

    def _expect(self, items: Sequence[Any], begin: int, count: int) -> None:
        for place in range(count):
            self._sizes[self._fed + place] = size = len(items[begin + place])
            self._before += size

    def _keep(self, first: int, values: list[Any]) -> None:
        for place, (nanoseconds, partial) in enumerate(values, first):
            items = self._sizes.pop(place)
            self._pace.note(nanoseconds, items)
            self._reduced += items
            self._arrived.append((place, partial))

    def _held(self) -> int:
        return self._fed - self._merged

    def _lag(self) -> int:
        return 0  # buffersize bounds it

    def _has_next(self) -> bool:
        return bool(self._arrived)

    def _blame(self, error: PicklingError, item: Any) -> PicklingError:
        return blame(error, item, self._before)

    def _progress(self) -> tuple[int, int | None]:
        return self._reduced, self._calls
