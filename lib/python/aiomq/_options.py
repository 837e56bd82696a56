"""Options: what a call is told beyond its function and arguments; see PoolCalls.options()."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from aiomq import _abi, _checks

_RETRIES_MAX = 1_000_000


class Options(NamedTuple):
    """The fields of an aiomq_task that a call's options set. The codec reads the first six."""

    flags: int
    queue: int
    retries: int
    key: int
    start_within_ns: int
    timeout_ns: int
    shared: bool  # not isolated: this one goes with the function


NONE = Options(0, 0, 0, 0, 0, 0, False)


def options(
    queues: Sequence[str],
    queue: str | None,
    key: str | bytes | int | None,
    retries: int,
    start_within: float | None,
    timeout: float | None,
    isolate: bool,
) -> Options | None:
    """The options, checked; None if they ask for nothing. Raises as PoolCalls.options()."""
    checked = Options(
        0 if key is None else _abi.TASK_KEYED,
        0 if queue is None else _number(queues, queue),
        _checks.size("retries", retries, 0, _RETRIES_MAX),
        0 if key is None else digest(key),
        0 if start_within is None else _checks.nanoseconds("start_within", start_within),
        0 if timeout is None else _checks.nanoseconds("timeout", timeout),
        not _checks.truth("isolate", isolate),
    )
    return checked if any(checked) else None


def digest(key: Any) -> int:
    """64 bits of a key, the same in every process: hash() is not."""
    if isinstance(key, str):
        data = b"s" + key.encode("utf-8", "surrogatepass")
    elif isinstance(key, bytes):
        data = b"b" + key
    elif isinstance(key, int) and not isinstance(key, bool):
        data = b"i%d" % key
    else:
        raise TypeError(f"key must be a str, bytes or int, not {type(key).__name__}")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def _number(queues: Sequence[str], queue: Any) -> int:
    if not isinstance(queue, str):
        raise TypeError(f"queue must be a str, not {type(queue).__name__}")
    if queue not in queues:
        raise ValueError(f"queue {queue!r} is none of the pool's: {', '.join(map(repr, queues))}")
    return queues.index(queue)
