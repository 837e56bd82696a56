"""Reference: the name by which a function travels to the workers."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from aiomq import _depot
from aiomq._native import Native

if TYPE_CHECKING:
    from aiomq._depot import Depot

_MAIN_NAMES = ("__main__", "__mp_main__")
_MAX_BYTES = 4000
_BLOCKING = ":blocking"  # after the name of a function that runs in a thread
_SHARED = ":shared"  # after the name of a function whose calls share a context
_STREAM = ":stream"  # after the name of a function whose call is a Stream
_PICKLED = ":pickled:"  # between a label, and offset and size in the depot, or "=" and the pickle
_REDUCE = ":reduce:"  # between the names of a function and of what folds its results
_ASYNC_GENERATOR = 0x200  # CO_ASYNC_GENERATOR
_COROUTINE_FLAGS = 0x80 | 0x100  # CO_COROUTINE, CO_ITERABLE_COROUTINE


class Folding(NamedTuple):
    """In place of a function: the one that takes many items and gives their folded results."""

    function: Callable[..., Any]
    reduce: Callable[[Any, Any], Any]


class Streaming(NamedTuple):
    """In place of a generator function: what runs it and keeps what it yields."""

    generator: Callable[..., Any]


Function = Callable[..., Any] | Folding | Streaming


def name_of(function: Function, depot: Depot | None = None) -> str:
    """The reference of a function: its importable name, checked by importing it here.

    What no worker could find by name (lambdas, functions inside functions, bound methods, partials,
    an interactive session's functions) is left in the depot as a pickle; its name says where. In a
    worker, which has none, the name has the pickle itself. Raises TypeError for what can't be
    called, or is an async generator; ValueError, saying why, for what can't be imported if it can't
    be pickled either, or the pickle is too long for a name.
    """
    if isinstance(function, Streaming):
        return name_of_stream(function.generator, depot)
    if isinstance(function, Native):
        return function.name
    if isinstance(function, Folding):
        if isinstance(function.function, Native) != isinstance(function.reduce, Native):
            raise TypeError(
                "a native function's results are folded by a native one, and others are not"
            )
        return name_of(function.function, depot) + _REDUCE + name_of(function.reduce, depot)
    if not callable(function):
        raise TypeError(f"the function must be callable, not {type(function).__name__}")
    if unmarked(function) is not function:
        return name_of(unmarked(function), depot) + _BLOCKING
    if isinstance(function, FunctionType) and function.__code__.co_flags & _ASYNC_GENERATOR:
        raise TypeError(f"{function.__qualname__} is an async generator: see Pool.stream()")
    return _name_of(function, depot)


def name_of_stream(function: Callable[..., Any], depot: Depot | None) -> str:
    """The reference of a function whose call is a Stream. Raises as name_of()."""
    if not callable(function):
        raise TypeError(f"the function must be callable, not {type(function).__name__}")
    if unmarked(function) is not function:
        raise TypeError("a stream can't be blocking: what it yields would come from a thread")
    return _name_of(function, depot) + _STREAM


def _name_of(function: Callable[..., Any], depot: Depot | None) -> str:
    try:
        return _importable_name(function)
    except ValueError as error:
        from aiomq._pickled import dumps

        data = dumps(function, error, main_can_be_imported())
        label = getattr(function, "__qualname__", type(function).__qualname__)
        if depot is not None:
            offset, size = depot.put(data)
            place = f"{offset}:{size}"
        else:
            place = "=" + b2a_base64(data, newline=False).decode()
        name = f"{label[: _MAX_BYTES // 8]}{_PICKLED}{place}"
        if len(name.encode()) > _MAX_BYTES:
            raise ValueError(
                f"{label} takes {len(data):,} bytes as a pickle, too many for a call from a task;"
                f" {error}"
            ) from error
        return name


def _importable_name(function: Callable[..., Any]) -> str:
    qualname = getattr(function, "__qualname__", None)
    module = getattr(function, "__module__", None)
    if module is None:  # a method of a built-in class
        owner = getattr(function, "__objclass__", None) or getattr(function, "__self__", None)
        module = getattr(owner, "__module__", None)
    if not isinstance(qualname, str) or not isinstance(module, str):
        raise ValueError(f"{function!r} has no importable name; pass a function of a module")
    if module in _MAIN_NAMES:
        module = "__main__"
        if not main_can_be_imported():
            raise ValueError(
                f"{qualname} is defined in an interactive session, which a worker can't import;"
                " put it into a file"
            )
    name = f"{module}:{qualname}"
    try:
        found = unmarked(_find(name))
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{module}.{qualname} can't be found by that name, so no worker could import it;"
            " pass a function defined at the top level of a module"
        ) from error
    if found != function:
        raise ValueError(f"{module}.{qualname} is not the object of that name that was passed")
    if len(name.encode()) > _MAX_BYTES:
        raise ValueError(f"the function's name is longer than {_MAX_BYTES} bytes")
    return name


def sharing(name: str) -> str:
    """The reference of the same function, for calls that share a context."""
    return name + _SHARED


def label_of(name: str) -> str:
    """What people are to read of a reference."""
    return name.removesuffix(_SHARED).removesuffix(_STREAM).partition(_PICKLED)[0]


def shares_context(name: str) -> bool:
    """Whether plain calls of what this refers to share a context."""
    return name.endswith(_SHARED)


def is_by_value(name: str) -> bool:
    """Whether a reference, or a part of it, is to a pickle."""
    return _PICKLED in name


def resolve(name: str) -> Any:
    """In a worker: what a reference names. Raises AttributeError and what its import raises."""
    name, reduces, reduce = name.removesuffix(_SHARED).partition(_REDUCE)
    if reduces:
        from aiomq._reduce import folding

        return folding(resolve(name), resolve(reduce))
    if name.endswith(_STREAM):
        from aiomq._stream import streaming

        return streaming(resolve(name.removesuffix(_STREAM)))
    reference = name.removesuffix(_BLOCKING)
    _, is_pickled, place = reference.rpartition(_PICKLED)
    found = _loaded(place) if is_pickled else unmarked(_find(reference))
    if reference == name:
        return found
    from aiomq._blocking import threaded

    return threaded(found)


def _loaded(place: str) -> Any:
    if place.startswith("="):
        return pickle.loads(a2b_base64(place[1:]))
    offset, _, size = place.partition(":")
    return pickle.loads(_depot.read(int(offset), int(size)))


def unmarked(function: Any) -> Any:
    """A function without the mark of aiomq.blocking(), if it has one."""
    module = sys.modules.get("aiomq._blocking")  # without it nothing is marked
    return function if module is None else module.unmarked(function)


def _find(name: str) -> Any:
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module) or importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def is_plain(function: Callable[..., Any]) -> bool:
    """Whether calling the function is known to run it to its end, not to make a coroutine."""
    if isinstance(function, FunctionType):
        return not function.__code__.co_flags & _COROUTINE_FLAGS
    return False


def main_can_be_imported() -> bool:
    """Whether workers have the main module, too."""
    main = sys.modules.get("__main__")
    if getattr(main, "__spec__", None) is not None:
        return True
    path = getattr(main, "__file__", None)
    return path is not None and os.path.exists(path)
