"""Fixtures for the tests of aiomq-stat."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pool_process import (
    LIBRARY,
    PoolProcess,
    StartPool,
    Stat,
    compile_pool_fixture,
    find_stat,
    library_dir,
)


@pytest.fixture(scope="session")
def public_folder() -> Iterator[Path]:
    """The library and the tool where every user can run them; a build tree may be private."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for file in (library_dir() / LIBRARY, Path(find_stat())):
            shutil.copy(file, folder)
        yield Path(folder)


@pytest.fixture(scope="session")
def stat(public_folder: Path) -> Stat:
    return Stat(find_stat(), public_folder)


@pytest.fixture(scope="session")
def pool_program(public_folder: Path) -> str:
    """pool_fixture, where every user can run it."""
    program = public_folder / "pool_fixture"
    compile_pool_fixture(program)
    return str(program)


@pytest.fixture
def start_pool(pool_program: str) -> Iterator[StartPool]:
    """start_pool("label", 2, …, wrap=…) gives a running pool that ends with the test."""
    started: list[PoolProcess] = []

    def start(
        *labels_and_workers: str | int, wrap: Callable[[list[str]], list[str]] | None = None
    ) -> PoolProcess:
        command = [pool_program, *map(str, labels_and_workers)]
        started.append(PoolProcess(wrap(command) if wrap else command))
        return started[-1]

    yield start
    for pool in started:
        pool.end()
