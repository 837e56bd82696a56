"""Serial, threads, processes, asyncio, aiomultiprocess and aiomq at three jobs: a table and a plot.

The comparison of talks about the GIL. A job is 400 items: each computes for a millisecond, waits
for ten, or does one and then the other. Told is the time of a job. The plot goes to
AIOMQ_TALK_PLOT, or to talk.svg in the build folder.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiomultiprocess
from measure import PROCESSES, REPEATS, report

import aiomq

ITEMS = 400
CONCURRENCY = 64  # of everybody who can: waiting items of a process, or threads
WAIT = 0.010
LOOPS = 12_000  # about a millisecond of counting


def compute(_item: int = 0) -> int:
    total = 0
    for number in range(LOOPS):
        total += number & 7
    return total


def wait(_item: int = 0) -> None:
    time.sleep(WAIT)


def mixed(_item: int = 0) -> int:
    time.sleep(WAIT)
    return compute()


async def compute_async(_item: int = 0) -> int:
    return compute()


async def wait_async(_item: int = 0) -> None:
    await asyncio.sleep(WAIT)


async def mixed_async(_item: int = 0) -> int:
    await asyncio.sleep(WAIT)
    return compute()


JOBS = {
    "CPU-bound": (compute, compute_async),
    "I/O-bound": (wait, wait_async),
    "mixed": (mixed, mixed_async),
}
Job = tuple[Callable[[int], object], Callable[[int], Awaitable[object]]]


async def main() -> None:
    spawn = multiprocessing.get_context("spawn")
    items = range(ITEMS)
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (
        spawn.Pool(PROCESSES) as processes,
        ThreadPoolExecutor(CONCURRENCY) as threads,
    ):
        async with (
            aiomq.Pool(PROCESSES, childconcurrency=CONCURRENCY) as ours,
            aiomultiprocess.Pool(PROCESSES, childconcurrency=CONCURRENCY) as theirs,
        ):

            async def pool(job: Job) -> None:
                await ours.map(job[1], items)

            async def serial(job: Job) -> None:
                for item in items:
                    job[0](item)

            async def threaded(job: Job) -> None:
                list(threads.map(job[0], items))

            async def processed(job: Job) -> None:
                processes.map(job[0], items)

            async def alone(job: Job) -> None:
                await asyncio.gather(*map(job[1], items))

            async def aiomulti(job: Job) -> None:
                await theirs.map(job[1], items)

            sides = {
                "aiomq": pool,
                "serial": serial,
                "threads": threaded,
                "multiprocessing.Pool": processed,
                "asyncio": alone,
                "aiomultiprocess": aiomulti,
            }
            for name, job in JOBS.items():
                for repeat in range(-1, REPEATS):
                    for side, work in sides.items():
                        start = time.perf_counter()
                        await work(job)
                        taken = time.perf_counter() - start
                        if repeat >= 0:  # the first is to warm up
                            report(f"{name}, {ITEMS} items", side, repeat, taken * 1e3, "ms")
                            times[name][side].append(taken)
    plot(times)


def plot(times: dict[str, dict[str, list[float]]]) -> None:
    """Items a second, a group of bars for each job."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, place = pyplot.subplots(figsize=(9, 5))
    sides = list(next(iter(times.values())))
    for number, side in enumerate(sides):
        rates = [ITEMS / statistics.median(times[name][side]) for name in times]
        places = [group + (number - len(sides) / 2) * 0.13 for group in range(len(times))]
        bars = place.bar(places, rates, width=0.13, label=side)
        place.bar_label(bars, fmt="%.0f", fontsize=6)
    place.set_xticks(range(len(times)), list(times))
    place.set_yscale("log")
    place.set_ylabel("items/s")
    place.legend(fontsize=8)
    place.set_title(f"{PROCESSES} processes, up to {CONCURRENCY} items waiting in each")
    figure.tight_layout()
    default = Path(os.environ.get("AIOMQ_BUILD_DIR", "."), "talk.svg")
    figure.savefig(os.environ.get("AIOMQ_TALK_PLOT") or default)


if __name__ == "__main__":
    asyncio.run(main())
