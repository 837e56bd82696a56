"""Cap'n Proto messages (schema/value.capnp) as values and arguments, in pure Python; see `_encode`.

Any valid layout is read; a damaged message raises ValueError, in bounded time and memory. Only a
pickle runs code, and raises what it raises.
"""

from __future__ import annotations

import ctypes
import pickle
import struct
from typing import Any

from aiomq import _abi
from aiomq._encode import (
    BIGINT,
    BOOL,
    BUFFERED,
    BYTE_STRINGS,
    BYTES,
    CALLS,
    COLUMNS,
    DEPTH_LIMIT,
    DICT,
    FLOAT,
    FLOATS,
    FROZENSET,
    INT,
    INTS,
    LIST,
    NONE,
    PICKLE,
    SET,
    TEXT,
    TEXTS,
    TUPLE,
    VALUES,
)
from aiomq._words import (
    BYTE,
    EIGHT_BYTES,
    FOUR_BYTES,
    Message,
    StructsView,
    StructView,
    damaged,
)

_TAG, _SCALAR = 0, 1  # data words of a Value
_CONTENT = 0  # its pointer
_KEYS, _ENTRIES = 0, 1  # pointers of a Mapping
_ARGS, _KWARGS = 0, 1  # pointers of a Call
_PICKLE, _BUFFERS = 0, 1  # pointers of a Buffered
_BYTES, _WORDS = 0, 0  # the data word and the pointer of a Buffer
_VIEW_BYTES = 64 << 10  # of a buffer: from here on it is no copy


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word


