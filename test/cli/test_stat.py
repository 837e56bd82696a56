"""aiomq-stat against real pools: what it shows is compared with what was done."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pool_process import NOBODY, PATIENCE_SECONDS, PoolProcess, StartPool, Stat, as_nobody

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")


def entry_of(entries: list[dict[str, Any]], pid: int) -> dict[str, Any]:
    (entry,) = [entry for entry in entries if entry["pid"] == pid]
    return entry


def until(reached: Callable[[], bool]) -> None:
    """Look again until something that gives no event has happened."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


@contextmanager
def memfd_holder(name: str, mode: int, nobody: bool) -> Iterator[int]:
    """The pid of a process that holds an empty memfd."""
    code = (
        "import os, sys, time; fd = os.memfd_create(sys.argv[1]); os.fchmod(fd, int(sys.argv[2]));"
        "print('ready', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, name, str(mode)]
    if nobody:
        command[0] = "/usr/bin/python3"  # one that every user can run
    with subprocess.Popen(
        as_nobody(command) if nobody else command, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process.pid
        finally:
            process.kill()


@contextmanager
def memory_of(pid: int) -> Iterator[int]:
    """A pool's memory, held open by this process."""
    folder = f"/proc/{pid}/fd"
    links = {name: os.readlink(f"{folder}/{name}") for name in os.listdir(folder)}
    (name,) = [name for name, link in links.items() if link.startswith("/memfd:aiomq:")]
    memory = os.open(f"{folder}/{name}", os.O_RDONLY)
    try:
        yield memory
    finally:
        os.close(memory)


# ---- numbers -------------------------------------------------------------------------------------


def test_identity(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("identity", 2)
    shown = stat.show(pool.pid)
    assert shown["label"] == "identity"
    assert shown["pid"] == shown["namespace_pid"] == pool.pid
    assert shown["uid"] == os.geteuid()
    assert shown["state"] == "running"
    assert shown["permitted"] is True
    assert shown["problem"] is None
    assert shown["capacity"] == 256
    assert 0 < shown["age_ns"] < PATIENCE_SECONDS * 10**9
    assert abs(shown["created_realtime_ns"] - time.time_ns()) < PATIENCE_SECONDS * 10**9
    listed = entry_of(stat.read(), pool.pid)
    assert {"label", "pid", "uid", "age_ns", "state"} <= listed.keys()
    assert listed["label"] == "identity"
    assert listed["workers"] == 2


def test_items_are_counted_by_outcome(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("outcomes", 2)
    pool.do("run 10", "ran 10")
    pool.do("fail 3", "failed 3")
    pool.do("chunk 1500", "ran 1500")
    shown = stat.show(pool.pid)
    assert shown["items"] == {
        "submitted": 1513,
        "ok": 1510,
        "failed": 3,
        "cancelled": 0,
        "worker_died": 0,
        "other_outcomes": 0,
        "requeued": 0,
        "retried": 0,
        "nested": 0,
        "splits": 0,
    }
    workers = shown["workers"]
    assert [worker["index"] for worker in workers] == [0, 1]
    assert sum(worker["started"] for worker in workers) == 1513
    assert sum(worker["completed"] for worker in workers) == 1513
    assert sum(worker["failed"] for worker in workers) == 3
    assert all(worker["running"] == worker["restarts"] == 0 for worker in workers)
    (queue,) = shown["queues"]
    assert (queue["ready"], queue["claimed"], queue["done"], queue["oldest_ns"]) == (0, 0, 0, 0)
    text = stat.run("show", str(pool.pid)).stdout
    assert "1,513 submitted, 1,510 ok, 3 failed, 0 cancelled, 0 worker died" in text
    assert entry_of(stat.read("list"), pool.pid)["items"] == shown["items"]


def test_waiting_and_running_tasks_show_in_the_queue(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("queue", 2)
    pool.do("block 5", "blocked")
    (queue,) = stat.show(pool.pid)["queues"]
    assert (queue["ready"], queue["claimed"], queue["done"]) == (3, 2, 0)
    shown = stat.show(pool.pid)
    assert [worker["running"] for worker in shown["workers"]] == [1, 1]
    assert [worker["sleeping"] for worker in shown["workers"]] == [False, False]
    listed = entry_of(stat.read(), pool.pid)
    assert (listed["ready"], listed["claimed"]) == (3, 2)
    # The age of the oldest grows with time; its clock may be coarse.
    until(lambda: stat.show(pool.pid)["queues"][0]["oldest_ns"] > queue["oldest_ns"])
    pool.do("release 5", "released 5")
    (queue,) = stat.show(pool.pid)["queues"]
    assert (queue["ready"], queue["claimed"], queue["done"], queue["oldest_ns"]) == (0, 0, 0, 0)
    until(lambda: all(worker["sleeping"] for worker in stat.show(pool.pid)["workers"]))


def test_a_dead_worker_is_counted_and_reported(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("deaths", 1)
    (before,) = stat.show(pool.pid)["workers"]
    pool.do("die 2", "died 2")
    shown = stat.show(pool.pid)
    (worker,) = shown["workers"]
    assert worker["state"] == "running"
    assert worker["restarts"] == shown["restarts"] == 2
    assert worker["pid"] != before["pid"]
    assert worker["running"] == 0
    os.kill(worker["pid"], 0)
    assert shown["items"]["worker_died"] == 2
    kinds = [event["kind"] for event in shown["events"]]
    assert kinds.count("spawned") == kinds.count("ready") == 3
    deaths = [event for event in shown["events"] if event["kind"] == "died"]
    assert [event["status"] for event in deaths] == [-signal.SIGKILL] * 2
    assert deaths[0]["pid"] == before["pid"]
    assert [event["sequence"] for event in shown["events"]] == list(
        range(1, len(shown["events"]) + 1)
    )
    text = stat.run("show", str(pool.pid)).stdout
    assert " died " in text
    assert str(worker["pid"]) in text
    head, *lines = stat.run("list").stdout.splitlines()
    (line,) = [line for line in lines if f" {pool.pid} " in line]
    assert head.split()[-2:] == ["FINISHED", "RESTARTS"]
    assert line.split()[-2:] == ["2", "2"]


def test_only_the_last_64_events_are_kept(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("events", 1)
    pool.do("die 25", "died 25")
    events = stat.show(pool.pid)["events"]
    assert len(events) == 64
    sequences = [event["sequence"] for event in events]
    assert sequences == list(range(sequences[0], sequences[0] + 64))


def test_arena_numbers(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("arenas", 2)
    shown = stat.show(pool.pid)
    for arena in shown["arenas"].values():
        assert 0 <= arena["used_bytes"] <= arena["committed_bytes"] <= arena["maximum_bytes"]
        assert arena["committed_bytes"] > 0
    per_worker = sum(worker["committed_bytes"] for worker in shown["workers"])
    assert shown["arenas"]["result"]["committed_bytes"] == per_worker


def test_wake_ups_are_counted(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("wakeups", 1)
    before = stat.show(pool.pid)["wakeups"]
    for _ in range(5):
        until(lambda: stat.show(pool.pid)["workers"][0]["sleeping"])
        pool.do("run 1", "ran 1")
    after = stat.show(pool.pid)["wakeups"]
    assert after["sent"] >= before["sent"] + 5
    assert after.keys() == {"sent", "elided", "audits"}


def test_a_closed_pool_shows_as_ended(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("closing", 1)
    pool.do("close", "closed")
    shown = stat.show(pool.pid)
    assert shown["state"] == "ended"
    assert [worker["state"] for worker in shown["workers"]] == ["absent"]
    assert [worker["pid"] for worker in shown["workers"]] == [None]


# ---- tasks --------------------------------------------------------------------------------------


def test_tasks_are_those_that_workers_have(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("tasks", 2)
    assert stat.read("tasks", str(pool.pid)) == []
    assert stat.run("tasks", str(pool.pid)).stdout == ""
    pool.do("block 5", "blocked")
    tasks = stat.read("tasks", str(pool.pid))
    workers = stat.show(pool.pid)["workers"]
    assert len(tasks) == 2
    assert sorted(task["worker"] for task in tasks) == [0, 1]
    for task in tasks:
        assert task["function"] == "block"
        assert task["queue"] == "default"
        assert (task["attempt"], task["items"], task["started"]) == (1, 1, 1)
        worker = workers[task["worker"]]
        assert task["pid"] == worker["pid"]
        assert worker["current"] == {"task_id": task["id"], "item": 0}
        assert worker["keyed"] == 0
        assert worker["group"]
    assert tasks[0]["age_ns"] >= tasks[1]["age_ns"] > 0
    heading, *lines = stat.run("tasks", str(pool.pid)).stdout.splitlines()
    assert " ".join(heading.split()) == "TASK FUNCTION WORKER PID AGE ATTEMPT STARTED QUEUE"
    assert [line.split()[0] for line in lines] == [str(task["id"]) for task in tasks]
    assert all(line.endswith("1 of 1  default") for line in lines)
    pool.do("release 5", "released 5")
    assert stat.read("tasks", str(pool.pid)) == []
    assert all(worker["current"] is None for worker in stat.show(pool.pid)["workers"])


def test_the_oldest_task_comes_first(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("ages", 2)
    pool.do("block 1", "blocked")
    (first,) = stat.read("tasks", str(pool.pid))
    coarse_ns = 20_000_000  # the clock of ages is
    until(lambda: stat.read("tasks", str(pool.pid))[0]["age_ns"] > coarse_ns)
    pool.do("block 1", "blocked")
    older, younger = stat.read("tasks", str(pool.pid))
    assert older["id"] == first["id"]
    assert older["age_ns"] > younger["age_ns"]
    pool.do("release 2", "released 2")


def test_nested_tasks_are_shown_where_the_application_has_no_slots(
    stat: Stat, start_pool: StartPool
) -> None:
    pool = start_pool("nesting", 1)
    pool.do("nest", "nested")
    shown = stat.show(pool.pid)
    assert (shown["items"]["nested"], shown["queues"][0]["claimed"]) == (1, 1)
    (task,) = stat.read("tasks", str(pool.pid))
    assert (task["function"], task["worker"]) == ("block", 0)
    assert shown["workers"][0]["current"] == {"task_id": task["id"], "item": 0}


# ---- events -------------------------------------------------------------------------------------


def test_events_are_all_that_is_kept(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("events", 1)
    pool.do("die 25", "died 25")
    shown = stat.show(pool.pid)["events"]
    events = stat.read("events", str(pool.pid))
    assert events == shown
    assert len(events) == 64
    numbers = [event["sequence"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + 64))
    lines = stat.run("events", str(pool.pid)).stdout.splitlines()
    assert len(lines) == 65
    assert [line.split()[0] for line in lines[1:]] == [str(number) for number in numbers]


def test_followed_events_come_as_they_happen(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("follow", 1)
    with subprocess.Popen(
        stat.command("events", str(pool.pid), "-f", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert [json.loads(process.stdout.readline())["kind"] for _ in range(2)] == [
            "spawned",
            "ready",
        ]
        pool.do("die 1", "died 1")
        kinds = [json.loads(process.stdout.readline())["kind"] for _ in range(3)]
        assert kinds == ["died", "spawned", "ready"]
        # Stopped, it misses some; that is said.
        process.send_signal(signal.SIGSTOP)
        until(lambda: process_state(process.pid) == "T")
        pool.do("die 30", "died 30")
        until(lambda: stat.show(pool.pid)["events"][-1]["sequence"] == 95)
        process.send_signal(signal.SIGCONT)
        numbers = [json.loads(process.stdout.readline())["sequence"] for _ in range(64)]
        assert numbers == list(range(32, 96))
        pool.tell("quit")
        rest = [json.loads(line)["kind"] for line in process.stdout]
        assert rest in (["left"], [])
        assert process.stderr.read() == (
            "aiomq-stat: 26 events were overwritten before they were read\n"
            f"aiomq-stat: follow@{pool.pid} has ended\n"
        )
    assert process.returncode == 0


def test_followed_events_are_lines_of_text(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("lines", 1)
    with subprocess.Popen(
        stat.command("events", "-f", str(pool.pid)), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("  spawned   worker 0 was started\n")
        assert process.stdout.readline().endswith("  ready     worker 0 is ready\n")
        process.kill()


# ---- check --------------------------------------------------------------------------------------


def impatient(command: list[str]) -> list[str]:
    return ["env", "BLOCKED_AFTER_MS=20", *command]


def test_check_says_that_a_pool_is_well(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("well", 1)
    done = stat.run("check", str(pool.pid), "--max-wait", "0", "--max-blocked", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "aiomq OK: 1 pool, longest wait 0 s, 0 blocked\n"
    other = start_pool("too", 1)
    done = stat.run("check", "well", f"too@{other.pid}", "--max-wait", "5")
    assert (done.returncode, done.stdout[:18]) == (0, "aiomq OK: 2 pools,")


def test_check_names_the_queue_whose_tasks_wait(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("crowded", 1)
    pool.do("block 2", "blocked")
    until(lambda: bool(stat.show(pool.pid)["queues"][0]["oldest_ns"]))
    done = stat.run("check", "crowded", "--max-wait", "0.000001")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(
        f"aiomq CRITICAL: crowded@{pool.pid} queue default: a task has waited for "
    )
    assert done.stdout.endswith(" (limit 1 us)\n")
    assert stat.run("check", "crowded", "--max-wait", "1000").returncode == 0
    assert stat.run("check", "crowded").returncode == 0
    pool.do("release 2", "released 2")
    assert stat.run("check", "crowded", "--max-wait", "0").returncode == 0


def test_check_names_the_worker_that_is_blocked(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("stuck", 2, wrap=impatient)
    pool.do("block 1", "blocked")
    until(lambda: any(worker["blocked_ns"] for worker in stat.show("stuck")["workers"]))
    shown = stat.show("stuck")
    (worker,) = [worker for worker in shown["workers"] if worker["blocked_ns"]]
    done = stat.run("check", "stuck", "--max-blocked", "0.001")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(
        f"aiomq CRITICAL: stuck@{pool.pid} worker {worker['index']} (pid {worker['pid']}): "
        "its loop has stood for "
    )
    (event,) = [event for event in shown["events"] if event["kind"] == "blocked"]
    assert event["worker"] == worker["index"]
    assert 'in item 0 of "block" (task ' in event["text"]
    text = stat.run("show", "stuck").stdout
    assert f"item 0 of task {worker['current']['task_id']}" in text
    pool.do("release 1", "released 1")
    done = stat.run("check", "stuck", "--max-blocked", "0")
    assert (done.returncode, done.stdout[:9]) == (0, "aiomq OK:")


def test_check_cannot_tell_of_what_it_does_not_find(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("present", 1)
    done = stat.run("check", "absent")
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith("aiomq UNKNOWN: no pool is called 'absent'")
    # What is exceeded says more than what is unknown.
    pool.do("block 2", "blocked")
    until(lambda: bool(stat.show(pool.pid)["queues"][0]["oldest_ns"]))
    done = stat.run("check", "absent", "present", "--max-wait", "0")
    assert done.returncode == 1
    assert "absent" in done.stdout
    assert f"present@{pool.pid}" in done.stdout
    assert done.stdout.count("\n") == 1
    pool.do("release 2", "released 2")
    with memfd_holder("aiomq:impostor", mode=0o600, nobody=False):
        done = stat.run("check", "impostor")
        assert (done.returncode, done.stdout[:15]) == (2, "aiomq UNKNOWN: ")


def test_a_broken_pool_is_never_well(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("breaks", 1)
    assert stat.run("check", "breaks").returncode == 0
    pool.do("break", "broken")
    for limits in ([], ["--max-wait", "1000", "--max-blocked", "1000"]):
        done = stat.run("check", "breaks", *limits)
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout == f"aiomq CRITICAL: breaks@{pool.pid}: broken\n"
    shown = stat.show("breaks")
    assert shown["state"] == "broken"
    assert shown["events"][-1]["kind"] == "broken"
    assert "before it was ready" in shown["events"][-1]["text"]
    other = start_pool("whole", 1)
    done = stat.run("check", f"whole@{other.pid}", "breaks", "absent")
    assert done.returncode == 1
    assert done.stdout.startswith(f"aiomq CRITICAL: breaks@{pool.pid}: broken; ")
    assert "absent" in done.stdout


def test_a_pool_whose_memory_was_damaged_is_never_well(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("damaged", 2)
    pool.tell("scribble 1")
    until(lambda: process_state(pool.pid) == "T")
    os.kill(pool.pid, signal.SIGCONT)
    pool.expect("scribbling")
    pool.do("broken", "broken")
    # Its workers are gone soon, and then nothing of what they wrote shows any more.
    until(lambda: not any(worker["pid"] for worker in stat.show("damaged")["workers"]))
    done = stat.run("check", "damaged")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"aiomq CRITICAL: damaged@{pool.pid}: broken\n"
    (event,) = [event for event in stat.show("damaged")["events"] if event["kind"] == "corrupt"]
    assert event["text"].startswith("shared memory is damaged: ")


def test_check_says_all_that_is_exceeded_in_one_line(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("both", 2, wrap=impatient)
    pool.do("block 3", "blocked")
    until(lambda: all(worker["blocked_ns"] for worker in stat.show("both")["workers"]))
    until(lambda: bool(stat.show("both")["queues"][0]["oldest_ns"]))
    done = stat.run("check", "both", "--max-wait", "0", "--max-blocked", "0")
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    heading, *parts = done.stdout.rstrip("\n").partition(": ")[::2]
    assert heading == "aiomq CRITICAL"
    wait, *blocked = parts[0].split("; ")
    assert wait.startswith(f"both@{pool.pid} queue default: a task has waited for ")
    for index, text in enumerate(blocked):
        assert text.startswith(f"both@{pool.pid} worker {index} (pid ")
    assert len(blocked) == 2
    assert all(text.endswith(" (limit 0 s)") for text in (wait, *blocked))
    # A limit is for what it names, and not without having been given.
    done = stat.run("check", "both", "--max-wait", "1000")
    assert done.returncode == 0
    assert done.stdout.endswith(", 2 blocked\n")
    done = stat.run("check", "both", "--max-wait", "1000", "--max-blocked", "0")
    assert "queue" not in done.stdout
    assert done.stdout.count("its loop has stood for") == 2
    pool.do("release 3", "released 3")


def test_a_task_that_runs_does_not_wait(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("running", 1)
    pool.do("block 1", "blocked")
    until(lambda: stat.read("tasks", "running")[0]["age_ns"] > 0)
    assert stat.run("check", "running", "--max-wait", "0").returncode == 0
    # What nobody has collected does not wait for a worker either.
    pool.do("release 1", "released 1")
    pool.do("finish 1", "finished 1")
    assert stat.show("running")["queues"][0]["done"] == 1
    assert stat.run("check", "running", "--max-wait", "0").returncode == 0


def test_check_cannot_tell_of_several_or_of_one_whose_dispatcher_is_gone(
    stat: Stat, start_pool: StartPool
) -> None:
    first, second = start_pool("pair", 1), start_pool("pair", 1)
    done = stat.run("check", "pair")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (2, "", 1)
    assert done.stdout.startswith("aiomq UNKNOWN: ")
    assert stat.run("check", f"pair@{first.pid}", f"pair@{second.pid}").returncode == 0
    with memory_of(first.pid):
        first.end()
        until(lambda: entry_of(stat.read(), os.getpid())["state"] == "gone")
        done = stat.run("check", f"pair@{os.getpid()}")
        assert (done.returncode, done.stderr) == (2, "")
        assert done.stdout == f"aiomq UNKNOWN: pair@{os.getpid()}: its dispatcher is gone\n"


@needs_root
def test_check_cannot_tell_of_what_it_may_not_open(stat: Stat) -> None:
    with memfd_holder("aiomq:shut", mode=0, nobody=True):
        assert stat.run("check", "shut", nobody=True).returncode == 2


# ---- hostile memory -----------------------------------------------------------------------------


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def look_at_all(stat: Stat, pool: int) -> None:
    """Every verb once: none is ended by a signal, and what says it is JSON is JSON."""
    for arguments in (
        ["list"],
        ["list", "--json"],
        ["show", str(pool)],
        ["show", str(pool), "--json"],
        ["show", str(pool), "--json", "-i", "0.001", "-n", "3"],
        ["tasks", str(pool)],
        ["tasks", str(pool), "--json"],
        ["events", str(pool)],
        ["events", str(pool), "--json"],
        ["check", str(pool), "--max-wait", "0", "--max-blocked", "0"],
    ):
        done = stat.run(*arguments)
        said = f"{arguments} ended with {done.returncode}: {done.stderr}"
        assert done.returncode in (0, 1), said
        assert not any(is_control(c) for c in done.stdout + done.stderr if c != "\n"), said
        if arguments[0] == "check":
            assert (done.stderr, done.stdout.count("\n")) == ("", 1), said
        elif done.returncode == 1:
            assert done.stderr.startswith("aiomq-stat: "), said
        if "--json" in arguments:
            reports = done.stdout.splitlines() if "-i" in arguments else [done.stdout]
            assert len(reports) == (3 if "-i" in arguments else 1), said
            for report in reports:
                json.loads(report, parse_constant=refuse_constant)


SEED = int(os.environ.get("AIOMQ_TEST_SEED", "1"))


@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_nothing_that_a_worker_writes_harms_the_tool(
    stat: Stat, start_pool: StartPool, seed: int
) -> None:
    print(f"AIOMQ_TEST_SEED={seed}")
    pool = start_pool("hostile", 3)
    pool.do("run 20", "ran 20")
    pool.do("block 2", "blocked")
    pool.tell(f"scribble {seed}")
    until(lambda: process_state(pool.pid) == "T")
    for _ in range(5):
        look_at_all(stat, pool.pid)
    os.kill(pool.pid, signal.SIGCONT)
    pool.expect("scribbling")
    look_at_all(stat, pool.pid)
    pool.do("broken", "broken")
    look_at_all(stat, pool.pid)
    assert stat.run("check", str(pool.pid)).returncode == 1


# ---- repeats -------------------------------------------------------------------------------------


def test_rates_are_differences_per_second(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("rates", 2)
    with subprocess.Popen(
        stat.command("show", str(pool.pid), "--json", "-i", "0.3", "-n", "4"),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        pool.do("run 100", "ran 100")
        pool.do("fail 20", "failed 20")
        reports = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0
    assert first["rates"] is None
    assert len(reports) == 3
    rates = [report["rates"] for report in reports]
    assert all(rate["seconds"] == pytest.approx(0.3, abs=0.25) for rate in rates)
    for key, count in (("submitted", 120), ("finished", 120), ("not_ok", 20)):
        assert sum(rate[key] * rate["seconds"] for rate in rates) == pytest.approx(count, rel=0.02)
    by_worker = sum(sum(rate["completed_by_worker"]) * rate["seconds"] for rate in rates)
    assert by_worker == pytest.approx(120, rel=0.02)


def test_repeated_text_has_rates(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("repeat", 1)
    done = stat.run("show", str(pool.pid), "-i", "0.05", "-n", "2")
    assert done.returncode == 0
    assert done.stdout.count(f"repeat@{pool.pid}\n") == 2
    assert "COMPLETED/s" in done.stdout
    assert "0.0/s submitted" in done.stdout.split(f"repeat@{pool.pid}\n")[2]
    done = stat.run("list", "-i", "0.05", "-n", "3", "--json")
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry_of(report, pool.pid)["rates"] is None for report in reports] == [
        True,
        False,
        False,
    ]


def test_show_ends_with_its_pool(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("short", 1)
    with subprocess.Popen(
        stat.command("show", "--json", str(pool.pid), "-i", "0.02", "-n", "2000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        pool.tell("quit")
        process.stdout.read()
        assert process.stderr.read() == f"aiomq-stat: short@{pool.pid} has ended\n"
    assert process.returncode == 0


# ---- whatever state the processes are in ---------------------------------------------------------


def test_works_while_dispatcher_and_worker_are_stopped(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("stopped", 1)
    pool.do("run 7", "ran 7")
    worker = stat.show(pool.pid)["workers"][0]["pid"]
    stopped = (pool.pid, worker)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all(process_state(pid) == "T" for pid in stopped))
    try:
        assert stat.show(pool.pid)["items"]["ok"] == 7
        assert entry_of(stat.read("list"), pool.pid)["state"] == "running"
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    pool.do("run 1", "ran 1")


def process_state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as status:
        return status.read().rpartition(")")[2].split()[0]


def test_a_killed_dispatcher_leaves_no_pool(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("killed", 2)
    inode = stat.show(pool.pid)["inode"]
    pool.process.kill()
    pool.process.wait(PATIENCE_SECONDS)
    until(lambda: inode not in [entry["inode"] for entry in stat.read()])


def test_looking_does_not_disturb_the_pool(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("quiet", 1)
    pool.do("run 1", "ran 1")
    until(lambda: bool(stat.show(pool.pid)["workers"][0]["sleeping"]))
    before = stat.show(pool.pid)
    for _ in range(20):
        after = stat.show(pool.pid)
    assert after["wakeups"] == before["wakeups"]
    assert after["workers"] == before["workers"]


# ---- which pool ----------------------------------------------------------------------------------


def test_a_shared_label_is_ambiguous_and_label_at_pid_is_not(
    stat: Stat, start_pool: StartPool
) -> None:
    first, second = start_pool("twin", 1), start_pool("twin", 1)
    done = stat.run("show", "twin")
    assert done.returncode == 4
    assert done.stdout == ""
    assert {f"  twin@{first.pid}", f"  twin@{second.pid}"} <= set(done.stderr.splitlines())
    assert stat.show(f"twin@{second.pid}")["pid"] == second.pid


def test_two_pools_of_one_process_are_told_apart_by_inode(
    stat: Stat, start_pool: StartPool
) -> None:
    pool = start_pool("same", 1, "same", 2)
    done = stat.run("show", str(pool.pid))
    assert done.returncode == 4
    names = [line.strip() for line in done.stderr.splitlines()[1:]]
    assert len(set(names)) == 2
    assert sorted(len(stat.show(name)["workers"]) for name in names) == [1, 2]


def test_unknown_pool(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("known", 1)
    for name in ("no-such-pool", f"known@{pool.pid}0", f"other@{pool.pid}"):
        done = stat.run("show", name)
        assert done.returncode == 3
        assert name in done.stderr


@pytest.mark.parametrize(
    "label", ['a"b\\c', "tab\there", "\x1b[31mred", "\x7f\x01", "ü€😀", "\udcff\udcc3(", "\x9b1m"]
)
def test_a_strange_label_is_shown_harmlessly(stat: Stat, label: str) -> None:
    """The library makes labels plain, but another process may call its memfd anything."""
    with memfd_holder("aiomq:" + label, mode=0o600, nobody=False) as pid:
        decoded = entry_of(stat.read(), pid)["label"]
        surrogates = [character for character in label if "\udc80" <= character <= "\udcff"]
        assert decoded == "".join("\ufffd" if c in surrogates else c for c in label)
        (line,) = [line for line in stat.run().stdout.splitlines() if f" {pid} " in line]
        shown = line.split(f" {pid} ")[0].rstrip()
        assert shown == "".join("?" if c in surrogates or is_control(c) else c for c in label)


def is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f"


def test_the_library_makes_labels_plain(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool('a"b\\c\t\x1b[31m/ü', 1)
    assert stat.show(pool.pid)["label"] == "a_b_c___31m___"


def test_a_bystander_that_holds_the_memory_is_not_the_dispatcher(
    stat: Stat, start_pool: StartPool
) -> None:
    # This process opens it too and has a lower pid than the pool, hence is found first.
    pool = start_pool("held", 1)
    with memory_of(pool.pid):
        assert entry_of(stat.read(), pool.pid)["label"] == "held"
        assert [e["pid"] for e in stat.read() if e["label"] == "held"] == [pool.pid]
        assert stat.show("held")["pid"] == pool.pid


def test_memory_without_its_dispatcher_is_shown_as_gone(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("orphan", 1)
    pool.do("run 3", "ran 3")
    with memory_of(pool.pid):
        pool.end()
        until(lambda: stat.show("orphan")["state"] == "gone")
        shown = stat.show("orphan")
        assert shown["pid"] == os.getpid()
        assert shown["namespace_pid"] == pool.pid
        assert shown["items"]["ok"] == 3


@needs_root
def test_the_only_pool_needs_no_name_and_namespaces_are_seen_through(
    stat: Stat, start_pool: StartPool
) -> None:
    def in_namespace(command: list[str]) -> list[str]:
        return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *command]

    probe = subprocess.run(in_namespace(["true"]), capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("no pid namespaces here: " + probe.stderr.decode())
    # From outside: the pid is that of this namespace, not the 1 that the pool believes in.
    pool = start_pool("inner", 1, wrap=in_namespace)
    (dispatcher,) = children_of(pool.pid)
    shown = stat.show("inner")
    assert shown["pid"] == dispatcher
    assert shown["namespace_pid"] == 1
    assert shown["state"] == "running"
    # From inside: it is the only pool.
    inside = ["nsenter", "--pid", "--mount", "--target", str(dispatcher)]
    done = subprocess.run(
        [*inside, *stat.command("show", "--json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "inner"
    assert json.loads(done.stdout)["pid"] == 1
    # And without any pool show has nothing to show.
    done = subprocess.run(
        in_namespace(stat.command("show")), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "aiomq-stat: no pool is running\n"


def children_of(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [int(child) for child in children.read().split()]


# ---- permissions ---------------------------------------------------------------------------------


@needs_root
def test_root_sees_the_pools_of_others(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("nobodys", 1, wrap=as_nobody)
    shown = stat.show(pool.pid)
    assert shown["uid"] == NOBODY
    done = stat.run("show", "nobodys", "--json", nobody=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pid"] == pool.pid


@needs_root
def test_a_pool_of_another_user_is_not_shown(stat: Stat, start_pool: StartPool) -> None:
    pool = start_pool("private", 1)
    done = stat.run("list", "--json", nobody=True)
    assert done.returncode == 0
    assert "not permitted to look into" in done.stderr
    assert pool.pid not in [entry["pid"] for entry in json.loads(done.stdout)]
    done = stat.run("show", "private", nobody=True)
    assert done.returncode == 3
    assert "not permitted to look into" in done.stderr


@needs_root
def test_a_titled_worker_of_another_user_is_listed_as_not_permitted(stat: Stat) -> None:
    # Python workers are called "aiomq: <label>/<index>"; everybody may read that.
    with subprocess.Popen(["aiomq: secret/0", "600"], executable="/bin/sleep") as process:
        try:
            done = stat.run("--json", nobody=True)
            (entry,) = [e for e in json.loads(done.stdout) if e["label"] == "secret"]
            assert entry["pid"] == os.getpid()
            assert entry["permitted"] is False
            assert entry["state"] == "not permitted"
            done = stat.run("show", "secret", nobody=True)
            assert done.returncode == 5
            assert "not permitted" in done.stderr
            assert "secret" in stat.run(nobody=True).stdout
        finally:
            process.kill()


@needs_root
def test_a_memfd_that_may_not_be_opened_is_listed_as_not_permitted(stat: Stat) -> None:
    with memfd_holder("aiomq:locked", mode=0, nobody=True) as pid:
        done = stat.run("--json", nobody=True)
        entry = entry_of(json.loads(done.stdout), pid)
        assert (entry["label"], entry["state"]) == ("locked", "not permitted")
        assert stat.run("show", "locked", nobody=True).returncode == 5


def test_what_is_not_a_pools_memory_is_listed_as_unreadable(stat: Stat) -> None:
    with memfd_holder("aiomq:impostor", mode=0o600, nobody=False) as pid:
        entry = entry_of(stat.read("list"), pid)
        assert (entry["label"], entry["state"]) == ("impostor", "unreadable")
        assert entry["problem"]
        done = stat.run("show", "impostor")
        assert done.returncode == 1
        assert entry["problem"] in done.stderr


# ---- command line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["frob"], "'frob'"),
        (["list", "extra"], "'extra'"),
        (["show", "one", "two"], "'two'"),
        (["show", ""], "empty"),
        (["--frob"], "'--frob'"),
        (["list", "-q"], "'-q'"),
        (["--json=5"], "'--json=5'"),
        (["-i"], "'-i'"),
        (["-i", "x"], "'x'"),
        (["-i", "1x"], "'1x'"),
        (["-i", "0"], "'0'"),
        (["-i", "-1"], "'-1'"),
        (["-i", "nan"], "'nan'"),
        (["-i", "inf"], "'inf'"),
        (["-i", "1e99"], "'1e99'"),
        (["-n", "2"], "-n"),
        (["-i", "1", "-n", "0"], "'0'"),
        (["-i", "1", "-n", "-3"], "'-3'"),
        (["-i", "1", "-n", "two"], "'two'"),
        (["tasks", "one", "two"], "'two'"),
        (["events", "one", "two"], "'two'"),
        (["check", "one", ""], "empty"),
        (["tasks", "-i", "1"], "-i"),
        (["show", "-f"], "-f"),
        (["show", "--max-wait", "1"], "--max-wait"),
        (["list", "--max-blocked", "1"], "--max-blocked"),
        (["check", "--json"], "--json"),
        (["check", "--max-wait"], "'--max-wait'"),
        (["check", "--max-wait", "-1"], "'-1'"),
        (["check", "--max-blocked", "soon"], "'soon'"),
    ],
)
def test_bad_usage_names_the_culprit(stat: Stat, arguments: list[str], culprit: str) -> None:
    done = stat.run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert culprit in done.stderr.splitlines()[0]


def test_help_and_version(stat: Stat) -> None:
    done = stat.run("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: aiomq-stat")
    library = ctypes.CDLL(library_of(stat))
    library.aiomq_version.restype = ctypes.c_char_p
    done = stat.run("--version")
    assert done.stdout == f"aiomq-stat {library.aiomq_version().decode()}\n"


def library_of(stat: Stat) -> str:
    """The libaiomq that the tool runs with, as the dynamic loader says."""
    lines = subprocess.run(["ldd", stat.program], capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in lines.splitlines() if "libaiomq.so" in line]
    return line.split("=>")[1].split("(")[0].strip()


def test_a_full_disk_is_an_error(stat: Stat) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            stat.command("--help"), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr


def test_tables_line_up(stat: Stat, start_pool: StartPool) -> None:
    pools: list[PoolProcess] = [start_pool("x", 1), start_pool("a-much-longer-label", 1)]
    lines = stat.run("list").stdout.splitlines()
    pid_end = lines[0].index("PID") + len("PID")
    for pool in pools:
        (line,) = [line for line in lines if f" {pool.pid} " in line]
        assert line[:pid_end].endswith(f" {pool.pid}")
