"""The codec: values, calls and chunks as Cap'n Proto messages, natively and in pure Python."""

from __future__ import annotations

import ctypes
import gc
import math
import random
import shutil
import struct
import subprocess
import threading
import time
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomq import _abi, _bridge, _decode, _encode
from aiomq._bridge import EncodeError
from aiomq._words import Builder

SCHEMA = Path(__file__).resolve().parents[2] / "lib/core/schema/value.capnp"


class Codec(NamedTuple):
    """One variant of the codec."""

    name: str
    value: Callable[..., bytes]
    decode: Callable[[bytes], Any]
    call: Callable[..., bytes]
    chunk: Callable[..., bytes]
    arguments: Any


PURE = Codec(
    "pure",
    _encode.encode_value,
    _decode.decode_value,
    _encode.encode_arguments,
    _encode.encode_chunk,
    _decode.Arguments,
)
CODECS = [PURE]
if _bridge.NATIVE:
    CODECS.append(
        Codec(
            "native",
            _bridge.native.encode_value,
            _bridge.native.decode_value,
            lambda args, kwargs: _bridge.native.encode_call(args, kwargs)[2],
            _bridge.native.encode_chunk,
            _bridge.native.Arguments,
        )
    )


@pytest.fixture(params=CODECS, ids=lambda codec: codec.name)
def codec(request: pytest.FixtureRequest) -> Codec:
    return request.param


