"""Nested: a worker's own pool, for the tasks that run in it.

Every task that asks for the pool gets a dispatcher of its own, which knows on whose behalf it
submits; what they share, the calls on their way, is in one `Hub` per worker. A task that has nested
calls under way gives its permit back until they are done, so a pool of one worker with one permit
does not wait for itself.

Loaded in a worker when a task first asks.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import weakref
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from aiomq import _abi, _abi_full
from aiomq._bridge_types import EncodeError, TooLarge
from aiomq._calls import PoolCalls
from aiomq._chunks import AHEAD
from aiomq._completion import decode_completion
from aiomq._encode import encode_arguments, encode_chunk
from aiomq._item import Item
from aiomq._reference import Function, name_of, sharing
from aiomq._task import Task
from aiomq._trouble import NO_ROOM, call_error, item_error

if TYPE_CHECKING:
    from aiomq._map import Chunk, Map
    from aiomq._options import Options
    from aiomq._pump import Pump

lib = _abi_full.lib

_COLLECT = 16
_NOWHERE = "current_pool() was called outside of a pool's task"
_PLAIN = "current_pool() can't be used in a plain function, which can't wait; make it `async def`"
_CHILD = (
    "current_pool() was called in an asyncio task that a pool's task has made; call it in the"
    " pool's task first and hand it on"
)

# The dispatcher of a task, for the asyncio tasks that it makes after it has asked.
_of_task: ContextVar[NestedDispatcher | None] = ContextVar("aiomq_current_pool", default=None)


def current_pool() -> PoolCalls:
    """The pool in whose worker this task runs, to submit to and to await.

        async def crawl(url):
            pool = aiomq.current_pool()
            return await pool.map(fetch, links_of(await fetch(url)))

    While its nested calls are under way a task does not count against childconcurrency. They belong
    to the worker: if that dies they are cancelled. A nested map makes chunks of one item unless it
    is given a chunksize.

    Raises RuntimeError outside of a task, and in a plain function, which can't wait.
    """
    from aiomq import _pump

    pump = _pump.current
    if pump is None or pump.owner != os.getpid():
        raise RuntimeError(_NOWHERE)
    try:
        task: Any = asyncio.current_task()
    except RuntimeError:
        task = None  # another thread, or no loop
    if task is None:
        raise RuntimeError(_PLAIN)
    known = _of_task.get()
    if isinstance(task, Item):
        job, index = pump.place_of(task)
        if known is None or (known.job, known.index) != (job, index):
            if pump.nested is None:
                pump.nested = Hub(pump)
            known = NestedDispatcher(pump.nested, task, job, index)
            _of_task.set(known)
    elif known is None:
        raise RuntimeError(_CHILD)
    return PoolCalls(known)  # type: ignore[arg-type]


class _Waiting:
    """An encoded call that found no room."""

    __slots__ = ("dispatcher", "fields", "task")

    def __init__(
        self, dispatcher: NestedDispatcher, task: Task[Any], fields: tuple[Any, ...]
    ) -> None:
        self.dispatcher = dispatcher
        self.task = task
        self.fields = fields


class Hub:
    """The nested calls of one worker that are on their way."""

    def __init__(self, pump: Pump) -> None:
        self.pump = pump
        self.worker = pump.worker
        self.loop = pump.loop
        self.pending: dict[int, tuple[NestedDispatcher, Task[Any] | Chunk]] = {}
        self.waiting: deque[_Waiting] = deque()
        self.feeds: dict[Map, None] = {}
        self.users = 0

    def turn(self) -> None:
        """Deliver what has come, and submit what waits for room."""
        completions = (_abi_full.Completion * _COLLECT)()
        while True:
            count = lib.aiomq_worker_collect(self.worker, completions, _COLLECT)
            if count < 0:
                raise OSError(-count, "aiomq_worker_collect: " + _text(count))
            for completion in completions[:count]:
                try:
                    entry = decode_completion(completion)
                finally:
                    lib.aiomq_worker_release(self.worker, completion.loan)
                self._deliver(*entry)
            if count < _COLLECT:
                break
        while self.waiting:
            first = self.waiting[0]
            if not first.task.done() and not first.dispatcher._submit_task(
                first.task, *first.fields
            ):
                break
            self.waiting.popleft()
        for feed in list(self.feeds):
            feed._feed()

    def _deliver(self, user: int, left: int, *outcome: Any) -> None:
        found = self.pending.get(user) if left else self.pending.pop(user, None)
        if found is None:
            return
        dispatcher, entry = found
        if left == 0:
            dispatcher.returned()
        entry._complete(left, *outcome)


class NestedDispatcher:
    """What a Dispatcher is to the calls of the application, to those of one task."""

    def __init__(self, hub: Hub, item: Item, job: int, index: int) -> None:
        self.job = job
        self.index = index
        self.loop = hub.loop
        self.feeds = hub.feeds
        self.streams: weakref.WeakSet[Any] = weakref.WeakSet()
        self.queues = hub.pump.queues
        self.workers = hub.pump.workers
        self.childconcurrency = hub.pump.permits
        self.most_items = 4096
        self.closing = False
        self.size = 1  # this is the sizer, too: nobody here knows how busy other workers are
        self.ahead = AHEAD
        self._hub = hub
        self._item = item
        self._under_way = 0

    # --- what PoolCalls, PoolResult and Task ask for ----------------------------------------------

    def here(self) -> NestedDispatcher:
        """Calls of a task are made in its worker's loop."""
        return self

    def check_open(self) -> None:
        """A pool that closes still takes nested calls."""

    def check_owner(self) -> None:
        """Submitting tells."""

    def drained(self) -> None:
        """Nobody waits for it."""

    def bind(self) -> Any:
        """The worker's loop."""
        return self.loop

    def user_of(self, _function: bytes) -> int:
        """A number for a call that no other call has."""
        self._hub.users += 1
        return self._hub.users

    def natives(self) -> dict[str, int]:
        """As Submitter.natives()."""
        return self._hub.pump.natives

    def function(self, function: Function, options: Options | None = None) -> bytes:
        """The function's name, by which it travels."""
        name = name_of(function)
        return (sharing(name) if options is not None and options.shared else name).encode()

    def sizer(self, _function: bytes) -> NestedDispatcher:
        """Chunks of one item."""
        return self

    def observe(self, _worker: int, _items: int) -> None:
        """As ChunkSizer.observe()."""

    def end_error(self) -> Exception:
        """What calls raise that the pool's end has ended."""
        return RuntimeError("pool is closed")

    def take_stack(self, _worker: int) -> str:
        """Only the dispatcher's process can read it."""
        return ""

    def cancel(self, user: int) -> None:
        """Withdraw a call, or ask its worker to stop it. Its outcome is ignored."""
        lib.aiomq_worker_cancel(self._hub.worker, user)

    def submit(
        self,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait: bool,
        options: Options | None,
        follows: bool = False,
    ) -> Task[Any]:
        """As Dispatcher.submit()."""
        name = self.function(function, options)
        try:
            payload = encode_arguments(args, kwargs)
        except EncodeError as error:
            raise call_error(function, error) from error.__cause__
        task: Task[Any] = Task(self, self.loop)  # type: ignore[arg-type]
        fields = (name, payload, options)
        if self._hub.waiting or not self._submit_task(task, *fields, direct=True):
            if not wait:
                from aiomq._errors import QueueFull

                raise QueueFull("the pool has no room for nested calls now")
            self._hub.waiting.append(_Waiting(self, task, fields))
        return task

    def submit_chunk(
        self,
        chunk: Chunk,
        function: bytes,
        items: list[Any] | range,
        begin: int,
        star: bool,
        options: Options | None,
    ) -> int:
        """As Dispatcher.submit_chunk()."""
        try:
            payload = encode_chunk(items, begin, begin + chunk.count, star)
        except EncodeError as error:
            raise item_error(error, chunk.start - begin) from error.__cause__
        outcome = self._submit(chunk.user, function, _abi.KIND_CHUNK, chunk.count, payload, options)
        if outcome in NO_ROOM:
            return 0
        if outcome == -errno.EMSGSIZE and chunk.count > 1:
            return -1
        if outcome < 0:
            self._raise_for(outcome, f"item {chunk.start} is", payload)
        chunk.id = chunk.user
        self._sent(chunk.user, chunk)
        return 1

    # --- submitting -------------------------------------------------------------------------------

    def _submit_task(
        self,
        task: Task[Any],
        name: bytes,
        payload: bytes,
        options: Options | None,
        direct: bool = False,
    ) -> bool:
        """False: there is no room now. Errors are raised if `direct`, else the task's."""
        user = self.user_of(name)
        outcome = self._submit(user, name, _abi.KIND_CALL, 1, payload, options)
        if outcome in NO_ROOM:
            return False
        try:
            if outcome < 0:
                self._raise_for(outcome, "the arguments are", payload)
        except Exception as error:
            if direct:
                raise
            task._fail(error)
            return True
        task._id = user
        self._sent(user, task)
        return True

    def _submit(
        self,
        user: int,
        name: bytes,
        kind: int,
        items: int,
        payload: bytes,
        options: Options | None,
    ) -> int:
        task = _abi_full.Task(
            struct_bytes=ctypes.sizeof(_abi_full.Task),
            flags=_abi.TASK_PROGRESS if kind == _abi.KIND_CHUNK else 0,
            kind=kind,
            items=items,
            user=user,
            payload=ctypes.cast(ctypes.c_char_p(payload), ctypes.c_void_p),
            payload_bytes=len(payload),
        )
        if options is not None:
            task.flags |= options.flags
            task.queue = options.queue
            task.retries = options.retries
            task.key = options.key
            task.start_within_ns = options.start_within_ns
            task.timeout_ns = options.timeout_ns
        outcome: int = lib.aiomq_worker_submit(
            self._hub.worker, self.job, self.index, ctypes.byref(task), name
        )
        return outcome

    def _sent(self, user: int, entry: Task[Any] | Chunk) -> None:
        self._hub.pending[user] = self, entry
        self._under_way += 1
        if self._under_way == 1:
            self._hub.pump.lend(self._item)

    def returned(self) -> None:
        """A call of this task is over."""
        self._under_way -= 1
        if self._under_way == 0:
            self._hub.pump.take_back(self._item)

    def _raise_for(self, outcome: int, what: str, payload: bytes) -> NoReturn:
        number = -outcome
        if number == errno.EINVAL:
            raise RuntimeError("the task that has asked for this pool is over")
        if number == errno.ESHUTDOWN:
            raise RuntimeError("pool is closed")
        if number == errno.EMSGSIZE:
            most = self._hub.pump.arena_bytes
            raise TooLarge(len(payload)).explained(what, "a worker's calls", most)
        if number == errno.ECHILD:
            raise RuntimeError(_NOWHERE)
        raise OSError(number, _text(outcome))


def _text(outcome: int) -> str:
    text: bytes = lib.aiomq_strerror(outcome)
    return text.decode()
