"""Python values by way of the C ABI's writer and reader (aiomq/value.h)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

from codec_variants import aligned

from aiomq import _abi
from aiomq._abi_full import Item, Task
from aiomq._abi_value import Value, lib

NONE, BOOL, INT, BIGINT, FLOAT, TEXT, BYTES, LIST, TUPLE, DICT, SET, FROZENSET = range(12)
CONTAINERS: dict[type, int] = {
    list: LIST,
    tuple: TUPLE,
    dict: DICT,
    set: SET,
    frozenset: FROZENSET,
}


class Writer:
    """An aiomq_value_writer; texts and bytes stay alive as long as it does."""

    def __init__(self) -> None:
        self.handle = ctypes.c_void_p()
        assert lib.aiomq_value_writer_create(ctypes.byref(self.handle)) == 0
        self._kept: list[bytes] = []

    def __del__(self) -> None:
        lib.aiomq_value_writer_destroy(ctypes.byref(self.handle))

    def add(self, value: Any) -> int:
        """Write one value; what the first call that failed returned, else 0."""
        if value is None:
            return int(lib.aiomq_value_write_none(self.handle))
        if isinstance(value, bool):
            return int(lib.aiomq_value_write_bool(self.handle, value))
        if isinstance(value, int):
            return int(lib.aiomq_value_write_int(self.handle, value))
        if isinstance(value, float):
            return int(lib.aiomq_value_write_float(self.handle, value))
        if isinstance(value, str):
            return self._add_data(lib.aiomq_value_write_text, value.encode())
        if isinstance(value, bytes):
            return self._add_data(lib.aiomq_value_write_bytes, value)
        error = lib.aiomq_value_write_begin(self.handle, CONTAINERS[type(value)])
        parts = [part for pair in value.items() for part in pair] if type(value) is dict else value
        for part in parts:
            error = error or self.add(part)
        return int(error or lib.aiomq_value_write_end(self.handle))

    def _add_data(self, write: Any, data: bytes) -> int:
        self._kept.append(data)
        return int(write(self.handle, data, len(data)))

    def keyword(self, name: str) -> int:
        self._kept.append(name.encode())
        return int(lib.aiomq_value_write_keyword(self.handle, self._kept[-1]))

    def next_call(self) -> int:
        return int(lib.aiomq_value_write_call(self.handle))

    def message(self, kind: int) -> bytes:
        size = lib.aiomq_value_measure(self.handle, kind)
        assert size > 0, size
        buffer = (ctypes.c_uint64 * (size // 8 + 1))()
        buffer[size // 8] = 0x5A5A5A5A5A5A5A5A
        assert lib.aiomq_value_store(self.handle, buffer) == 0
        assert buffer[size // 8] == 0x5A5A5A5A5A5A5A5A
        return ctypes.string_at(buffer, size)


def written(value: Any) -> bytes:
    """The message with this value."""
    writer = Writer()
    assert writer.add(value) == 0
    return writer.message(_abi.KIND_VALUE)


def read(value: Value) -> Any:
    """The Python object of an opened value."""
    if value.type in (TEXT, BYTES, BIGINT):
        data = ctypes.string_at(value.value.data, value.count) if value.count else b""
        if value.type == BIGINT:
            return int.from_bytes(data, "little", signed=True)
        return data if value.type == BYTES else data.decode()
    if value.type in (BOOL, INT):
        return bool(value.value.integer) if value.type == BOOL else value.value.integer
    if value.type == FLOAT:
        return value.value.real
    if value.type == NONE:
        return None
    elements = [read(element) for element in parts(value, lib.aiomq_value_element)]
    if value.packed:
        kind = ctypes.c_int64 if value.packed == INT else ctypes.c_double
        array = (kind * value.count).from_address(value.value.data)
        assert str(list(array)) == str(elements)
    if value.type == DICT:
        return dict(zip(map(read, parts(value, lib.aiomq_value_key)), elements, strict=True))
    return {LIST: list, TUPLE: tuple, SET: set, FROZENSET: frozenset}[value.type](elements)


def parts(value: Value, get: Any) -> Iterable[Value]:
    for index in range(value.count):
        part = Value()
        assert get(value, index, part) == 0
        yield part


def opened(message: bytes) -> Any:
    """The value of a message."""
    keep, address = aligned(message)
    item = Item(kind=_abi.KIND_VALUE, bytes=len(message))
    item.value.data = address
    value = Value()
    assert lib.aiomq_value_open(item, value) == 0
    result = read(value)
    del keep
    return result


def arguments(job: _abi.Job, item: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    positional, keywords = Value(), Value()
    assert lib.aiomq_value_arguments(job, item, positional, keywords) == 0
    return read(positional), read(keywords)


def job_of(task: Task) -> _abi.Job:
    """What a worker sees of a task."""
    return _abi.Job(
        kind=task.kind,
        integer=task.integer,
        payload=task.payload,
        payload_bytes=task.payload_bytes,
        end_item=task.items,
    )
