"""ChunkSizer: how many items of a map go into one chunk, learnt from how busy they keep workers."""

from __future__ import annotations

from aiomq._board import Board

# Busy time in one chunk: long against a round trip, short against a cancel.
TARGET_NS = 1_000_000
MAX_ITEMS = 4096
_MEMORY_NS = 6 * TARGET_NS
# How many times the one before a chunk may be: the first items may not be typical.
_GROWTH = 8


class ChunkSizer:
    """What one pool knows about the cost of one function.

    Follows busy time, never elapsed time: items that sleep are cheap and are packed together. (That
    enough of them are in flight is up to PoolResult.)
    """

    def __init__(self, board: Board, function: int) -> None:
        self._board = board
        self._function = function
        self._seen_ns: dict[int, int] = {}
        self._busy_ns = 0.0
        self._items = 0.0
        self._size = 1

    def observe(self, worker: int, items: int) -> None:
        """Note that a worker finished a chunk, or a part of one, of so many items."""
        busy = self._board.busy_ns(worker, self._function)
        # An unseen worker has worked for this pool only, so all that it did counts.
        self._busy_ns += busy - self._seen_ns.get(worker, 0)
        self._items += items
        self._seen_ns[worker] = busy
        if self._busy_ns <= 0.0 or self._items <= 0.0:
            return
        fitting = TARGET_NS * self._items / self._busy_ns
        self._size = max(1, int(min(fitting, self._size * _GROWTH, MAX_ITEMS)))
        # What is remembered weighs no more than some chunks do, so that the newest count. Small
        # chunks, as at the end of a map, weigh little: most of their time is not their items'.
        if self._busy_ns > _MEMORY_NS:
            self._items *= _MEMORY_NS / self._busy_ns
            self._busy_ns = _MEMORY_NS

    @property
    def size(self) -> int:
        """Items for the next chunk."""
        return self._size
