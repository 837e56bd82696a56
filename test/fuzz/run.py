"""Runs the fuzz targets, one after the other: run.py [SECONDS] [TARGET…].

What an input found stays in build-fuzz/found, what the fuzzer learnt in build-fuzz/corpus/TARGET,
and the figures in build/evidence/fuzz-TARGET.json. `run.py keep [TARGET…]` brings the smallest part
of what was learnt that reaches the same code into corpus/, which every `./dev test` replays.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TREE = Path(os.environ["AIOMQ_BUILD_DIR"])
FOUND = TREE / "found"
EVIDENCE = HERE.parents[1] / "build" / "evidence"
TARGETS = sorted(path.name for path in (HERE / "corpus").iterdir())
MOST_KEPT = 40
LONGEST = {"codec": 512, "collect": 512, "error": 400, "header": 120, "view": 160}


def runtime(name: str) -> str:
    """A file of the compiler."""
    command = ["clang-14", f"--print-file-name={name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def command_of(target: str) -> tuple[list[str], dict[str, str]]:
    """How a target is started, and its environment."""
    environment = dict(
        os.environ,
        ASAN_OPTIONS="detect_stack_use_after_return=1:allocator_may_return_null=1",
        UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
        ASAN_SYMBOLIZER_PATH=shutil.which("llvm-symbolizer-14") or "",
    )
    if target != "codec":
        return [str(TREE / "test" / "fuzz" / f"fuzz_{target}")], environment
    machine = os.uname().machine
    libraries = (
        str(TREE / "test" / "fuzz" / "libfuzz_engine.so"),  # first: the next has empty hooks
        runtime(f"libclang_rt.asan-{machine}.so"),
        runtime("libstdc++.so.6"),
    )
    # An interpreter leaks by design.
    environment["ASAN_OPTIONS"] += ":detect_leaks=0:verify_asan_link_order=0:quarantine_size_mb=64"
    environment["PYTHONMALLOC"] = "malloc"  # so that the sanitizer sees every object
    environment["AIOMQ_FUZZ_PRELOAD"] = " ".join(libraries)
    # Not of this process and its children, which are not instrumented.
    start = ["sh", "-c", 'LD_PRELOAD=$AIOMQ_FUZZ_PRELOAD exec "$@"', "sh"]
    return [*start, sys.executable, str(HERE / "fuzz_codec.py"), "fuzz"], environment


def number(pattern: str, log: str) -> int:
    """The last one that a log has."""
    found = re.findall(pattern, log)
    return int(found[-1]) if found else 0


def fuzz(target: str, seconds: int) -> bool:
    """One target; False if it found something."""
    learnt = TREE / "corpus" / target
    for folder in (learnt, FOUND, EVIDENCE):
        folder.mkdir(parents=True, exist_ok=True)
    command, environment = command_of(target)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST[target]}",
        f"-artifact_prefix={FOUND}/{target}-",
        "-timeout=20",
        "-len_control=0",  # short ones alone do next to nothing
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
    ]
    log_path = FOUND / f"{target}.log"
    with log_path.open("wb") as log_file:
        status = subprocess.run(
            [*command, *options, str(learnt), str(HERE / "corpus" / target)],
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        ).returncode
    log = log_path.read_text(errors="replace")
    figures = {
        "seconds": seconds,
        "executions": number(r"number_of_executed_units: (\d+)", log),
        "edges_reached": number(r"cov: (\d+)", log),
        "edges": number(r"\((\d+) inline 8-bit counters\)", log),  # also of what it never calls
        "inputs_learnt": len(list(learnt.iterdir())),
        "found": 0 if status == 0 else 1,
    }
    note(target, figures, number(r"INFO: Seed: (\d+)", log))
    print(
        f"{target:8}", "  ".join(f"{name} {value}" for name, value in figures.items()), flush=True
    )
    if status != 0:
        print(f"{log_path}: status {status}; its end:")
        print("\n".join(log.splitlines()[-40:]), flush=True)
    return status == 0


def purpose(target: str) -> str:
    """The first sentence of a target's file."""
    text = (HERE / f"fuzz_{target}.{'py' if target == 'codec' else 'cpp'}").read_text()
    return text.replace("\n// ", " ").strip('/" \n').partition(".")[0]


def note(target: str, figures: dict[str, int], seed: int) -> None:
    """Leaves the figures where a report finds them."""
    commit = subprocess.run(
        ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    evidence = {
        "name": f"fuzz-{target}",
        "what": purpose(target),
        "figures": figures,
        "command": f"./dev chaos fuzz {figures['seconds']} {target}",
        "seed": str(seed),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit,
    }
    (EVIDENCE / f"fuzz-{target}.json").write_text(json.dumps(evidence, indent=2) + "\n")


def reached(control: Path) -> dict[Path, set[int]]:
    """Which edges each input reaches, from what libFuzzer notes while it merges."""
    lines = control.read_text().splitlines()
    count = int(lines[0])
    files = [Path(line) for line in lines[2 : 2 + count]]
    edges: dict[Path, set[int]] = {}
    for line in lines[2 + count :]:
        kind, *numbers = line.split()
        if kind == "COV":
            edges[files[int(numbers[0])]] = set(map(int, numbers[1:]))
    return edges


def few_that_reach_most(edges: dict[Path, set[int]]) -> list[Path]:
    """Greedily the input with the most new edges, the smaller one of equals."""
    chosen: list[Path] = []
    seen: set[int] = set()
    while len(chosen) < MOST_KEPT:
        best = max(edges, key=lambda path: (len(edges[path] - seen), -path.stat().st_size))
        if edges[best] <= seen:
            break
        chosen.append(best)
        seen |= edges[best]
    return chosen


def keep(target: str) -> None:
    """Makes corpus/TARGET of what was learnt."""
    kept, learnt = HERE / "corpus" / target, TREE / "corpus" / target
    command, environment = command_of(target)
    with tempfile.TemporaryDirectory() as folder:
        empty, control = Path(folder) / "merged", Path(folder) / "control"
        empty.mkdir()
        subprocess.run(
            [*command, "-merge=1", f"-merge_control_file={control}", empty, kept, learnt],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        for path in few_that_reach_most(reached(control)):
            if not path.name.startswith("found-"):
                shutil.copy(path, empty / ("kept-" + path.name.removeprefix("kept-")[:12]))
        for path in kept.iterdir():
            if not path.name.startswith("found-"):  # these are regression tests
                path.unlink()
        for path in empty.glob("kept-*"):
            shutil.copy(path, kept)
    print(f"{target}: {len(list(kept.iterdir()))} files")


def main() -> int:
    """As the module's text says."""
    arguments = sys.argv[1:]
    keeping = bool(arguments) and arguments[0] == "keep"
    if keeping:
        arguments = arguments[1:]
    seconds = 60
    if arguments and arguments[0].isdigit():
        seconds = int(arguments.pop(0))
    unknown = set(arguments) - set(TARGETS)
    if unknown:
        print(f"no such target: {', '.join(sorted(unknown))} ({', '.join(TARGETS)})")
        return 2
    chosen = arguments or TARGETS
    if keeping:
        for target in chosen:
            keep(target)
        return 0
    return 0 if all([fuzz(target, seconds) for target in chosen]) else 1


if __name__ == "__main__":
    sys.exit(main())
