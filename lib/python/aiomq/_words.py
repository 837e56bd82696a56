"""Flat Cap'n Proto messages as words: one segment, no framing, the root pointer in word 0.

`Builder` appends objects in the order in which they are asked for; `Message` follows pointers and
checks every bound. Both know nothing of values: see `_encode` and `_decode`. The C++ twins are
Writer and Reader in lib/python/codec. Positions and sizes are in words of 8 bytes unless a name
says otherwise.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

# Element sizes of lists, as in a list pointer.
BYTE, FOUR_BYTES, EIGHT_BYTES, COMPOSITE = 2, 4, 5, 7
_ELEMENT_BYTES = {BYTE: 1, FOUR_BYTES: 4, EIGHT_BYTES: 8, COMPOSITE: 8}

_STRUCT, _LIST, _FAR = 0, 1, 2
_FREE_ELEMENTS = 65536
_word = struct.Struct("<Q")


def words_of_bytes(count: int) -> int:
    """How many words hold `count` bytes."""
    return (count + 7) // 8


class Builder:
    """Appends objects to a message. All memory that it takes is zero."""

    def __init__(self) -> None:
        self.out = bytearray(8)

    def take(self, words: int) -> int:
        """Room for a struct or list; its position."""
        at = len(self.out) // 8
        self.out += bytes(8 * words)
        return at

    def put(self, at: int, word: int) -> None:
        """Write one word."""
        _word.pack_into(self.out, 8 * at, word)

    def point_to_struct(self, pointer: int, at: int, data_words: int, pointers: int) -> None:
        """Make the pointer at `pointer` lead to a struct at `at`."""
        offset = at - pointer - 1 if data_words or pointers else 0x3FFFFFFF
        self.put(pointer, offset << 2 | data_words << 32 | pointers << 48)

    def take_structs(self, pointer: int, count: int, data_words: int, pointers: int) -> int:
        """Append a list of structs; the position of its first element."""
        words = count * (data_words + pointers)
        self._point_to_list(pointer, COMPOSITE, words)
        tag = self.take(1 + words)
        self.put(tag, count << 2 | data_words << 32 | pointers << 48)
        return tag + 1

    def append_list(
        self, pointer: int, element: int, count: int, content: bytes | memoryview
    ) -> None:
        """Append a list of `count` elements whose bytes are `content`."""
        self._point_to_list(pointer, element, count)
        self.out += content
        self.align(8)

    def align(self, alignment: int) -> None:
        """Go on at a multiple of so many bytes."""
        self.out += bytes(-len(self.out) % alignment)

    def _point_to_list(self, pointer: int, element: int, count: int) -> None:
        offset = len(self.out) // 8 - pointer - 1
        self.put(pointer, offset << 2 | _LIST | element << 32 | count << 35)


class StructView(NamedTuple):
    """A struct in a message: where, and how much of it there is."""

    at: int = 0
    data_words: int = 0
    pointers: int = 0


class StructsView(NamedTuple):
    """A list of structs."""

    at: int = 0
    length: int = 0
    data_words: int = 0
    pointers: int = 0


def damaged(what: str) -> ValueError:
    """The error for a message that is not what it should be."""
    return ValueError("damaged message: " + what)


class Message:
    """Reads a message. Every function raises ValueError where the message is damaged.

    Null pointers give a struct without fields, a list without elements, no bytes.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._words = len(data) // 8
        self.renew_budget()

    def renew_budget(self) -> None:
        """Allow one reading: at most so much is followed until the next call."""
        # Who reads a tree reads each word once, and each object has a pointer, which is a word too.
        self._budget = 2 * self._words + _FREE_ELEMENTS

    def root(self) -> StructView:
        """The struct that the message is."""
        if self._words == 0:
            raise damaged("it is empty")
        return self._as_struct(self._follow(0))

    def word(self, view: StructView, index: int) -> int:
        """Data word `index`, 0 if the struct is too short to have it."""
        return self._load(view.at + index) if index < view.data_words else 0

    def is_null(self, view: StructView, pointer: int) -> bool:
        """Whether there is nothing behind a pointer."""
        return pointer >= view.pointers or not self._load(view.at + view.data_words + pointer)

    def get_struct(self, view: StructView, pointer: int) -> StructView:
        """The struct behind a pointer."""
        return self._as_struct(self._pointer(view, pointer))

    def get_structs(self, view: StructView, pointer: int) -> StructsView:
        """The list of structs behind a pointer."""
        target = self._pointer(view, pointer)
        at, words = self._as_list(target, COMPOSITE)
        if target is None:
            return StructsView()
        if at + 1 + words > self._words:
            raise damaged("a list reaches out of it")
        tag = self._load(at)
        if tag & 3 != _STRUCT:
            raise damaged("a list's tag is no struct")
        count = (tag & 0xFFFFFFFF) >> 2
        data_words, pointers = tag >> 32 & 0xFFFF, tag >> 48
        if count * (data_words + pointers) > words:
            raise damaged("a list's elements reach out of it")
        if data_words + pointers == 0:
            self._charge(count)
        return StructsView(at + 1, count, data_words, pointers)

    def element(self, view: StructsView, index: int) -> StructView:
        """Element `index`, which must be below the list's count."""
        at = view.at + index * (view.data_words + view.pointers)
        return StructView(at, view.data_words, view.pointers)

    def get_list(self, view: StructView, pointer: int, element: int) -> tuple[int, int]:
        """A list of bytes or numbers: its first byte in `data`, and how many elements."""
        at, count = self._as_list(self._pointer(view, pointer), element)
        return 8 * at, count

    def get_bytes(self, view: StructView, pointer: int) -> bytes:
        """The bytes behind a pointer."""
        start, count = self.get_list(view, pointer, BYTE)
        return self.data[start : start + count]

    def get_text(self, view: StructView, pointer: int) -> str:
        """The text behind a pointer."""
        if self.is_null(view, pointer):
            return ""
        content = self.get_bytes(view, pointer)
        if not content or content[-1]:
            raise damaged("a text without its NUL")
        return str(content[:-1], "utf-8")

    def _load(self, at: int) -> int:
        word: int = _word.unpack_from(self.data, 8 * at)[0]
        return word

    def _charge(self, words: int) -> None:
        if words >= self._budget:
            raise damaged("it would unfold to more than its size")
        self._budget -= words + 1

    def _pointer(self, view: StructView, pointer: int) -> tuple[int, int] | None:
        if pointer >= view.pointers:
            return None
        return self._follow(view.at + view.data_words + pointer)

    def _follow(self, at: int) -> tuple[int, int] | None:
        """(position of the content, pointer word that describes it); None for null."""
        word = self._load(at)
        if word == 0:
            return None
        if word & 3 == _FAR:
            if word & 4:
                return self._follow_double(word)
            at = word >> 3 & 0x1FFFFFFF
            if word >> 32 or at >= self._words:
                raise damaged("a pointer leads out of it")
            word = self._load(at)
        if word & 3 not in (_STRUCT, _LIST):
            raise damaged("a pointer of unknown kind")
        offset = (word & 0xFFFFFFFF) >> 2
        target = at + 1 + (offset - (1 << 30) if offset >= 1 << 29 else offset)
        if not 0 <= target <= self._words:
            raise damaged("a pointer leads out of it")
        return target, word

    def _follow_double(self, far: int) -> tuple[int, int]:
        # A far pointer of the second kind leads to two words: where the content is, and what it is.
        pad = far >> 3 & 0x1FFFFFFF
        if far >> 32 or pad + 2 > self._words:
            raise damaged("a pointer leads out of it")
        where, what = self._load(pad), self._load(pad + 1)
        at = where >> 3 & 0x1FFFFFFF
        if where & 7 != _FAR or where >> 32 or at > self._words:
            raise damaged("a pointer leads out of it")
        if what & 3 not in (_STRUCT, _LIST):
            raise damaged("a pointer of unknown kind")
        return at, what

    def _as_struct(self, target: tuple[int, int] | None) -> StructView:
        if target is None:
            return StructView()
        at, word = target
        if word & 3 != _STRUCT:
            raise damaged("a list where a struct should be")
        view = StructView(at, word >> 32 & 0xFFFF, word >> 48)
        words = view.data_words + view.pointers
        if at + words > self._words:
            raise damaged("a struct reaches out of it")
        self._charge(words)
        return view

    def _as_list(self, target: tuple[int, int] | None, element: int) -> tuple[int, int]:
        if target is None:
            return 0, 0
        at, word = target
        if word & 3 != _LIST or word >> 32 & 7 != element:
            raise damaged("not the kind of list that should be there")
        count = word >> 35
        words = words_of_bytes(count * _ELEMENT_BYTES[element])
        if at + words > self._words:
            raise damaged("a list reaches out of it")
        self._charge(words)
        return at, count
