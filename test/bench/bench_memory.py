"""Memory of dispatcher and workers after 1 M and after 10 M tasks, in the same pool."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from bench_idle import children
from measure import PROCESSES, REPEATS, noop, report

import aiomq

MILLION = 1_000_000
CHUNK = 250_000


def resident_mib(pids: list[int]) -> float:
    """Proportional set size: shared pages are counted once."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


async def run_tasks(pool: aiomq.Pool, tasks: int) -> None:
    for start in range(0, tasks, CHUNK):
        await pool.map(noop, range(start, start + CHUNK))


async def main() -> None:
    for repeat in range(REPEATS):
        async with aiomq.Pool(PROCESSES) as pool:
            await run_tasks(pool, MILLION)
            pids = [os.getpid(), *children()]
            early = resident_mib(pids)
            await run_tasks(pool, 9 * MILLION)
            late = resident_mib(pids)
        report("memory after 10 M tasks", "aiomq", repeat, late, "MiB")
        report("memory after 10 M tasks", "after 1 M tasks", repeat, early, "MiB")


if __name__ == "__main__":
    asyncio.run(main())
