"""Maps as streams: asynchronous input, bounded windows, results as they come, errors as results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import calls
import gate
import pytest

import aiomq
from aiomq import Pool


async def listed(results: Any) -> list[Any]:
    return [value async for value in results]


class Input:
    """Numbers, and how far they were read; `closed` is set when the reader gives up."""

    def __init__(self, stop: int | None = None, pause: bool = False) -> None:
        self.read = 0
        self.stop = stop
        self.pause = pause
        self.closed = asyncio.Event()

    def __iter__(self) -> Iterator[int]:
        while self.stop is None or self.read < self.stop:
            self.read += 1
            yield self.read - 1

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            while self.stop is None or self.read < self.stop:
                if self.pause:
                    await asyncio.sleep(0)
                self.read += 1
                yield self.read - 1
        finally:
            self.closed.set()


class AsyncInput(Input):
    """The same, asynchronous only."""

    __iter__ = None  # type: ignore[assignment]


# --- asynchronous input ---------------------------------------------------------------------------


@pytest.mark.versions
@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("chunksize", [None, 1, 100])
async def test_an_asynchronous_input_is_mapped(pause: bool, chunksize: int | None) -> None:
    async with Pool(2) as pool:
        for stop in (0, 1, 2000):
            numbers = AsyncInput(stop, pause)
            assert await pool.map(calls.add, numbers, chunksize=chunksize) == list(range(stop))
            numbers = AsyncInput(stop, pause)
            assert await listed(pool.map(calls.later, numbers)) == list(range(stop))

        async def pairs() -> AsyncIterator[tuple[int, int]]:
            for number in range(10):
                yield number, number

        assert await pool.starmap(calls.add, pairs()) == list(range(0, 20, 2))


async def test_what_has_come_runs_while_more_is_awaited() -> None:
    more = asyncio.Event()

    async def numbers() -> AsyncIterator[int]:
        yield 1
        await more.wait()
        yield 2

    async with Pool(1) as pool:
        results = aiter(pool.map(calls.add, numbers()))
        assert await anext(results) == 1
        more.set()
        assert await anext(results) == 2
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_an_endless_asynchronous_input_is_read_as_it_is_needed_and_closed() -> None:
    async with Pool(2) as pool:
        numbers = AsyncInput()
        taken = []
        async for value in pool.map(calls.add, numbers):
            taken.append(value)
            if len(taken) == 100_000:
                break
        assert taken == list(range(100_000))
        assert numbers.read < 300_000
        await numbers.closed.wait()
        assert await pool.apply(calls.add, (1,)) == 1


async def test_an_asynchronous_input_that_raises_ends_the_map() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(100):
            yield number
        raise LookupError("no more")

    async with Pool(1) as pool:
        with pytest.raises(LookupError, match="no more"):
            await pool.map(calls.add, numbers())
        with pytest.raises(LookupError, match="no more"):
            await listed(pool.map_unordered(calls.add, numbers()))
        assert await pool.map(calls.add, [1]) == [1]


async def test_an_asynchronous_input_that_never_ends_keeps_nobody_waiting() -> None:
    stopped = asyncio.Event()
    let_go = asyncio.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.set()
            await let_go.wait()  # does not end, even now
            raise

    async with Pool(1) as pool:
        results = aiter(pool.map(calls.add, numbers()))
        assert await anext(results) == 1
        await results.aclose()  # type: ignore[attr-defined]
        await stopped.wait()
        result = pool.map(calls.add, numbers())
        await asyncio.sleep(0)
        assert result.cancel()
        with pytest.raises(asyncio.CancelledError):
            await result
    let_go.set()


async def test_an_input_that_is_both_is_read_as_an_iterable() -> None:
    async with Pool(1) as pool:
        numbers = Input(10)
        assert await pool.map(calls.add, numbers) == list(range(10))
        assert not numbers.closed.is_set()


def test_a_map_of_an_asynchronous_input_may_be_made_before_the_loop_runs() -> None:
    async def use(result: Any) -> list[int]:
        return await result  # type: ignore[no-any-return]

    pool = Pool(1)
    result = pool.map(calls.add, AsyncInput(5))

    async def main() -> list[int]:
        async with pool:
            return await use(result)

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


# --- bounded windows ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Input, AsyncInput])
@pytest.mark.parametrize("buffersize", [1, 3, 50])
async def test_no_more_than_buffersize_items_are_read_ahead(
    make: type[Input], buffersize: int
) -> None:
    async with Pool(2) as pool:
        numbers = make()
        results = aiter(pool.map(calls.add, numbers, buffersize=buffersize))
        for wanted in range(200):
            assert await anext(results) == wanted
            assert numbers.read <= wanted + 1 + buffersize
        await results.aclose()  # type: ignore[attr-defined]
        numbers = make()
        unordered = aiter(pool.map_unordered(calls.add, numbers, buffersize=buffersize))
        seen = []
        for taken in range(200):
            seen.append(await anext(unordered))
            assert numbers.read <= taken + 1 + buffersize
        assert set(seen) <= set(range(200 + buffersize)) and len(set(seen)) == 200
        await unordered.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [Input, AsyncInput])
async def test_an_awaited_map_with_a_small_window_comes_to_its_end(make: type[Input]) -> None:
    async with Pool(2) as pool:
        for size in (1, 2, 7):
            assert await pool.map(calls.add, make(500), buffersize=size) == list(range(500))
            assert await pool.map(calls.add, [*range(500)], buffersize=size, chunksize=100) == [
                *range(500)
            ]


async def test_a_window_holds_as_many_as_it_may() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=8) as pool:
        names = [f"n{number}" for number in range(6)]
        result = pool.starmap(gate.through, [(door.path, name) for name in names], buffersize=3)
        await door.arrived("n0", "n1", "n2")
        gathering = asyncio.ensure_future(_await(result))
        for number in range(3):
            assert len(door.pids) == 3 + number
            door.open(names[number])
            await door.arrived(names[number + 3])
        door.open(*names[3:])
        assert await gathering == names


async def _await(result: Any) -> Any:
    return await result


# --- results as they come -------------------------------------------------------------------------


@pytest.mark.versions
async def test_one_slow_item_delays_nobody_else() -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        names = ["slow", "b", "c", "d"]
        door_of = [(door.path, name) for name in names]
        results = aiter(pool.map_unordered(calls.through_pair, door_of, chunksize=4))
        await door.arrived(*names)
        for name in ("c", "b", "d"):
            door.open(name)
            assert await anext(results) == name
        door.open("slow")
        assert await listed(results) == ["slow"]


async def test_results_say_which_they_are() -> None:
    async with Pool(2) as pool:
        words = ["a", "bb", "ccc"] * 200
        plain = await listed(pool.map_unordered(len, words))
        assert sorted(plain) == sorted(map(len, words))
        by_index = await listed(pool.map_unordered(len, words, index=True))
        assert sorted(by_index) == [(number, len(word)) for number, word in enumerate(words)]
        by_input = await listed(pool.map_unordered(len, iter(words), input=True))
        assert sorted(by_input) == sorted((word, len(word)) for word in words)
        both = await listed(pool.map_unordered(len, words, index=True, input=True, chunksize=9))
        assert sorted(both) == [(n, word, len(word)) for n, word in enumerate(words)]


async def test_leaving_unordered_results_early_cancels_the_rest() -> None:
    async with gate.Gate() as door, Pool(1) as pool:

        async def first() -> str:
            pairs = [(door.path, "a"), (door.path, "b")]
            async for name in pool.map_unordered(calls.through_pair, pairs):
                return str(name)
            raise AssertionError

        task = asyncio.create_task(first())
        await door.arrived("a", "b")
        door.open("b")
        assert await task == "b"
        await door.arrived("a-cancelled")


async def test_unordered_results_end_with_the_first_error() -> None:
    async with Pool(1) as pool:
        seen = []
        with pytest.raises(ValueError, match="bad item 5"):
            async for value in pool.map_unordered(calls.fail_on_five, range(100), chunksize=1):
                seen.append(value)
        assert seen == [0, 1, 2, 3, 4]
        results = pool.map_unordered(calls.add, range(3))
        assert sorted(await listed(results)) == [0, 1, 2]
        with pytest.raises(RuntimeError, match="once"):
            aiter(results)


async def test_calls_as_they_are_done() -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        tasks = {pool.submit(gate.through, door.path, name): name for name in "abc"}
        await door.arrived(*"abc")
        done = aiomq.as_completed(tasks)
        for name in "bca":
            door.open(name)
            task = await anext(done)
            assert task.done() and tasks[task] == name and await task == name
        with pytest.raises(StopAsyncIteration):
            await anext(done)
        assert await listed(aiomq.as_completed([])) == []


async def test_leaving_calls_as_they_are_done_cancels_none() -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        tasks = [pool.submit(gate.through, door.path, name) for name in "ab"]
        await door.arrived(*"ab")
        door.open("a")
        async for task in aiomq.as_completed(tasks):
            assert await task == "a"
            break
        door.open("b")
        assert await tasks[1] == "b"


# --- errors as results ----------------------------------------------------------------------------


@pytest.mark.versions
@pytest.mark.parametrize("chunksize", [None, 1, 10])
async def test_errors_can_be_results(chunksize: int | None) -> None:
    def shown(value: object) -> object:
        return (type(value), *value.args) if isinstance(value, BaseException) else value

    wanted = [shown(ValueError("bad item 5")) if n == 5 else n for n in range(20)]
    async with Pool(2) as pool:

        def run(method: Any) -> Any:
            return method(
                calls.fail_on_five, range(20), chunksize=chunksize, return_exceptions=True
            )

        assert [shown(value) for value in await run(pool.map)] == wanted
        assert [shown(value) async for value in run(pool.map)] == wanted
        assert {shown(value) async for value in run(pool.map_unordered)} == set(wanted)
        (error,) = [e for e in await run(pool.map) if isinstance(e, ValueError)]
        assert "fail_on" in str(error.__cause__), "with the worker's traceback"


async def test_a_worker_that_dies_is_a_result_too() -> None:
    async with Pool(2) as pool:
        values = await pool.map(calls.die_on_two, range(6), chunksize=1, return_exceptions=True)
        assert [v for v in values if not isinstance(v, Exception)] == [0, 1, 3, 4, 5]
        assert isinstance(values[2], aiomq.WorkerDied)


async def test_an_item_has_not_started_while_the_result_before_it_is_dropped() -> None:
    async with Pool(1) as pool:
        assert await pool.map(calls.die_after_forty, range(100), chunksize=100) == list(range(100))
        assert pool.stats().restarts == 1


# --- bad input ------------------------------------------------------------------------------------


async def test_bad_options_are_named() -> None:
    async with Pool(1) as pool:
        for method in (pool.map, pool.starmap, pool.map_unordered):
            with pytest.raises(ValueError, match="buffersize must be at least 1, not 0"):
                method(calls.add, [1], buffersize=0)
            with pytest.raises(TypeError, match="buffersize must be an int, not str"):
                method(calls.add, [1], buffersize="many")  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="chunksize"):
                method(calls.add, [1], chunksize=0)
            with pytest.raises(TypeError, match="iterable"):
                method(calls.add, 5)  # type: ignore[arg-type]
