"""map_batches() and map_reduce(): many items in a call, folded in the workers; progress."""

from __future__ import annotations

import array
import asyncio
import operator
import os
import pickle
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import batching
import calls
import gate
import numpy
import pytest

import aiomq
from aiomq import Pool


def numbers(stop: int) -> Iterator[int]:
    yield from range(stop)


async def numbers_later(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        if number % 7 == 0:
            await asyncio.sleep(0)
        yield number


INPUTS: dict[str, Any] = {
    "list": lambda stop: list(range(stop)),
    "range": range,
    "dict": lambda stop: dict.fromkeys(range(stop)),
    "generator": numbers,
    "asynchronous": numbers_later,
    "array": lambda stop: array.array("q", range(stop)),
    "numpy": numpy.arange,
}
KINDS = {"range": "range", "array": "array", "numpy": "ndarray"}


# --- map_batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", INPUTS)
async def test_a_batch_has_as_many_items_as_was_asked(kind: str) -> None:
    async with Pool(2) as pool:
        for stop in (0, 1, 10, 11, 30):
            results = await pool.map_batches(batching.kind_and_items, INPUTS[kind](stop), 10)
            assert [items for _, items in results] == [
                list(range(first, min(first + 10, stop))) for first in range(0, stop, 10)
            ]
            assert {name for name, _ in results} <= {KINDS.get(kind, "list")}


async def test_a_numpy_column_stays_one() -> None:
    column = numpy.arange(5000, dtype=numpy.float32)
    async with Pool(2) as pool:
        parts = [part async for part in pool.map_batches(batching.squares, column)]
    assert [len(part) for part in parts] == [1024, 1024, 1024, 1024, 904]
    result = numpy.concatenate(parts)
    assert result.dtype == numpy.float32
    assert (result == column * column).all()


async def test_one_statement_stores_many_rows(tmp_path: Path) -> None:
    path = str(tmp_path / "points")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE point (value INTEGER)")
    async with Pool(2) as pool:
        rows = ((path, value) for value in range(2500))
        assert await pool.map_batches(batching.insert, rows, 1000) == [1000, 1000, 500]
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT count(*), sum(value) FROM point").fetchone()
    assert found == (2500, sum(range(2500)))


async def test_batches_are_read_as_they_are_wanted() -> None:
    read = 0

    def endless() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    async with Pool(1) as pool:
        results = pool.map_batches(calls.same, endless(), 10, buffersize=2)
        async for batch in results:
            assert len(batch) == 10
            assert read <= batch[-1] + 30
            if batch[-1] >= 500:
                break


async def test_a_range_may_be_longer_than_memory() -> None:
    async with Pool(1) as pool:
        async for total in pool.map_batches(sum, range(2**80), batchsize=10):
            assert total == 45
            break


async def test_an_error_is_the_result_of_its_batch() -> None:
    async with Pool(1) as pool:
        results = await pool.map_batches(batching.refuse_three, range(9), 3, return_exceptions=True)
        assert [type(result) for result in results] == [int, LookupError, int]
        with pytest.raises(LookupError, match="three"):
            await pool.map_batches(batching.refuse_three, range(9), 3)
        with pytest.raises(pickle.PicklingError, match=r"item 7 can't be sent to a worker"):
            await pool.map_batches(calls.same, [*range(7), threading.Lock()], 3)


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)]
)
async def test_a_bad_batchsize_is_named(size: Any, error: type[Exception]) -> None:
    async with Pool(1) as pool:
        with pytest.raises(error, match="batchsize must be"):
            pool.map_batches(calls.same, [1], size)
        with pytest.raises(TypeError, match="not iterable"):
            pool.map_batches(calls.same, 7)  # type: ignore[call-overload]


