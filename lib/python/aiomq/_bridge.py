"""The bridge between Python objects and the C ABI: encode, submit, collect, run items.

Two variants with the same meaning. `NATIVE` is true where libaiomq_py does it (lib/python/codec);
otherwise `_pure` and `_pure_runner` do, at a tenth of the speed: on a free-threaded interpreter or
one that is not CPython, where the library is missing, and with AIOMQ_PURE=1.

Pools and workers are addresses, as in `_abi`. Nothing here blocks or waits. Functions that return
an int return a negative errno of the C function that failed.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING, Any

from aiomq import _abi, _buffers
from aiomq._bridge_types import DecodeFailure, EncodeError, RemoteFailure, TooLarge, as_coroutine

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextvars import Context
    from typing import Protocol

    from aiomq._board import Page
    from aiomq._item import Item
    from aiomq._loans import Loan
    from aiomq._report import Report

__all__ = [
    "NATIVE",
    "Arguments",
    "DecodeFailure",
    "EncodeError",
    "RemoteFailure",
    "Runner",
    "TooLarge",
    "as_coroutine",
    "collect",
    "count_encoded",
    "encode_call",
    "native",
    "set_table",
    "submit_call",
    "submit_chunk",
]


def _load() -> Any:
    """libaiomq_py's functions as a module, or None with no error: there is the pure variant."""
    if os.environ.get("AIOMQ_PURE", "0") not in ("", "0"):
        return None
    if sys.implementation.name != "cpython":
        return None
    if "t" in sys.abiflags:
        return None  # a free-threaded build has another ABI
    import asyncio
    import pickle
    import types

    support = {
        "EncodeError": EncodeError,
        "TooLarge": TooLarge,
        "RemoteFailure": RemoteFailure,
        "DecodeFailure": DecodeFailure,
        "dumps": _buffers.dumps,
        "loads": pickle.loads,
        "as_coroutine": as_coroutine,
        "CancelledError": asyncio.CancelledError,
        "CoroutineType": types.CoroutineType,
        "GeneratorType": types.GeneratorType,
    }
    for path in _abi.candidates("libaiomq_py.so"):
        try:
            module = ctypes.PyDLL(path).aiomq_py_module
        except (OSError, AttributeError):
            continue
        module.restype = ctypes.py_object
        module.argtypes = [ctypes.py_object]
        try:
            return module(support)
        except ImportError:
            return None  # this interpreter lacks what the library needs
    return None


native: Any = _load()
NATIVE: bool = native is not None

