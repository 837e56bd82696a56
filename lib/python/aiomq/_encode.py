"""Values, calls and chunks as Cap'n Proto messages (schema/value.capnp), in pure Python.

For interpreters that can't load libaiomq_py, and to hold that library's output against: both write
the same bytes. `_decode` is the way back. What is not plain is pickled (protocol 5), a whole
argument, item or result at a time, and an argument that contains one list, dict or set twice counts
as not plain, because only a pickle can say that it is one object.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from aiomq import _buffers
from aiomq._bridge_types import EncodeError
from aiomq._words import BYTE, EIGHT_BYTES, FOUR_BYTES, Builder, words_of_bytes

# Value.which()
NONE, BOOL, INT, BIGINT, FLOAT, TEXT, BYTES, LIST, TUPLE, DICT, SET, FROZENSET = range(12)
PICKLE, BUFFERED = 12, 13
# Column.which()
VALUES, INTS, FLOATS, TEXTS, BYTE_STRINGS = range(5)
# Chunk.which()
COLUMNS, CALLS = range(2)

DEPTH_LIMIT = 64
_BYTES_LIMIT = 2**29 - 2
_ELEMENTS_LIMIT = 2**29 - 1
_WORDS_LIMIT = 2**29 - 1
_REPEATED_WORDS_LIMIT = 512
_LARGE_BYTES = 1024

_VALUE_SHAPE = (2, 1)  # data words, pointers
_COLUMN_SHAPE = (1, 2)
_CALL_SHAPE = (0, 2)
_MAPPING_SHAPE = (0, 2)
_BUFFERED_SHAPE = (0, 2)
_BUFFER_SHAPE = (1, 1)
_BUFFER_ALIGNMENT = 64  # bytes

_SEQUENCES: dict[type, int] = {list: LIST, tuple: TUPLE, set: SET, frozenset: FROZENSET}
_CHANGEABLE = (LIST, SET)
_TOO_LARGE = "too large: a text or byte string has at most 536870910 bytes, a message 4 GiB"


class _NotPlain(Exception):
    """The value being written must be pickled."""


class _TooLarge(Exception):
    """The value being written can't be in a message."""


