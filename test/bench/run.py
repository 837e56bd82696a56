"""`./dev bench [--against COMMIT] [NAME…]`: run benchmarks and print one table.

Each benchmark prints one JSON line per repeat and side: {"row", "side", "repeat", "value", "unit"}.
Both sides of a row are measured in the same run, in turn. The table shows medians, the spread
(minimum and maximum) and our median against the other's; what is asked of the ratio stands beside.

With --against, our side of each row is compared with that of another commit, whose built tree
`./dev` makes: its own benchmark programs run in turn with ours, ROUNDS times.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 5
OURS = "aiomq"

# The words of each command; a first one that ends in .py is a script beside this file.
BENCHMARKS = {
    "ring": ["bench_ring"],
    "native": ["bench_native"],
    "cpp": ["bench_cpp"],
    "recovery": ["bench_life", "recovery"],
    "cancel": ["bench_life", "cancel"],
    "limits": ["bench_life", "limits"],
    "map": ["bench_map.py"],
    "apply": ["bench_apply.py"],
    "idle": ["bench_idle.py"],
    "memory": ["bench_memory.py"],
    "python": ["bench_python.py"],
    "http": ["bench_http.py"],
    "talk": ["bench_talk.py"],
}


@dataclass(frozen=True)
class Goal:
    """What a row asks for: our median over the other's at least, or at most, `ratio`."""

    ratio: float
    at_most: bool

    def met(self, ratio: float) -> bool:
        return ratio <= self.ratio if self.at_most else ratio >= self.ratio

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.ratio:g}"


GOALS = {
    ("ring 1P1C", "boost::lockfree::queue"): Goal(1.5, at_most=False),
    ("ring 2P2C", "boost::lockfree::queue"): Goal(1.5, at_most=False),
    ("native no-op, two CPUs", "boost message_queue pair"): Goal(3, at_most=False),
    ("native no-op, one CPU", "boost message_queue pair"): Goal(1, at_most=False),
    ("native round trip, spinning", "bare cache line"): Goal(5, at_most=True),
    ("native round trip, asleep", "bare eventfd"): Goal(1.3, at_most=True),
    ("C++ no-op", "ZeroMQ ipc"): Goal(3, at_most=False),
    ("C++ no-op", "boost message_queue pair"): Goal(4, at_most=False),
    ("C++ no-op", "C ABI"): Goal(0.6, at_most=False),
    ("round trip, spinning", "bare cache line"): Goal(5, at_most=True),
    ("round trip, asleep", "bare eventfd"): Goal(1.3, at_most=True),
    ("1 MiB to a worker", "memcpy"): Goal(0.6, at_most=False),
    ("64 MiB to a worker", "memcpy"): Goal(0.6, at_most=False),
    ("a native worker is ready", "allowed"): Goal(1, at_most=True),
    ("idle native worker", "allowed"): Goal(1, at_most=True),
    ("recovery, 10,000 queued", "allowed"): Goal(1, at_most=True),
    ("cancel, 10,000 queued", "allowed"): Goal(1, at_most=True),
    ("no-op with limits", "without"): Goal(0.9, at_most=False),
    ("map of 1,000,000 ints", "aiomultiprocess"): Goal(25, at_most=False),
    ("apply", "ProcessPoolExecutor"): Goal(0.5, at_most=True),
    ("apply, 99th percentile", "median"): Goal(5, at_most=True),
    ("apply", "aiomultiprocess"): Goal(1 / 40, at_most=True),
    ("idle 10 s", "allowed"): Goal(1, at_most=True),
    ("memory after 10 M tasks", "after 1 M tasks"): Goal(1.05, at_most=True),
    ("peak of a lazy map of 10 M items", "of 100 k"): Goal(1.1, at_most=True),
    ("peak of a lazy map of 10 M items, slow consumer", "of 100 k"): Goal(1.1, at_most=True),
    ("idle worker", "aiomultiprocess"): Goal(1, at_most=True),
    ("HTTP fetches", "bare processes"): Goal(0.9, at_most=False),
    ("HTTP fetches", "aiomultiprocess"): Goal(1, at_most=False),
    ("map of a coroutine, 1 M ints", "aiomultiprocess"): Goal(50, at_most=False),
    ("map of a coroutine, 1 M strings of 30", "aiomultiprocess"): Goal(40, at_most=False),
    ("map of a coroutine that suspends once, 500 k", "asyncio.gather"): Goal(5, at_most=False),
    ("map of a coroutine that suspends once, 500 k", "aiomultiprocess"): Goal(8, at_most=False),
    ("map of a plain function, 1 M ints", "multiprocessing.Pool"): Goal(1.2, at_most=False),
    ("map of a plain function, 1 M ints, isolate=False", "multiprocessing.Pool"): Goal(
        1.5, at_most=False
    ),
    ("map of a plain function, 1 M ints", "ProcessPoolExecutor, chunks of 1"): Goal(
        100, at_most=False
    ),
    ("async for over a map, 100 k", "aiomultiprocess"): Goal(3000, at_most=False),
    ("array of 64 MiB and back", "multiprocessing.Pool"): Goal(20, at_most=False),
    ("array of 64 MiB in Pool.empty()", "one of 64 KiB"): Goal(1.2, at_most=True),
    ("a pool of 2 is ready", "allowed"): Goal(1, at_most=True),
    ("import aiomq", "allowed"): Goal(1, at_most=True),
}


