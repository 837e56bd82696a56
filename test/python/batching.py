"""Functions that the tests of batches and reductions run in workers."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Pieces = tuple[tuple[int, ...], ...]


def kind_and_items(batch: Any) -> tuple[str, list[Any]]:
    return type(batch).__name__, [int(item) for item in batch]


async def squares(batch: Any) -> Any:
    """For numpy: what a column is for."""
    await asyncio.sleep(0)
    return batch * batch


def insert(rows: list[tuple[str, int]]) -> int:
    """Many rows with one statement; returns how many."""
    path = rows[0][0]
    with sqlite3.connect(path, timeout=60) as connection:
        cursor = connection.executemany("INSERT INTO point VALUES (?)", [row[1:] for row in rows])
        return cursor.rowcount


def refuse_three(batch: Iterable[int]) -> int:
    if 3 in batch:
        raise LookupError("three")
    return 0


def one(item: int) -> Pieces:
    """A result that shows how it was put together."""
    return ((item,),)


async def one_later(item: int) -> Pieces:
    await asyncio.sleep(0.001 * (item % 3))
    return one(item)


def join(left: Pieces, right: Pieces) -> Pieces:
    """Neighbours only, in order; anything else raises ValueError."""
    if left and right and left[-1][-1] + 1 != right[0][0]:
        raise ValueError(f"{left[-1]} and {right[0]} are no neighbours")
    return ((*sum(left, ()), *sum(right, ())),)


async def join_later(left: Pieces, right: Pieces) -> Pieces:
    await asyncio.sleep(0)
    return join(left, right)


def who(item: int) -> dict[int, int]:
    """How many items each process has had."""
    return {os.getpid(): 1}


def add_counts(left: dict[int, int], right: dict[int, int]) -> dict[int, int]:
    for pid, count in right.items():
        left[pid] = left.get(pid, 0) + count
    return left


def who_adds(left: set[int], right: set[int]) -> set[int]:
    return left | right | {os.getpid()}


def nobody(_item: int) -> set[int]:
    return set()


def refuse_third(item: int) -> int:
    if item == 3:
        raise LookupError("the third")
    return item


def refuse_sum(left: int, right: int) -> int:
    raise ArithmeticError(f"no sum of {left} and {right} in {os.getpid()}")


def die_once(order: tuple[str, int]) -> int:
    """Item 5 kills its worker, the first time; each run is noted."""
    path, item = order
    with Path(path).open("a") as file:
        file.write(f"{item}\n")
    if item == 5 and Path(path).read_text().split().count("5") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def plus(left: int, right: int) -> int:
    return left + right


async def sum_of(numbers: Iterable[int]) -> int:
    """A reduction inside of a task."""
    import aiomq

    return await aiomq.current_pool().map_reduce(int, list(numbers), plus, chunksize=3)


def unsendable(_item: int) -> Any:
    return lambda: None
