"""Handle: what a pool holds of the system, and how it is given back, whatever happened before."""

from __future__ import annotations

import asyncio
import ctypes
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiomq import _abi_full, _bridge
from aiomq._loans import LENT_SHARE, Lender

if TYPE_CHECKING:
    from aiomq._create import Started
    from aiomq._share import Shared

lib = _abi_full.lib


class Handle:
    """What has to be given back, also when the dispatcher is gone or the interpreter ends."""

    def __init__(self, started: Started) -> None:
        self.address = started.address
        self.label = started.label
        self.arena_bytes = started.arena_bytes
        self.board = started.board
        self.stacks = started.stacks
        self.depot = started.depot
        self.logs = started.logs
        self.log = started.log  # the callback that C calls: it has to live as long as the pool
        self.owner = os.getpid()
        self.fd: int = lib.aiomq_pool_fd(started.address)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.shares: set[Shared[Any]] = set()
        self.board.belong_to(os.fstat(lib.aiomq_pool_memory(self.address, None, None)).st_ino)
        _bridge.set_table(self.address, self.board.address())
        # The interpreter's lock is held throughout a release, so that none meets free().
        release = ctypes.PyDLL(None, handle=lib._handle).aiomq_pool_release
        release.argtypes = lib.aiomq_pool_release.argtypes
        self.lender = Lender(
            lib.aiomq_pool_memory, started.address, self.arena_bytes // LENT_SHARE, release
        )

    def bind(self, loop: asyncio.AbstractEventLoop, reader: Callable[[], None]) -> None:
        """Have the loop call `reader` when the pool has something, and read what workers log."""
        loop.add_reader(self.fd, reader)
        if self.logs is not None:
            loop.add_reader(self.logs.fd, self.logs.read)
        self.loop = loop

    def free(self) -> None:
        """Destroy the pool: kills workers that still run, takes milliseconds."""
        if self.loop is not None and not self.loop.is_closed() and os.getpid() == self.owner:
            self.loop.remove_reader(self.fd)
            if self.logs is not None:
                self.loop.remove_reader(self.logs.fd)
        self.lender.end()
        _bridge.set_table(self.address, 0)
        address = ctypes.c_void_p(self.address)
        self.address = 0
        lib.aiomq_pool_destroy(ctypes.byref(address))
        if self.logs is not None:
            if os.getpid() == self.owner:
                self.logs.read_rest()
            self.logs.close()
        self.board.close()
        self.stacks.close()
        self.depot.close()
        for shared in list(self.shares):
            shared.close()

    def abandon(self) -> None:
        """For a pool that nobody closed."""
        if os.getpid() != self.owner:
            self.free()
            return
        warnings.warn(f"unclosed pool {self.label!r}", ResourceWarning, stacklevel=2)
        loop = self.loop
        if loop is None or not loop.is_running() or loop is asyncio._get_running_loop():
            self.free()
        else:  # the garbage was collected in another thread than the loop's
            loop.call_soon_threadsafe(self.free)