def _real(word: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<Q", word))[0]
    return value


class Column:
    """One column, opened: its elements can be had one by one."""

    def __init__(self, message: Message, view: StructView) -> None:
        self._message = message
        self._kind = message.word(view, _TAG) & 0xFFFF
        self._structs = StructsView()
        self._start = 0
        self._joined = (0, 0)
        if self._kind == VALUES:
            self._structs = message.get_structs(view, 0)
            self.count = self._structs.length
        elif self._kind in (INTS, FLOATS):
            self._start, self.count = message.get_list(view, 0, EIGHT_BYTES)
        elif self._kind in (TEXTS, BYTE_STRINGS):
            self._start, self.count = message.get_list(view, 0, FOUR_BYTES)
            self._joined = message.get_list(view, 1, BYTE)
        else:
            raise damaged("a column of unknown kind")

    def element(self, index: int, depth: int) -> Any:
        """Element `index`, below `count`; `depth` is its own."""
        data = self._message.data
        if self._kind == VALUES:
            return decode(self._message, self._message.element(self._structs, index), depth)
        if self._kind == INTS:
            return struct.unpack_from("<q", data, self._start + 8 * index)[0]
        if self._kind == FLOATS:
            return struct.unpack_from("<d", data, self._start + 8 * index)[0]
        start = struct.unpack_from("<I", data, self._start + 4 * index - 4)[0] if index else 0
        end = struct.unpack_from("<I", data, self._start + 4 * index)[0]
        first, size = self._joined
        if not start <= end <= size:
            raise damaged("an element reaches out of its column")
        part = data[first + start : first + end]
        return str(part, "utf-8") if self._kind == TEXTS else part

    def elements(self, depth: int) -> list[Any]:
        """All elements."""
        if self._kind in (INTS, FLOATS):
            code = "q" if self._kind == INTS else "d"
            return list(struct.unpack_from(f"<{self.count}{code}", self._message.data, self._start))
        return [self.element(index, depth) for index in range(self.count)]


def decode(message: Message, view: StructView, depth: int) -> Any:
    """The value in `view`."""
    tag = message.word(view, _TAG)
    kind = tag & 0xFFFF
    if kind == NONE:
        return None
    if kind == BOOL:
        return bool(tag >> 16 & 1)
    if kind == INT:
        return _signed(message.word(view, _SCALAR))
    if kind == FLOAT:
        return _real(message.word(view, _SCALAR))
    if kind == TEXT:
        return message.get_text(view, _CONTENT)
    if kind in (BYTES, BIGINT, PICKLE):
        content = message.get_bytes(view, _CONTENT)
        if kind == BYTES:
            return content
        if kind == BIGINT:
            return int.from_bytes(content, "little", signed=True)
        return pickle.loads(content)
    if kind == BUFFERED:
        return _decode_buffered(message, message.get_struct(view, _CONTENT))
    if kind not in (LIST, TUPLE, DICT, SET, FROZENSET):
        raise damaged("a value of unknown kind")
    if depth >= DEPTH_LIMIT:
        raise damaged("it nests too deep")
    inside = message.get_struct(view, _CONTENT)
    if kind == DICT:
        return _decode_mapping(message, inside, depth + 1)
    elements = Column(message, inside).elements(depth + 1)
    if kind == LIST:
        return elements
    if kind == TUPLE:
        return tuple(elements)
    try:
        return set(elements) if kind == SET else frozenset(elements)
    except TypeError:
        raise damaged("a key or set element that can't be hashed") from None


def _decode_buffered(message: Message, view: StructView) -> Any:
    buffers: list[bytes | memoryview] = []
    structs = message.get_structs(view, _BUFFERS)
    for index in range(structs.length):
        buffer = message.element(structs, index)
        size = message.word(buffer, _BYTES)
        start, words = message.get_list(buffer, _WORDS, EIGHT_BYTES)
        if size > 8 * words:
            raise damaged("a buffer that is shorter than it says")
        # The message is a private copy, of which a large part may stay.
        if size < _VIEW_BYTES:
            buffers.append(message.data[start : start + size])
        else:
            buffers.append(memoryview(message.data)[start : start + size])
    return pickle.loads(message.get_bytes(view, _PICKLE), buffers=buffers)


def _decode_mapping(message: Message, view: StructView, depth: int) -> dict[Any, Any]:
    keys = Column(message, message.get_struct(view, _KEYS))
    entries = Column(message, message.get_struct(view, _ENTRIES))
    if keys.count != entries.count:
        raise damaged("keys without values")
    decoded = {}
    for index in range(keys.count):
        key = keys.element(index, depth)
        value = entries.element(index, depth)
        try:
            decoded[key] = value
        except TypeError:
            raise damaged("a key or set element that can't be hashed") from None
    return decoded


def decode_value(payload: bytes) -> Any:
    """The value of a message whose root is a Value."""
    message = Message(payload)
    return decode(message, message.root(), 0)


class Arguments:
    """The payload of a task (kind, integer and address as in aiomq_job), decoded call by call.

    Raises ValueError for a damaged payload or one that Python can't be called with.
    """

    def __init__(
        self,
        kind: int,
        integer: int,
        address: int | None,
        nbytes: int,
        lend: object = None,
        job: int = 0,
    ) -> None:
        """`lend` and `job` are for the variant that leaves messages where they are."""
        if not address and nbytes:
            raise ValueError("a payload without an address")
        if kind > _abi.KIND_CHUNK:
            raise damaged("a payload of unknown kind")
        self._kind = kind
        self._count = 1
        self._args: tuple[Any, ...] = ()
        payload = ctypes.string_at(address, nbytes) if address else b""
        if kind < _abi.KIND_VALUE:
            self._open_scalar(integer, payload)
            return
        self._message = Message(payload)
        self._root = self._message.root()
        if kind == _abi.KIND_CHUNK:
            self._open_chunk()

    def _open_scalar(self, integer: int, payload: bytes) -> None:
        kind = self._kind
        if kind == _abi.KIND_BOOL:
            self._args = (integer != 0,)
        elif kind == _abi.KIND_INT:
            self._args = (integer,)
        elif kind == _abi.KIND_FLOAT:
            self._args = (_real(integer & 0xFFFFFFFFFFFFFFFF),)
        elif kind == _abi.KIND_BYTES:
            self._args = (payload,)
        elif kind == _abi.KIND_TEXT:
            self._args = (str(payload, "utf-8"),)

    def _open_chunk(self) -> None:
        message, root = self._message, self._root
        word = message.word(root, 0)
        self._count = word & 0xFFFFFFFF
        which = word >> 32 & 0xFFFF
        if not 1 <= self._count <= _abi.ITEMS_MAX:
            raise damaged("a chunk with an impossible number of calls")
        if which not in (COLUMNS, CALLS):
            raise damaged("a chunk of unknown kind")
        structs = message.get_structs(root, 0)
        self._calls = structs if which == CALLS else None
        self._columns: list[Column] = []
        if which == CALLS:
            if structs.length != self._count:
                raise damaged("a chunk with calls missing")
            return
        for index in range(structs.length):
            self._columns.append(Column(message, message.element(structs, index)))
            if self._columns[-1].count != self._count:
                raise damaged("a chunk whose column has another length")

    def __len__(self) -> int:
        return self._count

    def get(self, i: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments of call `i`.

        Raises IndexError, ValueError for a damaged message, or what unpickling an argument raises.
        """
        if self._kind < _abi.KIND_VALUE:
            return self._args, {}
        self._message.renew_budget()
        if self._kind == _abi.KIND_VALUE:
            return (decode(self._message, self._root, 0),), {}
        if self._kind == _abi.KIND_CALL:
            return self._call(self._root)
        if i >= self._count:
            raise IndexError(f"item {i} of a chunk of {self._count}")
        if self._calls is not None:
            return self._call(self._message.element(self._calls, i))
        return tuple([column.element(i, 0) for column in self._columns]), {}

    def _call(self, view: StructView) -> tuple[tuple[Any, ...], dict[str, Any]]:
        message = self._message
        args = tuple(Column(message, message.get_struct(view, _ARGS)).elements(0))
        if message.is_null(view, _KWARGS):
            return args, {}
        kwargs = _decode_mapping(message, message.get_struct(view, _KWARGS), 0)
        if any(type(name) is not str for name in kwargs):
            raise damaged("a keyword that is no text")
        return args, kwargs
