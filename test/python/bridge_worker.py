"""A worker that serves the functions below through `_bridge` and `_item` alone; for test_bridge."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import errno
import gc
import os
import threading
import time
import traceback
import weakref
from typing import Any, ClassVar

from aiomq import _abi, _bridge
from aiomq._item import Item, enter_task, leave_task, register_task
from aiomq._report import Report

lib = _abi.lib
variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
kept: list[Any] = []
weak: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


class Probe:
    """Counts how many of its kind there are. Not plain, so it travels as a pickle."""

    alive: ClassVar[int] = 0

    def __init__(self, tag: int) -> None:
        self.tag = tag
        Probe.alive += 1

    def __reduce__(self) -> Any:
        return Probe, (self.tag,)

    def __del__(self) -> None:
        Probe.alive -= 1


class OnlyInDispatcher:
    """Can't be unpickled in a worker."""

    def __reduce__(self) -> Any:
        return _only_in_dispatcher, ()


def _only_in_dispatcher() -> Any:
    if "AIOMQ_TEST_WORKER" in os.environ:
        raise LookupError("not here")
    return OnlyInDispatcher()


class OnlyInWorker:
    """Can't be unpickled in the dispatcher."""

    def __reduce__(self) -> Any:
        return _only_in_worker, ()


def _only_in_worker() -> Any:
    if "AIOMQ_TEST_WORKER" not in os.environ:
        raise LookupError("not there")
    return OnlyInWorker()


