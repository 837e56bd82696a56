"""The bridge in pure Python: submit, collect and publish through ctypes. See `_bridge`."""

from __future__ import annotations

import ctypes
import errno
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from aiomq import _abi, _abi_full
from aiomq._board import Tally
from aiomq._bridge_types import TooLarge
from aiomq._completion import Entry, decode_completion
from aiomq._encode import encode_arguments, encode_chunk, encode_value

if TYPE_CHECKING:
    from aiomq._report import Report

_lib = _abi_full.lib
_BATCH = 64

tallies: dict[int, Tally] = {}  # by pool


def set_table(pool: int, address: int) -> None:
    """See `_bridge`."""
    tallies.pop(pool, None)
    if address:
        tallies[pool] = Tally(address)


def count_encoded(pool: int, function: int, nbytes: int, nanoseconds: int) -> None:
    """See `_bridge`."""
    tally = tallies.get(pool)
    if tally is not None:
        tally.encoded(function, nbytes, nanoseconds)


def encode_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int, bytes]:
    """See `_bridge`."""
    return _abi.KIND_CALL, 0, encode_arguments(args, kwargs)


def submit_call(
    pool: int,
    function: int,
    user: int,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    flags: int = 0,
    options: tuple[int, ...] | None = None,
) -> int:
    """See `_bridge`."""
    start_ns = monotonic_ns()
    payload = encode_arguments(args, kwargs)
    taken_ns = monotonic_ns() - start_ns
    return _submit(pool, function, user, flags, _abi.KIND_CALL, 1, payload, options, taken_ns)


def submit_chunk(
    pool: int,
    function: int,
    user: int,
    items: list[Any] | range,
    start: int,
    stop: int,
    star: bool,
    flags: int = 0,
    options: tuple[int, ...] | None = None,
) -> int:
    """See `_bridge`."""
    if stop - start > _abi.ITEMS_MAX:
        return -errno.EINVAL
    start_ns = monotonic_ns()
    payload = encode_chunk(items, start, stop, star)
    taken_ns = monotonic_ns() - start_ns
    return _submit(
        pool, function, user, flags, _abi.KIND_CHUNK, stop - start, payload, options, taken_ns
    )


def _submit(
    pool: int,
    function: int,
    user: int,
    flags: int,
    kind: int,
    items: int,
    payload: bytes,
    options: tuple[int, ...] | None,
    taken_ns: int,
) -> int:
    data = ctypes.c_char_p(payload)
    task = _abi_full.Task(
        struct_bytes=ctypes.sizeof(_abi_full.Task),
        flags=flags,
        function=function,
        kind=kind,
        items=items,
        user=user,
        payload=ctypes.cast(data, ctypes.c_void_p),
        payload_bytes=len(payload),
    )
    if options is not None:
        task.flags |= options[0]
        task.queue, task.retries, task.key, task.start_within_ns, task.timeout_ns = options[1:6]
    task_id = ctypes.c_uint64()
    outcome: int = _lib.aiomq_pool_submit(pool, ctypes.byref(task), ctypes.byref(task_id))
    if outcome == -errno.EMSGSIZE:
        raise TooLarge(len(payload))
    if outcome == 0:
        count_encoded(pool, function, len(payload), taken_ns)
    return outcome or task_id.value


# --- results --------------------------------------------------------------------------------------


def collect(pool: int, limit: int, lend: object = None) -> list[Entry]:
    """See `_bridge`; everything is copied, so nothing is lent."""
    entries: list[Entry] = []
    tally = tallies.get(pool)
    while limit > 0:
        completions = (_abi_full.Completion * min(_BATCH, limit))()
        count = _lib.aiomq_pool_collect(pool, completions, len(completions))
        if count < 0 and entries:
            break  # what was taken before must not be lost; the next call will tell
        if count < 0:
            raise OSError(-count, _lib.aiomq_strerror(count).decode())
        released = 0
        try:
            for completion in completions[:count]:
                start_ns = monotonic_ns()
                entries.append(decode_completion(completion))
                if tally is not None:
                    nbytes = sum(item.bytes for item in completion.items[: completion.item_count])
                    function = completion.user >> 48
                    tally.decoded(function, nbytes, monotonic_ns() - start_ns)
                _lib.aiomq_pool_release(pool, completion.loan)
                released += 1
        finally:
            for completion in completions[released:count]:
                _lib.aiomq_pool_release(pool, completion.loan)
        if count < len(completions):
            break
        limit -= count
    return entries


# --- outcomes -------------------------------------------------------------------------------------


def complete_item(worker: int, job: int, index: int, status: int, value: object) -> int:
    """As aiomq_worker_complete(). Raises EncodeError, TooLarge."""
    item = _abi_full.Item(index=index, status=status)
    kind = type(value)
    data = None
    if value is None:
        item.kind = _abi.KIND_NONE
    elif kind is int and -(2**63) <= value < 2**63:  # type: ignore[operator]
        item.kind = _abi.KIND_INT
        item.value.integer = value
    elif kind is float:
        item.kind = _abi.KIND_FLOAT
        item.value.real = value
    elif kind is bool:
        item.kind = _abi.KIND_BOOL
        item.value.integer = value
    else:
        item.kind, data = _encode_result(value)
        item.bytes = len(data)
        item.value.data = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
    outcome: int = _lib.aiomq_worker_complete(worker, job, ctypes.byref(item))
    if outcome == -errno.EMSGSIZE:
        raise TooLarge(item.bytes)
    return outcome


def _encode_result(value: Any) -> tuple[int, bytes]:
    if type(value) is bytes:
        return _abi.KIND_BYTES, value
    if type(value) is str:
        try:
            return _abi.KIND_TEXT, value.encode()
        except UnicodeEncodeError:
            pass
    return _abi.KIND_VALUE, encode_value(value, "the result")


def fail_item(worker: int, job: int, index: int, report: Report) -> int:
    """As aiomq_worker_fail()."""
    texts = (text.encode("utf-8", "backslashreplace") for text in report[:3])
    error = _abi_full.Error(*texts, exit_status=-1)
    if report.pickled is not None:
        error.pickled = ctypes.cast(ctypes.c_char_p(report.pickled), ctypes.c_void_p).value
        error.pickled_bytes = len(report.pickled)
    outcome: int = _lib.aiomq_worker_fail(worker, job, index, ctypes.byref(error))
    return outcome
