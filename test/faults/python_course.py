"""A pool's life in Python for each call of some functions that fails. Started by test_python.py.

Arguments: NAME:ERROR, of the function and the number of its error, any number of these. The faults
library must be preloaded. Prints a line for each life: the argument, and what came of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
from pathlib import Path

import aiomq

MOST_CALLS = 60
LIFE_SECONDS = 30

faults = ctypes.CDLL(None)
faults.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_long, ctypes.c_int]
faults.fault_failures.restype = ctypes.c_long


def holdings() -> tuple[set[str], int, set[str]]:
    """What a pool could leave: descriptors, threads, children."""
    gc.collect()
    descriptors = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            descriptors.add(f"{entry} {os.readlink('/proc/self/fd/' + entry)}")
        except OSError:  # that of the listing itself
            continue
    children = set()
    for task in os.listdir("/proc/self/task"):
        children.update(Path(f"/proc/self/task/{task}/children").read_text().split())
    return descriptors, len(os.listdir("/proc/self/task")), children


async def live(name: bytes, call: int, number: int) -> str:
    """Create a pool, use it, end it. What came of it; anything but a proper exception passes."""
    assert faults.fault_arm(name, call, call, number) == 0, "no such function"
    try:
        async with aiomq.Pool(1) as pool:
            faults.fault_disarm()
            return f"works {await pool.apply(divmod, (17, 5))}"
    except (OSError, MemoryError, aiomq.PoolBroken) as error:
        faults.fault_disarm()
        assert str(error), "the exception has no words"
        return f"{type(error).__name__} {error}"


def fail_each_call(fault: str) -> None:
    name, _, number = fault.partition(":")
    before = holdings()
    for call in range(1, MOST_CALLS):
        end = asyncio.run(asyncio.wait_for(live(name.encode(), call, int(number)), LIFE_SECONDS))
        assert holdings() == before, f"{fault} call {call}: {end}: left behind: {holdings()}"
        if faults.fault_failures() == 0:
            return
        print(fault, end, flush=True)
    raise AssertionError("there is no end of calls")


def main() -> None:
    # What is loaded once is there after a first life, in which none fails.
    asyncio.run(asyncio.wait_for(live(b"mmap", 0, 0), LIFE_SECONDS))
    for fault in sys.argv[1:]:
        fail_each_call(fault)


if __name__ == "__main__":
    main()
