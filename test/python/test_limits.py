"""start_within, timeout, retries, poison_limit, cancelling: what a call is allowed, and no more."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import calls
import gate
import limited
import pytest

import aiomq
from aiomq import Pool, PoolResult, StartExpired, TaskTimeout, WorkerDied


@pytest.mark.versions
async def test_what_has_not_started_in_time_never_runs() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=1) as pool:
        blocking = pool.submit(gate.through, door.path, "a")
        await door.arrived("a")
        late = pool.options(start_within=0.05).submit(gate.through, door.path, "late")
        with pytest.raises(StartExpired):
            await late
        door.open("a")
        assert await blocking == "a"
        assert await pool.apply(calls.add, (1, 2)) == 3
        assert "late" not in door.news


async def test_what_starts_in_time_may_take_its_time() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=1) as pool:
        view = pool.options(start_within=0.5)
        task = view.submit(gate.through, door.path, "a")
        await door.arrived("a")
        with pytest.raises(StartExpired):
            await view.submit(gate.through, door.path, "late")
        door.open("a")
        assert await task == "a"


@pytest.mark.versions
async def test_a_timeout_cancels_the_coroutine_where_it_waits(bridge: str) -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        worker = await pool.apply(calls.pid)
        task = pool.options(timeout=0.1).submit(gate.through, door.path, "a")
        with pytest.raises(TaskTimeout, match=r"through\(\) ran longer than its timeout of 0\.1 s"):
            await task
        await door.arrived("a", "a-cancelled")
        error = task.exception()
        assert isinstance(error, TaskTimeout) and isinstance(error, TimeoutError)
        assert "await reader.readline()" in error.stack
        assert error.stack in str(error.__cause__).replace('"""\n', "") + "\n"
        assert await pool.apply(calls.pid) == worker


async def test_a_timeout_counts_from_the_start_of_each_item() -> None:
    async with Pool(1, childconcurrency=2) as pool:
        # Ten seconds' worth of naps, two at a time, each well within its time.
        view = pool.options(timeout=2)
        assert await view.map(calls.nap, [0.05] * 60, chunksize=60) == [0.05] * 60


async def test_only_the_slow_item_of_a_map_times_out() -> None:
    async with Pool(1) as pool:
        with pytest.raises(TaskTimeout):
            await pool.options(timeout=0.1).map(calls.nap, [0, 0, 60, 0], chunksize=4)
        assert await pool.apply(calls.add, (1, 2)) == 3


@pytest.mark.parametrize("end", ["value", "error"])
async def test_a_coroutine_that_ends_otherwise_has_that_outcome(end: str) -> None:
    async with Pool(1) as pool:
        task = pool.options(timeout=0.05).submit(limited.swallow_cancel, end)
        if end == "value":
            assert await task == "value"
        else:
            with pytest.raises(LookupError, match="error"):
                await task


async def test_a_task_that_cancels_itself_in_time_is_cancelled() -> None:
    async with Pool(1) as pool:
        task = pool.options(timeout=60).submit(calls.raise_named_late, "CancelledError")
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.versions
@pytest.mark.parametrize("function", [limited.spin, limited.spin_late, limited.block])
async def test_what_does_not_yield_is_killed_after_grace(function: Any) -> None:
    async with Pool(1, grace=0.3) as pool:
        for _ in range(5):  # a busy machine may give a worker no CPU for its last words
            worker = await pool.apply(calls.pid)
            begin = time.monotonic()
            with pytest.raises(TaskTimeout) as caught:
                await pool.options(timeout=0.2).apply(function)
            assert 0.4 < time.monotonic() - begin < 10
            if caught.value.stack:
                break
        assert f"in {function.__name__}" in caught.value.stack
        assert "limited.py" in caught.value.stack and "_pump.py" not in caught.value.stack
        assert not Path(f"/proc/{worker}").exists() or await pool.apply(calls.pid) != worker
        assert await pool.apply(calls.add, (1, 2)) == 3


async def test_only_the_culprit_times_out() -> None:
    async with gate.Gate() as door, Pool(1, grace=0.2) as pool:
        neighbour = pool.options(retries=1).submit(gate.through, door.path, "a")
        await door.arrived("a")
        culprit = pool.options(timeout=0.1).submit(limited.spin)
        queued = [pool.submit(calls.add, number) for number in range(20)]
        with pytest.raises(TaskTimeout):
            await culprit
        assert await asyncio.gather(*queued) == list(range(20))
        await door.count(2)  # it was started again
        door.open("a")
        assert await neighbour == "a"


