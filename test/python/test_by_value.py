"""Functions that can't be imported: they travel as pickles, once for each content."""

from __future__ import annotations

import functools
import operator
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import calls
import pytest
from running import run_python

import aiomq
from aiomq import Pool, WorkerDied


class Scale:
    """Can be called, and has a state."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, value: int) -> int:
        return value * self.factor

    def method(self, value: int) -> int:
        return value * self.factor


def closure(factor: int) -> Callable[[int], int]:
    def scale(value: int) -> int:
        return value * factor

    return scale


def async_closure(factor: int) -> Any:
    async def scale(value: int) -> int:
        return value * factor

    return scale


FUNCTIONS: dict[str, Any] = {
    "lambda": lambda value: value * 3,
    "closure": closure(3),
    "coroutine": async_closure(3),
    "partial": functools.partial(operator.mul, 3),
    "method": Scale(3).method,
    "instance": Scale(3),
}
NEED_CLOUDPICKLE = ("lambda", "closure", "coroutine")


async def asking(name: str) -> tuple[Any, Any]:
    """In a task: has its own pool run one of them."""
    pool = aiomq.current_pool()
    return await pool.submit(FUNCTIONS[name], 2), await pool.map(FUNCTIONS[name], [3, 4])


@pytest.fixture
def no_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)


def add_one(number: int) -> int:
    return number + 1


@pytest.mark.versions
async def test_it_runs_like_any_other() -> None:
    async with Pool(2) as pool:
        for function in FUNCTIONS.values():
            assert await pool.submit(function, 5) == 15
            assert await pool.map(function, range(100)) == list(range(0, 300, 3))
            assert await pool.map_reduce(function, range(10), operator.add) == 135
            assert await pool.map_reduce(int, [1, 2, 3], lambda a, b: a + b) == 6
        for kind in ("lambda", "partial", "method"):
            assert await pool.apply(aiomq.blocking(FUNCTIONS[kind]), (5,)) == 15
        assert await pool.map_batches(lambda batch: sum(batch), range(10), 5) == [10, 35]


async def test_it_is_what_it_was_at_the_call() -> None:
    async with Pool(1) as pool:
        factor = 2
        function = lambda value: value * factor  # noqa: E731
        scale = Scale(2)
        first = [pool.submit(function, 10), pool.submit(scale, 10)]
        factor = scale.factor = 5
        second = [pool.submit(function, 10), pool.submit(scale, 10)]
        assert [await task for task in first + second] == [20, 20, 50, 50]


async def test_each_content_is_sent_once() -> None:
    async with Pool(2) as pool:
        text = os.urandom(1 << 20)
        begin = held(pool)
        for _ in range(5):
            assert await pool.map(functools.partial(operator.contains, text), [text]) == [True]
            assert await pool.submit(len, text) == 1 << 20
        assert held(pool) - begin < 3 << 19


def held(pool: Pool) -> int:
    """Bytes that the pool has left for its workers."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(entry).startswith("/memfd:aiomq-depot"):
                return os.stat(entry).st_size
        except FileNotFoundError:
            continue
    raise AssertionError(f"{pool} has no depot")


async def test_a_workers_successor_has_it_too() -> None:
    kill = functools.partial(lambda number: os.kill(os.getpid(), number))
    async with Pool(1) as pool:
        function = closure(7)
        assert await pool.submit(function, 1) == 7
        with pytest.raises(WorkerDied):
            await pool.submit(kill, signal.SIGKILL)
        assert await pool.submit(function, 2) == 14


async def test_a_worker_cannot_change_it() -> None:
    def overwrite() -> str:
        from aiomq import _depot

        try:
            os.pwrite(_depot._inherited, b"x", 0)
        except OSError as error:
            return error.strerror or ""
        return "written"

    async with Pool(1) as pool:
        assert await pool.submit(overwrite) == "Bad file descriptor"


async def test_its_errors_and_names_are_readable() -> None:
    def refuse() -> None:
        raise LookupError("not this one")

    def name() -> str:
        return aiomq.current_task().name

    async with Pool(1) as pool:
        with pytest.raises(LookupError, match="not this one") as raised:
            await pool.submit(refuse)
        assert "in refuse" in str(raised.value.__cause__)
        expected = "test_its_errors_and_names_are_readable.<locals>.name"
        assert await pool.submit(name) == expected
        assert expected in [function.name for function in pool.stats().functions]


@pytest.mark.parametrize("kind", FUNCTIONS)
async def test_without_cloudpickle_the_call_says_what_to_do(
    kind: str, no_cloudpickle: None
) -> None:
    function = FUNCTIONS[kind]
    async with Pool(1) as pool:
        if kind not in NEED_CLOUDPICKLE:
            assert await pool.submit(function, 5) == 15
            return
        for call in (lambda: pool.submit(function, 5), lambda: pool.map(function, [5])):
            with pytest.raises(ValueError, match=r"can't be found by that name.*install cloudp"):
                call()
        with pytest.raises(ValueError, match="install cloudpickle"):
            await pool.map_reduce(int, [1], function)


async def test_what_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()
    async with Pool(1) as pool:
        with pytest.raises(ValueError, match=r"<lambda> can't be found.*by value: .*pickle.*lock"):
            pool.submit(lambda: lock)
        assert await pool.submit(add_one, 1) == 2


@pytest.mark.parametrize("name", FUNCTIONS)
async def test_a_task_sends_one_to_its_own_pool(name: str) -> None:
    if name in NEED_CLOUDPICKLE:
        pytest.importorskip("cloudpickle")

    async with Pool(1) as pool:
        assert await pool.submit(asking, name) == (6, [9, 12])


async def test_what_is_too_long_for_a_call_from_a_task_is_named() -> None:
    async def ask() -> str:
        big = bytes(range(256)) * 100
        try:
            await aiomq.current_pool().submit(lambda: len(big))
        except ValueError as error:
            return str(error)
        return ""

    async with Pool(1) as pool:
        said = await pool.submit(ask)
        assert re.search(r"<lambda> takes 2\d,\d\d\d bytes as a pickle, too many for a call", said)
        assert "can't be found by that name" in said


async def test_it_needs_what_it_refers_to() -> None:
    async with Pool(1) as pool:
        assert await pool.submit(lambda: calls.plain_add(1, 2)) == 3


INTERACTIVE = """
import asyncio, sys
{before}
import aiomq
def work(value):
    return helper(value) + 1
def helper(value):
    return value * 2
async def main():
    async with aiomq.Pool(1) as pool:
        try:
            print(await pool.map(work, [1, 2]))
        except ValueError as error:
            print(error)
asyncio.run(main())
"""


def test_functions_of_an_interactive_session() -> None:
    done = run_python("-c", INTERACTIVE.format(before=""))
    assert done.stdout == "[3, 5]\n", done.stderr
    done = run_python("-c", INTERACTIVE.format(before="sys.modules['cloudpickle'] = None"))
    assert "work is defined in an interactive session" in done.stdout, done.stderr
    assert "install cloudpickle" in done.stdout
