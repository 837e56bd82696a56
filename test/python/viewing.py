"""Functions that the tests of buffers run in workers."""

from __future__ import annotations

import array
import asyncio
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

MAPS = Path("/proc/self/maps")

kept: list[Any] = []


def is_mapped() -> bool:
    """Whether this process has mapped a pool's memory."""
    return "/memfd:aiomq:" in MAPS.read_text()


def is_in_pool(address: int) -> bool:
    """Whether an address of this process is one of a pool's memory."""
    for line in MAPS.read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= address < end:
            return "/memfd:aiomq:" in line
    return False


def arrow_column(table: Any, name: str) -> tuple[bool, bool, float]:
    """Of a column: whether it lies in the pool's memory, whether it can be written, its sum."""
    (chunk,) = table.column(name).chunks
    data = chunk.buffers()[1]
    return is_in_pool(data.address), data.is_mutable, float(chunk.to_numpy().sum())


def base_of(value: Any) -> Any:
    """What owns an array's memory, all views followed."""
    while isinstance(value, numpy.ndarray) and value.base is not None:
        value = value.base
    return value


def is_view(value: Any) -> bool:
    """Whether the memory is somebody else's, and not of the interpreter's own making."""
    owner = base_of(value)
    return isinstance(owner, memoryview) and not isinstance(owner.obj, bytes | bytearray)


def describe(value: Any) -> tuple[str, bool, bool, float]:
    """Of an array: its type, whether it is a view, whether it can be written, its sum."""
    return type(value).__name__, is_view(value), bool(value.flags.writeable), float(value.sum())


def echo(value: Any) -> Any:
    return value


def add(value: Any) -> Any:
    value += 1
    return value


def ones(count: int) -> Any:
    return numpy.ones(count)


def numbers(count: int) -> Any:
    return numpy.arange(count, dtype=numpy.float64)


def keep(value: Any) -> int:
    kept.append(value)
    return os.getpid()


def sums_of_kept() -> list[float]:
    return [float(value.sum()) for value in kept]


def views_kept() -> list[bool]:
    return [is_view(value) for value in kept]


def drop_kept() -> None:
    kept.clear()
    gc.collect()


async def drop_kept_in_a_thread() -> None:
    await asyncio.to_thread(drop_kept)


def sum_in_a_fork(value: Any) -> float:
    """The sum as a forked child of the worker sees it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, repr(float(value.sum())).encode())
        del value
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    return float(os.read(reader, 64))


def die_with(value: Any) -> None:
    os._exit(int(value.sum()) & 1 | 2)


def kinds_of(value: Any) -> tuple[str, Any]:
    """Type and contents of an object with a buffer."""
    if isinstance(value, memoryview):
        return "memoryview", (value.format, value.shape, value.readonly, value.tolist())
    if isinstance(value, array.array):
        return "array", (value.typecode, value.tolist())
    return type(value).__name__, bytes(value)


def address_of(value: Any) -> int:
    """Where the array's memory is, as an offset in the pool's memory."""
    address = value.__array_interface__["data"][0]
    for line in MAPS.read_text().splitlines():
        bounds, _, offset, _, _, *name = line.split()
        begin, end = (int(part, 16) for part in bounds.split("-"))
        if begin <= address < end:
            assert name and name[0].startswith("/memfd:aiomq:"), line
            return int(offset, 16) + address - begin
    raise AssertionError("nowhere")


class Refuses:
    """Can be pickled, but not be unpickled."""

    def __init__(self) -> None:
        self.array = numpy.zeros(1 << 20)

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return refuse, (self.array,)


def refuse(_array: Any) -> None:
    raise LookupError("not today")


def refusing() -> Refuses:
    return Refuses()
