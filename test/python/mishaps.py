"""Functions that do in a worker what a task should not do."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import gate


def die(how: str) -> Any:
    """End this process, or try to."""
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "os._exit":
        os._exit(3)
    elif how == "SystemExit":
        sys.exit(4)
    elif how == "KeyboardInterrupt":
        raise KeyboardInterrupt
    elif how == "stack overflow":
        faulthandler.disable()
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # no core dump
        faulthandler._stack_overflow()  # type: ignore[attr-defined]
    elif how == "segfault":
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
        ctypes.string_at(0)
    return how


async def die_late(how: str) -> Any:
    await asyncio.sleep(0)
    return die(how)


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1)


async def generate() -> AsyncIterator[int]:
    yield 1


class KillsWhenPickled:
    def __reduce__(self) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def large_then_dead(size: int) -> list[Any]:
    """A result during whose packing the worker dies."""
    return [bytes(size), KillsWhenPickled()]


def report_and_wait(path: str) -> None:
    """An initializer that waits at a gate."""
    gate.through_blocking(path, f"start-{os.getpid()}")


def leave_a_program() -> int:
    """Starts a program that goes on when the task, and the pool, are over."""
    return subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, start_new_session=True).pid


def fork_and_stay() -> int:
    """Forks a child that lives on."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    return child


def fork_and_return() -> int:
    """Forks a child that ends at once; returns its exit status."""
    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_terminate() -> int:
    """Forks a child and ends it by SIGTERM, as multiprocessing does; returns minus the signal."""
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
