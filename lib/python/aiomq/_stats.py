"""Stats: what a pool is doing, in numbers, read from its shared memory."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiomq import _abi_full, _board
from aiomq._board import Board

lib = _abi_full.lib

_POOL_STATES = ("starting", "running", "closing", "ended", "broken")
_WORKER_STATES = ("absent", "starting", "running", "failed", "retiring")


@dataclass(frozen=True)
class QueueStats:
    """A queue. Tasks are calls and chunks.

    ready, claimed, done: tasks that wait, that are in workers, and that are finished and not yet
        taken by the dispatcher.
    oldest: seconds that the oldest waiting task has waited; 0.0 if none waits.
    """

    name: str
    ready: int
    claimed: int
    done: int
    oldest: float


@dataclass(frozen=True)
class WorkerStats:
    """A worker's place; counts are of all processes that it ever had, in calls and items.

    pid: 0 if there is no process now.
    state: "absent", "starting", "running", "failed" or "retiring".
    group: name of its group, or "".
    sleeping: whether it waits with nothing to do.
    running: started and not completed.
    restarts: how often the place was filled again.
    failed: completed with another outcome than a result; included in completed.
    wakeups: how often it slept and was woken.
    keyed: tasks that wait for this very worker.
    used_bytes, committed_bytes: of its memory for results.
    blocked: seconds for which its loop has not turned; 0.0 if it turns.
    """

    pid: int
    state: str
    group: str
    sleeping: bool
    running: int
    restarts: int
    started: int
    completed: int
    failed: int
    wakeups: int
    keyed: int
    used_bytes: int
    committed_bytes: int
    blocked: float


@dataclass(frozen=True)
class Times:
    """How long something has taken, each time that it was done.

    count: how often. total: seconds together. histogram: histogram[k] times it took from
        2**(k - 1) to 2**k - 1 nanoseconds, the last of its 40 whatever was longer.
    """

    count: int
    total: float
    histogram: tuple[int, ...]

    def quantile(self, share: float) -> float:
        """Seconds that this share of the times did not exceed, such as 0.5 or 0.99; 0.0 of none.

        The upper end of a bucket, so at most twice what it was.
        """
        left = share * self.count
        for bits, count in enumerate(self.histogram):
            left -= count
            if count and left <= 0:
                return float((1 << bits) - 1) / 1e9
        return 0.0


@dataclass(frozen=True)
class FunctionStats:
    """What a pool has done with one function.

    name: "module:name"; "" for what functions have in common that are not among the first 255.
    tasks: calls and chunks that were submitted, but for those of tasks.
    calls: that have ended, items of maps included; errors: those of them that raised.
    bytes_in, bytes_out: encoded arguments and results, of the same tasks as `tasks`.
    encode: a task's arguments. decode: the results that come at once.
    wait: from submit to the claim of a task, by the kernel's coarse clock: to some milliseconds.
    run: a call, from start to end, whatever it awaits. Of calls that are faster than it pays to
        look at the clock, the mean of up to 16 stands for each; one that suspends counts from the
        last look before it.
    """

    name: str
    tasks: int
    calls: int
    errors: int
    bytes_in: int
    bytes_out: int
    encode: Times
    wait: Times
    run: Times
    decode: Times


@dataclass(frozen=True)
class PoolStats:
    """What Pool.stats() returns: a moment of a pool. Counts are of calls and items of maps.

    state: "starting", "running", "closing" or "broken".
    age: seconds since the pool was made.
    capacity: slots, i.e. calls and chunks that can be on their way.
    submitted: all that were submitted, those of tasks (`nested`) included.
    ok, failed, cancelled, worker_died, other_outcomes: how they ended; the last are expired, timed
        out, or ended with the pool.
    requeued: claimed by a worker that died, not started, and queued again.
    retried: run again after a death.
    splits: times that a busy worker's unstarted items went to an idle one.
    restarts: workers replaced.
    wakeups_sent, wakeups_elided: somebody had to be woken by the kernel; nobody had to be.
    audits: times that the pool has looked whether a wake-up was lost.
    request_..., result_...: bytes of the memory for arguments, and of all workers' for results:
        in use, taken from the system, and the most that there may be.
    dropped_log_records: see Pool(forward_logs=).
    functions: those that were called, by the order of their first calls.
    """

    label: str
    pid: int
    state: str
    age: float
    capacity: int
    submitted: int
    nested: int
    ok: int
    failed: int
    cancelled: int
    worker_died: int
    other_outcomes: int
    requeued: int
    retried: int
    splits: int
    restarts: int
    wakeups_sent: int
    wakeups_elided: int
    audits: int
    request_used_bytes: int
    request_committed_bytes: int
    request_maximum_bytes: int
    result_used_bytes: int
    result_committed_bytes: int
    result_maximum_bytes: int
    dropped_log_records: int
    queues: tuple[QueueStats, ...]
    workers: tuple[WorkerStats, ...]
    functions: tuple[FunctionStats, ...]


def stats_of(address: int, board: Board) -> PoolStats:
    """The stats of a C pool. Raises OSError."""
    view = ctypes.c_void_p()
    _check(lib.aiomq_pool_view(address, ctypes.byref(view)))
    try:
        pool = _read(_abi_full.PoolStats, lib.aiomq_view_pool, view)
        return PoolStats(
            label=_text(pool.label),
            state=_POOL_STATES[pool.state],
            age=pool.age_ns / 1e9,
            dropped_log_records=board.dropped(),
            queues=tuple(_queue(view, number) for number in range(pool.queues)),
            workers=tuple(_worker(view, number) for number in range(pool.workers)),
            functions=tuple(_functions(board)),
            **_same(PoolStats, pool),
        )
    finally:
        lib.aiomq_view_close(ctypes.byref(view))


def _functions(board: Board) -> Iterator[FunctionStats]:
    sums: dict[str, tuple[list[int], list[int]]] = {}  # a function may have several rows
    for row in (*sorted(board.names), _board.ROWS - 1):
        name = board.names.get(row, "")
        own, *others = board.rows(row)
        before = sums.get(name, ([0] * len(own), [0] * len(own)))
        sums[name] = _sum(before[0], own), _sum(before[1], *others)
    for name, (own, workers) in sums.items():
        if own[_board.CALLS] or workers[_board.CALLS]:
            yield FunctionStats(
                name=name,
                tasks=own[_board.CALLS],
                calls=workers[_board.CALLS],
                errors=workers[_board.ERRORS],
                bytes_in=own[_board.BYTES_IN],
                bytes_out=own[_board.BYTES_OUT],
                encode=_times(own, _board.FIRST, _board.FIRST_NS),
                wait=_times(workers, _board.FIRST, _board.FIRST_NS),
                run=_times(workers, _board.SECOND, _board.SECOND_NS),
                decode=_times(own, _board.SECOND, _board.SECOND_NS),
            )


def _sum(*rows: list[int]) -> list[int]:
    return [sum(cells) for cells in zip(*rows, strict=True)]


def _times(cells: list[int], histogram: int, total: int) -> Times:
    counts = tuple(cells[histogram : histogram + _board.BUCKETS])
    return Times(sum(counts), cells[total] / 1e9, counts)


def _queue(view: ctypes.c_void_p, number: int) -> QueueStats:
    queue = _read(_abi_full.QueueStats, lib.aiomq_view_queue, view, number)
    return QueueStats(
        name=_text(queue.name), oldest=queue.oldest_ns / 1e9, **_same(QueueStats, queue)
    )


def _worker(view: ctypes.c_void_p, number: int) -> WorkerStats:
    worker = _read(_abi_full.WorkerStats, lib.aiomq_view_worker, view, number)
    return WorkerStats(
        state=_WORKER_STATES[worker.state],
        group=_text(worker.group_name),
        sleeping=bool(worker.sleeping),
        blocked=worker.blocked_ns / 1e9,
        **_same(WorkerStats, worker),
    )


def _read(kind: Any, function: Any, view: ctypes.c_void_p, *number: int) -> Any:
    found = kind(struct_bytes=ctypes.sizeof(kind))
    _check(function(view, *number, ctypes.byref(found)))
    return found


def _same(kind: Any, found: Any) -> dict[str, Any]:
    """The fields that are the same in C: whole numbers with the same name."""
    names = {name for name, field in kind.__dataclass_fields__.items() if field.type == "int"}
    return {name: getattr(found, name) for name in names if hasattr(found, name)}


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _check(outcome: int) -> None:
    if outcome < 0:
        raise OSError(-outcome, "the pool's statistics: " + _text(lib.aiomq_strerror(outcome)))