# --- map_reduce -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", INPUTS)
async def test_neighbours_are_reduced_in_order(kind: str) -> None:
    async with Pool(2) as pool:
        for function in (batching.one, batching.one_later):
            for reduce in (batching.join, batching.join_later):
                for stop, chunksize in ((1, None), (2, 1), (7, 3), (7, 1), (200, None), (200, 3)):
                    result = await pool.map_reduce(
                        function, INPUTS[kind](stop), reduce, chunksize=chunksize
                    )
                    assert sum(result, ()) == tuple(range(stop))


@pytest.mark.versions
async def test_initial_is_the_leftmost_value() -> None:
    async with Pool(2) as pool:
        assert await pool.map_reduce(str, range(20), operator.add, initial="<") == "<" + "".join(
            map(str, range(20))
        )
        assert await pool.map_reduce(str, [], operator.add, initial="<") == "<"
        assert await pool.map_reduce(str, [], operator.add, initial=None) is None
        with pytest.raises(TypeError, match="empty iterable with no initial value"):
            await pool.map_reduce(str, [], operator.add)


async def test_the_workers_fold_and_partial_results_travel() -> None:
    pids = Counter[int]()
    async with Pool(2) as pool:
        counts = await pool.map_reduce(batching.who, range(20000), batching.add_counts)
        assert sum(counts.values()) == 20000
        assert os.getpid() not in counts
        adders = await pool.map_reduce(batching.nobody, range(1000), batching.who_adds)
        pids.update(adders)
        assert len(adders) >= 2  # a worker at least, and this process
        only = await pool.map_reduce(
            batching.nobody, range(1000), batching.who_adds, chunksize=1000
        )
        assert len(only) == 1
        assert os.getpid() not in only


async def test_chunks_of_waiting_items_run_at_once() -> None:
    """Each waits for all: with fewer at once than childconcurrency this would hang."""
    async with gate.Gate() as way, Pool(1, childconcurrency=4) as pool:
        orders = [(way.path, str(number)) for number in range(4)]
        reduced = asyncio.ensure_future(
            pool.map_reduce(through_pair, orders, operator.add, chunksize=1)
        )
        await way.arrived(*"0123")
        way.open(*"3210")
        assert await reduced == "0123"


async def through_pair(order: tuple[str, str]) -> str:
    return await gate.through(*order)


async def test_a_function_that_raises_ends_the_reduction() -> None:
    async with Pool(2) as pool:
        with pytest.raises(LookupError, match="the third") as raised:
            await pool.map_reduce(batching.refuse_third, range(10), batching.plus)
        assert "refuse_third" in str(raised.value.__cause__)
        assert await pool.map_reduce(int, range(10), batching.plus) == 45


async def test_a_reducer_that_raises_in_the_worker_ends_the_reduction() -> None:
    async with Pool(2) as pool:
        with pytest.raises(ArithmeticError) as raised:
            await pool.map_reduce(int, range(10), batching.refuse_sum, chunksize=10)
        assert not str(raised.value).endswith(f" {os.getpid()}")
        assert await pool.map_reduce(int, range(10), batching.plus) == 45


async def test_a_reducer_that_raises_in_the_parent_ends_the_reduction() -> None:
    async with Pool(2) as pool:
        with pytest.raises(ArithmeticError) as raised:
            await pool.map_reduce(int, range(10), batching.refuse_sum, chunksize=1)
        assert str(raised.value).endswith(f" {os.getpid()}")
        with pytest.raises(ArithmeticError):
            await pool.map_reduce(int, [1], batching.refuse_sum, initial=0)
        assert await pool.map_reduce(int, range(10), batching.plus) == 45


async def test_a_chunk_counts_once_when_its_worker_dies(tmp_path: Path) -> None:
    path = str(tmp_path / "runs")
    orders = [(path, item) for item in range(8)]
    async with Pool(1) as pool:
        with pytest.raises(aiomq.WorkerDied):
            await pool.map_reduce(batching.die_once, orders, batching.plus, chunksize=4)
        os.unlink(path)
        retried = pool.options(retries=1)
        assert await retried.map_reduce(batching.die_once, orders, batching.plus, chunksize=4) == 28
    runs = Counter(Path(path).read_text().split())
    assert runs == {"0": 1, "1": 1, "2": 1, "3": 1, "4": 2, "5": 2, "6": 1, "7": 1}