if TYPE_CHECKING:
    Entry = tuple[int, int, int, int, list[Any] | None, list[tuple[int, int, Any]] | None]

    def encode_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int, bytes]:
        """The arguments of one call as (kind, integer, payload) of an aiomq_task.

        Raises EncodeError, which names the argument that can't be sent.
        """

    def submit_call(
        pool: int,
        function: int,
        user: int,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        flags: int = 0,
        options: tuple[int, ...] | None = None,
    ) -> int:
        """Encode one call into the pool's memory and submit it; the task's id or a negative errno.

        `options` are the fields of `_options.Options`.

        EAGAIN and ENOMEM: there is no room now; ESHUTDOWN, EPIPE, ECHILD: see aiomq_pool_submit().
        Raises EncodeError, and TooLarge if there never will be room.
        """

    def submit_chunk(
        pool: int,
        function: int,
        user: int,
        items: list[Any] | range,
        start: int,
        stop: int,
        star: bool,
        flags: int = 0,
        options: tuple[int, ...] | None = None,
    ) -> int:
        """As submit_call() for the calls that items[start:stop] stand for, in one task.

        Each item is the only argument of a call or, with `star`, an iterable of its positional
        arguments. Raises EncodeError, TooLarge, ValueError for bad indices. EINVAL: more than
        65,536 items.
        """

    def collect(
        pool: int, limit: int, lend: Callable[[int, int], Loan | None] | None = None
    ) -> list[Entry]:
        """Take up to `limit` completions and release what they hold, or have lend(loan, nbytes) do.

        Each is (user, items_left, worker, start, values, others). When everything is OK and these
        are successive items of the task, `values` are their results in order, from that of item
        `start` on, and `others` is None.
        Otherwise `values` is None and `others` are (index, status, value) in any order; value is
        the result, a RemoteFailure if the item carries an error, or a DecodeFailure if it could not
        be decoded. Raises OSError if the pool is not usable.
        """

    def set_table(pool: int, address: int) -> None:
        """Have what is submitted to and collected from a pool counted in this table of a Board.

        0: no more.
        """

    def count_encoded(pool: int, function: int, nbytes: int, nanoseconds: int) -> None:
        """Count a task that was submitted without these functions, as they count others."""

    class Arguments:
        """A payload (fields of aiomq_job), decoded call by call; ValueError if it is damaged.

        lend(job, nbytes) makes a Loan, for views that outlive this.
        """

        def __init__(
            self,
            kind: int,
            integer: int,
            address: int | None,
            nbytes: int,
            lend: Callable[[int, int], Loan | None] | None = None,
            job: int = 0,
        ) -> None: ...

        def __len__(self) -> int:
            """How many calls; 1 if every call has the same arguments."""

        def get(self, i: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
            """The arguments of call `i`; IndexError, ValueError, or what unpickling raises."""

    class Owner(Protocol):
        """What a Runner tells and asks whoever drives it. All are looked up once."""

        def report(self, error: BaseException) -> Report:
            """What is to travel of an exception; EncodeError, TooLarge: a result can't."""

        def on_suspend(self, item: Item) -> None:
            """An item of a job with a timeout has suspended."""

        def on_end(self, item: Item) -> tuple[int, Any]:
            """A watched item has ended (`_watched`): the status and value to publish."""

        def on_free(self) -> None:
            """Suspended items have ended, and nothing waits for room: others may run."""

        def on_over(self, handle: int) -> None:
            """A job is over outside of run()."""

        def on_failure(self, error: BaseException) -> object:
            """The loop could not go on with an item; never what an item raises."""

    class Runner:
        """The item loop of a worker process; one per process.

        item_class(loop) makes the light task of an item (`_item.Item`); enter_task, leave_task and
        register_task are asyncio's. `base_context` is copied for each item; setting it copies what
        is set. Steps and outcomes are counted on `page`.
        """

        base_context: Context
        index: int  # of the item that was started last
        started_ns: int  # CLOCK_MONOTONIC at the start of the newest item of a timed job
        suspended: int  # items that have suspended and have not ended
        waiting: int  # outcomes that wait for room in the worker's memory

        def __init__(
            self,
            worker: int,
            loop: asyncio.AbstractEventLoop,
            item_class: Callable[[asyncio.AbstractEventLoop], Any],
            enter_task: Callable[[asyncio.AbstractEventLoop, Any], object],
            leave_task: Callable[[asyncio.AbstractEventLoop, Any], object],
            register_task: Callable[[Any], object],
            owner: Owner,
            page: Page | None = None,
        ) -> None: ...

        def run(
            self,
            job: int,
            function: Callable[..., Any],
            arguments: Arguments,
            first_index: int,
            permits: int,
            deadline_ns: int,
            plain: bool = False,
            timed: bool = False,
            shared: bool = False,
            number: int = 0,
        ) -> tuple[int, int]:
            """Start items of a job until something ends it; (reason, items that suspended).

            Reasons: 0 the job is over and its handle invalid; 1 no item left to start, some still
            run; 2 `permits` items have suspended; 3 CLOCK_MONOTONIC has passed deadline_ns; or a
            negative errno. -ENOMEM: outcomes wait; call publish_waiting() until they don't, then
            again with the same job unless on_over() says that it is over. -EBADMSG: an item before
            first_index. `plain`: calling the function is known to make no coroutine; it then runs
            in a context of its own, or with `shared` in one for all of them, but is no current
            task. `timed`: items have a timeout. `number`: the function's. Raises what the owner
            raises, and OSError.
            """

        def publish_waiting(self) -> bool:
            """Publish outcomes that wait; whether none waits any more."""

        def items_of(self, job: int) -> list[Any]:
            """The items of a job that have suspended and have not ended."""

elif NATIVE:
    encode_call = native.encode_call
    submit_call = native.submit_call
    submit_chunk = native.submit_chunk
    collect = native.collect
    set_table = native.set_table
    count_encoded = native.count_encoded
    Arguments = native.Arguments
    Runner = native.Runner
else:
    from aiomq._decode import Arguments
    from aiomq._pure import (
        collect,
        count_encoded,
        encode_call,
        set_table,
        submit_call,
        submit_chunk,
    )
    from aiomq._pure_runner import Runner