async def test_retries_run_again_what_had_started(tmp_path: Path) -> None:
    async with Pool(1) as pool:
        assert await pool.options(retries=2).apply(limited.die_times, (str(tmp_path / "a"), 2)) == 2
        with pytest.raises(WorkerDied):
            await pool.options(retries=1).apply(limited.die_times, (str(tmp_path / "b"), 2))
        assert (tmp_path / "b").stat().st_size == 2


async def test_a_map_runs_again_only_what_has_no_result(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    async with Pool(1, childconcurrency=1) as pool:
        view = pool.options(retries=1)
        arguments = [(log, number, number == 5) for number in range(10)]
        assert await view.starmap(limited.note_and_die_once, arguments, chunksize=10) == list(
            range(10)
        )
    runs = [int(line) for line in Path(log).read_text().split()]
    assert sorted(runs) == sorted([*range(10), 5])


async def test_poison_is_not_retried_for_ever(tmp_path: Path) -> None:
    async with Pool(1, poison_limit=2) as pool:
        with pytest.raises(WorkerDied, match="2"):
            await pool.options(retries=1000).apply(limited.die_times, (str(tmp_path / "a"), 1000))
        assert (tmp_path / "a").stat().st_size == 2
        assert await pool.apply(calls.add, (1, 2)) == 3


def _call(pool: Pool, way: str, path: str, name: str) -> asyncio.Future[Any] | PoolResult[str]:
    """gate.through(path, name), as something that can be cancelled."""
    if way == "apply":
        return asyncio.ensure_future(pool.apply(gate.through, (path, name)))
    if way == "map":
        return pool.starmap(gate.through, [(path, name)])
    return pool.submit(gate.through, path, name)


@pytest.mark.parametrize("way", ["submit", "apply", "map"])
async def test_cancelling_reaches_the_coroutine_past_a_long_queue(way: str) -> None:
    tries = 5
    times = []
    async with gate.Gate() as door, Pool(1, childconcurrency=1, capacity=16384) as pool:
        for name in map(str, range(tries)):
            running = _call(pool, way, door.path, name)
            await door.arrived(name)
            queued = [pool.submit(calls.add, number) for number in range(10_000)]
            begin = time.monotonic()
            running.cancel()
            await door.arrived(f"{name}-cancelled")
            times.append(time.monotonic() - begin)
            assert await asyncio.gather(*queued) == list(range(10_000))
    # The shortest: what it takes when the machine does not do something else just then.
    assert min(times) < 0.05, times


async def test_what_is_cancelled_before_it_starts_never_runs() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=1) as pool:
        first = pool.submit(gate.through, door.path, "a")
        await door.arrived("a")
        queued = [pool.submit(gate.through, door.path, "never") for _ in range(100)]
        result = pool.map(calls.nap, [60] * 1000)
        for task in (*queued, result):
            task.cancel()
        door.open("a")
        assert await first == "a"
        assert await pool.apply(calls.add, (1, 2)) == 3
        assert door.news == ["a"]
        assert not pool._dispatcher.life.pending


async def test_results_that_nobody_waits_for_are_released() -> None:
    async with Pool(1, max_memory=16 << 20) as pool:
        for _ in range(40):
            pool.submit(bytes, 1 << 20).cancel()
            pool.submit(bytes, 1 << 20)  # nobody keeps the Task
        assert len(await pool.apply(bytes, (4 << 20,))) == 4 << 20


async def test_a_timeout_and_a_death_at_once() -> None:
    async with Pool(1, grace=60) as pool, Pool(1) as clock:
        task = pool.options(timeout=0.05).submit(limited.spin)
        worker = pool.submit(calls.pid)
        with pytest.raises(TaskTimeout):  # it starts later: the one that spins is over time then
            await clock.options(timeout=0.3).submit(calls.nap, 60)
        os.kill(_worker_of(pool), signal.SIGKILL)
        with pytest.raises((WorkerDied, TaskTimeout)):
            await task
        await worker


def _worker_of(pool: Pool) -> int:
    """The pid of the only worker, found by its title."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                title = Path("/proc", entry, "cmdline").read_bytes()
                parent = Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()[1]
            except OSError:
                continue
            if int(parent) == os.getpid() and title.startswith(f"aiomq: {pool.label}".encode()):
                return int(entry)
    raise AssertionError


def test_timeouts_are_exported() -> None:
    assert aiomq.TaskTimeout is TaskTimeout and aiomq.StartExpired is StartExpired
