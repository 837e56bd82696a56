"""The parent: hands out shards, sweep after sweep, and keeps what comes back.

Each shard goes from sweep to sweep by itself: its next one starts as soon as its last is stored,
and no shard waits for the slow hosts of another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .check import OWN_FOLDER, load_checks
from .engine import Engine, open_engine
from .fleet_process import fleet_stats
from .store import AlarmChange, Store
from .sweep import ShardJob, ShardReport
from .totals import Totals

_HOSTS_IN_SHARD: Final = 6
_MOST_ATTEMPTS: Final = 3  # at one sweep of one shard, if workers die under it

_log = logging.getLogger("monitor")


@dataclass(frozen=True)
class Settings:
    fleet_url: str
    hosts: int
    sweeps: int
    seed: int
    engine: str = "aiomq"
    processes: int | None = None
    db: Path | None = None  # none: it goes with the run
    more_checks: tuple[Path, ...] = ()  # folders besides the monitor's own

    @property
    def check_folders(self) -> tuple[Path, ...]:
        return (OWN_FOLDER, *self.more_checks)


Listener = Callable[[int, list[AlarmChange]], None]  # hosts swept, and what that changed


class Service:
    """One run."""

    def __init__(
        self, settings: Settings, store: Store, folder: Path, engine: Engine, listener: Listener
    ) -> None:
        self._settings = settings
        self._store = store
        self._folder = folder
        self._engine = engine
        self._listener = listener
        names = load_checks(settings.check_folders).names
        self.totals = Totals(found=Counter(dict.fromkeys(names, 0)))

    async def sweep_all(self) -> None:
        hosts = range(self._settings.hosts)
        shards = [hosts[at : at + _HOSTS_IN_SHARD] for at in range(0, len(hosts), _HOSTS_IN_SHARD)]
        await asyncio.gather(*(self._follow(number, part) for number, part in enumerate(shards)))

    async def _follow(self, shard: int, hosts: range) -> None:
        for sweep in range(self._settings.sweeps):
            job = ShardJob(
                self._settings.fleet_url,
                self._folder,
                self._settings.check_folders,
                shard,
                hosts,
                sweep,
            )
            changes: list[AlarmChange] = []
            try:
                report = await self._run(job)
            except Exception as error:
                _log.exception("shard %d, sweep %d", shard, sweep)
                self.totals.add_failure(len(hosts))
                self._store.add_failure(shard, sweep, hosts, f"{type(error).__name__}: {error}")
            else:
                self.totals.add(report)
                changes = self._store.add(report, hosts)
            self._listener(len(hosts), changes)

    async def _run(self, job: ShardJob) -> ShardReport:
        for _ in range(1, _MOST_ATTEMPTS):
            try:
                return await self._engine.run(job)
            except self._engine.worker_died:
                self.totals.resubmitted += 1
        return await self._engine.run(job)


async def monitor(settings: Settings, listener: Listener = lambda hosts, changes: None) -> Totals:
    """Runs all sweeps; whatever goes wrong with one shard is counted, not raised."""
    begin = time.perf_counter()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiomq-monitor-")))
        db = settings.db or folder / "monitor.db"
        store = stack.enter_context(
            Store(db, settings.engine, settings.hosts, settings.sweeps, settings.seed)
        )
        async with open_engine(
            settings.engine, settings.processes, settings.check_folders
        ) as engine:
            service = Service(settings, store, folder, engine, listener)
            totals = service.totals
            totals.start_seconds = time.perf_counter() - begin
            fleet_before = fleet_stats(settings.fleet_url)["cpu_seconds"]
            begin, cpu_before = time.perf_counter(), time.process_time()
            await service.sweep_all()
            totals.seconds = time.perf_counter() - begin
            totals.cpu_of[os.getpid()] = time.process_time() - cpu_before
            fleet_after = fleet_stats(settings.fleet_url)["cpu_seconds"]
            totals.fleet_cpu_seconds = fleet_after - fleet_before
        totals.alarms, totals.open_alarms = store.alarms()
        store.finish(totals.points, totals.seconds)
    return totals
