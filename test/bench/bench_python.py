"""The Python package against its peers: maps, streams, start. 2 workers each.

A peer that is much slower gets fewer items; all sides are told as items a second.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import Pool as ProcessPool
from typing import Any

import aiomultiprocess
import numpy
from measure import PROCESSES, REPEATS, noop, plain_noop, report

import aiomq

MILLION = 1_000_000
CONCURRENCY = 16

IMPORT_ASYNCIO = "import asyncio"
IMPORT_AIOMQ = "import asyncio, aiomq"
START = """
import asyncio, time, aiomq
async def main():
    start = time.perf_counter()
    async with aiomq.Pool(2):
        print(time.perf_counter() - start)
asyncio.run(main())
"""
STARTS = 5  # of each program in a repeat; the least of them counts


async def suspend_once(value: int) -> int:
    await asyncio.sleep(0)
    return value


class Pools:
    """Everybody's workers, warm."""

    def __init__(self, ours: aiomq.Pool, theirs: aiomultiprocess.Pool) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.ours = ours
        self.aiomultiprocess = theirs
        self.processes: ProcessPool = spawn.Pool(PROCESSES)
        self.executor = ProcessPoolExecutor(PROCESSES, mp_context=spawn)

    def close(self) -> None:
        self.processes.terminate()
        self.executor.shutdown()


Work = Callable[[int], Awaitable[object]]  # runs so many items


async def rate(work: Work, items: int) -> float:
    """Items a second."""
    start = time.perf_counter()
    await work(items)
    return items / (time.perf_counter() - start)


async def compare(row: str, sides: dict[str, tuple[Work, int]]) -> None:
    for repeat in range(-1, REPEATS):
        for side, (work, items) in sides.items():
            value = await rate(work, items)
            if repeat >= 0:  # the first is to warm up
                report(row, side, repeat, value, "items/s")


def strings(items: int) -> list[str]:
    return [f"{number:030d}" for number in range(items)]


async def maps(pools: Pools) -> None:
    ours, aiomulti = pools.ours, pools.aiomultiprocess

    async def process_map(items: int) -> None:
        pools.processes.map(plain_noop, range(items))

    async def executor_map(items: int) -> None:
        for _ in pools.executor.map(plain_noop, range(items), chunksize=1):
            pass

    async def gather(items: int) -> None:
        await asyncio.gather(*map(suspend_once, range(items)))

    await compare(
        "map of a coroutine, 1 M ints",
        {
            "aiomq": (lambda items: ours.map(noop, range(items)), MILLION),
            "aiomultiprocess": (lambda items: aiomulti.map(noop, range(items)), 50_000),
        },
    )
    await compare(
        "map of a coroutine, 1 M strings of 30",
        {
            "aiomq": (lambda items: ours.map(noop, strings(items)), MILLION),
            "aiomultiprocess": (lambda items: aiomulti.map(noop, strings(items)), 50_000),
        },
    )
    await compare(
        "map of a coroutine that suspends once, 500 k",
        {
            "aiomq": (lambda items: ours.map(suspend_once, range(items)), 500_000),
            "asyncio.gather": (gather, 500_000),
            "aiomultiprocess": (lambda items: aiomulti.map(suspend_once, range(items)), 50_000),
        },
    )
    together = ours.options(isolate=False)
    await compare(
        "map of a plain function, 1 M ints, isolate=False",
        {
            "aiomq": (lambda items: together.map(plain_noop, range(items)), MILLION),
            "multiprocessing.Pool": (process_map, MILLION),
        },
    )
    await compare(
        "map of a plain function, 1 M ints",
        {
            "aiomq": (lambda items: ours.map(plain_noop, range(items)), MILLION),
            "multiprocessing.Pool": (process_map, MILLION),
            "ProcessPoolExecutor, chunks of 1": (executor_map, 10_000),
        },
    )


async def streams(pools: Pools) -> None:
    async def ours(items: int) -> None:
        async for _ in pools.ours.map(noop, range(items)):
            pass

    async def theirs(items: int) -> None:
        async for _ in pools.aiomultiprocess.map(noop, range(items)):
            pass

    await compare(
        "async for over a map, 100 k", {"aiomq": (ours, 100_000), "aiomultiprocess": (theirs, 100)}
    )


def echo(array: Any) -> Any:
    return array


def nothing(_array: Any) -> None:
    pass


async def arrays(pools: Pools) -> None:
    """There and back; and to a task that reads nothing, in memory of the pool."""
    large = numpy.ones(64 << 20, numpy.uint8)
    small, placed = pools.ours.empty(64 << 10, "u1"), pools.ours.empty(64 << 20, "u1")
    small[:] = placed[:] = 1
    row = "array of 64 MiB and back"
    for repeat in range(-1, REPEATS):
        start = time.perf_counter()
        await pools.ours.apply(echo, (large,))
        middle = time.perf_counter()
        pools.processes.apply(echo, (large,))
        end = time.perf_counter()
        if repeat >= 0:
            rates = [2 * large.nbytes / taken / 1e9 for taken in (middle - start, end - middle)]
            report(row, "aiomq", repeat, rates[0], "GB/s")
            report(row, "multiprocessing.Pool", repeat, rates[1], "GB/s")
        for side, array in (("aiomq", placed), ("one of 64 KiB", small)):
            start = time.perf_counter()
            for _ in range(200):
                await pools.ours.apply(nothing, (array,))
            if repeat >= 0:
                taken = (time.perf_counter() - start) / 200 * 1e6
                report("array of 64 MiB in Pool.empty()", side, repeat, taken, "us")


def start_ms(program: str) -> float:
    """Of a fresh interpreter that runs this; the least of some, which has waited least.

    What the program prints counts instead, in seconds, if it prints something.
    """
    times = []
    for _ in range(STARTS):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
        times.append(float(done.stdout or time.perf_counter() - start))
    return min(times) * 1e3


def starts() -> None:
    """The allowance is 30 ms over 1.1 times `import asyncio`, and 40 ms over it."""
    for repeat in range(REPEATS):
        bare = start_ms(IMPORT_ASYNCIO)
        report("a pool of 2 is ready", "aiomq", repeat, start_ms(START), "ms")
        report("a pool of 2 is ready", "allowed", repeat, 1.1 * bare + 30, "ms")
        report("import aiomq", "aiomq", repeat, start_ms(IMPORT_AIOMQ), "ms")
        report("import aiomq", "allowed", repeat, bare + 40, "ms")


async def main() -> None:
    async with (
        aiomq.Pool(PROCESSES, childconcurrency=CONCURRENCY) as ours,
        aiomultiprocess.Pool(PROCESSES, childconcurrency=CONCURRENCY) as theirs,
    ):
        pools = Pools(ours, theirs)
        try:
            await maps(pools)
            await streams(pools)
            await arrays(pools)
        finally:
            pools.close()
    starts()


if __name__ == "__main__":
    asyncio.run(main())
