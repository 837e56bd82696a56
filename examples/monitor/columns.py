"""Pages into columns of numbers, at numpy's speed, for pages whose layout is already known.

Three ways to read a page, each checked to be right before it is used, the cheapest first:

1. The values stand where they stood on the last page of that layout: every other byte is compared
   with that page. Fixed-width exporters always end here.
2. The values have moved, because one grew a digit: the lines are found anew, then every byte that
   is not a value is compared with the layout.
3. Anything else is read line by line (exposition.py) and becomes a layout of its own.

Values are then converted for all series at once: plain numbers of up to 16 characters through
integer arithmetic, with a single rounding at its end, as strtod has: either there is a point, and
15 digits are exact in a float64 before they are divided, or there is nothing to divide. Whatever is
not plain (a sign, an exponent, NaN, a timestamp) is converted by itself.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .exposition import Fields, Layout, PageError, outside_fields, read_layout, read_value

_WIDTH: Final = 16  # characters of a value that are read at once; a power of two, see _join_digits
_DECIMALS: Final = np.arange(_WIDTH - 1, -1, -1, dtype=np.uint8)[:, None]  # after a point in row r
_POWERS: Final = 10 ** np.arange(_WIDTH, dtype=np.int64)
_LAYOUTS_KEPT: Final = 64
_LAYOUTS_TRIED: Final = 4

_Bytes = NDArray[np.uint8]


class Frame:
    """Reads pages of one layout whose values stand at the same places as on the page given here."""

    def __init__(self, layout: Layout, fields: Fields, page: bytes) -> None:
        self.layout = layout
        self._fields = fields
        data = np.frombuffer(page, np.uint8)
        self._mask = np.negative(outside_fields(len(page), fields).view(np.uint8))  # 1 to 255
        self._rest = data & self._mask
        self._scratch = np.empty_like(self._rest)

        # Row r holds the character r of every value, right-aligned: arithmetic goes along rows.
        place = fields.end - _WIDTH + np.arange(_WIDTH)[:, None]
        self._place = np.maximum(place, 0)
        before = place < fields.begin
        self._before = before if before.any() else None
        self._too_long = fields.end - fields.begin > _WIDTH
        self._learn_points(data)

    def fits(self, page: bytes) -> bool:
        """Whether `page` differs from this frame's page in nothing but values."""
        if len(page) != len(self._mask):
            return False
        np.bitwise_and(np.frombuffer(page, np.uint8), self._mask, out=self._scratch)
        return bool(np.array_equal(self._scratch, self._rest))

    def values(self, page: bytes) -> NDArray[np.float64]:
        """The values of a page that fits. Raises PageError if what stands there is not a value."""
        text = self._text(np.frombuffer(page, np.uint8))
        digits = text - np.uint8(ord("0"))  # what comes before "0" wraps round to a large number
        is_digit = digits <= 9
        blank = text == ord(" ")
        point = text == ord(".")
        odd_character = ~(is_digit | blank | point) | (point ^ self._point)
        odd_character[1:] |= blank[1:] & ~blank[:-1]
        odd = odd_character.any(axis=0) | ~is_digit[-1] | self._too_long

        number = _join_digits(digits * is_digit)  # the point counts as a zero among the digits
        whole = number // self._point_unit
        number -= whole * self._point_excess
        values: NDArray[np.float64] = number / self._divisor
        rows = np.flatnonzero(odd)
        for row in rows.tolist():
            values[row] = read_value(page[self._fields.begin[row] : self._fields.end[row]])
        if len(rows) > len(values) // 8:  # decimals may have changed for good: look again
            self._learn_points(np.frombuffer(page, np.uint8))
        return values

    def _text(self, data: _Bytes) -> _Bytes:
        text: _Bytes = data.take(self._place)
        if self._before is not None:
            text[self._before] = ord(" ")
        return text

    def _learn_points(self, data: _Bytes) -> None:
        """Expects decimal points where `data` has them; a value that moves its point is odd."""
        point = self._text(data) == ord(".")
        has_point = point.sum(axis=0, dtype=np.uint8) == 1
        point &= has_point
        decimals = (point * _DECIMALS).sum(axis=0, dtype=np.uint8)
        self._point = point
        # number = whole * 10**(decimals + 1) + part, and what is wanted is
        # whole * 10**decimals + part: take away the difference. Without a point, whole is 0.
        power = _POWERS[decimals]
        self._point_unit = np.where(has_point, 10 * power, np.iinfo(np.int64).max)
        self._point_excess = 9 * power
        self._divisor = power.astype(np.float64)


def _join_digits(digits: _Bytes) -> NDArray[np.int64]:
    """Sixteen rows of digits into one row of numbers, pairs first: the narrower, the faster."""
    twos = digits[0::2] * np.uint8(10) + digits[1::2]
    fours = twos[0::2] * np.uint16(100) + twos[1::2]
    eights = fours[0::2] * np.uint32(10_000) + fours[1::2]
    joined: NDArray[np.int64] = eights[0] * np.int64(100_000_000) + eights[1]
    return joined


def _find_fields(layout: Layout, page: bytes) -> Fields | None:
    """Where the values of `layout` stand on `page`; None if the page is of another layout."""
    data = np.frombuffer(page, np.uint8)
    line_end = np.append(np.flatnonzero(data == ord("\n")), len(page))
    if len(line_end) != layout.lines:
        return None
    line_begin = np.concatenate(([0], line_end[:-1] + 1))
    begin = line_begin[layout.sample_lines] + layout.prefix_bytes
    end = line_end[layout.sample_lines]
    if not bool((begin <= end).all()):
        return None
    fields = Fields(begin, end)
    rest = data[outside_fields(len(page), fields)]
    return fields if rest.tobytes() == layout.skeleton else None


class PageReader:
    """Reads pages and remembers the layouts it has seen last. Keep one in each process."""

    def __init__(self) -> None:
        self._frames: OrderedDict[bytes, Frame] = OrderedDict()

    def read(self, page: bytes) -> tuple[Layout, NDArray[np.float64]]:
        """The page's layout and one value for each of its series. Raises PageError."""
        recent = list(reversed(self._frames.values()))[:_LAYOUTS_TRIED]
        for frame in recent:
            if frame.fits(page) and (read := self._try(frame, page)):
                return read
        for frame in recent:
            fields = _find_fields(frame.layout, page)
            if fields and (read := self._try(Frame(frame.layout, fields, page), page)):
                return read
        layout, fields = read_layout(page)
        if known := self._frames.get(layout.fingerprint):
            layout = known.layout
        return self._read_with(Frame(layout, fields, page), page)

    def _try(self, frame: Frame, page: bytes) -> tuple[Layout, NDArray[np.float64]] | None:
        """None if a line of another kind stands where a value is expected."""
        try:
            return self._read_with(frame, page)
        except PageError:
            return None

    def _read_with(self, frame: Frame, page: bytes) -> tuple[Layout, NDArray[np.float64]]:
        values = frame.values(page)
        self._frames[frame.layout.fingerprint] = frame
        self._frames.move_to_end(frame.layout.fingerprint)
        if len(self._frames) > _LAYOUTS_KEPT:
            self._frames.popitem(last=False)
        return frame.layout, values


__all__ = ["Frame", "PageError", "PageReader"]
