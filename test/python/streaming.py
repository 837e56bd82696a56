"""Generators that the tests of streams run in workers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import gate
import numpy

import aiomq

made = 0  # values that endless() has yielded in this process


async def count(stop: int, step: int = 1) -> AsyncIterator[int]:
    for number in range(0, stop, step):
        yield number


async def count_slowly(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        await asyncio.sleep(0)
        yield number


def plain_count(stop: int) -> Iterator[int]:
    yield from range(stop)


def make_count(stop: int) -> AsyncIterator[int]:
    """A plain function that returns an asynchronous generator."""
    return count(stop)


def numbers(stop: int) -> list[int]:
    return list(range(stop))


async def endless(log: str) -> AsyncIterator[int]:
    """Says in a file how it ended."""
    global made
    made = 0
    try:
        while True:
            made += 1
            yield made
    except BaseException as error:
        Path(log).write_text(type(error).__name__)
        raise


def plain_endless(log: str) -> Iterator[int]:
    number = 0
    try:
        while True:
            number += 1
            yield number
    except BaseException as error:
        Path(log).write_text(type(error).__name__)
        raise


async def waits_for_ever(log: str) -> AsyncIterator[int]:
    try:
        yield 1
        await asyncio.Event().wait()
    except BaseException as error:
        Path(log).write_text(type(error).__name__)
        raise


async def endless_made() -> int:
    return made


async def fails_after(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        yield number
    raise LookupError("no more of it")


async def yields_a_lock() -> AsyncIterator[Any]:
    yield 1
    yield threading.Lock()


async def dies_after(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        yield number
        await asyncio.sleep(0)
    os._exit(3)


async def pids(stop: int) -> AsyncIterator[int]:
    for _ in range(stop):
        yield os.getpid()
        await asyncio.sleep(0)


async def waits_between(path: str) -> AsyncIterator[str]:
    """Yields, and goes on when it is let through."""
    yield "before"
    await gate.through(path, "stream")
    yield "after"


def blocks_between(path: str) -> Iterator[str]:
    """The same, without letting anybody run meanwhile."""
    yield "before"
    gate.through_blocking(path, "stream")
    yield "after"


async def arrays(stop: int) -> AsyncIterator[Any]:
    for number in range(stop):
        yield numpy.full(100_000, number)


async def name_and_item() -> AsyncIterator[Any]:
    info = aiomq.current_task()
    yield info.name, info.timeout


async def nested_sum(stop: int) -> int:
    total = 0
    async for number in aiomq.current_pool().stream(count_slowly, (stop,)):
        total += number
    return total