async def test_a_reduction_can_be_cancelled() -> None:
    async with gate.Gate() as way, Pool(1) as pool:
        reduced = asyncio.ensure_future(
            pool.map_reduce(through_pair, [(way.path, "a")] * 1, operator.add)
        )
        await way.arrived("a")
        reduced.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reduced
        await way.arrived("a-cancelled")
        assert await pool.map_reduce(int, range(10), batching.plus) == 45


async def test_a_task_can_reduce() -> None:
    async with Pool(2) as pool:
        assert await pool.apply(batching.sum_of, (range(50),)) == sum(range(50))


async def test_what_cannot_be_reduced_is_named() -> None:
    async with Pool(1) as pool:
        with pytest.raises(TypeError, match="reduce must be callable, not int"):
            await pool.map_reduce(int, [1], 3)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="chunksize must be at least 1"):
            await pool.map_reduce(int, [1], operator.add, chunksize=0)
        with pytest.raises(pickle.PicklingError, match=r"item 5 can't be sent to a worker"):
            await pool.map_reduce(
                calls.plain_same, [*range(5), threading.Lock()], operator.add, chunksize=2
            )
        with pytest.raises(pickle.PicklingError, match="result"):
            await pool.map_reduce(batching.unsendable, [1], operator.add)


# --- progress -------------------------------------------------------------------------------------


@pytest.mark.versions
async def test_progress_counts_to_the_end() -> None:
    async with Pool(2) as pool:
        for total, inputs in ((300, range(300)), (None, numbers(300))):
            told: list[tuple[int, int | None]] = []

            def note(done: int, of: int | None, told: Any = told) -> None:
                told.append((done, of))

            await pool.map(calls.same, inputs, progress=note)
            assert told == sorted(told)
            assert told[-1] == (300, total)
            assert {of for _, of in told} == {total}
    async with Pool(2) as pool:
        told = []
        await pool.starmap(calls.add, [(1, 2)] * 10, progress=lambda *news: told.append(news))
        assert told[-1] == (10, 10)
        unordered = pool.map_unordered(
            calls.same, range(10), progress=lambda *news: told.append(news)
        )
        assert len([value async for value in unordered]) == 10
        assert told[-1] == (10, 10)
        await pool.map_batches(calls.same, range(95), 10, progress=lambda *news: told.append(news))
        assert told[-1] == (10, 10)
        await pool.map_reduce(
            int, range(95), operator.add, progress=lambda *news: told.append(news)
        )
        assert told[-1] == (95, 95)


async def test_progress_counts_errors_as_done() -> None:
    async with Pool(1) as pool:
        told: list[Any] = []
        await pool.map(
            batching.refuse_third,
            range(5),
            return_exceptions=True,
            progress=lambda *news: told.append(news),
        )
        assert told[-1] == (5, 5)


async def test_what_progress_raises_ends_the_map() -> None:
    def refuse(_done: int, _of: int | None) -> None:
        raise LookupError("enough")

    async with Pool(1) as pool:
        with pytest.raises(LookupError, match="enough"):
            await pool.map(calls.same, range(10), progress=refuse)
        with pytest.raises(LookupError, match="enough"):
            await pool.map_reduce(int, range(10), operator.add, progress=refuse)
        assert await pool.map(calls.same, range(10)) == list(range(10))
        with pytest.raises(TypeError, match="progress must be callable"):
            pool.map(calls.same, range(10), progress=3)  # type: ignore[call-overload]


async def test_progress_may_cancel_its_map() -> None:
    async with Pool(1) as pool:
        results: Any = None
        results = pool.map(calls.same, range(10), progress=lambda _done, _of: results.cancel())
        with pytest.raises(asyncio.CancelledError):
            await results
        assert await pool.map(calls.same, range(10)) == list(range(10))
