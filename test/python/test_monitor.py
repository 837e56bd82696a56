"""The demo, end to end: a real fleet, real HTTP, real SQLite, and workers that are killed."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RUN = EXAMPLES / "monitor" / "run.py"
sys.path.insert(0, str(EXAMPLES))

from monitor.fleet_process import Fleet, fleet_truth  # noqa: E402
from monitor.service import Settings, monitor  # noqa: E402
from monitor.totals import Totals, table  # noqa: E402

HOSTS = 40
SEED = 11


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(HOSTS, sweeps=3, seed=SEED) as running:
        yield running


def run_monitor(url: str, db: Path, **settings: Any) -> Totals:
    defaults = {"hosts": HOSTS, "sweeps": 3, "seed": SEED, "engine": "asyncio"}
    return asyncio.run(monitor(Settings(fleet_url=url, db=db, **(defaults | settings))))


class Findings(NamedTuple):
    """All that a run leaves in its database."""

    alarms: list[tuple[Any, ...]]
    anomalies: list[tuple[Any, ...]]
    sweeps: list[tuple[Any, ...]]
    errors: list[tuple[Any, ...]]


def findings(db: Path) -> Findings:
    with sqlite3.connect(db) as connection:
        tables = (connection.execute(f"SELECT * FROM {name}") for name in Findings._fields)
        return Findings(*(sorted(rows.fetchall(), key=repr) for rows in tables))


@pytest.mark.parametrize("sweeps", [3, 6])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_stored_is_what_the_fleet_has_injected(
    seed: int, sweeps: int, tmp_path: Path
) -> None:
    db = tmp_path / "monitor.db"
    with Fleet(HOSTS, sweeps, seed) as running:
        totals = run_monitor(running.url, db, sweeps=sweeps, seed=seed)
        truth = fleet_truth(running.url)
    expected_alarms = set()
    expected_anomalies = set()
    for one in truth:
        key = (one["check"], one["host"], one["series"])
        resolved = one["last"] + 1 if one["last"] + 1 < sweeps else None
        expected_alarms.add((*key, one["onset"], one["last"], resolved))
        expected_anomalies |= {(*key, at) for at in range(one["onset"], one["last"] + 1)}
    stored = findings(db)
    assert {row[1:] for row in stored.alarms} == expected_alarms
    assert {row[1:5] for row in stored.anomalies} == expected_anomalies
    assert sum(totals.found.values()) == len(expected_anomalies)
    assert not stored.errors


def test_most_of_the_injected_anomalies_need_more_than_one_page(fleet: Fleet) -> None:
    truth = fleet_truth(fleet.url)
    single_page = [one for one in truth if one["check"] in ("limits", "not_a_number")]
    assert len({one["check"] for one in truth}) == 7
    assert 2 * len(single_page) <= len(truth)


def test_both_engines_leave_the_same_database(fleet: Fleet, tmp_path: Path) -> None:
    stored = {}
    for engine in ("asyncio", "aiomq"):
        db = tmp_path / f"{engine}.db"
        options = ["--engine", engine, "--db", db, "--fleet", fleet.url, "--processes", "2"]
        size = ["--hosts", str(HOSTS), "--seed", str(SEED)]
        done = subprocess.run(
            [sys.executable, RUN, *options, *size], capture_output=True, text=True, check=True
        )
        stored[engine] = findings(db)
        assert "points per second" in done.stdout
        assert "rate_spike" in done.stdout
        assert f"{HOSTS * 3}/{HOSTS * 3}" in done.stderr, "the bar reached its end"
    assert stored["asyncio"] == stored["aiomq"]
    assert stored["aiomq"].alarms


STOP_IN_MID_SWEEP = """
import os
import signal

import numpy as np

from monitor.check import Mask, Samples, check


@check
def stop_in_mid_sweep(samples: Samples) -> Mask:
    if samples.sweep == 1 and not os.path.exists({mark!r}):
        open({mark!r}, "x").close()
        with open({fifo!r}, "w") as fifo:
            fifo.write(str(os.getpid()))
        signal.pause()
    return np.zeros(len(samples.value), bool)
