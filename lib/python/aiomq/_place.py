"""Places: memory for arguments that the caller fills where the worker will read it.

A place is a block of the pool's memory with some room in front of its data, where the message of a
call is written that has the data among its arguments; see place.hpp in the codec.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING

from aiomq import _abi_full, _bridge
from aiomq._mapping import PAGE, Mapping, memory_of

if TYPE_CHECKING:
    from aiomq._handle import Handle

lib = _abi_full.lib

_ROOM = 1024  # bytes for the message, at least

# Called by finalizers. The interpreter's lock is held throughout, so that none meets Handle.free().
_free = ctypes.PyDLL(None, handle=lib._handle).aiomq_pool_free
_free.argtypes = lib.aiomq_pool_free.argtypes


class _Block:
    """A block from aiomq_pool_alloc(), which is given back with this."""

    def __init__(self, handle: Handle, address: int) -> None:
        self._handle = handle
        self._address = address
        self.mapping: Mapping | None = None  # of its data, once the codec knows of it

    def __del__(self) -> None:
        if self.mapping is not None and _bridge.NATIVE:
            _bridge.native.remove_place(self.mapping.address)
        if self._handle.address and os.getpid() == self._handle.owner:
            _free(self._handle.address, self._address)


def allocate(handle: Handle, nbytes: int) -> memoryview:
    """Memory to be filled.

    Raises MemoryError if the pool has none now; ValueError if it never has so much; OSError.
    """
    # The data has its pages for itself, and a mapping of its own of them.
    pages = -(-nbytes // PAGE) * PAGE
    address = ctypes.c_void_p()
    outcome = lib.aiomq_pool_alloc(handle.address, _ROOM + PAGE + pages, ctypes.byref(address))
    if outcome == -errno.EMSGSIZE:
        raise _bridge.TooLarge(nbytes).explained("the buffer is", "arguments", handle.arena_bytes)
    if outcome == -errno.ENOMEM:
        raise MemoryError(f"the pool's memory for arguments has no {nbytes} bytes left")
    if outcome < 0 or address.value is None:
        raise OSError(-outcome, lib.aiomq_strerror(outcome).decode())
    block = _Block(handle, address.value)
    memory = memory_of(lib.aiomq_pool_memory, handle.address)
    offset = address.value - memory.start
    begin = -(-(offset + _ROOM) // PAGE) * PAGE
    mapping = Mapping(memory.fd, begin, pages, writable=True)
    view = mapping.view(0, nbytes, block)
    if _bridge.NATIVE:
        _bridge.native.add_place(
            handle.address, address.value, begin - offset, mapping.address, nbytes
        )
        block.mapping = mapping
    return view
