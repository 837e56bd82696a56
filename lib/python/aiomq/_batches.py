"""Batches: an input in runs of items, each of which travels as one, and their results."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from itertools import islice
from typing import Any

from aiomq._result import PoolResult, T
from aiomq._source import length

_COPIED = (list, tuple, set, frozenset, dict)  # the caller may change these meanwhile
_SLICED = (range, array)

# From how many items are left, None if that is not known, to how many the next batch takes.
Size = Callable[[int | None], int]


class Batches:
    """Successive items of an iterable. A batch of an array or range is a slice of it, else a list.

    Anything with `__array__`, as numpy's arrays and pandas' and Arrow's columns have it, is taken
    for an array. With `plain` all batches are lists, which native workers read, too.
    """

    def __init__(self, iterable: Iterable[Any], size: Size, plain: bool = False) -> None:
        self._size = size
        self._plain = plain
        self._sequence: Any = None
        self._iterable = iterable
        if isinstance(iterable, _COPIED):
            self._sequence = list(iterable)
        elif hasattr(iterable, "__array__") or (
            isinstance(iterable, _SLICED) and length(iterable) is not None
        ):
            self._sequence = iterable

    def __iter__(self) -> Iterator[Any]:
        if self._sequence is not None:
            return self._slices(len(self._sequence))
        left = length(self._iterable)
        return self._lists(iter(self._iterable), left)

    def _slices(self, end: int) -> Iterator[Any]:
        begin = 0
        while begin < end:
            size = self._size(end - begin)
            batch = self._sequence[begin : begin + size]
            if self._plain:
                batch = batch.tolist() if hasattr(batch, "tolist") else list(batch)
            yield batch
            begin += size

    def _lists(self, items: Iterator[Any], left: int | None) -> Iterator[list[Any]]:
        while batch := list(islice(items, self._size(left))):
            yield batch
            if left is not None:
                left = max(0, left - len(batch))


class EvenBatches(Batches):
    """Batches of one size from an iterable of known length; their number is known, too."""

    def __init__(self, iterable: Iterable[Any], size: int, plain: bool = False) -> None:
        super().__init__(iterable, lambda _left: size, plain)
        items: Any = iterable if self._sequence is None else self._sequence
        self._count = -(-len(items) // size)

    def __len__(self) -> int:
        return self._count


class AsyncBatches:
    """The same for an asynchronous iterable: lists, each of which waits until it is full."""

    def __init__(self, iterable: AsyncIterable[Any], size: Size) -> None:
        self._iterable = iterable
        self._size = size

    async def __aiter__(self) -> AsyncIterator[list[Any]]:
        items = aiter(self._iterable)
        batch: list[Any] = []
        size = self._size(None)
        try:
            async for item in items:
                batch.append(item)
                if len(batch) >= size:
                    yield batch
                    batch = []
                    size = self._size(None)
            if batch:
                yield batch
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()


def batches_of(iterable: Any, size: int | Size, plain: bool = False) -> Batches | AsyncBatches:
    """The batches of any iterable."""
    how: Size = (lambda _left: size) if isinstance(size, int) else size
    if isinstance(iterable, AsyncIterable) and not isinstance(iterable, Iterable):
        return AsyncBatches(iterable, how)
    if isinstance(size, int) and length(iterable) is not None:
        return EvenBatches(iterable, size, plain)
    return Batches(iterable, how, plain)


def blame(error: pickle.PicklingError, batch: Any, before: int) -> pickle.PicklingError:
    """The error of a batch that can't be sent, naming the item of the input that is the cause."""
    for index, item in enumerate(batch, before):
        try:
            pickle.dumps(item, 5)
        except Exception as cause:
            return pickle.PicklingError(f"item {index} can't be sent to a worker: {cause}")
    return error


class BatchResult(PoolResult[T]):
    """What Pool.map_batches() returns: one result for each batch."""

    _before = 0  # items in the batches that are submitted

    def _expect(self, items: Sequence[Any], begin: int, count: int) -> None:
        super()._expect(items, begin, count)
        self._before += sum(len(items[begin + place]) for place in range(count))

    def _blame(self, error: pickle.PicklingError, item: Any) -> pickle.PicklingError:
        return blame(error, item, self._before)
