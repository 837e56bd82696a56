"""The unit of work: one sweep of one shard, as a task that may run in any worker, any number of
times. It fetches, parses, checks and remembers; only what is wrong and some counts go back.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .check import Baseline, Hosts, Mask, Samples, load_checks
from .columns import PageReader
from .exposition import COUNTER, GAUGE, Layout, PageError
from .fetch import Failure, fetch
from .state import History, LayoutStore, ShardState

_BASELINE_SWEEPS: Final = 32.0  # older ones fade
OK: Final = "ok"


@dataclass(frozen=True)
class ShardJob:
    """What a worker needs to know. The state of shard n lies in <folder>/shard-<n>.state."""

    fleet_url: str
    folder: Path
    check_folders: tuple[Path, ...]
    shard: int
    hosts: range
    sweep: int


class Anomaly(NamedTuple):
    """Something wrong in one sweep; `series` is empty when it is the whole host."""

    check: str
    host: int
    series: str
    value: float
    previous: float
    baseline: float


@dataclass
class ShardReport:
    """One sweep of one shard, aggregated."""

    shard: int
    sweep: int
    pid: int
    worker: str
    outcomes: Counter[str] = field(default_factory=Counter)  # hosts by "ok" or why not
    answered: list[int] = field(default_factory=list)  # hosts with a page
    points: int = 0
    anomalies: list[Anomaly] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)  # anomalies by check
    check_errors: dict[str, str] = field(default_factory=dict)
    cpu_seconds: float = 0.0  # of this process since prepare()


class _Page(NamedTuple):
    host: int  # its place in the shard
    layout: Layout
    values: NDArray[np.float64]


_cpu_before = 0.0
_reader = PageReader()
_layout_store = cache(LayoutStore)


def prepare(check_folders: tuple[Path, ...]) -> None:
    """What a process does once, before its first sweep. Raises what load_checks raises."""
    global _cpu_before
    load_checks(check_folders)
    _cpu_before = time.process_time()


async def sweep_shard(job: ShardJob) -> ShardReport:
    """Sweeps one shard. Safe to kill and safe to repeat (state.py)."""
    report = ShardReport(
        job.shard, job.sweep, os.getpid(), os.environ.get("AIOMQ_WORKER_INDEX", "0")
    )
    answers = await asyncio.gather(*(_read_host(job, place) for place in range(len(job.hosts))))
    path = job.folder / f"shard-{job.shard}.state"
    state = ShardState(path, len(job.hosts), job.sweep, _layout_store(job.folder))
    pages = [answer for answer in answers if isinstance(answer, _Page)]
    _check_hosts(job, answers, state, report)
    if pages:
        _check_samples(job, pages, state, report)
    state.commit()
    report.outcomes[OK] = len(pages)
    report.answered = [job.hosts[page.host] for page in pages]
    report.points = sum(len(page.values) for page in pages)
    report.cpu_seconds = time.process_time() - _cpu_before
    return report


async def _read_host(job: ShardJob, place: int) -> _Page | Failure:
    url = f"{job.fleet_url}/host/{job.hosts[place]}/metrics?sweep={job.sweep}"
    body = await fetch(url)
    if isinstance(body, Failure):
        return body
    try:
        return _Page(place, *_reader.read(body))
    except PageError as error:
        return Failure(f"bad page: {error}", silent=False)


def _check_hosts(
    job: ShardJob, answers: list[_Page | Failure], state: ShardState, report: ShardReport
) -> None:
    silent_for = state.silent_for()
    for place, answer in enumerate(answers):
        is_silent = isinstance(answer, Failure) and answer.silent
        silent_for[place] = silent_for[place] + 1 if is_silent else 0
        if isinstance(answer, Failure):
            report.outcomes[answer.reason] += 1
            state.keep(place, int(silent_for[place]))
    for check in load_checks(job.check_folders).hosts:
        try:
            mask = check.run(Hosts(job.sweep, silent_for), len(job.hosts))
        except Exception as error:
            report.check_errors[check.name] = f"{type(error).__name__}: {error}"
            continue
        for place in np.flatnonzero(mask).tolist():
            sweeps = float(silent_for[place])
            report.anomalies.append(Anomaly(check.name, job.hosts[place], "", sweeps, 0.0, 0.0))
        report.found[check.name] += int(np.count_nonzero(mask))


def _check_samples(
    job: ShardJob, pages: list[_Page], state: ShardState, report: ShardReport
) -> None:
    history = History.join([state.history(page.host, page.layout) for page in pages])
    samples = _samples(job.sweep, pages, history)
    ends = np.cumsum([len(page.values) for page in pages])
    wrong = np.zeros(len(samples.value), np.bool_)
    for check in load_checks(job.check_folders).samples:
        try:
            mask = check.run(samples, len(samples.value))
        except Exception as error:
            report.check_errors[check.name] = f"{type(error).__name__}: {error}"
            continue
        wrong |= mask
        for row in np.flatnonzero(mask).tolist():
            place = int(np.searchsorted(ends, row, side="right"))
            page = pages[place]
            series = page.layout.series[row - int(ends[place])]  # from the end: it is negative
            numbers = (samples.value[row], samples.previous[row], samples.baseline.mean[row])
            report.anomalies.append(
                Anomaly(check.name, job.hosts[page.host], series, *map(float, numbers))
            )
        report.found[check.name] += int(np.count_nonzero(mask))
    after = _learn(samples, history, wrong)
    for page, end in zip(pages, ends.tolist(), strict=True):
        rows = slice(end - len(page.values), end)
        state.store(page.host, page.layout, after.rows(rows))


def _samples(sweep: int, pages: list[_Page], history: History) -> Samples:
    value = np.concatenate([page.values for page in pages])
    kind = np.concatenate([page.layout.kind for page in pages])
    return Samples(
        sweep=sweep,
        value=value,
        previous=history.last,
        rate=(value - history.last) / (sweep - history.seen),
        baseline=Baseline(history.mean, np.sqrt(history.variance), history.sweeps),
        is_counter=kind == COUNTER,
        is_gauge=kind == GAUGE,
        low=np.concatenate([page.layout.low for page in pages]),
        high=np.concatenate([page.layout.high for page in pages]),
    )


def _learn(samples: Samples, history: History, wrong: Mask) -> History:
    """History after this sweep. What is wrong does not touch the baseline."""
    believable = samples.believable
    signal = np.where(samples.is_counter, samples.rate, samples.value)
    normal = believable & ~wrong & np.isfinite(signal)
    sweeps = np.where(normal, np.minimum(history.sweeps + 1, _BASELINE_SWEEPS), history.sweeps)
    weight = np.where(normal, 1 / np.maximum(sweeps, 1), 0.0)
    step = np.where(normal, signal - history.mean, 0.0)
    return History(
        last=np.where(believable, samples.value, history.last),
        seen=np.where(believable, float(samples.sweep), history.seen),
        mean=history.mean + weight * step,
        variance=(1 - weight) * (history.variance + weight * step * step),
        sweeps=sweeps,
    )