"""


def test_a_worker_killed_in_mid_sweep_changes_nothing_in_the_database(
    fleet: Fleet, tmp_path: Path
) -> None:
    untouched = tmp_path / "untouched.db"
    run_monitor(fleet.url, untouched, engine="aiomq", processes=2)

    checks = tmp_path / "checks"
    checks.mkdir()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    source = STOP_IN_MID_SWEEP.format(mark=str(tmp_path / "mark"), fifo=str(fifo))
    (checks / "stop_in_mid_sweep.py").write_text(source)

    def kill_it() -> None:
        os.kill(int(fifo.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill_it, daemon=True)
    killer.start()
    db = tmp_path / "killed.db"
    totals = run_monitor(fleet.url, db, engine="aiomq", processes=2, more_checks=(checks,))
    killer.join()
    assert totals.resubmitted >= 1
    assert totals.task_errors == 0
    assert findings(db) == findings(untouched)
    assert "shards resubmitted" in table(totals)


def test_a_check_that_raises_is_reported_and_the_sweep_goes_on(
    fleet: Fleet, tmp_path: Path
) -> None:
    checks = tmp_path / "checks"
    checks.mkdir()
    (checks / "broken.py").write_text(
        "from monitor.check import check, host_check\n"
        "@check\ndef broken(samples):\n    return samples.value / {}\n"
        "@host_check\ndef shapeless(hosts):\n    return 7\n"
    )
    good, bad = tmp_path / "good.db", tmp_path / "bad.db"
    run_monitor(fleet.url, good)
    totals = run_monitor(fleet.url, bad, more_checks=(checks,))
    assert findings(bad)[:3] == findings(good)[:3]
    errors = {(what, error.partition(":")[0]) for _, what, _, _, error in findings(bad).errors}
    assert errors == {("check broken", "TypeError"), ("check shapeless", "TypeError")}
    assert totals.check_errors.keys() == {"broken", "shapeless"}
    assert "check broken raised" in table(totals)


def test_a_shard_that_fails_is_counted_and_its_later_sweeps_go_on(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import monitor.engine

    whole = monitor.engine.sweep_shard

    async def fails_once(job: Any) -> Any:
        if (job.shard, job.sweep) == (0, 1):
            raise OSError("no room")
        return await whole(job)

    monkeypatch.setattr(monitor.engine, "sweep_shard", fails_once)
    db = tmp_path / "monitor.db"
    totals = run_monitor(fleet.url, db)
    assert totals.task_errors == 1
    assert [row[1:] for row in findings(db).errors] == [("task", 0, 1, "OSError: no room")]
    assert {(shard, sweep) for _, shard, sweep, *_ in findings(db).sweeps if shard == 0} == {
        (0, 0),
        (0, 1),
        (0, 2),
    }


def test_a_database_holds_many_runs(fleet: Fleet, tmp_path: Path) -> None:
    db = tmp_path / "monitor.db"
    for _ in range(2):
        run_monitor(fleet.url, db)
    runs: dict[int, list[tuple[Any, ...]]] = {1: [], 2: []}
    for run, *row in findings(db).alarms:
        runs[run].append(tuple(row))
    assert runs[1] == runs[2] != []


def test_points_are_counted_for_pages_only(fleet: Fleet, tmp_path: Path) -> None:
    totals = run_monitor(fleet.url, tmp_path / "monitor.db")
    assert sum(totals.outcomes.values()) == 3 * HOSTS
    assert totals.outcomes["HTTP 500"] > 0
    assert totals.outcomes["no answer"] > 0
    assert totals.points == 2500 * totals.outcomes["ok"]
    assert sum(totals.points_of.values()) == totals.points


def test_interrupting_it_ends_it_quietly(tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, RUN, "--sweeps", "1000", "--processes", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts its background jobs with SIGINT ignored, and the test may be in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert started.stdout
    started.stdout.readline()  # the first alarm: it is in the middle of things
    os.killpg(started.pid, signal.SIGINT)
    _, errors = started.communicate(timeout=20)
    assert started.returncode == 128 + signal.SIGINT
    assert "Traceback" not in errors


def test_the_fleet_does_not_outlive_its_parent() -> None:
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from monitor.fleet_process import Fleet\n"
        "fleet = Fleet(1, 1, 1)\n"
        "print(fleet._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(EXAMPLES)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    fleet_id = os.pidfd_open(int(parent.stdout.readline()))
    try:
        parent.kill()
        parent.wait()
        readable, _, _ = select.select([fleet_id], [], [], 10)
        assert readable, "the fleet is still there"
    finally:
        parent.stdout.close()
        os.close(fleet_id)


def refused(*options: str, **environment: str) -> str:
    """What run.py says of a mistake."""
    done = subprocess.run(
        [sys.executable, RUN, *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_what_is_wrong_with_the_command_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing" / "thing")
    assert missing in refused(AIOMQ_FLEET=missing)
    assert missing in refused("--db", missing, "--engine", "asyncio")
    assert missing in refused("--checks", missing)
    assert "no fleet at http://127.0.0.1:1/" in refused("--fleet", "http://127.0.0.1:1")
    options = ("--hosts", "--sweeps", "--processes")
    with ThreadPoolExecutor() as at_once:
        for said in at_once.map(lambda option: refused(option, "0"), options):
            assert "'0' is not a number of 1 or more" in said


def test_the_check_in_the_readme_works_and_is_short(fleet: Fleet, tmp_path: Path) -> None:
    readme = (EXAMPLES / "monitor" / "README.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(source.splitlines()) <= 8
    checks = tmp_path / "checks"
    checks.mkdir()
    (checks / "doubled.py").write_text(source)
    totals = run_monitor(fleet.url, tmp_path / "monitor.db", more_checks=(checks,))
    assert "doubled" in totals.found
    assert not totals.check_errors
