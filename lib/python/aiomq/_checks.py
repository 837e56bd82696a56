"""Checks: options as they come from the user, each refused with its name in the error."""

from __future__ import annotations

import operator
from typing import Any

_MOST_NS = 2**62  # a century and a half


def size(name: str, value: Any, low: int, high: int | None = None) -> int:
    """An integer option within its bounds; raises TypeError or ValueError naming it."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    number = operator.index(value)
    if number < low:
        raise ValueError(f"{name} must be at least {low}, not {number}")
    if high is not None and number > high:
        raise ValueError(f"{name} must be at most {high}, not {number}")
    return number


def nanoseconds(name: str, value: Any) -> int:
    """Seconds as nanoseconds, 1 at least, since 0 is no limit in C. Raises as size()."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not value >= 0:  # NaN neither
        raise ValueError(f"{name} must not be negative or NaN, but is {value}")
    return max(1, min(_MOST_NS, round(min(float(value), 1e10) * 1e9)))


def function(name: str, value: Any) -> None:
    """Raise TypeError unless the option is None or can be called."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, not {type(value).__name__}")


def text(name: str, value: Any) -> str:
    """A name; raises TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if "\0" in value or not value:
        raise ValueError(f"{name} must not be empty or contain a null character")
    return value


def truth(name: str, value: Any) -> bool:
    """A bool; raises TypeError naming it."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    return value


def texts(name: str, value: Any) -> list[str]:
    """A sequence of names; a str is one name, not a sequence of them."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be a sequence of str, not one {type(value).__name__}")
    try:
        entries = list(value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of str, not {type(value).__name__}") from None
    return [text(f"{name}[{index}]", entry) for index, entry in enumerate(entries)]
