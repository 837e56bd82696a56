"""PoolResult: the results of a map in input order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any, Generic, TypeVar

from aiomq._map import Map

T = TypeVar("T")

_EMPTY: Any = object()  # stands for a result that is not there yet
_TRIM = 4096  # results taken by an `async for` are forgotten in batches


class PoolResult(Map, Generic[T]):
    """What Pool.map() and starmap() return. Await it, or iterate over it, once.

    `await result` gives the list of all results in input order. `async for` gives them in input
    order as they become ready and does not keep what it has given. In both cases the first error
    to complete cancels the rest and is raised (an `async for` first gives what was ready before
    the failed item); it does not wait for items that still run. With `return_exceptions` errors are
    results like others. Leaving an `async for` early cancels the rest; so does cancelling the task
    that awaits.

    The input is read as the workers need it, so it may be longer than memory, or endless; lists,
    tuples, sets and dicts are copied first. An asynchronous input is read by an asyncio task, which
    is cancelled with the map.
    """

    _values: list[Any]
    _position: int
    _iterating: bool
    _gathering: bool

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._values = []
        self._position = 0  # of the next result for the iterator, in _values
        self._iterating = False
        self._gathering = False

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._gather().__await__()

    def __aiter__(self) -> AsyncIterator[T]:
        if self._iterating:
            raise RuntimeError("a PoolResult can be iterated once")
        self._iterating = True
        return self._iterate()

    async def _gather(self) -> list[T]:
        if self._iterating:
            raise RuntimeError("this PoolResult is being iterated; await it or iterate, not both")
        self._gathering = True
        self._start()
        self._feed()
        assert self._done is not None
        try:
            await self._done
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self._values

    async def _iterate(self) -> AsyncIterator[T]:
        self._start()
        bounded = self._how.buffersize is not None
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
                    if bounded:
                        self._feed()
                    yield value
                if position >= _TRIM:
                    del values[:position]
                    self._position = 0
                    self._feed()
                    await asyncio.sleep(0)  # others on this loop, and the pool itself, want a turn
                elif position < len(values) and values[position] is not _EMPTY:
                    continue  # `values` has grown meanwhile
                elif self._error is not None:
                    raise self._error
                elif self._over and position == len(values):
                    return
                else:
                    await self._wait()
        finally:
            self._leave()

    # --- for Map ----------------------------------------------------------------------------------

    def _expect(self, items: list[Any], begin: int, count: int) -> None:
        self._values.extend([_EMPTY] * count)

    def _keep(self, first: int, values: list[Any]) -> None:
        kept = self._values
        start = first - (self._fed - len(kept))
        kept[start : start + len(values)] = values

    def _held(self) -> int:
        if self._gathering:
            return self._fed - self._finished
        return len(self._values) - self._position

    def _lag(self) -> int:
        return len(self._values) if self._iterating else 0

    def _has_next(self) -> bool:
        return self._position < len(self._values) and self._values[self._position] is not _EMPTY
