"""A Python worker dies at each of its accesses to shared memory; test/points has native ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import HERE

_TESTS = 4  # the points of all together; the first has every fourth
_BESIDE = 2  # as many as there are processors to run them


@pytest.mark.parametrize(
    "test",
    [0, *(pytest.param(test, marks=pytest.mark.stress) for test in range(1, _TESTS))],
)
def test_a_kill_at_any_access_costs_what_ran_and_nothing_else(test: int, tmp_path: Path) -> None:
    build = Path(os.environ["AIOMQ_BUILD_DIR"])
    environment = os.environ | {
        "AIOMQ_LIBRARY_PATH": f"{build}/test/points:{build}/lib/python/codec",
        "LD_LIBRARY_PATH": f"{build}/test/points",
    }
    drivers = [
        subprocess.Popen(
            [sys.executable, "points_driver.py", str(part), str(_TESTS * _BESIDE)],
            cwd=HERE,
            env=environment | {"AIOMQ_POINTS": str(tmp_path / f"control-{part}")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part in range(test * _BESIDE, (test + 1) * _BESIDE)
    ]
    for driver in drivers:
        out, errors = driver.communicate(timeout=100)
        assert driver.returncode == 0, errors[-3000:]
        usual, _ = (int(word) for word in out.split())
        assert usual > 200
