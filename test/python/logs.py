"""Functions that the tests of forwarded logs run in workers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import warnings
from typing import Any

import aiomq

quiet = logging.getLogger("test.quiet")
loud = logging.getLogger("test.loud")


async def log_all(text: str) -> int:
    for logger in (loud, quiet):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logger.log(level, "%s at %d", text, level)
    await asyncio.sleep(0)
    return os.getpid()


def log_extra(value: Any) -> None:
    loud.warning("with more", extra={"order": value, "lock": threading.Lock()})


def log_error() -> None:
    try:
        raise LookupError("inside")
    except LookupError:
        loud.exception("it failed")


def log_long(characters: int) -> None:
    loud.warning("%s", "x" * characters, extra={"more": "y" * characters})


def log_many(count: int) -> None:
    for number in range(count):
        loud.warning("number %06d %s", number, "." * 1000)


def log_badly() -> None:
    loud.warning("%d", "no number")


def log_and_die() -> None:
    loud.warning("last words")
    os.kill(os.getpid(), signal.SIGKILL)


def warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=1)


def begin() -> None:
    loud.warning("begin")


def end() -> None:
    loud.warning("end")


def configure(path: str) -> None:
    logging.root.handlers.clear()
    logging.basicConfig(filename=path, level=logging.INFO)


async def log_nested() -> None:
    await aiomq.current_pool().apply(log_all, ("nested",))
