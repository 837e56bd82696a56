"""The system calls of a Python dispatcher fail while it creates a pool, one after the other."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "chaos"))
from evidence import Evidence

COURSE = Path(__file__).with_name("python_course.py")
LIBRARY = Path(os.environ["AIOMQ_BUILD_DIR"], "test", "faults", "libaiomq_faults.so")
PATIENCE_SECONDS = 110

NO_MEMORY = "MemoryError"
NO_DESCRIPTORS = "OSError [Errno 24] "
NO_PROCESS = "BlockingIOError [Errno 11] "
NO_START = "PoolBroken "


FAULTS: dict[tuple[str, int], set[str]] = {
    ("clone", errno.EAGAIN): {NO_START},
    ("mmap", errno.ENOMEM): {NO_MEMORY, "OSError [Errno 12] "},
    ("fallocate", errno.ENOSPC): {NO_MEMORY},
    ("eventfd", errno.EMFILE): {NO_DESCRIPTORS},
    ("timerfd_create", errno.EMFILE): {NO_DESCRIPTORS},
    ("epoll_ctl", errno.ENOMEM): {NO_MEMORY, NO_START, "OSError [Errno 12] "},
    ("pidfd_open", errno.EMFILE): {NO_DESCRIPTORS, NO_START},
    ("pidfd_open", errno.ENOSYS): set(),
    ("memfd_create", errno.EMFILE): {NO_DESCRIPTORS},
    ("pthread_create", errno.EAGAIN): {NO_PROCESS},
}
WORKS = "works (3, 2)"


@pytest.fixture(scope="module")
def ends() -> dict[str, list[str]]:
    """For each fault, what came of each life."""
    environment = dict(os.environ)
    environment["LD_PRELOAD"] = f"{environment.get('LD_PRELOAD', '')} {LIBRARY}".strip()
    # Python's own memory comes from malloc(3): a fault is for the pool.
    environment["PYTHONMALLOC"] = "malloc"
    done = subprocess.run(
        [sys.executable, str(COURSE), *(f"{name}:{error}" for name, error in FAULTS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        fault, _, end = line.partition(" ")
        found.setdefault(fault, []).append(end)
    leave_evidence(found)
    return found


def is_wanted(end: str, wanted: set[str]) -> bool:
    return end == WORKS or any(map(end.startswith, wanted))


def leave_evidence(found: dict[str, list[str]]) -> None:
    ends = [
        is_wanted(end, wanted)
        for (name, error), wanted in FAULTS.items()
        for end in found.get(f"{name}:{error}", [])
    ]
    Evidence(
        "faults-python",
        "a system call fails while Python creates a pool: an exception or success, nothing left",
        {"faults": len(FAULTS), "failing calls": len(ends), "failed": ends.count(False)},
        "./dev test faults",
        "none: all of them",
    ).save()


@pytest.mark.parametrize(("name", "error"), FAULTS)
def test_a_call_that_fails_is_an_exception_and_nothing_is_left(
    name: str, error: int, ends: dict[str, list[str]]
) -> None:
    wanted = FAULTS[name, error]
    came = ends.get(f"{name}:{error}", [])
    assert came, "the function is never called: nothing was shown"
    for end in came:
        assert is_wanted(end, wanted), end
    assert not wanted or set(came) != {WORKS}
