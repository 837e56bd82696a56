"""Pool.stream(): what a generator yields in a worker comes as it is produced."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from pathlib import Path
from typing import Any

import calls
import gate
import pytest
import streaming

from aiomq import Group, Pool, Stream, TaskTimeout, WorkerDied


async def listed(stream: Stream[Any]) -> list[Any]:
    return [value async for value in stream]


@pytest.mark.versions
@pytest.mark.parametrize("size", [1, 2, 64])
async def test_every_kind_of_generator_gives_its_values_in_order(size: int) -> None:
    async with Pool(2, childconcurrency=1) as pool:
        for function in (
            streaming.count,
            streaming.count_slowly,
            streaming.plain_count,
            streaming.make_count,
            streaming.numbers,
        ):
            for stop in (0, 1, 2, 500):
                stream = pool.stream(function, (stop,), buffersize=size)
                assert await listed(stream) == list(range(stop)), function
        assert await listed(pool.stream(streaming.count, [10], {"step": 3})) == [0, 3, 6, 9]


async def test_many_streams_and_calls_share_few_permits() -> None:
    async with Pool(2, childconcurrency=1) as pool:
        streams = [pool.stream(streaming.count_slowly, (200,), buffersize=3) for _ in range(20)]
        results = await asyncio.gather(
            *map(listed, streams), *(pool.apply(calls.add, (i, 1)) for i in range(50))
        )
        assert results == [list(range(200))] * 20 + [i + 1 for i in range(50)]


@pytest.mark.parametrize("function", [streaming.waits_between, streaming.blocks_between])
async def test_a_value_comes_before_the_next_is_produced(function: Any) -> None:
    async with gate.Gate() as door, Pool(1) as pool:
        stream = aiter(pool.stream(function, (door.path,)))
        assert await anext(stream) == "before"
        await door.arrived("stream")
        door.open("stream")
        assert await anext(stream) == "after"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_the_generator_does_not_run_far_ahead(tmp_path: Path) -> None:
    async with Pool(1) as pool:
        stream = aiter(pool.stream(streaming.endless, (str(tmp_path / "log"),), buffersize=10))
        for number in range(1, 101):
            assert await anext(stream) == number
            made = await pool.apply(streaming.endless_made)
            assert number <= made <= number + 3 * 10 + 1
        for _ in range(5):
            assert await pool.apply(streaming.endless_made) <= 100 + 3 * 10 + 1
        await stream.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "errors"),
    [
        (streaming.endless, ("GeneratorExit",)),
        (streaming.plain_endless, ("GeneratorExit",)),
        (streaming.waits_for_ever, ("CancelledError", "GeneratorExit")),
    ],
)
async def test_leaving_early_ends_the_generator(
    function: Any, errors: tuple[str, ...], tmp_path: Path
) -> None:
    async with Pool(1) as pool:
        for way in ("break", "cancel", "aclose", "drop"):
            log = tmp_path / way
            stream = pool.stream(function, (str(log),))
            values = aiter(stream)
            assert await anext(values) == 1
            if way == "cancel":
                stream.cancel()
                with pytest.raises(asyncio.CancelledError):
                    while True:
                        await anext(values)
            elif way == "aclose":
                await values.aclose()  # type: ignore[attr-defined]
            del values, stream
            gc.collect()
            while not (log.exists() and log.read_text()):  # made, and written to
                await pool.apply(calls.add, (1, 2))
            assert log.read_text() in errors
        assert pool.stats().workers[0].running == 0


async def test_a_stream_that_nobody_iterates_ends_when_it_is_dropped(tmp_path: Path) -> None:
    async with Pool(1) as pool:
        stream = pool.stream(streaming.endless, (str(tmp_path / "log"),), buffersize=2)
        while await pool.apply(streaming.endless_made) < 3:
            pass
        del stream
        gc.collect()
        while not (tmp_path / "log").exists():
            await pool.apply(calls.add, (1, 2))


async def test_an_exception_comes_after_the_values() -> None:
    async with Pool(1) as pool:
        for size in (1, 64):
            values = []
            with pytest.raises(LookupError, match="no more of it"):
                async for value in pool.stream(streaming.fails_after, (100,), buffersize=size):
                    values.append(value)
            assert values == list(range(100))
        with pytest.raises(TypeError, match="not int"):
            await listed(pool.stream(calls.plain_add, (1, 2)))
        with pytest.raises(TypeError, match="not coroutine"):
            await listed(pool.stream(calls.add, (1, 2)))


async def test_a_value_that_cannot_be_sent_ends_the_stream() -> None:
    async with Pool(1) as pool:
        with pytest.raises(Exception, match="can't be sent back"):
            await listed(pool.stream(streaming.yields_a_lock))
        assert await listed(pool.stream(streaming.count, (3,))) == [0, 1, 2]


@pytest.mark.versions
async def test_the_death_of_the_worker_is_the_streams_error() -> None:
    async with Pool(1) as pool:
        with pytest.raises(WorkerDied, match="while it ran this task"):
            await listed(pool.stream(streaming.dies_after, (100,)))
        stream = aiter(pool.stream(streaming.pids, (10**9,), buffersize=4))
        os.kill(await anext(stream), signal.SIGKILL)
        with pytest.raises(WorkerDied, match="while it ran this task"):
            while True:
                await anext(stream)
        assert await listed(pool.stream(streaming.count, (3,))) == [0, 1, 2]


async def test_a_worker_that_retires_ends_its_streams_first() -> None:
    async with Pool(1) as pool:
        stream = aiter(pool.stream(streaming.pids, (2000,), buffersize=4))
        pid = await anext(stream)
        os.kill(pid, signal.SIGTERM)
        assert {value async for value in stream} == {pid}
        assert await pool.apply(os.getpid) != pid
    async with Pool(1, maxtasksperchild=3) as pool:
        first, second = await asyncio.gather(
            listed(pool.stream(streaming.pids, (500,), buffersize=4)),
            listed(pool.stream(streaming.pids, (500,), buffersize=4)),
        )
        assert len(set(first)) == len(set(second)) == 1
        for _ in range(3):
            await pool.apply(os.getpid)
        assert await pool.apply(os.getpid) != first[0]


async def test_close_waits_for_streams_and_discarding_ends_them(tmp_path: Path) -> None:
    pool = Pool(1)
    stream = aiter(pool.stream(streaming.count_slowly, (300,), buffersize=4))
    assert await anext(stream) == 0
    pool.close()
    with pytest.raises(RuntimeError, match="pool is closed"):
        pool.stream(streaming.count, (1,))
    assert [value async for value in stream] == list(range(1, 300))
    await pool.join(20)
    pool = Pool(1)
    kept = pool.stream(streaming.endless, (str(tmp_path / "log"),))
    values = aiter(kept)
    await anext(values)
    pool.close(drain=False)
    await pool.join(20)
    assert (tmp_path / "log").exists()
    with pytest.raises((asyncio.CancelledError, RuntimeError)):
        while True:
            await anext(values)
    pool = Pool(1)
    values = aiter(pool.stream(streaming.endless, (str(tmp_path / "log"),)))
    await anext(values)
    pool.terminate()
    with pytest.raises(RuntimeError, match="terminated"):
        while True:
            await anext(values)
    await pool.join(20)


async def test_options_hold_for_a_stream() -> None:
    groups = [Group(1, queues=["a"]), Group(1, queues=["b"])]
    async with Pool(queues=["a", "b"], groups=groups) as pool:
        homes = [await pool.options(queue=queue).apply(os.getpid) for queue in "ab"]
        for queue, home in zip("ab", homes, strict=True):
            stream = pool.options(queue=queue).stream(streaming.pids, (50,))
            assert set(await listed(stream)) == {home}
        with pytest.raises(TaskTimeout, match="pids"):
            await listed(pool.options(timeout=0.2).stream(streaming.pids, (10**9,)))
        named = await listed(pool.options(timeout=9).stream(streaming.name_and_item))
        assert named == [("streaming:name_and_item", 9.0)]
        with pytest.raises(ValueError, match="retries"):
            pool.options(retries=1).stream(streaming.count, (1,))
    async with Pool(4) as pool:
        keyed = pool.options(key="one")
        pids = await asyncio.gather(*(listed(keyed.stream(streaming.pids, (9,))) for _ in range(8)))
        assert len({pid for each in pids for pid in each}) == 1


async def test_bad_arguments_are_named() -> None:
    async with Pool(1) as pool:
        with pytest.raises(ValueError, match="buffersize must be at least 1"):
            pool.stream(streaming.count, (1,), buffersize=0)
        with pytest.raises(TypeError, match="buffersize must be an int"):
            pool.stream(streaming.count, (1,), buffersize="8")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="callable"):
            pool.stream(5, (1,))  # type: ignore[call-overload]
        with pytest.raises(Exception, match=r"argument 1 of count\(\) can't be sent"):
            pool.stream(streaming.count, (threading.Lock(),))
        with pytest.raises(TypeError, match=r"stream\(\)"):
            await pool.apply(streaming.count, (1,))  # type: ignore[arg-type]
        stream = pool.stream(streaming.count, (1,))
        assert await listed(stream) == [0]
        with pytest.raises(RuntimeError, match="once"):
            aiter(stream)


async def test_a_task_may_stream_from_its_own_pool() -> None:
    async with Pool(1, childconcurrency=1) as pool:
        assert await pool.map(streaming.nested_sum, [100, 200]) == [4950, 19900]


async def test_a_loop_of_another_thread_may_stream() -> None:
    async with Pool(2) as pool:
        found: list[int] = []

        async def here() -> list[int]:
            return await listed(pool.stream(streaming.count, (300,), buffersize=3))

        thread = threading.Thread(target=lambda: found.extend(asyncio.run(here())))
        thread.start()
        mine = await listed(pool.stream(streaming.count_slowly, (300,)))
        await asyncio.to_thread(thread.join)
        assert found == mine == list(range(300))


async def test_large_values_are_views() -> None:
    async with Pool(1) as pool:
        values = await listed(pool.stream(streaming.arrays, (5,), buffersize=2))
        assert [value.sum() for value in values] == [100_000 * number for number in range(5)]
