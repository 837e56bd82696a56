"""The C ABI's writer and reader of values against Python's codec."""

from __future__ import annotations

import ctypes
import errno
import os
import random
from typing import Any

import pytest
from c_values import DICT, LIST, NONE, Writer, arguments, job_of, opened, read, written
from codec_variants import PLAIN, PURE, aligned, calls, same
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomq import _abi
from aiomq._abi_full import Item, Task
from aiomq._abi_value import Value, lib

EXAMPLES = 5000 if os.environ.get("AIOMQ_STRESS") else 60
FITS = st.integers(min_value=-(2**63), max_value=2**63 - 1)


def has_bigint(value: Any) -> bool:
    if isinstance(value, dict):
        return has_bigint(list(value.items()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(has_bigint, value))
    return type(value) is int and not -(2**63) <= value < 2**63


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:40])
def test_the_reader_reads_what_python_has_written(value: Any) -> None:
    assert same(opened(PURE.value(value)), value)


@pytest.mark.parametrize(
    "value", [v for v in PLAIN if not has_bigint(v)], ids=lambda value: repr(value)[:40]
)
def test_the_writer_writes_the_bytes_that_python_writes(value: Any) -> None:
    assert written(value) == PURE.value(value)


plain = st.recursive(
    st.none() | st.booleans() | FITS | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | FITS | st.none(), inner)
        | st.sets(FITS | st.text())
        | st.frozensets(FITS | st.binary())
    ),
    max_leaves=40,
)


@pytest.mark.stress
@settings(max_examples=EXAMPLES, deadline=None)
@given(plain)
def test_any_plain_value_is_written_as_by_python_and_read_back(value: Any) -> None:
    message = PURE.value(value)
    assert written(value) == message
    assert same(opened(message), value)


@pytest.mark.stress
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(plain, max_size=4), st.dictionaries(st.text().filter(lambda t: "\0" not in t), plain)
)
def test_any_call_is_written_as_by_python_and_read_back(
    args: list[Any], kwargs: dict[str, Any]
) -> None:
    writer = Writer()
    assert all(writer.add(value) == 0 for value in args)
    for name, value in kwargs.items():
        assert writer.keyword(name) == 0
        assert writer.add(value) == 0
    message = writer.message(_abi.KIND_CALL)
    assert same(calls(PURE, _abi.KIND_CALL, message), [(tuple(args), kwargs)])
    if args or kwargs:
        assert message == PURE.call(tuple(args), kwargs)
    keep, address = aligned(message)
    job = _abi.Job(kind=_abi.KIND_CALL, payload=address, payload_bytes=len(message))
    assert same(arguments(job, 0), (tuple(args), kwargs))
    del keep


@pytest.mark.stress
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.lists(plain, max_size=3).map(tuple), min_size=1, max_size=6))
def test_any_chunk_is_written_as_by_python_and_read_back(rows: list[tuple[Any, ...]]) -> None:
    writer = Writer()
    for number, row in enumerate(rows):
        assert number == 0 or writer.next_call() == 0
        assert all(writer.add(value) == 0 for value in row)
    message = writer.message(_abi.KIND_CHUNK)
    assert message == PURE.chunk(rows, 0, len(rows), True)
    keep, address = aligned(message)
    job = _abi.Job(kind=_abi.KIND_CHUNK, payload=address, payload_bytes=len(message))
    for number, row in enumerate(rows):
        assert same(arguments(job, number), (row, {}))
    for index in range(3):
        column = Value()
        error = lib.aiomq_value_column(job, index, column)
        if len(set(map(len, rows))) > 1 or index >= len(rows[0]):
            assert error == -errno.ENOENT
        else:
            assert error == 0
            assert same(read(column), [row[index] for row in rows])
    del keep


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([], _abi.KIND_NONE),
        ([True], _abi.KIND_BOOL),
        ([-7], _abi.KIND_INT),
        ([2.5], _abi.KIND_FLOAT),
        (["text"], _abi.KIND_CALL),
        ([1, 2], _abi.KIND_CALL),
    ],
    ids=repr,
)
def test_a_task_takes_a_message_only_where_its_fields_do_not_hold_the_arguments(
    values: list[Any], kind: int
) -> None:
    writer = Writer()
    assert all(writer.add(value) == 0 for value in values)
    task = Task()
    assert lib.aiomq_value_task(writer.handle, task) == 0
    assert (task.kind, task.items, bool(task.payload)) == (kind, 1, kind == _abi.KIND_CALL)
    assert same(arguments(job_of(task), 0), (tuple(values), {}))


@pytest.mark.parametrize("value", [None, True, 5, 0.5, "text", "", b"bytes", [1, 2], {"a": None}])
def test_an_item_takes_a_message_only_for_containers(value: Any) -> None:
    writer = Writer()
    assert writer.add(value) == 0
    item = Item(index=3, status=1)
    assert lib.aiomq_value_item(writer.handle, item) == 0
    assert (item.kind == _abi.KIND_VALUE) == isinstance(value, list | dict)
    assert (item.index, item.status) == (3, 1)
    opened_value = Value()
    assert lib.aiomq_value_open(item, opened_value) == 0
    assert same(read(opened_value), value)


