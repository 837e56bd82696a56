"""An item is to its coroutine what an asyncio.Task is, and one item never affects the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import gate
import probes
import pytest

from aiomq import Pool

pytestmark = pytest.mark.versions

CANCELLED = "cancelled"

# What is run one after the other (or, in ALONGSIDE, at once), and what must come of it.
ONE_AFTER_THE_OTHER: dict[str, tuple[list[Callable[..., Any]], list[Any]]] = {
    "self-cancel, then return; the next is unharmed": (
        [probes.cancel_self_and_return, probes.after],
        [CANCELLED, 2],
    ),
    "self-cancel after a suspension, then return": (
        [probes.cancel_self_late_and_return, probes.after],
        [CANCELLED, 2],
    ),
    "a swallowed cancel does not reach the next one's timeout()": (
        [probes.cancel_self_and_swallow, probes.use_timeout],
        [1, "timeout"],
    ),
    "a swallowed cancel does not reach the next one's TaskGroup": (
        [probes.cancel_self_and_swallow, probes.use_task_group],
        [1, "ExceptionGroup"],
    ),
    "a task group after a failed one": ([probes.use_task_group_twice], [[1, 2]]),
    "wait_for": ([probes.use_wait_for, probes.use_wait_for], ["timeout", "timeout"]),
    "a late cancel of a finished item hits nobody": (
        [probes.cancel_self_after_the_end, probes.longer],
        [1, 2],
    ),
    "current_task() differs between items": ([probes.keep_task, probes.is_kept_task], [1, False]),
    "current_task() differs after a suspension": (
        [probes.keep_suspended_task, probes.is_kept_task],
        [1, False],
    ),
    "a kept task knows its outcome": (
        [probes.keep_task, probes.kept_is_done],
        [1, [True, False, 1, None, False]],
    ),
    "a weak dictionary keyed by task": ([probes.set_by_task, probes.get_by_task], [1, None]),
    "context variables do not leak": ([probes.set_variable, probes.get_variable], [1, 0]),
    "context variables last over a suspension": (
        [probes.set_variable_and_suspend, probes.get_variable],
        [7, 0],
    ),
    "context variables of plain functions do not leak": (
        [probes.plain_set_variable, probes.plain_get_variable, probes.get_variable],
        [1, 0, 0],
    ),
    "SystemExit": ([probes.raise_system_exit, probes.after], ["RemoteError", 2]),
    "GeneratorExit": ([probes.raise_generator_exit, probes.after], ["RemoteError", 2]),
    "StopIteration from a plain function": (
        [probes.raise_stop_iteration, probes.after],
        ["RemoteError", 2],
    ),
    "raise CancelledError": ([probes.raise_cancelled, probes.after], [CANCELLED, 2]),
    "an item is in all_tasks()": ([probes.is_listed], [True]),
    "a bad yield": ([probes.yield_badly], ["Task got bad yiel"]),
    "a future of another loop": (
        [probes.await_other_loops_future],
        ["attached to a different loop"],
    ),
    "awaiting itself": ([probes.await_itself], ["Task cannot await on itself"]),
    "the exception context is clean": (
        [probes.raise_value_error, probes.exception_context_is_clean],
        ["ValueError", True],
    ),
    "no exception is being handled": (
        [probes.raise_value_error, probes.no_exception_is_handled],
        ["ValueError", True],
    ),
    "a task's name does not leak": ([probes.set_name, probes.name_is_own], [1, True]),
    "done callbacks are called": ([probes.task_calls_back, probes.called_back], [1, True]),
    "another task can await an item": (
        [probes.other_awaits_this, probes.other_got_result],
        [5, 5],
    ),
    "what an item held is released": ([probes.hold_object, probes.object_is_gone], [1, True]),
    "shield and gather": ([probes.shield_and_gather], [[1, 2, 3]]),
    "cancelling() and uncancel()": ([probes.uncancel, probes.after], [[1, 0], 2]),
    "get_stack() and repr()": ([probes.stack_and_repr], [True]),
    "to_thread() takes the context along": ([probes.to_thread], [11]),
}

ALONGSIDE = {
    "an item that cancels all others": (
        [probes.sleep_long, probes.cancel_all_others, probes.after],
        [CANCELLED, 1, 2],
    ),
    "what was scheduled before sleep(0) has run after it": (
        [probes.schedule_and_let_others_run] * 5,
        [[0, 0, 1, -1, 2, -2]] * 5,
    ),
}


class Bench:
    """A loop and a pool that serve all tests of one kind."""

    def __init__(self, loop_initializer: Callable[[], Any] | None) -> None:
        self.loop = asyncio.new_event_loop()
        self.one = Pool(1, childconcurrency=1, loop_initializer=loop_initializer)
        self.many = Pool(1, childconcurrency=16, loop_initializer=loop_initializer)
        for pool in (self.one, self.many):
            self.run(pool.apply(probes.reset))

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, 60))

    async def close(self) -> None:
        for pool in (self.one, self.many):
            pool.terminate()
            await pool.join()


@pytest.fixture(scope="module")
def bench(bridge: str, loop_initializer: Callable[[], Any] | None) -> Iterator[Bench]:
    bench = Bench(loop_initializer)
    yield bench
    bench.run(bench.close())
    bench.loop.close()


async def outcomes(pool: Pool, functions: list[Callable[..., Any]]) -> list[Any]:
    await pool.apply(probes.reset)
    tasks = [pool.submit(function) for function in functions]
    await asyncio.wait(tasks)
    found: list[Any] = []
    for task in tasks:
        if task.cancelled():
            found.append(CANCELLED)
        elif error := task.exception():
            found.append(type(error).__name__)
        else:
            found.append(task.result())
    return found


@pytest.mark.parametrize("name", ONE_AFTER_THE_OTHER)
def test_items_that_follow_each_other(bench: Bench, name: str) -> None:
    functions, expected = ONE_AFTER_THE_OTHER[name]
    assert bench.run(outcomes(bench.one, functions)) == expected


@pytest.mark.parametrize("name", ALONGSIDE)
def test_items_that_run_at_once(bench: Bench, name: str) -> None:
    functions, expected = ALONGSIDE[name]
    assert bench.run(outcomes(bench.many, functions)) == expected


def test_a_cancelled_item_may_finish_slowly(bench: Bench) -> None:
    async def run() -> None:
        await bench.one.apply(probes.reset)
        async with gate.Gate() as door:
            task = bench.one.submit(probes.finish_slowly, door.path)
            await door.arrived("started")
            blocked = bench.one.submit(probes.after)  # childconcurrency is 1: it waits
            task.cancel()
            assert await blocked == 2
        assert await bench.one.apply(probes.finished_slowly)

    bench.run(run())


def test_aiohttp_times_out_inside_an_item(bench: Bench) -> None:
    web = pytest.importorskip("aiohttp.web")

    async def run() -> None:
        release = asyncio.Event()

        async def slow(request: Any) -> Any:
            await release.wait()
            return web.Response(text="late")

        async def fast(request: Any) -> Any:
            return web.Response(text="fast")

        app = web.Application()
        app.add_routes([web.get("/slow", slow), web.get("/fast", fast)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/"
        calls = [(url, 0.05)] * 8
        try:
            assert await bench.many.starmap(probes.http, calls) == ["timeout fast"] * 8
        finally:
            release.set()
            await runner.cleanup()

    bench.run(run())
