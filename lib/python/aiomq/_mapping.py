"""Mapping: a part of a pool's memory, mapped by this process for itself.

The library's own mapping goes with the pool, and forks do not inherit it. This one stays while
there are views of it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import NamedTuple

from aiomq import _abi

PAGE: int = os.sysconf("SC_PAGESIZE")

_PROT_READ, _PROT_WRITE = 1, 2
_MAP_SHARED = 1
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.restype = ctypes.c_int
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Memory(NamedTuple):
    """A pool's memory: its file, and where the library has mapped it."""

    fd: int
    start: int
    nbytes: int


def memory_of(function: Callable[..., int], handle: int) -> Memory:
    """`function` is aiomq_pool_memory() or aiomq_worker_memory(). Raises OSError."""
    start = ctypes.c_void_p()
    size = ctypes.c_uint64()
    fd = function(handle, ctypes.byref(start), ctypes.byref(size))
    if fd < 0:
        raise OSError(-fd, "the pool's memory: " + _abi.lib.aiomq_strerror(fd).decode())
    return Memory(fd, start.value or 0, size.value)


class Mapping:
    """Some pages of a file."""

    def __init__(self, fd: int, offset: int, nbytes: int, writable: bool) -> None:
        """`offset` is a multiple of PAGE. Raises OSError."""
        protection = _PROT_READ | (_PROT_WRITE if writable else 0)
        address = _libc.mmap(None, nbytes, protection, _MAP_SHARED, fd, offset)
        if address == _MAP_FAILED:
            error = ctypes.get_errno()
            raise OSError(error, f"mmap of {nbytes} bytes of the pool: {os.strerror(error)}")
        self.address: int = address
        self._nbytes = nbytes
        self._writable = writable
        self._whole = ctypes.c_char * nbytes

    def view(self, begin: int, nbytes: int, keep: object) -> memoryview:
        """Bytes of it. While somebody has the view it refers to the mapping and to `keep`."""
        whole = self._whole.from_address(self.address)
        whole.keep = self, keep  # type: ignore[attr-defined]
        view = memoryview(whole).cast("B")[begin : begin + nbytes]
        return view if self._writable else view.toreadonly()

    def __del__(self, munmap: Callable[[int, int], int] = _libc.munmap) -> None:
        if hasattr(self, "address"):
            munmap(self.address, self._nbytes)
