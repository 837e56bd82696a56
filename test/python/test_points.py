"""A Python worker dies at each of its accesses to shared memory; test/points has native ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from running import HERE

_PARTS = 2  # as many as there are processors to run them


def test_a_kill_at_any_access_costs_what_ran_and_nothing_else(tmp_path: Path) -> None:
    build = Path(os.environ["AIOMQ_BUILD_DIR"])
    environment = os.environ | {
        "AIOMQ_LIBRARY_PATH": f"{build}/test/points:{build}/lib/python/codec",
        "LD_LIBRARY_PATH": f"{build}/test/points",
    }
    drivers = [
        subprocess.Popen(
            [sys.executable, "points_driver.py", str(part), str(_PARTS)],
            cwd=HERE,
            env=environment | {"AIOMQ_POINTS": str(tmp_path / f"control-{part}")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part in range(_PARTS)
    ]
    for driver in drivers:
        out, errors = driver.communicate(timeout=300)
        assert driver.returncode == 0, errors[-3000:]
        usual, _ = (int(word) for word in out.split())
        assert usual > 200
