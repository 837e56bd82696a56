"""What items may do to each other if they are not kept apart; run in workers by test_item.

Each function is one item. They are run in pairs, one after the other in the same worker: the first
does something to "its task", the second finds out whether it is affected.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import weakref
from collections.abc import Generator
from typing import Any, NoReturn

import gate

kept: list[Any] = []
variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
by_task: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
current: Any = asyncio.current_task


def reset() -> None:
    """Forget what the last probe left here; runs as a plain item."""
    kept.clear()
    by_task.clear()


async def schedule_and_let_others_run() -> list[int]:
    ran: list[int] = []
    for turn in range(3):
        asyncio.get_running_loop().call_soon(ran.append, turn)
        await asyncio.sleep(0)
        ran.append(-turn)
    return ran


async def after() -> int:
    await asyncio.sleep(0.001)
    return 2


async def cancel_self_and_return() -> int:
    current().cancel()
    return 1


async def cancel_self_late_and_return() -> int:
    await asyncio.sleep(0)
    current().cancel()
    return 1


async def cancel_self_and_swallow() -> int:
    current().cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(30)
    return 1


async def use_timeout() -> str:
    try:
        if sys.version_info >= (3, 11):
            async with asyncio.timeout(0.005):
                await asyncio.sleep(30)
        else:
            await asyncio.wait_for(asyncio.sleep(30), 0.005)
    except asyncio.TimeoutError:
        return "timeout"
    return "no timeout"


async def use_task_group() -> str:
    if sys.version_info < (3, 11):
        return "ExceptionGroup"

    async def bad() -> NoReturn:
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(bad())
            await asyncio.sleep(30)
    except BaseException as error:
        return type(error).__name__
    return "no error"


async def use_task_group_twice() -> list[int]:
    """A group that ends well, in a task that a group has cancelled before."""
    assert await use_task_group() == "ExceptionGroup"
    if sys.version_info < (3, 11):
        return [1, 2]
    assert current().cancelling() == 0
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(0, number)) for number in (1, 2)]
    return [task.result() for task in tasks]


async def use_wait_for() -> str:
    try:
        await asyncio.wait_for(asyncio.sleep(30), 0.005)
    except asyncio.TimeoutError:
        return "timeout"
    return "no timeout"


async def cancel_self_after_the_end() -> int:
    asyncio.get_running_loop().call_later(0.002, current().cancel)
    return 1


async def longer() -> int:
    await asyncio.sleep(0.01)
    return 2


async def keep_task() -> int:
    kept.append(current())
    return 1


async def keep_suspended_task() -> int:
    kept.append(current())
    await asyncio.sleep(0)
    return 1


async def is_kept_task() -> bool:
    return current() is kept[-1]


async def kept_is_done() -> list[Any]:
    task = kept[-1]
    return [task.done(), task.cancelled(), task.result(), task.exception(), task.cancel()]


async def set_by_task() -> int:
    by_task[current()] = "of the first"
    return 1


async def get_by_task() -> str | None:
    return by_task.get(current())


async def set_variable() -> int:
    variable.set(7)
    return 1


async def set_variable_and_suspend() -> int:
    variable.set(7)
    await asyncio.sleep(0)
    return variable.get()


async def get_variable() -> int:
    return variable.get()


def plain_set_variable() -> int:
    variable.set(8)
    return 1


def plain_get_variable() -> int:
    return variable.get()


async def raise_system_exit() -> NoReturn:
    raise SystemExit(3)


async def raise_generator_exit() -> NoReturn:
    raise GeneratorExit


def raise_stop_iteration() -> NoReturn:
    raise StopIteration(1)


async def raise_cancelled() -> NoReturn:
    raise asyncio.CancelledError


async def cancel_all_others() -> int:
    for task in asyncio.all_tasks():
        if task is not current():
            task.cancel()
    await asyncio.sleep(0)
    return 1


async def sleep_long() -> int:
    await asyncio.sleep(30)
    return 3


async def is_listed() -> bool:
    await asyncio.sleep(0)
    return current() in asyncio.all_tasks()


class BadAwaitable:
    def __await__(self) -> Generator[Any, None, None]:
        yield 42


async def yield_badly() -> str:
    try:
        await BadAwaitable()
    except RuntimeError as error:
        return str(error)[:17]
    return "no error"


async def await_other_loops_future() -> str:
    other = asyncio.new_event_loop()
    try:
        await other.create_future()
    except RuntimeError as error:
        return str(error)[-28:]
    finally:
        other.close()
    return "no error"


async def await_itself() -> str:
    try:
        await current()
    except RuntimeError as error:
        return str(error)[:27]
    return "no error"


async def raise_value_error() -> NoReturn:
    raise ValueError("a")


async def exception_context_is_clean() -> bool:
    try:
        raise KeyError("b")
    except KeyError as error:
        return error.__context__ is None and sys.exc_info()[0] is KeyError


async def no_exception_is_handled() -> bool:
    before = sys.exc_info()[0] is None
    await asyncio.sleep(0)
    return before and sys.exc_info()[0] is None


async def set_name() -> int:
    current().set_name("mine")
    return 1


async def name_is_own() -> bool:
    first = current().get_name()
    await asyncio.sleep(0)
    return first != "mine" and current().get_name() == first


async def task_calls_back() -> int:
    task = current()
    task.add_done_callback(lambda done: kept.append(done is task and done.done()))
    return 1


async def called_back() -> bool:
    await asyncio.sleep(0.001)
    return bool(kept == [True])


async def other_awaits_this() -> int:
    """Another task awaits this one's task, as it might any task."""
    task = current()

    async def wait() -> None:
        kept.append(await task)

    kept.append(asyncio.ensure_future(wait()))
    await asyncio.sleep(0)
    return 5


