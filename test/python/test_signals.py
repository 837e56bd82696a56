"""Signals as terminals and service managers send them: to the whole group, to everyone at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import calls
import gate
import pytest
from running import HERE, reaches, stop

from aiomq import Pool

_PROGRAM = """
import asyncio, aiomq, calls, limited

async def main():
    async with aiomq.Pool(2) as pool:
        print(*[await pool.apply(calls.pid) for _ in range(10)], flush=True)
        await asyncio.gather(*(pool.submit({task}) for _ in range(10)))

if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def start(task: str) -> tuple[subprocess.Popen[str], set[int]]:
    """A program with a busy pool, in a process group of its own, and its workers."""
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(task=task)],
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts its background jobs with SIGINT ignored, and the test may be in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert program.stdout is not None
    return program, {int(word) for word in program.stdout.readline().split()}


def gone(pids: set[int]) -> bool:
    """Waits a little for processes that are not our children to be gone."""
    end = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.versions
@pytest.mark.parametrize("task", ["calls.nap, 60", "limited.spin", "limited.block"])
def test_ctrl_c_ends_pool_and_workers_quietly(task: str) -> None:
    program, workers = start(task)
    # CPython looks for signals between bytecodes: one that comes after the last of them before
    # epoll_wait is not seen until the loop wakes. Inside epoll_wait it is.
    reaches(program.pid, b"S")
    os.killpg(program.pid, signal.SIGINT)
    out, err = program.communicate(timeout=20)
    assert out == "interrupted\n" and err == ""
    assert gone(workers)


@pytest.mark.parametrize("task", ["calls.nap, 60", "limited.spin"])
def test_sigterm_to_everyone_ends_everyone(task: str) -> None:
    program, workers = start(task)
    os.killpg(program.pid, signal.SIGTERM)
    _, err = program.communicate(timeout=20)
    assert program.returncode == -signal.SIGTERM and err == ""
    assert gone(workers)


@pytest.mark.versions
async def test_stopping_and_continuing_a_worker_loses_nothing() -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        running = pool.submit(gate.through, door.path, "a")
        await door.arrived("a")
        stop(door.pids["a"])
        waiting = [pool.submit(calls.add, number) for number in range(100)]
        door.open("a")
        os.kill(door.pids["a"], signal.SIGCONT)
        assert await running == "a"
        assert [await task for task in waiting] == list(range(100))


def test_stopping_and_continuing_the_dispatcher_loses_nothing() -> None:
    program, workers = start("calls.nap, 1")
    stop(program.pid)
    os.kill(program.pid, signal.SIGCONT)
    _, err = program.communicate(timeout=20)
    assert program.returncode == 0 and err == ""
    assert gone(workers)
