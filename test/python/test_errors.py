"""Exceptions on their way back, and what can't travel."""

from __future__ import annotations

import asyncio
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import calls
import pytest

from aiomq import Pool, RemoteError, WorkerDied

RAISE = [calls.raise_named, calls.raise_named_late]


@pytest.mark.versions
@pytest.mark.parametrize("function", [calls.fail, calls.fail_late, calls.plain_fail])
async def test_the_original_exception_with_the_remote_traceback(function: Any) -> None:
    async with Pool(1) as pool:
        for call in (pool.submit(function, "boom"), pool.map(function, ["boom"])):
            with pytest.raises(ValueError, match=r"^boom$") as caught:
                await call
            text = str(caught.value.__cause__)
            assert "Traceback (most recent call last)" in text
            assert f"in {function.__name__}" in text and "calls.py" in text
            assert "ValueError: boom" in text
            assert "lib/python/aiomq/" not in text  # the user's frames only


async def test_each_call_raises_an_exception_of_its_own() -> None:
    async with Pool(1) as pool:
        tasks = [pool.submit(calls.fail), pool.submit(calls.fail)]
        first, second = await asyncio.gather(*tasks, return_exceptions=True)
        assert first is not second


@pytest.mark.parametrize("function", RAISE)
async def test_attributes_come_along(function: Callable[[str], Any]) -> None:
    async with Pool(1) as pool:
        with pytest.raises(calls.Custom) as caught:
            await pool.apply(function, ("Custom",))
        assert caught.value.number == 7
        with pytest.raises(ValueError) as noted:
            await pool.apply(calls.raise_noted)
        assert noted.value.__dict__["__notes__"] == ["a note"]


async def test_the_traceback_tells_of_causes() -> None:
    async with Pool(1) as pool:
        with pytest.raises(ValueError, match="second") as caught:
            await pool.apply(calls.raise_chained)
        assert "KeyError: 'first'" in str(caught.value.__cause__)


@pytest.mark.versions
@pytest.mark.parametrize("function", RAISE)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SystemExit", "3"),
        ("KeyboardInterrupt", "ctrl"),
        ("GeneratorExit", "gen"),
        ("OwnBase", "own"),
    ],
)
async def test_what_would_end_the_callers_loop_is_the_cause_of_a_remote_error(
    function: Callable[[str], Any], name: str, text: str
) -> None:
    async with Pool(1) as pool:
        with pytest.raises(RemoteError) as caught:
            await pool.apply(function, (name,))
        assert caught.value.type.endswith(name) and caught.value.message == text
        cause = caught.value.__cause__
        assert type(cause).__name__ == name and str(cause) == text
        assert cause is not None and "Traceback" in str(cause.__cause__)
        assert await pool.apply(calls.add, (1, 2)) == 3


@pytest.mark.versions
async def test_stop_iteration_is_the_cause_of_a_remote_error() -> None:
    async with Pool(1) as pool:
        with pytest.raises(RemoteError) as caught:
            await pool.apply(calls.raise_stop, (5,))
        assert isinstance(caught.value.__cause__, StopIteration)
        assert caught.value.__cause__.value == 5
        with pytest.raises(RemoteError):
            await pool.map(calls.raise_stop, [1, 2, 3])


@pytest.mark.parametrize("function", RAISE)
@pytest.mark.parametrize(
    ("name", "text"), [("NeedsTwo", "one two"), ("Unpicklable", "stuck"), ("BadText", "<its text")]
)
async def test_what_cannot_be_pickled_is_a_remote_error_that_names_it(
    function: Callable[[str], Any], name: str, text: str
) -> None:
    async with Pool(1) as pool:
        with pytest.raises((RemoteError, calls.BadText)) as caught:
            await pool.apply(function, (name,))
        if isinstance(caught.value, RemoteError):
            assert caught.value.type == f"calls.{name}" and text in caught.value.message
            assert name in str(caught.value)
        assert "Traceback" in str(caught.value.__cause__)


