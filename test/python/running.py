"""Running programs of their own, for tests about interpreters, exits and main modules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

HERE = Path(__file__).parent


def stop(pid: int) -> None:
    """Stop a process; returns when it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    reaches(pid, b"T")


def reaches(pid: int, state: bytes) -> None:
    """Return when the main thread of a process is in this state of proc(5)."""
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != state:
        assert time.monotonic() < end, f"{pid} does not reach {state!r}"
        time.sleep(0.001)


def run_python(*arguments: str, folder: Path = HERE) -> subprocess.CompletedProcess[str]:
    """Run this interpreter with these arguments."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_script(text: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a text as `python -c`; the modules of this folder can be imported in it."""
    return run_python(*flags, "-c", textwrap.dedent(text))


def write(path: Path, text: str) -> Path:
    """Write a source file, with the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path
