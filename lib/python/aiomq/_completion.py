"""Completion: what has come back of a task, decoded in pure Python. See `_bridge.collect`."""

from __future__ import annotations

import ctypes
from typing import Any

from aiomq import _abi, _abi_full
from aiomq._bridge_types import DecodeFailure, RemoteFailure
from aiomq._decode import decode_value
from aiomq._words import damaged

# user, items left, worker, first item, and either the values of successive items or, of each
# item, index, status and value
Entry = tuple[int, int, int, int, "list[Any] | None", "list[tuple[int, int, Any]] | None"]


def decode_completion(completion: _abi_full.Completion) -> Entry:
    """What became of each item; an item that can't be decoded has a DecodeFailure for its value."""
    failed = False
    others: list[tuple[int, int, Any]] = []
    for item in completion.items[: completion.item_count]:
        try:
            value = _decode_item(item)
        except BaseException as error:  # one bad result must not lose the others
            value = DecodeFailure(error)
            failed = True
        others.append((item.index, item.status, value))
    start = min(index for index, _, _ in others)
    head = completion.user, completion.items_left, completion.worker, start
    if (
        failed
        or any(status != _abi.OK for _, status, _ in others)
        or {index for index, _, _ in others} != set(range(start, start + len(others)))
    ):
        return *head, None, others
    return *head, [value for _, _, value in sorted(others, key=lambda other: other[0])], None


def _decode_item(item: _abi_full.Item) -> Any:
    kind = item.kind
    if kind == _abi.KIND_NONE:
        return None
    if kind == _abi.KIND_BOOL:
        return item.value.integer != 0
    if kind == _abi.KIND_INT:
        return item.value.integer
    if kind == _abi.KIND_FLOAT:
        return item.value.real
    if kind == _abi.KIND_ERROR:
        return _decode_error(item)
    data = ctypes.string_at(item.value.data, item.bytes) if item.bytes else b""
    if kind == _abi.KIND_BYTES:
        return data
    if kind == _abi.KIND_TEXT:
        return str(data, "utf-8")
    if kind == _abi.KIND_VALUE:
        return decode_value(data)
    raise damaged("a result of unknown kind")


def _decode_error(item: _abi_full.Item) -> RemoteFailure:
    size = item.bytes + 64
    buffer = (ctypes.c_uint64 * (size // 8 + 1))()
    error = _abi_full.Error()
    if _abi_full.lib.aiomq_error_decode(ctypes.byref(item), buffer, size, ctypes.byref(error)) != 0:
        raise damaged("not an error")
    pickled = ctypes.string_at(error.pickled, error.pickled_bytes) if error.pickled else None
    return RemoteFailure(
        (error.type or b"").decode("utf-8", "replace"),
        (error.message or b"").decode("utf-8", "replace"),
        (error.traceback or b"").decode("utf-8", "replace"),
        pickled,
        error.exit_status,
        error.signal,
        error.pid,
    )
