"""Item: the light task in which a worker runs one item. For the worker's pump only.

To the coroutine, and to everything that asks for asyncio.current_task(), an Item is an
asyncio.Task: own context, name, identity and cancellation. It is much cheaper because its first
step runs inline and an item that never suspends does not meet the loop at all. It differs from
asyncio.Task in two ways: isinstance(item, asyncio.Task) is false, and SystemExit or
KeyboardInterrupt end the item, not the loop.

Life of an Item: the item loop (`_bridge.Runner`) makes it, sets `_ctx`, `_job`, `_index` and
`_coro` and runs the first step between enter and leave. If that finishes, the loop either uses the
object again (nobody touched or kept it) or tells it the outcome by `_finish()`. If the step
suspends, the pump sets `_report` and calls `_park()`; from then on the event loop drives the item
through `_step()`. The item loop tells the pool which item runs; later steps do so by `_enter()`.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from asyncio import base_tasks, tasks
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from time import monotonic_ns
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

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
        "_busy_ns",
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
        "_report",
        "_started_ns",
        "_status",
        "_touched",
        "_value",
    )

    # Set once in a worker: Runner.enter(), by which a step tells the pool which item runs, and the
    # same for its end, unless the selector does that for all steps of a turn.
    _enter: ClassVar[Any] = None
    _leave: ClassVar[Any] = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ctx: Context | None = None
        self._job = 0
        self._index = 0
        self._report: Callable[[Item], None] | None = None
        self._reset()

    def _reset(self) -> None:
        """Forget the item before, as if newly made."""
        self._coro: Coroutine[Any, Any, Any] | None = None
        self._touched = False
        self._must_cancel = False
        self._cancel_message: object = None
        self._cancel_requests = 0
        self._fut_waiter: Any = None
        self._callbacks: list[tuple[Callable[[Any], object], Context | None]] | None = None
        self._name: str | None = None
        self._status = PENDING
        self._value: Any = None
        self._busy_ns = 0
        self._started_ns = 0  # of one that has suspended
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

    # --- driving ------------------------------------------------------------------------------

    def _cancelled_error(self) -> asyncio.CancelledError:
        if self._cancel_message is None:
            return asyncio.CancelledError()
        return asyncio.CancelledError(self._cancel_message)

    def _park(self, yielded: Any) -> None:
        """Have the loop go on with the coroutine once `yielded`, what it awaits, is done."""
        loop = self._loop
        if yielded is None:
            loop.call_soon(self._step, None, context=self._ctx)
            return
        blocking = getattr(yielded, "_asyncio_future_blocking", None)
        if blocking is None:
            text = f"Task got bad yield: {yielded!r}"
        elif yielded.get_loop() is not loop:
            text = f"Task {self!r} got Future {yielded!r} attached to a different loop"
        elif yielded is self:
            text = f"Task cannot await on itself: {self!r}"
        elif not blocking:
            text = f"yield was used instead of yield from in task {self!r} with {yielded!r}"
        else:
            yielded._asyncio_future_blocking = False
            yielded.add_done_callback(self._wakeup, context=self._ctx)
            self._fut_waiter = yielded
            if self._must_cancel and yielded.cancel(msg=self._cancel_message):
                self._must_cancel = False
            return
        loop.call_soon(self._step, RuntimeError(text), context=self._ctx)

    def _wakeup(self, future: Any) -> None:
        error: BaseException | None = None
        try:
            future.result()
        except BaseException as raised:
            error = raised
        try:
            self._step(error)
        finally:
            error = None  # it holds this frame by its traceback

    def _step(self, error: BaseException | None) -> None:
        """Run the coroutine to its next suspension or its end; the Handle has entered `_ctx`."""
        started = monotonic_ns()
        if self._must_cancel:
            if not isinstance(error, asyncio.CancelledError):
                error = self._cancelled_error()
            self._must_cancel = False
        self._fut_waiter = None
        loop = self._loop
        coroutine = self._coro
        assert coroutine is not None
        yielded: Any = None
        status = PENDING
        enter = self._enter
        if enter is not None:
            enter(self._job, self._index)
        enter_task(loop, self)
        try:
            yielded = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            status = CANCELLED if self._must_cancel else OK
            yielded = stop.value
        except asyncio.CancelledError:
            status = CANCELLED
        except BaseException as raised:
            status = ERROR
            yielded = raised
        finally:
            leave_task(loop, self)
            if self._leave is not None:
                self._leave(NOBODY, 0)
            error = None
        # From here on no exception is being handled, so what runs next starts with a clean one.
        self._busy_ns += monotonic_ns() - started
        if status == PENDING:
            self._park(yielded)
            return
        self._finish(status, yielded)
        yielded = None  # an exception holds this frame by its traceback
        report = self._report
        if report is not None:
            report(self)

    def _finish(self, status: int, value: object) -> None:
        """Note the outcome and schedule the done callbacks. The value is dropped if cancelled."""
        self._status = status
        self._value = None if status == CANCELLED else value
        if self._callbacks:
            for callback, context in self._callbacks:
                self._loop.call_soon(callback, self, context=context)
            self._callbacks = None
