"""Tasks that submit to their own pool and await."""

from __future__ import annotations

import asyncio

import calls
import gate
import nesting
import pytest

import aiomq
from aiomq import Pool


@pytest.mark.versions
async def test_one_worker_with_one_permit_does_not_wait_for_itself(bridge: str) -> None:
    async with Pool(1, childconcurrency=1) as pool:
        assert await pool.apply(nesting.double, (4,)) == 8
        assert await pool.apply(nesting.depth, (5,)) == 5
        assert await pool.map(nesting.double, range(50)) == [2 * n for n in range(50)]
        assert await pool.apply(calls.add, (1, 2)) == 3


async def test_nested_maps() -> None:
    async with Pool(2) as pool:
        assert await pool.apply(nesting.many, (500,)) == list(range(500))
        assert await pool.apply(nesting.star) == [3, 7]
        assert await pool.map(nesting.many, [20] * 20) == [list(range(20))] * 20


async def test_items_of_a_chunk_with_a_timeout_may_ask_for_work() -> None:
    async with Pool(2) as pool:
        timed = pool.options(timeout=60)
        assert await timed.map(nesting.double, range(20), chunksize=10) == [
            2 * n for n in range(20)
        ]


async def test_asyncio_tasks_of_a_task_may_use_the_pool_it_has_asked_for() -> None:
    async with Pool(1, childconcurrency=1) as pool:
        assert await pool.apply(nesting.gathered, (5,)) == [0, 2, 4, 6, 8]
        assert await pool.apply(nesting.inherited) == 3
        with pytest.raises(RuntimeError, match="call it in the pool's task first"):
            await pool.apply(nesting.orphan)


async def test_a_nested_error_is_what_it_was() -> None:
    async with Pool(1) as pool:
        assert await pool.apply(nesting.failing) == "inner True"


async def test_a_nested_call_can_be_cancelled() -> None:
    async with gate.Gate() as door, Pool(2) as pool:
        task = pool.submit(nesting.cancelling, door.path)
        await door.arrived("inner", "outer")
        door.open("outer")
        await door.arrived("inner-cancelled")
        assert await task == "after"


async def test_cancelling_the_outer_call_reaches_the_inner() -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        task = pool.submit(nesting.waiting, door.path)
        await door.arrived("inner")
        task.cancel()
        await door.arrived("inner-cancelled")
        assert await pool.apply(calls.add, (1, 2)) == 3


async def test_nested_calls_have_options_too() -> None:
    async with Pool(1) as pool:
        assert "longer than its timeout" in await pool.apply(nesting.with_options)


async def test_the_death_of_the_worker_of_a_nested_call() -> None:
    groups = [aiomq.Group(1, queues=["a"]), aiomq.Group(1, queues=["b"])]
    async with Pool(queues=["a", "b"], groups=groups) as pool:
        # The nested call goes to the first queue, so to another worker.
        assert await pool.options(queue="b").apply(nesting.losing) == "died"


@pytest.mark.versions
async def test_a_plain_function_gets_an_error() -> None:
    async with Pool(1) as pool:
        with pytest.raises(RuntimeError, match="plain function"):
            await pool.apply(nesting.plain)


async def test_there_is_no_current_pool_in_the_dispatcher() -> None:
    with pytest.raises(RuntimeError, match="outside of a pool's task"):
        aiomq.current_pool()
    async with Pool(1):
        with pytest.raises(RuntimeError, match="outside of a pool's task"):
            await asyncio.gather(_ask())


async def _ask() -> None:
    aiomq.current_pool()
