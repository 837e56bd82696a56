"""Buffers out of band: arrays travel without copies but one, and arrive as read-only views."""

from __future__ import annotations

import array
import asyncio
import gc
import os
import pickle
import threading
from typing import Any

import numpy
import pytest
import viewing

from aiomq import Pool, WorkerDied, _bridge, _buffers

LARGE = 100_000  # elements of 8 bytes: more than what is copied
native = pytest.mark.skipif(not _bridge.NATIVE, reason="the pure variant copies everything")


def in_use(pool: Pool) -> int:
    """Bytes of the pool's memory that arguments take."""
    return pool.stats().request_used_bytes


@native
async def test_a_large_array_arrives_as_a_view_and_a_small_one_as_a_copy() -> None:
    async with Pool(1) as pool:
        for count, view in ((LARGE, True), (10, False)):
            given = numpy.arange(count, dtype=numpy.float64)
            described = await pool.apply(viewing.describe, (given,))
            assert described == ("ndarray", view, False, float(given.sum()))
            result = await pool.apply(viewing.numbers, (count,))
            assert viewing.describe(result) == described
            assert given.flags.writeable


@pytest.mark.versions
async def test_every_kind_of_buffer_arrives_as_what_it_was() -> None:
    values: list[Any] = [
        b"bytes" * 20000,
        bytearray(b"bytearray" * 20000),
        bytearray(b""),
        array.array("d", range(20000)),
        array.array("i"),
        memoryview(b"view" * 20000),
        memoryview(array.array("H", range(30))),
        memoryview(bytes(24)).cast("i", (2, 3)),
        memoryview(b"every second"[::2]),
        memoryview(b"every second")[::2],
        memoryview(b""),
        memoryview(array.array("d")),
    ]
    async with Pool(1) as pool:
        for value in values:
            kind, contents = viewing.kinds_of(value)
            if kind == "memoryview":
                contents = (*contents[:2], True, contents[3])
            assert await pool.apply(viewing.kinds_of, (value,)) == (kind, contents)
            assert viewing.kinds_of(await pool.apply(viewing.echo, (value,))) == (kind, contents)


async def test_arrays_inside_of_others_arrive() -> None:
    numbers = numpy.arange(LARGE, dtype=numpy.int64).reshape(-1, 4)
    value = {
        "c": numbers,
        "f": numpy.asfortranarray(numbers),
        "strided": numbers[::3, ::2],
        "none": numpy.zeros((0, 3)),
        "objects": numpy.array([1, "two", None], dtype=object),
        "record": numpy.zeros(3, dtype=[("x", "f4"), ("y", "i8")]),
        "view": memoryview(b"inside"),
        "twice": [numbers, numbers],
    }
    async with Pool(1) as pool:
        for got in (
            await pool.apply(viewing.echo, (value,)),
            (await pool.map(viewing.echo, [value] * 3))[2],
        ):
            for name in ("c", "f", "strided", "none", "objects", "record"):
                expected: Any = value[name]
                assert got[name].dtype == expected.dtype
                assert got[name].shape == expected.shape
                assert (got[name] == expected).all(), name
            assert got["f"].flags.f_contiguous
            assert got["view"] == b"inside"
            assert got["twice"][0] is got["twice"][1]


@native
async def test_arrow_tables_travel_as_views() -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"number": numpy.arange(LARGE), "name": ["text"] * LARGE})
    total = float(sum(range(LARGE)))
    async with Pool(1) as pool:
        assert await pool.apply(viewing.arrow_column, (table, "number")) == (True, False, total)
        result = await pool.apply(viewing.echo, (table,))
        assert result == table
        assert viewing.arrow_column(result, "number") == (True, False, total)


async def test_changing_a_view_says_that_it_is_read_only() -> None:
    async with Pool(1) as pool:
        for count in (10, LARGE):
            with pytest.raises(ValueError, match="read-only"):
                await pool.apply(viewing.add, (numpy.zeros(count),))
            result = await pool.apply(viewing.ones, (count,))
            with pytest.raises(ValueError, match="read-only"):
                result += 1
            result = result.copy()
            result += 1
            assert result.sum() == 2 * count


