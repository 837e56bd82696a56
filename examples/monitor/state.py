"""What a shard of hosts remembers from sweep to sweep: columns of numbers in one mapped file.

The file holds two buffers. A sweep reads the newest one that is older than itself, writes the other
and then marks that as committed, with the sweep's number, as its very last store. So a task that is
killed at any point, or run again although it had finished, starts from the last whole sweep; the
buffer that it reads is never written by it. The kernel keeps the pages of a killed process, in the
order it wrote them: that is what this guards against, not power failure (there is no msync).

One process at a time may have a sweep of a given shard open.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .exposition import Layout

MOST_SERIES: Final = 8192  # of one host; the file is sparse, only what is used takes up space

_MAGIC: Final = int.from_bytes(b"aiomqmo1", "little")
_NEVER: Final = -1
_HEADER_BYTES: Final = 4096
_LAST, _SEEN, _MEAN, _VARIANCE, _COUNT = range(5)
_COLUMNS: Final = 5
_HOST: Final = np.dtype([("silent_for", "<i8"), ("series", "<i8"), ("layout", "S32")])


class StateError(RuntimeError):
    """The file is not one of this shard, or a page has more series than fit."""


class History(NamedTuple):
    """What is known of each series before this sweep; one row is one series."""

    last: NDArray[np.float64]  # the last plausible value; NaN before the first
    seen: NDArray[np.float64]  # the sweep of that value
    mean: NDArray[np.float64]  # baseline: of a counter's rate, of a gauge's value
    variance: NDArray[np.float64]
    sweeps: NDArray[np.float64]  # how many the baseline rests on

    @staticmethod
    def join(parts: list[History]) -> History:
        """The series of several hosts, one after the other."""
        return History(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def rows(self, which: slice | NDArray[np.intp]) -> History:
        return History(*(column[which] for column in self))

    @staticmethod
    def blank(series: int) -> History:
        """Of series that were never seen."""
        return History(
            np.full(series, np.nan), np.full(series, float(_NEVER)), *np.zeros((3, series))
        )


class LayoutStore:
    """Names of the series of each layout ever seen, so that any worker can read any state."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[str, ...]] = {}

    def add(self, layout: Layout) -> str:
        """The layout's key. Written under its final name only when it is whole."""
        key = layout.fingerprint.hex()
        if key not in self._known:
            path = self._folder / f"{key}.series"
            if not path.exists():
                draft = path.with_suffix(f".{os.getpid()}")
                draft.write_text("\n".join(layout.series))
                draft.replace(path)
            self._known[key] = layout.series
        return key

    def series(self, key: str) -> tuple[str, ...]:
        if key not in self._known:
            self._known[key] = tuple((self._folder / f"{key}.series").read_text().split("\n"))
        return self._known[key]


class ShardState:
    """One sweep of one shard: `history` of what was, `store` and `keep` for what is, `commit`."""

    def __init__(self, path: Path, hosts: int, sweep: int, layouts: LayoutStore) -> None:
        self._sweep = sweep
        self._layouts = layouts
        columns_bytes = _COLUMNS * hosts * MOST_SERIES * 8
        buffer_bytes = columns_bytes + -(-hosts * _HOST.itemsize // 4096) * 4096
        memory = _map(path, _HEADER_BYTES + 2 * buffer_bytes)
        self._header: NDArray[np.int64] = np.ndarray(4, np.int64, memory)
        self._check_header(path, hosts)
        self._committed = self._header[2:4]
        older = [mark if mark < sweep else _NEVER for mark in self._committed.tolist()]
        self._is_first = max(older) == _NEVER
        read = int(np.argmax(older))
        columns = []
        host_rows = []
        for buffer in (read, 1 - read):
            at = _HEADER_BYTES + buffer * buffer_bytes
            shape = (_COLUMNS, hosts, MOST_SERIES)
            columns.append(np.ndarray(shape, np.float64, memory, at))
            host_rows.append(np.ndarray(hosts, _HOST, memory, at + columns_bytes))
        self._old, self._new = columns
        self._old_hosts, self._new_hosts = host_rows
        self._write = 1 - read
        self._committed[self._write] = _NEVER

    def _check_header(self, path: Path, hosts: int) -> None:
        if self._header[0] == 0:  # just created, or its creator was killed before it said so
            self._header[1:4] = hosts, _NEVER, _NEVER
            self._header[0] = _MAGIC
        if self._header[0] != _MAGIC or self._header[1] != hosts:
            raise StateError(f"{path} is not the state of {hosts} hosts")

    def silent_for(self) -> NDArray[np.int64]:
        """For how many sweeps each host had been silent before this one."""
        if self._is_first:
            return np.zeros(len(self._old_hosts), np.int64)
        silent_for: NDArray[np.int64] = self._old_hosts["silent_for"].copy()
        return silent_for

    def history(self, host: int, layout: Layout) -> History:
        """What is known of the series on this page, in their order, whatever it was last time."""
        key = b"" if self._is_first else bytes(self._old_hosts[host]["layout"])
        if not key:
            return History.blank(len(layout.series))
        old = History(*self._old[:, host, : self._old_hosts[host]["series"]])
        if key.decode() == layout.fingerprint.hex():
            return old
        before = {name: row for row, name in enumerate(self._layouts.series(key.decode()))}
        blank_row = len(before)
        rows = np.array([before.get(name, blank_row) for name in layout.series], np.intp)
        return History.join([old, History.blank(1)]).rows(rows)

    def store(self, host: int, layout: Layout, history: History) -> None:
        """What will be known of a host that answered."""
        series = len(layout.series)
        if series > MOST_SERIES:
            raise StateError(f"a page of {series} series; {MOST_SERIES} fit")
        for column, values in zip(self._new, history, strict=True):
            column[host, :series] = values
        self._new_hosts[host] = (0, series, self._layouts.add(layout))

    def keep(self, host: int, silent_for: int) -> None:
        """A host that did not answer: what was known of it stays."""
        if self._is_first:
            self._new_hosts[host] = (silent_for, 0, b"")
            return
        self._new_hosts[host] = self._old_hosts[host]
        self._new_hosts[host]["silent_for"] = silent_for
        series = self._old_hosts[host]["series"]
        self._new[:, host, :series] = self._old[:, host, :series]

    def commit(self) -> None:
        """Makes this sweep the last whole one. Nothing may be stored after that."""
        self._committed[self._write] = self._sweep


def _map(path: Path, size: int) -> mmap.mmap:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(handle).st_size != size:
            os.ftruncate(handle, size)
        return mmap.mmap(handle, size)
    finally:
        os.close(handle)


__all__ = ["MOST_SERIES", "History", "LayoutStore", "ShardState", "StateError"]
