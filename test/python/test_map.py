"""map() and starmap(): order, laziness, chunks, errors."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import calls
import gate
import pytest

from aiomq import Pool


async def listed(results: Any) -> list[Any]:
    return [value async for value in results]


async def test_ranges_of_any_size_and_direction(bridge: str) -> None:
    async with Pool(2) as pool:
        for numbers in (range(5000), range(5000, 0, -3), range(2**63 - 20, 2**63 + 20), range(0)):
            assert await pool.map(calls.add, numbers) == list(numbers)
        first = []
        async for value in pool.map(calls.add, range(2**62, 2**80, 2**62)):
            first.append(value)
            if len(first) == 10:
                break
        assert first == [2**62 * n for n in range(1, 11)]


@pytest.mark.parametrize("chunksize", [None, 1, 7, 100_000])
async def test_results_come_in_input_order(chunksize: int | None) -> None:
    numbers = range(3000)
    async with Pool(2) as pool:
        for function in (calls.add, calls.plain_add, calls.make_add, calls.later):
            assert await pool.map(function, numbers, chunksize=chunksize) == list(numbers)
            assert await listed(pool.map(function, numbers, chunksize=chunksize)) == list(numbers)


async def test_any_iterable_will_do() -> None:
    async with Pool(2) as pool:
        assert await pool.map(calls.add, []) == []
        assert await listed(pool.map(calls.add, ())) == []
        assert await pool.map(calls.add, (n for n in range(100))) == list(range(100))
        assert sorted(await pool.map(calls.same, {"a": 1, "b": 2})) == ["a", "b"]
        assert await pool.map(calls.same, "text") == list("text")
        assert await pool.map(calls.same, {1, 2}) in ([1, 2], [2, 1])
        assert await pool.map(calls.same, iter(["x", 1, None])) == ["x", 1, None]
        with pytest.raises(TypeError, match="iterable"):
            pool.map(calls.add, 5)  # type: ignore[arg-type]


async def test_starmap() -> None:
    async with Pool(2) as pool:
        pairs = [(n, n) for n in range(500)]
        assert await pool.starmap(calls.add, pairs) == [2 * n for n in range(500)]
        assert await listed(pool.starmap(calls.add, iter(pairs))) == [2 * n for n in range(500)]
        assert await pool.starmap(dict, [(), ([("a", 1)],)]) == [{}, {"a": 1}]


async def test_a_changed_list_does_not_change_the_map() -> None:
    async with Pool(1) as pool:
        numbers = list(range(5000))
        result = pool.map(calls.add, numbers)
        numbers.clear()
        assert await result == list(range(5000))


async def test_values_of_every_kind() -> None:
    values: list[Any] = [
        *(
            None,
            True,
            1,
            -(2**63),
            2**80,
            1.5,
            "text",
            "\ud800",
            b"bytes",
            [1, [2]],
            (1, "a"),
            {1, 2},
        ),
        *({"k": [1.0]}, calls.add, complex(1, 2), frozenset([1]), "x" * 100_000, float("inf")),
    ]
    async with Pool(2) as pool:
        assert await pool.map(calls.same, values) == values
        assert await pool.map(calls.plain_same, values, chunksize=100) == values
        assert [await pool.apply(calls.later, (value,)) for value in values] == values


@pytest.mark.versions
async def test_the_first_error_to_complete_cancels_the_rest_and_is_raised() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=4) as pool:
        calling = [(door.path, name) for name in ("a", "b", "bad")]
        result = pool.starmap(calls.through_or_fail, calling, chunksize=3)
        await door.arrived("a", "b", "bad")
        door.open("bad")
        with pytest.raises(ValueError, match="bad"):
            await result  # does not wait for a and b
        await door.arrived("a-cancelled", "b-cancelled")
        assert result.done()
        with pytest.raises(ValueError, match="bad"):
            await result
        assert await pool.apply(calls.add, (1,)) == 1


async def test_async_for_gives_what_was_ready_before_an_error() -> None:
    async with Pool(1) as pool:
        seen = []
        with pytest.raises(ValueError, match="bad item 5"):
            async for value in pool.starmap(
                calls.fail_on, [(n, 5) for n in range(100)], chunksize=1
            ):
                seen.append(value)
        assert seen == [0, 1, 2, 3, 4]


async def test_async_for_gives_results_as_they_become_ready() -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        names = ["a", "b", "c"]
        results = aiter(
            pool.starmap(gate.through, [(door.path, name) for name in names], chunksize=3)
        )
        await door.arrived(*names)
        for name in names:
            door.open(name)
            assert await anext(results) == name


async def test_leaving_an_async_for_cancels_the_rest() -> None:
    async with gate.Gate() as door, Pool(1) as pool:

        async def first() -> str:
            async for name in pool.starmap(gate.through, [(door.path, "a"), (door.path, "b")]):
                return name
            raise AssertionError

        task = asyncio.create_task(first())
        await door.arrived("a", "b")
        door.open("a")
        assert await task == "a"
        await door.arrived("b-cancelled")


async def test_input_is_read_as_it_is_needed() -> None:
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        while True:
            yield read
            read += 1

    async with Pool(2) as pool:
        taken = []
        async for value in pool.map(calls.add, numbers()):
            taken.append(value)
            if len(taken) == 200_000:
                break
        assert taken == list(range(200_000))
        assert read < 400_000


async def test_an_input_that_raises_ends_the_map() -> None:
    def numbers(stop: int) -> Iterator[int]:
        yield from range(stop)
        raise LookupError("no more")

    async with Pool(1) as pool:
        with pytest.raises(LookupError, match="no more"):
            pool.map(calls.add, numbers(0))
        with pytest.raises(LookupError, match="no more"):
            await pool.map(calls.add, numbers(20_000))
        assert await pool.map(calls.add, [1]) == [1]


@pytest.mark.versions
async def test_cancelling_the_awaiting_task_cancels_the_map() -> None:
    async with gate.Gate() as door, Pool(1) as pool:

        async def wait() -> list[str]:
            return await pool.starmap(gate.through, [(door.path, "a")])

        task = asyncio.create_task(wait())
        await door.arrived("a")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await door.arrived("a-cancelled")


async def test_a_map_can_be_cancelled() -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        result = pool.starmap(gate.through, [(door.path, "a")])
        await door.arrived("a")
        assert result.cancel() and not result.cancel()
        with pytest.raises(asyncio.CancelledError):
            await result
        await door.arrived("a-cancelled")


async def test_a_result_is_awaited_or_iterated() -> None:
    async with Pool(1) as pool:
        result = pool.map(calls.add, range(10))
        assert await listed(result) == list(range(10))
        with pytest.raises(RuntimeError, match="iterated"):
            await result
        with pytest.raises(RuntimeError, match="once"):
            aiter(result)
        result = pool.map(calls.add, range(10))
        assert await result == await result == list(range(10))


async def test_chunks_of_a_cheap_function_become_large() -> None:
    async with Pool(2) as pool:
        assert await pool.map(calls.add, range(500_000)) == list(range(500_000))
        assert pool._dispatcher.life.next_user() < 10_000
        assert pool._dispatcher.sizer(0).size >= 30


async def test_chunks_follow_busy_time_and_sleepers_run_together() -> None:
    async with Pool(2) as pool:
        await pool.map(calls.nap, [0.0] * 32)
        started = time.monotonic()
        await pool.map(calls.nap, [0.05] * 400)
        # 400 naps, 32 at once, are 0.63 s; one after the other would be 20.
        assert time.monotonic() - started < 2.5


async def test_slow_functions_are_shared_evenly() -> None:
    async with Pool(2) as pool:
        await pool.map(calls.add, range(10_000))  # another function's cost says nothing
        workers = await pool.map(calls.busy, [0.01] * 40)
        assert 10 <= workers.count(workers[0]) <= 30


async def test_maps_and_calls_at_once(rng: random.Random) -> None:
    async with Pool(2, capacity=16) as pool:
        lengths = [rng.randrange(3000) for _ in range(20)]
        functions = [calls.add, calls.plain_add, calls.later]
        results = [pool.map(rng.choice(functions), range(length)) for length in lengths]
        tasks = [pool.submit(calls.add, number) for number in range(100)]
        assert await asyncio.gather(*tasks) == list(range(100))
        for result, length in zip(results, lengths, strict=True):
            assert await result == list(range(length))


async def test_large_items_are_packed_less() -> None:
    async with Pool(1, max_memory=16 << 20) as pool:
        assert await pool.map(len, [b"x" * 3_000_000] * 20, chunksize=20) == [3_000_000] * 20


async def test_a_chunk_that_suspends_in_parts() -> None:
    async with Pool(1, childconcurrency=4) as pool:
        numbers = list(range(500))
        assert await pool.map(calls.sometimes_later, numbers, chunksize=250) == numbers


@pytest.mark.parametrize("chunksize", [None, 4, 16])
async def test_items_that_keep_workers_busy_are_split_evenly(chunksize: int | None) -> None:
    """Sixteen on two workers: as long as any are left nobody is without one."""
    async with gate.Gate() as way, Pool(2) as pool:
        orders = [(way.path, str(number)) for number in range(16)]
        mapped = pool.starmap(gate.through_blocking, orders, chunksize=chunksize)
        shares = Counter[int]()
        for turn in range(8):
            await way.count(2 * turn + 2)
            pair = way.news[-2:]
            shares.update(way.pids[name] for name in pair)
            way.open(*pair)
        assert await mapped == [str(number) for number in range(16)]
        assert sorted(shares.values()) == [8, 8]
