"""Imported in a worker it waits at the gate that AIOMQ_TEST_GATE names."""

from __future__ import annotations

import os

import gate

if path := os.environ.get("AIOMQ_TEST_GATE"):
    gate.through_blocking(path, "import")


async def touch(path: str) -> None:
    with open(path, "w"):
        pass
