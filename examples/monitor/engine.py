"""Where a shard's sweep runs: in this process, or in a pool of worker processes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Protocol

from .fetch import close_session
from .sweep import ShardJob, ShardReport, prepare, sweep_shard

# How many shards a worker has under way. Enough that answers from slow hosts do not leave it idle,
# few enough that no worker takes shards which another could start sooner.
_SHARDS_AT_ONCE: Final = 8


class Engine(Protocol):
    worker_died: tuple[type[Exception], ...]  # what run() raises when a job may be given again

    async def run(self, job: ShardJob) -> ShardReport: ...


class AsyncioEngine:
    """This process and its loop."""

    worker_died: tuple[type[Exception], ...] = ()

    async def run(self, job: ShardJob) -> ShardReport:
        return await sweep_shard(job)


@contextlib.asynccontextmanager
async def open_engine(
    name: str, processes: int | None, check_folders: tuple[Path, ...]
) -> AsyncIterator[Engine]:
    """The engine `name`, ready for its first job: "asyncio" or "aiomq"."""
    if name == "asyncio":
        prepare(check_folders)
        try:
            yield AsyncioEngine()
        finally:
            await close_session()
        return

    import aiomq

    class AiomqEngine:
        worker_died: tuple[type[Exception], ...] = (aiomq.WorkerDied,)

        async def run(self, job: ShardJob) -> ShardReport:
            return await pool.submit(sweep_shard, job)

    async with aiomq.Pool(
        processes,
        initializer=prepare,
        initargs=(check_folders,),
        childconcurrency=_SHARDS_AT_ONCE,
        label="monitor",
    ) as pool:
        yield AiomqEngine()
