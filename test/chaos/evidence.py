"""Evidence: what each part of the proof has left in build/evidence, made into test/EVIDENCE.md.

A part that wants to be in the report writes build/evidence/NAME.json, see `Evidence`. Parts that
were not run again keep the row that they have, with its date and commit.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("AIOMQ_BUILD_DIR") or ROOT / "build") / "evidence"
REPORT = ROOT / "test" / "EVIDENCE.md"

# Guarantee · models · where each step is enumerated or each case forced · part under random kills.
GUARANTEES = (
    (
        "every item has one outcome, whoever dies",
        "`claim`, `range`, `keyed`",
        "`test/points`, `test/crash`",
        "`mixed`, `history`",
    ),
    (
        "no item starts twice unless retries were asked for",
        "`claim`, `range`, `withdraw`",
        "`test/points`, `test/crash/test_retries.cpp`",
        "`mixed`",
    ),
    (
        "nothing hangs: no wake-up is lost",
        "`claim`, `wake_audit`, `inbox`, `timeout`",
        "`test/points`, `test/orders`, `test/crash/test_wake.cpp`",
        "`mixed`, `soak`",
    ),
    (
        "results and payloads stay what they are while they are read",
        "`loans`, `takeover`",
        "`test/crash/test_loans.cpp`",
        "`mixed`",
    ),
    ("queues lose no capacity", "`ring`, `withdraw`", "`test/points`, `test/unit`", "`history`"),
    (
        "nested work ends, whatever the application does",
        "`nested`",
        "`test/crash/test_nested.cpp`",
        "`mixed`",
    ),
    (
        "nothing is leaked: slots, bytes, descriptors, threads, files, processes",
        "`loans`, `nested`",
        "`test/crash`, `test/faults`",
        "`mixed`, `soak`",
    ),
    ("throughput after deaths is what it was", "", "", "`mixed`, `soak`"),
    (
        "a dispatcher's end leaves nothing behind",
        "",
        "`test/crash/test_dispatcher_death.cpp`",
        "`deaths`",
    ),
    (
        "damaged memory ends as PoolCorrupt",
        "",
        "`test/crash/test_hostile.cpp`, `test/crash/test_checkup.cpp`",
        "`test/fuzz`",
    ),
    ("failing system calls are clean errors", "", "`test/faults`", ""),
)
HEADING = "| part | what | figures | command | seed | when | commit |"


@dataclass
class Evidence:
    """What a run of one part has shown; the fields are the keys of the JSON file."""

    name: str  # one word; a later run with the same name takes its place
    what: str  # one sentence
    figures: dict[str, float | str]  # in the order in which they are to be read
    command: str  # to run it again
    seed: str = ""
    when: str = field(default_factory=lambda: now())
    commit: str = field(default_factory=lambda: commit())

    def save(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (FOLDER / f"{self.name}.json").write_text(text + "\n")

    def row(self) -> str:
        figures = ", ".join(f"{name} {_number(value)}" for name, value in self.figures.items())
        # Seeds that C++ wrote are numbers.
        cells = (
            self.name,
            self.what,
            figures,
            f"`{self.command}`",
            self.seed,
            self.when,
            self.commit,
        )
        return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def now() -> str:
    """Date and time, UTC."""
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M}"


@functools.cache
def commit() -> str:
    """The commit that is checked out, and whether files differ from it."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _old_rows() -> dict[str, str]:
    """Rows of the report as it is, by part."""
    rows: dict[str, str] = {}
    if REPORT.exists():
        lines = REPORT.read_text().splitlines()
        if HEADING in lines:
            for line in lines[lines.index(HEADING) + 2 :]:
                if not line.startswith("| "):
                    break
                rows[line.split("|")[1].strip()] = line
    return rows


def report() -> None:
    """Write test/EVIDENCE.md."""
    rows = _old_rows()
    for path in sorted(FOLDER.glob("*.json")):
        evidence = Evidence(**json.loads(path.read_text()))
        rows[evidence.name] = evidence.row()
    lines = [
        "# Evidence",
        "",
        "Written by `./dev chaos --report` from what the runs have left; do not edit. What was",
        "not run again keeps its row, with the date and the commit of its last run. `dirty`: with",
        "changes that were not committed.",
        "",
        "## Guarantees",
        "",
        "Models are in [test/model](model/README.md), and are checked, with their mutants, by",
        "`./dev test model`.",
        "",
        "| guarantee | models | steps and cases, one by one | at random, see below |",
        "|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in GUARANTEES),
        "",
        "## Runs",
        "",
        HEADING,
        "|---|---|---|---|---|---|---|",
        *(rows[name] for name in sorted(rows)),
    ]
    REPORT.write_text("\n".join(lines) + "\n")
