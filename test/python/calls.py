"""Functions that the tests run in workers."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import signal
import sys
import threading
import time
import weakref
from typing import Any, NoReturn

import gate


async def add(a: int, b: int = 0) -> int:
    return a + b


def plain_add(a: int, b: int = 0) -> int:
    return a + b


def make_add(a: int, b: int = 0) -> Any:
    """A plain function that returns a coroutine."""
    return add(a, b)


async def same(value: Any) -> Any:
    return value


async def block_first() -> None:
    time.sleep(0.05)  # what takes time is what the test is about
    await asyncio.sleep(0)


async def block_last() -> None:
    await asyncio.sleep(0)
    time.sleep(0.05)


counted: contextvars.ContextVar[int] = contextvars.ContextVar("counted", default=0)


def count_in_context(_value: Any = None) -> int:
    """How many calls its context has seen."""
    counted.set(counted.get() + 1)
    return counted.get()


async def count_in_context_later(_value: Any = None) -> int:
    await asyncio.sleep(0)
    return count_in_context()


def make_count_in_context(value: Any = None) -> Any:
    count_in_context()
    return count_in_context_later(value)


def refuse_in_context(_value: Any = None) -> NoReturn:
    raise LookupError(str(count_in_context()))


class SetsOnArrival:
    """Becomes the text "get" where it is unpickled, and sets a context variable there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _get_after_setting, ()


def _get_after_setting() -> str:
    counted.set(99)
    return "get"


class SetsOnLeaving:
    """Becomes None where it is unpickled; sets a context variable where it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        counted.set(98)
        return type(None), ()


_held: contextvars.ContextVar[Any] = contextvars.ContextVar("held")
_tokens: list[contextvars.Token[int]] = []
_contexts: list[contextvars.Context] = []
_holders: list[weakref.ref[Any]] = []


def touch_context(step: str) -> Any:
    """What a step finds that others have left in its context."""
    if step == "set":
        counted.set(5)
    elif step == "set and reset":
        counted.reset(counted.set(6))
    elif step == "set and raise":
        counted.set(7)
        raise LookupError(step)
    elif step == "keep token":
        _tokens.append(counted.set(8))
    elif step == "use token":
        try:
            counted.reset(_tokens.pop())
        except ValueError:
            return "another context"
    elif step == "copy":
        _contexts.append(contextvars.copy_context())
    elif step == "look at copy":
        return counted in _contexts.pop()
    elif step == "hold":
        held = Held()
        _holders.append(weakref.ref(held))
        _held.set(held)
    elif step == "is gone":
        return _holders.pop()() is None
    elif step == "set on leaving":
        return SetsOnLeaving()
    elif step == "await":
        return count_in_context_later()
    return counted.get()


class Held:
    """An object that can be referred to weakly."""


def plain_same(value: Any) -> Any:
    return value


async def later(value: Any) -> Any:
    """Suspends twice."""
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    return value


async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def sometimes_later(value: int) -> int:
    """Suspends for every third value."""
    if value % 3 == 0:
        await asyncio.sleep(0.001)
    return value


def busy(seconds: float) -> int:
    """Keeps the CPU busy for so long; returns the worker's pid."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return os.getpid()


async def pid(_: Any = None) -> int:
    return os.getpid()


async def environment(name: str) -> str | None:
    return os.environ.get(name)


def modules() -> list[str]:
    return sorted(sys.modules)


def threads() -> int:
    return threading.active_count()


async def loop_type() -> str:
    kind = type(asyncio.get_running_loop())
    return f"{kind.__module__}.{kind.__qualname__}"


class Custom(Exception):
    def __init__(self, text: str, number: int) -> None:
        super().__init__(text, number)
        self.number = number


