"""Messages that are damaged, laid out by other writers, or made by other programs."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from codec_variants import CODECS, PLAIN, PURE, Codec, aligned, calls, each_codec, message, same

from aiomq import _abi
from aiomq._words import Builder

SCHEMA = Path(__file__).resolve().parents[2] / "lib/core/schema/value.capnp"


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


def buffered(builder: Builder) -> None:
    """Three buffers beside a pickle of None: so short that no damage makes it ask for memory."""
    root = builder.take(3)
    builder.point_to_struct(0, root, 2, 1)
    builder.put(root, 13)
    inside = builder.take(2)
    builder.point_to_struct(root + 2, inside, 0, 2)
    builder.append_list(inside, 2, 4, b"\x80\x05N.")
    element = builder.take_structs(inside + 1, 3, 1, 1)
    for size in (70, 0, 8):
        builder.put(element, size)
        if size:
            builder.align(64)
            builder.append_list(element + 1, 5, -(-size // 8), b"b" * size)
        element += 2


def intact() -> list[tuple[int, bytes]]:
    nested = {"a": [1, "x", (2.5, {"k": [b"z", None]})], "b": {1, 2}, "c": [["p", "q"], [10**30]]}
    found = [(_abi.KIND_VALUE, PURE.value(value)) for value in (nested, [nested], *PLAIN[:-5])]
    found.append((_abi.KIND_VALUE, message(buffered)))
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


@each_codec
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


@each_codec
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


@each_codec
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


@each_codec
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


@each_codec
def test_large_payloads_are_read_in_place(codec: Codec) -> None:
    texts = [f"{i}" * 20 for i in range(10_000)]
    payload = codec.chunk(texts, 0, len(texts), False)
    keep, address = aligned(payload)
    arguments = codec.arguments(_abi.KIND_CHUNK, 0, address, len(payload))
    for i in (0, 9_999, 5_000):
        assert arguments.get(i) == ((texts[i],), {})
    del keep
