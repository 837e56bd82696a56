"""One pool in several threads: loops of their own, and threads without one."""

from __future__ import annotations

import asyncio
import operator
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import calls
import gate
import pytest

from aiomq import Pool, WorkerDied


def in_thread(make: Callable[[], Coroutine[Any, Any, Any]]) -> Awaitable[Any]:
    """Run a coroutine in a loop of another thread; await its result here."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(asyncio.run(make()))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run).start()
    return asyncio.wrap_future(done)


@pytest.mark.versions
async def test_every_way_to_call_works_in_another_threads_loop() -> None:
    async with Pool(2) as pool:
        await pool.apply(calls.add, (1,))

        async def use() -> None:
            assert await pool.apply(calls.add, (1, 2)) == 3
            assert await pool.submit_nowait(calls.add, 1, 2) == 3
            assert await pool.options(timeout=60).apply(calls.add, (1, 2)) == 3
            assert await pool.map(calls.later, range(300)) == list(range(300))
            assert [value async for value in pool.map(calls.add, range(5000))] == list(range(5000))
            unordered = pool.map_unordered(calls.add, range(5000), buffersize=64)
            assert sorted([value async for value in unordered]) == list(range(5000))
            assert await pool.map_reduce(int, range(5000), operator.add) == sum(range(5000))
            assert await pool.map_batches(len, range(95), 10) == [10] * 9 + [5]
            with pytest.raises(ValueError, match="refused"):
                await pool.apply(calls.fail, ("refused",))

        await asyncio.gather(in_thread(use), in_thread(use), use())


async def test_input_and_progress_stay_in_the_thread_that_maps() -> None:
    async with Pool(1) as pool:
        await pool.apply(calls.add, (1,))
        seen: set[int] = set()

        def numbers() -> Iterator[int]:
            for number in range(2000):
                seen.add(threading.get_ident())
                yield number

        async def use() -> int:
            await pool.map(
                calls.add,
                numbers(),
                progress=lambda _done, _of: seen.add(threading.get_ident()),
            )
            return threading.get_ident()

        assert seen ^ {await in_thread(use)} == set()


async def test_a_thread_without_a_loop_asks_the_pools() -> None:
    async with Pool(1) as pool:
        loop = asyncio.get_running_loop()

        def use(number: int) -> int:
            call = asyncio.run_coroutine_threadsafe(pool.apply(calls.add, (number, 1)), loop)
            return call.result(60)

        with ThreadPoolExecutor(4) as threads:
            results = await asyncio.gather(
                *(loop.run_in_executor(threads, use, number) for number in range(40))
            )
        assert results == list(range(1, 41))


async def test_calls_of_several_threads_wait_for_room() -> None:
    async with Pool(2, capacity=4) as pool:
        await pool.apply(calls.add, (1,))

        async def use() -> None:
            tasks = [pool.submit(calls.later, number) for number in range(200)]
            assert await asyncio.gather(*tasks) == list(range(200))
            assert await pool.map(calls.add, range(500), chunksize=1) == list(range(500))

        await asyncio.gather(in_thread(use), in_thread(use), in_thread(use), use())


async def test_cancelling_in_another_thread_reaches_the_worker() -> None:
    async with gate.Gate() as way, Pool(1) as pool:
        await pool.apply(calls.add, (1,))
        arrived = threading.Event()

        async def use() -> None:
            task = pool.submit(gate.through, way.path, "a")
            await asyncio.to_thread(arrived.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        done = in_thread(use)
        await way.arrived("a")
        arrived.set()
        await done
        await way.arrived("a-cancelled")


async def test_the_pools_end_ends_calls_of_all_threads() -> None:
    async with gate.Gate() as way, Pool(1, childconcurrency=2) as pool:
        await pool.apply(calls.add, (1,))

        async def use(name: str) -> str:
            held = pool.submit(gate.through, way.path, name)
            waiting = pool.map(calls.nap, [60] * 1000)
            try:
                await held
            except RuntimeError as error:
                with pytest.raises(RuntimeError, match="pool was terminated"):
                    await waiting
                with pytest.raises(RuntimeError, match=r"pool (was terminated|is closed)"):
                    pool.submit(calls.add, 1)
                return str(error)
            return ""

        first = in_thread(lambda: use("a"))
        await way.arrived("a")
        second = asyncio.ensure_future(use("b"))
        await asyncio.sleep(0)
        pool.terminate()
        assert await asyncio.gather(first, second) == ["pool was terminated"] * 2


async def test_close_waits_for_what_other_threads_have_asked_for() -> None:
    async with gate.Gate() as way, Pool(1, capacity=8) as pool:
        await pool.apply(calls.add, (1,))

        async def use() -> None:
            held = pool.submit(gate.through, way.path, "a")
            mapped = pool.map(calls.add, range(1000), chunksize=1)
            assert await held == "a"
            assert await mapped == list(range(1000))
            with pytest.raises(RuntimeError, match="pool is closed"):
                pool.submit(calls.add, 1)

        done = in_thread(use)
        await way.arrived("a")
        pool.close()
        way.open("a")
        await done
        await pool.join()


async def test_another_thread_may_end_the_pool() -> None:
    for with_loop in (True, False):
        async with Pool(1) as pool:
            await pool.apply(calls.add, (1,))

            async def end(pool: Pool = pool) -> None:
                pool.close()
                await pool.join(60)

            if with_loop:
                await in_thread(end)
            else:
                await asyncio.to_thread(pool.close)
                await pool.join(60)
        pool = Pool(1)
        task = pool.submit(calls.nap, 60)
        await asyncio.to_thread(pool.terminate)
        with pytest.raises(RuntimeError, match="pool was terminated"):
            await task
        await pool.join()


async def test_a_loop_that_leaves_its_calls_behind_hurts_nobody() -> None:
    async with Pool(2) as pool:
        await pool.apply(calls.add, (1,))

        async def leave() -> None:
            pool.submit(calls.nap, 0.01)
            pool.map(calls.nap, [0.001] * 200)

        await in_thread(leave)
        assert await pool.map(calls.add, range(1000)) == list(range(1000))
        await in_thread(leave)
        pool.close()
        await pool.join(60)


def test_when_the_first_loop_is_closed_another_takes_its_place() -> None:
    pool = Pool(1)
    first = asyncio.new_event_loop()
    runs = threading.Thread(target=first.run_forever)
    runs.start()
    assert asyncio.run_coroutine_threadsafe(pool.apply(calls.add, (1,)), first).result(60) == 1

    async def use() -> None:
        assert await pool.apply(calls.add, (2,)) == 2
        first.call_soon_threadsafe(first.stop)
        await asyncio.to_thread(runs.join)
        first.close()
        assert await pool.apply(calls.add, (3,)) == 3
        pool.terminate()
        await pool.join()

    asyncio.run(use())


async def test_deaths_and_errors_come_to_the_thread_that_called() -> None:
    async with Pool(1) as pool:
        await pool.apply(calls.add, (1,))

        async def use() -> None:
            with pytest.raises(WorkerDied):
                await pool.apply(calls.die_on_two, (2,))
            errors: list[Any] = await pool.map(calls.fail, ["a"] * 3, return_exceptions=True)
            assert [str(error) for error in errors] == ["a"] * 3

        await in_thread(use)


async def test_many_threads_at_random(rng: random.Random) -> None:
    async with Pool(2, capacity=32) as pool:
        await pool.apply(calls.add, (1,))
        seeds = [rng.random() for _ in range(5)]

        async def use(seed: float) -> None:
            own = random.Random(seed)
            for _ in range(30):
                count = own.randrange(1, 60)
                if own.random() < 0.5:
                    tasks = [pool.submit(calls.add, number) for number in range(count)]
                    for task in tasks:
                        if own.random() < 0.2:
                            task.cancel()
                    results: Any = await asyncio.gather(*tasks, return_exceptions=True)
                    for number, result in enumerate(results):
                        assert result == number or isinstance(result, asyncio.CancelledError)
                else:
                    mapped = pool.map(calls.add, range(count), chunksize=own.randrange(1, 9))
                    if own.random() < 0.2:
                        mapped.cancel()
                        continue
                    assert await mapped == list(range(count))

        await asyncio.gather(
            *(in_thread(lambda seed=seed: use(seed)) for seed in seeds[1:]),  # type: ignore[misc]
            use(seeds[0]),
        )
