"""Board: what the processes of a pool count of each function, in memory that they share.

How often it is called, how much travels, where the time goes; and how long it keeps each worker
busy, by which the dispatcher sizes the chunks of a map. (Busy time is the sum of the steps that
items ran, not the time that passed: a thousand items that sleep are cheap.)

The dispatcher and each worker have a table, with a row for each of the pool's first functions and
one that the others share. A table is written by its owner alone, without locks, and read by
anybody at any time, by aiomq-stat too, so the numbers of a moment need not fit each other exactly.
Cells are of 64 bits, little-endian; functions.hpp in the codec and functions.cpp in tools/stat know
this:

    header      MAGIC, number of tables, ROWS, BUCKETS, the dispatcher's pid, the inode of the
                pool's memory
    names       ROWS texts of NAME_BYTES, filled up with zeros
    tables      number 0 is the dispatcher's, 1 + i worker i's; ROWS rows of ROW_CELLS each

Bucket k of a histogram counts times of k bits, in nanoseconds: from 2**(k - 1) to 2**k - 1.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

MAGIC = 0x014452424D4F4941  # "AIOMBRD", 1
ROWS = 256
BUCKETS = 40
NAME_BYTES = 128

# Cells of a row. In the dispatcher FIRST is what encoding takes, SECOND decoding; in a worker FIRST
# is how long a task has waited, SECOND how long a call has run.
CALLS = 0  # tasks in the dispatcher, ended calls in a worker
ERRORS = 1  # in a worker
BYTES_IN, BYTES_OUT = 1, 2  # in the dispatcher
FIRST_NS, SECOND_NS = 3, 4
BUSY_NS = 5  # in a worker
DROPPED = 6  # log records that a worker has dropped; in the last row
FIRST, SECOND = 8, 8 + BUCKETS  # histograms
ROW_CELLS = 8 + 2 * BUCKETS

_NAMES_AT = mmap.PAGESIZE
_TABLES_AT = _NAMES_AT + ROWS * NAME_BYTES
_TABLE_CELLS = ROWS * ROW_CELLS
_TABLE_BYTES = 8 * _TABLE_CELLS


def row_of(function: int) -> int:
    """The row of the function with this number."""
    return min(function, ROWS - 1)


def _table_bytes(number: int) -> int:
    return _TABLES_AT + number * _TABLE_BYTES


class Board:
    """All tables of a pool, in its dispatcher."""

    def __init__(self, workers: int) -> None:
        self.fd = os.memfd_create("aiomq-board", os.MFD_CLOEXEC)
        size = _table_bytes(1 + workers)
        try:
            os.ftruncate(self.fd, size)  # a page comes with its first use
            self._memory = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise
        self._cells = memoryview(self._memory).cast("Q")
        self._workers = workers
        self.names: dict[int, str] = {}  # by row

    def belong_to(self, inode: int) -> None:
        """Write the header: which pool's this is."""
        words = (1 + self._workers, ROWS, BUCKETS, os.getpid(), inode)
        for cell, word in enumerate(words, 1):
            self._cells[cell] = word
        self._cells[0] = MAGIC  # it is complete

    def name(self, function: int, name: str) -> None:
        """Note the name of a function."""
        if function >= ROWS - 1:
            return
        self.names[function] = name
        text = name.encode(errors="replace")[: NAME_BYTES - 1]
        begin = _NAMES_AT + function * NAME_BYTES
        self._memory[begin : begin + len(text)] = text

    def rows(self, row: int) -> list[list[int]]:
        """The cells of a row in every table, the dispatcher's first."""
        first = (_TABLES_AT // 8) + row * ROW_CELLS
        return [
            self._cells[begin : begin + ROW_CELLS].tolist()
            for begin in range(first, len(self._cells), _TABLE_CELLS)
        ]

    def address(self) -> int:
        """Where the dispatcher's own table is, until this is closed."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._memory, _table_bytes(0)))

    def busy_ns(self, worker: int, function: int) -> int:
        """Nanoseconds that this worker's place has been busy with a function, ever."""
        return self._cells[_table_bytes(1 + worker) // 8 + row_of(function) * ROW_CELLS + BUSY_NS]

    def dropped(self) -> int:
        """How many log records the workers have dropped, ever."""
        first = _table_bytes(1) // 8 + (ROWS - 1) * ROW_CELLS + DROPPED
        return sum(self._cells[first::_TABLE_CELLS])

    def close(self) -> None:
        """Free it; no call may follow."""
        self._cells.release()
        self._memory.close()
        os.close(self.fd)


def _count(cells: Any, row: int, histogram: int, total: int, nanoseconds: int) -> None:
    cells[row + histogram + min(nanoseconds.bit_length(), BUCKETS - 1)] += 1
    cells[row + total] += nanoseconds


class Tally:
    """The dispatcher's table, for a codec in Python to write."""

    def __init__(self, address: int) -> None:
        self._cells = (ctypes.c_uint64 * _TABLE_CELLS).from_address(address)

    def encoded(self, function: int, nbytes: int, nanoseconds: int) -> None:
        """Note a task that was submitted."""
        row = row_of(function) * ROW_CELLS
        self._cells[row + CALLS] += 1
        self._cells[row + BYTES_IN] += nbytes
        _count(self._cells, row, FIRST, FIRST_NS, nanoseconds)

    def decoded(self, function: int, nbytes: int, nanoseconds: int) -> None:
        """Note results that have come."""
        row = row_of(function) * ROW_CELLS
        self._cells[row + BYTES_OUT] += nbytes
        _count(self._cells, row, SECOND, SECOND_NS, nanoseconds)


class Page:
    """A worker's own table of the board."""

    def __init__(self, fd: int, worker: int) -> None:
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._begin = _table_bytes(1 + worker)
        first = self._begin // 8
        self._cells = memoryview(self._memory).cast("Q")[first : first + _TABLE_CELLS]

    def address(self) -> int:
        """Where it is in this process, for good."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._memory, self._begin))

    def add(self, function: int, busy_ns: int) -> None:
        """Note that a function kept this worker busy."""
        self._cells[row_of(function) * ROW_CELLS + BUSY_NS] += busy_ns

    def waited(self, function: int, nanoseconds: int) -> None:
        """Note that a task has waited so long for this worker."""
        _count(self._cells, row_of(function) * ROW_CELLS, FIRST, FIRST_NS, nanoseconds)

    def ran(self, function: int, nanoseconds: int) -> None:
        """Note a call that has ended."""
        row = row_of(function) * ROW_CELLS
        _count(self._cells, row, SECOND, SECOND_NS, nanoseconds)
        self._cells[row + CALLS] += 1

    def failed(self, function: int) -> None:
        """Note a call that has raised, or whose result can't be sent."""
        self._cells[row_of(function) * ROW_CELLS + ERRORS] += 1

    def count_dropped(self) -> None:
        """Note that a log record was dropped."""
        self._cells[(ROWS - 1) * ROW_CELLS + DROPPED] += 1
