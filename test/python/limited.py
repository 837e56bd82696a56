"""Functions that take longer than they should, or die."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import NoReturn


def spin() -> NoReturn:
    while True:
        pass


async def spin_late() -> NoReturn:
    await asyncio.sleep(0)
    while True:
        pass


def block() -> None:
    time.sleep(600)


async def swallow_cancel(end: str) -> str:
    """Ends in its own way when it is cancelled."""
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        if end == "error":
            raise LookupError(end) from None
    return end


def die_times(path: str, times: int) -> int:
    """Kills its worker on its first runs; counts them in a file."""
    with open(path, "a") as file:
        runs = file.tell()
        if runs < times:
            file.write("x")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    return runs


def note_and_die_once(path: str, number: int, deadly: bool) -> int:
    """Notes its number; kills its worker if `deadly` and it is the first time."""
    with open(path, "a+") as file:
        file.seek(0)
        first = str(number) not in file.read().split()
        file.write(f"{number}\n")
    if deadly and first:
        os.kill(os.getpid(), signal.SIGKILL)
    return number
