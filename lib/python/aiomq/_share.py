"""Share: read-only objects in shared memory, which tasks get by a handle instead of by a copy.

An object stands in a memfd of its own: a header, an index, its pickle, and out of band (protocol 5)
the buffers of its arrays, which are mapped and never copied. A process finds the memfd through the
/proc of the process that shares it, once, and keeps what it unpickled until the owner closes the
object: it says so in the header, where workers look when they have nothing to do.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import pickle
import secrets
import struct
import threading
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

from aiomq import _buffers, _depot

T = TypeVar("T")

_HEADER = struct.Struct("<QQQ")  # token, whether it is closed, bytes of the index that follows
_CLOSED_AT = 8
_ALIGNMENT = 64  # of buffers: a cache line, and what vector units want at most
_F_SEAL_FUTURE_WRITE = 0x10  # Linux 5.1; the fcntl module does not know it
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL

_CLOSED = "this shared object was closed, or its pool has ended"


class _Place(NamedTuple):
    """Where the memory is, and which it is: descriptors are used again."""

    pid: int
    fd: int
    token: int


class Shared(Generic[T]):
    """A read-only object in shared memory, made by Pool.share().

    Pass it to tasks as an argument; get() gives the object there.
    """

    def __init__(self, place: _Place, bytes: int) -> None:
        self._place = place
        self._bytes = bytes
        # In the process that shares it:
        self._close: weakref.finalize[Any, Any] | None = None
        self._home: set[Shared[Any]] = set()  # keeps it alive

    def get(self) -> T:
        """The object.

        It is unpickled once in each process and is the same for all tasks of that, so it must not
        be changed. What numpy arrays and others that pickle protocol 5 knows refer to is mapped,
        read-only, and stays readable after close() for whoever has it.

        Raises RuntimeError if the object was closed or its pool has ended; what unpickling raises.
        """
        with _lock:
            if self._close is not None and not self._close.alive:
                raise RuntimeError(_CLOSED)
            known = _known.get(self._place.token)
            if known is None:
                known = _known[self._place.token] = _Known(_map(self._place))
                _tidy_in_worker()
            value: T = known.value
            return value

    @property
    def nbytes(self) -> int:
        """Bytes of shared memory that the object takes."""
        return self._bytes

    def close(self) -> None:
        """Share it no longer: a task that gets it for the first time in its worker fails.

        The memory is given back when nobody has views of it, and each worker that has got the
        object has run out of tasks once. May be called twice; the pool's end does it, too. Raises
        RuntimeError in a process that does not share the object.
        """
        if self._close is None:
            raise RuntimeError("a shared object can be closed only in the process that shares it")
        self._close()
        self._home.discard(self)

    def __enter__(self) -> Shared[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (*self._place, self._bytes)

    def __repr__(self) -> str:
        closed = self._close is not None and not self._close.alive
        return f"<aiomq.Shared {self._bytes} bytes{' closed' if closed else ''}>"


class _Known:
    """What a process has of a shared object."""

    def __init__(self, memory: mmap.mmap) -> None:
        self.memory = memory
        view = memoryview(memory).toreadonly()
        _, _, size = _HEADER.unpack_from(view)
        parts = pickle.loads(view[_HEADER.size : _HEADER.size + size])
        first, *others = [view[begin:end] for begin, end in parts]
        self.value = pickle.loads(first, buffers=others)

    def closed(self) -> bool:
        return self.memory[_CLOSED_AT] != 0


_known: dict[int, _Known] = {}  # by token
_lock = threading.RLock()  # a class that is unpickled may get a shared object, too


def share(value: T, home: set[Shared[Any]]) -> Shared[T]:
    """Put an object into shared memory; `home` keeps it. Raises as Pool.share()."""
    try:
        made = _buffers.dumps(value)
    except Exception as error:
        name = type(value).__name__
        raise pickle.PicklingError(f"the {name} can't be shared: {error}") from error
    raw = [made] if isinstance(made, bytes) else [made[0], *made[1]]
    index, size = _index([len(part) for part in raw])
    token = secrets.randbits(64)
    fd = os.memfd_create("aiomq-share", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.ENOSPC):
                raise
            raise MemoryError(f"there is no memory to share an object of {size} bytes") from error
        _depot.write(fd, _HEADER.pack(token, 0, len(index)) + index, 0)
        for part, (begin, _) in zip(raw, pickle.loads(index), strict=True):
            _depot.write(fd, part, begin)
        header = mmap.mmap(fd, mmap.PAGESIZE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    shared: Shared[T] = Shared(_Place(os.getpid(), fd, token), size)
    shared._close = weakref.finalize(shared, _end, os.getpid(), fd, token, header)
    shared._home = home
    home.add(shared)
    return shared


def _index(sizes: Sequence[int]) -> tuple[bytes, int]:
    """Where each part begins and ends, pickled, and the size of the whole."""
    room = len(pickle.dumps([(1 << 62, 1 << 62)] * len(sizes), 5))
    end = _HEADER.size + room
    parts = []
    for size in sizes:
        begin = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = begin + size
        parts.append((begin, end))
    return pickle.dumps(parts, 5), max(end, mmap.PAGESIZE)


def _map(place: _Place) -> mmap.mmap:
    """Map the memory. Raises RuntimeError if it is not there any more."""
    try:
        fd = os.open(f"/proc/{place.pid}/fd/{place.fd}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise RuntimeError(_CLOSED) from error
    try:
        memory = mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ)
    except (OSError, ValueError) as error:  # whatever has this number now
        raise RuntimeError(_CLOSED) from error
    finally:
        os.close(fd)
    if len(memory) < _HEADER.size or _HEADER.unpack_from(memory)[:2] != (place.token, 0):
        raise RuntimeError(_CLOSED)
    return memory


def _tidy_in_worker() -> None:
    from aiomq import _pump

    if _pump.current is not None:
        _pump.current.tidy = _forget_closed


def _forget_closed() -> None:
    for token, known in list(_known.items()):
        if known.closed():
            del _known[token]


def _arrived(pid: int, fd: int, token: int, bytes: int) -> Shared[Any]:
    """The handle in a process that has got it."""
    return Shared(_Place(pid, fd, token), bytes)


def _end(owner: int, fd: int, token: int, header: mmap.mmap) -> None:
    """Give back what the owner has. In a child that it forked nobody else's memory ends."""
    if os.getpid() == owner:
        header[_CLOSED_AT] = 1
    header.close()
    os.close(fd)
    _known.pop(token, None)
