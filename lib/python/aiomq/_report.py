"""Report: from the exception of an item to what travels to the dispatcher. For workers."""

from __future__ import annotations

import os
import pickle
import traceback
from types import TracebackType
from typing import NamedTuple

from aiomq._bridge_types import EncodeError

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Report(NamedTuple):
    """An exception, ready to travel."""

    type: str  # "module.Class"
    message: str
    traceback: str
    pickled: bytes | None  # None if the exception would not survive


def report_of(error: BaseException) -> Report:
    """Describe an exception. Never raises, whatever the exception's own methods do."""
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except BaseException as trouble:
        message = f"<its text can't be made: {type(trouble).__name__}>"
    try:
        text = "".join(traceback.format_exception(kind, error, _outside(error.__traceback__)))
    except BaseException as trouble:
        text = f"{name}: {message}\n<its traceback can't be made: {type(trouble).__name__}>\n"
    return Report(_clean(name), _clean(message), _clean(text), _pickle(error))


def unsendable(error: EncodeError) -> pickle.PicklingError:
    """What a task raises whose result can't be encoded."""
    raised = pickle.PicklingError(f"the result can't be sent back: {error.__cause__}")
    raised.__cause__ = error.__cause__
    return raised


def _outside(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's first frame on."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HERE):
        trace = trace.tb_next
    return trace


def _pickle(error: BaseException) -> bytes | None:
    """The exception pickled, if it can be read back: some classes can't be made from their args."""
    try:
        data = pickle.dumps(error, 5)
        if type(pickle.loads(data)) is type(error):
            return data
    except BaseException:
        pass
    return None


def _clean(text: str) -> str:
    """The text as it can be encoded: no lone surrogates, no null characters."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
