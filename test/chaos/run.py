#!/usr/bin/env python3
"""Runs the parts of `./dev chaos` that have figures, and notes them for the report."""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from evidence import FOLDER, REPORT, Evidence, commit, report

PLOTTED = 300  # samples at most

HERE = Path(__file__).resolve().parent
PROGRAM = Path(os.environ.get("AIOMQ_BUILD_DIR", "build")) / "test" / "chaos" / "chaos"

WHAT = {
    "mixed": "native and Python groups under the mixed load while workers are killed, stopped and"
    " continued at random; every execution is in a ledger, which is compared with the outcomes",
    "deaths": "dispatchers under the same load, killed at random moments; looked for after 1 s:"
    " processes, shared memory, files",
    "soak": "a steady load with a kill now and then; early is the median of the second quarter of"
    " the time, late that of the last",
}


def run(part: str, seed: int, shown: list[str], *hidden: str) -> bool:
    """One part; its figures are noted also when they are bad."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        words = [os.fspath(PROGRAM), part, "--seed", str(seed), *shown, *hidden]
        words += ["--python", sys.executable, "--folder", os.fspath(HERE)]
        status = subprocess.run([*words, "--json", os.fspath(figures)], check=False).returncode
        if figures.exists():
            command = f"./dev chaos --only {part} --seed {seed} {' '.join(shown)}".rstrip()
            Evidence(part, WHAT[part], json.loads(figures.read_text()), command, str(seed)).save()
    return status == 0


def plot(table: Path, picture: Path) -> None:
    """One small diagram for each column, over time; of an hour every third sample or so."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with table.open() as file:
        rows = list(csv.DictReader(file))
    rows = rows[:: -(-len(rows) // PLOTTED)]
    names = [name for name in rows[0] if name != "seconds"]
    times = [float(row["seconds"]) / 60 for row in rows]
    figure, places = pyplot.subplots(-(-len(names) // 2), 2, figsize=(11, 14), sharex=True)
    for place, name in zip(places.flat, names, strict=False):
        place.plot(times, [float(row[name]) for row in rows], linewidth=0.8)
        place.set_title(name, fontsize=9)
        place.set_ylim(bottom=0)
    figure.supxlabel("minutes")
    figure.tight_layout()
    figure.savefig(picture)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, help="how long the load, or the soak, lasts")
    parser.add_argument("--kills", type=int, help="go on until so many workers were killed")
    parser.add_argument("--rounds", type=int, default=200, help="dispatchers to be killed")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--soak", action="store_true", help="a steady load, an hour by default")
    parser.add_argument("--only", choices=sorted(WHAT), action="append", help="only this part")
    parser.add_argument("--report", action="store_true", help="write test/EVIDENCE.md, run nothing")
    options = parser.parse_args()
    commit()  # the one that is here now, not the one after hours
    if options.report:
        report()
        print(f"wrote {REPORT}")
        return 0
    seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    parts = options.only or (["soak"] if options.soak else ["mixed", "deaths"])
    good = True
    for part in parts:
        print(f"\n== {part}", flush=True)
        if part == "mixed":
            kills = options.kills if options.kills is not None else 10_000
            shown = ["--seconds", f"{options.seconds or 60:g}", "--kills", str(kills)]
            good &= run(part, seed, shown, "--rate", "400")
        elif part == "deaths":
            good &= run(part, seed, ["--rounds", str(options.rounds)])
        else:
            FOLDER.mkdir(parents=True, exist_ok=True)
            table = FOLDER / "soak.csv"
            shown = ["--seconds", f"{options.seconds or 3600:g}"]
            good &= run(part, seed, shown, "--csv", os.fspath(table))
            plot(table, REPORT.parent / "EVIDENCE-soak.svg")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