async def test_what_is_changed_while_it_is_on_its_way_was_copied_at_the_call() -> None:
    given = numpy.zeros(LARGE)
    changing = bytearray(1 << 20)
    async with Pool(1) as pool:
        first = pool.submit(viewing.echo, given)
        second = pool.submit(viewing.echo, changing)
        given += 1
        changing.clear()  # nobody holds it
        assert (await first).sum() == 0
        assert await second == bytes(1 << 20)


@native
async def test_a_result_is_held_until_the_last_view_is_gone() -> None:
    async with Pool(1) as pool:
        results = [await pool.apply(viewing.numbers, (LARGE,)) for _ in range(3)]
        tail = results[0][-10:]
        expected = numpy.arange(LARGE, dtype=numpy.float64)
        del results[0]
        for _ in range(20):  # what is given back is used again
            await pool.apply(viewing.ones, (LARGE,))
        assert (tail == expected[-10:]).all()
        assert all((result == expected).all() for result in results)


@native
async def test_a_view_that_was_released_says_so_and_holds_nothing() -> None:
    async with Pool(1, max_memory=16 << 20) as pool:
        views = []
        for _ in range(30):  # together four times what a worker has for results
            view = await pool.apply(viewing.echo, (memoryview(bytes(1 << 20)),))
            assert len(view) == 1 << 20
            view.release()
            views.append(view)
        for view in views:
            with pytest.raises(ValueError, match="released"):
                view[0]
        kept = memoryview(numpy.zeros(LARGE))
        kept.release()
        with pytest.raises(pickle.PicklingError, match=r"argument 1 of echo\(\) .* released"):
            await pool.apply(viewing.echo, (kept,))
        assert (await pool.apply(viewing.ones, (LARGE,))).sum() == LARGE