def same(left: Any, right: Any) -> bool:
    """Equal, of equal types all the way down, dicts in equal order, floats bit for bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("<d", left) == struct.pack("<d", right)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    return bool(left == right)


def aligned(payload: bytes) -> tuple[Any, int]:
    """The payload at an address that is a multiple of 8, and what keeps it there."""
    buffer = (ctypes.c_uint64 * (len(payload) // 8 + 1))()
    ctypes.memmove(buffer, payload, len(payload))
    return buffer, ctypes.addressof(buffer)


def calls(codec: Codec, kind: int, payload: bytes) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """All calls that a payload stands for."""
    keep, address = aligned(payload)
    arguments = codec.arguments(kind, 0, address, len(payload))
    found = [arguments.get(i) for i in range(len(arguments))]
    del keep
    return found


def message(build: Callable[[Builder], None]) -> bytes:
    """A message laid out by hand."""
    builder = Builder()
    build(builder)
    return bytes(builder.out)


# --- round trips ----------------------------------------------------------------------------------

PLAIN: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**63) - 1,
    255,
    2**64 - 1,
    10**50,
    -(10**400),
    0.0,
    -0.0,
    1.5,
    math.inf,
    -math.inf,
    math.nan,
    struct.unpack("<d", struct.pack("<Q", 0x7FF8000000001234))[0],
    "",
    "a",
    "seven77",
    "eight888",
    "é" * 9,
    "\0x\0",
    "\U0001f40d",
    b"",
    b"abc",
    b"\0" * 8,
    [],
    (),
    {},
    set(),
    frozenset(),
    [1, 2, 3],
    [True, False],
    [1, True],
    [1, 2**64],
    [2**64],
    [1.0, math.nan],
    [1, 1.0],
    ["a", "b", ""],
    ["", ""],
    [b"", b"xx"],
    [b""],
    ["a", b"a"],
    [None],
    [None] * 100,
    [[], (), {}],
    [[1, "a"], [2.5, b"z"]],
    ([1],),
    {"a": 1, "b": [1, 2]},
    {1: 2, "x": None, (1, 2): {3}, b"z": frozenset({1})},
    {"b": 1, "a": 2},
    {frozenset({1, 2}): {"x", "y"}},
    "x" * 100_000,
    b"y" * 100_000,
    list(range(1000)),
    {str(i): i for i in range(50)},
]


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


class Number(int):
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


@settings(max_examples=300, deadline=None)
@given(plain)
def test_any_plain_value_comes_back_from_the_same_bytes(value: Any) -> None:
    payload = PURE.value(value)
    for codec in CODECS:
        assert codec.value(value) == payload
        assert same(codec.decode(payload), value)


arguments_of_a_call = st.tuples(
    st.lists(plain, max_size=9).map(tuple), st.dictionaries(st.text(), plain, max_size=4)
)


@settings(max_examples=200, deadline=None)
@given(arguments_of_a_call)
def test_any_call_comes_back_from_the_same_bytes(call: Any) -> None:
    payload = PURE.call(*call)
    for codec in CODECS:
        assert codec.call(*call) == payload
        assert same(calls(codec, _abi.KIND_CALL, payload), [call])


@settings(max_examples=200, deadline=None)
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


def test_chunks_of_one_kind_are_columns(codec: Codec) -> None:
    texts = [f"item {i}" for i in range(1000)]
    assert len(codec.chunk(texts, 0, 1000, False)) < sum(map(len, texts)) + 4 * 1000 + 100
    pairs = list(enumerate(texts))
    assert len(codec.chunk(pairs, 0, 1000, True)) < sum(map(len, texts)) + 12 * 1000 + 200
    assert len(codec.call((5,), {})) == 40
    assert len(codec.call((), {})) == 8


def test_star_takes_any_iterable(codec: Codec) -> None:
    items = [range(2), iter("ab"), {"k": 1, "l": 2}, (x for x in (1, 2))]
    payload = codec.chunk(items, 0, 4, True)
    assert calls(codec, _abi.KIND_CHUNK, payload) == [
        ((0, 1), {}),
        (("a", "b"), {}),
        (("k", "l"), {}),
        ((1, 2), {}),
    ]


# --- sharing, recursion, depth --------------------------------------------------------------------


def test_an_object_that_occurs_twice_stays_one_object(codec: Codec) -> None:
    inner = [1]
    for value in ([inner, inner], {"a": inner, "b": (inner,)}, ((inner,),) * 2):
        assert PURE.value(value) == codec.value(value)
    first, second = codec.decode(codec.value([inner, inner]))
    assert first is second
    pair = ([1],)
    first, second = codec.decode(codec.value([pair, pair]))
    assert first is second


def test_values_that_contain_themselves_come_back(codec: Codec) -> None:
    value: list[Any] = [1]
    value.append(value)
    decoded = codec.decode(codec.value(value))
    assert decoded[1] is decoded
    cycle: dict[str, Any] = {}
    cycle["t"] = (cycle,)
    decoded = codec.decode(codec.value(cycle))
    assert decoded["t"][0] is decoded


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


# --- named errors ---------------------------------------------------------------------------------


def no_pickle() -> Any:
    return threading.Lock()


@pytest.mark.parametrize(
    ("args", "kwargs", "culprit"),
    [
        ((1, no_pickle()), {}, "argument 2"),
        ((no_pickle(),), {}, "argument 1"),
        ((1,), {"x": no_pickle()}, "keyword 'x'"),
        ((), {"x": 1, "y": [no_pickle()]}, "keyword 'y'"),
        ((lambda: 0,), {}, "argument 1"),
        (((i for i in ()),), {}, "argument 1"),
    ],
)
def test_an_argument_that_cannot_be_pickled_is_named(
    codec: Codec, args: Any, kwargs: Any, culprit: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        codec.call(args, kwargs)
    assert str(caught.value) == culprit
    assert isinstance(caught.value.__cause__, TypeError | AttributeError | Exception)
    assert str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("items", "star", "culprit"),
    [
        ([0, 1, 2, no_pickle()], False, "item 3"),
        ([(0,), (1,), (2,), (3, no_pickle())], True, "item 3, argument 2"),
        ([(0, 0), (1, 1), (2, 2), (no_pickle(), 3)], True, "item 3, argument 1"),
        ([(0,), (1,), 2, (3,)], True, "item 2"),
    ],
)
def test_an_item_that_cannot_be_sent_is_named(
    codec: Codec, items: list[Any], star: bool, culprit: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        codec.chunk(items, 1, 4, star)
    assert str(caught.value) == culprit
    assert isinstance(caught.value.__cause__, Exception)


def test_the_value_and_what_went_wrong_are_named(codec: Codec) -> None:
    with pytest.raises(EncodeError, match="the value") as caught:
        codec.value(no_pickle())
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(EncodeError, match="keyword"):
        codec.call((), {"\ud800": 1})
    with pytest.raises(TypeError, match="keywords must be strings"):
        codec.call((), {1: 1})
    for start, stop in ((-1, 1), (1, 1), (0, 3)):
        with pytest.raises(ValueError, match="start and stop"):
            codec.chunk([1, 2], start, stop, False)


def test_what_can_never_fit_is_refused_before_it_is_copied(codec: Codec) -> None:
    large = bytes(2**29)  # never touched, so it takes no memory
    for args in ((1, large), (1, [large]), (1, {"k": large})):
        with pytest.raises(EncodeError, match="argument 2") as caught:
            codec.call(args, {})
        assert "too large" in str(caught.value.__cause__)
    with pytest.raises(EncodeError, match="item 1"):
        codec.chunk([b"", large], 0, 2, False)


class Interrupting:
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


def test_an_interrupt_while_pickling_is_not_an_encode_error(codec: Codec) -> None:
    with pytest.raises(KeyboardInterrupt):
        codec.call((Interrupting(),), {})
    assert gc.isenabled()


# --- objects that change while they are encoded ---------------------------------------------------


class Meddler:
    """Changes other arguments when it is pickled."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action

    def __reduce__(self) -> Any:
        self.action()
        return (int, (7,))


