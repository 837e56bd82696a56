"""UnorderedResult: the results of a map as they come; as_completed(): the same for calls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Generic, TypeVar

from aiomq._map import Map

T = TypeVar("T")
F = TypeVar("F", bound="asyncio.Future[Any]")

_TURN = 4096  # results given before others on the loop get a turn


class UnorderedResult(Map, Generic[T]):
    """What Pool.map_unordered() returns. Iterate over it with `async for`, once.

    It gives each result as soon as it is there, so a slow item delays nobody else's. Errors, the
    input, and leaving early are as with PoolResult: what was ready when an item failed is given
    first.
    """

    _ready_items: deque[tuple[int, Any]]
    _inputs: dict[int, Any]
    _taken: int
    _iterating: bool
    _index: bool
    _input: bool

    def __init__(self, *arguments: Any, index: bool = False, input: bool = False) -> None:
        super().__init__(*arguments)
        self._ready_items = deque()
        self._inputs = {}  # of items without a result, when they are wanted
        self._taken = 0
        self._iterating = False
        self._index = index
        self._input = input

    def __aiter__(self) -> AsyncIterator[T]:
        if self._iterating:
            raise RuntimeError("an UnorderedResult can be iterated once")
        self._iterating = True
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[T]:
        self._start()
        bounded = self._how.buffersize is not None
        waiting = self._ready_items
        try:
            while True:
                while waiting:
                    first, value = waiting.popleft()
                    self._taken += 1
                    if bounded:
                        self._feed()
                    yield self._shown(first, value)
                    if self._taken % _TURN == 0:
                        self._feed()
                        await asyncio.sleep(0)  # others on this loop, and the pool, want a turn
                if self._error is not None:
                    raise self._error
                if self._over:
                    return
                await self._wait()
        finally:
            self._leave()

    def _shown(self, index: int, value: Any) -> Any:
        if self._input:
            given = self._inputs.pop(index)
            return (index, given, value) if self._index else (given, value)
        return (index, value) if self._index else value

    # --- for Map ----------------------------------------------------------------------------------

    def _expect(self, items: Sequence[Any], begin: int, count: int) -> None:
        if self._input:
            given = items[begin : begin + count]
            self._inputs.update(zip(range(self._fed, self._fed + count), given, strict=True))

    def _keep(self, first: int, values: list[Any]) -> None:
        self._ready_items.extend(enumerate(values, first))

    def _held(self) -> int:
        return self._fed - self._taken

    def _lag(self) -> int:
        return len(self._ready_items) if self._iterating else 0

    def _has_next(self) -> bool:
        return bool(self._ready_items)


async def as_completed(tasks: Iterable[F]) -> AsyncIterator[F]:
    """Give these calls as they are done: each is the Task itself, so it can be told apart.

        async for task in aiomq.as_completed([pool.submit(fetch, url) for url in urls]):
            page = await task

    Any asyncio future will do. Leaving early cancels nothing: the calls are the caller's.
    """
    waiting: asyncio.Queue[F] = asyncio.Queue()
    pending = set(tasks)
    for task in pending:
        task.add_done_callback(waiting.put_nowait)
    try:
        while pending:
            task = await waiting.get()
            pending.discard(task)
            yield task
    finally:
        for task in pending:
            task.remove_done_callback(waiting.put_nowait)
