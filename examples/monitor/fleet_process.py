"""The fleet server as a child process: what is to be monitored."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Final

_BUILT: Final = Path("build/examples/monitor/aiomq-demo-fleet")


class FleetError(RuntimeError):
    """The fleet is not built, did not start, or is not there."""


def find_fleet() -> Path:
    """The fleet's program: AIOMQ_FLEET, or where the build puts it. Raises FleetError."""
    root = Path(__file__).resolve().parents[2]
    path = Path(os.environ.get("AIOMQ_FLEET") or root / _BUILT)
    if not path.exists():
        raise FleetError(f"{path} does not exist: ./dev build makes it, AIOMQ_FLEET names another")
    return path


class Fleet:
    """A running fleet. It ends with the `with` block, and with this process however that ends."""

    def __init__(self, hosts: int, sweeps: int, seed: int, samples: int = 2500) -> None:
        numbers = {"hosts": hosts, "sweeps": sweeps, "seed": seed, "samples": samples}
        options = [f"--{name}={number}" for name, number in numbers.items()]
        self._process = subprocess.Popen(
            [find_fleet(), *options, f"--parent={os.getpid()}"], stdout=subprocess.PIPE
        )
        assert self._process.stdout
        ready = self._process.stdout.readline()
        if not ready:
            raise FleetError(f"the fleet ended at once, with status {self._process.wait()}")
        self.url = f"http://127.0.0.1:{json.loads(ready)['port']}"

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


def fleet_stats(url: str) -> dict[str, float]:
    """What the fleet at `url` has used and served so far."""
    stats: dict[str, float] = _get(f"{url}/fleet/stats")
    return stats


def fleet_truth(url: str) -> list[dict[str, Any]]:
    """Every anomaly that the fleet at `url` was told to show."""
    truth: list[dict[str, Any]] = _get(f"{url}/fleet/truth")
    return truth


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        raise FleetError(f"no fleet at {url}: {error}") from error
