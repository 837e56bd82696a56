"""Pickled: functions that no worker could import, sent by value."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

_HINT = "; or install cloudpickle, which can send it by value: pip install 'libaiomq[cloudpickle]'"


def dumps(function: Callable[..., Any], unimportable: ValueError, plainly: bool) -> bytes:
    """The pickle of a function that can't be imported for the reason given.

    plainly: whether pickle alone may do: a partial or a bound method of what can be imported needs
    no more. Without cloudpickle raises ValueError that says both reasons, and with it ValueError
    if it can't pickle the function either.
    """
    if plainly:
        try:
            return pickle.dumps(function, 5)
        except Exception as error:
            unimportable.__cause__ = error
    try:
        import cloudpickle
    except ImportError:
        raise ValueError(f"{unimportable}{_HINT}") from unimportable
    try:
        data: bytes = cloudpickle.dumps(function, 5)
    except Exception as error:
        raise ValueError(f"{unimportable}, and it can't be sent by value: {error}") from error
    return data