class NeedsTwo(Exception):
    """Can be pickled but not read back."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class Unpicklable(Exception):
    def __reduce__(self) -> NoReturn:
        raise TypeError("not this one")


class BadText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class OwnBase(BaseException):
    pass


async def fail(value: Any = "boom") -> NoReturn:
    raise ValueError(value)


async def fail_late(value: Any = "boom") -> NoReturn:
    await asyncio.sleep(0)
    raise ValueError(value)


def plain_fail(value: Any = "boom") -> NoReturn:
    raise ValueError(value)


def raise_named(name: str) -> NoReturn:
    raise _errors()[name]


async def raise_named_late(name: str) -> NoReturn:
    await asyncio.sleep(0)
    raise _errors()[name]


def _errors() -> dict[str, BaseException]:
    errors: list[BaseException] = [
        SystemExit(3),
        KeyboardInterrupt("ctrl"),
        GeneratorExit("gen"),
        OwnBase("own"),
        Custom("custom", 7),
        NeedsTwo("one", "two"),
        Unpicklable("stuck"),
        BadText(),
        asyncio.CancelledError("self"),
    ]
    return {type(error).__name__: error for error in errors}


def raise_stop(value: Any) -> NoReturn:
    raise StopIteration(value)


def raise_noted() -> NoReturn:
    error = ValueError("noted")
    error.__dict__["__notes__"] = ["a note"]
    raise error


def raise_chained() -> NoReturn:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("second") from error


def return_unpicklable() -> Any:
    return threading.Lock()


async def return_unpicklable_late() -> Any:
    await asyncio.sleep(0)
    return threading.Lock()


def fail_on(value: int, bad: int) -> int:
    if value == bad:
        raise ValueError(f"bad item {value}")
    return value


def fail_on_five(value: int) -> int:
    return fail_on(value, 5)


def die_on_two(value: int) -> int:
    if value == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


class DiesWhenDropped:
    """Becomes an int where it is unpickled; its end is that of its process."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (self.value,)

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def die_after_forty(value: int) -> Any:
    """Item 40 has its outcome, and then the worker dies; the others run elsewhere."""
    return DiesWhenDropped(value) if value == 40 else value


async def through_pair(pair: tuple[str, str]) -> str:
    """Through a gate; see gate.py."""
    return await gate.through(*pair)


class Tool:
    @staticmethod
    def twice(value: int) -> int:
        return 2 * value

    @classmethod
    def named(cls, value: int) -> str:
        return f"{cls.__name__} {value}"

    def method(self) -> None: ...


class FailsToLoad:
    """Can be pickled here but not read in a worker."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_only_in, (os.getpid(),))


def _only_in(process: int) -> object:
    if os.getpid() != process:
        raise RuntimeError("this can't be read in another process")
    return object()


class FailsToLoadOddly:
    """Reading it back raises StopIteration, which no Future may carry."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (raise_stop, (1,))


marks: list[Any] = []


def set_mark(*values: Any) -> None:
    """An initializer."""
    marks.extend(values)


async def set_mark_async(*values: Any) -> None:
    """An initializer that is a coroutine function."""
    await asyncio.sleep(0)
    marks.extend(values)


def get_marks() -> list[Any]:
    return marks


def broken_initializer() -> NoReturn:
    raise LookupError("no such table")


async def child_task_exits() -> str:
    async def leave() -> NoReturn:
        raise SystemExit(5)

    child = asyncio.ensure_future(leave())
    await asyncio.wait([child])
    return "still here"


async def meet_gate(path: str, number: int, stay: bool) -> int:
    if stay:
        await gate.through(path, str(number))
    return number


async def through_or_fail(path: str, name: str) -> str:
    await gate.through(path, name)
    if name == "bad":
        raise ValueError(name)
    return name


def write_at_exit(path: str) -> None:
    atexit.register(_append, path, "atexit ")


async def leave_task_behind(path: str) -> None:
    async def stay() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            _append(path, "task ")

    marks.append(asyncio.ensure_future(stay()))
    await asyncio.sleep(0)


def _append(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


_spins = 0
_spinning = False


async def spin_forever() -> NoReturn:
    """Never lets the loop block."""
    global _spins, _spinning
    _spinning = True
    try:
        while True:
            _spins += 1
            await asyncio.sleep(0)
    finally:
        _spinning = False


def spins() -> int:
    return _spins


def spinning() -> bool:
    return _spinning


async def nested(value: int) -> int:
    import aiomq

    async with aiomq.Pool(1) as pool:
        return await pool.apply(same, (value,))


def repeat(value: Any, times: int) -> Any:
    return value * times


async def repeat_late(value: Any, times: int) -> Any:
    await asyncio.sleep(0)
    return value * times


def options(timeout: Any, retries: Any, queue: Any) -> Any:
    """Has parameters that are called as options of a pool are."""
    return timeout, retries, queue


def plain_pid(_: Any = None) -> int:
    return os.getpid()


async def pid_later(_: Any = None) -> int:
    await asyncio.sleep(0.001)
    return os.getpid()
