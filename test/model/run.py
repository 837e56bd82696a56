#!/usr/bin/env python3
"""Checks the models with Spin: they must hold, and each of their mutants must fail.

Short by default: small numbers of tasks, workers and kills; --exhaustive takes larger ones too, and
leaves the figures in evidence/models.json of the build folder.
Ends with status 77, which Meson counts as skipped, when there is no Spin.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SKIPPED = 77
MOST_MEGABYTES = 3500
MOST_DEPTH = 1_000_000
SHORT_DEPTH = 50_000


@dataclass(frozen=True)
class Model:
    """Numbers to run a model with, and what to take away from it.

    Each entry is "NAME=VALUE NAME …", the preprocessor's definitions.
    """

    short: tuple[str, ...]
    exhaustive: tuple[str, ...]
    mutants: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    model: str
    options: str
    must_fail: bool
    large: bool = False


@dataclass(frozen=True)
class Result:
    run: Run
    trouble: str  # empty: as it should be
    verdict: str
    states: int
    seconds: float


MODELS = {
    "claim": Model(
        short=("TASKS=1", "TASKS=2 WORKERS=1 KILLS=1", "TASKS=3 WORKERS=1"),
        exhaustive=("TASKS=2 KILLS=1", "TASKS=2 WORKERS=1 KILLS=2", "TASKS=3 SLOTS=2"),
        mutants=(
            "BUG_NO_SECOND_LOOK TASKS=1 WORKERS=1",
            "BUG_NO_APP_SECOND_LOOK",
            "BUG_NO_SETTLE",
            "BUG_RELAXED_ANNOUNCE TASKS=1 WORKERS=1",
            "BUG_RELAXED_APP_ANNOUNCE",
            "BUG_RELAXED_LANE",
            "BUG_RELAXED_POP",
            "BUG_RELAXED_PUBLISH TASKS=1 WORKERS=1",
            "BUG_RELAXED_SETTLE",
            "BUG_RESCAN_CLEARED_LATE TASKS=4 WORKERS=1",
            "BUG_CONSUME_IF_DUE TASKS=3 WORKERS=1",
            "BUG_NO_MUTEX TASKS=1 KILLS=1",
            "BUG_NO_REHINT TASKS=1 KILLS=1",
            "BUG_OWNER_LATER TASKS=1 KILLS=1",
            "BUG_NO_WAKE_ALL TASKS=1 KILLS=1",
            "BUG_TRUST_ANNOUNCEMENT TASKS=1 KILLS=1",
        ),
    ),
    "range": Model(
        short=("", "ITEMS=2 RETRIES=1 KILLS=2 CUTS=0", "ITEMS=2 RETRIES=1 LIMIT=1 CUTS=0"),
        exhaustive=(
            "ITEMS=4 CUTS=2 KILLS=2",
            "RETRIES=1 KILLS=2 LIMIT=1",
            "ITEMS=2 RETRIES=2 KILLS=3 LIMIT=1",
        ),
        mutants=(
            "BUG_NEXT_BY_STORE",
            "BUG_END_BY_STORE",
            "BUG_STARTED_BEFORE_NEXT",
            "BUG_NAMED_BEFORE_ZEROED",
            "BUG_NOT_ZEROED",
            "BUG_STALE_BLOCK",
            "BUG_LOST_BEFORE_PUBLISHED",
            "BUG_NO_SKIP RETRIES=1",
            "BUG_RETRIES_BY_ATTEMPT ITEMS=2 RETRIES=1 KILLS=2 CUTS=0",
            "BUG_NOT_COUNTED ITEMS=2 RETRIES=1 KILLS=2 CUTS=0",
            "BUG_EXPIRES_STARTED ITEMS=2 RETRIES=1 LIMIT=1 CUTS=0",
            "BUG_EXPIRES_FROM_START ITEMS=2 RETRIES=1 LIMIT=1 CUTS=0",
        ),
    ),
    "ring": Model(
        short=("VALUES=1 KILLS=1", "PUT VALUES=5 KILLS=1"),
        exhaustive=("VALUES=2 KILLS=1", "VALUES=1 KILLS=2", "PUT VALUES=8 CELLS=4 KILLS=1"),
        mutants=(
            "BUG_UNSIGNED VALUES=1 KILLS=1",
            "BUG_NO_HELP VALUES=1 KILLS=1",
            "BUG_CELL_BY_STORE VALUES=2",
            "BUG_HEAD_BY_STORE VALUES=1",
            "BUG_NO_FULL_CHECK PUT VALUES=5",
            "BUG_NO_PUBLISH_WHEN_FULL PUT VALUES=5",
        ),
    ),
    "withdraw": Model(
        short=("SUBMITS=2 WITHDRAWALS=2",),
        exhaustive=("SUBMITS=4 WITHDRAWALS=2",),
        mutants=(
            "BUG_NO_DRAIN",
            "BUG_WAKE_ONE_QUEUE SUBMITS=4 WITHDRAWALS=2",
            "BUG_NO_GENERATION",
            "BUG_WITHDRAW_BY_STORE",
        ),
    ),
    "wake_audit": Model(
        short=("",),
        exhaustive=("WORKERS=3 TASKS=3",),
        mutants=("BUG_NO_AUDIT", "BUG_AUDIT_ONCE"),
    ),
    "inbox": Model(
        short=("", "MESSAGES=5 CELLS=2"),
        exhaustive=("MESSAGES=20 CELLS=4",),
        mutants=(
            "BUG_NO_SECOND_PUSH",
            "BUG_NO_SECOND_LOOK",
            "BUG_NO_WAITING_LOOK",
            "BUG_RELAXED_HEAD",
            "BUG_TELL_APPLICATION",
        ),
    ),
    "nested": Model(
        short=(
            "LEAVES=1 RESERVED=0 COLLECTS=0",
            "DEPTH=3",
            "KILLS=1 COLLECTS=0",
            "CHAINS=2",
        ),
        exhaustive=(
            "WORKERS=2",
            "WORKERS=2 KILLS=1 COLLECTS=0",
            "WORKERS=2 LEAVES=1 RESERVED=0 COLLECTS=0",
            "CHAINS=2 SLOTS=3 DEPTH=3",
            "DEPTH=3 LEAVES=1 KILLS=2",
            "LEAVES=2 SLOTS=3 RESERVED=0 COLLECTS=0",
        ),
        mutants=(
            "BUG_TELL_APPLICATION COLLECTS=0",
            "BUG_NO_WAITING_LOOK LEAVES=1 RESERVED=0 COLLECTS=0",
            "BUG_NO_SECOND_LOOK LEAVES=1 RESERVED=0 COLLECTS=0",
            "BUG_LEFT_UNTOLD LEAVES=2 SLOTS=3 RESERVED=0 COLLECTS=0",
            "BUG_NO_OUTBOX_LOOK CHAINS=2 RESERVED=0",
            "BUG_NEVER_REFUSE DEPTH=3",
            "BUG_KEEPS_PLACE COLLECTS=0",
            "BUG_ANSWER_LATE MEMORY=1",
            "BUG_KEEPS_ANSWERS KILLS=1",
        ),
    ),
    "loans": Model(
        short=("KILLS=2", "PARTS KEEP"),
        exhaustive=("KILLS=4 KEEP", "PARTS KILLS=4 KEEP"),
        mutants=(
            "BUG_NOT_COUNTED PARTS",
            "BUG_CALLER_NOT_COUNTED KEEP",
            "BUG_MARK_AFTER_DONE",
            "BUG_MARK_STAYS",
            "BUG_NO_LOOK_AT_RETURN",
            "BUG_NOT_FREED_AT_DEATH",
        ),
    ),
    "takeover": Model(
        short=("KILLS=2",),
        exhaustive=("KILLS=4",),
        mutants=(
            "BUG_LIST_AT_DEATH",
            "BUG_ALIVE_FIRST",
            "BUG_INBOX_STAYS",
            "BUG_NO_LIST",
        ),
    ),
    "timeout": Model(
        short=("", "MANY TASKS=2 KILLS=1"),
        exhaustive=("MANY", "KILLS=1", "MANY KILLS=2 RETRIES=2", "MANY TASKS=4 KILLS=1"),
        mutants=(
            "BUG_NO_SECOND_LOOK",
            "BUG_NO_TASK_ID",
            "BUG_NEIGHBOURS_TOO",
            "BUG_STAMP_BESIDE MANY",
            "BUG_UNSTAMPED_IS_UNSTARTED MANY TASKS=1",
            "BUG_NOT_FOR_UNSTARTED TASKS=1",
            "BUG_ALWAYS_SET TASKS=1",
        ),
    ),
    "progress": Model(
        short=("", "LANE=2"),
        exhaustive=("CHUNKS=5 LANE=2",),
        mutants=(
            "BUG_HINT_FIRST",
            "BUG_NAMED_BEFORE_ZEROED",
            "BUG_NO_APP_SECOND_LOOK",
            "BUG_NO_FLUSH",
            "BUG_NO_SETTLE",
            "BUG_RESCAN_DONE_ONLY",
            "BUG_STALE_BLOCK",
        ),
    ),
    "retire": Model(
        short=("ALL ASKS=0 TASKS=1",),
        exhaustive=(
            "TASKS=1 ITEMS=1",
            "TASKS=1",
            "ALL TASKS=1",
            "ALL ASKS=0 ITEMS=1",
            "FOLLOW ITEMS=1",
            "ALL ASKS=0 TASKS=1 KILLS=1",
        ),
        mutants=(
            "BUG_NO_LAST_LOOK TASKS=1 ASKS=2",
            "BUG_NO_SELF_SIGNAL TASKS=1",
            "BUG_LEAVES_RUNNING TASKS=1",
            "BUG_NO_RECOVERY TASKS=1",
            "BUG_FROM_BASE TASKS=1",
            "BUG_RESPAWN_AT_ONCE ALL ASKS=0 TASKS=1",
            "BUG_RESPAWN_WHEN_CLOSING ALL ASKS=0 TASKS=1 KILLS=1",
            "BUG_ONE_IS_ALL TASKS=1",
            "BUG_STARTING_NOT_ASKED ALL TASKS=1",
        ),
    ),
    "keyed": Model(
        short=("KILLS=0", "TASKS=1"),
        exhaustive=("", "FAILS=1 KEYS=2", "TASKS=3 SLOTS=2 KILLS=0 CANCELS=1"),
        mutants=(
            "BUG_NO_REHINT_ON_SPAWN TASKS=1",
            "BUG_ALIVE_LATER TASKS=1",
            "BUG_NO_AVOID TASKS=1 FAILS=1",
            "BUG_NOT_HOME TASKS=1 FAILS=1",
            "BUG_WITHDRAW_BY_STORE TASKS=1 FAILS=1",
            "BUG_NO_NAME TASKS=1 FAILS=1",
            "BUG_NO_GENERATION TASKS=3 SLOTS=2 CANCELS=1 KILLS=0",
            "BUG_LOOK_BEFORE_ANNOUNCE TASKS=1 KILLS=0",
            "BUG_NO_WAITING_LOOK KILLS=0",
            "BUG_NO_SECOND_PUSH KILLS=0",
            "BUG_DROP_WHEN_FULL KILLS=0",
        ),
    ),
}


def output_of(*command: str, folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stdout.strip()[-2000:]}")
    return done.stdout


def number_after(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"no answer from the verifier: {text.strip()[-2000:]}")
    return int(found.group(1))


def verify(run: Run, folder: Path) -> tuple[str, str, int]:
    """Builds and runs one verifier. Returns what is wrong, its verdict, the number of states."""
    source = f"{run.model}.pml"
    shutil.copy(HERE / source, folder)
    definitions = [f"-D{option}" for option in run.options.split()]
    said = output_of("spin", "-a", *definitions, source, folder=folder)
    if "Error" in said:
        raise RuntimeError(said.strip())
    flags = ("-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MOST_MEGABYTES}", "-w")
    output_of(*compiler(run), *flags, "-o", "pan", "pan.c", folder=folder)
    size = (f"-m{MOST_DEPTH}", "-w24") if run.large else (f"-m{SHORT_DEPTH}", "-w18")
    said = output_of("./pan", *size, folder=folder)
    errors = number_after(r"errors: (\d+)", said)
    states = number_after(r"(\d+) states, stored", said)
    complaint = re.search(r"pan:\d+: (.*) \(at depth", said)
    verdict = complaint.group(1) if complaint else "holds"
    if errors == 0 and re.search("max search depth too small|out of memory|memory limit", said):
        return "not all states were seen", verdict, states
    if errors != 0 and not run.must_fail:
        return "an error", f"{verdict}: {trace(source, definitions, folder)}", states
    if errors == 0 and run.must_fail:
        return "the mutant was not noticed", verdict, states
    return "", verdict, states


def compiler(run: Run) -> tuple[str, ...]:
    """For a short run compiling takes longer than the search, unless a quick compiler does it."""
    cc = os.environ.get("CC", "cc")
    if run.large:
        return (cc, "-O2")
    quick = shutil.which("tcc")
    return (quick,) if quick else (cc, "-O0")


def trace(source: str, definitions: list[str], folder: Path) -> str:
    """The steps that lead to an error."""
    said = output_of("spin", "-t", "-p", "-g", *definitions, source, folder=folder)
    return "\n" + said[-12000:]


def execute(run: Run) -> Result:
    start = time.monotonic()
    states = 0
    verdict = ""
    with tempfile.TemporaryDirectory(prefix="aiomq-model-") as folder:
        try:
            trouble, verdict, states = verify(run, Path(folder))
        except RuntimeError as error:
            trouble = str(error)
    return Result(run, trouble, verdict, states, time.monotonic() - start)


def report(result: Result) -> None:
    run = result.run
    print(
        f"{'FAILED' if result.trouble else 'ok':6} {run.model:10} {run.options:44}"
        f" {result.states:>11,} states {result.seconds:6.1f} s  {result.trouble or result.verdict}",
        flush=True,
    )
    if result.trouble and result.verdict:
        print(result.verdict, flush=True)


def leave_evidence(results: list[Result], seconds: float) -> None:
    """Notes what a whole exhaustive run has shown."""
    commit = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    evidence = {
        "name": "models",
        "what": "Spin looks at every order of steps of the models, with kills between any two;"
        " each mutant fails",
        "figures": {
            "models": len({result.run.model for result in results}),
            "runs": sum(not result.run.must_fail for result in results),
            "mutants": sum(result.run.must_fail for result in results),
            "failed": sum(bool(result.trouble) for result in results),
            "states": sum(result.states for result in results),
            "seconds": round(seconds),
        },
        "command": "test/model/run.py --exhaustive",
        "seed": None,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit,
    }
    folder = Path(os.environ.get("AIOMQ_BUILD_DIR", HERE.parents[1] / "build")) / "evidence"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.json").write_text(json.dumps(evidence, indent=2) + "\n")


def chosen_runs(names: list[str], exhaustive: bool) -> list[Run]:
    runs = []
    for name in names or list(MODELS):
        model = MODELS[name]
        runs += [Run(name, options, must_fail=False) for options in model.short]
        if exhaustive:
            runs += [Run(name, options, False, large=True) for options in model.exhaustive]
        runs += [Run(name, options, must_fail=True) for options in model.mutants]
    return runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], metavar="MODEL")
    parser.add_argument(
        "--exhaustive",
        action="store_true",
        default="AIOMQ_STRESS" in os.environ,
        help="the larger numbers too; what AIOMQ_STRESS in the environment asks for",
    )
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    arguments = parser.parse_args()
    if shutil.which("spin") is None:
        print("skipped: there is no spin here; `./dev setup` or `apt install spin` brings it")
        return SKIPPED
    start = time.monotonic()
    results = []
    runs = chosen_runs(arguments.models, arguments.exhaustive)
    with ThreadPoolExecutor(max_workers=arguments.jobs) as pool:
        for result in pool.map(execute, runs):
            report(result)
            results.append(result)
    failed = sum(bool(result.trouble) for result in results)
    seconds = time.monotonic() - start
    if arguments.exhaustive and not arguments.models:
        leave_evidence(results, seconds)
    print(f"{len(runs)} runs, {failed} failed, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
