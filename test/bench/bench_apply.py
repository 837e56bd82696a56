"""Latency of one `await pool.apply(noop)`: medians of a repeat's calls, against two others, and the
99th percentile against the median."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor

import aiomultiprocess
from measure import PROCESSES, REPEATS, noop, plain_noop, report

import aiomq

CALLS = 1000
THEIR_CALLS = 60  # aiomultiprocess polls: some 10 ms each


async def latencies_us(call: Callable[[], Awaitable[object]], calls: int) -> list[float]:
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        await call()
        times.append((time.perf_counter() - start) * 1e6)
    return times


def executor_median_us(executor: ProcessPoolExecutor) -> float:
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        executor.submit(plain_noop, 1).result()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


async def main() -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=spawn) as executor:
        async with aiomq.Pool(PROCESSES) as ours, aiomultiprocess.Pool(PROCESSES) as theirs:
            for repeat in range(-1, REPEATS):
                own = await latencies_us(lambda: ours.apply(noop, (1,)), CALLS)
                other = executor_median_us(executor)
                third = await latencies_us(lambda: theirs.apply(noop, (1,)), THEIR_CALLS)
                if repeat < 0:
                    continue  # warm-up
                median = statistics.median(own)
                report("apply", "aiomq", repeat, median, "µs")
                report("apply", "ProcessPoolExecutor", repeat, other, "µs")
                report("apply", "aiomultiprocess", repeat, statistics.median(third), "µs")
                last = statistics.quantiles(own, n=100)[98]
                report("apply, 99th percentile", "aiomq", repeat, last, "µs")
                report("apply, 99th percentile", "median", repeat, median, "µs")


if __name__ == "__main__":
    asyncio.run(main())