@pytest.mark.parametrize("function", RAISE)
async def test_a_call_that_cancels_itself_is_cancelled_here(function: Callable[[str], Any]) -> None:
    async with Pool(1) as pool:
        task = pool.submit(function, "CancelledError")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await pool.map(function, ["CancelledError"])


@pytest.mark.versions
async def test_an_argument_that_cannot_be_pickled_is_named_at_the_call() -> None:
    lock = threading.Lock()
    async with Pool(1) as pool:
        with pytest.raises(pickle.PicklingError, match=r"argument 2 of add\(\).*lock"):
            pool.submit(calls.add, 1, lock)  # type: ignore[arg-type]
        with pytest.raises(pickle.PicklingError, match=r"'b'.*lock"):
            pool.submit(calls.add, 1, b=lock)  # type: ignore[arg-type]
        with pytest.raises(pickle.PicklingError, match="argument 1"):
            await pool.apply(calls.same, ([1, lock],))
        with pytest.raises(pickle.PicklingError, match=r"item 2\b"):
            pool.map(calls.same, [1, 2, lock])
        with pytest.raises(pickle.PicklingError, match=r"item 150000\b"):
            await pool.map(calls.same, (n if n != 150_000 else lock for n in range(200_000)))
        with pytest.raises(pickle.PicklingError, match=r"item 1, argument 2"):
            pool.starmap(calls.add, [(1, 2), (3, lock)])
        assert await pool.apply(calls.add, (1, 2)) == 3


@pytest.mark.parametrize("function", [calls.return_unpicklable, calls.return_unpicklable_late])
async def test_a_result_that_cannot_be_pickled_is_an_error(function: Callable[[], Any]) -> None:
    async with Pool(1) as pool:
        with pytest.raises(pickle.PicklingError, match=r"result.*lock"):
            await pool.apply(function)
        assert await pool.apply(calls.add, (1, 2)) == 3


async def test_an_argument_that_cannot_be_read_back_is_an_error_of_the_call() -> None:
    async with Pool(1) as pool:
        with pytest.raises(RuntimeError, match="can't be read in another process"):
            await pool.apply(calls.same, (calls.FailsToLoad(),))
        with pytest.raises(RuntimeError, match="can't be read in another process"):
            await pool.map(calls.same, [1, calls.FailsToLoad()])


async def test_a_result_that_cannot_be_read_back_is_an_error_of_the_call() -> None:
    async with Pool(1) as pool:
        with pytest.raises(RuntimeError, match="can't be read in another process"):
            await pool.apply(calls.FailsToLoad)
        assert await pool.apply(calls.add, (1, 2)) == 3


def locked_method() -> Any:
    """A bound method that can't be pickled."""
    tool: Any = calls.Tool()
    tool.lock = threading.Lock()
    return tool.method


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: 1, "can't be found by that name"),
        (locked_method(), "is not the object"),
        (5, "must be callable"),
    ],
)
async def test_a_function_that_cannot_be_imported_is_refused(
    function: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    async with Pool(1) as pool:
        with pytest.raises((ValueError, TypeError), match=message):
            pool.submit(function)
        with pytest.raises((ValueError, TypeError), match=message):
            pool.map(function, [1])


async def test_a_result_whose_loading_raises_stop_iteration() -> None:
    async with Pool(1) as pool:
        with pytest.raises(RemoteError) as caught:
            await pool.apply(calls.FailsToLoadOddly)
        assert isinstance(caught.value.__cause__, StopIteration)


async def test_wrong_arguments_are_the_calls_type_error() -> None:
    async with Pool(1) as pool:
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            await pool.submit(calls.add)  # type: ignore[call-arg]


def test_our_exceptions_survive_pickling() -> None:
    error = WorkerDied("died", 12, None, 9)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.pid, copy.exit_status, copy.signal) == ("died", 12, None, 9)
    remote = pickle.loads(pickle.dumps(RemoteError("m.T", "text")))
    assert (remote.type, remote.message, str(remote)) == ("m.T", "text", "m.T: text")
