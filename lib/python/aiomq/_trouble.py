"""Trouble: from an error number of the C ABI to the exception of a call in the dispatcher."""

from __future__ import annotations

import errno
import pickle
import re
from typing import TYPE_CHECKING, Any, NoReturn

from aiomq import _abi
from aiomq._reference import Streaming

if TYPE_CHECKING:
    from aiomq._submitter import Submitter


# What submitting gives when there is no room now.
NO_ROOM = (-errno.EAGAIN, -errno.ENOMEM)


def call_error(function: Any, error: Exception) -> pickle.PicklingError:
    """For an argument that can't be encoded; `error` names it. Raise it from error.__cause__."""
    name = function_name(function)
    return pickle.PicklingError(f"{error} of {name}() can't be sent to a worker: {error.__cause__}")


def function_name(function: Any) -> str:
    """What an error calls it."""
    called = function.generator if isinstance(function, Streaming) else function
    name: str = getattr(called, "__qualname__", repr(called))
    return name


def item_error(error: Exception, shift: int) -> pickle.PicklingError:
    """For an item that can't be encoded; `error` names its place in the list that was encoded.

    `shift` is how many items of the input came before that list.
    """
    text = re.sub(r"^item (\d+)", lambda match: f"item {int(match[1]) + shift}", str(error))
    return pickle.PicklingError(f"{text} can't be sent to a worker: {error.__cause__}")


def raise_for(outcome: int, dispatcher: Submitter) -> NoReturn:
    """Raise what a negative errno from a pool call means to the caller."""
    number = -outcome
    text = _abi.lib.aiomq_strerror(outcome).decode()
    if dispatcher.freed:
        raise dispatcher.end_error()
    if number == errno.EPIPE:
        from aiomq._errors import PoolBroken

        raise PoolBroken(dispatcher.state()[1] or text)
    if number == errno.ESHUTDOWN:
        raise RuntimeError("pool is closed")
    if number == errno.ECHILD:
        raise RuntimeError("this pool was made before a fork and belongs to the parent process")
    if number == errno.ENOMEM:
        raise MemoryError("the pool can't get memory for the arguments: " + text)
    if number == errno.ENOSPC:
        raise RuntimeError(
            "a pool can know at most 65536 functions; what differs from call to call is better"
            " passed as an argument than in a closure or partial"
        )
    raise OSError(number, text)


def create_error(outcome: int, text: str) -> Exception:
    """What a failed aiomq_pool_create() means; `text` is its error text."""
    number = -outcome
    text = text or _abi.lib.aiomq_strerror(outcome).decode()
    if number == errno.EINVAL:
        return ValueError(text)
    if number == errno.ENOENT:
        return FileNotFoundError(number, text)
    if number == errno.ENOMEM:
        return MemoryError(text)
    if number == errno.EDEADLK:
        return RuntimeError(text)
    if number == errno.ECHILD:
        from aiomq._errors import PoolBroken

        return PoolBroken(text)
    return OSError(number, text)
