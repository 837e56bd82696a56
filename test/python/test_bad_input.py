"""Every wrong use is a named error, at once."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import threading
from multiprocessing import spawn
from typing import Any

import calls
import pytest
from running import run_script

from aiomq import Pool, PoolBroken

BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"processes": 0}, ValueError, "processes must be at least 1, not 0"),
    ({"processes": -1}, ValueError, "processes must be at least 1, not -1"),
    ({"processes": 5000}, ValueError, "processes must be at most 1023, not 5000"),
    ({"processes": True}, TypeError, "processes must be an int, not bool"),
    ({"processes": 1.5}, TypeError, "processes must be an int, not float"),
    ({"processes": "2"}, TypeError, "processes must be an int, not str"),
    ({"childconcurrency": 0}, ValueError, "childconcurrency must be at least 1"),
    ({"childconcurrency": None}, TypeError, "childconcurrency must be an int"),
    ({"capacity": 0}, ValueError, "capacity must be at least 1"),
    ({"capacity": -5}, ValueError, "capacity must be at least 1"),
    ({"capacity": 1 << 30}, ValueError, "capacity must be at most 1048576"),
    ({"max_memory": 0}, ValueError, "max_memory must be at least"),
    ({"max_memory": -1}, ValueError, "max_memory must be at least"),
    ({"max_memory": 1 << 80}, ValueError, "max_memory must be at most"),
    ({"max_memory": "1G"}, TypeError, "max_memory must be an int"),
    ({"initializer": 5}, TypeError, "initializer must be callable"),
    ({"loop_initializer": 5}, TypeError, "loop_initializer must be callable"),
    ({"initargs": 5}, TypeError, "initargs"),
    ({"label": 5}, TypeError, "label must be a str"),
    ({"label": ""}, ValueError, "label must not be empty"),
    ({"label": "a\0b"}, ValueError, "label must not"),
    ({"initializer": lambda: 1}, pickle.PicklingError, "initializer can't be pickled"),
    (
        {"initializer": calls.set_mark, "initargs": (1, threading.Lock())},
        pickle.PicklingError,
        r"initargs\[1\] can't be pickled",
    ),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
def test_a_bad_option_is_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Pool(**options)


@pytest.mark.parametrize(
    ("chunksize", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), ("2", TypeError)]
)
async def test_a_bad_chunksize_is_named(chunksize: Any, error: type[Exception]) -> None:
    async with Pool(1) as pool:
        with pytest.raises(error, match="chunksize must be"):
            pool.map(calls.add, [1], chunksize=chunksize)


@pytest.mark.versions
async def test_an_initializer_that_raises_breaks_the_pool() -> None:
    with pytest.raises(PoolBroken, match=r"LookupError: no such table") as caught:
        async with Pool(2, calls.broken_initializer):
            raise AssertionError
    assert "in broken_initializer" in str(caught.value)


async def test_the_first_await_raises_pool_broken() -> None:
    pool = Pool(1, calls.broken_initializer)
    with pytest.raises(PoolBroken, match="no such table"):
        await pool.apply(calls.add, (1,))
    with pytest.raises(PoolBroken, match="no such table"):
        await pool.submit(calls.add, 1)
    with pytest.raises(PoolBroken, match="no such table"):
        await pool.map(calls.add, [1])
    with pytest.raises(PoolBroken, match="no such table"):
        pool.submit_nowait(calls.add, 1)
    pool.terminate()
    await pool.join()


async def test_a_broken_pool_can_be_closed_and_joined() -> None:
    pool = Pool(1, calls.broken_initializer)
    pool.close()
    await pool.join()


async def test_a_loop_initializer_that_returns_no_loop_breaks_the_pool() -> None:
    with pytest.raises(PoolBroken, match="loop_initializer returned list"):
        async with Pool(1, loop_initializer=calls.modules):
            raise AssertionError


async def test_an_initializer_that_exits_breaks_the_pool() -> None:
    with pytest.raises(PoolBroken, match="SystemExit"):
        async with Pool(1, sys.exit, (3,)):
            raise AssertionError
    with pytest.raises(PoolBroken, match="3"):
        async with Pool(1, os._exit, (3,)):
            raise AssertionError


def test_an_interpreter_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "_python_exe", "/nonexistent/python")
    with pytest.raises(FileNotFoundError, match="/nonexistent/python"):
        Pool(1)


async def test_a_program_that_is_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "_python_exe", "/bin/false")
    with pytest.raises(PoolBroken, match="1"):
        async with Pool(2):
            raise AssertionError


async def test_arguments_larger_than_the_memory() -> None:
    async with Pool(1, max_memory=4 << 20) as pool:
        said = r" larger than .* arguments: 8,388,\d\d\d of 2,097,152 bytes; .* larger max_memory"
        with pytest.raises(ValueError, match=r"^the arguments of len\(\) are" + said):
            await pool.apply(len, (b"x" * (8 << 20),))
        with pytest.raises(ValueError, match="^item 1 is" + said):
            await pool.map(len, [b"x", b"x" * (8 << 20)])
        assert await pool.apply(len, (b"x" * 1000,)) == 1000


@pytest.mark.parametrize("function", [calls.repeat, calls.repeat_late])
async def test_a_result_larger_than_the_memory(function: Any) -> None:
    async with Pool(1, max_memory=4 << 20) as pool:
        said = "result is larger .* for results: 8,388,608 of 2,097,152 bytes; .* max_memory"
        with pytest.raises(ValueError, match=said):
            await pool.apply(function, (b"x", 8 << 20))
        assert await pool.apply(function, (b"x", 10)) == b"x" * 10


@pytest.mark.versions
def test_a_pool_used_after_fork_names_the_fork() -> None:
    done = run_script(
        """
        import asyncio, os, sys, aiomq, calls

        async def use(pool):
            await pool.apply(calls.add, (1,))

        async def main():
            async with aiomq.Pool(1) as pool:
                await use(pool)
                child = os.fork()
                if child == 0:
                    for attempt in (lambda: pool.submit(calls.add, 1),
                                    lambda: pool.map(calls.add, [1]), pool.close, pool.terminate):
                        try:
                            attempt()
                        except RuntimeError as error:
                            print(error, flush=True)
                    os._exit(0)
                os.waitpid(child, 0)
                print(await pool.apply(calls.add, (1, 2)), flush=True)
        asyncio.run(main())

        pool = aiomq.Pool(1)
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(use(pool))
            except RuntimeError as error:
                print(error, flush=True)
            sys.exit(0)  # with everything that runs at exit
        os.waitpid(child, 0)
        asyncio.run(use(pool))
        pool.terminate()
        asyncio.run(pool.join())
        print("ended")
        """,
        "-Wignore",
        "-Wdefault::ResourceWarning",
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line for line in lines if "fork" not in line] == ["3", "ended"]
    assert set(lines) - {"3", "ended"} == {
        "this pool was made before a fork and belongs to the parent process"
    }
    assert len(lines) == 7


def test_closed_standard_streams() -> None:
    done = run_script(
        """
        import asyncio, os, sys
        os.close(0); os.close(2)
        import aiomq, calls
        async def main():
            async with aiomq.Pool(1) as pool:
                print(await pool.apply(calls.add, (1, 2)), flush=True)
                try:
                    await pool.apply(calls.fail)
                except ValueError as error:
                    print(error)
        asyncio.run(main())
        """
    )
    assert done.stdout.splitlines() == ["3", "boom"]


async def test_a_pool_is_not_picklable_and_says_so() -> None:
    async with Pool(1) as pool:
        with pytest.raises(TypeError, match="a Pool can't be pickled"):
            pickle.dumps(pool)


async def test_using_a_task_after_the_pool_is_gone() -> None:
    async with Pool(1) as pool:
        task = pool.submit(calls.add, 1)
        await task
        late = pool.submit(calls.nap, 60)
    assert not late.cancel()
    assert task.result() == 1
    with pytest.raises(RuntimeError, match="terminated"):
        late.result()
    assert await asyncio.gather(task) == [1]
