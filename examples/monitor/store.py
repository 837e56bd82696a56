"""What was found, in SQLite: each anomaly in each sweep, and alarms that open, persist and resolve.

An alarm is an anomaly over time: it opens in the sweep in which a check first sees it (its onset),
persists while the check goes on seeing it, and resolves in the first sweep in which the check looks
and sees nothing. A host that gives no page says nothing about its series: their alarms stay as
they are, and so do those of a check that has raised.

Every table's key is what makes a row the same row, so a sweep that is stored twice changes nothing.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from .sweep import OK, Anomaly, ShardReport

_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY, started TEXT DEFAULT CURRENT_TIMESTAMP,
    engine TEXT, hosts INTEGER, sweeps INTEGER, seed INTEGER, points INTEGER, seconds REAL);
CREATE TABLE IF NOT EXISTS anomalies (
    run INTEGER, check_name TEXT, host INTEGER, series TEXT, sweep INTEGER,
    value REAL, previous REAL, baseline REAL,
    PRIMARY KEY (run, check_name, host, series, sweep)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alarms (
    run INTEGER, check_name TEXT, host INTEGER, series TEXT, onset INTEGER,
    last_seen INTEGER, resolved INTEGER,
    PRIMARY KEY (run, check_name, host, series, onset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sweeps (
    run INTEGER, shard INTEGER, sweep INTEGER, outcome TEXT, hosts INTEGER,
    PRIMARY KEY (run, shard, sweep, outcome)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS errors (
    run INTEGER, what TEXT, shard INTEGER, sweep INTEGER, error TEXT,
    PRIMARY KEY (run, what, shard, sweep)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS open_alarms ON alarms (run, host) WHERE resolved IS NULL;
"""


class StoreError(RuntimeError):
    """The database cannot be opened."""


class AlarmChange(NamedTuple):
    state: str  # "open" or "resolved"
    check: str
    host: int
    series: str
    sweep: int
    anomaly: Anomaly | None  # what opened it


class Store:
    """One run's part of a database; a database may hold many runs."""

    def __init__(self, path: Path, engine: str, hosts: int, sweeps: int, seed: int) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}") from error
        self.run = self._db.execute(
            "INSERT INTO runs (engine, hosts, sweeps, seed) VALUES (?, ?, ?, ?)",
            (engine, hosts, sweeps, seed),
        ).lastrowid

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def add(self, report: ShardReport, hosts: range) -> list[AlarmChange]:
        """Stores one sweep of a shard, whole or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            for outcome, count in report.outcomes.items():
                self._add_outcome(report.shard, report.sweep, outcome, count)
            for check, error in report.check_errors.items():
                self._add_error(f"check {check}", report.shard, report.sweep, error)
            changes = [self._add_anomaly(report.sweep, anomaly) for anomaly in report.anomalies]
            changes += self._resolve(report, hosts)
        return [change for change in changes if change]

    def add_failure(self, shard: int, sweep: int, hosts: range, error: str) -> None:
        """Stores that a whole shard could not be swept."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            self._add_outcome(shard, sweep, "task failed", len(hosts))
            self._add_error("task", shard, sweep, error)

    def finish(self, points: int, seconds: float) -> None:
        self._db.execute(
            "UPDATE runs SET points = ?, seconds = ? WHERE run = ?", (points, seconds, self.run)
        )

    def alarms(self) -> tuple[int, int]:
        """How many alarms there are, and how many of them are open."""
        query = "SELECT count(*), count(*) - count(resolved) FROM alarms WHERE run = ?"
        total, still_open = self._db.execute(query, (self.run,)).fetchone()
        return total, still_open

    def _add_outcome(self, shard: int, sweep: int, outcome: str, hosts: int) -> None:
        if hosts or outcome == OK:
            row = (self.run, shard, sweep, outcome, hosts)
            self._db.execute("INSERT OR IGNORE INTO sweeps VALUES (?, ?, ?, ?, ?)", row)

    def _add_error(self, what: str, shard: int, sweep: int, error: str) -> None:
        row = (self.run, what, shard, sweep, error)
        self._db.execute("INSERT OR IGNORE INTO errors VALUES (?, ?, ?, ?, ?)", row)

    def _add_anomaly(self, sweep: int, anomaly: Anomaly) -> AlarmChange | None:
        alarm = (self.run, anomaly.check, anomaly.host, anomaly.series)
        self._db.execute(
            "INSERT OR IGNORE INTO anomalies VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*alarm, sweep, anomaly.value, anomaly.previous, anomaly.baseline),
        )
        persists = self._db.execute(
            "UPDATE alarms SET last_seen = max(last_seen, ?) WHERE run = ? AND check_name = ?"
            " AND host = ? AND series = ? AND resolved IS NULL",
            (sweep, *alarm),
        )
        if persists.rowcount:
            return None
        opened = self._db.execute(
            "INSERT OR IGNORE INTO alarms VALUES (?, ?, ?, ?, ?, ?, NULL)", (*alarm, sweep, sweep)
        )
        return AlarmChange("open", *alarm[1:], sweep, anomaly) if opened.rowcount else None

    def _resolve(self, report: ShardReport, hosts: range) -> list[AlarmChange | None]:
        answered = set(report.answered)
        changes: list[AlarmChange | None] = []
        unseen = self._db.execute(
            "SELECT check_name, host, series, onset FROM alarms WHERE run = ? AND host >= ?"
            " AND host < ? AND last_seen < ? AND resolved IS NULL",
            (self.run, hosts.start, hosts.stop, report.sweep),
        ).fetchall()
        for check, host, series, onset in unseen:
            looked = (not series or host in answered) and check not in report.check_errors
            if not looked:
                continue
            self._db.execute(
                "UPDATE alarms SET resolved = ? WHERE run = ? AND check_name = ? AND host = ?"
                " AND series = ? AND onset = ?",
                (report.sweep, self.run, check, host, series, onset),
            )
            changes.append(AlarmChange("resolved", check, host, series, report.sweep, None))
        return changes