class Functions:
    """What the tests submit, by name. Names that start with p_ are run as plain functions."""

    worker: Worker

    def p_echo(self, *args: Any, **kwargs: Any) -> Any:
        return (args, kwargs) if kwargs else args[0] if len(args) == 1 else args

    def unknown_echo(self, value: Any) -> Any:
        return value

    async def echo(self, value: Any) -> Any:
        return value

    async def nap(self, value: float) -> float:
        await asyncio.sleep(value)
        return value

    async def late_echo(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    def p_coroutine(self, value: Any) -> Any:
        return self.late_echo(value)

    def p_future(self, value: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        future.set_result(value)
        return future

    def p_task_name(self) -> Any:
        return asyncio.current_task() is None

    async def fail(self, value: Any) -> Any:
        raise ValueError(f"no {value}")

    async def fail_late(self, value: Any) -> Any:
        await asyncio.sleep(0)
        raise KeyError(value)

    def p_fail(self, value: Any) -> Any:
        raise ValueError(f"no {value}")

    async def odd(self, value: int) -> int:
        if value % 2:
            raise ValueError(value)
        return value

    async def exit(self, value: Any) -> Any:
        raise SystemExit(value)

    def p_stop(self, value: Any) -> Any:
        raise StopIteration(value)

    async def interrupt(self, value: Any) -> Any:
        raise KeyboardInterrupt

    async def cancelled(self, value: Any) -> Any:
        raise asyncio.CancelledError

    async def cancel_self(self, value: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return value

    async def lock(self, value: Any) -> Any:
        return threading.Lock()

    async def context(self, value: int) -> int:
        before = variable.get()
        variable.set(value)
        return before

    def p_context(self, value: int) -> int:
        before = variable.get()
        variable.set(value)
        return before

    async def keep(self, value: Any) -> bool:
        task = asyncio.current_task()
        known = any(task is other for other in kept)
        kept.append(task)
        return known

    async def refer(self, value: Any) -> bool:
        task = asyncio.current_task()
        known = task in weak
        weak[task] = 1
        return known

    async def name(self, value: str) -> bool:
        task = asyncio.current_task()
        assert task is not None
        known = task.get_name() == value
        task.set_name(value)
        return known

    async def call_back(self, value: Any) -> int:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda done: kept.append(("done", done.result())))
        return 5

    def p_kept(self) -> Any:
        return [entry for entry in kept if isinstance(entry, tuple)], [
            task.done() for task in kept if not isinstance(task, tuple)
        ]

    async def probe(self, probe: Probe) -> Probe:
        return Probe(probe.tag + 1)

    def p_alive(self) -> int:
        gc.collect()
        return Probe.alive

    async def only_in_worker(self, value: int) -> Any:
        return OnlyInWorker() if value == 1 else value

    def p_sleep(self, value: float) -> float:
        time.sleep(value)
        return value

    def p_big(self, value: int) -> bytes:
        return bytes([value % 256]) * 200_000

    async def big_late(self, value: int) -> bytes:
        await asyncio.sleep(0)
        return bytes([value % 256]) * 200_000

    def p_huge(self) -> list[bytes]:
        return [bytes(2 << 20)]

    def p_nested_run(self) -> str:
        try:
            self.worker.runner.run(0, None, _bridge.Arguments(0, 0, None, 0), 0, 1, 0)
        except RuntimeError as error:
            return str(error)
        return "ran"

    def p_native(self) -> bool:
        return _bridge.NATIVE

    def p_log(self) -> Any:
        return list(self.worker.log), self.worker.most


class Worker:
    """Claims, runs, sleeps; the simplest that can be right."""

    def __init__(self, loop: asyncio.AbstractEventLoop, permits: int) -> None:
        handle = ctypes.c_void_p()
        if lib.aiomq_worker_open(ctypes.byref(handle), None, 0) != 0:
            raise SystemExit("not a worker")
        assert handle.value is not None
        self.worker: int = handle.value
        self.loop = loop
        self.permits = permits
        self.most = 0  # running at once
        self.log: list[tuple[int, int]] = []  # what run() returned
        self.job: Any = None
        self.runner = _bridge.Runner(
            self.worker, loop, Item, enter_task, leave_task, register_task, self
        )
        self.functions = Functions()
        self.functions.worker = self

    def turn(self) -> None:
        try:
            self._turn()
        except BaseException:
            traceback.print_exc()
            os._exit(70)

    def _turn(self) -> None:
        if not self.runner.publish_waiting():
            return self.sleep()
        while self.runner.suspended < self.permits:
            if self.job is None:
                claimed = _abi.Job()
                count = lib.aiomq_worker_claim(self.worker, ctypes.byref(claimed), 1)
                if count == -errno.ESHUTDOWN:
                    self.loop.stop()
                    return None
                if count <= 0:
                    return self.sleep()
                self.job = (
                    claimed,
                    self.find(claimed.function),
                    _bridge.Arguments(
                        claimed.kind, claimed.integer, claimed.payload, claimed.payload_bytes
                    ),
                )
            claimed, name, arguments = self.job
            result = self.runner.run(
                claimed.job,
                getattr(self.functions, name),
                arguments,
                claimed.first_item,
                self.permits - self.runner.suspended,
                time.monotonic_ns() + 2_000_000,
                name.startswith("p_"),
            )
            self.log.append(result)
            self.most = max(self.most, self.runner.suspended)
            reason, _ = result
            if reason in (0, 1):
                self.job = None
            elif reason == -errno.ENOMEM:
                return self.sleep()
            elif reason == 3:
                self.loop.call_soon(self.turn)
                return None
            elif reason < 0:
                raise OSError(-reason, "run")
        return self.sleep()

    def sleep(self) -> None:
        if lib.aiomq_worker_sleep(self.worker, int(self.runner.suspended < self.permits)) == 1:
            lib.aiomq_worker_wake(self.worker, 0)
            self.loop.call_soon(self.turn)

    def readable(self) -> None:
        lib.aiomq_worker_wake(self.worker, 1)
        self.turn()

    def find(self, number: int) -> str:
        name, size = ctypes.POINTER(ctypes.c_char)(), ctypes.c_size_t()
        lib.aiomq_worker_function(self.worker, number, ctypes.byref(name), ctypes.byref(size))
        return ctypes.string_at(name, size.value).decode()

    def report(self, error: BaseException) -> Report:
        assert asyncio.current_task(self.loop) is None
        kind = type(error)
        name = f"{kind.__module__}.{kind.__qualname__}"
        text = "".join(traceback.format_exception(kind, error, error.__traceback__))
        return Report(name, str(error), text, b"p")

    def on_suspend(self, item: Item) -> None:
        raise AssertionError("no job here has a timeout")

    def on_end(self, item: Item) -> tuple[int, Any]:
        raise AssertionError("no item here is watched")

    def on_free(self) -> None:
        self.loop.call_soon(self.turn)

    def on_over(self, handle: int) -> None:
        if self.job is not None and self.job[0].job == handle:
            self.job = None

    def on_failure(self, error: BaseException) -> None:
        traceback.print_exception(error)
        os._exit(70)


def main(permits: int) -> None:
    os.environ["AIOMQ_TEST_WORKER"] = "1"
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(loop, permits)
    assert lib.aiomq_worker_ready(worker.worker) == 0
    loop.add_reader(lib.aiomq_worker_fd(worker.worker), worker.readable)
    loop.call_soon(worker.turn)
    loop.run_forever()
