"""What the demo remembers: the state of a shard between sweeps, and alarms in the database."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from monitor import sweep as sweep_module  # noqa: E402
from monitor.check import OWN_FOLDER, load_checks  # noqa: E402
from monitor.exposition import Layout, read_layout  # noqa: E402
from monitor.fetch import Failure, close_session  # noqa: E402
from monitor.fleet_process import Fleet  # noqa: E402
from monitor.state import MOST_SERIES, History, LayoutStore, ShardState, StateError  # noqa: E402
from monitor.store import AlarmChange, Store  # noqa: E402
from monitor.sweep import Anomaly, ShardJob, ShardReport, sweep_shard  # noqa: E402


def layout_of(*series: str) -> Layout:
    return read_layout("".join(f"{name} 0\n" for name in series).encode())[0]


AB = layout_of("a", "b")


def history_of(*last: float) -> History:
    column = np.array(last)
    return History(column, column + 1, column + 2, column + 3, column + 4)


def open_state(folder: Path, sweep: int, hosts: int = 2) -> ShardState:
    return ShardState(folder / "shard.state", hosts, sweep, LayoutStore(folder))


def last_of(state: ShardState, layout: Layout = AB) -> list[float]:
    return state.history(0, layout).last.tolist()


def write_sweep(folder: Path, sweep: int, *last: float) -> None:
    state = open_state(folder, sweep)
    state.store(0, AB, history_of(*last))
    state.keep(1, silent_for=sweep + 1)
    state.commit()


def test_a_new_host_has_no_history(tmp_path: Path) -> None:
    history = open_state(tmp_path, 0).history(0, AB)
    assert np.isnan(history.last).all()
    assert not history.sweeps.any()


def test_a_sweep_sees_what_the_one_before_has_committed(tmp_path: Path) -> None:
    write_sweep(tmp_path, 0, 1, 2)
    write_sweep(tmp_path, 1, 3, 4)
    state = open_state(tmp_path, 2)
    expected = history_of(3, 4)
    for column, wanted in zip(state.history(0, AB), expected, strict=True):
        assert column.tolist() == wanted.tolist()
    assert state.silent_for().tolist() == [0, 2]


def test_a_sweep_that_did_not_commit_has_not_happened(tmp_path: Path) -> None:
    write_sweep(tmp_path, 0, 1, 2)
    write_sweep(tmp_path, 1, 3, 4)
    for _ in range(2):  # killed twice, half-way
        state = open_state(tmp_path, 2)
        assert last_of(state) == [3, 4]
        state.store(0, AB, history_of(98, 99))
        state.keep(1, silent_for=99)
    state = open_state(tmp_path, 2)
    assert last_of(state) == [3, 4]
    assert state.silent_for().tolist() == [0, 2]


def test_a_sweep_that_is_repeated_after_its_commit_starts_from_the_one_before(
    tmp_path: Path,
) -> None:
    write_sweep(tmp_path, 0, 0, 0)
    for sweep in range(1, 4):
        for _ in range(3):
            assert last_of(open_state(tmp_path, sweep)) == [sweep - 1, sweep - 1]
            write_sweep(tmp_path, sweep, sweep, sweep)


def test_a_sweep_that_failed_altogether_leaves_the_one_before_as_the_last(tmp_path: Path) -> None:
    write_sweep(tmp_path, 0, 1, 2)
    write_sweep(tmp_path, 1, 3, 4)
    open_state(tmp_path, 2)
    assert last_of(open_state(tmp_path, 3)) == [3, 4]


def test_history_follows_its_series_when_the_layout_changes(tmp_path: Path) -> None:
    write_sweep(tmp_path, 0, 1, 2)
    state = open_state(tmp_path, 1)  # in a process that has never seen the old layout
    history = state.history(0, layout_of("b", "c", "a"))
    assert history.last[[0, 2]].tolist() == [2, 1]
    assert np.isnan(history.last[1])
    assert history.sweeps.tolist() == [6, 0, 5]
    assert last_of(state, layout_of("b", "a")) == [2, 1]


def test_a_file_of_other_hosts_and_a_page_too_large_are_named(tmp_path: Path) -> None:
    write_sweep(tmp_path, 0, 1, 2)
    with pytest.raises(StateError, match="is not the state of 3 hosts"):
        open_state(tmp_path, 1, hosts=3)
    large = layout_of(*(f"m{i}" for i in range(MOST_SERIES + 1)))
    with pytest.raises(StateError, match=str(MOST_SERIES)):
        open_state(tmp_path, 1).store(0, large, History.blank(MOST_SERIES + 1))


def test_a_shard_swept_twice_reports_the_same(tmp_path: Path) -> None:
    async def sweep_twice(url: str) -> None:
        found = 0
        for sweep in range(4):
            job = ShardJob(url, tmp_path, (OWN_FOLDER,), 0, range(12), sweep)
            first = await sweep_shard(job)
            second = await sweep_shard(job)
            assert repr(dataclasses.replace(second, cpu_seconds=first.cpu_seconds)) == repr(first)
            found += len(first.anomalies)
        assert found
        await close_session()

    with Fleet(hosts=12, sweeps=4, seed=1) as fleet:
        asyncio.run(sweep_twice(fleet.url))


def test_a_counter_that_could_not_be_read_for_long_has_not_spiked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = "# TYPE m_total counter\nm_total {}\n"

    async def fetch(url: str) -> bytes | Failure:
        sweep = int(url.rpartition("=")[2])
        if 2 <= sweep < 30:
            return Failure("HTTP 500", silent=False)
        return page.format(100 * sweep + (10_000 if sweep >= 31 else 0)).encode()

    monkeypatch.setattr(sweep_module, "fetch", fetch)
    found = []
    for sweep in range(33):
        job = ShardJob("", tmp_path, (OWN_FOLDER,), 0, range(1), sweep)
        done = asyncio.run(sweep_shard(job))
        found += [(sweep, one.check, one.series, one.value) for one in done.anomalies]
    assert found == [(31, "rate_spike", "m_total", 13_100)]


HOST = range(7, 8)


def report(sweep: int, *checks: str, answered: bool = True, **rest: Any) -> ShardReport:
    """One sweep of a shard with one host, in which each check sees something wrong with m."""
    anomalies = [
        Anomaly(check, HOST[0], "" if check == "silent" else "m", 1.0, 0.0, 0.0) for check in checks
    ]
    outcomes = Counter({"ok" if answered else "no answer": 1})
    return ShardReport(
        0, sweep, 1, "0", outcomes, [HOST[0]] * answered, 1, anomalies, Counter(checks), **rest
    )


def states(changes: list[AlarmChange]) -> list[tuple[str, str]]:
    return [(change.state, change.check) for change in changes]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "monitor.db"


def alarm_rows(db: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(db) as connection:
        return connection.execute("SELECT onset, last_seen, resolved FROM alarms").fetchall()


def test_an_alarm_opens_persists_resolves_and_opens_anew(db: Path) -> None:
    with Store(db, "asyncio", 1, 9, 1) as store:
        assert states(store.add(report(0, "drift"), HOST)) == [("open", "drift")]
        assert states(store.add(report(1, "drift"), HOST)) == []
        assert store.alarms() == (1, 1)
        assert states(store.add(report(2), HOST)) == [("resolved", "drift")]
        assert states(store.add(report(3), HOST)) == []
        assert states(store.add(report(4, "drift"), HOST)) == [("open", "drift")]
        assert store.alarms() == (2, 1)
    assert alarm_rows(db) == [(0, 1, 2), (4, 4, None)]


def test_a_sweep_that_is_stored_twice_changes_nothing(db: Path) -> None:
    with Store(db, "asyncio", 1, 9, 1) as store:
        for sweep, checks in enumerate((("drift", "stuck"), ("drift",), ())):
            store.add(report(sweep, *checks), HOST)
            rows = alarm_rows(db)
            assert store.add(report(sweep, *checks), HOST) == []
            assert alarm_rows(db) == rows


def test_a_host_without_a_page_resolves_nothing_but_its_silence(db: Path) -> None:
    with Store(db, "asyncio", 1, 9, 1) as store:
        store.add(report(0, "drift"), HOST)
        assert states(store.add(report(1, "silent", answered=False), HOST)) == [("open", "silent")]
        changes = store.add(report(2, "drift"), HOST)
        assert states(changes) == [("resolved", "silent")]
    assert alarm_rows(db) == [(0, 2, None), (1, 1, 2)]


def test_a_check_that_raises_resolves_nothing(db: Path) -> None:
    with Store(db, "asyncio", 1, 9, 1) as store:
        store.add(report(0, "drift"), HOST)
        assert store.add(report(1, check_errors={"drift": "ValueError: no"}), HOST) == []
        assert states(store.add(report(2), HOST)) == [("resolved", "drift")]


def test_two_checks_of_one_name_are_refused(tmp_path: Path) -> None:
    source = "from monitor.check import check\n@check\ndef drift(samples):\n    return None\n"
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(ValueError, match="drift"):
        load_checks((OWN_FOLDER, tmp_path))