def test_arrays_become_lists_of_numbers() -> None:
    writer = Writer()
    ints = (ctypes.c_int64 * 3)(1, -2, 3)
    floats = (ctypes.c_double * 2)(0.5, -1.5)
    assert lib.aiomq_value_write_begin(writer.handle, LIST) == 0
    assert lib.aiomq_value_write_ints(writer.handle, ints, 3) == 0
    assert lib.aiomq_value_write_floats(writer.handle, floats, 2) == 0
    assert lib.aiomq_value_write_ints(writer.handle, None, 0) == 0
    assert lib.aiomq_value_write_end(writer.handle) == 0
    assert writer.message(_abi.KIND_VALUE) == PURE.value([[1, -2, 3], [0.5, -1.5], []])


def test_a_writer_refuses_what_has_no_place() -> None:
    writer = Writer()
    assert lib.aiomq_value_write_end(writer.handle) == -errno.EINVAL
    assert lib.aiomq_value_write_begin(writer.handle, NONE) == -errno.EINVAL
    assert lib.aiomq_value_write_begin(writer.handle, 99) == -errno.EINVAL
    assert lib.aiomq_value_write_text(writer.handle, b"\xed\xa0\x80", 3) == -errno.EILSEQ
    assert lib.aiomq_value_measure(writer.handle, _abi.KIND_VALUE) == -errno.EINVAL  # nothing there
    assert writer.add(1) == 0
    assert lib.aiomq_value_write_begin(writer.handle, DICT) == 0
    assert writer.add("key") == 0
    assert lib.aiomq_value_write_end(writer.handle) == -errno.EINVAL  # a key without a value
    assert lib.aiomq_value_measure(writer.handle, _abi.KIND_CALL) == -errno.EINVAL  # open
    assert writer.add("value") == 0
    assert lib.aiomq_value_write_end(writer.handle) == 0
    assert lib.aiomq_value_measure(writer.handle, _abi.KIND_VALUE) == -errno.EINVAL  # two
    assert lib.aiomq_value_store(writer.handle, ctypes.create_string_buffer(8)) == -errno.EINVAL
    assert writer.keyword("name") == 0
    assert lib.aiomq_value_measure(writer.handle, _abi.KIND_CALL) == -errno.EINVAL  # no value
    assert writer.add(2) == 0
    assert writer.add(3) == -errno.EINVAL  # positional behind keywords
    assert writer.next_call() == -errno.EINVAL
    assert lib.aiomq_value_measure(writer.handle, _abi.KIND_CALL) > 0
    assert lib.aiomq_value_writer_reset(writer.handle) == 0
    for _ in range(64):
        assert lib.aiomq_value_write_begin(writer.handle, LIST) == 0
    assert lib.aiomq_value_write_begin(writer.handle, LIST) == -errno.EMSGSIZE


@pytest.mark.parametrize(
    "text",
    [
        b"\x80",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xed\xbf\xbf",
        b"\xf0\x80\x80\xaf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff",
        b"abc\xc3",
        b"\xe2\x82",
        b"12345678\x80",
    ],
)
def test_a_text_that_is_not_utf8_is_refused(text: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        text.decode()
    writer = Writer()
    assert lib.aiomq_value_write_text(writer.handle, text, len(text)) == -errno.EILSEQ


def test_what_is_not_there_is_told() -> None:
    keep, address = aligned(PURE.value({"a": 1}))
    item = Item(kind=_abi.KIND_VALUE, bytes=len(PURE.value({"a": 1})))
    item.value.data = address
    value, found = Value(), Value()
    assert lib.aiomq_value_open(item, value) == 0
    assert lib.aiomq_value_find(value, b"a", found) == 0
    assert read(found) == 1
    assert lib.aiomq_value_find(value, b"b", found) == -errno.ENOENT
    assert lib.aiomq_value_element(value, 1, found) == -errno.ENOENT
    assert lib.aiomq_value_key(value, 1, found) == -errno.ENOENT
    assert lib.aiomq_value_element(found, 0, found) == -errno.EINVAL
    assert lib.aiomq_value_find(found, b"a", found) == -errno.EINVAL
    assert lib.aiomq_value_open(Item(kind=_abi.KIND_ERROR), value) == -errno.EINVAL
    assert lib.aiomq_type_name(DICT) == b"dict"
    assert lib.aiomq_type_name(99) == b"unknown"
    del keep


def test_a_damaged_message_is_told_and_never_followed_out_of_bounds() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    whole = PURE.value({"a": [1, 2, 3], "b": ["x", "yy"], "c": ([0.5], {b"q"}, None, 2**80)})
    damaged = 0
    for _ in range(EXAMPLES * 20):
        message = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            message[chance.randrange(len(message))] = chance.randrange(256)
        keep, address = aligned(bytes(message))
        item = Item(kind=_abi.KIND_VALUE, bytes=len(message))
        item.value.data = address
        damaged += walk(item)
        del keep
    assert damaged > 0


def walk(item: Item) -> bool:
    """Look at everything; whether something was damaged."""
    value = Value()
    error = lib.aiomq_value_open(item, value)
    assert error in (0, -errno.EBADMSG)
    return bool(error) or walk_value(value, 0)


def walk_value(value: Value, depth: int) -> bool:
    damaged = False
    if value.type < LIST or depth > 8:
        return damaged
    for index in range(min(value.count, 50)):
        part = Value()
        error = lib.aiomq_value_element(value, index, part)
        assert error in (0, -errno.EBADMSG, -errno.EINVAL)
        damaged = damaged or error != 0 or walk_value(part, depth + 1)
    return damaged
