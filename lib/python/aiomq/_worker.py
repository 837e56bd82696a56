"""Worker: the main function of a worker process, started as `_start.command()` says.

Opens the worker handle, becomes what the dispatcher's process is (`_main.prepare`), makes the
loop, runs the initializer, says that it is ready and serves until the pool ends. Whatever fails
before that is reported through the segment, so that the pool breaks with the reason instead of
starting the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from contextvars import copy_context
from multiprocessing import process, util
from typing import Any, NoReturn

from aiomq import _abi, _depot, _logs, _main, _start, _state
from aiomq._board import Page
from aiomq._pump import Pump
from aiomq._report import report_of
from aiomq._selector import WorkerSelector
from aiomq._stuck import answer_signal
from aiomq._title import set_title

lib = _abi.lib


def main(descriptors: Callable[[int], _start.Descriptors] = _start.inherited) -> NoReturn:
    """Run this process as the worker that it was started as; leaves through sys.exit().

    `descriptors` gives what a pool leaves to the worker with this index.
    """
    worker = _open()
    try:
        pump, loop = _set_up(worker, descriptors)
    except BaseException as error:
        _abort(worker, error)
    outcome = lib.aiomq_worker_ready(worker)
    if outcome < 0:
        raise OSError(-outcome, "aiomq_worker_ready: " + lib.aiomq_strerror(outcome).decode())
    _serve(pump, loop)
    sys.exit(0)


def _open() -> int:
    handle = ctypes.c_void_p()
    text = ctypes.create_string_buffer(1024)
    if lib.aiomq_worker_open(ctypes.byref(handle), text, len(text)) < 0 or handle.value is None:
        sys.exit("aiomq worker: " + text.value.decode(errors="replace"))
    return handle.value


def _set_up(
    worker: int, descriptors: Callable[[int], _start.Descriptors]
) -> tuple[Pump, asyncio.AbstractEventLoop]:
    """Everything between open and ready; runs the user's code, so it may raise anything."""
    index: int = lib.aiomq_worker_index(worker)
    name = f"{(lib.aiomq_worker_label(worker) or b'').decode(errors='replace')}/{index}"
    set_title(f"aiomq: {name}")
    signal.signal(signal.SIGINT, _ignore)  # Ctrl-C is for the dispatcher, which ends us
    util._close_stdin()  # type: ignore[attr-defined]

    left = descriptors(index)
    _depot.inherit(left.depot)
    setup = _start.read_setup()
    page = Page(left.board, index)
    answer_signal(left.stacks, index)
    os.close(left.board)
    os.close(left.stacks)
    if setup.levels is not None:
        _logs.forward(left.log, page, setup.levels)
    _main.prepare(setup.main)
    process.current_process().name = name
    with _main.importing():
        initializer, initargs, loop_initializer, finalizer = pickle.loads(setup.objects)

    loop, selector = _make_loop(worker, loop_initializer)
    asyncio.set_event_loop(loop)
    _state.begin()
    if initializer is not None:
        _call(loop, initializer, *initargs)

    permits: int = lib.aiomq_worker_concurrency(worker)  # 0: the group has no number of its own
    pump = Pump(
        loop,
        worker,
        permits or setup.childconcurrency,
        page,
        copy_context(),
        setup.queues,
        setup.workers,
        setup.arena_bytes,
    )
    _retire_on_terminate(pump, loop)
    fd = lib.aiomq_worker_fd(worker)
    if selector is not None:
        loop.add_reader(fd, pump.turn)
        selector.pump = pump
    else:
        announcer = _Announcer(worker, pump)
        loop.add_reader(fd, announcer.readable)
    pump.schedule()
    pump.finalizer = finalizer
    pump.natives = setup.natives or {}

    def detach() -> None:
        loop.remove_reader(fd)
        if selector is not None:
            selector.pump = None

    pump.detach = detach
    return pump, loop


def _make_loop(
    worker: int, loop_initializer: Callable[[], Any] | None
) -> tuple[asyncio.AbstractEventLoop, WorkerSelector | None]:
    """The worker's loop, and its selector if that is ours."""
    if loop_initializer is None:
        selector = WorkerSelector(worker)
        return asyncio.SelectorEventLoop(selector), selector
    loop = loop_initializer()
    if not isinstance(loop, asyncio.AbstractEventLoop):
        raise TypeError(f"loop_initializer returned {type(loop).__name__}, not an event loop")
    return loop, None


def _retire_on_terminate(pump: Pump, loop: asyncio.AbstractEventLoop) -> None:
    """On SIGTERM end what runs and take no more; the pool replaces this worker."""
    term = {signal.SIGTERM}

    def retire(_number: int, _frame: object) -> None:
        pump.retire()
        loop.call_soon_threadsafe(pump.schedule)  # a loop that sleeps has to wake up for it

    def hold() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, term)

    def let() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, term)

    def forget() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        let()

    signal.signal(signal.SIGTERM, retire)
    # A child that a task forks is no worker. Held back meanwhile, because the interpreter forgets
    # in the child what has come before it is set up.
    os.register_at_fork(before=hold, after_in_parent=let, after_in_child=forget)


def _ignore(_number: int, _frame: object) -> None:
    """Does nothing; unlike SIG_IGN it is not inherited by programs that a task starts."""


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *args: Any) -> None:
    """Call a function of the user's, and wait for it if it is asynchronous."""
    made = function(*args)
    if inspect.isawaitable(made):
        loop.run_until_complete(_wait_for(made))


async def _wait_for(awaitable: Any) -> None:
    await awaitable


def _finalize(pump: Pump, loop: asyncio.AbstractEventLoop) -> None:
    """What the finalizer raises can't be anybody's result, and does not keep the worker."""
    try:
        if pump.finalizer is not None:
            _call(loop, pump.finalizer)
    except BaseException:
        traceback.print_exc()


def _serve(pump: Pump, loop: asyncio.AbstractEventLoop) -> None:
    while not pump.ended:
        # A SystemExit or KeyboardInterrupt in a task that an item has started leaves run_forever().
        with contextlib.suppress(SystemExit, KeyboardInterrupt):
            loop.run_forever()
    pump.detach()  # the loop is the user's again, for what is left on it
    _finalize(pump, loop)
    with contextlib.suppress(SystemExit, KeyboardInterrupt):
        _close_loop(loop)


def _close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """End what items have left behind on the loop, as asyncio.run() does."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def _abort(worker: int, error: BaseException) -> NoReturn:
    """Report why this worker can't start, and leave at once."""
    if isinstance(error, RuntimeError) and error.args == (_main.UNGUARDED,):
        text = _main.UNGUARDED
    else:
        text = report_of(error).traceback
    try:
        lib.aiomq_worker_abort(worker, text.encode(errors="backslashreplace").replace(b"\0", b""))
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(1)


class _Announcer:
    """Announces sleep for a loop whose selector is not ours: when the pump has nothing to do."""

    def __init__(self, worker: int, pump: Pump) -> None:
        self._worker = worker
        self._pump = pump
        self._armed = False
        pump.before_turn = self._wake
        pump.after_turn = self._sleep

    def readable(self) -> None:
        """The worker's descriptor is readable."""
        lib.aiomq_worker_wake(self._worker, 1)
        self._armed = False
        self._pump.turn()

    def _wake(self) -> None:
        if self._armed:
            self._armed = False
            lib.aiomq_worker_wake(self._worker, 0)

    def _sleep(self) -> None:
        self._pump.flush()
        if lib.aiomq_worker_sleep(self._worker, self._pump.wants_tasks()):
            self._pump.schedule()
        else:
            self._armed = True
