"""Depot: a memfd in which a pool leaves bytes for its workers to read, those of later ones too.

First stands what a worker needs to start (`_start.Setup`), then each function that can't be
imported, as a pickle. Nothing in it is ever changed or taken away, so an offset and a size are a
name. Workers inherit a descriptor that they can't write to.
"""

from __future__ import annotations

import os
from typing import Any

NAME = "aiomq-depot"
_WRITE_MOST = 1 << 30  # Linux moves no more than 2 GiB at once

_inherited = -1  # in a worker


class Depot:
    """The dispatcher's side. Not thread-safe."""

    def __init__(self) -> None:
        self._fd = os.memfd_create(NAME, os.MFD_CLOEXEC)
        self._end = 0
        self._known: dict[bytes, tuple[int, int]] = {}  # by digest

    def put(self, data: bytes) -> tuple[int, int]:
        """Leave these bytes, if they are not there yet; returns offset and size."""
        import hashlib  # which workers do without

        digest = hashlib.sha256(data).digest()
        found = self._known.get(digest)
        if found is None:
            write(self._fd, data, self._end)
            found = self._known[digest] = (self._end, len(data))
            self._end += len(data)
        return found

    def reader(self) -> int:
        """A new descriptor, for workers to inherit."""
        try:
            return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no /proc: then one that they can write to
            return os.dup(self._fd)

    def close(self) -> None:
        """Nothing more is to be left. Workers keep what there is."""
        os.close(self._fd)


def write(fd: int, data: Any, offset: int) -> None:
    """Write all bytes of a buffer to a place of a file."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view[:_WRITE_MOST], offset)
        view = view[written:]
        offset += written


def inherit(fd: int) -> None:
    """In a worker: this is the depot."""
    global _inherited
    os.set_inheritable(fd, False)
    _inherited = fd


def read(offset: int, size: int) -> bytes:
    """In a worker: bytes that were left. Moves no offset, which all workers share."""
    parts = []
    while size > 0:
        part = os.pread(_inherited, min(size, _WRITE_MOST), offset)
        if not part:
            raise EOFError("what the pool has left for its workers is cut short")
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)
