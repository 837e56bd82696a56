"""Pool.stats(): what a pool is doing, in numbers."""

from __future__ import annotations

import asyncio
import dataclasses
import os

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
