"""Item: the light task in which a worker runs one item. For the worker's pump only.

To the coroutine, and to everything that asks for asyncio.current_task(), an Item is an
asyncio.Task: own context, name, identity and cancellation. It is much cheaper because its first
step runs inline and an item that never suspends does not meet the loop at all. It differs from
asyncio.Task in two ways: isinstance(item, asyncio.Task) is false, and SystemExit or
KeyboardInterrupt end the item, not the loop.

Life of an Item: the item loop (`_bridge.Runner`) makes it, sets `_ctx` and `_coro` and runs the
first step. If that ends it, the item loop uses the object again if nobody touched or kept it. If it
suspends, the item loop sets `_job` and `_index` and goes on with it whenever what it awaits is
done. In the end it sets `_status` and `_value`, through `_finish()` if somebody touched the item.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from asyncio import base_tasks, tasks
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    enter_task: Callable[[asyncio.AbstractEventLoop, object], None]
    leave_task: Callable[[asyncio.AbstractEventLoop, object], None]
    register_task: Callable[[object], None]
else:
    enter_task = tasks._enter_task
    leave_task = tasks._leave_task
    register_task = tasks._register_task

# As in aiomq.h; not imported from _abi, so that an Item can be tested without the library.
PENDING, OK, ERROR, CANCELLED = range(4)
NOBODY = 2**32 - 1  # the job to enter when no item runs

_UNCANCEL_CLEARS = sys.version_info >= (3, 13)
_numbers = itertools.count(1)


class Item:
    """One running item; behaves as the asyncio.Task of its coroutine."""

    __slots__ = (
        "__weakref__",
        "_asyncio_future_blocking",
        "_callbacks",
        "_cancel_message",
        "_cancel_requests",
        "_coro",
        "_ctx",
        "_fut_waiter",
        "_index",
        "_job",
        "_loop",
        "_must_cancel",
        "_name",
        "_status",
        "_touched",
        "_value",
        "_watched",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ctx: Context | None = None
        self._job = NOBODY  # until it suspends
        self._index = 0
        self._coro: Coroutine[Any, Any, Any] | None = None
        self._touched = False  # so that others, or another item, might notice
        self._watched = False  # the pump wants to be asked when it ends; it is touched then, too
        self._must_cancel = False
        self._cancel_message: object = None
        self._cancel_requests = 0
        self._fut_waiter: Any = None
        self._callbacks: list[tuple[Callable[[Any], object], Context | None]] | None = None
        self._name: str | None = None
        self._status = PENDING
        self._value: Any = None
        self._asyncio_future_blocking = False

    # --- what a Task offers -------------------------------------------------------------------

    def __repr__(self) -> str:
        state = ("pending", "finished", "finished", "cancelled")[self._status]
        return f"<aiomq.Item {state} name={self.get_name()!r} coro={self._coro!r}>"

    def done(self) -> bool:
        """Whether the item has its outcome."""
        return self._status != PENDING

    def cancelled(self) -> bool:
        """Whether the outcome is a cancellation."""
        return self._status == CANCELLED

    def result(self) -> Any:
        """The value; raises the item's exception, CancelledError, or InvalidStateError."""
        if self._status == OK:
            return self._value
        if self._status == ERROR:
            raise self._value
        if self._status == CANCELLED:
            raise self._cancelled_error()
        raise asyncio.InvalidStateError("Result is not set.")

    def exception(self) -> BaseException | None:
        """The item's exception or None; raises CancelledError or InvalidStateError."""
        if self._status == CANCELLED:
            raise self._cancelled_error()
        if self._status == PENDING:
            raise asyncio.InvalidStateError("Exception is not set.")
        error: BaseException | None = self._value if self._status == ERROR else None
        return error

    def set_result(self, result: object) -> None:
        """Raises RuntimeError, as a Task does."""
        raise RuntimeError("Task does not support set_result operation")

    def set_exception(self, exception: object) -> None:
        """Raises RuntimeError, as a Task does."""
        raise RuntimeError("Task does not support set_exception operation")

    def get_coro(self) -> Coroutine[Any, Any, Any] | None:
        """The coroutine that this item runs."""
        return self._coro

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The worker's event loop."""
        return self._loop

    def get_context(self) -> Context | None:
        """The context that the coroutine runs in; every item has its own."""
        return self._ctx

    def get_name(self) -> str:
        """The item's name; unlike any other's until set_name() says otherwise."""
        if self._name is None:
            self._touched = True
            self._name = f"aiomq-item-{next(_numbers)}"
        return self._name

    def set_name(self, value: object) -> None:
        """Name the item."""
        self._touched = True
        self._name = str(value)

    def get_stack(self, *, limit: int | None = None) -> list[FrameType]:
        """The frames in which the coroutine is suspended."""
        frames: list[FrameType] = base_tasks._task_get_stack(self, limit)  # type: ignore[arg-type]
        return frames

    def print_stack(self, *, limit: int | None = None, file: TextIO | None = None) -> None:
        """Print the stack as asyncio.Task.print_stack() does."""
        base_tasks._task_print_stack(self, limit, file)  # type: ignore[arg-type]

    @property
    def _exception(self) -> BaseException | None:
        return self._value if self._status == ERROR else None

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        """Have the loop call callback(item) once the item has its outcome."""
        self._touched = True
        if self._status != PENDING:
            self._loop.call_soon(callback, self, context=context)
        elif self._callbacks is None:
            self._callbacks = [(callback, context)]
        else:
            self._callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """Remove all instances of a callback; returns how many there were."""
        before = self._callbacks or []
        self._callbacks = [entry for entry in before if entry[0] != callback]
        return len(before) - len(self._callbacks)

    def cancelling(self) -> int:
        """How many cancel requests are pending."""
        return self._cancel_requests

    def uncancel(self) -> int:
        """Take back one cancel request; returns how many are left."""
        if self._cancel_requests > 0:
            self._cancel_requests -= 1
            if _UNCANCEL_CLEARS and self._cancel_requests == 0:
                self._must_cancel = False
        return self._cancel_requests

    def cancel(self, msg: object = None) -> bool:
        """Throw CancelledError into the coroutine at its next step; False if it is over."""
        if self._status != PENDING:
            return False
        self._touched = True
        self._cancel_requests += 1
        if self._fut_waiter is not None and self._fut_waiter.cancel(msg=msg):
            return True
        self._must_cancel = True
        self._cancel_message = msg
        return True

    def __await__(self) -> Generator[Any, None, Any]:
        if self._status == PENDING:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    # --- for the item loop ------------------------------------------------------------------------

    def _cancelled_error(self) -> asyncio.CancelledError:
        if self._cancel_message is None:
            return asyncio.CancelledError()
        return asyncio.CancelledError(self._cancel_message)

    def _cancel_waiter(self) -> None:
        """It was asked to stop before it began to await what it awaits now."""
        if self._fut_waiter.cancel(msg=self._cancel_message):
            self._must_cancel = False

    def _misuse(self, yielded: Any) -> RuntimeError:
        """What is raised in a coroutine that has yielded what can't be awaited."""
        blocking = getattr(yielded, "_asyncio_future_blocking", None)
        if blocking is None:
            text = f"Task got bad yield: {yielded!r}"
        elif yielded.get_loop() is not self._loop:
            text = f"Task {self!r} got Future {yielded!r} attached to a different loop"
        elif yielded is self:
            text = f"Task cannot await on itself: {self!r}"
        else:
            text = f"yield was used instead of yield from in task {self!r} with {yielded!r}"
        return RuntimeError(text)

    def _finish(self, status: int, value: object) -> bool:
        """Note the outcome and schedule the done callbacks; whether the pump is to be asked.

        The value is dropped if cancelled.
        """
        self._status = status
        self._value = None if status == CANCELLED else value
        if self._callbacks:
            for callback, context in self._callbacks:
                self._loop.call_soon(callback, self, context=context)
            self._callbacks = None
        return self._watched