@native
async def test_results_stay_when_the_pool_has_ended() -> None:
    async with Pool(2) as pool:
        result = await pool.apply(viewing.numbers, (LARGE,))
        results = await pool.map(viewing.numbers, [LARGE] * 8)
    expected = numpy.arange(LARGE, dtype=numpy.float64)
    assert viewing.is_view(result)
    assert all((each == expected).all() for each in [result, *results])
    child = os.fork()
    if child == 0:
        os._exit(0 if float(result.sum()) == float(expected.sum()) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert viewing.is_mapped()
    del result, results
    gc.collect()
    assert not viewing.is_mapped()


@native
async def test_a_task_may_keep_a_view() -> None:
    given = [numpy.full(LARGE, number, dtype=numpy.float64) for number in range(4)]
    async with Pool(1) as pool:
        empty = in_use(pool)
        await asyncio.gather(*(pool.apply(viewing.keep, (each,)) for each in given))
        for _ in range(20):
            await pool.apply(viewing.echo, (numpy.ones(LARGE),))
        assert await pool.apply(viewing.views_kept) == [True] * 4
        assert sorted(await pool.apply(viewing.sums_of_kept)) == [n * LARGE for n in range(4)]
        assert in_use(pool) >= empty + 4 * 8 * LARGE
        await pool.apply(viewing.drop_kept)
        while in_use(pool) >= 8 * LARGE:
            await pool.apply(viewing.sums_of_kept)


@native
async def test_a_view_may_be_dropped_in_another_thread() -> None:
    async with Pool(1) as pool:
        await pool.apply(viewing.keep, (numpy.ones(LARGE),))
        await pool.apply(viewing.drop_kept_in_a_thread)
        while in_use(pool) >= 8 * LARGE:
            await pool.apply(viewing.sums_of_kept)
        results = [await pool.apply(viewing.ones, (LARGE,))]
        thread = threading.Thread(target=results.clear)
        thread.start()
        thread.join()
        assert (await pool.apply(viewing.ones, (LARGE,))).sum() == LARGE


@native
async def test_what_a_dead_worker_has_kept_is_given_back() -> None:
    async with Pool(1) as pool:
        for _ in range(3):
            pid = await pool.apply(viewing.keep, (numpy.ones(LARGE),))
            os.kill(pid, 9)
            while await pool.apply(os.getpid) == pid:
                pass
        while in_use(pool) >= 8 * LARGE:
            await pool.apply(os.getpid)


@native
async def test_a_result_stays_when_its_worker_dies() -> None:
    async with Pool(1) as pool:
        result = await pool.apply(viewing.numbers, (LARGE,))
        os.kill(await pool.apply(os.getpid), 9)
        for _ in range(5):
            assert (await pool.apply(viewing.ones, (LARGE,))).sum() == LARGE
        assert (result == numpy.arange(LARGE)).all()


@native
async def test_a_fork_of_a_worker_can_read_the_arguments() -> None:
    async with Pool(1) as pool:
        for _ in range(3):
            assert await pool.apply(viewing.sum_in_a_fork, (numpy.ones(LARGE),)) == LARGE


@native
async def test_who_keeps_all_results_gets_copies_when_memory_would_end() -> None:
    async with Pool(2, max_memory=48 << 20) as pool:  # 16 MiB for the results of each worker
        results = await pool.map(viewing.numbers, [LARGE] * 200)  # 160 MB
        views = sum(map(viewing.is_view, results))
        assert 0 < views <= (4 << 20) // (8 * LARGE)
        expected = numpy.arange(LARGE)
        assert all((each == expected).all() for each in results)


@native
async def test_a_worker_that_keeps_all_arguments_gets_copies_when_memory_would_end() -> None:
    async with Pool(1, max_memory=32 << 20) as pool:  # 16 MiB for arguments
        await pool.map(viewing.keep, [numpy.ones(LARGE)] * 60)
        views = sum(await pool.apply(viewing.views_kept))
        assert 0 < views <= (4 << 20) // (8 * LARGE)
        assert await pool.apply(viewing.sums_of_kept) == [LARGE] * 60


async def test_an_argument_that_can_never_fit_names_the_sizes_and_the_option() -> None:
    async with Pool(1, max_memory=4 << 20) as pool:
        with pytest.raises(ValueError, match=r"arguments: 8,3.* of 2,097,152 bytes; .*max_memory"):
            await pool.apply(viewing.echo, (numpy.zeros(1 << 20),))
        with pytest.raises(ValueError, match=r"results: 8,3.* of 2,097,152 bytes; .*max_memory"):
            await pool.apply(viewing.ones, (1 << 20,))
        assert (await pool.apply(viewing.ones, (LARGE,))).sum() == LARGE


@native
async def test_what_cannot_be_unpickled_holds_no_memory() -> None:
    async with Pool(1, max_memory=48 << 20) as pool:
        for _ in range(10):
            with pytest.raises(Exception, match="not today"):
                await pool.apply(viewing.refusing)
            with pytest.raises(LookupError, match="not today"):
                await pool.apply(viewing.echo, (viewing.Refuses(),))


def test_what_cannot_be_pickled_raises_what_pickle_does() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        _buffers.dumps([threading.Lock(), memoryview(b"x")])
    with pytest.raises((TypeError, ValueError), match="format"):
        _buffers.dumps(memoryview(numpy.zeros(3, dtype=[("x", "f4"), ("y", "i8")])))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        _buffers.dumps(lambda: None)


# --- memory that the caller fills ----------------------------------------------------------------


@native
async def test_an_array_of_the_pools_own_memory_is_not_copied() -> None:
    async with Pool(2) as pool:
        given = pool.empty((LARGE, 2), "f4")
        assert (given.shape, given.dtype, given.flags.writeable) == ((LARGE, 2), "f4", True)
        given[:] = 1
        place = viewing.address_of(given)
        assert await pool.apply(viewing.address_of, (given,)) == place
        given[:] = 2  # and again, when the call is done
        assert await pool.apply(viewing.describe, (given,)) == ("ndarray", True, False, 4.0 * LARGE)
        assert await pool.apply(viewing.address_of, (given,)) == place
        assert await pool.map(viewing.address_of, [given]) == [place]
        tail = given[LARGE // 2 :]
        assert await pool.apply(viewing.address_of, (tail,)) == viewing.address_of(tail)
        assert await pool.apply(viewing.echo, (given,)) is not None


@native
async def test_a_buffer_that_a_call_has_is_copied_for_the_next() -> None:
    async with Pool(1) as pool:
        given = pool.empty(LARGE)
        given[:] = 1
        place = viewing.address_of(given)
        first = pool.submit(viewing.address_of, given)
        second = pool.submit(viewing.address_of, given)
        assert await first == place
        assert await second != place
        await pool.apply(viewing.keep, (given,))  # a worker has it
        assert await pool.apply(viewing.address_of, (given,)) != place
        assert await pool.apply(viewing.sums_of_kept) == [LARGE]
        await pool.apply(viewing.drop_kept)
        while await pool.apply(viewing.address_of, (given,)) != place:
            pass


@native
async def test_of_two_buffers_one_is_copied() -> None:
    async with Pool(1) as pool:
        first, second = pool.empty(LARGE), pool.empty(LARGE)
        first[:], second[:] = 1, 2
        assert [a.sum() for a in await pool.apply(viewing.echo, ((first, second),))] == [
            LARGE,
            2 * LARGE,
        ]
        many = [pool.empty(LARGE) for _ in range(4)]
        for number, each in enumerate(many):
            each[:] = number
        echoed = await pool.map(viewing.echo, many)
        assert [each.sum() for each in echoed] == [LARGE * number for number in range(4)]
        beside = numpy.ones(LARGE)
        assert [a.sum() for a in await pool.apply(viewing.echo, ((first, beside),))] == [LARGE] * 2


@native
async def test_a_buffer_is_given_back_when_nobody_has_it() -> None:
    async with Pool(1) as pool:
        for _ in range(3):
            given = pool.empty(LARGE)
            assert in_use(pool) >= 8 * LARGE
            given[:] = 3
            task = pool.submit(viewing.describe, given)
            del given
            assert (await task)[3] == 3 * LARGE
            del task
            while in_use(pool) >= 8 * LARGE:
                await pool.apply(viewing.sums_of_kept)
        view = pool.buffer(100)
        view[:] = b"x" * 100
        assert await pool.apply(viewing.kinds_of, (view,)) == (
            "memoryview",
            ("B", (100,), True, [120] * 100),
        )
    view[:] = b"y" * 100  # it stays
    child = os.fork()
    if child == 0:
        os._exit(0 if bytes(view) == b"y" * 100 else 1)
    assert os.waitpid(child, 0)[1] == 0
    del view
    gc.collect()
    assert not viewing.is_mapped()


@native
async def test_a_buffer_survives_the_death_of_the_worker_that_reads_it() -> None:
    async with Pool(1) as pool:
        given = pool.empty(LARGE)
        given[:] = 1
        for _ in range(3):
            with pytest.raises(WorkerDied):
                await pool.apply(viewing.die_with, (given,))
            assert (given == 1).all()
        assert await pool.options(retries=2).apply(viewing.describe, (given,)) == (
            "ndarray",
            True,
            False,
            float(LARGE),
        )
        assert await pool.apply(viewing.address_of, (given,)) == viewing.address_of(given)


async def test_bad_sizes_of_buffers_are_named() -> None:
    async with Pool(1, max_memory=4 << 20) as pool:
        with pytest.raises(ValueError, match="nbytes must be at least 1"):
            pool.buffer(0)
        with pytest.raises(TypeError, match="nbytes must be an int"):
            pool.buffer("many")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"1,073,741,824 of 2,097,152 bytes; .* max_memory"):
            pool.buffer(1 << 30)
        held = [pool.buffer(1 << 20)]
        with pytest.raises(MemoryError, match="memory for arguments"):
            held.append(pool.buffer(1 << 20))
        assert await pool.apply(os.getpid)
        held.clear()
        held.append(pool.buffer(1 << 20))
        held.clear()
        assert pool.empty(0).shape == (0,)
        assert pool.empty((3, 0, 2)).size == 0
        assert pool.empty(()).shape == ()
        with pytest.raises(ValueError, match="negative"):
            pool.empty(-1)
        with pytest.raises(TypeError, match="objects"):
            pool.empty(3, object)
    with pytest.raises(RuntimeError, match="pool is closed"):
        pool.buffer(10)
