"""Stuck: where a task was when its time ran out, told by the worker that is killed for it.

A worker that does not come back from a task can't be asked by anything but a signal. Before it
kills one, the supervisor sends SIGNAL; faulthandler then writes the stack of the main thread, from
C and without running Python, into the worker's own region of a memfd that the dispatcher reads.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import traceback
from types import FrameType
from typing import Any

# One that nothing else is known to use; the program that a worker runs may not use it either.
SIGNAL: int = signal.SIGRTMIN + 7
_REGION_BYTES = 1 << 16  # faulthandler writes a hundred frames at most
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Stacks:
    """The regions of all workers of a pool. Sparse: only what was written takes memory."""

    def __init__(self, workers: int) -> None:
        self.fd = os.memfd_create("aiomq-stacks", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, workers * _REGION_BYTES)
        except BaseException:
            os.close(self.fd)
            raise

    def take(self, worker: int) -> str:
        """What a worker has written, without the frames that are ours; "" if it wrote nothing."""
        place = worker * _REGION_BYTES
        written = os.pread(self.fd, _REGION_BYTES, place).partition(b"\0")[0]
        os.pwrite(self.fd, bytes(len(written)), place)
        lines = []
        for line in written.decode("utf-8", "replace").splitlines():
            if _HERE in line:
                break  # the innermost frame comes first, so only ours follow
            lines.append(line)
        return "\n".join(lines)

    def close(self) -> None:
        """Free them; no call may follow."""
        os.close(self.fd)


def answer_signal(fd: int, worker: int) -> None:
    """In a worker: write the stack to the worker's region when SIGNAL comes."""
    with contextlib.suppress(OSError):  # no /proc: then without
        # A description of its own, because the offset belongs to that.
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        os.lseek(own, worker * _REGION_BYTES, os.SEEK_SET)
        faulthandler.register(SIGNAL, own, all_threads=False, chain=False)


def waiting_stack(coroutine: Any) -> str:
    """Where a suspended coroutine, and what it awaits, stand; the innermost frame is last."""
    frames: list[FrameType] = []
    while coroutine is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(coroutine, kind + "_frame", None)
            if frame is not None:
                frames.append(frame)
                inner = "gi_yieldfrom" if kind == "gi" else kind + "_await"
                coroutine = getattr(coroutine, inner, None)
                break
        else:
            break
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
    return "".join(summary.format())
