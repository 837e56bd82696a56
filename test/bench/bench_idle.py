"""CPU time of an idle pool: dispatcher and workers together over 10 seconds."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from measure import PROCESSES, REPEATS, noop, report

import aiomq

SECONDS = 10.0
ALLOWED_MS = 10.0


def children() -> list[int]:
    pid = os.getpid()
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def cpu_ms(pids: list[int]) -> float:
    """CPU time of processes, from the scheduler's own nanosecond count of each thread."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e6


async def main() -> None:
    async with aiomq.Pool(PROCESSES) as pool:
        await pool.map(noop, range(10_000))
        pids = [os.getpid(), *children()]
        loop = asyncio.get_running_loop()
        for repeat in range(REPEATS):
            before = cpu_ms(pids)
            end = time.monotonic() + SECONDS
            done = loop.create_future()
            loop.call_at(loop.time() + SECONDS, done.set_result, None)
            await done
            assert time.monotonic() >= end - 0.1
            report("idle 10 s", "aiomq", repeat, cpu_ms(pids) - before, "ms of CPU")
            report("idle 10 s", "allowed", repeat, ALLOWED_MS, "ms of CPU")


if __name__ == "__main__":
    asyncio.run(main())
