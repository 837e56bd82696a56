"""What all Python tests share: async tests, a limit against hanging, nothing left behind, seeds."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import inspect
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Under a sanitizer everything takes longer.
HANG_SECONDS = 120 * float(os.environ.get("AIOMQ_TEST_SLOW", "1"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def test_…` in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), HANG_SECONDS - 10))
    return True


def children() -> set[int]:
    """The pids of this process's children, zombies included."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_bytes()
            except OSError:
                continue
            if int(stat.rpartition(b")")[2].split()[1]) == os.getpid():
                found.add(int(entry))
    return found


def open_fds() -> dict[str, str]:
    """The open descriptors and what they are."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fail the test that hangs, or that leaves a process or a descriptor behind."""
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    before, fds = children(), open_fds()
    yield
    faulthandler.cancel_dump_traceback_later()
    gc.collect()
    assert children() - before == set(), "processes left behind"
    grown = {fd: what for fd, what in open_fds().items() if fd not in fds}
    assert not grown, f"descriptors left open: {grown}"


@pytest.fixture
def rng() -> random.Random:
    """Random numbers; the seed is printed and can be given back in AIOMQ_TEST_SEED."""
    seed = int(os.environ.get("AIOMQ_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"AIOMQ_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(params=["asyncio", "uvloop"], scope="module")
def loop_initializer(request: pytest.FixtureRequest) -> Callable[[], Any] | None:
    """What to give a Pool for each kind of loop."""
    if request.param == "asyncio":
        return None
    uvloop = pytest.importorskip("uvloop")
    made: Callable[[], Any] = uvloop.new_event_loop
    return made


@pytest.fixture(params=["native", "pure"], scope="module")
def bridge(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test with both item loops: workers started meanwhile use that one."""
    from aiomq import _bridge

    if request.param == "native" and not _bridge.NATIVE:
        pytest.skip("libaiomq_py is not there for this interpreter")
    before = os.environ.pop("AIOMQ_PURE", None)
    if request.param == "pure":
        os.environ["AIOMQ_PURE"] = "1"
    yield request.param
    os.environ.pop("AIOMQ_PURE", None)
    if before is not None:
        os.environ["AIOMQ_PURE"] = before
