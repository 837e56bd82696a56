"""The table of ordinary accidents: each ends as documented, in seconds, and the pool goes on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import calls
import conftest
import gate
import mishaps
import pytest
from running import run_script

from aiomq import Pool, PoolBroken, RemoteError, WorkerDied

# A sanitizer makes the start of a worker ten times as long.
SLOW = float(os.environ.get("AIOMQ_TEST_SLOW", "1"))
SECONDS = 5 * SLOW


def soon(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Give the test so many seconds and no more."""

    @functools.wraps(test)
    async def bounded(**fixtures: Any) -> None:
        await asyncio.wait_for(test(**fixtures), SECONDS)

    return bounded


@pytest.fixture
def in_time() -> Iterator[None]:
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < SECONDS


async def still_works(pool: Pool) -> None:
    assert await pool.apply(calls.add, (1, 2)) == 3
    assert await pool.map(calls.add, range(10)) == list(range(10))


@soon
async def test_a_lambda_as_argument() -> None:
    async with Pool(1) as pool:
        with pytest.raises(pickle.PicklingError, match=r"argument 1 of same\(\).*lambda"):
            pool.submit(calls.same, lambda: 1)
        await still_works(pool)


@soon
async def test_an_argument_that_cannot_be_pickled() -> None:
    async with Pool(1) as pool:
        with pytest.raises(pickle.PicklingError, match="argument 1"):
            await pool.apply(calls.same, (threading.Lock(),))
        await still_works(pool)


@pytest.mark.parametrize("function", [calls.return_unpicklable, calls.return_unpicklable_late])
@soon
async def test_a_result_that_cannot_be_pickled(function: Any) -> None:
    async with Pool(1) as pool:
        with pytest.raises(pickle.PicklingError, match="the result can't be sent back"):
            await pool.apply(function)
        await still_works(pool)


@pytest.mark.parametrize("name", ["Unpicklable", "NeedsTwo"])
@soon
async def test_an_exception_that_cannot_travel(name: str) -> None:
    async with Pool(1) as pool:
        with pytest.raises(RemoteError, match=name):
            await pool.apply(calls.raise_named, (name,))
        await still_works(pool)


@soon
async def test_a_plain_function() -> None:
    async with Pool(1) as pool:
        assert await pool.apply(calls.plain_add, (1, 2)) == 3


@soon
async def test_an_async_generator_is_refused() -> None:
    async with Pool(1) as pool:
        for call in (pool.submit, lambda fn: pool.map(fn, [1])):
            with pytest.raises(TypeError, match="generate is an async generator"):
                call(mishaps.generate)
        await still_works(pool)


@pytest.mark.versions
@pytest.mark.parametrize("function", [mishaps.die, mishaps.die_late])
@pytest.mark.parametrize("how", ["SIGKILL", "os._exit", "stack overflow", "segfault"])
@soon
async def test_a_task_that_ends_its_worker(function: Any, how: str) -> None:
    async with Pool(1) as pool:
        waiting = pool.submit(calls.add, 1, 1)
        with pytest.raises(WorkerDied) as caught:
            await pool.apply(function, (how,))
        if how == "os._exit":
            assert caught.value.exit_status == 3
        else:
            signals = {"SIGKILL": signal.SIGKILL}.get(how, signal.SIGSEGV)
            assert caught.value.signal == signals
        assert await waiting == 2
        await still_works(pool)


@pytest.mark.parametrize("function", [mishaps.die, mishaps.die_late])
@pytest.mark.parametrize("how", ["SystemExit", "KeyboardInterrupt"])
@soon
async def test_a_task_that_raises_an_exit(function: Any, how: str) -> None:
    async with Pool(1) as pool:
        worker = await pool.apply(calls.pid)
        with pytest.raises(RemoteError, match=how):
            await pool.apply(function, (how,))
        assert await pool.apply(calls.pid) == worker


@soon
async def test_endless_recursion_is_an_error() -> None:
    async with Pool(1) as pool:
        with pytest.raises(RecursionError):
            await pool.apply(mishaps.recurse)
        await still_works(pool)


@soon
async def test_an_initializer_that_raises() -> None:
    with pytest.raises(PoolBroken, match="no such table"):
        async with Pool(2, calls.broken_initializer):
            pass


@soon
async def test_an_initializer_that_exits() -> None:
    with pytest.raises(PoolBroken, match="status 9"):
        async with Pool(2, os._exit, (9,)):
            pass


@soon
async def test_an_initializer_that_hangs() -> None:
    async with gate.Gate() as door:
        pool = Pool(1, mishaps.report_and_wait, (door.path,))
        task = pool.submit(calls.add, 1)
        await door.count(1)
        assert not task.done()
        pool.terminate()
        with pytest.raises(RuntimeError, match="pool was terminated"):
            await task
        await pool.join()


@soon
async def test_a_worker_killed_while_idle() -> None:
    async with Pool(1) as pool:
        os.kill(await pool.apply(calls.pid), signal.SIGKILL)
        await still_works(pool)


@soon
async def test_a_worker_killed_while_it_starts() -> None:
    async with gate.Gate() as door:
        pool = Pool(1, mishaps.report_and_wait, (door.path,))
        task = pool.submit(calls.add, 1)
        await door.count(1)
        os.kill(door.pids[door.news[0]], signal.SIGKILL)
        await door.count(2)
        door.open(door.news[1])
        assert await task == 1
        pool.terminate()
        await pool.join()


@soon
async def test_a_worker_killed_while_it_returns_100_mb() -> None:
    async with Pool(1) as pool:
        with pytest.raises(WorkerDied):
            await pool.apply(mishaps.large_then_dead, (100 << 20,))
        assert len(await pool.apply(bytes, (100 << 20,))) == 100 << 20


