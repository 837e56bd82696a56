"""Pump: takes tasks from the pool and runs their items on this worker's event loop.

One turn of the pump takes cancels, then starts items until the permits (childconcurrency) are used
up, nothing is there, or its slice of time is over; then other callbacks of the loop get their
turn. It claims a task only when it can start an item of it now. Items that finish in their first
step never meet the loop (`_bridge.Runner`).

An exception inside the pump itself ends the process: the pool then fails what had started with
WorkerDied, runs the rest elsewhere and starts another worker. Nothing hangs.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextvars import Context
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from aiomq import _abi, _bridge
from aiomq._board import Page
from aiomq._current import TaskInfo
from aiomq._item import NOBODY, Item, enter_task, leave_task, register_task
from aiomq._loans import LENT_SHARE, Lender
from aiomq._main import importing
from aiomq._reference import is_plain, label_of, resolve, shares_context
from aiomq._report import Report, report_of, unsendable
from aiomq._stuck import waiting_stack

if TYPE_CHECKING:
    from aiomq._nested import Hub

lib = _abi.lib

_SLICE_NS = 2_000_000
_FLUSH_NS = 2_000_000


class _Job(NamedTuple):
    """A claimed task that has items left to start."""

    handle: int
    id: int
    attempt: int
    number: int  # of the function
    function: Callable[..., Any]
    plain: bool
    shared: bool  # plain calls share a context
    arguments: Any
    first: int
    timeout_ns: int


current: Pump | None = None  # this process's


class Pump:
    """What drives a worker; one per process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        worker: int,
        permits: int,
        page: Page,
        context: Context,
        queues: tuple[str, ...],
        workers: int,
        arena_bytes: int,
    ) -> None:
        global current
        current = self
        self.owner = os.getpid()
        self.worker = worker
        self.loop = loop
        self.permits = permits
        self.queues = queues
        self.workers = workers
        self.natives: dict[str, int] = {}  # the queue of each plugin
        self.arena_bytes = arena_bytes  # of each worker's results, and of all arguments
        self.finalizer: Callable[[], Any] | None = None
        self.detach: Callable[[], None] = lambda: None  # from the loop, when nothing more is to run
        self.nested: Hub | None = None  # once a task has asked for its own pool
        self.ended = False
        self.thread = threading.get_ident()
        self.starting = False  # the first step of an item runs, or all of a plain one
        self._lent: set[Item] = set()  # items that have given their permits back
        self._loop = loop
        self._worker = worker
        self._permits = permits
        self._page = page
        self._context = context
        self._current: _Job | None = None
        self._jobs: dict[int, _Job] = {}  # that are not over, by handle
        self._functions: dict[int, tuple[Callable[..., Any], bool, bool]] = {}
        self._names: dict[int, str] = {}  # of functions that were asked for
        self._timers: dict[Item, asyncio.TimerHandle] = {}  # of items with a timeout
        self._expired: dict[Item, str] = {}  # cancelled by their timers; what to tell of them
        self._leaving = False  # nothing more is to be claimed
        self._scheduled = False
        self.flushed_ns = 0  # when the dispatcher was told last what has finished
        self.before_turn: Callable[[], None] | None = None  # for loops whose selector is not ours
        self.after_turn: Callable[[], None] | None = None  # called when there is nothing left to do
        self.tidy: Callable[[], None] | None = None  # called when there is nothing to claim
        self._lender = Lender(
            lib.aiomq_worker_memory,
            worker,
            arena_bytes // LENT_SHARE // workers,
            self._return,
            self._retain,
        )
        self._job = _abi.Job()
        self._cancelled = ctypes.c_uint32()
        self._runner = _bridge.Runner(
            worker, loop, Item, enter_task, leave_task, register_task, self, page
        )
        self._runner.base_context = context

    # --- turns ------------------------------------------------------------------------------------

    def schedule(self) -> None:
        """Have the loop call turn() soon."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._scheduled_turn, context=self._context)

    def _scheduled_turn(self) -> None:
        self._scheduled = False
        self.turn()

    def turn(self) -> None:
        """Do what there is to do, for one slice of time."""
        if self.ended:
            return
        try:
            if self.before_turn is not None:
                self.before_turn()
            self._take_cancels()
            if self.nested is not None:
                self.nested.turn()
            if self._runner.publish_waiting():
                self._start_items()
            if self.after_turn is not None and not self._scheduled and not self.ended:
                self.after_turn()
        except BaseException as error:
            self.on_failure(error)

    def wants_tasks(self) -> bool:
        """Whether a new task could be started now."""
        return (
            self._current is None
            and self._permits_left() > 0
            and self._runner.waiting == 0
            and not self._leaving
        )

    def retire(self) -> None:
        """Take no more tasks; leave when what runs has ended. May interrupt any Python code."""
        lib.aiomq_worker_retire(self._worker)

    def flush(self) -> None:
        """Tell the dispatcher what has finished."""
        lib.aiomq_worker_flush(self._worker)
        self.flushed_ns = monotonic_ns()

    def _start_items(self) -> None:
        now = monotonic_ns()
        deadline = now + _SLICE_NS
        run = self._runner.run
        while (permits := self._permits_left()) > 0:
            job = self._current
            if job is None:
                job = self._current = self._claim()
                if job is None:
                    break
            self.starting = True
            reason, _ = run(
                job.handle,
                job.function,
                job.arguments,
                job.first,
                permits,
                deadline,
                job.plain,
                job.timeout_ns != 0,
                job.shared,
                job.number,
            )
            self.starting = False
            before, now = now, monotonic_ns()
            self._page.add(job.number, now - before)
            if reason == 0:
                self.on_over(job.handle)
            elif reason == 1:  # all have started
                self._current = None
            elif reason == -errno.ENOMEM:
                break
            elif reason == -errno.ESHUTDOWN:  # retiring: others run what of the job has not started
                self._current = None
            elif reason < 0:
                raise OSError(-reason, "item loop: " + lib.aiomq_strerror(reason).decode())
            if now >= deadline:
                self.schedule()
                break
        if now - self.flushed_ns > _FLUSH_NS:
            self.flush()

    def _permits_left(self) -> int:
        """How many more items may suspend."""
        return self._permits - self._runner.suspended + len(self._lent)

    # --- what runs --------------------------------------------------------------------------------

    def place_of(self, item: Item) -> tuple[int, int]:
        """Job and index of an item that runs; in its first step it does not know them itself."""
        if item._job != NOBODY:
            return item._job, item._index
        return self.place()

    def place(self) -> tuple[int, int]:
        """Job and index of the item that is being started."""
        assert self._current is not None
        return self._current.handle, self._runner.index

    def info(self, handle: int, index: int) -> TaskInfo:
        """What an item that runs may know of itself."""
        job = self._jobs[handle]
        name = self._names.get(job.number)
        if name is None:
            name = self._names[job.number] = label_of(self._name_of(job.number))
        timeout = job.timeout_ns / 1e9 if job.timeout_ns else None
        return TaskInfo(job.id, index, job.attempt, name, timeout)

    # --- loans ------------------------------------------------------------------------------------

    def _retain(self, job: int) -> int:
        """Keep a job's payload; the loan. Raises OSError."""
        loan = ctypes.c_uint64()
        outcome = lib.aiomq_worker_retain(self._worker, job, ctypes.byref(loan))
        if outcome < 0:
            raise OSError(-outcome, "aiomq_worker_retain: " + lib.aiomq_strerror(outcome).decode())
        return loan.value

    def _return(self, _worker: int, loan: int) -> None:
        """Nobody has a view of a payload any more. In any thread, at any moment."""
        if threading.get_ident() == self.thread:
            lib.aiomq_worker_release(self._worker, loan)
        elif not self.ended:
            self._loop.call_soon_threadsafe(self._return, 0, loan)

    # --- nested calls -----------------------------------------------------------------------------

    def lend(self, item: Item) -> None:
        """The item waits for nested calls: another one may run instead."""
        self._lent.add(item)
        item._touched = item._watched = True
        self.schedule()

    def take_back(self, item: Item) -> None:
        """Its nested calls are done."""
        self._lent.discard(item)

    # --- tasks ------------------------------------------------------------------------------------

    def _claim(self) -> _Job | None:
        claimed = self._job
        count = lib.aiomq_worker_claim(self._worker, ctypes.byref(claimed), 1)
        if count == 0:
            if self.tidy is not None:
                self.tidy()
            return None
        if count == -errno.ESHUTDOWN:
            self._leaving = True
            if self._runner.suspended == 0 and self._runner.waiting == 0:
                self.ended = True
                self._loop.stop()
            return None
        if count < 0:
            raise OSError(-count, "aiomq_worker_claim: " + lib.aiomq_strerror(count).decode())
        number = claimed.function
        function, plain, shared = self._functions.get(number) or self._find(number)
        self._page.waited(number, max(0, monotonic_ns() - claimed.submitted_ns))
        arguments = _bridge.Arguments(
            claimed.kind,
            claimed.integer,
            claimed.payload or 0,
            claimed.payload_bytes,
            self._lender.lend,
            claimed.job,
        )
        job = self._jobs[claimed.job] = _Job(
            claimed.job,
            claimed.task_id,
            claimed.attempt,
            number,
            function,
            plain,
            shared,
            arguments,
            claimed.first_item,
            claimed.timeout_ns,
        )
        return job

    def _find(self, number: int) -> tuple[Callable[..., Any], bool, bool]:
        """The function with this number; imported once, unless that fails.

        Also whether it is plain, and whether its calls share a context.
        """
        name = self._name_of(number)
        try:
            with importing():
                function = self._context.copy().run(resolve, name)
        except BaseException as raised:
            error = raised

            def fail(*_args: Any, **_kwargs: Any) -> NoReturn:
                raise error

            return fail, True, False
        found = (function, is_plain(function), shares_context(name))
        self._functions[number] = found
        return found

    def _name_of(self, number: int) -> str:
        name, length = ctypes.POINTER(ctypes.c_char)(), ctypes.c_size_t()
        outcome = lib.aiomq_worker_function(
            self._worker, number, ctypes.byref(name), ctypes.byref(length)
        )
        if outcome < 0:
            raise OSError(-outcome, f"aiomq_worker_function: no function {number}")
        return ctypes.string_at(name, length.value).decode()

    def _take_cancels(self) -> None:
        job = self._cancelled
        while lib.aiomq_worker_cancelled(self._worker, ctypes.byref(job)) > 0:
            for item in self._runner.items_of(job.value):
                item.cancel()

    # --- for the item loop ------------------------------------------------------------------------

    def report(self, error: BaseException) -> Report:
        """What travels of what an item has raised, or of what its result can't be sent for."""
        if isinstance(error, _bridge.EncodeError):
            error = unsendable(error)
        elif isinstance(error, _bridge.TooLarge):
            error = error.explained("the result is", "results", self.arena_bytes)
        return report_of(error)

    def on_suspend(self, item: Item) -> None:
        """An item with a timeout has suspended: have it cancelled when its time is over."""
        job = self._jobs[item._job]
        item._touched = item._watched = True
        left_ns = self._runner.started_ns + job.timeout_ns - monotonic_ns()
        self._timers[item] = self._loop.call_later(
            max(0, left_ns) / 1e9, self._expire, item, job.timeout_ns, context=self._context
        )

    def _expire(self, item: Item, timeout_ns: int) -> None:
        """The item's time is over. Where it waits now is what the caller wants to know."""
        try:
            coroutine = item.get_coro()
            name = getattr(coroutine, "__qualname__", "the task")
            text = f"{name}() ran longer than its timeout of {timeout_ns / 1e9:g} s"
            self._expired[item] = f"{text}\n{waiting_stack(coroutine)}"
            item.cancel()
        except BaseException as error:
            self.on_failure(error)

    def on_end(self, item: Item) -> tuple[int, Any]:
        """A watched item has ended: its status and value."""
        self.take_back(item)
        timer = self._timers.pop(item, None)
        if timer is not None:
            timer.cancel()
            text = self._expired.pop(item, None)
            # Not if something else has cancelled it too, as in asyncio.timeout().
            if text and item._status == _abi.CANCELLED and item._cancel_requests <= 1:
                return _abi.TIMED_OUT, text
        return item._status, item._value

    def on_free(self) -> None:
        """Items have ended: others may run."""
        self.schedule()

    def on_over(self, handle: int) -> None:
        """Forget a job whose last item has its outcome: its handle means nothing any more."""
        self._jobs.pop(handle, None)
        if self._current is not None and self._current.handle == handle:
            self._current = None

    def on_failure(self, error: BaseException) -> NoReturn:
        """End this process at once: it can't be relied on."""
        try:
            if sys.stderr is not None:
                traceback.print_exception(error)
                sys.stderr.flush()
        finally:
            os._exit(70)  # EX_SOFTWARE
