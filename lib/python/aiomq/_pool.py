"""Pool: many worker processes, each running an event loop, fed from one event loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from aiomq import _checks, _create
from aiomq._calls import PoolCalls
from aiomq._dispatcher import Dispatcher
from aiomq._group import Group

if TYPE_CHECKING:
    from aiomq._share import Shared
    from aiomq._stats import PoolStats

T = TypeVar("T")


class Pool(PoolCalls):
    """Worker processes that run coroutine functions and plain functions.

        async with Pool() as pool:
            print(await pool.apply(fetch, (url,)))

    The workers start at once and Pool() does not wait for them; `async with`, or the first await,
    raises PoolBroken if they can't start. A pool may be made outside of a loop. It belongs to the
    loop in which it is first used, and to the process that made it. While that loop runs, the
    loops of other threads can use the pool, too: it hands them their results, so it must not be
    blocked. Threads without a loop use asyncio.run_coroutine_threadsafe().

    processes: how many workers. Default: the CPUs that this process may use (affinity, cgroup
    quota). initializer, initargs: called once in each worker before it serves; may be a coroutine
    function.
        If it raises, the pool is broken.
    finalizer: called in each worker without arguments when it leaves in order: after close(), or
        when it is replaced. Not when it is killed; terminate() kills, and does not wait for
        it. May be a coroutine function. What it raises goes to the worker's stderr.
    childconcurrency: how many coroutines one worker runs at once at most, over all calls and maps.
    loop_initializer: called in each worker without arguments; returns its event loop, for example
        uvloop.new_event_loop. Default: an asyncio loop that knows when there is work without asking
        the kernel.
    label: what `aiomq-stat` and `ps` show. Default: the program's name.
    capacity: slots, i.e. how many calls and chunks may be on their way at once. Default 4096.
    max_memory: bytes that arguments and results on their way may take in all; split evenly between
        the arguments and each worker's results. Default: a quarter of the machine's memory for
        each.
    queues: names of the queues in which calls may wait, see options(); the first is the default.
    groups: the workers as a list of Group, each with its own number, program and queues; then
        `processes` must be left out.
    maxtasksperchild: calls and items after which a worker is replaced by a fresh one.
    max_memory_per_child: bytes of private memory above which it is. In both cases, and when it gets
        SIGTERM, a worker first ends what it runs.
    poison_limit: a call that was running when so many workers died is not run again, whatever its
        `retries`.
    grace: seconds that a call may go on after its `timeout` before its worker is killed.
    blocked_after: seconds without a turn of its loop after which a busy worker is reported, with
        the function that blocks it, to the logger "aiomq". None: never.
    forward_logs: hand what workers log and warn of to `logging` and `warnings` in this process,
        as the loop comes to it; workers have the levels that loggers have here when the pool is
        made. What comes faster than it is read is dropped, and a warning of the logger "aiomq" says
        how much. False: it stays in the workers, as they are configured.

    A function of a module or of the main program is given by reference and imported in the workers.
    Others are sent by value, once for each content: partials and bound methods, and with
    cloudpickle installed also lambdas, closures and functions of an interactive session.

    Arguments and results that are plain values (None, bool, int, float, str, bytes and lists,
    tuples, dicts and sets of such) travel without pickle.

    Raises TypeError or ValueError naming the argument; pickle.PicklingError naming what of
    initializer, initargs and loop_initializer can't be pickled; MemoryError or OSError when the
    system lacks memory or descriptors; RuntimeError in a worker that is importing the main module.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        *,
        childconcurrency: int = 16,
        loop_initializer: Callable[[], Any] | None = None,
        label: str | None = None,
        capacity: int | None = None,
        max_memory: int | None = None,
        queues: Sequence[str] | None = None,
        groups: Sequence[Group] | None = None,
        maxtasksperchild: int | None = None,
        max_memory_per_child: int | None = None,
        poison_limit: int = 3,
        grace: float = 2.0,
        blocked_after: float | None = 1.0,
        finalizer: Callable[[], Any] | None = None,
        forward_logs: bool = True,
    ) -> None:
        started = _create.create(
            _create.Wanted(
                processes,
                initializer,
                initargs,
                childconcurrency,
                loop_initializer,
                label,
                capacity,
                max_memory,
                queues,
                groups,
                maxtasksperchild,
                max_memory_per_child,
                poison_limit,
                grace,
                blocked_after,
                finalizer,
                bool(forward_logs),
            )
        )
        self._label = started.label
        super().__init__(Dispatcher(started))

    def __repr__(self) -> str:
        state = "closed" if self._dispatcher.closing else "open"
        return f"<aiomq.Pool {self._label!r} {state} processes={self.processes}>"

    @property
    def label(self) -> str:
        """The pool's label."""
        return self._label

    @property
    def processes(self) -> int:
        """How many workers the pool has."""
        return self._dispatcher.workers

    def share(self, obj: T) -> Shared[T]:
        """Put a read-only object into shared memory, once; returns the handle for tasks.

            model = pool.share(numpy.load("model.npy"))
            await pool.map(functions.score, [(model, row) for row in rows])

            def score(order):
                model, row = order
                return model.get() @ row

        Each worker unpickles it once, when a task first gets it there; the memory of numpy arrays
        and others that support pickle protocol 5, and of a memoryview, is mapped and not copied.
        The handle costs some bytes in each call. The object is shared until the handle is closed,
        or the pool has ended; a handle may be used as `with pool.share(obj) as handle`.

        Takes a copy: changing the object later changes nothing in the tasks. Raises
        pickle.PicklingError; MemoryError; RuntimeError "pool is closed"; OSError.
        """
        return self._dispatcher.share(obj)

    def buffer(self, nbytes: int) -> memoryview:
        """Memory of the pool for an argument: what is filled in here is not copied when it is sent.

            view = pool.buffer(1 << 20)
            file.readinto(view)
            await pool.apply(functions.parse, (view,))

        It may be sent again when the call is done; one that is sent while a call or a worker still
        has it is copied. What is written meanwhile the task may see or not. The memory goes back
        when neither the view nor a worker refers to it; it stays after the pool's end. A view of
        less than 64 KiB is copied in the worker.

        Raises MemoryError if the pool's memory for arguments is full; ValueError if it never has so
        much, see max_memory, or for less than one byte; TypeError; RuntimeError "pool is closed".
        """
        return self._dispatcher.buffer(_checks.size("nbytes", nbytes, 1))

    def empty(self, shape: int | tuple[int, ...], dtype: Any = float) -> Any:
        """An uninitialized numpy array in memory as of buffer(), as numpy.empty() makes one.

            rows = pool.empty((1000, 80), "f4")
            model.predict(batch, out=rows)
            await pool.apply(functions.store, (rows,))

        Raises as buffer(), ImportError without numpy, TypeError or ValueError as numpy.empty().
        """
        import numpy

        kind = numpy.dtype(dtype)
        if kind.hasobject:
            raise TypeError("an array of objects has no memory that can be shared")
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        nbytes = math.prod(sizes) * kind.itemsize
        if nbytes == 0 or min(sizes, default=0) < 0:
            return numpy.empty(sizes, kind)
        return numpy.ndarray(sizes, kind, self.buffer(nbytes))

    def stats(self) -> PoolStats:
        """What the pool is doing, in numbers; what `aiomq-stat show` shows from outside.

        May be called in any thread; stops nobody. Raises RuntimeError when the pool has ended.
        """
        return self._dispatcher.stats()

    # --- life -------------------------------------------------------------------------------------

    def close(self, drain: bool = True) -> None:
        """Take no more calls. Those made are still run; then the workers leave. See join().

        drain: False: what has not started never will, and raises RuntimeError "pool is closed".
        """
        self._dispatcher.close(drain)

    def terminate(self) -> None:
        """End the pool now: kill the workers. Calls without a result raise RuntimeError."""
        self._dispatcher.terminate()

    async def join(self, timeout: float | None = None) -> None:
        """Wait until the calls of a closed pool are done and its workers are gone.

        Raises RuntimeError "pool is still open"; TimeoutError after `timeout` seconds: the pool
        goes on to end, and join() may be called again. If it is cancelled the pool ends without it.
        """
        if timeout is not None:
            _checks.nanoseconds("timeout", timeout)
        if not self._dispatcher.closing:
            raise RuntimeError("pool is still open")
        await self._dispatcher.join(timeout)

    async def __aenter__(self) -> Pool:
        """Wait until every worker is ready. Raises PoolBroken, with the reason, if they can't."""
        try:
            await self._dispatcher.started()
        except BaseException:
            self.terminate()
            await self._dispatcher.join()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Terminate and join."""
        self.terminate()
        await self.join()