def meddlers() -> Iterator[tuple[Any, Callable[[], object]]]:
    big = list(range(1000))
    yield big, big.clear
    grown = ["a"] * 10
    yield grown, lambda: grown.extend(["bb"] * 10_000)
    texts = [str(i) * 3 for i in range(1000)]
    yield texts, lambda: texts.__setitem__(slice(None), [b"x"] * 5)
    table = {str(i): [str(i)] for i in range(100)}
    yield table, table.clear
    spoiled = [1, 2, 3]
    yield spoiled, lambda: spoiled.append(Number(3))
    members = {str(i) for i in range(100)}
    yield members, lambda: members.update(map(str, range(10_000)))


def test_arguments_that_change_while_others_are_pickled_stay_whole(codec: Codec) -> None:
    for victim, action in meddlers():
        payload = codec.call((victim, Meddler(action), victim), {"k": victim})
        ((args, kwargs),) = calls(codec, _abi.KIND_CALL, payload)
        assert args[1] == 7
        for copy in (args[0], args[2], kwargs["k"]):
            assert type(copy) is type(victim)
        if codec.name == "native":
            assert args[0] == victim  # everything was planned again after the last pickle


def test_a_list_of_items_that_changes_while_it_is_encoded_stays_whole(codec: Codec) -> None:
    items: list[Any] = ["a" * 50 for _ in range(100)]
    items[50] = Meddler(lambda: items.clear())
    payload = codec.chunk(items, 0, 100, False)
    decoded = [args[0] for args, _ in calls(codec, _abi.KIND_CHUNK, payload)]
    assert decoded == ["a" * 50] * 50 + [7] + ["a" * 50] * 49

    rows: list[Any] = [[i, str(i)] for i in range(20)]

    def changing() -> Iterator[int]:
        rows.clear()
        yield from (1, 2)

    rows[10] = changing()
    payload = codec.chunk(rows, 0, 20, True)
    assert len(calls(codec, _abi.KIND_CHUNK, payload)) == 20


class Saboteur:
    """Garbage whose finalizer empties what is just being encoded."""

    def __init__(self, victim: list[Any]) -> None:
        self.victim = victim
        self.me = self

    def __del__(self) -> None:
        self.victim.clear()


def test_a_collection_cannot_change_what_is_being_encoded(codec: Codec) -> None:
    threshold = gc.get_threshold()
    try:
        for _ in range(50):
            victim: list[Any] = [{"s": {str(i), 2**70 + i}} for i in range(20)]
            Saboteur(victim)
            gc.set_threshold(1)
            payload = codec.value(victim)
            gc.set_threshold(*threshold)
            decoded = codec.decode(payload)
            assert all(len(entry["s"]) == 2 for entry in decoded)
    finally:
        gc.set_threshold(*threshold)
        gc.collect()
    assert gc.isenabled()


# --- damage ---------------------------------------------------------------------------------------


def outcome(codec: Codec, kind: int, payload: bytes) -> tuple[str, Any]:
    try:
        if kind == _abi.KIND_VALUE:
            return "value", codec.decode(payload)
        return "value", calls(codec, kind, payload)
    except ValueError as error:
        return "error", type(error)


