"""Tasks in C++ called from Python: test/python/tasks.cpp as a plugin."""

from __future__ import annotations

import asyncio
import os
import pickle
from pathlib import Path
from typing import Any

import calls
import nesting
import pytest

import aiomq
from aiomq import Group, Pool, RemoteError, TaskTimeout, WorkerDied, native

TREE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("AIOMQ_BUILD_DIR", TREE / "build"))
TASKS = str(BUILD / "test" / "python" / "libtasks.so")


def task(name: str) -> aiomq.Native:
    return native(TASKS, name)


def mixed(**more: Any) -> Pool:
    """Python workers beside native ones."""
    return Pool(groups=[Group(1), Group(2, plugins=[TASKS], **more)])


async def test_native_tasks_are_called_like_functions_beside_those_of_python() -> None:
    async with mixed() as pool:
        assert await pool.apply(task("add"), (2, -5)) == -3
        assert await pool.submit(task("shout"), "hey") == "hey!"
        assert await pool.apply(task("total"), ([0.5, 1.5],)) == 2.0
        assert await pool.apply(task("divisors"), ([4, 1],)) == {"4": [1, 2, 4], "1": [1]}
        assert await pool.starmap(calls.add, [(i, i) for i in range(100)]) == list(range(0, 200, 2))
        assert await pool.map(task("text"), range(2000)) == [str(i) for i in range(2000)]
        assert await pool.starmap(task("add"), [(1, 2), (3, 4)]) == [3, 7]
        found = {value async for value in pool.map_unordered(task("text"), range(300))}
        assert found == {str(i) for i in range(300)}


async def test_results_are_folded_in_the_native_workers_in_order() -> None:
    async with mixed() as pool:
        result = await pool.map_reduce(task("text"), range(3000), task("concat"))
        assert result == "".join(map(str, range(3000)))
        with pytest.raises(TypeError, match="folded by a native one"):
            await pool.map_reduce(task("text"), range(3), calls.add)


async def test_what_a_native_task_throws_names_it() -> None:
    async with mixed() as pool:
        with pytest.raises(RemoteError, match="fail: no such thing") as caught:
            await pool.apply(task("fail"), ("no such thing",))
        assert "std::out_of_range" in str(caught.value)
        with pytest.raises(RemoteError, match="add takes 2 arguments, 1 was given"):
            await pool.apply(task("add"), (1,))
        with pytest.raises(RemoteError, match="add: argument 2: expected int, got text"):
            await pool.apply(task("add"), (1, "x"))
        with pytest.raises(RemoteError, match="takes no keyword arguments"):
            await pool.submit(task("add"), 1, b=2)
        with pytest.raises(RemoteError, match="expected int, got pickle"):
            await pool.apply(task("add"), (1, 2j))
        with pytest.raises(RemoteError, match="nothing_like_it"):
            await pool.apply(task("nothing_like_it"))
        with pytest.raises(WorkerDied):
            await pool.apply(task("die"), (1,))
        assert await pool.apply(task("add"), (1, 1)) == 2


async def test_native_coroutines_wait_side_by_side_and_are_cancelled() -> None:
    async with mixed() as pool:
        naps = [pool.submit(task("nap"), 5) for _ in range(50)]
        assert await asyncio.gather(*naps) == [5] * 50
        late = pool.submit(task("nap"), 3_600_000)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        with pytest.raises(TaskTimeout):
            await pool.options(timeout=0.05).apply(task("nap"), (3_600_000,))


async def test_a_task_in_python_calls_one_in_cpp() -> None:
    async with mixed() as pool:
        assert await pool.apply(nesting.call_native, (task("add"), 20, 22)) == 42


async def test_a_pool_without_the_plugin_says_what_to_do() -> None:
    async with Pool(1) as pool:
        with pytest.raises(ValueError, match=r"plugins=\['libx\.so'\]"):
            await pool.apply(native("libx.so", "add"), (1, 2))
    async with mixed() as pool:
        with pytest.raises(ValueError, match="leave isolate out"):
            await pool.options(isolate=False).apply(task("add"), (1, 2))
    with pytest.raises(TypeError, match="runs in a pool's workers"):
        task("add")(1, 2)
    with pytest.raises(TypeError, match="must be a str"):
        native(TASKS, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="named by a str or path"):
        native(5, "add")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a program or plugins"):
        Group(1, plugins=["a"], program=["b"])
    with pytest.raises(TypeError, match="sequence of paths"):
        Group(1, plugins="a")


async def test_a_plugin_that_can_not_be_loaded_breaks_the_pool_with_the_reason() -> None:
    with pytest.raises(aiomq.PoolBroken, match=r"/no/such\.so"):
        async with Pool(groups=[Group(1, plugins=["/no/such.so"])]) as pool:
            await pool.apply(native("/no/such.so", "add"), (1, 2))


def test_handles_are_values() -> None:
    assert task("add") == task("add")
    assert task("add") != task("text")
    assert pickle.loads(pickle.dumps(task("add"))) == task("add")
    assert repr(native(Path("a/b.so"), "c")) == "aiomq.native('a/b.so', 'c')"
