"""Blocking: plain functions that wait, in threads of their worker."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Generic, ParamSpec, TypeVar

from aiomq._current import current_task

P = ParamSpec("P")
R = TypeVar("R")

_executor: ThreadPoolExecutor | None = None  # this worker's


class Blocking(Generic[P, R]):
    """A function marked by blocking(). Called directly it is the function itself."""

    __wrapped__: Callable[P, R]

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now."""
        return self.__wrapped__(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blocking) and self.__wrapped__ == other.__wrapped__

    def __hash__(self) -> int:
        return hash((Blocking, self.__wrapped__))


def blocking(function: Callable[P, R]) -> Blocking[P, R]:
    """The same function, to be run in a thread of its worker.

        await pool.map(aiomq.blocking(requests.get), urls)

    For functions that wait: for the network, a disk, a lock. They overlap within one worker, as
    many as its childconcurrency, and coroutines go on beside them. What computes in Python is
    better off without it: threads of one process take turns.

    Cancelling and timeouts are as with any plain function: one that has not started never will, one
    that runs goes on to its end, or until its worker is killed for its timeout. May be used as a
    decorator. Raises TypeError for what can't be called, or is a coroutine function, which does not
    block.
    """
    if not callable(function):
        raise TypeError(f"the function must be callable, not {type(function).__name__}")
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{function.__qualname__} is a coroutine function; it needs no thread")
    return function if isinstance(function, Blocking) else Blocking(function)


def unmarked(function: Any) -> Any:
    """The function without its mark, if it has one."""
    return function.__wrapped__ if isinstance(function, Blocking) else function


def threaded(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """In a worker: the coroutine function that runs it in a thread."""

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        current_task()  # so that the thread can ask, too
        job = _threads().submit(copy_context().run, _call, function, args, kwargs)
        done = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not job.cancel():
                while not done.done():  # a thread can't be stopped
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait([done])
            raise

    return run


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except StopIteration as error:  # which no asyncio.Future may carry
        raise RuntimeError("the function raised StopIteration") from error


def _threads() -> ThreadPoolExecutor:
    global _executor
    if _executor is None:
        from aiomq import _pump

        assert _pump.current is not None
        _executor = ThreadPoolExecutor(_pump.current.permits, "aiomq-blocking")
    return _executor
