"""`pool.map` of a no-op coroutine over 1,000,000 ints against aiomultiprocess, 2 workers each.

aiomultiprocess does 20,000 to 60,000 tasks a second, so it gets fewer of them; both are told as
tasks a second, with the same childconcurrency.
"""

from __future__ import annotations

import asyncio
import time

import aiomultiprocess
from measure import PROCESSES, REPEATS, noop, report

import aiomq

ITEMS = 1_000_000
THEIR_ITEMS = 50_000
CONCURRENCY = 16


async def main() -> None:
    async with (
        aiomq.Pool(PROCESSES, childconcurrency=CONCURRENCY) as ours,
        aiomultiprocess.Pool(PROCESSES, childconcurrency=CONCURRENCY) as theirs,
    ):
        for repeat in range(-1, REPEATS):
            start = time.perf_counter()
            result = await ours.map(noop, range(ITEMS))
            own = ITEMS / (time.perf_counter() - start)
            assert result == list(range(ITEMS))
            start = time.perf_counter()
            result = await theirs.map(noop, range(THEIR_ITEMS))
            other = THEIR_ITEMS / (time.perf_counter() - start)
            assert result == list(range(THEIR_ITEMS))
            if repeat < 0:
                continue  # warm-up
            report("map of 1,000,000 ints", "aiomq", repeat, own, "tasks/s")
            report("map of 1,000,000 ints", "aiomultiprocess", repeat, other, "tasks/s")


if __name__ == "__main__":
    asyncio.run(main())
