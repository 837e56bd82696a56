"""What a run comes to, and how it is shown: alarms and a bar while it runs, a table at its end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .store import AlarmChange
from .sweep import OK, ShardReport


@dataclass
class Totals:
    """Sums over all reports of a run."""

    found: Counter[str]  # anomalies by check; a check that found none is there too
    outcomes: Counter[str] = field(default_factory=Counter)
    points: int = 0
    points_of: Counter[tuple[str, int]] = field(default_factory=Counter)  # by worker and its pid
    cpu_of: dict[int, float] = field(default_factory=dict)  # by pid
    check_errors: Counter[str] = field(default_factory=Counter)
    last_error: dict[str, str] = field(default_factory=dict)
    task_errors: int = 0
    resubmitted: int = 0
    alarms: int = 0
    open_alarms: int = 0
    seconds: float = 0.0
    start_seconds: float = 0.0
    fleet_cpu_seconds: float = 0.0

    def add(self, report: ShardReport) -> None:
        self.found.update(report.found)
        self.outcomes.update(report.outcomes)
        self.points += report.points
        self.points_of[report.worker, report.pid] += report.points
        self.cpu_of[report.pid] = max(self.cpu_of.get(report.pid, 0.0), report.cpu_seconds)
        self.check_errors.update(report.check_errors.keys())
        self.last_error.update(report.check_errors)

    def add_failure(self, hosts: int) -> None:
        self.task_errors += 1
        self.outcomes["task failed"] += hosts


def alarm_line(change: AlarmChange) -> str:
    """One line for a person."""
    where = f"host {change.host}" + (f"  {change.series}" if change.series else "")
    line = f"sweep {change.sweep}  {change.state:<8}  {change.check:<13}  {where}"
    if change.anomaly and change.series:
        numbers = change.anomaly
        line += f"  {numbers.value:.10g} (before {numbers.previous:.10g})"
    return line


def table(totals: Totals) -> str:
    """The end of a run, for a person."""
    seconds = max(totals.seconds, 1e-9)
    failed = {why: count for why, count in sorted(totals.outcomes.items()) if why != OK}
    reasons = ", ".join(f"{count} {why}" for why, count in failed.items())
    rows = [
        ("hosts ok", f"{totals.outcomes[OK]:,}"),
        ("hosts failed", f"{sum(failed.values()):,}" + (f" ({reasons})" if reasons else "")),
        ("points", f"{totals.points:,}"),
        ("anomalies", f"{sum(totals.found.values()):,}"),
        *((f"  {check}", f"{count:,}") for check, count in sorted(totals.found.items())),
        ("alarms", f"{totals.alarms:,} ({totals.open_alarms:,} still open)"),
        *_trouble(totals),
        ("seconds", f"{totals.seconds:.2f}, and {totals.start_seconds:.2f} to start"),
        ("points per second", f"{totals.points / seconds:,.0f}"),
        *_shares(totals),
        ("cpu seconds", _cpu(totals)),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _trouble(totals: Totals) -> Iterable[tuple[str, str]]:
    for check, count in sorted(totals.check_errors.items()):
        yield f"check {check} raised", f"{count:,} times: {totals.last_error[check]}"
    if totals.task_errors:
        yield "shard sweeps failed", f"{totals.task_errors:,}"
    if totals.resubmitted:
        yield "shards resubmitted", f"{totals.resubmitted:,} (their worker had died)"


def _shares(totals: Totals) -> Iterable[tuple[str, str]]:
    for (worker, pid), points in sorted(totals.points_of.items()):
        yield f"worker {worker}", f"{points / max(totals.points, 1):.0%} of the points (pid {pid})"


def _cpu(totals: Totals) -> str:
    parent = totals.cpu_of.get(os.getpid(), 0.0)
    workers = sum(totals.cpu_of.values()) - parent
    return f"workers {workers:.2f}, parent {parent:.2f}; the fleet, apart: " + (
        f"{totals.fleet_cpu_seconds:.2f}"
    )
