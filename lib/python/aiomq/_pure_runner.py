"""The item loop in pure Python; see runner.hpp, whose order of steps it follows."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import errno
import os
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from types import CoroutineType, NoneType
from typing import TYPE_CHECKING, Any

from aiomq import _abi, _abi_full
from aiomq._bridge_types import as_coroutine
from aiomq._decode import Arguments
from aiomq._item import NOBODY
from aiomq._pure import complete_item, fail_item

if TYPE_CHECKING:
    from aiomq._board import Page
    from aiomq._bridge import Owner
    from aiomq._report import Report

_lib = _abi_full.lib
_OVER, _ALL_STARTED, _PERMITS_USED, _DEADLINE = range(4)

_RETURNED, _RAISED, _SUSPENDED = range(3)
_Step = tuple[int, Any]  # how the first step ended; result, exception, or what was yielded

# Certainly nothing to await; other types are looked at.
_PLAIN_TYPES = frozenset({NoneType, bool, int, float, str, bytes, list, tuple, dict})


def _base_references() -> int:
    """What getrefcount() says of an object that one local variable of its caller refers to."""
    item = object()
    return sys.getrefcount(item)


_BASE_REFERENCES = _base_references()


class _Account:
    """See runner.hpp."""

    __slots__ = ("function", "job", "over", "running", "suspended", "timed")

    def __init__(self, job: int, function: int, timed: bool) -> None:
        self.job = job
        self.function = function
        self.timed = timed
        self.running = 0
        self.over = False
        self.suspended: dict[_Suspended, None] = {}


class _Suspended:
    """See suspended.hpp."""

    __slots__ = ("account", "index", "item", "runner", "started_ns")

    def __init__(
        self, runner: Runner, account: _Account, index: int, item: Any, started_ns: int
    ) -> None:
        self.runner = runner
        self.account = account
        self.index = index
        self.item = item
        self.started_ns = started_ns

    def __repr__(self) -> str:
        return f"<wake-up of {self.item!r}>"

    def __call__(self, future: Any) -> None:
        if self in self.account.suspended:
            self.runner.wake(self, future)


class Runner:
    """See `_bridge`."""

    def __init__(
        self,
        worker: int,
        loop: asyncio.AbstractEventLoop,
        item_class: Callable[[asyncio.AbstractEventLoop], Any],
        enter_task: Callable[[asyncio.AbstractEventLoop, Any], object],
        leave_task: Callable[[asyncio.AbstractEventLoop, Any], object],
        register_task: Callable[[Any], object],
        owner: Owner,
        page: Page | None = None,
    ) -> None:
        self._worker = worker
        self._page = page
        self._loop = loop
        self._item_class = item_class
        self._enter_task = enter_task
        self._leave_task = leave_task
        self._register_task = register_task
        self._owner = owner
        self._base_context = contextvars.copy_context()
        self._shared_context: contextvars.Context | None = None
        self._item: Any = None  # the one that runs; only here, so that references can be counted
        self._spare: Any = None
        self._accounts: dict[int, _Account] = {}
        self._waiting: deque[tuple[_Account, int, int, Any]] = deque()
        self._active = False
        self._index = ctypes.c_uint32()
        self._looked_ns = 0
        self.suspended = 0
        self.started_ns = 0
        self.index = 0

    @property
    def base_context(self) -> contextvars.Context:
        """Copied for each item; setting it copies what is set."""
        return self._base_context

    @base_context.setter
    def base_context(self, context: contextvars.Context) -> None:
        self._base_context = context.copy()

    @property
    def waiting(self) -> int:
        """See `_bridge`."""
        return len(self._waiting)

    def items_of(self, job: int) -> list[Any]:
        """See `_bridge`."""
        account = self._accounts.get(job)
        return [each.item for each in account.suspended] if account is not None else []

    def publish_waiting(self) -> bool:
        """See `_bridge`."""
        while self._waiting:
            account, index, status, value = self._waiting[0]
            if not self._put(account, index, status, value):
                return False
            self._waiting.popleft()
            if account.over:
                self._tell_over(account)
        return True

    def run(
        self,
        job: int,
        function: Callable[..., Any],
        arguments: Arguments,
        first_index: int,
        permits: int,
        deadline_ns: int,
        plain: bool = False,
        timed: bool = False,
        shared: bool = False,
        number: int = 0,
    ) -> tuple[int, int]:
        """See `_bridge`."""
        if self._active:
            raise RuntimeError("the item loop is running already")
        self._active = True
        account = self._accounts.setdefault(job, _Account(job, number, timed))
        before = self.suspended
        try:
            reason = self._run(
                account, function, arguments, first_index, permits, deadline_ns, plain, shared
            )
        finally:
            self._active = False
            self._enter(NOBODY, 0)
            if account.over:
                self._accounts.pop(job, None)
            if self._spare is not None:
                # What the last item's context holds must not live until the next job.
                self._spare._ctx = None
        return reason, self.suspended - before

    def _enter(self, job: int, index: int) -> None:
        _lib.aiomq_worker_enter(self._worker, job, index)

    def _run(
        self,
        account: _Account,
        function: Callable[..., Any],
        arguments: Arguments,
        first_index: int,
        permits: int,
        deadline_ns: int,
        plain: bool,
        shared: bool,
    ) -> int:
        before = self.suspended
        while not account.over:
            if self.suspended - before >= permits:
                return _PERMITS_USED
            if monotonic_ns() >= deadline_ns:
                return _DEADLINE
            error: int = _lib.aiomq_worker_start(
                self._worker, account.job, ctypes.byref(self._index)
            )
            if error == -errno.ENODATA:
                account.over = account.running == 0
                return _OVER if account.over else _ALL_STARTED
            if error:
                return error
            index = self.index = self._index.value
            if index < first_index:
                return -errno.EBADMSG  # it belongs to an attempt before this one
            account.running += 1
            started_ns = self._looked_ns = monotonic_ns()
            if account.timed:
                self.started_ns = started_ns
            try:
                args, kwargs = arguments.get(index)
            except BaseException as raised:
                trouble: BaseException | None = raised
            else:
                trouble = None
            if trouble is not None:
                self._publish(account, index, _abi.ERROR, trouble)
                continue
            step = self._start(function, args, kwargs, plain, shared)
            args = kwargs = None  # type: ignore[assignment]
            if step[0] == _SUSPENDED:
                self._suspend(account, index, step[1])
            else:
                self._settle(account, index, step)
                if self._page is not None:
                    self._page.ran(account.function, monotonic_ns() - started_ns)
            step = None  # type: ignore[assignment]
            if self._waiting:
                return _OVER if account.over else -errno.ENOMEM
        return _OVER

    def _start(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Any,
        plain: bool,
        shared: bool,
    ) -> _Step:
        """Call the function and run its coroutine up to the first suspension."""
        if plain and shared:
            if self._shared_context is None:
                self._shared_context = self._base_context.copy()
            context = self._shared_context
        else:
            context = self._base_context.copy()
        if not plain:
            return self._start_task(context, lambda: function(*args, **kwargs))
        try:
            result = context.run(function, *args, **kwargs)
        except BaseException as error:
            return _RAISED, error
        if type(result) in _PLAIN_TYPES:
            return _RETURNED, result
        return self._start_task(context.copy() if shared else context, lambda: result)

    def _start_task(self, context: contextvars.Context, call: Callable[[], Any]) -> _Step:
        """As _start(), while an item is the current task."""
        loop = self._loop
        item = self._item = self._take_item()
        item._ctx = context
        self._enter_task(loop, item)
        try:
            result = context.run(call)
            if type(result) is not CoroutineType:
                coroutine = None if type(result) in _PLAIN_TYPES else as_coroutine(result)
                if coroutine is None:
                    return _RETURNED, result
                result = coroutine
            item._coro = result
            return context.run(_advance, result, None)
        except BaseException as error:
            return _RAISED, error
        finally:
            self._leave_task(loop, item)

    def _settle(self, account: _Account, index: int, step: _Step) -> None:
        item, self._item = self._item, None
        status, value = _outcome_of(item, step)
        if item is not None:
            kept = sys.getrefcount(item) > _BASE_REFERENCES
            if item._touched or kept or item.__weakref__ is not None:
                status, value = self._tell_item(item, status, value)
            else:
                item._coro = None
                self._spare = item
        self._publish(account, index, status, value)

    def _tell_item(self, item: Any, status: int, value: Any) -> tuple[int, Any]:
        if item._finish(status, value):
            return self._owner.on_end(item)
        return status, value

    # --- outcomes ---------------------------------------------------------------------------------

    def _publish(self, account: _Account, index: int, status: int, value: Any) -> None:
        """Publish an outcome, or keep it until there is room."""
        if status == _abi.ERROR:
            value = self._report(account, value)
        if self._waiting or not self._put(account, index, status, value):
            self._waiting.append((account, index, status, value))

    def _put(self, account: _Account, index: int, status: int, value: Any) -> bool:
        """Publish an outcome, with a report if it is an error; False if there is no room now."""
        while True:
            trouble: BaseException
            if status == _abi.ERROR:
                outcome = fail_item(self._worker, account.job, index, value)
            else:
                try:
                    outcome = complete_item(self._worker, account.job, index, status, value)
                except BaseException as error:
                    trouble = error
                    outcome = -errno.EMSGSIZE
            if outcome in (0, 1):
                account.running -= 1
                account.over = outcome == 1
                return True
            if outcome == -errno.ENOMEM:
                return False
            if outcome != -errno.EMSGSIZE or status == _abi.ERROR:
                raise OSError(-outcome, os.strerror(-outcome))
            status, value = _abi.ERROR, self._report(account, trouble)

    def _report(self, account: _Account, error: BaseException) -> Report:
        if self._page is not None:
            self._page.failed(account.function)
        return self._owner.report(error)

    def _tell_over(self, account: _Account) -> None:
        del self._accounts[account.job]
        self._owner.on_over(account.job)

    # --- items that suspend -----------------------------------------------------------------------

    def _suspend(self, account: _Account, index: int, yielded: Any) -> None:
        item, self._item = self._item, None
        item._job = account.job
        item._index = index
        started_ns = self.started_ns if account.timed else self._looked_ns
        suspended = _Suspended(self, account, index, item, started_ns)
        account.suspended[suspended] = None
        self.suspended += 1
        if account.timed:
            self._owner.on_suspend(item)
        self._register_task(item)
        self._park(suspended, yielded)

    def _park(self, suspended: _Suspended, yielded: Any) -> None:
        """Have the loop go on with an item once `yielded`, what it awaits, is done."""
        error: BaseException | None = None
        if yielded is not None:
            try:
                if self._await(suspended, yielded):
                    return
                error = suspended.item._misuse(yielded)
            except BaseException as raised:
                error = raised
        self._loop.call_soon(self._resume, suspended, error, context=suspended.item._ctx)

    def _await(self, suspended: _Suspended, future: Any) -> bool:
        item = suspended.item
        if not getattr(future, "_asyncio_future_blocking", None):
            return False
        if future.get_loop() is not self._loop or future is item:
            return False
        future._asyncio_future_blocking = False
        future.add_done_callback(suspended, context=item._ctx)
        item._fut_waiter = future
        if item._must_cancel:
            item._cancel_waiter()
        return True

    def _resume(self, suspended: _Suspended, error: BaseException | None) -> None:
        try:
            self._step(suspended, error)
        except BaseException as trouble:
            self._owner.on_failure(trouble)

    def wake(self, suspended: _Suspended, future: Any) -> None:
        """What an item awaited is done."""
        error: BaseException | None = None
        try:
            future.result()
        except BaseException as raised:
            error = raised
        try:
            self._resume(suspended, error)
        finally:
            error = None  # it holds this frame by its traceback

    def _step(self, suspended: _Suspended, error: BaseException | None) -> None:
        """Run an item to its next suspension or its end; the Handle has entered its context."""
        started_ns = monotonic_ns()
        account, item = suspended.account, suspended.item
        if item._must_cancel:
            if not isinstance(error, asyncio.CancelledError):
                error = item._cancelled_error()
            item._must_cancel = False
        item._fut_waiter = None
        self._enter_task(self._loop, item)
        self._enter(account.job, suspended.index)
        try:
            step = _advance(item._coro, error)
        finally:
            self._enter(NOBODY, 0)
            self._leave_task(self._loop, item)
            error = None
        # From here on no exception is being handled, so what runs next starts with a clean one.
        if self._page is not None:
            self._page.add(account.function, monotonic_ns() - started_ns)
        if step[0] == _SUSPENDED:
            self._park(suspended, step[1])
        else:
            self._end(suspended, step)
        step = None  # type: ignore[assignment]  # so does the exception in it

    def _end(self, suspended: _Suspended, step: _Step) -> None:
        account, item = suspended.account, suspended.item
        if self._page is not None:
            self._page.ran(account.function, monotonic_ns() - suspended.started_ns)
        del account.suspended[suspended]
        self.suspended -= 1
        status, value = self._tell_item(item, *_outcome_of(item, step))
        self._publish(account, suspended.index, status, value)
        if account.over:
            self._tell_over(account)
        if not self._waiting:
            self._owner.on_free()

    def _take_item(self) -> Any:
        item = self._spare
        if item is None:
            return self._item_class(self._loop)
        self._spare = None
        return item


def _outcome_of(item: Any, step: _Step) -> tuple[int, Any]:
    end, value = step
    if end == _RAISED:
        if not isinstance(value, asyncio.CancelledError):
            return _abi.ERROR, value
    elif item is None or not item._must_cancel:
        return _abi.OK, value
    return _abi.CANCELLED, None


def _advance(coroutine: Any, error: BaseException | None) -> _Step:
    """Send None, or throw `error`."""
    try:
        yielded = coroutine.send(None) if error is None else coroutine.throw(error)
    except StopIteration as stop:
        return _RETURNED, stop.value
    except BaseException as raised:
        return _RAISED, raised
    finally:
        error = None
    return _SUSPENDED, yielded
