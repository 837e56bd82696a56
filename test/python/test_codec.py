"""The codec: values, calls and chunks come back, and both variants write the same bytes."""

from __future__ import annotations

import array
import os
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
from codec_variants import CODECS, PLAIN, PURE, Codec, Number, calls, each_codec, same
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomq import _abi
from aiomq._bridge_types import EncodeError

EXAMPLES = 5000 if os.environ.get("AIOMQ_STRESS") else 60


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:40])
def test_plain_values_come_back_and_both_variants_write_the_same_bytes(value: Any) -> None:
    payload = PURE.value(value)
    for codec in CODECS:
        assert codec.value(value) == payload
        assert same(codec.decode(payload), value)


class Point(namedtuple("Point", "x y")):
    pass


class Text(str):
    pass


NOT_PLAIN: list[Any] = [
    Point(1, 2),
    Text("a"),
    Number(7),
    "\ud800",
    ["a", "\udc80"],
    1j,
    range(3),
    bytearray(b"x"),
    OrderedDict(a=1),
    [1, Point(3, 4)],
    {"a": {"b": Text("c")}},
    memoryview(b"x" * 100),
    [memoryview(b""), 1, {"a": memoryview(b"y" * 64)}],
    array.array("d", [1.5, -2.5]),
    bytearray(b"z" * 5000),
]


@pytest.mark.parametrize("value", NOT_PLAIN, ids=ascii)
def test_what_is_not_plain_is_pickled_and_keeps_its_type(value: Any) -> None:
    payload = PURE.value(value)
    assert b"\x80\x05" in payload
    for codec in CODECS:
        assert codec.value(value) == payload
        assert same(codec.decode(payload), value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner)
        | st.sets(st.integers() | st.text())
        | st.frozensets(st.integers() | st.binary())
    ),
    max_leaves=40,
)


@pytest.mark.stress
@settings(max_examples=EXAMPLES, deadline=None)
@given(plain)
def test_any_plain_value_comes_back_from_the_same_bytes(value: Any) -> None:
    payload = PURE.value(value)
    for codec in CODECS:
        assert codec.value(value) == payload
        assert same(codec.decode(payload), value)


buffers = st.recursive(
    st.binary(max_size=300).map(memoryview)
    | st.binary(max_size=300).map(bytearray)
    | st.lists(st.floats(allow_nan=False)).map(lambda numbers: array.array("d", numbers))
    | plain,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple),
    max_leaves=10,
)


@pytest.mark.stress
@settings(max_examples=EXAMPLES, deadline=None)
@given(buffers)
def test_any_buffers_come_back_from_the_same_bytes(value: Any) -> None:
    payload = PURE.value(value)
    for codec in CODECS:
        assert codec.value(value) == payload
        assert same(codec.decode(payload), value)


arguments_of_a_call = st.tuples(
    st.lists(plain, max_size=9).map(tuple), st.dictionaries(st.text(), plain, max_size=4)
)


@pytest.mark.stress
@settings(max_examples=EXAMPLES, deadline=None)
@given(arguments_of_a_call)
def test_any_call_comes_back_from_the_same_bytes(call: Any) -> None:
    payload = PURE.call(*call)
    for codec in CODECS:
        assert codec.call(*call) == payload
        assert same(calls(codec, _abi.KIND_CALL, payload), [call])


@pytest.mark.stress
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.lists(plain, max_size=8), min_size=1, max_size=6), st.booleans(), st.data())
def test_any_chunk_comes_back_from_the_same_bytes(
    rows: list[list[Any]], star: bool, data: st.DataObject
) -> None:
    if data.draw(st.booleans()):
        rows = [rows[0][:1] * 3] * len(rows)  # all of one length
    start = data.draw(st.integers(0, len(rows) - 1))
    stop = data.draw(st.integers(start + 1, len(rows)))
    payload = PURE.chunk(rows, start, stop, star)
    expected = [(tuple(row) if star else (row,), {}) for row in rows[start:stop]]
    for codec in CODECS:
        assert codec.chunk(rows, start, stop, star) == payload
        assert same(calls(codec, _abi.KIND_CHUNK, payload), expected)


