"""What both variants of `_bridge` raise and return."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any, NamedTuple


class EncodeError(Exception):
    """Something can't be sent.

    The text names it: "argument 2", "keyword 'x'", "item 17, argument 1". Arguments count from 1,
    items are indices of the caller's list. `__cause__` says why.
    """


class TooLarge(Exception):
    """What is to be sent takes `nbytes`, and the pool never has so much memory for it."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes)
        self.nbytes = nbytes

    def explained(self, what: str, memory: str, most: int) -> ValueError:
        """For the user: `what` was to go into memory for `memory`, which has `most` bytes."""
        return ValueError(
            f"{what} larger than the pool's memory for {memory}: {self.nbytes:,} of {most:,} bytes;"
            " give the pool a larger max_memory"
        )


class RemoteFailure(NamedTuple):
    """The error that an item carries; see aiomq_error."""

    type: str
    message: str
    traceback: str
    pickled: bytes | None
    exit_status: int
    signal: int
    pid: int


class DecodeFailure:
    """In place of a result that could not be decoded: `error` is what that raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        return f"DecodeFailure({self.error!r})"


def as_coroutine(value: Any) -> Any:
    """What runs an awaitable by send() and throw(); None if `value` can't be awaited."""
    if not inspect.isawaitable(value):
        return None
    if hasattr(value, "send") and hasattr(value, "throw"):
        return value
    return _wait(value)


async def _wait(value: Awaitable[Any]) -> Any:
    return await value
