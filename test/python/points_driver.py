"""A program whose Python worker is killed at each of its accesses to shared memory in turn.

Run with the instrumented library of test/points on AIOMQ_LIBRARY_PATH. Arguments: which part of the
points to take, and how many equal parts there are. Prints how many points there usually are, and
at how many of its part the worker was killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import sys
from collections import Counter
from pathlib import Path

import aiomq


class Control(ctypes.Structure):
    """As in test/points/control.hpp."""

    _fields_ = (
        ("armed", ctypes.c_uint32),
        ("worker", ctypes.c_uint32),
        ("action", ctypes.c_uint32),
        ("no_repair", ctypes.c_uint32),
        ("at", ctypes.c_uint64),
        ("passed", ctypes.c_uint64),
        ("fired", ctypes.c_uint32),
        ("hold", ctypes.c_uint32),
        ("site", ctypes.c_uint64),
        ("trouble", ctypes.c_char * 256),
        ("runs", ctypes.c_uint32 * 64),
    )


COUNT, KILL = 0, 1
NEVER = 2**64 - 1


def began(number: int) -> None:
    with runs_file().open("a") as runs:
        print(number, file=runs)


async def nap(number: int) -> int:
    began(number)
    await asyncio.sleep(0)
    return number


def text(number: int) -> str:
    began(number)
    return str(number) * 2000


async def parent(number: int) -> int:
    began(number)
    return await aiomq.current_pool().apply(nap, (number + 1,)) - 1


def runs_file() -> Path:
    return Path(os.environ["AIOMQ_POINTS"] + ".runs")


def arm(control: Control, action: int, at: int) -> None:
    ctypes.memset(ctypes.addressof(control), 0, ctypes.sizeof(control))
    runs_file().write_text("")
    control.at, control.action = at, action
    control.armed = 1


async def scenario(pool: aiomq.Pool, control: Control) -> None:
    """A call that waits for a nested one, with limits, and a chunk; then the worker is idle."""
    limited = pool.options(timeout=3600, start_within=3600).submit(parent, 10)
    retried = pool.options(retries=3).map(text, range(50, 52), chunksize=2)
    (first,) = await asyncio.gather(limited, return_exceptions=True)
    assert await retried == [str(number) * 2000 for number in range(50, 52)]
    runs = Counter(int(line) for line in runs_file().read_text().split())
    assert max(runs[10], runs[11]) <= 1, f"run twice unasked: {runs}"
    assert runs[50] and runs[51], runs
    if isinstance(first, aiomq.WorkerDied):
        assert control.fired, first
    else:
        assert first == 10 and runs[10] == runs[11] == 1, (first, runs)


async def main() -> None:
    part, parts = int(sys.argv[1]), int(sys.argv[2])
    path = Path(os.environ["AIOMQ_POINTS"])
    path.write_bytes(bytes(ctypes.sizeof(Control)))
    with path.open("r+b") as file:
        control = Control.from_buffer(mmap.mmap(file.fileno(), 0))
    async with aiomq.Pool(1, childconcurrency=4) as pool:
        await pool.apply(text, (0,))
        arm(control, COUNT, NEVER)
        await scenario(pool, control)
        point, usual = part, control.passed
        missed = lives = 0
        os.kill(await pool.apply(os.getpid), 9)  # it has been armed: the next one can be
        while point < usual or missed < 3:
            arm(control, KILL, point)
            await scenario(pool, control)
            lives += 1 if control.fired else 0
            missed = 0 if control.fired else missed + 1
            if not control.fired:
                control.at = control.passed  # die at once, to be armed again
                await asyncio.gather(pool.submit(os.getpid), return_exceptions=True)
            point += parts
    print(usual, lives)


if __name__ == "__main__":
    asyncio.run(main())
