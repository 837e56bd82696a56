"""Loans: views of a pool's memory that outlive the message in which they came.

The views are of a mapping that the process makes for itself when it wants the first one. Each
refers to its Loan; the block of memory goes back when the last view of it is collected.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from aiomq._mapping import Mapping, memory_of

LENT_SHARE = 4  # of an arena, so much of it is lent at most: a fourth


class Loan:
    """A block of the pool's memory, held while somebody refers to this."""

    def __init__(self, lender: Lender, number: int, nbytes: int) -> None:
        self._lender = lender
        self._number = number
        self._nbytes = nbytes

    def view(self, address: int, nbytes: int) -> memoryview:
        """The bytes at an address of the library's mapping, read-only."""
        return self._lender.view(address, nbytes, self)

    def __del__(self) -> None:
        self._lender.take_back(self._number, self._nbytes)


class Lender:
    """Makes the Loans of one pool in one process, as long as there is memory enough beside them.

    lend() is for one thread. What is lent ends at `most` bytes, beyond which views are copies:
    whoever keeps all results that he gets must not starve the workers.
    """

    def __init__(
        self,
        memory: Callable[..., int],
        handle: int,
        most: int,
        give_back: Callable[[int, int], object],
        borrow: Callable[[int], int] = int,
    ) -> None:
        """`memory` is aiomq_pool_memory() or aiomq_worker_memory(), `handle` what it takes.

        give_back(handle, loan) is called in any thread at any moment; borrow(number) says which
        loan is to be given back for what lend() is asked for.
        """
        self._memory = memory
        self._handle = handle  # 0 once the pool is freed
        self._owner = os.getpid()
        self._left = most
        self._give_back = give_back
        self._borrow = borrow
        self._mapping: Mapping | None = None
        self._start = 0
        self._returned: deque[int] = deque()  # sizes of loans

    def lend(self, number: int, nbytes: int) -> Loan | None:
        """A Loan of what has this number; None if too much is lent. Raises OSError."""
        while self._returned:
            self._left += self._returned.popleft()
        if nbytes > self._left:
            return None
        if self._mapping is None:
            memory = memory_of(self._memory, self._handle)
            self._mapping = Mapping(memory.fd, 0, memory.nbytes, writable=False)
            self._start = memory.start
        loan = Loan(self, self._borrow(number), nbytes)
        self._left -= nbytes
        return loan

    def view(self, address: int, nbytes: int, loan: Loan) -> memoryview:
        """The bytes at an address of the library's mapping; refers to the loan."""
        assert self._mapping is not None
        return self._mapping.view(address - self._start, nbytes, loan)

    def take_back(self, loan: int, nbytes: int) -> None:
        """The last view of a Loan is gone."""
        self._returned.append(nbytes)
        if self._handle and os.getpid() == self._owner:
            self._give_back(self._handle, loan)

    def end(self) -> None:
        """The pool is about to be freed; views stay."""
        self._handle = 0
        self._mapping = None
