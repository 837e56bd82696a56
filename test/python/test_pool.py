"""Calls in a pool, and the life of a pool."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import signal
import subprocess
import warnings
from pathlib import Path
from typing import Any

import calls
import gate
import pytest
import waits_at_import
from running import run_script

import aiomq
from aiomq import Pool, QueueFull, _bridge


@pytest.mark.versions
async def test_submit_takes_coroutine_functions_and_plain_functions() -> None:
    async with Pool(2) as pool:
        tasks = [pool.submit(calls.add, 1, b=2), pool.submit(calls.plain_add, 3, 4)]
        tasks.append(pool.submit(calls.make_add, 5, b=6))
        assert not tasks[0].done()
        ids = [task.id for task in tasks]
        assert None not in ids and len(set(ids)) == 3
        assert await asyncio.gather(*tasks) == [3, 7, 11]
        assert tasks[0].done()


async def test_submit_passes_any_keyword_on() -> None:
    async with Pool(1) as pool:
        assert await pool.submit(dict, fn=1, self=2, args=3) == {"fn": 1, "self": 2, "args": 3}


@pytest.mark.versions
async def test_apply() -> None:
    async with Pool(1) as pool:
        assert await pool.apply(calls.add, (1,), {"b": 2}) == 3
        assert await pool.apply(calls.add, [1]) == 1
        assert await pool.apply(dict) == {}
        assert await asyncio.create_task(pool.apply(calls.add, (1, 1))) == 2


async def test_importable_functions_go_by_reference() -> None:
    async with Pool(1) as pool:
        assert await pool.apply(calls.Tool.twice, (4,)) == 8
        assert await pool.apply(calls.Tool.named, (4,)) == "Tool 4"
        assert await pool.apply(len, ("four",)) == 4
        assert await pool.apply(str.upper, ("up",)) == "UP"
        assert await pool.apply(int.from_bytes, (b"\x01\x00", "big")) == 256
        assert await pool.apply(calls.Custom, ("made", 1)) is not None


async def test_many_calls_at_once() -> None:
    async with Pool(2) as pool:
        tasks = [pool.submit(calls.later, number) for number in range(500)]
        assert await asyncio.gather(*tasks) == list(range(500))


async def test_one_worker_runs_childconcurrency_calls_at_once() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=3) as pool:
        names = [str(number) for number in range(5)]
        tasks = [pool.submit(gate.through, door.path, name) for name in names]
        await door.arrived("0", "1", "2")
        assert door.news == ["0", "1", "2"]
        door.open("1")
        assert await tasks[1] == "1"
        await door.arrived("3")
        assert len(door.news) == 4
        door.open("0", "2", "3")
        await door.arrived("4")
        door.open("4")
        assert await asyncio.gather(*tasks) == names


@pytest.mark.versions
async def test_cancelling_a_running_call_ends_it_here_at_once_and_there_soon() -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        task = pool.submit(gate.through, door.path, "a")
        await door.arrived("a")
        assert task.cancel()
        assert task.cancelled() and not task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await door.arrived("a-cancelled")
        assert await pool.apply(calls.add, (1, 2)) == 3


async def test_a_cancel_reaches_a_worker_that_has_no_permit_left() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=1) as pool:
        task = pool.submit(gate.through, door.path, "a")
        await door.arrived("a")
        task.cancel()
        await door.arrived("a-cancelled")


async def test_a_call_cancelled_before_it_started_never_starts() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=1) as pool:
        first = pool.submit(gate.through, door.path, "first")
        await door.arrived("first")
        second = pool.submit(gate.through, door.path, "second")
        third = pool.submit(calls.add, 1, 2)
        second.cancel()
        door.open("first")
        assert await first == "first"
        assert await third == 3
        assert door.news == ["first"]


async def test_cancelling_the_awaiting_task_cancels_the_call() -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        awaiting = asyncio.ensure_future(pool.apply(gate.through, (door.path, "a")))
        await door.arrived("a")
        awaiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaiting
        await door.arrived("a-cancelled")


async def test_a_call_that_is_cancelled_while_its_module_is_imported_never_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    async with gate.Gate() as door:
        monkeypatch.setenv("AIOMQ_TEST_GATE", door.path)
        async with Pool(1) as pool:
            task = pool.submit(waits_at_import.touch, str(ran))
            await door.arrived("import")
            assert task.cancel()
            door.open("import")
            assert await pool.apply(calls.add, (1, 1)) == 2
            assert not ran.exists()


async def test_submit_nowait_raises_and_submit_waits_when_slots_are_full() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=1, capacity=4) as pool:
        tasks = [pool.submit(gate.through, door.path, "0")]
        await door.arrived("0")
        with pytest.raises(QueueFull):
            for _ in range(100):
                tasks.append(pool.submit_nowait(calls.add, 1, 1))
        values = [1, 2]
        waiting = pool.submit(calls.same, values)
        values.append(3)  # too late: the arguments were encoded at the call
        dropped = pool.submit(calls.same, 0)
        last = pool.submit(calls.same, "last")
        assert waiting.id is None and not waiting.done()
        assert dropped.cancel()
        with pytest.raises(QueueFull):
            pool.submit_nowait(calls.add, 1, 1)
        door.open("0")
        assert await waiting == [1, 2]
        assert await last == "last"
        assert waiting.id is not None
        assert (await asyncio.gather(*tasks))[1:] == [2] * (len(tasks) - 1)


async def test_many_more_calls_than_slots() -> None:
    async with Pool(2, capacity=8) as pool:
        tasks = [pool.submit(calls.add, number) for number in range(1000)]
        assert await asyncio.gather(*tasks) == list(range(1000))


@pytest.mark.versions
@pytest.mark.parametrize("options", ["capacity=1", "max_memory=1 << 20"])
def test_a_pool_with_little_room_in_a_uvloop(options: str) -> None:
    pytest.importorskip("uvloop")
    done = run_script(
        f"""
        import asyncio, aiomq, calls, uvloop

        async def main():
            async with aiomq.Pool(2, {options}) as pool:
                assert await pool.map(calls.add, range(2000)) == list(range(2000))
                texts = ["x" * 1000] * 300
                assert await pool.map(calls.later, texts) == texts
                tasks = [pool.submit(calls.later, number) for number in range(50)]
                assert await asyncio.gather(*tasks) == list(range(50))
                seen = [value async for value in pool.map(calls.add, range(500))]
                assert seen == list(range(500))

        loop = uvloop.new_event_loop()
        loop.run_until_complete(main())
        print("fine")
        """
    )
    assert done.stdout == "fine\n", done.stderr


async def test_more_arguments_than_memory_wait_for_room() -> None:
    async with Pool(1, max_memory=8 << 20) as pool:
        tasks = [pool.submit(len, b"x" * (1 << 20)) for _ in range(20)]
        assert await asyncio.gather(*tasks) == [1 << 20] * 20


async def test_results_wait_for_room_in_the_worker() -> None:
    async with Pool(1, max_memory=8 << 20) as pool:
        assert [len(r) for r in await pool.map(bytes, [1 << 20] * 20)] == [1 << 20] * 20
        tasks = [pool.submit(calls.later, b"x" * (1 << 20)) for _ in range(20)]
        assert [len(r) for r in await asyncio.gather(*tasks)] == [1 << 20] * 20


@pytest.mark.versions
async def test_close_lets_calls_finish_and_join_waits_for_them() -> None:
    async with gate.Gate() as door:
        pool = Pool(1)
        with pytest.raises(RuntimeError, match="pool is still open"):
            await pool.join()
        task = pool.submit(gate.through, door.path, "a")
        queue = [pool.submit(calls.add, number) for number in range(50)]
        await door.arrived("a")
        pool.close()
        pool.close()
        for call in (pool.submit, pool.submit_nowait):
            with pytest.raises(RuntimeError, match="pool is closed"):
                call(calls.add, 1)
        with pytest.raises(RuntimeError, match="pool is closed"):
            await pool.apply(calls.add, (1,))
        with pytest.raises(RuntimeError, match="pool is closed"):
            pool.map(calls.add, [1])
        joining = asyncio.gather(pool.join(), pool.join())
        door.open("a")
        await joining
        assert task.result() == "a"
        assert [call.result() for call in queue] == list(range(50))
        await pool.join()
        pool.terminate()


async def test_close_still_submits_what_waits_for_room() -> None:
    pool = Pool(1, capacity=4)
    tasks = [pool.submit(calls.add, number) for number in range(100)]
    result = pool.map(calls.add, range(100), chunksize=1)
    pool.close()
    await pool.join()
    assert [task.result() for task in tasks] == list(range(100))
    assert await result == list(range(100))


@pytest.mark.versions
async def test_terminate_fails_pending_calls() -> None:
    async with gate.Gate() as door:
        pool = Pool(1, childconcurrency=1, capacity=4)
        tasks = [pool.submit(gate.through, door.path, str(number)) for number in range(8)]
        result = pool.map(calls.add, range(10))
        await door.arrived("0")
        pool.terminate()
        for waiting in (*tasks, result):
            with pytest.raises(RuntimeError, match="pool was terminated"):
                await waiting
        await pool.join()


async def test_leaving_the_with_block_terminates() -> None:
    async with gate.Gate() as door:
        async with Pool(1) as pool:
            task = pool.submit(gate.through, door.path, "a")
            await door.arrived("a")
        with pytest.raises(RuntimeError, match="pool was terminated"):
            await task


def test_a_pool_can_be_made_and_ended_outside_of_a_loop() -> None:
    pool = Pool(1)
    result = pool.map(calls.add, [1, 2, 3])
    with pytest.raises(RuntimeError, match="no running event loop"):
        pool.submit(calls.add, 1)

    async def use() -> list[int]:
        return await result

    assert asyncio.run(use()) == [1, 2, 3]
    pool.terminate()
    asyncio.run(pool.join())


@pytest.mark.versions
def test_a_pool_follows_to_the_next_loop_when_its_loop_is_closed() -> None:
    pool = Pool(1)

    async def use(number: int) -> int:
        pool.submit(calls.nap, 60)  # nobody waits for it: its loop will be gone
        return await pool.apply(calls.add, (number,))

    assert [asyncio.run(use(number)) for number in range(3)] == [0, 1, 2]
    pool.terminate()
    asyncio.run(pool.join())


def test_a_second_loop_that_lives_is_an_error() -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    pool = Pool(1)
    assert first.run_until_complete(pool.apply(calls.add, (1,))) == 1
    with pytest.raises(RuntimeError, match="another event loop"):
        second.run_until_complete(pool.apply(calls.add, (1,)))
    second.close()
    pool.terminate()
    first.run_until_complete(pool.join())
    first.close()


@pytest.mark.versions
def test_an_unclosed_pool_at_exit_gives_a_warning_and_leaves_nothing() -> None:
    done = run_script(
        """
        import asyncio, aiomq, calls, logging
        logging.basicConfig(level=logging.DEBUG)
        pool = aiomq.Pool(1, label="forgotten")
        async def main():
            print(await pool.apply(calls.pid))
            pool.submit(calls.nap, 60)
        asyncio.run(main())
        """,
        "-Wdefault",
    )
    assert done.returncode == 0, done.stderr
    assert "ResourceWarning: unclosed pool 'forgotten'" in done.stderr
    assert not Path(f"/proc/{int(done.stdout)}").exists()


async def test_a_pool_that_nobody_holds_is_collected_with_a_warning() -> None:
    pool = Pool(1)
    worker = await pool.apply(calls.pid)
    await asyncio.sleep(0)  # the loop itself refers to the last call until this task suspends
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert not Path(f"/proc/{worker}").exists()


async def test_a_pending_call_keeps_its_pool() -> None:
    finished = asyncio.Event()

    def submit(path: str) -> None:
        task = Pool(1).submit(gate.through, path, "a")
        task.add_done_callback(lambda _: finished.set())

    async with gate.Gate() as door:
        submit(door.path)
        await door.arrived("a")
        gc.collect()
        with pytest.warns(ResourceWarning, match="unclosed pool"):
            door.open("a")
            await finished.wait()
            await asyncio.sleep(0)
            gc.collect()


def test_a_pool_goes_with_its_loop() -> None:
    async def use() -> None:
        pool = Pool(1)
        await pool.apply(calls.add, (1,))
        pool.submit(calls.nap, 60)

    asyncio.run(use())
    with pytest.warns(ResourceWarning, match="unclosed pool"):
        gc.collect()


async def test_an_error_inside_the_dispatcher_ends_all_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def collect(*_: object) -> list[Any]:
        raise OSError("damaged")

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with gate.Gate() as door, Pool(1) as pool:
        waiting = pool.submit(gate.through, door.path, "a")
        await door.arrived("a")
        with monkeypatch.context() as patch:
            patch.setattr(_bridge, "collect", collect)
            with pytest.raises(RuntimeError, match="pool was terminated") as caught:
                await pool.apply(calls.add, (1,))
            assert isinstance(caught.value.__cause__, OSError)
            with pytest.raises(RuntimeError, match="pool was terminated"):
                await waiting
        for again in (lambda: pool.submit(calls.add, 1), lambda: pool.map(calls.add, [1])):
            with pytest.raises(RuntimeError, match="pool was terminated"):
                again()


def test_importing_aiomq_loads_nothing_heavy() -> None:
    done = run_script(
        """
        import sys
        import aiomq
        print([name for name in sys.modules if name.startswith("aiomq.")])
        heavy = "asyncio", "multiprocessing", "ctypes", "concurrent.futures", "typing_extensions"
        print([name for name in heavy if name in sys.modules])
        print(sorted(set(aiomq.__all__) - set(dir(aiomq))), aiomq.Pool.__name__)
        """
    )
    assert done.stdout.splitlines() == ["[]", "[]", "[] Pool"], done.stderr


async def test_a_worker_loads_only_what_a_worker_needs() -> None:
    async with Pool(1) as pool:
        loaded = await pool.apply(calls.modules)
    assert "aiomq._pump" in loaded
    needless = ["_pool", "_dispatcher", "_create", "_errors", "_result", "_task"]
    if _bridge.NATIVE:
        needless.append("_abi_full")
    for module in needless:
        assert f"aiomq.{module}" not in loaded
    for module in ("concurrent.futures.process", "multiprocessing.queues", "multiprocessing.pool"):
        assert module not in loaded


@pytest.mark.versions
async def test_a_worker_shows_its_label_and_knows_its_index() -> None:
    async with Pool(2, label="shown") as pool:
        assert pool.label == "shown" and pool.processes == 2
        async with gate.Gate() as door:
            for name in ("a", "b"):
                blocked = pool.submit(gate.through_blocking, door.path, name)
                await door.arrived(name)
                index = "0" if _title(door.pids[name]).endswith("/0") else "1"
                assert _title(door.pids[name]) == f"aiomq: shown/{index}"
                door.open(name)
                await blocked
        indexes = await asyncio.gather(
            *(pool.submit(calls.environment, "AIOMQ_WORKER_INDEX") for _ in range(20))
        )
        assert set(indexes) <= {"0", "1"} and indexes[0] is not None


def _title(pid: int) -> str:
    if shutil.which("ps") is None:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    done = subprocess.run(
        ["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_processes_defaults_to_the_cpus_of_this_process() -> None:
    done = run_script(
        """
        import os, asyncio, aiomq
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        async def main():
            async with aiomq.Pool() as pool:
                print(pool.processes)
        asyncio.run(main())
        """
    )
    assert done.stdout == "1\n", done.stderr


async def test_the_default_label_is_the_programs_name() -> None:
    async with Pool(1) as pool:
        assert pool.label in ("pytest", "py.test", "python")


async def test_events_reach_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiomq")
    async with Pool(1, label="logged") as pool:
        os.kill(await pool.apply(calls.pid), signal.SIGKILL)
        while not any(record.levelno == logging.WARNING for record in caplog.records):
            await pool.apply(calls.add, (1,))
    assert {record.name for record in caplog.records if record.name != "asyncio"} == {"aiomq"}
    assert all(
        "logged" in record.getMessage() for record in caplog.records if record.name == "aiomq"
    )


async def test_a_worker_has_no_threads_but_its_own() -> None:
    async with Pool(1) as pool:
        assert await pool.apply(calls.threads) == 1


def test_public_names() -> None:
    for name in aiomq.__all__:
        assert getattr(aiomq, name).__module__.partition(".")[0] == "aiomq"
    with pytest.raises(AttributeError, match="nothing"):
        _ = aiomq.nothing  # type: ignore[attr-defined]
