"""What the Python benchmarks share: the task bodies, and one JSON line per repeat."""

from __future__ import annotations

import json

REPEATS = 5
PROCESSES = 2


async def noop(value: int) -> int:
    return value


def plain_noop(value: int) -> int:
    return value


def report(row: str, side: str, repeat: int, value: float, unit: str) -> None:
    print(
        json.dumps({"row": row, "side": side, "repeat": repeat, "value": value, "unit": unit}),
        flush=True,
    )
