"""PoolResult: the results of a map in input order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any, Generic, TypeVar

from aiomq._map import Map

T = TypeVar("T")

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
    _early: dict[int, list[Any]]
    _position: int
    _iterating: bool
    _gathering: bool

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._values = []  # in order, without a gap
        self._early = {}  # results that came before others in front of them, by their place
        self._next = 0  # place of the result that is to follow those in _values
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
                for position in range(self._position, min(len(values), _TRIM)):
                    value, values[position] = values[position], None
                    self._position = position + 1
                    if bounded:
                        self._feed()
                    yield value
                if self._position == _TRIM:
                    del values[:_TRIM]
                    self._position = 0
                    self._feed()
                    await asyncio.sleep(0)  # others on this loop, and the pool itself, want a turn
                elif self._has_next():
                    continue  # `values` has grown meanwhile
                elif self._error is not None:
                    raise self._error
                elif self._over:
                    return
                else:
                    await self._wait()
        finally:
            self._leave()

    # --- for Map ----------------------------------------------------------------------------------

    def _keep(self, first: int, values: list[Any]) -> None:
        if first != self._next:
            self._early[first] = values
            return
        more: list[Any] | None = values
        while more is not None:
            self._values += more
            self._next += len(more)
            more = self._early.pop(self._next, None)

    def _held(self) -> int:
        if self._gathering:
            return self._fed - self._finished
        return self._fed - self._next + len(self._values) - self._position

    def _ahead(self) -> int:
        sized = self._gathering and self._how.chunksize is None
        return self._sizer.ahead if sized else super()._ahead()

    def _lag(self) -> int:
        return self._held() if self._iterating else 0

    def _has_next(self) -> bool:
        return self._position < len(self._values)
