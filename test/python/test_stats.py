"""Pool.stats(): what a pool is doing, in numbers."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import os
from collections.abc import Callable
from typing import Any

import calls
import gate
import pytest

from aiomq import Group, Pool, PoolStats, WorkerDied


@pytest.mark.versions
async def test_what_was_done_is_counted_by_its_end() -> None:
    async with Pool(1, label="counted", capacity=32) as pool:
        await pool.map(calls.add, range(1000))
        await pool.map(calls.fail, range(5), return_exceptions=True)
        with pytest.raises(WorkerDied):
            await pool.apply(calls.die_on_two, (2,))
        await pool.apply(calls.add, (1,))
        stats = pool.stats()
        assert (stats.label, stats.pid, stats.state) == ("counted", os.getpid(), "running")
        assert (stats.submitted, stats.ok, stats.failed, stats.worker_died) == (1007, 1001, 5, 1)
        assert (stats.capacity, stats.restarts, stats.nested) == (32, 1, 0)
        assert 0 < stats.age < 120
        assert 0 < stats.request_committed_bytes <= stats.request_maximum_bytes
        (worker,) = stats.workers
        assert (worker.state, worker.restarts, worker.running) == ("running", 1, 0)
        assert worker.pid == await pool.apply(os.getpid)
        assert worker.completed == 1006
        assert worker.failed == 5
        assert dataclasses.asdict(stats)["workers"][0]["pid"] == worker.pid
        with pytest.raises(dataclasses.FrozenInstanceError):
            stats.ok = 7  # type: ignore[misc]


async def test_what_runs_and_what_waits_is_seen() -> None:
    groups = [Group(1, name="first", queues=["a", "b"], childconcurrency=1)]
    async with gate.Gate() as way, Pool(queues=["a", "b"], groups=groups) as pool:
        running = pool.submit(gate.through, way.path, "x")
        await way.arrived("x")
        waiting = [pool.options(queue="b").submit(calls.add, number) for number in range(3)]
        stats = pool.stats()
        assert [queue.name for queue in stats.queues] == ["a", "b"]
        assert (stats.queues[0].claimed, stats.queues[0].ready) == (1, 0)
        assert (stats.queues[1].claimed, stats.queues[1].ready) == (0, 3)
        assert stats.queues[1].oldest > 0 == stats.queues[0].oldest
        assert (stats.workers[0].group, stats.workers[0].running) == ("first", 1)
        way.open("x")
        await asyncio.gather(running, *waiting)


async def test_any_thread_may_look_and_nobody_after_the_end() -> None:
    async with Pool(1) as pool:
        looked = await asyncio.gather(*(asyncio.to_thread(pool.stats) for _ in range(8)))
        assert all(isinstance(stats, PoolStats) for stats in looked)
    with pytest.raises(RuntimeError, match="pool was terminated"):
        pool.stats()


async def test_functions_are_counted_with_where_their_time_goes() -> None:
    async with Pool(2) as pool:
        await pool.map(calls.plain_add, range(10_000))
        await pool.map(calls.later, range(500))
        for _ in range(20):
            await pool.apply(calls.same, (b"x" * 1000,))
        for _ in range(3):
            with pytest.raises(ValueError):
                await pool.apply(calls.fail)
        await pool.options(isolate=False).apply(calls.plain_add, (1, 2))
        found = {function.name: function for function in pool.stats().functions}
        add, later, same, fail = (
            found["calls:" + name] for name in ("plain_add", "later", "same", "fail")
        )
        assert (add.calls, add.errors) == (10_001, 0)
        assert add.tasks >= 10_000 // 4096
        assert (later.calls, later.errors) == (500, 0)
        assert (same.tasks, same.calls, same.errors) == (20, 20, 0)
        assert 20 * 1000 <= same.bytes_in <= 20 * 1200
        assert 20 * 1000 <= same.bytes_out <= 20 * 1200
        assert (fail.tasks, fail.calls, fail.errors) == (3, 3, 3)
        for function in found.values():
            for times in (function.encode, function.wait, function.run, function.decode):
                assert times.count == sum(times.histogram)
                assert len(times.histogram) == 40
                assert times.total <= times.count * (times.quantile(1) + 1e-9)
                assert 0 < times.quantile(0.5) <= times.quantile(0.99) or times.quantile(0.5) == 0
            assert function.run.count == function.calls
            assert function.encode.count == function.tasks <= function.wait.count
            assert function.decode.count >= 1
        assert len(found) == 4, "isolate=False makes no row of its own"


async def ran_stat(*arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of aiomq-stat."""
    process = await asyncio.create_subprocess_exec(
        "aiomq-stat", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_aiomq_stat_shows_the_same_functions() -> None:
    async with Pool(2, label="functions") as pool:
        name = f"functions@{os.getpid()}"
        assert await ran_stat("functions", name) == (0, "", "")
        await pool.map(calls.plain_add, range(5000))
        await pool.options(isolate=False).map(calls.plain_add, range(5000))
        await pool.map(calls.fail, range(3), return_exceptions=True)
        await pool.apply(len, ("abc",))
        status, output, errors = await ran_stat("functions", name, "--json")
        assert (status, errors) == (0, "")
        shown = json.loads(output)
        stats = pool.stats().functions
        assert [function["name"] for function in shown] == [function.name for function in stats]
        for seen, own in zip(shown, stats, strict=True):
            for number in ("tasks", "calls", "errors", "bytes_in", "bytes_out"):
                assert seen[number] == getattr(own, number)
            for times in ("encode", "wait", "run", "decode"):
                expected = getattr(own, times)
                assert seen[times]["count"] == expected.count
                assert seen[times]["total_ns"] == round(expected.total * 1e9)
                assert tuple(seen[times]["histogram"]) == expected.histogram
        assert shown[0]["name"] == "calls:plain_add"
        assert (shown[0]["calls"], shown[1]["errors"]) == (10_000, 3)
        status, output, errors = await ran_stat("functions", name)
        head, first, *rest = output.splitlines()
        assert (status, errors) == (0, "")
        assert head.split()[:3] == ["FUNCTION", "CALLS", "ERRORS"]
        assert first.split()[:3] == ["calls:plain_add", "10,000", "0"]
        assert len(rest) == 2


async def test_more_functions_than_rows_share_one() -> None:
    async with Pool(1) as pool:
        for number in range(260):
            bound = functools.partial(calls.plain_add, number)
            assert await pool.apply(bound, (1,)) == number + 1
        functions = pool.stats().functions
        assert sum(function.calls for function in functions) == 260
        assert functions[-1].name == ""
        assert functions[-1].calls == 5


async def test_calls_that_have_waited_for_room_are_counted_too() -> None:
    async with gate.Gate() as way, Pool(1, capacity=1) as pool:
        held = [pool.submit(gate.through, way.path, str(number)) for number in range(5)]
        for number in range(5):
            await way.arrived(str(number))
            way.open(str(number))
        assert await asyncio.gather(*held) == [str(number) for number in range(5)]
        (function,) = pool.stats().functions
        assert (function.tasks, function.calls, function.encode.count) == (5, 5, 5)
        assert function.bytes_in >= 5 * len(way.path)


@pytest.mark.parametrize("function", [calls.block_first, calls.block_last])
async def test_a_call_runs_from_its_first_step_to_its_last(function: Callable[..., Any]) -> None:
    async with Pool(1) as pool:
        await pool.apply(function)
        (stats,) = pool.stats().functions
        assert stats.run.count == 1
        assert stats.run.total >= 0.05
