"""Everything at once, with workers being killed: each call ends, once, in a way that is allowed.

Short by default; AIOMQ_STRESS=<seconds> makes it last.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from typing import Any

import calls
import pytest

from aiomq import Pool, WorkerDied

pytestmark = pytest.mark.stress


async def one_call(pool: Pool, rng: random.Random) -> str:
    function = rng.choice([calls.same, calls.plain_same, calls.later, calls.sometimes_later])
    value = rng.choice([rng.randrange(1000), rng.randrange(1000), 3])
    task = pool.submit(function, value)
    if rng.random() < 0.1:
        await asyncio.sleep(rng.random() * 0.01)
        task.cancel()
    try:
        assert await task == value
    except WorkerDied:
        return "died"
    except asyncio.CancelledError:
        return "cancelled"
    return "done"


async def one_map(pool: Pool, rng: random.Random) -> str:
    length = rng.randrange(2000)
    chunksize = rng.choice([None, None, 1, 10, 300])
    function = rng.choice([calls.add, calls.plain_add, calls.later, calls.sometimes_later])
    result = pool.map(function, range(length), chunksize=chunksize)
    try:
        if rng.random() < 0.5:
            assert await result == list(range(length))
        else:
            stop = rng.choice([length + 1, length // 2])
            expected = 0
            async for value in result:
                assert value == expected
                expected += 1
                if expected == stop:
                    return "left"
            assert expected == length
    except WorkerDied:
        return "died"
    return "done"


async def killer(pool: Pool, rng: random.Random) -> None:
    while True:
        await asyncio.sleep(rng.random() * 0.2)
        with contextlib.suppress(WorkerDied, ProcessLookupError):
            os.kill(await pool.apply(calls.pid), rng.choice([signal.SIGKILL, signal.SIGTERM]))


@pytest.mark.parametrize("deadly", [False, True])
async def test_all_at_once(rng: random.Random, deadly: bool) -> None:
    end = time.monotonic() + float(os.environ.get("AIOMQ_STRESS") or 2)
    seen: Counter[str] = Counter()

    async def client() -> None:
        while time.monotonic() < end:
            job: Any = one_map if rng.random() < 0.2 else one_call
            seen[f"{job.__name__} {await asyncio.wait_for(job(pool, rng), 30)}"] += 1

    async with Pool(3, capacity=64, max_memory=64 << 20) as pool:
        killing = asyncio.create_task(killer(pool, rng)) if deadly else None
        await asyncio.gather(*(client() for _ in range(40)))
        if killing is not None:
            killing.cancel()
        assert await pool.map(calls.add, range(1000)) == list(range(1000)) or deadly
    print(dict(seen))
    assert seen["one_call done"] > 10 and seen["one_map done"] > 1
    assert deadly or not any("died" in key for key in seen)