async def other_got_result() -> Any:
    await kept[0]
    return kept[1]


class Referred:
    pass


async def hold_object() -> int:
    held = Referred()
    kept.append(weakref.ref(held))
    return 1


async def object_is_gone() -> bool:
    await asyncio.sleep(0)
    gc.collect()
    return kept[-1]() is None


async def finish_slowly(path: str) -> int:
    try:
        await gate.through(path, "started")
    finally:
        await asyncio.sleep(0.001)
        kept.append("finished")
    return 1


async def finished_slowly() -> bool:
    return kept == ["finished"]


async def shield_and_gather() -> list[int]:
    first = await asyncio.shield(asyncio.sleep(0, 1))
    return [first, *await asyncio.gather(asyncio.sleep(0, 2), asyncio.sleep(0, 3))]


async def uncancel() -> list[int]:
    """Cancel and take it back before anything is awaited (3.13: then nothing is thrown)."""
    task = current()
    if sys.version_info < (3, 11):
        return [1, 0]
    task.cancel()
    counts = [task.cancelling()]
    counts.append(task.uncancel())
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    return counts


async def stack_and_repr() -> bool:
    task = current()
    stack: list[list[Any]] = []
    asyncio.get_running_loop().call_soon(lambda: stack.append(task.get_stack()))
    await asyncio.sleep(0.001)
    return stack[0][0].f_code.co_name == "stack_and_repr" and "stack_and_repr" in repr(task)


async def to_thread() -> int:
    variable.set(11)
    return await asyncio.to_thread(variable.get)


async def http(url: str, timeout: float) -> str:
    """aiohttp's total timeout, and a plain request after it, in the same session and task."""
    import aiohttp

    async with aiohttp.ClientSession() as session:
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with session.get(url + "slow", timeout=limit) as response:
                first = await response.text()
        except asyncio.TimeoutError:
            first = "timeout"
        async with session.get(url + "fast") as response:
            return f"{first} {await response.text()}"
