"""Worker processes: start, death, replacement, loops."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import calls
import gate
import pytest

from aiomq import Pool, WorkerDied


@pytest.mark.versions
async def test_a_killed_worker_fails_what_had_started_and_nothing_else() -> None:
    async with gate.Gate() as door, Pool(2, childconcurrency=2) as pool:
        names = [str(number) for number in range(8)]
        tasks = {name: pool.submit(gate.through, door.path, name) for name in names}
        await door.count(4)  # two in each worker, four are waiting
        started = list(door.news)
        victim = door.pids[started[0]]
        lost = [name for name in started if door.pids[name] == victim]
        assert len(lost) == 2
        os.kill(victim, signal.SIGKILL)
        for name in lost:
            with pytest.raises(WorkerDied) as caught:
                await tasks[name]
            assert caught.value.pid == victim
            assert caught.value.signal == signal.SIGKILL
            assert caught.value.exit_status is None
            assert str(victim) in str(caught.value)
        for name in names:
            if name not in lost:
                await door.arrived(name)
                door.open(name)
                assert await tasks[name] == name
        # The place is filled again: both workers take part.
        tasks = {name: pool.submit(gate.through, door.path, "new" + name) for name in names[:4]}
        await door.arrived(*("new" + name for name in names[:4]))
        assert len({door.pids["new" + name] for name in names[:4]} - {victim}) == 2


@pytest.mark.versions
async def test_a_worker_that_exits_is_named_with_its_status() -> None:
    async with Pool(1) as pool:
        waiting = pool.submit(calls.add, 1, 2)
        with pytest.raises(WorkerDied) as caught:
            await pool.apply(os._exit, (7,))
        assert caught.value.exit_status == 7 and caught.value.signal == 0
        assert await waiting == 3
        assert await pool.apply(calls.add, (3, 4)) == 7


async def test_a_death_costs_a_map_only_what_was_running() -> None:
    """Items of the same chunk that were finished or not started are not lost."""
    async with gate.Gate() as door, Pool(1, childconcurrency=1) as pool:
        results = aiter(
            pool.starmap(calls.meet_gate, [(door.path, n, n == 5) for n in range(10)], chunksize=10)
        )
        await door.arrived("5")
        assert [await anext(results) for _ in range(5)] == list(range(5))
        os.kill(door.pids["5"], signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await anext(results)


async def test_unstarted_calls_of_a_dead_worker_run_elsewhere() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=1) as pool:
        blocked = pool.submit(gate.through_blocking, door.path, "a")
        rest = [pool.submit(calls.add, number) for number in range(100)]
        result = pool.map(calls.add, range(100), chunksize=10)
        await door.arrived("a")
        os.kill(door.pids["a"], signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await blocked
        assert await asyncio.gather(*rest) == list(range(100))
        assert await result == list(range(100))


async def test_workers_may_die_again_and_again() -> None:
    async with Pool(2) as pool:
        for _ in range(5):
            with pytest.raises(WorkerDied):
                await pool.apply(os._exit, (0,))
            assert await pool.apply(calls.add, (1, 1)) == 2


@pytest.mark.versions
@pytest.mark.parametrize("initializer", [calls.set_mark, calls.set_mark_async])
async def test_the_initializer_runs_once_in_each_worker(initializer: Any) -> None:
    async with Pool(2, initializer, ["a", {"b": 1}]) as pool:
        for marks in await pool.starmap(calls.get_marks, [()] * 20, chunksize=1):
            assert marks == ["a", {"b": 1}]
        with pytest.raises(WorkerDied):
            await pool.apply(os._exit, (0,))
        for marks in await pool.starmap(calls.get_marks, [()] * 20, chunksize=1):
            assert marks == ["a", {"b": 1}]


@pytest.mark.versions
async def test_loop_initializer(loop_initializer: Callable[[], Any] | None) -> None:
    async with Pool(2, loop_initializer=loop_initializer) as pool:
        kind = await pool.apply(calls.loop_type)
        assert kind.startswith("uvloop" if loop_initializer else "asyncio")
        assert await pool.map(calls.later, range(500)) == list(range(500))
        assert await pool.map(calls.add, range(50_000)) == list(range(50_000))


@pytest.mark.versions
async def test_system_exit_in_a_child_task_does_not_end_the_worker(
    loop_initializer: Callable[[], Any] | None,
) -> None:
    async with Pool(1, loop_initializer=loop_initializer) as pool:
        before = await pool.apply(calls.pid)
        assert await pool.apply(calls.child_task_exits) == "still here"
        assert await pool.apply(calls.pid) == before


async def test_interrupting_the_group_does_not_end_workers() -> None:
    async with Pool(1) as pool:
        worker = await pool.apply(calls.pid)
        os.kill(worker, signal.SIGINT)
        assert await pool.apply(calls.pid) == worker


async def test_closed_workers_leave_in_good_order(tmp_path: Path) -> None:
    pool = Pool(1)
    path = tmp_path / "left"
    await pool.apply(calls.write_at_exit, (str(path),))
    await pool.apply(calls.leave_task_behind, (str(path),))
    pool.close()
    await pool.join()
    assert path.read_text() == "task atexit "


async def test_a_socket_is_served_while_there_is_one_call_after_the_other() -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        held = pool.submit(gate.through, door.path, "held")
        await door.arrived("held")
        stop = asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                await pool.map(calls.busy, [0.0002] * 20, chunksize=1)

        loading = asyncio.create_task(load())
        door.open("held")
        assert await held == "held"
        stop.set()
        await loading


async def test_timers_run_while_a_chunk_does() -> None:
    async with Pool(1) as pool:
        timer = pool.submit(calls.nap, 0.02)
        work = pool.map(calls.busy, [0.001] * 200, chunksize=200)
        assert await timer == 0.02
        assert not work.done()
        work.cancel()


async def test_a_busy_loop_takes_new_calls_and_cancels() -> None:
    async with Pool(1) as pool:
        spinner = pool.submit(calls.spin_forever)
        assert await pool.apply(calls.add, (1, 2)) == 3
        spinner.cancel()
        assert await pool.apply(calls.spins) > 0
        while await pool.apply(calls.spinning):
            pass


async def test_pools_side_by_side() -> None:
    async with Pool(1) as first, Pool(1) as second:
        assert await first.apply(calls.pid) != await second.apply(calls.pid)


async def test_a_task_may_use_a_pool_of_its_own() -> None:
    async with Pool(1) as pool:
        assert await pool.apply(calls.nested, (5,)) == 5
