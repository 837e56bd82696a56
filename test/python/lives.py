"""What the tests of worker state, initializers, finalizers and threads run in workers."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import gate

import aiomq
from aiomq import _pump


async def start(text: str) -> None:
    await asyncio.sleep(0)
    aiomq.worker_state().text = text
    aiomq.worker_state().count = 0


def plain_start() -> None:
    aiomq.worker_state().text = "plain"


async def count() -> tuple[int, int]:
    state = aiomq.worker_state()
    state.count += 1
    return os.getpid(), state.count


def text_of() -> str:
    return str(aiomq.worker_state().text)


async def names_of_state() -> list[str]:
    return sorted(vars(aiomq.worker_state()))


async def write_end() -> None:
    await asyncio.sleep(0)
    with open(aiomq.worker_state().text, "a") as file:
        file.write(f"{os.getpid()} {aiomq.worker_state().count}\n")


def plain_end() -> None:
    with open(os.environ["AIOMQ_TEST_END"], "a") as file:
        file.write("ended\n")


async def bad_end() -> None:
    raise ValueError("bad end")


async def info() -> aiomq.TaskInfo:
    first = aiomq.current_task()
    await asyncio.sleep(0)
    assert aiomq.current_task() == first
    assert await asyncio.create_task(_info()) == first
    assert await asyncio.to_thread(aiomq.current_task) == first
    return first


async def _info() -> aiomq.TaskInfo:
    return aiomq.current_task()


async def info_at_once(_: Any = None) -> aiomq.TaskInfo:
    return aiomq.current_task()


async def info_late(_: Any = None) -> aiomq.TaskInfo:
    await asyncio.sleep(0)
    return aiomq.current_task()


def plain_info(_: Any = None) -> aiomq.TaskInfo:
    return aiomq.current_task()


def info_in_thread(_: Any = None) -> aiomq.TaskInfo:
    return aiomq.current_task()


async def info_of_a_stranger() -> str:
    try:
        await asyncio.create_task(_info())
    except RuntimeError as error:
        return str(error)
    return ""


def die_once() -> int:
    attempt = aiomq.current_task().attempt
    if attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return attempt


@aiomq.blocking
def decorated(value: int) -> tuple[int, bool]:
    """Says whether it ran beside the loop's thread."""
    return 2 * value, threading.current_thread() is not threading.main_thread()


def meet(path: str, name: str) -> str:
    """Blocks its thread until it is let through."""
    return gate.through_blocking(path, name)


async def beside(path: str, name: str) -> str:
    return await gate.through(path, name)


def raise_in_thread(kind: str) -> None:
    raise {"value": ValueError("bad"), "stop": StopIteration(1), "exit": SystemExit(3)}[kind]


def meet_and_note(path: str, name: str, note: str) -> str:
    gate.through_blocking(path, name)
    with open(note, "a") as file:
        file.write(name)
    return name


def sleep_in_thread(seconds: float) -> None:
    time.sleep(seconds)


async def leave_behind(path: str) -> None:
    aiomq.worker_state().task = asyncio.create_task(_write_when_cancelled(path))
    await asyncio.sleep(0)


async def _write_when_cancelled(path: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        with open(path, "a") as file:
            file.write("cancelled")


def jobs_that_are_remembered() -> int:
    assert _pump.current is not None
    return len(_pump.current._jobs) - 1  # its own
