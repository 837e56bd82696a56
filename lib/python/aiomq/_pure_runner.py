"""The item loop in pure Python; see runner.hpp, whose order of steps it follows."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import errno
import sys
from collections.abc import Callable
from time import monotonic_ns
from types import CoroutineType, NoneType
from typing import TYPE_CHECKING, Any

from aiomq import _abi
from aiomq._bridge_types import EncodeError, as_coroutine
from aiomq._decode import Arguments
from aiomq._item import NOBODY
from aiomq._pure import Account, accounts, publish

if TYPE_CHECKING:
    from aiomq._board import Page

_lib = _abi.lib
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


class Runner:
    """See `_bridge`."""

    def __init__(
        self,
        worker: int,
        loop: asyncio.AbstractEventLoop,
        item_class: Callable[[asyncio.AbstractEventLoop], Any],
        enter_task: Callable[[asyncio.AbstractEventLoop, Any], object],
        leave_task: Callable[[asyncio.AbstractEventLoop, Any], object],
        on_suspend: Callable[[Any, int, int, object], object],
        on_trouble: Callable[[int, int, BaseException], object],
        page: Page | None = None,
    ) -> None:
        self._worker = worker
        self._page = page
        self._loop = loop
        self._item_class = item_class
        self._enter_task = enter_task
        self._leave_task = leave_task
        self._on_suspend = on_suspend
        self._on_trouble = on_trouble
        self.base_context = contextvars.copy_context()
        self._shared_context: contextvars.Context | None = None
        self._item: Any = None  # the one that runs; only here, so that references can be counted
        self._spare: Any = None
        self._waiting: dict[int, list[tuple[int, int, Any]]] = {}
        self._active = False
        self._index = ctypes.c_uint32()
        self.started_ns = 0
        self.looked_ns = 0
        self.index = 0

    def enter(self, job: int, index: int) -> None:
        """See `_bridge`."""
        _lib.aiomq_worker_enter(self._worker, job, index)

    def count_ended(self, function: int, started_ns: int, busy_ns: int, raised: bool, /) -> None:
        """See `_bridge`."""
        if self._page is not None:
            self._page.add(function, busy_ns)
            self._page.ran(function, monotonic_ns() - started_ns, raised)

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
        account = accounts.setdefault(job, Account())
        try:
            return self._run(
                job,
                account,
                function,
                arguments,
                first_index,
                permits,
                deadline_ns,
                plain,
                timed,
                shared,
                number,
            )
        finally:
            self._active = False
            self.enter(NOBODY, 0)
            if account.over:
                accounts.pop(job, None)
            if self._spare is not None:
                # What the last item's context holds must not live until the next job.
                self._spare._ctx = None

    def _run(
        self,
        job: int,
        account: Account,
        function: Callable[..., Any],
        arguments: Arguments,
        first_index: int,
        permits: int,
        deadline_ns: int,
        plain: bool,
        timed: bool,
        shared: bool,
        number: int,
    ) -> tuple[int, int]:
        suspended = 0
        reason = self._publish_waiting(job)
        while reason == 0 and not account.over:
            if suspended >= permits:
                return _PERMITS_USED, suspended
            if monotonic_ns() >= deadline_ns:
                return _DEADLINE, suspended
            error = _lib.aiomq_worker_start(self._worker, job, ctypes.byref(self._index))
            if error == -errno.ENODATA:
                account.over = account.running == 0
                return (_OVER if account.over else _ALL_STARTED), suspended
            if error:
                return error, suspended
            index = self.index = self._index.value
            if index < first_index:
                return -errno.EBADMSG, suspended  # it belongs to an attempt before this one
            account.running += 1
            started_ns = self.looked_ns = monotonic_ns()
            if timed:
                self.started_ns = started_ns
            try:
                args, kwargs = arguments.get(index)
            except BaseException as raised:
                trouble: BaseException | None = raised
            else:
                trouble = None
            if trouble is not None:
                self._on_trouble(job, index, trouble)
                continue
            step = self._start(function, args, kwargs, plain, shared)
            args = kwargs = None  # type: ignore[assignment]
            if step[0] == _SUSPENDED:
                suspended += 1
                self._suspend(job, index, step[1])
            else:
                reason = self._settle(job, index, step)
                if self._page is not None:
                    self._page.ran(number, monotonic_ns() - started_ns, step[0] == _RAISED)
            step = None  # type: ignore[assignment]
        return reason, suspended

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
                self._shared_context = self.base_context.copy()
            context = self._shared_context
        else:
            context = self.base_context.copy()
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
            return _first_step(context, result)
        except BaseException as error:
            return _RAISED, error
        finally:
            self._leave_task(loop, item)

    def _suspend(self, job: int, index: int, yielded: object) -> None:
        item, self._item = self._item, None
        item._job = job
        item._index = index
        self._on_suspend(item, job, index, yielded)

    def _settle(self, job: int, index: int, step: _Step) -> int:
        end, value = step
        status = _abi.OK
        if end == _RAISED:
            cancelled = isinstance(value, asyncio.CancelledError)
            status = _abi.CANCELLED if cancelled else _abi.ERROR
        item, self._item = self._item, None
        if item is not None:
            touched = item._touched
            if touched and item._must_cancel and status == _abi.OK:
                status = _abi.CANCELLED
            kept = sys.getrefcount(item) > _BASE_REFERENCES
            if touched or kept or item.__weakref__ is not None:
                item._finish(status, value)
            else:
                item._coro = None
                self._spare = item
        if status == _abi.ERROR:
            self._on_trouble(job, index, value)
            return 0
        return self._finish(job, index, status, None if status == _abi.CANCELLED else value)

    def _finish(self, job: int, index: int, status: int, value: Any) -> int:
        trouble: BaseException
        try:
            outcome = publish(self._worker, job, index, status, value)
        except BaseException as error:
            trouble = error
        else:
            if outcome in (0, 1):
                return 0
            if outcome == -errno.ENOMEM:
                self._waiting.setdefault(job, []).append((index, status, value))
            if outcome != -errno.EMSGSIZE:
                return outcome
            trouble = EncodeError("the result")
        self._on_trouble(job, index, trouble)
        return 0

    def _publish_waiting(self, job: int) -> int:
        reason = 0
        for entry in self._waiting.pop(job, ()):
            # Once one found no room, the others go back in line.
            if reason:
                self._waiting.setdefault(job, []).append(entry)
            else:
                reason = self._finish(job, *entry)
        return reason

    def _take_item(self) -> Any:
        item = self._spare
        if item is None:
            return self._item_class(self._loop)
        self._spare = None
        return item


def _first_step(context: contextvars.Context, coroutine: Any) -> _Step:
    try:
        return _SUSPENDED, context.run(coroutine.send, None)
    except StopIteration as stop:
        return _RETURNED, stop.value