@soon
async def test_awaiting_after_terminate() -> None:
    pool = Pool(1)
    task, result = pool.submit(calls.nap, 60), pool.map(calls.nap, [60])
    pool.terminate()
    await pool.join()
    for waiting in (task, result):
        with pytest.raises(RuntimeError, match="pool was terminated"):
            await waiting


@soon
async def test_an_abandoned_async_for() -> None:
    async with Pool(1) as pool:
        async for value in pool.map(calls.add, range(10_000)):
            if value == 10:
                break
        await still_works(pool)


@soon
async def test_a_cancelled_apply() -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        waiting = asyncio.ensure_future(pool.apply(gate.through, (door.path, "a")))
        await door.arrived("a")
        waiting.cancel()
        await door.arrived("a-cancelled")
        await still_works(pool)


@soon
async def test_a_map_over_a_generator_that_raises() -> None:
    def numbers() -> Iterator[int]:
        yield from range(1000)
        raise LookupError("no more")

    async with Pool(1) as pool:
        with pytest.raises(LookupError, match="no more"):
            await pool.map(calls.add, numbers())
        await still_works(pool)


@soon
async def test_a_pool_dropped_without_close() -> None:
    pool = Pool(1)
    worker = await pool.apply(calls.pid)
    await asyncio.sleep(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del pool
        gc.collect()
    assert not Path(f"/proc/{worker}").exists()


@soon
async def test_two_pools_in_one_process() -> None:
    async with Pool(1) as first, Pool(1) as second:
        pids = await asyncio.gather(first.apply(calls.pid), second.apply(calls.pid))
        assert len(set(pids)) == 2
        os.kill(pids[0], signal.SIGKILL)
        await still_works(second)
        await still_works(first)


@soon
async def test_a_pool_inside_a_worker() -> None:
    async with Pool(1) as pool:
        assert await pool.apply(calls.nested, (5,)) == 5


@pytest.mark.usefixtures("in_time")
def test_the_interpreter_exits_with_work_pending() -> None:
    done = run_script(
        """
        import asyncio, aiomq, calls
        async def main():
            pool = aiomq.Pool(2)
            print(await pool.apply(calls.pid))
            tasks = [pool.submit(calls.nap, 60) for _ in range(100)]
            await asyncio.sleep(0)
        asyncio.run(main())
        """
    )
    assert done.returncode == 0, done.stderr
    assert not Path(f"/proc/{int(done.stdout)}").exists()


@pytest.mark.parametrize("function", [mishaps.leave_a_program, mishaps.fork_and_stay])
@soon
async def test_a_task_whose_child_outlives_it(function: Any) -> None:
    pool = Pool(1)
    child = await pool.apply(function)
    try:
        pool.close()
        await pool.join()
        assert Path(f"/proc/{child}").exists()
    finally:
        os.kill(child, signal.SIGKILL)


@soon
async def test_a_killed_worker_whose_child_lives_on() -> None:
    """The child has all that the worker had, and must not be taken for it."""
    async with Pool(1) as pool:
        child = await pool.apply(mishaps.fork_and_stay)
        try:
            with pytest.raises(WorkerDied):
                await pool.apply(mishaps.die, ("SIGKILL",))
            await still_works(pool)
        finally:
            os.kill(child, signal.SIGKILL)


@soon
async def test_a_task_that_forks() -> None:
    async with Pool(1) as pool:
        assert await pool.apply(mishaps.fork_and_return) == 7
        assert await pool.apply(mishaps.fork_and_terminate) == -signal.SIGTERM
        await still_works(pool)


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize(
    "habit",
    [
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "threading.Thread(target=reap_everything, daemon=True).start()",
    ],
)
def test_an_application_with_its_own_idea_of_children(habit: str) -> None:
    done = run_script(
        f"""
        import asyncio, os, signal, threading, time
        import aiomq, calls, mishaps

        def reap_everything():
            while True:
                try:
                    os.waitpid(-1, 0)
                except ChildProcessError:
                    time.sleep(0.001)

        async def main():
            {habit}
            async with aiomq.Pool(1) as pool:
                for _ in range(3):
                    try:
                        await pool.apply(mishaps.die, ("SIGKILL",))
                    except aiomq.WorkerDied:
                        print("died")
                    print(await pool.apply(calls.add, (1, 2)))
                pool.close()
                await pool.join()

        asyncio.run(main())
        """
    )
    assert done.stdout.split() == ["died", "3"] * 3, done.stderr


def resident_kib() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.stress
async def test_twenty_pools_leave_nothing() -> None:
    @soon
    async def one() -> None:
        async with Pool(1) as pool:
            await pool.apply(calls.add, (1, 2))

    for _ in range(3):
        await one()
    gc.collect()
    fds, tasks, memory = conftest.open_fds(), threads(), resident_kib()
    for _ in range(50 if os.environ.get("AIOMQ_STRESS") else 20):
        await one()
    gc.collect()
    assert len(conftest.open_fds()) == len(fds)
    assert threads() == tasks
    if SLOW == 1:  # a sanitizer keeps what was freed
        assert resident_kib() - memory < 4096
    with contextlib.suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)


@soon
async def test_a_module_whose_import_ends_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text(
        "import os\n"
        "def add(a, b): return a + b\n"
        "if 'AIOMQ_WORKER_INDEX' in os.environ: os._exit(7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    async with Pool(1) as pool:
        deadly = importlib.import_module("deadly")
        with pytest.raises(WorkerDied, match=r"killed 3 workers.*status 7.*had not started"):
            await pool.apply(deadly.add, (1, 2))
        assert await pool.apply(calls.add, (1, 2)) == 3
