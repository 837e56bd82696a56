"""The exceptions that aiomq raises by its own name. Imported only where one is needed."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool


class PoolBroken(BrokenProcessPool):
    """The pool can't run anything any more: its workers can't start, or its memory is damaged."""

    __module__ = "aiomq"


class WorkerDied(BrokenProcessPool):
    """The worker process ended while it ran this task. The pool replaces it and goes on.

    `pid` is that process. Either `signal` (not 0) ended it, or it left with `exit_status`; both are
    None and 0 when the kernel did not tell. The task had started, so it was run again only as often
    as its `retries` allow.
    """

    __module__ = "aiomq"

    def __init__(
        self, message: str = "", pid: int = 0, exit_status: int | None = None, signal: int = 0
    ) -> None:
        super().__init__(message, pid, exit_status, signal)
        self.pid = pid
        self.exit_status = exit_status
        self.signal = signal

    def __str__(self) -> str:
        return str(self.args[0])


class QueueFull(Exception):
    """submit_nowait() found no room: every slot is in use, or the memory for arguments is full."""

    __module__ = "aiomq"


class StartExpired(TimeoutError):
    """The task did not start within its `start_within`; it never will."""

    __module__ = "aiomq"


class TaskTimeout(TimeoutError):
    """The task ran longer than its `timeout`, and was cancelled or its worker was killed.

    `stack` is where it stood then, also shown as the `__cause__`; "" if that is not known.
    """

    __module__ = "aiomq"

    def __init__(self, message: str = "", stack: str = "") -> None:
        super().__init__(message)
        self.stack = stack


class RemoteError(Exception):
    """A task failed with something that can't be raised here as it was.

    Either its exception can't be pickled, or raising it would end the caller's loop or iteration
    (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, other BaseExceptions): then it is
    the `__cause__`. `type` names its class ("module.Class"), `message` is its text.
    """

    __module__ = "aiomq"

    def __init__(self, type: str = "", message: str = "") -> None:
        super().__init__(type, message)
        self.type = type
        self.message = message

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class RemoteTraceback(Exception):
    """Carries the traceback of a worker as text; the `__cause__` of what a task raised."""

    __module__ = "aiomq"

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'
