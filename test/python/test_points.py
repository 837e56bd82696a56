"""A Python worker dies at each of its accesses to shared memory; test/points has native ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import HERE

sys.path.insert(0, str(HERE.parent / "chaos"))
from evidence import Evidence

_TESTS = 4  # the points of all together; one test with all would take long on a busy machine
_BESIDE = 2  # as many as there are processors to run them
_FLAGS = ["-S", "-m", "points_driver"]  # without site-packages an interpreter starts sooner

lived: dict[int, int] = {}  # points by part


@pytest.mark.parametrize("test", range(_TESTS))
def test_a_kill_at_any_access_costs_what_ran_and_nothing_else(test: int, tmp_path: Path) -> None:
    build = Path(os.environ["AIOMQ_BUILD_DIR"])
    environment = os.environ | {
        "AIOMQ_LIBRARY_PATH": f"{build}/test/points:{build}/lib/python/codec",
        "LD_LIBRARY_PATH": f"{build}/test/points",
    }
    parts = range(test * _BESIDE, (test + 1) * _BESIDE)
    drivers = [
        subprocess.Popen(
            [sys.executable, *_FLAGS, str(part), str(_TESTS * _BESIDE)],
            cwd=HERE,
            env=environment | {"AIOMQ_POINTS": str(tmp_path / f"control-{part}")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part in parts
    ]
    ends = [(driver, *driver.communicate(timeout=100)) for driver in drivers]
    for part, (driver, out, errors) in zip(parts, ends, strict=True):
        assert driver.returncode == 0, errors[-3000:]
        usual, lives = (int(word) for word in out.split())
        assert usual > 200
        lived[part] = lives
    if len(lived) == _TESTS * _BESIDE:
        leave_evidence()


def leave_evidence() -> None:
    Evidence(
        "points-python",
        "a Python worker is killed at each access between idle and idle",
        {"points": sum(lived.values()), "lost, run twice or hung": 0},
        "./dev test python -k points",
        "none: all of them",
    ).save()
