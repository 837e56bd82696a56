"""Cancelling through asyncio reaches the coroutine in the worker, whatever call it belongs to."""

from __future__ import annotations

import asyncio
import builtins
import operator
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import calls
import gate
import pytest

from aiomq import Pool

EXCEPTION_GROUP: Any = getattr(builtins, "ExceptionGroup", None)  # Python 3.11

Call = Callable[[Pool, str, str], Coroutine[Any, Any, object]]


async def apply(pool: Pool, path: str, name: str) -> object:
    return await pool.apply(gate.through, (path, name))


async def submit(pool: Pool, path: str, name: str) -> object:
    return await pool.submit(gate.through, path, name)


async def map_and_await(pool: Pool, path: str, name: str) -> object:
    return await pool.starmap(gate.through, [(path, name)])


async def map_and_iterate(pool: Pool, path: str, name: str) -> object:
    return [value async for value in pool.starmap(gate.through, [(path, name)])]


async def map_unordered(pool: Pool, path: str, name: str) -> object:
    return [value async for value in pool.map_unordered(calls.through_pair, [(path, name)])]


async def map_reduce(pool: Pool, path: str, name: str) -> object:
    return await pool.map_reduce(calls.through_pair, [(path, name)], operator.add)


CALLS: tuple[Call, ...] = (
    apply,
    submit,
    map_and_await,
    map_and_iterate,
    map_unordered,
    map_reduce,
)

Ending = Callable[[Coroutine[Any, Any, object], Callable[[], Awaitable[None]]], Awaitable[None]]


async def by_cancel(call: Coroutine[Any, Any, object], arrived: Any) -> None:
    task = asyncio.ensure_future(call)
    await arrived()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_wait_for(call: Coroutine[Any, Any, object], arrived: Any) -> None:
    task = asyncio.ensure_future(call)
    await arrived()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(task, 0.01)


async def by_timeout(call: Coroutine[Any, Any, object], arrived: Any) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            waiting = asyncio.ensure_future(arrived())
            waiting.add_done_callback(lambda _: limit.reschedule(asyncio.get_running_loop().time()))
            await call


async def by_task_group(call: Coroutine[Any, Any, object], arrived: Any) -> None:
    async def fail() -> None:
        await arrived()
        raise LookupError("another of the group")

    with pytest.raises(EXCEPTION_GROUP) as raised:
        async with asyncio.TaskGroup() as group:
            group.create_task(call)
            group.create_task(fail())
    assert [str(error) for error in raised.value.exceptions] == ["another of the group"]


ENDINGS: list[Ending] = [by_cancel, by_wait_for]
if sys.version_info >= (3, 11):
    ENDINGS += [by_timeout, by_task_group]


@pytest.mark.versions
@pytest.mark.parametrize("end", ENDINGS)
async def test_what_ends_the_call_here_ends_the_coroutine_there(end: Ending) -> None:
    async with gate.Gate() as way, Pool(1) as pool:
        for call in CALLS:
            name = call.__name__
            await end(call(pool, way.path, name), lambda name=name: way.arrived(name))  # type: ignore[misc]
            await way.arrived(f"{name}-cancelled")
        assert await pool.apply(calls.add, (1, 2)) == 3
