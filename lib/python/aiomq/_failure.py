"""Failure: from the outcome of an item that is not OK to the exception that the caller gets."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING

from aiomq import _abi
from aiomq._bridge import DecodeFailure, RemoteFailure

if TYPE_CHECKING:
    from aiomq._submitter import Submitter


def exception_of(status: int, value: object, dispatcher: Submitter, worker: int) -> BaseException:
    """The exception for an item with this outcome (enum aiomq_outcome), or for a bad result.

    `value` is a RemoteFailure or DecodeFailure of `_bridge`, None, or for TIMED_OUT a text. Every
    call returns a new exception.
    """
    if isinstance(value, DecodeFailure):
        return _raisable(value.error, None)
    failure = value if isinstance(value, RemoteFailure) else None
    if status == _abi.CANCELLED:
        return asyncio.CancelledError()
    if status == _abi.ERROR and failure is not None:
        return _remote(failure)

    from aiomq import _errors

    message = failure.message if failure is not None else ""
    if status == _abi.WORKER_DIED:
        if failure is None:
            return _errors.WorkerDied("the worker died")
        exit_status = failure.exit_status if failure.exit_status >= 0 else None
        return _errors.WorkerDied(message, failure.pid, exit_status, failure.signal)
    if status == _abi.EXPIRED:
        return _errors.StartExpired(message or "the task did not start in time")
    if status == _abi.TIMED_OUT:
        return _timed_out(failure, value, dispatcher, worker)
    if status == _abi.POOL_CLOSED:
        return dispatcher.end_error()
    if status == _abi.POOL_CORRUPT:
        return _errors.PoolBroken(message or "the pool's shared memory is damaged")
    return _errors.RemoteError(f"outcome {status}", message)


def _timed_out(
    failure: RemoteFailure | None, value: object, dispatcher: Submitter, worker: int
) -> BaseException:
    """From a worker that was killed for it (`failure`), or the pump's text: message, then stack."""
    from aiomq._errors import RemoteTraceback, TaskTimeout

    message, stack = "", ""
    if failure is not None:
        message, stack = failure.message, dispatcher.take_stack(worker)
    elif isinstance(value, str):
        message, _, stack = value.partition("\n")
    error = TaskTimeout(message or "the task ran longer than it was allowed to", stack)
    if stack:
        error.__cause__ = RemoteTraceback(stack)
    return error


def _remote(failure: RemoteFailure) -> BaseException:
    """The task's own exception with the remote traceback as its cause, or a RemoteError."""
    from aiomq._errors import RemoteError, RemoteTraceback

    cause = RemoteTraceback(failure.traceback) if failure.traceback else None
    if failure.pickled is not None:
        try:
            error = pickle.loads(failure.pickled)
        except Exception:  # its class may exist in the worker only: the text has to do
            error = None
        if isinstance(error, BaseException):
            return _raisable(error, cause)
    substitute = RemoteError(failure.type, failure.message)
    substitute.__cause__ = cause
    return substitute


def _raisable(error: BaseException, cause: BaseException | None) -> BaseException:
    """The error with this cause or, if raising it would do harm, a RemoteError because of it."""
    if cause is not None:
        error.__cause__ = cause
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    from aiomq._errors import RemoteError

    kind = type(error)
    substitute = RemoteError(f"{kind.__module__}.{kind.__qualname__}", str(error))
    substitute.__cause__ = error
    return substitute
