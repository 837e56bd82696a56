"""Memory: of a pool after 1 M and 10 M tasks, at the peak of lazy maps, of an idle worker."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
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


LAZY = """
import asyncio, re, sys
sys.path.insert(0, {here!r})
import aiomq
from measure import noop

async def main():
    async with aiomq.Pool(2) as pool:
        taken = 0
        async for _ in pool.map(noop, iter(range({items})), buffersize=10_000):
            taken += 1
            if {slow} and taken % 10_000 == 0:
                await asyncio.sleep(0.001)
        assert taken == {items}

if __name__ == "__main__":
    asyncio.run(main())
    print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
IDLE = """
import asyncio, os, sys
sys.path.insert(0, {here!r})
import {package}
from bench_idle import children
from bench_memory import private_mib
from measure import noop

async def main():
    async with {package}.Pool(2) as pool:
        await pool.map(noop, range(1000))
        print(sum(map(private_mib, sorted(children())[-2:])) / 2)

if __name__ == "__main__":
    asyncio.run(main())
"""


def private_mib(pid: int) -> float:
    """What a process has for itself alone."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1])
    return total / 1024


def printed(program: str, **values: object) -> float:
    """The number that a program of its own prints."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "program.py")
        script.write_text(program.format(here=os.path.dirname(__file__), **values))
        command = [sys.executable, str(script)]
        return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def lazy_maps() -> None:
    for slow in (False, True):
        row = "peak of a lazy map of 10 M items" + (", slow consumer" if slow else "")
        for repeat in range(REPEATS):
            for side, items in (("aiomq", 10 * MILLION), ("of 100 k", 100_000)):
                report(row, side, repeat, printed(LAZY, items=items, slow=slow) / 1024, "MiB")


def idle_workers() -> None:
    for repeat in range(REPEATS):
        for package in ("aiomq", "aiomultiprocess"):
            report("idle worker", package, repeat, printed(IDLE, package=package), "MiB private")


async def main() -> None:
    idle_workers()
    lazy_maps()
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
