"""Coroutine functions that use the pool in whose workers they run."""

from __future__ import annotations

import asyncio
from typing import Any

import calls
import gate
import mishaps

import aiomq


async def double(value: int) -> int:
    return await aiomq.current_pool().apply(calls.add, (value, value))


async def depth(levels: int) -> int:
    """How deep it went."""
    await asyncio.sleep(0)
    if levels == 0:
        return 0
    return 1 + await aiomq.current_pool().apply(depth, (levels - 1,))


async def many(count: int) -> list[int]:
    return await aiomq.current_pool().map(calls.add, range(count), chunksize=10)


async def star() -> list[int]:
    return await aiomq.current_pool().starmap(calls.add, [(1, 2), (3, 4)])


async def gathered(count: int) -> list[int]:
    """The calls are made in asyncio tasks of their own."""
    pool = aiomq.current_pool()
    return await asyncio.gather(*(pool.apply(double, (number,)) for number in range(count)))


async def inherited() -> int:
    async def child() -> int:
        return await aiomq.current_pool().apply(calls.add, (1, 2))

    aiomq.current_pool()
    return await asyncio.ensure_future(child())


async def orphan() -> int:
    async def child() -> int:
        return await aiomq.current_pool().apply(calls.add, (1, 2))

    return await asyncio.ensure_future(child())


def plain() -> Any:
    return aiomq.current_pool()


async def failing() -> str:
    try:
        await aiomq.current_pool().apply(calls.fail, ("inner",))
    except ValueError as error:
        return f"{error} {'Traceback' in str(error.__cause__)}"
    return ""


async def cancelling(path: str) -> str:
    pool = aiomq.current_pool()
    task = pool.submit(gate.through, path, "inner")
    await gate.through(path, "outer")
    task.cancel()
    return await pool.apply(calls.same, ("after",))


async def waiting(path: str) -> str:
    return await aiomq.current_pool().apply(gate.through, (path, "inner"))


async def with_options() -> str:
    try:
        await aiomq.current_pool().options(timeout=0.05).apply(calls.nap, (60,))
    except aiomq.TaskTimeout as error:
        return str(error)
    return ""


async def losing() -> str:
    try:
        await aiomq.current_pool().apply(mishaps.die, ("SIGKILL",))
    except aiomq.WorkerDied:
        return "died"
    return ""


async def call_native(function: aiomq.Native, *args: Any) -> Any:
    return await aiomq.current_pool().apply(function, args)