class _Writer:
    """Writes values into a message, in the order of lib/core/value_writer.cpp."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.buffers: list[tuple[int, memoryview]] = []  # with the pointer that is to lead to each
        self.begin()

    def begin(self) -> None:
        """Forget which objects the argument before contained."""
        self._seen: set[int] = set()
        self._repeated_words = 0
        self._inside_repeated = 0

    def finish(self) -> bytes:
        """The message; raises _TooLarge."""
        for pointer, buffer in self.buffers:
            if buffer.nbytes:
                self.builder.align(_BUFFER_ALIGNMENT)
                words = words_of_bytes(buffer.nbytes)
                if words > _ELEMENTS_LIMIT:
                    raise _TooLarge
                self.builder.append_list(pointer, EIGHT_BYTES, words, buffer)
                self.builder.align(_BUFFER_ALIGNMENT)
        if len(self.builder.out) // 8 > _WORDS_LIMIT:
            raise _TooLarge
        return bytes(self.builder.out)

    def argument(self, at: int, value: object, culprit: Callable[[], str]) -> None:
        """Write a whole argument, item or result as the Value at `at`; pickled if not plain."""
        size = len(self.builder.out)
        self.begin()
        try:
            try:
                self._value(at, value, 0)
            except _NotPlain:
                del self.builder.out[size:]
                self._pickle(at, value, culprit)
        except _TooLarge:
            raise EncodeError(culprit()) from ValueError(_TOO_LARGE)

    def _pickle(self, at: int, value: object, culprit: Callable[[], str]) -> None:
        try:
            made = _buffers.dumps(value)
        except Exception as error:
            raise EncodeError(culprit()) from error
        for word in range(sum(_VALUE_SHAPE)):
            self.builder.put(at + word, 0)
        if isinstance(made, bytes):
            self._data(at, PICKLE, made)
        else:
            self._buffered(at, *made)

    def _buffered(self, at: int, pickled: bytes, buffers: list[memoryview]) -> None:
        builder = self.builder
        builder.put(at, BUFFERED)
        buffered = builder.take(sum(_BUFFERED_SHAPE))
        builder.point_to_struct(at + 2, buffered, *_BUFFERED_SHAPE)
        builder.append_list(buffered, BYTE, len(pickled), pickled)
        element = builder.take_structs(buffered + 1, len(buffers), *_BUFFER_SHAPE)
        for buffer in buffers:
            builder.put(element, buffer.nbytes)
            self.buffers.append((element + 1, buffer))
            element += sum(_BUFFER_SHAPE)

    def _value(self, at: int, value: Any, depth: int) -> None:
        kind = type(value)
        put = self.builder.put
        if kind is int:
            if -(2**63) <= value < 2**63:
                put(at, INT)
                put(at + 1, value & 0xFFFFFFFFFFFFFFFF)
            else:
                size = value.bit_length() // 8 + 1
                self._data(at, BIGINT, value.to_bytes(size, "little", signed=True))
        elif kind is str:
            self._text(at, value)
        elif kind is float:
            put(at, FLOAT)
            struct.pack_into("<d", self.builder.out, 8 * at + 8, value)
        elif value is None:
            pass
        elif kind is bool:
            put(at, BOOL | value << 16)
        elif kind is bytes:
            self._note_large(value, len(value), words_of_bytes(len(value)))
            self._data(at, BYTES, value)
        elif depth >= DEPTH_LIMIT:
            raise _NotPlain
        elif kind is dict:
            self._dict(at, value, depth)
        elif kind in _SEQUENCES:
            self._sequence(at, value, _SEQUENCES[kind], depth)
        else:
            raise _NotPlain

    def _text(self, at: int, value: str) -> None:
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise _NotPlain from None
        self._note_large(value, len(data), words_of_bytes(len(data) + 1))
        self._data(at, TEXT, data, b"\0")

    def _data(self, at: int, kind: int, data: bytes, end: bytes = b"") -> None:
        if len(data) > _BYTES_LIMIT:
            raise _TooLarge
        self.builder.put(at, kind)
        if data:
            content = data + end
            self.builder.append_list(at + 2, BYTE, len(content), content)

    def _note_large(self, value: object, size: int, words: int) -> None:
        if size >= _LARGE_BYTES:
            if id(value) in self._seen:
                self._count_repeated(words)
            self._seen.add(id(value))

    def _count_repeated(self, words: int) -> None:
        self._repeated_words += words
        if self._repeated_words > _REPEATED_WORDS_LIMIT:
            raise _NotPlain

    def _enter(self, value: object, changeable: bool) -> bool:
        """Note a container; True if it was seen before in this argument."""
        if self._inside_repeated and changeable:
            raise _NotPlain
        repeated = id(value) in self._seen
        if repeated:
            if changeable:
                raise _NotPlain
            self._inside_repeated += 1
        self._seen.add(id(value))
        return repeated

    def _leave(self, repeated: bool, size: int) -> None:
        if repeated:
            self._inside_repeated -= 1
            self._count_repeated((len(self.builder.out) - size) // 8)

    def _sequence(self, at: int, value: Any, kind: int, depth: int) -> None:
        repeated = self._enter(value, kind in _CHANGEABLE)
        size = len(self.builder.out)
        self.builder.put(at, kind)
        self.column(at + 2, tuple(value), depth + 1)
        self._leave(repeated, size)

    def _dict(self, at: int, value: dict[Any, Any], depth: int) -> None:
        self._enter(value, True)
        self.builder.put(at, DICT)
        if value:
            mapping = self.builder.take(sum(_MAPPING_SHAPE))
            self.builder.point_to_struct(at + 2, mapping, *_MAPPING_SHAPE)
            items = tuple(value.items())
            self.column(mapping, [key for key, _ in items], depth + 1)
            self.column(mapping + 1, [entry for _, entry in items], depth + 1)

    def column(
        self,
        pointer: int,
        values: Sequence[Any],
        depth: int,
        culprit: Callable[[int], str] | None = None,
    ) -> None:
        """Write a Column behind a pointer; with a culprit, each element is a whole argument."""
        if values:
            packed = self._pack(values, culprit is None)
            pointers = 2 if packed is not None and packed[2] else 1
            at = self.builder.take(_COLUMN_SHAPE[0] + pointers)
            self.builder.point_to_struct(pointer, at, _COLUMN_SHAPE[0], pointers)
            self._column_fields(at, values, packed, depth, culprit)

    def column_at(self, at: int, values: Sequence[Any], culprit: Callable[[int], str]) -> None:
        """Write a Column of whole arguments into a list element."""
        self._column_fields(at, values, self._pack(values, False), 0, culprit)

    def _column_fields(
        self,
        at: int,
        values: Sequence[Any],
        packed: tuple[int, bytes, bytes] | None,
        depth: int,
        culprit: Callable[[int], str] | None,
    ) -> None:
        builder = self.builder
        if packed is None:
            element = builder.take_structs(at + 1, len(values), *_VALUE_SHAPE)
            for index, value in enumerate(values):
                if culprit is None:
                    self._value(element, value, depth)
                else:
                    self.argument(element, value, lambda index=index: culprit(index))  # type: ignore[misc]
                element += sum(_VALUE_SHAPE)
            return
        kind, numbers, joined = packed
        builder.put(at, kind)
        size = EIGHT_BYTES if kind in (INTS, FLOATS) else FOUR_BYTES
        builder.append_list(at + 1, size, len(values), numbers)
        if joined:
            builder.append_list(at + 2, BYTE, len(joined), joined)

    def _pack(self, values: Sequence[Any], nested: bool) -> tuple[int, bytes, bytes] | None:
        """(kind, numbers or ends, joined bytes) if all values are of one common kind."""
        if len(values) > _ELEMENTS_LIMIT:
            raise _TooLarge
        kinds = set(map(type, values))
        if len(kinds) != 1:
            return None
        (kind,) = kinds
        if kind is int:
            try:
                return INTS, struct.pack(f"<{len(values)}q", *values), b""
            except struct.error:
                return None
        if kind is float:
            return FLOATS, struct.pack(f"<{len(values)}d", *values), b""
        if kind is str:
            return self._pack_texts(values, nested)
        if kind is bytes:
            return self._join(BYTE_STRINGS, values, values, nested)
        return None

    def _pack_texts(self, values: Sequence[str], nested: bool) -> tuple[int, bytes, bytes] | None:
        try:
            encoded = [value.encode() for value in values]
        except UnicodeEncodeError:
            if nested:
                raise _NotPlain from None
            return None  # arguments are pickled one by one
        return self._join(TEXTS, values, encoded, nested)

    def _join(
        self, kind: int, values: Sequence[Any], encoded: Sequence[bytes], nested: bool
    ) -> tuple[int, bytes, bytes] | None:
        ends = []
        end = 0
        for data in encoded:
            if len(data) > _BYTES_LIMIT:
                if nested:
                    raise _TooLarge
                return None  # then the argument that is too large gets named
            end += len(data)
            ends.append(end)
        if end > _BYTES_LIMIT:
            return None
        if nested:
            extra = 1 if kind == TEXTS else 0
            for value, data in zip(values, encoded, strict=True):
                self._note_large(value, len(data), words_of_bytes(len(data) + extra))
        return kind, struct.pack(f"<{len(ends)}I", *ends), b"".join(encoded)


def encode_value(value: object, culprit: str = "the value") -> bytes:
    """A message with one Value. Raises EncodeError, which names the culprit."""
    writer = _Writer()
    builder = writer.builder
    at = builder.take(sum(_VALUE_SHAPE))
    writer.argument(at, value, lambda: culprit)
    if len(builder.out) == 8 * (at + sum(_VALUE_SHAPE)):
        del builder.out[-8:]  # no content, no pointer
        builder.point_to_struct(0, at, _VALUE_SHAPE[0], 0)
    else:
        builder.point_to_struct(0, at, *_VALUE_SHAPE)
    return _finish(writer, lambda: culprit)


def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """A Call. Raises EncodeError ("argument 2", "keyword 'x'"), TypeError for a bad keyword."""
    if any(type(name) is not str for name in kwargs):
        raise TypeError("keywords must be strings")
    names = tuple(kwargs)
    values = tuple(kwargs.values())
    writer = _Writer()
    builder = writer.builder
    pointers = 2 if names else 1 if args else 0
    at = builder.take(pointers)
    builder.point_to_struct(0, at, 0, pointers)
    writer.column(at, args, 0, lambda index: f"argument {index + 1}")
    if names:
        mapping = builder.take(sum(_MAPPING_SHAPE))
        builder.point_to_struct(at + 1, mapping, *_MAPPING_SHAPE)
        for name in names:
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise EncodeError(f"keyword {name!r}") from error
        writer.begin()
        writer.column(mapping, names, 1)
        writer.column(mapping + 1, values, 0, lambda index: f"keyword {names[index]!r}")
    return _finish(writer, lambda: f"keyword {names[-1]!r}" if names else f"argument {len(args)}")


def encode_chunk(items: list[Any] | range, start: int, stop: int, star: bool) -> bytes:
    """A Chunk of items[start:stop]; star: each item is an iterable of positional arguments.

    Raises EncodeError ("item 17", "item 17, argument 1"; items by their index in `items`, arguments
    from 1) and ValueError for indices out of range.
    """
    if not 0 <= start < stop <= len(items):
        raise ValueError("start and stop must name one or more of the items")
    rows: list[tuple[Any, ...]] = []
    for index, item in enumerate(items[start:stop], start):
        try:
            rows.append(tuple(item) if star else (item,))
        except Exception as error:
            raise EncodeError(f"item {index}") from error

    def culprit(row: int, argument: int) -> str:
        return f"item {start + row}, argument {argument + 1}" if star else f"item {start + row}"

    writer = _Writer()
    builder = writer.builder
    width = len(rows[0])
    uniform = all(len(row) == width for row in rows)
    pointers = 1 if width or not uniform else 0
    at = builder.take(1 + pointers)
    builder.point_to_struct(0, at, 1, pointers)
    builder.put(at, len(rows) | (COLUMNS if uniform else CALLS) << 32)
    if not uniform:
        element = builder.take_structs(at + 1, len(rows), *_CALL_SHAPE)
        for number, row in enumerate(rows):
            writer.column(element, row, 0, lambda index, number=number: culprit(number, index))  # type: ignore[misc]
            element += sum(_CALL_SHAPE)
    elif width:
        element = builder.take_structs(at + 1, width, *_COLUMN_SHAPE)
        for number in range(width):
            column = [row[number] for row in rows]
            writer.column_at(element, column, lambda index, number=number: culprit(index, number))  # type: ignore[misc]
            element += sum(_COLUMN_SHAPE)
    return _finish(writer, lambda: culprit(len(rows) - 1, len(rows[-1]) - 1))


def _finish(writer: _Writer, culprit: Callable[[], str]) -> bytes:
    try:
        return writer.finish()
    except _TooLarge:
        raise EncodeError(culprit()) from ValueError(_TOO_LARGE)
