"""Workers that leave after so many tasks, so much memory, or a SIGTERM, and are replaced."""

from __future__ import annotations

import asyncio
import os
import signal

import calls
import gate
import hoard
import pytest

from aiomq import Group, Pool


async def test_maxtasksperchild_replaces_the_worker_and_loses_nothing() -> None:
    async with Pool(1, maxtasksperchild=5) as pool:
        pids = [await pool.apply(calls.pid) for _ in range(20)]
        assert all(pids.count(pid) <= 5 for pid in pids) and len(set(pids)) >= 4
        assert await pool.map(calls.add, range(50)) == list(range(50))


async def test_a_chunk_is_not_finished_by_a_worker_that_has_done_its_share(bridge: str) -> None:
    async with Pool(1, maxtasksperchild=10) as pool:
        for function in (calls.plain_pid, calls.pid, calls.pid_later):
            pids = await pool.map(function, range(60), chunksize=60)
            # Items that had suspended by then are still ended there.
            assert len(set(pids)) >= 3, function


async def test_running_items_of_a_retiring_worker_end_there() -> None:
    async with gate.Gate() as door, Pool(1, maxtasksperchild=1) as pool:
        tasks = [pool.submit(gate.through, door.path, name) for name in ("a", "b")]
        await door.arrived("a", "b")
        door.open("a")
        assert await tasks[0] == "a"
        successor = pool.submit(calls.pid)
        door.open("b")
        assert await tasks[1] == "b"
        assert await successor not in (door.pids["a"], door.pids["b"])


async def test_a_groups_limit_comes_before_the_pools() -> None:
    async with Pool(groups=[Group(1, maxtasksperchild=2)], maxtasksperchild=1000) as pool:
        pids = [await pool.apply(calls.pid) for _ in range(6)]
        assert all(pids.count(pid) <= 2 for pid in pids)


async def test_max_memory_per_child() -> None:
    async with Pool(1, max_memory_per_child=150 << 20) as pool:
        first = await pool.apply(hoard.keep, (200 << 20,))
        while await pool.apply(calls.pid) == first:
            await asyncio.sleep(0.05)  # it looks every now and then
        assert await pool.apply(hoard.kept) == 0


@pytest.mark.versions
async def test_sigterm_lets_running_tasks_end(bridge: str) -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        running = [pool.submit(gate.through, door.path, name) for name in ("a", "b")]
        await door.arrived("a", "b")
        worker = door.pids["a"]
        os.kill(worker, signal.SIGTERM)
        later = pool.submit(calls.pid)
        door.open("a", "b")
        assert await asyncio.gather(*running) == ["a", "b"]
        assert await later != worker


async def test_sigterm_to_an_idle_worker_replaces_it() -> None:
    async with Pool(1) as pool:
        worker = await pool.apply(calls.pid)
        os.kill(worker, signal.SIGTERM)
        while await pool.apply(calls.pid) == worker:
            pass


async def test_sigterm_in_a_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")
    async with gate.Gate() as door, Pool(1, loop_initializer=uvloop.new_event_loop) as pool:
        running = pool.submit(gate.through, door.path, "a")
        await door.arrived("a")
        os.kill(door.pids["a"], signal.SIGTERM)
        later = pool.submit(calls.pid)
        door.open("a")
        assert await running == "a"
        assert await later != door.pids["a"]
