"""The C ABI, values: aiomq/value.h. See `_abi`.

The package has a codec of its own; this is for programs that drive the C ABI from Python.
"""

from __future__ import annotations

from ctypes import (
    POINTER,
    Structure,
    Union,
    c_char_p,
    c_double,
    c_int,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)

from aiomq import _abi
from aiomq._abi import Job, handle, ret_handle
from aiomq._abi_full import Item, Task


class ValueContent(Union):
    """union inside aiomq_value."""

    _fields_ = (("integer", c_int64), ("real", c_double), ("data", c_void_p))


class Value(Structure):
    """aiomq_value: a value where it lies."""

    _fields_ = (
        ("type", c_uint32),
        ("count", c_uint32),
        ("value", ValueContent),
        ("packed", c_uint32),
        ("row", c_uint32),
        ("place", c_uint64 * 5),
    )


# As `_abi.FUNCTIONS`.
FUNCTIONS: _abi.Functions = {
    "type_name": ("0.1", c_char_p, (c_int,)),
    "value_writer_create": ("0.1", c_int, (ret_handle,)),
    "value_writer_destroy": ("0.1", None, (ret_handle,)),
    "value_writer_reset": ("0.1", c_int, (handle,)),
    "value_write_none": ("0.1", c_int, (handle,)),
    "value_write_bool": ("0.1", c_int, (handle, c_int)),
    "value_write_int": ("0.1", c_int, (handle, c_int64)),
    "value_write_float": ("0.1", c_int, (handle, c_double)),
    "value_write_text": ("0.1", c_int, (handle, c_char_p, c_size_t)),
    "value_write_bytes": ("0.1", c_int, (handle, c_void_p, c_size_t)),
    "value_write_ints": ("0.1", c_int, (handle, POINTER(c_int64), c_size_t)),
    "value_write_floats": ("0.1", c_int, (handle, POINTER(c_double), c_size_t)),
    "value_write_begin": ("0.1", c_int, (handle, c_int)),
    "value_write_end": ("0.1", c_int, (handle,)),
    "value_write_keyword": ("0.1", c_int, (handle, c_char_p)),
    "value_write_call": ("0.1", c_int, (handle,)),
    "value_measure": ("0.1", c_int64, (handle, c_int)),
    "value_store": ("0.1", c_int, (handle, c_void_p)),
    "value_task": ("0.1", c_int, (handle, POINTER(Task))),
    "value_item": ("0.1", c_int, (handle, POINTER(Item))),
    "value_open": ("0.1", c_int, (POINTER(Item), POINTER(Value))),
    "value_arguments": ("0.1", c_int, (POINTER(Job), c_uint32, POINTER(Value), POINTER(Value))),
    "value_column": ("0.1", c_int, (POINTER(Job), c_uint32, POINTER(Value))),
    "value_element": ("0.1", c_int, (POINTER(Value), c_uint32, POINTER(Value))),
    "value_key": ("0.1", c_int, (POINTER(Value), c_uint32, POINTER(Value))),
    "value_find": ("0.1", c_int, (POINTER(Value), c_char_p, POINTER(Value))),
}

lib = _abi.lib
_abi.bind(FUNCTIONS)
