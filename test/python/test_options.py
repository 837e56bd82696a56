"""What calls and pools may be told: checked where it is said, and done."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from typing import Any

import calls
import gate
import pytest

import aiomq
from aiomq import Group, Pool, PoolCalls
from aiomq._options import digest


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("queue", "nowhere", r"queue 'nowhere' is none of the pool's: 'first', 'second'"),
        ("queue", 1, "queue must be a str, not int"),
        ("key", 1.5, "key must be a str, bytes or int, not float"),
        ("key", True, "key must be a str, bytes or int, not bool"),
        ("key", ("a",), "key must be a str, bytes or int, not tuple"),
        ("retries", -1, "retries must be at least 0"),
        ("retries", 1.0, "retries must be an int, not float"),
        ("start_within", -1, "start_within must not be negative or NaN"),
        ("start_within", math.nan, "start_within must not be negative or NaN"),
        ("timeout", "1", "timeout must be a number of seconds, not str"),
        ("timeout", True, "timeout must be a number of seconds, not bool"),
        ("timeout", -math.inf, "timeout must not be negative"),
        ("isolate", 0, "isolate must be a bool, not int"),
    ],
)
async def test_a_bad_option_of_a_call_is_named(option: str, value: Any, error: str) -> None:
    async with Pool(1, queues=["first", "second"]) as pool:
        with pytest.raises((TypeError, ValueError), match=error):
            pool.options(**{option: value})


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"queues": "one"}, "queues must be a sequence of str, not one str"),
        ({"queues": 5}, "queues must be a sequence of str, not int"),
        ({"queues": []}, "queues must not be empty"),
        ({"queues": ["a", 1]}, r"queues\[1\] must be a str"),
        ({"queues": ["a", ""]}, r"queues\[1\] must not be empty"),
        ({"queues": ["a", "a"]}, "queues must not name a queue twice"),
        ({"queues": [str(number) for number in range(17)]}, "at most 16"),
        ({"groups": []}, "groups must not be empty"),
        ({"groups": 5}, "groups must be a sequence"),
        ({"groups": [5]}, r"groups\[0\] must be an aiomq.Group, not int"),
        ({"groups": [Group(1)], "processes": 1}, "processes must be left out"),
        ({"groups": [Group(1, queues=["b"])]}, r"groups\[0\]: queue 'b' is none of the pool's"),
        ({"groups": [Group(1000), Group(1000)]}, "groups have 2000 processes; at most 1023"),
        ({"queues": ["a", "b"], "groups": [Group(1, queues=["a"])]}, r"queues\[1\]"),
        ({"maxtasksperchild": 0}, "maxtasksperchild must be at least 1"),
        ({"max_memory_per_child": "1"}, "max_memory_per_child must be an int"),
        ({"poison_limit": 0}, "poison_limit must be at least 1"),
        ({"grace": -1}, "grace must not be negative"),
        ({"blocked_after": math.nan}, "blocked_after must not be negative or NaN"),
    ],
)
def test_a_bad_option_of_a_pool_is_named(options: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        Pool(**options)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"processes": 0}, "processes must be at least 1"),
        ({"queues": []}, "queues must not be empty"),
        ({"queues": "a"}, "queues must be a sequence"),
        ({"childconcurrency": 0}, "childconcurrency must be at least 1"),
        ({"program": "cat"}, "program must be a sequence of words, not str"),
        ({"program": []}, "program must not be empty"),
        ({"program": ["a\0b"]}, "program must not contain null"),
        ({"program": [1]}, "program: "),
        ({"name": ""}, "name must not be empty"),
        ({"maxtasksperchild": 0}, "maxtasksperchild must be at least 1"),
    ],
)
def test_a_bad_option_of_a_group_is_named(options: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        Group(**{"processes": 1, **options})


@pytest.mark.versions
async def test_a_view_calls_as_its_pool_does() -> None:
    async with Pool(1) as pool:
        view = pool.options(retries=1, timeout=60, start_within=60, queue="default")
        assert type(view) is PoolCalls
        assert await view.submit(calls.add, 1, b=2) == 3
        assert await view.submit_nowait(calls.add, 1, b=2) == 3
        assert await view.apply(calls.add, (1,), {"b": 2}) == 3
        assert await view.map(calls.add, range(1000)) == list(range(1000))
        assert await view.starmap(calls.add, [(1, 2), (3, 4)], chunksize=1) == [3, 7]
        # A function's own arguments of these names are its own.
        assert await view.submit(calls.options, timeout=1, retries=2, queue="x") == (1, 2, "x")
    with pytest.raises(RuntimeError, match="pool is closed"):
        view.submit(calls.add, 1)


async def test_a_view_of_a_view_has_only_its_own_options() -> None:
    async with Pool(1) as pool:
        assert (
            pool.options(retries=2).options(timeout=1)._options == pool.options(timeout=1)._options
        )
        assert pool.options()._options is None


async def test_options_hold_for_what_waits_for_room() -> None:
    async with Pool(1, capacity=1, childconcurrency=1) as pool:
        view = pool.options(timeout=60, retries=2)
        tasks = [view.submit(calls.add, number) for number in range(50)]
        tasks += [pool.submit(calls.add, number) for number in range(50, 100)]
        assert await asyncio.gather(*tasks) == list(range(100))


def test_a_key_is_the_same_number_in_every_process() -> None:
    keys = ["a", b"a", 97, -1, 2**70, "", b"", "\udc80"]
    assert len({digest(key) for key in keys}) == len(keys)
    assert all(0 <= digest(key) < 2**64 for key in keys)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from aiomq._options import digest; print([digest(k) for k in {keys!r}])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str([digest(key) for key in keys])


@pytest.mark.versions
async def test_close_without_draining_ends_what_has_not_started() -> None:
    async with gate.Gate() as door:
        pool = Pool(1, childconcurrency=1, capacity=4)
        running = pool.submit(gate.through, door.path, "a")
        waiting = [pool.submit(calls.add, number) for number in range(10)]
        result = pool.map(calls.add, range(100))
        await door.arrived("a")
        pool.close(drain=False)
        for call in (*waiting, result):
            with pytest.raises(RuntimeError, match="pool is closed"):
                await call
        door.open("a")
        assert await running == "a"
        await pool.join()


async def test_a_closed_pool_may_still_be_told_not_to_drain() -> None:
    async with gate.Gate() as door:
        pool = Pool(1, childconcurrency=1)
        running = pool.submit(gate.through, door.path, "a")
        waiting = pool.submit(calls.add, 1)
        await door.arrived("a")
        pool.close()
        pool.close(drain=False)
        with pytest.raises(RuntimeError, match="pool is closed"):
            await waiting
        door.open("a")
        await pool.join()
        assert await running == "a"


@pytest.mark.versions
async def test_join_with_a_timeout() -> None:
    async with gate.Gate() as door:
        pool = Pool(1)
        running = pool.submit(gate.through, door.path, "a")
        await door.arrived("a")
        pool.close()
        for seconds in (0, 0.01):
            with pytest.raises(TimeoutError):
                await pool.join(seconds)
        for bad in (-1, "1", math.nan):
            with pytest.raises((TypeError, ValueError), match="timeout"):
                await pool.join(bad)  # type: ignore[arg-type]
        door.open("a")
        await pool.join(timeout=60)
        await pool.join(timeout=0)
        assert await running == "a"


def test_public_errors_are_timeouts() -> None:
    assert issubclass(aiomq.StartExpired, TimeoutError)
    assert issubclass(aiomq.TaskTimeout, TimeoutError)


@pytest.mark.versions
async def test_items_of_a_chunk_see_nothing_of_each_others_context(bridge: str) -> None:
    found: dict[Any, Any] = {
        "get": 0,
        "set": 5,
        "set and reset": 0,
        "keep token": 8,
        "use token": "another context",
        "copy": 0,
        "look at copy": False,
        "hold": 0,
        "is gone": True,
        "set on leaving": None,
        "await": 1,
        "set and raise": "LookupError",
    }
    steps: list[Any] = ["get"]
    for step in found:
        steps += [step] if step in ("keep token", "copy", "hold") else [step, "get"]
    steps += [calls.SetsOnArrival(), "get"]
    async with Pool(1) as pool:
        results = await pool.map(
            calls.touch_context, steps, chunksize=len(steps), return_exceptions=True
        )
    expected = [found[step] if isinstance(step, str) else 0 for step in steps]
    assert [type(r).__name__ if isinstance(r, Exception) else r for r in results] == expected


@pytest.mark.versions
async def test_plain_functions_that_are_not_isolated_share_a_context() -> None:
    async with Pool(1) as pool:
        together = pool.options(isolate=False)
        assert await pool.map(calls.count_in_context, range(4)) == [1] * 4
        assert await together.map(calls.count_in_context, range(4)) == [1, 2, 3, 4]
        assert await together.apply(calls.count_in_context) == 5
        with pytest.raises(LookupError, match="6"):
            await together.apply(calls.refuse_in_context)
        # What must be awaited has a context of its own, which begins as the shared one.
        assert await together.apply(calls.make_count_in_context) == 8
        assert await together.map(calls.count_in_context_later, range(4)) == [1] * 4
        assert await together.map(calls.make_count_in_context, range(3)) == [9, 10, 11]
        assert await pool.apply(calls.count_in_context) == 1
        assert await together.apply(nested_counts) == [11, 12]


async def nested_counts() -> list[int]:
    together = aiomq.current_pool().options(isolate=False)
    return [await together.apply(calls.count_in_context) for _ in range(2)]
