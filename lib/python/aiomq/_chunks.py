"""How many items of a map go into one chunk, learnt from the time that they take."""

from __future__ import annotations

from time import monotonic_ns

from aiomq._board import Board

# Time of one chunk: long against a round trip, short against a cancel.
TARGET_NS = 2_000_000
MAX_ITEMS = 8192
_MEMORY_NS = 6 * TARGET_NS
# Chunks for each worker: one runs, some are being encoded and decoded, and some are for the time, a
# few slices of the scheduler's, that the dispatcher waits where workers take all CPUs.
AHEAD = 6
_MOST_AHEAD = 16  # where MAX_ITEMS keep chunks short
# How many times the one before a chunk may be: the first items may not be typical.
_GROWTH = 8


def shrunk(size: int, left: int, lanes: int) -> int:
    """A chunk's size with so many items left: so that all `lanes` end together."""
    return max(1, size // 4, min(size, left // (2 * lanes)))


class Pace:
    """What is known about the cost of one function."""

    def __init__(self) -> None:
        self._ns = 0.0
        self._items = 0.0
        self._size = 1
        self._ahead = AHEAD

    def note(self, nanoseconds: int, items: int) -> None:
        """So many items took so long."""
        self._ns += nanoseconds
        self._items += items
        if self._ns <= 0.0 or self._items <= 0.0:
            return
        fitting = TARGET_NS * self._items / self._ns
        wanted = min(fitting, self._size * _GROWTH)
        self._size = max(1, int(min(wanted, MAX_ITEMS)))
        self._ahead = max(AHEAD, int(min(AHEAD * wanted / MAX_ITEMS, _MOST_AHEAD)))
        # What is remembered weighs no more than some chunks do, so that the newest count. Small
        # chunks, as at the end of a map, weigh little: most of their time is not their items'.
        if self._ns > _MEMORY_NS:
            self._items *= _MEMORY_NS / self._ns
            self._ns = _MEMORY_NS

    @property
    def size(self) -> int:
        """Items for the next chunk."""
        return self._size

    @property
    def ahead(self) -> int:
        """How many chunks each worker is to have where nothing but its work counts."""
        return self._ahead


class ChunkSizer(Pace):
    """What one pool knows about the cost of one function, from how busy it keeps the workers.

    Follows busy time, never elapsed time: items that sleep are cheap and are packed together. (That
    enough of them are in flight is up to Map.)
    """

    def __init__(self, board: Board, function: int) -> None:
        super().__init__()
        self._board = board
        self._function = function
        self._seen_ns: dict[int, int] = {}

    def observe(self, worker: int, items: int) -> None:
        """Note that a worker finished a chunk, or a part of one, of so many items."""
        busy = self._board.busy_ns(worker, self._function)
        # An unseen worker has worked for this pool only, so all that it did counts.
        self.note(busy - self._seen_ns.get(worker, 0), items)
        self._seen_ns[worker] = busy


class NativeSizer(ChunkSizer):
    """The same for a native function, whose workers do not note how busy they are.

    While more waits for a worker, the time between two of its chunks is what the second one took.
    """

    def observe(self, worker: int, items: int) -> None:
        now = monotonic_ns()
        last = self._seen_ns.get(worker)
        self._seen_ns[worker] = now
        if last is not None:
            self.note(now - last, items)