def run(name: str, tree: Path = ROOT) -> list[dict[str, object]]:
    """The lines of one benchmark of a built tree; its stderr goes to ours."""
    program, *arguments = BENCHMARKS[name]
    build = Path(os.environ.get("AIOMQ_BUILD_DIR", ROOT / "build"))
    environment = dict(os.environ)
    if tree != ROOT:  # its library, its Python package
        for variable, value in environment.items():
            environment[variable] = value.replace(str(build), str(tree / "build")).replace(
                f"{ROOT}/lib", f"{tree}/lib"
            )
        build = tree / "build"
    command = (
        [sys.executable, str(tree / "test" / "bench" / program)]
        if program.endswith(".py")
        else [str(build / "test" / "bench" / program)]
    )
    done = subprocess.run(
        command + arguments, stdout=subprocess.PIPE, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        raise SystemExit(f"bench {name} of {tree} failed with status {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def run_against(name: str, tree: Path) -> list[dict[str, object]]:
    """Our side of a benchmark's rows, from this tree and from @tree, in turn."""
    lines = []
    for _ in range(ROUNDS):
        for side, where in ((OURS, ROOT), ("before", tree)):
            lines += [line | {"side": side} for line in run(name, where) if line["side"] == OURS]
    return lines


def human(value: float, unit: str) -> str:
    if unit.endswith("/s"):
        for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if value >= limit:
                return f"{value / limit:.3g} {letter}{unit}"
    return f"{value:.4g} {unit}"


def show(lines: list[dict[str, object]]) -> bool:
    """Prints the rows of a benchmark; False when a goal was missed."""
    sides: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    units: dict[str, str] = {}
    for line in lines:
        sides[str(line["row"])][str(line["side"])].append(float(str(line["value"])))
        units[str(line["row"])] = str(line["unit"])
    all_met = True
    for row, values in sides.items():
        (own, ours), *others = values.items()
        unit = units[row]
        mine = statistics.median(ours)
        spread = f"{human(min(ours), unit)} – {human(max(ours), unit)}"
        for other, theirs in others:
            ratio = mine / statistics.median(theirs)
            goal = GOALS.get((row, other))
            met = goal is None or goal.met(ratio)
            verdict = "" if goal is None else "yes" if met else "NO"
            all_met = all_met and met
            print(
                f"| {row} | {own}: {human(mine, unit)} ({spread}) "
                f"| {other}: {human(statistics.median(theirs), unit)} "
                f"({human(min(theirs), unit)} – {human(max(theirs), unit)}) "
                f"| {ratio:.3g} × | {goal or ''} | {verdict} |",
                flush=True,
            )
    return all_met


def main(names: list[str]) -> int:
    against = None
    if names[:1] == ["--against-tree"]:
        against, names = Path(names[1]).resolve(), names[2:]
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(
            f"unknown benchmark {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr
        )
        return 2
    print(
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.2f}\n"
    )
    print("| row | ours: median (spread) | other: median (spread) | ratio | asked | met |")
    print("| --- | --- | --- | --- | --- | --- |")
    met = [
        show(run_against(name, against) if against else run(name)) for name in names or BENCHMARKS
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