def damage(payload: bytes, random_: random.Random) -> bytes:
    """The payload with some bits flipped, or words exchanged, or its end cut off."""
    data = bytearray(payload)
    for _ in range(random_.choice((1, 1, 2, 4))):
        way = random_.randrange(4)
        if way == 0 and data:
            data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        elif way == 1 and data:
            data[random_.randrange(len(data))] = random_.randrange(256)
        elif way == 2 and len(data) >= 8:
            a, b = (8 * random_.randrange(len(data) // 8) for _ in range(2))
            data[a : a + 8], data[b : b + 8] = data[b : b + 8], data[a : a + 8]
        elif way == 3:
            del data[random_.randrange(len(data) + 1) :]
    return bytes(data)


def intact() -> list[tuple[int, bytes]]:
    nested = {"a": [1, "x", (2.5, {"k": [b"z", None]})], "b": {1, 2}, "c": [["p", "q"], [10**30]]}
    found = [(_abi.KIND_VALUE, PURE.value(value)) for value in (nested, [nested], *PLAIN[:-5])]
    found.append((_abi.KIND_CALL, PURE.call((1, "x", nested), {"k": nested, "l": 1})))
    found.append((_abi.KIND_CHUNK, PURE.chunk([1, 2, 3], 0, 3, False)))
    found.append((_abi.KIND_CHUNK, PURE.chunk([(1, "a"), (2, "b")], 0, 2, True)))
    found.append((_abi.KIND_CHUNK, PURE.chunk([(1,), (2, nested), ()], 0, 3, True)))
    return found


def test_damaged_messages_give_a_value_error_and_both_variants_agree(rng: random.Random) -> None:
    samples = intact()
    for _ in range(20_000):
        kind, payload = rng.choice(samples)
        payload = damage(payload, rng)
        try:
            found = [outcome(codec, kind, payload) for codec in CODECS]
        except Exception as error:
            # Damage may make a pickle of anything, and what that raises is its own business.
            assert not isinstance(error, struct.error | RecursionError | SystemError), payload.hex()
            continue
        first = found[0]
        for other in found[1:]:
            assert first[0] == other[0], payload.hex()
            assert first[0] == "error" or same(first[1], other[1]), payload.hex()


def test_every_truncation_is_survived() -> None:
    for kind, payload in intact():
        if len(payload) > 2000:
            continue
        for size in range(len(payload)):
            for codec in CODECS:
                outcome(codec, kind, payload[:size])


def test_pointers_that_share_or_loop_come_to_an_end(codec: Codec) -> None:
    def shared(builder: Builder) -> None:
        """Thirty levels of lists of 16 elements that are all the same list."""
        root = builder.take(3)
        builder.point_to_struct(0, root, 2, 1)
        holders = [root]
        for _ in range(30):
            column = builder.take(2)
            for holder in holders:
                builder.put(holder, 7)
                builder.point_to_struct(holder + 2, column, 1, 1)
            first = builder.take_structs(column + 1, 16, 2, 1)
            holders = [first + 3 * i for i in range(16)]

    def looping(builder: Builder) -> None:
        """A list that contains itself."""
        root = builder.take(3)
        builder.point_to_struct(0, root, 2, 1)
        builder.put(root, 7)
        column = builder.take(2)
        builder.point_to_struct(root + 2, column, 1, 1)
        first = builder.take_structs(column + 1, 2, 2, 1)
        for element in (first, first + 3):
            builder.put(element, 7)
            offset = column - (element + 2) - 1
            builder.put(element + 2, (offset & 0x3FFFFFFF) << 2 | 1 << 32 | 1 << 48)

    def sizeless(builder: Builder) -> None:
        """A list of half a billion elements of no size."""
        root = builder.take(3)
        builder.point_to_struct(0, root, 2, 1)
        builder.put(root, 7)
        column = builder.take(2)
        builder.point_to_struct(root + 2, column, 1, 1)
        builder.take_structs(column + 1, 2**29 - 1, 0, 0)

    def far_to_itself(builder: Builder) -> None:
        builder.put(0, 2)

    for build in (shared, looping, sizeless, far_to_itself):
        started = time.monotonic()
        with pytest.raises(ValueError, match="damaged message"):
            codec.decode(message(build))
        assert time.monotonic() - started < 5


def test_layouts_of_other_writers_are_read(codec: Codec) -> None:
    def far(builder: Builder) -> None:
        """The root behind a far pointer, the text behind one with two words."""
        builder.put(0, 1 << 3 | 2)
        pad = builder.take(1)
        root = builder.take(5)  # a later version's struct: more data, more pointers
        builder.point_to_struct(pad, root, 3, 2)
        builder.put(root, 5)
        far_pad = builder.take(2)
        builder.put(root + 3, far_pad << 3 | 4 | 2)
        text = builder.take(1)
        builder.put(text, int.from_bytes(b"hello\0", "little"))
        builder.put(far_pad, text << 3 | 2)
        builder.put(far_pad + 1, 1 | 2 << 32 | 6 << 35)

    def short(builder: Builder) -> None:
        """An earlier version's struct: no pointer, one data word; what is missing is 0."""
        root = builder.take(1)
        builder.point_to_struct(0, root, 1, 0)
        builder.put(root, 2)

    def sizeless(builder: Builder) -> None:
        """A list of five elements of no size: five times the default, None."""
        root = builder.take(3)
        builder.point_to_struct(0, root, 2, 1)
        builder.put(root, 8)
        column = builder.take(2)
        builder.point_to_struct(root + 2, column, 1, 1)
        builder.take_structs(column + 1, 5, 0, 0)

    assert codec.decode(message(far)) == "hello"
    assert codec.decode(message(short)) == 0
    assert codec.decode(message(sizeless)) == (None,) * 5
    assert codec.decode(message(lambda builder: None)) is None


@pytest.mark.skipif(shutil.which("capnp") is None, reason="needs the schema compiler")
@pytest.mark.parametrize("root", ["Value", "Call", "Chunk"])
def test_the_schema_compilers_own_codec_reads_and_writes_them(root: str) -> None:
    nested = {"a": [1, "x", (2.5, {"k": [b"z", None, True]})], "b": {1, 2}, "c": [["p"], [10**30]]}
    if root == "Value":
        kind, samples = _abi.KIND_VALUE, [PURE.value(value) for value in (nested, 7, "é", [[], ""])]
    elif root == "Call":
        kind, samples = _abi.KIND_CALL, [PURE.call((1, nested), {"k": "v"}), PURE.call((), {})]
    else:
        rows = [(1, "a"), (2, nested)]
        kind, samples = (
            _abi.KIND_CHUNK,
            [PURE.chunk(rows, 0, 2, True), PURE.chunk([*rows, ()], 0, 3, True)],
        )
    for payload in samples:
        text = subprocess.run(
            ["capnp", "decode", "--flat", "--quiet", str(SCHEMA), root],
            input=payload,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        other = subprocess.run(
            ["capnp", "encode", "--flat", str(SCHEMA), root],
            input=text,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for codec in CODECS:
            assert same(outcome(codec, kind, other), outcome(codec, kind, payload))


# --- the payloads of other programs ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "integer", "payload", "expected"),
    [
        (_abi.KIND_NONE, 0, b"", ()),
        (_abi.KIND_BOOL, 1, b"", (True,)),
        (_abi.KIND_INT, -5, b"", (-5,)),
        (_abi.KIND_FLOAT, struct.unpack("<q", struct.pack("<d", -2.5))[0], b"", (-2.5,)),
        (_abi.KIND_BYTES, 0, b"raw", (b"raw",)),
        (_abi.KIND_BYTES, 0, b"", (b"",)),
        (_abi.KIND_TEXT, 0, "é".encode(), ("é",)),
        (_abi.KIND_VALUE, 0, PURE.value([1, "a"]), ([1, "a"],)),
    ],
)
def test_a_payload_that_is_one_value_is_the_only_argument(
    codec: Codec, kind: int, integer: int, payload: bytes, expected: tuple[Any, ...]
) -> None:
    keep, address = aligned(payload)
    arguments = codec.arguments(kind, integer, address if payload else None, len(payload))
    assert len(arguments) == 1
    for i in (0, 1, 7):
        assert same(arguments.get(i), (expected, {}))
    del keep


def test_arguments_are_checked(codec: Codec) -> None:
    with pytest.raises(ValueError, match="without an address"):
        codec.arguments(_abi.KIND_CALL, 0, 0, 8)
    for kind in (_abi.KIND_ERROR, 1000):
        with pytest.raises(ValueError, match="unknown kind"):
            codec.arguments(kind, 0, 0, 0)
    for kind in (_abi.KIND_VALUE, _abi.KIND_CALL, _abi.KIND_CHUNK):
        with pytest.raises(ValueError, match="empty"):
            codec.arguments(kind, 0, 0, 0)
    payload = codec.chunk([1, 2, 3], 0, 3, False)
    keep, address = aligned(payload)
    arguments = codec.arguments(_abi.KIND_CHUNK, 0, address, len(payload))
    with pytest.raises(IndexError):
        arguments.get(3)
    assert [arguments.get(i)[0] for i in (2, 0, 2)] == [(3,), (1,), (3,)]
    del keep


def test_large_payloads_are_read_in_place(codec: Codec) -> None:
    texts = [f"{i}" * 20 for i in range(10_000)]
    payload = codec.chunk(texts, 0, len(texts), False)
    keep, address = aligned(payload)
    arguments = codec.arguments(_abi.KIND_CHUNK, 0, address, len(payload))
    for i in (0, 9_999, 5_000):
        assert arguments.get(i) == ((texts[i],), {})
    del keep
