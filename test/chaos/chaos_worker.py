"""What a Python worker of the mixed load does; order.hpp says what the deeds are.

Writes the same ledger as the native workers (ledger.hpp): change both.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import struct
import time
from typing import Any

import aiomq
from aiomq import _abi, _pump

BEGIN, END, STOPPED, WRONG = 1, 2, 3, 4
ECHO, SPIN, NAP, NEST, STUCK, FAIL, DIE, RETAIN = range(8)
MAGIC = 0x736F616863716D61
NESTED = 1 << 63
MASK = 0x5BD1E995
INTEGER = 2**64 - 1
ORDER = struct.Struct("<QQQQQQIIQ")
ANSWER = struct.Struct("<QQII")
ENTRY = struct.Struct("<QIIQQ")
RING_ENTRIES = 1 << 15
RING_BYTES = 128 + 32 * RING_ENTRIES
TEXT_WINDOW = 1 << 20
TEXT_BYTES = TEXT_WINDOW + (5 << 20)
LEDGER_FD = 3  # of the pool's extra_fds

assert ORDER.size == 64 and ANSWER.size == 24 and ENTRY.size == 32


class Ledger:
    """The worker's own ring of the ledger, and the text."""

    def __init__(self) -> None:
        assert _pump.current is not None
        worker = _abi.lib.aiomq_worker_index(_pump.current.worker)
        inherited = _abi.EXTRA_FD_BASE + LEDGER_FD
        self._memory = mmap.mmap(inherited, 0)
        os.close(inherited)  # the mapping keeps a descriptor of its own
        self.text = self._memory[:TEXT_BYTES]
        self._start = TEXT_BYTES + worker * RING_BYTES
        # One store of eight bytes each: the reader must not see half of one.
        self._words = memoryview(self._memory).cast("Q")
        self._head = self._start // 8
        self._tail = self._head + 8
        self._run = 0
        self.children = 0

    def next_run(self) -> int:
        """A number for one execution."""
        self._run += 1
        return os.getpid() << 32 | self._run

    def write(self, key: int, item: int, what: int, run: int, detail: int | None = None) -> None:
        """Append one entry. Detail: the time, where there is nothing else to say."""
        if detail is None:
            detail = time.monotonic_ns()
        head = self._words[self._head]
        while head - self._words[self._tail] >= RING_ENTRIES:
            time.sleep(0)
        place = self._start + 128 + head % RING_ENTRIES * 32
        ENTRY.pack_into(self._memory, place, key, item, what, run, detail)
        self._words[self._head] = head + 1

    def slice(self, offset: int, length: int) -> bytes:
        """Text from `offset` on."""
        start = offset % TEXT_WINDOW
        return self.text[start : start + length]


_ledger: Ledger | None = None


def ledger() -> Ledger:
    """This process's; made by its first task, when the worker has its number."""
    global _ledger
    if _ledger is None:
        _ledger = Ledger()
    return _ledger


class Asked(Exception):
    """The error of a task that was to fail."""


class Run:
    """One execution of an order: notes its beginning."""

    def __init__(self, payload: bytes) -> None:
        self.ledger = ledger()
        magic, key, body_offset, body_bytes, *result = ORDER.unpack_from(payload)
        self.key: int = key
        self.result_offset, self.result_bytes, self.deed, self.amount, _ = result
        self.body_offset: int = body_offset
        self.body_bytes: int = body_bytes
        body = self.ledger.slice(body_offset, body_bytes)
        self.number = self.ledger.next_run()
        if magic != MAGIC or payload[ORDER.size :] != body:
            self.note(WRONG, 3)
            raise ValueError("the payload is not what it should be")
        self.note(BEGIN)

    def note(self, what: int, detail: int | None = None) -> None:
        self.ledger.write(self.key, 0, what, self.number, detail)

    def finish(self) -> Any:
        """The result; a failure if that was the order."""
        self.note(END)
        if self.deed == FAIL:
            raise Asked
        if self.result_bytes == INTEGER:
            return integer_result(self.key << 16)
        text = self.ledger.slice(self.result_offset, self.result_bytes)
        return ANSWER.pack(self.key, self.number, 0, 0) + text


def integer_result(value: int) -> int:
    """As order.hpp's, a signed number."""
    value = (value ^ MASK) & (2**64 - 1)
    return value - 2**64 if value >= 2**63 else value


def plain_order(payload: bytes) -> Any:
    """An order that does not await anything."""
    run = Run(payload)
    if run.deed == SPIN:
        end = time.monotonic_ns() + run.amount * 1000
        while time.monotonic_ns() < end:
            pass
    elif run.deed == STUCK:
        time.sleep(run.amount / 1e6)
    elif run.deed == DIE:
        os.kill(os.getpid(), signal.SIGKILL)
    return run.finish()


async def order(payload: bytes) -> Any:
    """An order that may await."""
    run = Run(payload)
    try:
        if run.deed == NAP:
            await asyncio.sleep(run.amount / 1e6)
        elif run.deed == NEST:
            await nest(run)
    except asyncio.CancelledError:
        run.note(STOPPED)
        raise
    return run.finish()


async def nest(run: Run) -> None:
    """Submit orders of its own; some may end badly, since workers are killed."""
    pool = aiomq.current_pool().options(queue="python")
    orders = [child_order(run) for _ in range(run.amount)]
    calls = [pool.submit(plain_order, payload) for _, payload in orders]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for (key, _), answer in zip(orders, answers, strict=True):
        if isinstance(answer, BaseException):
            if not isinstance(answer, (aiomq.WorkerDied, aiomq.QueueFull)):
                run.note(WRONG, 4)
        elif answer[:8] != key.to_bytes(8, "little") or answer[ANSWER.size :] != run.ledger.slice(
            key % TEXT_WINDOW, run.body_bytes
        ):
            run.note(WRONG, 1)


def child_order(run: Run) -> tuple[int, bytes]:
    """Key and payload of a nested task."""
    own = run.ledger
    own.children += 1
    key = NESTED | int.from_bytes(os.urandom(8), "little")  # pids come back within minutes
    offset = run.body_offset + own.children
    head = ORDER.pack(
        MAGIC, key, offset, run.body_bytes, key % TEXT_WINDOW, run.body_bytes, ECHO, 0, 0
    )
    return key, head + own.slice(offset, run.body_bytes)


def cell(value: int) -> int:
    """One item of a chunk, or a task without an order: key and item are the argument."""
    own = ledger()
    key, item = divmod(value, 1 << 16)
    number = own.next_run()
    own.write(key, item, BEGIN, number)
    own.write(key, item, END, number)
    return integer_result(value)


async def late_cell(value: int) -> int:
    """The same, with other items in between."""
    own = ledger()
    key, item = divmod(value, 1 << 16)
    number = own.next_run()
    own.write(key, item, BEGIN, number)
    try:
        await asyncio.sleep(value % 7 / 2000)
    except asyncio.CancelledError:
        own.write(key, item, STOPPED, number)
        raise
    own.write(key, item, END, number)
    return integer_result(value)


def beat(value: int) -> int:
    """For measuring: nothing is written anywhere."""
    return value + 1
