"""Logs: what workers log and warn of, in the dispatcher's `logging` and `warnings`.

One socket pair serves a pool. A worker sends each record as one packet and never waits: what finds
the socket full is dropped and counted on the board. The loop of the dispatcher reads.
"""

from __future__ import annotations

import logging
import pickle
import socket
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiomq._board import Board, Page

logger = logging.getLogger("aiomq")

_BUFFER_BYTES = 4 << 20  # asked for; the system grants less (net.core.wmem_max)
_PACKET_MAX = 1 << 18
_TEXT_MAX = 1 << 15  # characters of a message or traceback in a packet that was too large
_PACKETS_PER_TURN = 256
_RECORD, _WARNING = range(2)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

Levels = dict[str, int]  # by logger, "" is the root
_DISABLED = "\0"  # the key of logging.disable()'s level


def levels() -> Levels:
    """The levels that are set in this process."""
    found: Levels = {"": logging.root.level, _DISABLED: logging.root.manager.disable}
    for name, known in logging.root.manager.loggerDict.items():
        if isinstance(known, logging.Logger) and known.level != logging.NOTSET:
            found[name] = known.level
    return found


# --- in a worker ----------------------------------------------------------------------------------


def forward(fd: int, page: Page, wanted: Levels) -> None:
    """Send what this process logs and warns of, from now on, to the dispatcher."""
    sender = _Sender(socket.socket(fileno=fd), page)
    sender.socket.set_inheritable(False)
    logging.root.addHandler(_Handler(sender))
    logging.disable(wanted.pop(_DISABLED, 0))
    for name, level in wanted.items():
        logging.getLogger(name or None).setLevel(level)
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            usual(message, category, filename, lineno, file, line)
            return
        try:
            data = pickle.dumps((_WARNING, (message, category, filename, lineno)), 5)
        except Exception:
            data = pickle.dumps((_WARNING, (str(message), UserWarning, filename, lineno)), 5)
        if not sender.send(data):
            sender.drop()

    warnings.showwarning = show


class _Sender:
    def __init__(self, peer: socket.socket, page: Page) -> None:
        self.socket = peer
        self._page = page

    def send(self, data: bytes) -> bool:
        """Send a packet, or count it as dropped. False: it is too large."""
        if len(data) > _PACKET_MAX:
            return False
        try:
            self.socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except (BlockingIOError, ConnectionError):
            self.drop()
        except OSError:  # EMSGSIZE: the system's buffers are small
            return False
        return True

    def drop(self) -> None:
        """Count what can't be sent."""
        self._page.count_dropped()


class _Handler(logging.Handler):
    """Sends each record that reaches the root logger."""

    def __init__(self, sender: _Sender) -> None:
        super().__init__()
        self._sender = sender

    def emit(self, record: logging.LogRecord) -> None:
        """As logging.Handler.emit()."""
        try:
            state = _state_of(record)
            if not self._sender.send(_packed(state)):
                for key in ("msg", "exc_text", "stack_info"):
                    if isinstance(state[key], str):
                        state[key] = state[key][:_TEXT_MAX]
                kept = {key: value for key, value in state.items() if key in _STANDARD}
                if not self._sender.send(_packed({**kept, "exc_info": None})):
                    self._sender.drop()
        except Exception:
            self.handleError(record)


def _state_of(record: logging.LogRecord) -> dict[str, Any]:
    """The record's attributes, its message and traceback made."""
    state = dict(vars(record))
    state["msg"] = record.getMessage()
    state["args"] = None
    if record.exc_info:
        kind, error, traceback = record.exc_info
        if kind is not None and error is not None and not record.exc_text:
            state["exc_text"] = logging.Formatter().formatException((kind, error, traceback))
        state["exc_info"] = (kind, error, None)
    return state


def _packed(state: dict[str, Any]) -> bytes:
    try:
        return pickle.dumps((_RECORD, state), 5)
    except Exception:
        sent = {}
        for key, value in state.items():
            try:
                pickle.dumps(value, 5)
                sent[key] = value
            except Exception:
                sent[key] = None if key == "exc_info" else repr(value)
        return pickle.dumps((_RECORD, sent), 5)


# --- in the dispatcher ----------------------------------------------------------------------------


class Logs:
    """The dispatcher's end."""

    def __init__(self, label: str, board: Board) -> None:
        self._label = label
        self._board = board
        self._reported = 0
        self._shown: dict[Any, Any] = {}  # warnings; each place is shown once, whoever warned
        # The writer is for the workers; the caller closes it when they have got it.
        self._reader, self.writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._reader, self.writer):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        self._reader.setblocking(False)

    @property
    def fd(self) -> int:
        """What is readable when there is something to read."""
        return self._reader.fileno()

    def read(self, most: int = _PACKETS_PER_TURN) -> None:
        """Hand on what has come; never waits."""
        for _ in range(most):
            try:
                packet = self._reader.recv(_PACKET_MAX)
            except BlockingIOError:
                break
            if not packet:
                break
            self._hand_on(packet)
        dropped = self._board.dropped()
        if dropped > self._reported:
            logger.warning(
                "%s: %d log records of workers were dropped: they came faster than this process"
                " read them",
                self._label,
                dropped - self._reported,
            )
            self._reported = dropped

    def read_rest(self) -> None:
        """At the end of the pool: everything that workers have sent."""
        self.read(sys.maxsize)

    def close(self) -> None:
        """Free it; no call may follow."""
        self._reader.close()

    def _hand_on(self, packet: bytes) -> None:
        try:
            kind, content = pickle.loads(packet)
        except Exception:
            logger.warning("%s: a log record can't be read here", self._label, exc_info=True)
            return
        if kind == _WARNING:
            self._warn(*content)
            return
        record = logging.makeLogRecord(content)
        target = logging.getLogger(record.name)
        if target.isEnabledFor(record.levelno):
            target.handle(record)

    def _warn(
        self, message: Warning | str, category: type[Warning], filename: str, lineno: int
    ) -> None:
        try:
            warnings.warn_explicit(message, category, filename, lineno, registry=self._shown)
        except Warning:  # a filter makes errors of them, but there is no call to raise it in
            warnings.showwarning(message, category, filename, lineno)
