"""Pool.share(): one object in shared memory for all tasks."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import calls
import numpy
import pytest
import sharing

from aiomq import Pool


async def test_an_array_is_mapped_and_not_copied() -> None:
    array = numpy.arange(8 << 20, dtype=numpy.float64)  # 64 MiB
    async with Pool(1) as pool:
        before = await pool.apply(sharing.private_kib)
        handle = pool.share(array)
        assert array.nbytes <= handle.nbytes <= array.nbytes + 8192
        for _ in range(3):
            total, owns, writeable, after = await pool.apply(sharing.describe, (handle,))
            assert (total, owns, writeable) == (float(array.sum()), False, False)
            assert after - before < 8 << 10, "a copy is 64 MiB"
        with pytest.raises(ValueError, match="read-only"):
            await pool.apply(sharing.write, (handle,))
        assert handle.get() is handle.get()
        assert not handle.get().flags.writeable


@pytest.mark.versions
async def test_an_object_is_unpickled_once_in_each_worker() -> None:
    async with Pool(2) as pool:
        handle = pool.share(sharing.Counted("once"))
        seen = await pool.map(sharing.text_and_count, [handle] * 400, chunksize=1)
        assert {(text, count) for _, text, count in seen} == {("once", 1)}
        assert sharing.unpickled == 0
        assert handle.get().text == "once"


@pytest.mark.versions
async def test_every_kind_of_object_arrives() -> None:
    values: list[Any] = [
        None,
        7,
        "text",
        b"bytes" * 1000,
        bytearray(b"array"),
        {"nested": [1, (2.5, {3})], "array": numpy.arange(5)},
        [numpy.ones((3, 4), order="F"), numpy.arange(10)[::2], numpy.zeros(0)],
        (),
    ]
    async with Pool(1) as pool:
        for value in values:
            with pool.share(value) as handle:
                found = await pool.apply(sharing.get, (handle,))
                assert repr(found) == repr(value)
        handle = pool.share(memoryview(bytearray(b"some bytes"))[5:])
        assert await pool.apply(sharing.view, (handle,)) == ("memoryview", True, b"bytes")


async def test_buffers_stand_where_vector_units_want_them() -> None:
    arrays = [numpy.arange(count, dtype=numpy.uint8) for count in (1, 100, 63, 4096, 7)]
    async with Pool(1) as pool:
        for array, copy in zip(arrays, pool.share(arrays).get(), strict=True):
            assert (array == copy).all()
            assert copy.ctypes.data % 64 == 0


async def test_a_handle_that_nobody_keeps_lives_as_long_as_the_pool() -> None:
    async with Pool(1) as pool:
        task = pool.submit(sharing.total, (pool.share(numpy.arange(10)), 2))
        gc.collect()
        assert await task == 90


async def test_the_object_is_as_it_was_when_it_was_shared() -> None:
    array = numpy.zeros(10)
    async with Pool(1) as pool:
        handle = pool.share(array)
        array[:] = 1
        assert float((await pool.apply(sharing.get, (handle,))).sum()) == 0


async def test_after_close_tasks_fail_and_views_stay() -> None:
    async with Pool(2) as pool:
        handle = pool.share(numpy.arange(1000))
        mine = handle.get()
        assert await pool.map(sharing.total, [(handle, 1)]) == [499500]
        handle.close()
        handle.close()
        assert "closed" in repr(handle)
        assert int(mine.sum()) == 499500
        with pytest.raises(RuntimeError, match="was closed, or its pool has ended"):
            handle.get()
        fresh = pool.share(numpy.arange(10))
        fresh.close()
        with pytest.raises(RuntimeError, match="was closed, or its pool has ended"):
            await pool.apply(sharing.get, (fresh,))


async def test_workers_give_back_what_was_closed() -> None:
    async with Pool(1) as pool:
        handles = [pool.share(numpy.arange(1000)) for _ in range(3)]
        assert await pool.map(sharing.total, [(handle, 0) for handle in handles]) == [0, 0, 0]
        assert await pool.apply(sharing.maps) == 3
        handles[0].close()
        handles[2].close()
        await pool.apply(calls.plain_same, (1,))  # after it the worker has nothing to do
        assert await pool.apply(sharing.maps) == 1
        assert await pool.apply(sharing.total, ((handles[1], 1),)) == 499500


async def test_another_file_with_the_number_of_a_closed_one_is_not_taken_for_it() -> None:
    async with Pool(1) as pool:
        handle = pool.share(numpy.arange(10))
        number = handle._place.fd
        handle.close()
        other = pool.share(numpy.arange(20))
        assert other._place.fd == number
        with pytest.raises(RuntimeError, match="was closed"):
            await pool.apply(sharing.get, (handle,))
        other.close()
        empty = os.open("/dev/null", os.O_RDONLY)
        assert empty == number
        try:
            with pytest.raises(RuntimeError, match="was closed"):
                await pool.apply(sharing.get, (other,))
        finally:
            os.close(empty)


async def test_the_pools_end_closes_what_it_shares() -> None:
    async with Pool(1) as pool:
        handle = pool.share([1, 2, 3])
        kept = pool.share(numpy.arange(10))
        view = kept.get()
    with pytest.raises(RuntimeError, match="its pool has ended"):
        handle.get()
    assert int(view.sum()) == 45
    with pytest.raises(RuntimeError, match="pool is closed"):
        pool.share(1)


async def test_a_task_passes_a_handle_on() -> None:
    async with Pool(2) as pool:
        handle = pool.share(numpy.arange(10))
        assert await pool.apply(sharing.pass_on, (handle,)) == 90


async def test_a_workers_successor_gets_the_object_too(tmp_path: Path) -> None:
    async with Pool(1) as pool:
        handle = pool.share(numpy.arange(10))
        task = pool.options(retries=1).submit(sharing.die_first, str(tmp_path / "died"), handle)
        assert await task == 45


async def test_blocking_functions_get_one_object() -> None:
    from aiomq import blocking

    async with Pool(1) as pool:
        handle = pool.share(sharing.Counted("once"))
        seen = await pool.map(blocking(sharing.text_and_count), [handle] * 64)
        assert {count for _, _, count in seen} == {1}


async def test_what_cannot_be_shared_is_named() -> None:
    async with Pool(1) as pool:
        with pytest.raises(pickle.PicklingError, match="the lock can't be shared"):
            pool.share(threading.Lock())
        records = numpy.zeros(3, dtype=[("x", "f4"), ("y", "i8")])
        with pytest.raises(pickle.PicklingError, match="the memoryview can't be shared"):
            pool.share(memoryview(records))
        strided = pool.share([memoryview(b"every second")[::2]])
        assert strided.get() == [b"every second"[::2]]
        with pytest.raises(RuntimeError, match="only in the process that shares it"):
            await pool.apply(sharing.close, (pool.share(1),))
        assert await asyncio.wait_for(pool.apply(calls.add, (1, 2)), 60) == 3