far = st.integers(-(2**65), 2**65) | st.sampled_from([-(2**63), -(2**63) + 1, 2**63 - 1, 2**63])
steps = st.integers(-(2**66), 2**66).filter(bool) | st.sampled_from([1, -1, 2**63, -(2**63)])


@settings(max_examples=EXAMPLES, deadline=None)
@given(far, steps, st.integers(1, 12), st.data())
def test_a_range_is_the_list_of_its_numbers(
    first: int, step: int, count: int, data: st.DataObject
) -> None:
    numbers = range(first, first + step * count, step)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    payload = PURE.chunk(list(numbers), start, stop, False)
    for codec in CODECS:
        assert codec.chunk(numbers, start, stop, False) == payload


@each_codec
def test_what_a_range_can_not_be(codec: Codec) -> None:
    with pytest.raises(ValueError, match="start and stop must name one or more of the items"):
        codec.chunk(range(3), 1, 4, False)
    with pytest.raises(EncodeError, match="item 1"):
        codec.chunk(range(3), 1, 2, True)
    with pytest.raises((ValueError, OverflowError)):
        codec.chunk(range(2**70), 0, 1, False)


@each_codec
def test_chunks_of_one_kind_are_columns(codec: Codec) -> None:
    texts = [f"item {i}" for i in range(1000)]
    assert len(codec.chunk(texts, 0, 1000, False)) < sum(map(len, texts)) + 4 * 1000 + 100
    pairs = list(enumerate(texts))
    assert len(codec.chunk(pairs, 0, 1000, True)) < sum(map(len, texts)) + 12 * 1000 + 200
    assert len(codec.call((5,), {})) == 40
    assert len(codec.call((), {})) == 8


@each_codec
def test_star_takes_any_iterable(codec: Codec) -> None:
    items = [range(2), iter("ab"), {"k": 1, "l": 2}, (x for x in (1, 2))]
    payload = codec.chunk(items, 0, 4, True)
    assert calls(codec, _abi.KIND_CHUNK, payload) == [
        ((0, 1), {}),
        (("a", "b"), {}),
        (("k", "l"), {}),
        ((1, 2), {}),
    ]


@each_codec
def test_an_object_that_occurs_twice_stays_one_object(codec: Codec) -> None:
    inner = [1]
    for value in ([inner, inner], {"a": inner, "b": (inner,)}, ((inner,),) * 2):
        assert PURE.value(value) == codec.value(value)
    first, second = codec.decode(codec.value([inner, inner]))
    assert first is second
    pair = ([1],)
    first, second = codec.decode(codec.value([pair, pair]))
    assert first is second


@each_codec
def test_values_that_contain_themselves_come_back(codec: Codec) -> None:
    value: list[Any] = [1]
    value.append(value)
    decoded = codec.decode(codec.value(value))
    assert decoded[1] is decoded
    cycle: dict[str, Any] = {}
    cycle["t"] = (cycle,)
    decoded = codec.decode(codec.value(cycle))
    assert decoded["t"][0] is decoded


@each_codec
def test_nested_pairs_of_the_same_pair_do_not_explode(codec: Codec) -> None:
    value: Any = (1, "a")
    for _ in range(60):
        value = (value, value)
    payload = codec.value(value)
    assert len(payload) < 10_000
    text = "x" * 100_000
    assert len(codec.value([text] * 100)) < 300_000
    assert len(codec.value([b"y" * 100_000, text, text])) < 400_000


@pytest.mark.parametrize("depth", [63, 64, 65, 200])
def test_deep_values_come_back(depth: int) -> None:
    value: Any = "core"
    for i in range(depth):
        value = (value,) if i % 2 else [value]
    payload = PURE.value(value)
    assert (b"\x80\x05" in payload) == (depth > 64)
    for codec in CODECS:
        assert codec.value(value) == payload
        assert codec.decode(payload) == value
