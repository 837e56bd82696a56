"""Board: one shared page per worker, where it adds up how long each function kept it busy.

The dispatcher sizes the chunks of a map by it. Busy time is the sum of the steps that items ran,
not the time that passed: a thousand items that sleep are cheap, and the board says so.

Each worker writes its own page only; the dispatcher only reads. The numbers are hints: nothing is
wrong when one is read late, or when two functions share a cell.
"""

from __future__ import annotations

import mmap
import os

CELLS = 255  # for busy times; one more counts the log records that were dropped
_PAGE_CELLS = CELLS + 1
_PAGE_BYTES = _PAGE_CELLS * 8


class Board:
    """The pages of all workers of a pool."""

    def __init__(self, workers: int) -> None:
        self.fd = os.memfd_create("aiomq-board", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, workers * _PAGE_BYTES)
            self._memory = mmap.mmap(self.fd, workers * _PAGE_BYTES, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self.fd)
            raise
        self._cells = memoryview(self._memory).cast("Q")

    def busy_ns(self, worker: int, function: int) -> int:
        """Nanoseconds that this worker's place has been busy with a function, ever."""
        return self._cells[worker * _PAGE_CELLS + function % CELLS]

    def dropped(self) -> int:
        """How many log records the workers have dropped, ever."""
        return sum(self._cells[CELLS::_PAGE_CELLS])

    def close(self) -> None:
        """Free it; no call may follow."""
        self._cells.release()
        self._memory.close()
        os.close(self.fd)


class Page:
    """A worker's own page of the board."""

    def __init__(self, fd: int, worker: int) -> None:
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        first = worker * _PAGE_CELLS
        self._cells = memoryview(self._memory).cast("Q")[first : first + _PAGE_CELLS]

    def add(self, function: int, busy_ns: int) -> None:
        """Note that a function kept this worker busy."""
        self._cells[function % CELLS] += busy_ns

    def count_dropped(self) -> None:
        """Note that a log record was dropped."""
        self._cells[CELLS] += 1
