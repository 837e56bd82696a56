"""Selector: announces a worker's sleep to the pool exactly while its loop blocks.

An announcement that outlives the blocking swallows wake-ups: the loop would be woken by a socket
into seconds of work and take the wake-up for a new task with it, while another worker sleeps on.
"""

from __future__ import annotations

import selectors
from time import monotonic_ns
from typing import TYPE_CHECKING

from aiomq import _abi

if TYPE_CHECKING:
    from aiomq._pump import Pump

_LOOK_NS = 500_000  # how often a busy loop looks for new tasks, cancels and the end
_POLL_NS = 2_000_000  # how long sockets may wait while there is one task after another
_sleep = _abi.lib.aiomq_worker_sleep
_wake = _abi.lib.aiomq_worker_wake


class WorkerSelector(selectors.EpollSelector):
    """An EpollSelector that knows about the worker's descriptor."""

    def __init__(self, worker: int) -> None:
        super().__init__()
        self._worker = worker
        self._wake_fd: int = _abi.lib.aiomq_worker_fd(worker)
        self._looked_ns = 0
        self._polled_ns = 0
        self.pump: Pump | None = None  # none until the worker serves

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as EpollSelector does; says so to the pool if that can take time."""
        pump = self.pump
        if pump is None:
            return super().select(timeout)
        now = monotonic_ns()
        if timeout is not None and timeout <= 0:
            self._polled_ns = now
            events = super().select(timeout)
            if self._consume(events, False):
                self._looked_ns = now
            elif now - self._looked_ns > _LOOK_NS:
                self._looked_ns = now
                events.append(self._own_event())
            return events

        self._looked_ns = pump.flushed_ns = now  # _sleep() tells what has finished
        if _sleep(self._worker, pump.wants_tasks()):
            events = []
            if now - self._polled_ns > _POLL_NS:
                self._polled_ns = now
                events = super().select(0)
            if not self._consume(events, False):
                events.append(self._own_event())
            return events
        try:
            events = super().select(timeout)
        except BaseException:
            _wake(self._worker, 0)
            raise
        self._consume(events, True)
        return events

    def _consume(self, events: list[tuple[selectors.SelectorKey, int]], announced: bool) -> bool:
        """Take the wake-up if the descriptor is readable, and take back the announcement."""
        readable = False
        for key, _ in events:
            if key.fd == self._wake_fd:
                readable = True
        if readable or announced:
            _wake(self._worker, readable)
        return readable

    def _own_event(self) -> tuple[selectors.SelectorKey, int]:
        return self.get_key(self._wake_fd), selectors.EVENT_READ
