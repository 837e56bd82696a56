"""Queues, groups of workers and keys."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import calls
import gate
import pytest

from aiomq import Group, Pool, PoolBroken


@pytest.mark.versions
async def test_a_group_serves_its_queues_only() -> None:
    groups = [Group(1, queues=["fast"]), Group(1, queues=["slow"])]
    async with Pool(queues=["fast", "slow"], groups=groups) as pool:
        fast = {await pool.apply(calls.pid) for _ in range(20)}
        slow = {await pool.options(queue="slow").apply(calls.pid) for _ in range(20)}
        assert len(fast) == len(slow) == 1 and fast != slow
        assert set(await pool.options(queue="slow").map(calls.pid, range(100))) == slow


async def test_queues_are_served_strictly_in_order() -> None:
    async with gate.Gate() as door, Pool(1, childconcurrency=1, queues=["first", "second"]) as pool:
        blocking = pool.submit(gate.through, door.path, "a")
        await door.arrived("a")
        order: list[int] = []
        tasks = []
        for number in range(20):
            queue = "second" if number < 10 else "first"
            task = pool.options(queue=queue).submit(calls.add, number)
            task.add_done_callback(lambda done: order.append(done.result()))
            tasks.append(task)
        door.open("a")
        await asyncio.gather(blocking, *tasks)
        await asyncio.sleep(0)
        assert order == [*range(10, 20), *range(10)]


async def test_a_group_that_lists_anothers_queue_last_steals() -> None:
    groups = [Group(1, queues=["own"]), Group(1, queues=["other", "own"])]
    async with (
        gate.Gate() as door,
        Pool(queues=["own", "other"], groups=groups, childconcurrency=1) as pool,
    ):
        tasks = [pool.submit(gate.through, door.path, name) for name in ("a", "b")]
        await door.arrived("a", "b")
        assert door.pids["a"] != door.pids["b"]
        door.open("a", "b")
        await asyncio.gather(*tasks)


async def test_a_groups_childconcurrency_holds_for_its_workers() -> None:
    groups = [Group(1, queues=["one"], childconcurrency=1), Group(1, queues=["two"])]
    async with (
        gate.Gate() as door,
        Pool(queues=["one", "two"], groups=groups, childconcurrency=2) as pool,
    ):
        tasks = []
        for queue in ("one", "two"):
            view = pool.options(queue=queue)
            tasks += [view.submit(gate.through, door.path, queue + str(n)) for n in range(3)]
        await door.arrived("one0", "two0", "two1")
        assert set(door.news) == {"one0", "two0", "two1"}
        for task in tasks:
            name = ("one" if task in tasks[:3] else "two") + str(tasks.index(task) % 3)
            await door.arrived(name)
            door.open(name)
            await task


async def test_the_same_key_goes_to_the_same_worker() -> None:
    async with Pool(4) as pool:
        for key in ("a", b"a", 7):
            view = pool.options(key=key)
            pids = await asyncio.gather(*(view.submit(calls.pid) for _ in range(50)))
            assert len(set(pids)) == 1
        spread = {await pool.options(key=number).apply(calls.pid) for number in range(64)}
        assert len(spread) == 4


async def test_a_key_outlives_its_worker() -> None:
    async with Pool(2) as pool:
        view = pool.options(key="k")
        first = await view.apply(calls.pid)
        os.kill(first, 9)
        pids = {await view.apply(calls.pid) for _ in range(20)}
        assert len(pids) <= 2 and first not in pids


_NATIVE = """
#include <aiomq/aiomq.h>
#include <stddef.h>

static int answer(const aiomq_call *call, aiomq_item *result) {
    (void)call;
    result->kind = AIOMQ_KIND_INT;
    result->value.integer = 42;
    return 0;
}

int main(void) {
    const aiomq_handler handler = {"calls:plain_add", answer, NULL};
    aiomq_run_options options;
    aiomq_worker *worker;
    if (aiomq_worker_open(&worker, NULL, 0) != 0) return 1;
    aiomq_run_options_init(&options, sizeof options);
    options.handlers = &handler;
    options.handler_count = 1;
    return aiomq_worker_run(worker, &options) < 0;
}
"""


@pytest.mark.skipif(
    shutil.which(os.environ.get("CC", "cc")) is None or "AIOMQ_INCLUDE_DIR" not in os.environ,
    reason="needs a C compiler and `./dev exec`",
)
async def test_a_native_group_serves_calls_by_name(tmp_path: Path) -> None:
    """The native program's handler has the name of a Python function, and runs instead of it."""
    program, source = tmp_path / "worker", tmp_path / "worker.c"
    source.write_text(_NATIVE)
    folder = os.environ["AIOMQ_LIBRARY_DIR"]
    words = [os.environ.get("CC", "cc"), os.fspath(source), "-o", os.fspath(program)]
    words += ["-I", os.environ["AIOMQ_INCLUDE_DIR"], "-L", folder, "-laiomq"]
    subprocess.run([*words, f"-Wl,-rpath,{folder}"], check=True)
    groups = [
        Group(1, queues=["python"]),
        Group(1, queues=["native"], program=[os.fspath(program)], name="native"),
    ]
    async with Pool(queues=["python", "native"], groups=groups) as pool:
        assert await pool.apply(calls.plain_add, (1, 2)) == 3
        assert await pool.options(queue="native").apply(calls.plain_add, (1, 2)) == 42


async def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(PoolBroken, match="/no/such/program: No such file"):
        async with Pool(groups=[Group(1, program=["/no/such/program"])]):
            pass


async def test_groups_have_numbers_of_their_own() -> None:
    async with Pool(groups=[Group(1), Group(2)]) as pool:
        assert pool.processes == 3


def test_a_group_shows_what_it_was_given() -> None:
    group = Group(2, queues=["a"], program=[sys.executable], childconcurrency=3)
    assert "processes=2" in repr(group) and "queues=['a']" in repr(group)
    assert "maxtasksperchild" not in repr(group)
