"""Worker state, initializer and finalizer, what a task knows of itself, blocking functions."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import calls
import gate
import lives
import pytest

import aiomq
from aiomq import Pool


async def closed(pool: Pool) -> None:
    pool.close()
    await pool.join()


# --- worker state ---------------------------------------------------------------------------------


@pytest.mark.versions
async def test_tasks_of_a_worker_share_its_state() -> None:
    async with Pool(2, lives.start, ["text"]) as pool:
        counts = await asyncio.gather(*(pool.apply(lives.count) for _ in range(20)))
        by_worker: dict[int, list[int]] = {}
        for pid, number in counts:
            by_worker.setdefault(pid, []).append(number)
        assert all(sorted(seen) == [*range(1, len(seen) + 1)] for seen in by_worker.values())
        assert await pool.apply(lives.text_of) == "text"
    async with Pool(1, lives.plain_start) as pool:
        assert await pool.apply(lives.text_of) == "plain"


async def test_a_worker_that_is_replaced_begins_anew() -> None:
    async with Pool(1, lives.start, ["text"], maxtasksperchild=1) as pool:
        for _ in range(3):
            assert (await pool.apply(lives.count))[1] == 1
    async with Pool(1) as pool:
        assert await pool.apply(lives.names_of_state) == []


def test_state_is_for_workers() -> None:
    with pytest.raises(RuntimeError, match="outside of a worker"):
        aiomq.worker_state()


# --- finalizer ------------------------------------------------------------------------------------


@pytest.mark.versions
async def test_the_finalizer_runs_once_in_each_worker_that_leaves(tmp_path: Path) -> None:
    end = tmp_path / "end"
    pool = Pool(2, lives.start, [str(end)], finalizer=lives.write_end)
    async with pool:
        counts = [await pool.apply(lives.count) for _ in range(6)]
        last = dict(counts)
        await closed(pool)
    lines = [line.split() for line in end.read_text().splitlines()]
    assert len(lines) == 2
    assert {int(pid): int(count) for pid, count in lines if int(count)} == last


async def test_a_worker_that_is_replaced_ends_in_order(tmp_path: Path) -> None:
    end = tmp_path / "end"
    async with Pool(
        1, lives.start, [str(end)], maxtasksperchild=1, finalizer=lives.write_end
    ) as pool:
        pids = [(await pool.apply(lives.count))[0] for _ in range(3)]
        assert [int(line.split()[0]) for line in end.read_text().splitlines()][:2] == pids[:2]


async def test_a_plain_finalizer_and_a_bad_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    end = tmp_path / "end"
    monkeypatch.setenv("AIOMQ_TEST_END", str(end))
    async with Pool(1, finalizer=lives.plain_end) as pool:
        await closed(pool)
    assert end.read_text() == "ended\n"
    async with Pool(1, finalizer=lives.bad_end) as pool:
        await closed(pool)
    assert "ValueError: bad end" in capfd.readouterr().err


async def test_a_killed_worker_runs_no_finalizer(tmp_path: Path) -> None:
    end = tmp_path / "end"
    async with Pool(1, lives.start, [str(end)], finalizer=lives.write_end) as pool:
        pid, _ = await pool.apply(lives.count)
        os.kill(pid, signal.SIGKILL)
        while (await pool.apply(lives.count))[0] == pid:
            await asyncio.sleep(0)
        await closed(pool)
    (line,) = end.read_text().splitlines()  # its successor's
    assert int(line.split()[0]) != pid


async def test_what_tasks_have_left_on_the_loop_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "note"
    async with Pool(1) as pool:
        await pool.apply(lives.leave_behind, (str(note),))
        await closed(pool)
    assert note.read_text() == "cancelled"


async def test_a_worker_forgets_a_chunk_whose_last_item_ends_at_once() -> None:
    async with Pool(1, childconcurrency=1) as pool:
        for _ in range(3):  # the first item suspends, the others wait for its permit
            assert await pool.map(calls.sometimes_later, [0, 1, 2], chunksize=3) == [0, 1, 2]
        assert await pool.apply(lives.jobs_that_are_remembered) == 0


def test_a_finalizer_must_be_callable_and_picklable() -> None:
    with pytest.raises(TypeError, match="finalizer must be callable"):
        Pool(1, finalizer=5)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="finalizer can't be pickled"):
        Pool(1, finalizer=lambda: None)


# --- current_task() -------------------------------------------------------------------------------


@pytest.mark.versions
async def test_a_task_knows_what_it_is() -> None:
    async with Pool(1) as pool:
        task = pool.options(timeout=5).submit(lives.info)
        assert await task == aiomq.TaskInfo(task.id or 0, 0, 1, "lives:info", 5.0)
        for function in (lives.info_at_once, lives.info_late, lives.plain_info):
            infos = await pool.map(function, range(10), chunksize=5)
            assert [info.item for info in infos] == [0, 1, 2, 3, 4] * 2
            assert {info.name for info in infos} == {f"lives:{function.__name__}"}
            assert len({info.id for info in infos}) == 2
            assert {(info.attempt, info.timeout) for info in infos} == {(1, None)}
        (threaded,) = await pool.map(aiomq.blocking(lives.info_in_thread), [0])
        assert threaded.name == "lives:info_in_thread:blocking"
        again = pool.options(retries=1)
        assert await again.apply(lives.die_once) == 2


async def test_current_task_outside_of_a_task() -> None:
    with pytest.raises(RuntimeError, match="outside"):
        aiomq.current_task()
    async with Pool(1) as pool:
        assert "has made" in await pool.apply(lives.info_of_a_stranger)


# --- blocking functions ---------------------------------------------------------------------------


@pytest.mark.versions
async def test_blocking_functions_overlap_and_stall_no_coroutine() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=4) as pool:
        meet = aiomq.blocking(lives.meet)
        names = ["a", "b", "c"]
        tasks = [pool.submit(meet, door.path, name) for name in names]
        await door.arrived(*names)  # all at once, in one worker
        beside = pool.submit(lives.beside, door.path, "d")
        await door.arrived("d")
        door.open("d")
        assert await beside == "d"
        door.open(*names)
        assert await asyncio.gather(*tasks) == names


async def test_blocking_is_a_decorator_too() -> None:
    assert lives.decorated(2) == (4, False)
    assert lives.decorated.__name__ == "decorated"
    async with Pool(1) as pool:
        assert await pool.map(lives.decorated, [1, 2]) == [(2, True), (4, True)]
        assert await pool.apply(aiomq.blocking(lives.decorated), (3,)) == (6, True)
        assert await pool.map(aiomq.blocking(len), ["a", "bb"]) == [1, 2]


async def test_errors_of_blocking_functions() -> None:
    async with Pool(1) as pool:
        run = aiomq.blocking(lives.raise_in_thread)
        with pytest.raises(ValueError, match="bad"):
            await pool.apply(run, ("value",))
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.apply(run, ("stop",))
        with pytest.raises(aiomq.RemoteError, match="SystemExit: 3"):
            await pool.apply(run, ("exit",))
        assert await pool.apply(aiomq.blocking(len), ("abc",)) == 3


async def test_a_cancelled_blocking_function_goes_on_and_one_that_waits_never_starts(
    tmp_path: Path,
) -> None:
    note = tmp_path / "note"
    async with gate.Gate() as door, Pool(1, childconcurrency=1) as pool:
        run = aiomq.blocking(lives.meet_and_note)
        first = pool.submit(run, door.path, "a", str(note))
        second = pool.submit(run, door.path, "b", str(note))
        await door.arrived("a")
        first.cancel()
        second.cancel()
        last = pool.submit(run, door.path, "c", str(note))
        door.open("a")
        await door.arrived("c")  # its turn comes when the thread is free
        assert note.read_text() == "a"
        door.open("c")
        assert await last == "c"
        assert "b" not in door.news


async def test_a_blocking_function_that_runs_too_long_costs_its_worker() -> None:
    async with Pool(1, grace=0.1) as pool:
        pid = await pool.apply(os.getpid)
        with pytest.raises(aiomq.TaskTimeout):
            await pool.options(timeout=0.1).apply(aiomq.blocking(lives.sleep_in_thread), (60,))
        assert await pool.apply(os.getpid) != pid


def test_what_can_not_be_blocking() -> None:
    async def asynchronous() -> None: ...

    with pytest.raises(TypeError, match="callable"):
        aiomq.blocking(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="coroutine function"):
        aiomq.blocking(asynchronous)


async def test_a_blocking_lambda_is_refused_as_a_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    function: Any = aiomq.blocking(lambda: None)
    async with Pool(1) as pool:
        with pytest.raises(ValueError, match="lambda"):
            await pool.apply(function)
