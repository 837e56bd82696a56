#!/usr/bin/env python3
"""Shows that test_points can fail: breaks the core in one place, and it must.

Each mutant is the instrumented library with one passage of lib/core changed. Other tests hardly
notice these: respawn and the wake audit repair what they break, or a random kill seldom meets them.
A run of all leaves its figures in evidence/points-mutants.json of the build folder.

Usage: mutants.py BUILD_FOLDER [NAME...]
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TEST = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TEST / "chaos"))
from evidence import Evidence  # noqa: E402

CORE = TEST.parent / "lib" / "core"
TIMEOUT = 600  # seconds: each hang that is found takes 20


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    tests: str  # that must fail


MUTANTS = (
    Mutant(
        "no-second-look",
        "worker_wait.cpp",
        "if (std::exchange(answers_unseen_, false) || something_there(wants_tasks)) {",
        "if (std::exchange(answers_unseen_, false)) {",
        "*WhatComes*",
    ),
    Mutant("no-wake-all", "recovery.cpp", "    pool.locked_wake_everyone();\n", "", "*Swallowed*"),
    Mutant("no-re-hint", "recovery.cpp", "    pool.locked_rehint();\n", "", "*Swallowed*"),
    Mutant(
        "trust-announcement",
        "recovery.cpp",
        "    pool.locked_wake_application_anyway();\n",
        "    pool.wake_application();\n",
        "*Swallowed*",
    ),
    Mutant(
        "stale-block",
        "slots.hpp",
        "    slot.block_offset.store_relaxed(0);\n",
        "",
        "*AKillAt*",
    ),
    Mutant(
        "owner-later",
        "slots.hpp",
        """    if (!slot.word.compare_exchange(found, claimed.bits())) return false;
    ret_word = claimed;
    return true;
}

/// READY with @generation""",
        """    const SlotWord other = word.claimed_by(worker, incarnation + 1);
    if (!slot.word.compare_exchange(found, other.bits())) return false;
    slot.word.store_release(claimed.bits());
    ret_word = claimed;
    return true;
}

/// READY with @generation""",
        "*AKillAt*",
    ),
    Mutant(
        "outcome-before-value",
        "worker_finish.cpp",
        "        outcome.value.store_relaxed(static_cast<std::uint64_t>(item.value.integer));\n",
        """        outcome.head.store_release(head.pack());
        outcome.value.store_relaxed(static_cast<std::uint64_t>(item.value.integer));
""",
        "*AKillAt*",
    ),
)


class Builder:
    """Compiles what a mutant changes and links it with the rest of the instrumented library."""

    def __init__(self, build: Path) -> None:
        self.build = build
        self.objects = {
            Path(entry["file"]).name: entry
            for entry in json.loads((build / "compile_commands.json").read_text())
            if "libpoints_core.a.p" in entry["output"]
        }
        deps = subprocess.run(
            ["ninja", "-C", str(build), "-t", "deps"], capture_output=True, text=True, check=True
        ).stdout
        self.deps = {
            block.split(":", 1)[0]: block for block in deps.split("\n\n") if "points_core" in block
        }
        links = subprocess.run(
            ["ninja", "-C", str(build), "-t", "commands", "test/points/libaiomq.so.0"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        self.link = links.splitlines()[-1]

    def library(self, mutant: Mutant) -> Path:
        """The folder with the mutant's libaiomq.so.0."""
        folder = self.build / "test" / "points" / "mutants" / mutant.name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(CORE, folder / "core")
        changed = folder / "core" / mutant.file
        text = changed.read_text()
        if text.count(mutant.old) != 1:
            sys.exit(f"{mutant.name}: its passage is not in {mutant.file} once")
        changed.write_text(text.replace(mutant.old, mutant.new))
        objects = [
            self.compile(source, entry, folder)
            if source == mutant.file or f"/{mutant.file}" in self.deps[entry["output"]]
            else entry["output"]
            for source, entry in self.objects.items()
        ]
        archive = folder / "libpoints_core.a"
        self.run(["ar", "rcs", str(archive), *objects])
        link = self.link.replace("test/points/libpoints_core.a", str(archive))
        self.run(shlex.split(link.replace("-o test/points/", f"-o {folder}/")))
        return folder

    def compile(self, source: str, entry: dict[str, str], folder: Path) -> str:
        target = str(folder / (source + ".o"))
        arguments = shlex.split(entry["command"])
        arguments = [
            target
            if argument == entry["output"]
            else str(folder / "core" / source)
            if argument == entry["file"]
            else argument
            for argument in arguments
        ]
        self.run(arguments)
        return target

    def run(self, command: list[str]) -> None:
        subprocess.run(command, cwd=self.build, check=True)


def is_noticed(build: Path, folder: Path, mutant: Mutant) -> bool:
    log = folder / "log"
    with log.open("w") as out:
        ended = subprocess.run(
            [
                str(build / "test" / "points" / "test_points"),
                f"--gtest_filter={mutant.tests}",
            ],
            # Without a build folder: the figures of a mutant are no evidence.
            env=os.environ | {"LD_LIBRARY_PATH": str(folder), "AIOMQ_BUILD_DIR": ""},
            stdout=out,
            stderr=out,
            timeout=TIMEOUT,
            check=False,
        )
    return ended.returncode != 0


def try_out(builder: Builder, mutant: Mutant) -> bool:
    folder = builder.library(mutant)
    start = time.monotonic()
    noticed = is_noticed(builder.build, folder, mutant)
    verdict = "noticed" if noticed else "SURVIVED"
    print(f"{mutant.name:20} {verdict} ({time.monotonic() - start:.0f} s)", flush=True)
    return noticed


def main() -> int:
    build = Path(sys.argv[1]).resolve()
    names = sys.argv[2:]
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        sys.exit(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    builder = Builder(build)
    start = time.monotonic()
    # Each mostly waits for a hang.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        noticed = list(pool.map(lambda mutant: try_out(builder, mutant), chosen))
    if not names:
        Evidence(
            "points-mutants",
            "the core broken in one place: test/points notices",
            {
                "mutants": len(noticed),
                "noticed": sum(noticed),
                "seconds": round(time.monotonic() - start),
            },
            "test/points/mutants.py build",
            "none: all of them",
        ).save()
    return 0 if all(noticed) else 1


if __name__ == "__main__":
    sys.exit(main())
