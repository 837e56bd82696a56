"""The two variants of the codec and values to try them on, for the tests of codec and bridge."""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from aiomq import _bridge, _decode, _encode
from aiomq._words import Builder


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


each_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


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


class Number(int):
    """Not plain."""
