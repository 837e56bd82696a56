"""Buffers: pickles whose large parts stay beside them, as pickle protocol 5 allows (PEP 574).

numpy arrays, and whatever else hands out its memory to the pickler, are written once, from their
own memory into the pool's. So are memoryviews, which can't be pickled otherwise, and, unless they
are inside of another object, bytearrays and arrays of the array module.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import struct
from array import array
from collections import ChainMap
from collections.abc import Callable
from typing import Any

Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


def dumps(value: Any) -> bytes | tuple[bytes, list[memoryview]]:
    """The pickle of a value, or the pickle and its buffers in order, each contiguous bytes.

    Raises what pickle.dumps() does.
    """
    buffers: list[pickle.PickleBuffer] = []
    reduce = _REDUCERS.get(type(value))
    try:
        given = value if reduce is None else _As(reduce(value))
        pickled = pickle.dumps(given, 5, buffer_callback=buffers.append)
    except TypeError:
        if reduce is not None:
            raise
        buffers.clear()
        pickled = _dumps_with_views(value, buffers.append)
    if not buffers:
        return pickled
    return pickled, [buffer.raw() for buffer in buffers]


def _dumps_with_views(value: Any, take: Callable[[pickle.PickleBuffer], Any]) -> bytes:
    """For a value that may have a memoryview inside of it."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5, buffer_callback=take)
    table: Any = ChainMap({memoryview: _reduce_view}, copyreg.dispatch_table)
    pickler.dispatch_table = table
    pickler.dump(value)
    return file.getvalue()


class _As:
    """Pickled as what `reduced` makes."""

    def __init__(self, reduced: Reduced) -> None:
        self._reduced = reduced

    def __reduce__(self) -> Reduced:
        return self._reduced


def _reduce_view(view: memoryview) -> Reduced:
    """Raises ValueError for a format that memoryview.cast() can't make."""
    memoryview(bytes(view.itemsize)).cast(view.format)  # type: ignore[call-overload]
    flat = view if view.c_contiguous else memoryview(view.tobytes())
    if flat.nbytes:
        flat = flat.cast("B")
    return _restore_view, (pickle.PickleBuffer(flat), view.format, view.shape)


def _restore_view(buffer: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    view = memoryview(buffer).toreadonly()
    if not view.nbytes:  # which can't be cast
        return memoryview(bytes(struct.calcsize(format))).cast(format)[:0]  # type: ignore[call-overload, no-any-return]
    return view.cast("B").cast(format, shape)  # type: ignore[call-overload, no-any-return]


def _reduce_bytearray(value: bytearray) -> Reduced:
    return bytearray, (pickle.PickleBuffer(value),)


def _reduce_array(value: array[Any]) -> Reduced:
    return _restore_array, (value.typecode, pickle.PickleBuffer(value))


def _restore_array(typecode: str, buffer: Any) -> array[Any]:
    restored = array(typecode)
    restored.frombytes(memoryview(buffer).cast("B"))
    return restored


_REDUCERS: dict[type, Callable[[Any], Reduced]] = {
    memoryview: _reduce_view,
    bytearray: _reduce_bytearray,
    array: _reduce_array,
}
