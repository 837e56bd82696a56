"""Task: the awaitable for one submitted call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from aiomq import _abi
from aiomq._bridge import DecodeFailure
from aiomq._failure import exception_of

if TYPE_CHECKING:
    from aiomq._submitter import Submitter

T = TypeVar("T")


class Task(asyncio.Future[T]):
    """One call in a pool; made by Pool.submit(). Await it for the result.

    Raises what the call raised, with the worker's traceback as `__cause__`; WorkerDied if its
    process ended; PoolBroken or RuntimeError if the pool ended first. Cancelling it, or the task
    that awaits it, ends it here at once and asks the worker to stop: a call that has not started
    never will, a coroutine gets CancelledError, a plain function runs to its end and its result is
    dropped.
    """

    __slots__ = ("_dispatcher", "_id")

    _dispatcher: Submitter
    _id: int | None

    def __init__(self, dispatcher: Submitter, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._dispatcher = dispatcher
        self._id = None

    @property
    def id(self) -> int | None:
        """The pool's number for this call, in submit order; None while the call waits for room."""
        return self._id

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the call; False if it is done already."""
        if not super().cancel(msg):
            return False
        if self._id is not None:
            self._dispatcher.cancel(self._id)
        return True

    def _complete(
        self,
        left: int,
        worker: int,
        _start: int,
        values: list[Any] | None,
        others: list[tuple[int, int, Any]] | None,
    ) -> None:
        """Take the outcome that `_bridge.collect()` decoded."""
        if self.done():
            return
        if values is not None:
            self.set_result(values[0])
            return
        assert others is not None
        _, status, value = others[0]
        if status == _abi.OK and not isinstance(value, DecodeFailure):
            self.set_result(value)
        else:
            self._fail(exception_of(status, value, self._dispatcher, worker))

    def _fail(self, error: BaseException, quiet: bool = False) -> None:
        """End with this error; `quiet`: nobody needs to look at it."""
        if self.done():
            return
        if isinstance(error, asyncio.CancelledError):
            super().cancel()
            return
        self.set_exception(error)
        if quiet:
            self.exception()
