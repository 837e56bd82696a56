"""The Prometheus text format 0.0.4, read line by line into a page's layout.

A layout is everything on a page that is not a value: which series there are, of what kind, and
where their lines stand. Reading it costs milliseconds, and it rarely changes from one sweep to the
next, so columns.PageReader, which is what the monitor uses, comes here only with a page whose
layout it has not seen before.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

COUNTER: Final = 0
GAUGE: Final = 1
OTHER: Final = 2

_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*"
_TEXT = rb'"(?:[^"\\\n]|\\.)*"'
_PAIR = rb"[ \t]*[a-zA-Z_][a-zA-Z0-9_]*[ \t]*=[ \t]*" + _TEXT + rb"[ \t]*"
_LABELS = rb"\{[ \t]*(?:%b(?:,%b)*,?)?[ \t]*\}" % (_PAIR, _PAIR)
_SAMPLE = rb"(?P<name>%b)(?:[ \t]*(?P<labels>%b))?[ \t](?P<field>.*)" % (_NAME, _LABELS)
_TYPE = rb"#[ \t]+TYPE[ \t]+(?P<family>%b)[ \t]+(?P<type>[a-z]+)[ \t]*" % _NAME
_LINE = re.compile(rb"^[ \t]*(?:%b|%b|#.*|)$" % (_SAMPLE, _TYPE), re.MULTILINE)
_LABEL = re.compile(rb"([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*(%b)" % _TEXT)

# What a series can be at all, by the unit in its name; beyond that a value is not to be believed.
_RANGES: Final = (("_bytes", 0.0, np.inf), ("_ratio", 0.0, 1.0))


class PageError(ValueError):
    """A page that is not in the text format."""


@dataclass(frozen=True)
class Layout:
    """What a page says besides its values. One row in every array is one sample line, in order."""

    fingerprint: bytes  # of `skeleton`
    skeleton: bytes  # the page with the values cut out
    lines: int
    sample_lines: NDArray[np.intp]
    prefix_bytes: NDArray[np.intp]  # name, labels and one blank: what stands before a value
    series: tuple[str, ...]  # name{label="value",...}
    kind: NDArray[np.int8]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Fields:
    """Where the values stand on one page: from after the blank to the end of the line."""

    begin: NDArray[np.intp]
    end: NDArray[np.intp]


def read_value(field: bytes) -> float:
    """The value in `field`, which may carry a timestamp. Raises PageError."""
    words = field.split()
    if len(words) not in (1, 2) or b"\n" in field or b"_" in field:
        raise PageError(f"not a value: {field[:40]!r}")
    try:
        if len(words) == 2:
            int(words[1])
        return float(words[0])
    except ValueError as error:
        raise PageError(f"not a value: {field[:40]!r}") from error


def read_layout(page: bytes) -> tuple[Layout, Fields]:
    """Reads a page of any layout. Raises PageError on the first line that is not in the format."""
    types: dict[bytes, bytes] = {}
    series: list[str] = []
    kinds: list[int] = []
    sample_lines: list[int] = []
    lines_begin: list[int] = []
    begins: list[int] = []
    ends: list[int] = []
    expected = 0
    number = 0
    for number, line in enumerate(_LINE.finditer(page)):
        if line.start() != expected:
            break
        expected = line.end() + 1
        name, labels, _, family, kind = line.groups()
        if name:
            series.append(_series_text(name, labels))
            kinds.append(_kind(name, types))
            sample_lines.append(number)
            lines_begin.append(line.start())
            begins.append(line.start("field"))
            ends.append(line.end())
        elif family:
            types[family] = kind
    if expected != len(page) + 1:
        line_text = page[expected : expected + 80].partition(b"\n")[0]
        raise PageError(f"line {number + 1} is not a sample: {line_text!r}")
    if len(set(series)) != len(series):
        raise PageError("a series appears twice")
    fields = Fields(np.array(begins, np.intp), np.array(ends, np.intp))
    skeleton = cut_values(page, fields)
    low, high = _ranges(series, kinds)
    layout = Layout(
        fingerprint=hashlib.blake2b(skeleton, digest_size=16).digest(),
        skeleton=skeleton,
        lines=number + 1,
        sample_lines=np.array(sample_lines, np.intp),
        prefix_bytes=fields.begin - np.array(lines_begin, np.intp),
        series=tuple(series),
        kind=np.array(kinds, np.int8),
        low=low,
        high=high,
    )
    return layout, fields


def outside_fields(page_bytes: int, fields: Fields) -> NDArray[np.bool_]:
    """A mask over a page: true for every byte that is not part of a value."""
    runs = np.empty(2 * len(fields.begin) + 1, np.intp)  # outside, field, outside, ..., outside
    runs[0::2] = np.append(fields.begin, page_bytes)
    runs[2::2] -= fields.end
    runs[1::2] = fields.end - fields.begin
    outside = np.zeros(len(runs), np.bool_)
    outside[0::2] = True
    return np.repeat(outside, runs)


def cut_values(page: bytes, fields: Fields) -> bytes:
    """The page with its values cut out."""
    return np.frombuffer(page, np.uint8)[outside_fields(len(page), fields)].tobytes()


def _series_text(name: bytes, labels: bytes | None) -> str:
    if labels:
        pairs = [key + b"=" + value for key, value in _LABEL.findall(labels)]
        name += b"{" + b",".join(pairs) + b"}" if pairs else b""
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise PageError(f"labels are not UTF-8: {name!r}") from error


def _kind(name: bytes, types: dict[bytes, bytes]) -> int:
    if name in types:
        return {b"counter": COUNTER, b"gauge": GAUGE}.get(types[name], OTHER)
    for suffix in (b"_bucket", b"_count"):
        if types.get(name.removesuffix(suffix)) in (b"histogram", b"summary"):
            return COUNTER
    return OTHER


def _ranges(series: list[str], kinds: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low = np.full(len(series), -np.inf)
    high = np.full(len(series), np.inf)
    for row, (text, kind) in enumerate(zip(series, kinds, strict=True)):
        if kind == COUNTER:
            low[row] = 0.0
        elif kind == GAUGE:
            name = text.partition("{")[0]
            for suffix, least, most in _RANGES:
                if name.endswith(suffix):
                    low[row], high[row] = least, most
    return low, high
