"""Functions that the tests of shared objects run in workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy

import aiomq
from aiomq import Shared

unpickled = 0  # in this process


class Counted:
    """Counts how often it was unpickled here."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __setstate__(self, state: dict[str, Any]) -> None:
        global unpickled
        unpickled += 1
        self.__dict__.update(state)


def text_and_count(handle: Shared[Counted]) -> tuple[int, str, int]:
    return os.getpid(), handle.get().text, unpickled


def describe(handle: Shared[Any]) -> tuple[float, bool, bool, int]:
    """Of an array: its sum, whether it owns its data or can be written, private memory in KiB."""
    array = handle.get()
    total = float(array.sum())
    return total, array.flags.owndata, array.flags.writeable, private_kib()


def private_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    raise LookupError("RssAnon")


def write(handle: Shared[Any]) -> None:
    handle.get()[0] = 1


def view(handle: Shared[Any]) -> tuple[str, bool, bytes]:
    found = handle.get()
    return type(found).__name__, found.readonly, bytes(found)


def get(handle: Shared[Any]) -> Any:
    return handle.get()


def total(order: tuple[Shared[Any], int]) -> int:
    handle, factor = order
    return int(handle.get().sum()) * factor


def maps() -> int:
    """How many shared objects this process has mapped."""
    return Path("/proc/self/maps").read_text().count("aiomq-share")


def close(handle: Shared[Any]) -> None:
    handle.close()


async def pass_on(handle: Shared[Any]) -> int:
    return await aiomq.current_pool().apply(total, ((handle, 2),))


def die_first(path: str, handle: Shared[Any]) -> int:
    """Kills its worker when it has the object, the first time."""
    found = handle.get()
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return int(found.sum())


def zeros(count: int) -> Any:
    return numpy.zeros(count)
