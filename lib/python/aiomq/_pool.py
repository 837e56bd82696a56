"""Pool: many worker processes, each running an event loop, fed from one event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, TypeVar, overload

from aiomq import _create
from aiomq._dispatcher import Dispatcher
from aiomq._result import PoolResult
from aiomq._task import Task

P = ParamSpec("P")
R = TypeVar("R")


class Pool:
    """Worker processes that run coroutine functions and plain functions.

        async with Pool() as pool:
            print(await pool.apply(fetch, (url,)))

    The workers start at once and Pool() does not wait for them; `async with`, or the first await,
    raises PoolBroken if they can't start. A pool may be made outside of a loop. It belongs to the
    loop in which it is first used, and to the process that made it.

    processes: how many workers. Default: the CPUs that this process may use (affinity, cgroup
    quota). initializer, initargs: called once in each worker before it serves; may be a coroutine
    function.
        If it raises, the pool is broken.
    childconcurrency: how many coroutines one worker runs at once at most, over all calls and maps.
    loop_initializer: called in each worker without arguments; returns its event loop, for example
        uvloop.new_event_loop. Default: an asyncio loop that knows when there is work without asking
        the kernel.
    label: what `aiomq-stat` and `ps` show. Default: the program's name.
    capacity: slots, i.e. how many calls and chunks may be on their way at once. Default 4096.
    max_memory: bytes that arguments and results on their way may take in all; split evenly between
        the arguments and each worker's results. Default: a quarter of the machine's memory for
        each.

    A function is given by reference and imported in the workers, so it must be defined at the top
    level of a module or of the main program. Arguments and results that are plain values (None,
    bool, int, float, str, bytes and lists, tuples, dicts and sets of such) travel without pickle.

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
    ) -> None:
        started = _create.create(
            processes,
            initializer,
            initargs,
            childconcurrency,
            loop_initializer,
            label,
            capacity,
            max_memory,
        )
        self._label = started.label
        self._closed = False
        self._dispatcher = Dispatcher(started, int(childconcurrency))

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<aiomq.Pool {self._label!r} {state} processes={self.processes}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pool can't be pickled; it belongs to the process that made it")

    @property
    def label(self) -> str:
        """The pool's label."""
        return self._label

    @property
    def processes(self) -> int:
        """How many workers the pool has."""
        return self._dispatcher.workers

    # --- calls ------------------------------------------------------------------------------------

    @overload
    def submit(
        self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...
    @overload
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Start fn(*args, **kwargs) in a worker; returns at once with an awaitable Task.

        When every slot is in use the call waits for room, with its arguments already encoded.
        Needs a running loop. Raises pickle.PicklingError naming the argument that can't be
        pickled; ValueError for a function that can't be imported, or for more than max_memory
        allows; RuntimeError "pool is closed"; PoolBroken.
        """
        if self._closed:
            raise RuntimeError("pool is closed")
        return self._dispatcher.submit(fn, args, kwargs, True)

    @overload
    def submit_nowait(
        self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...
    @overload
    def submit_nowait(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...
    def submit_nowait(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Like submit(), but raises QueueFull when there is no room now."""
        if self._closed:
            raise RuntimeError("pool is closed")
        return self._dispatcher.submit(fn, args, kwargs, False)

    @overload
    async def apply(
        self,
        fn: Callable[..., Awaitable[R]],
        args: Iterable[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
    ) -> R: ...
    @overload
    async def apply(
        self,
        fn: Callable[..., R],
        args: Iterable[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
    ) -> R: ...
    async def apply(
        self,
        fn: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run fn(*args, **kwds) in a worker; returns its result. Raises as submit() and Task."""
        if self._closed:
            raise RuntimeError("pool is closed")
        return await self._dispatcher.submit(
            fn, () if args is None else tuple(args), {} if kwds is None else dict(kwds), True
        )

    @overload
    def map(
        self,
        fn: Callable[[Any], Awaitable[R]],
        iterable: Iterable[Any],
        *,
        chunksize: int | None = None,
    ) -> PoolResult[R]: ...
    @overload
    def map(
        self, fn: Callable[[Any], R], iterable: Iterable[Any], *, chunksize: int | None = None
    ) -> PoolResult[R]: ...
    def map(
        self, fn: Callable[[Any], Any], iterable: Iterable[Any], *, chunksize: int | None = None
    ) -> PoolResult[Any]:
        """Run fn(item) for each item of the iterable; returns an awaitable, iterable PoolResult.

        Starts at once if a loop is running, else when it is first awaited. `chunksize` is how many
        items travel together; it has no influence on how many run at once (childconcurrency).
        Default: one at first, then by how long the items keep a worker busy. Raises as submit()
        does for the first items; for later ones the PoolResult raises.
        """
        return self._map(fn, iterable, False, chunksize)

    @overload
    def starmap(
        self,
        fn: Callable[..., Awaitable[R]],
        iterable: Iterable[Iterable[Any]],
        *,
        chunksize: int | None = None,
    ) -> PoolResult[R]: ...
    @overload
    def starmap(
        self,
        fn: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        *,
        chunksize: int | None = None,
    ) -> PoolResult[R]: ...
    def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        *,
        chunksize: int | None = None,
    ) -> PoolResult[Any]:
        """Like map(), but each item holds the positional arguments of one call: fn(*item)."""
        return self._map(fn, iterable, True, chunksize)

    def _map(
        self, fn: Callable[..., Any], iterable: Iterable[Any], star: bool, chunksize: int | None
    ) -> PoolResult[Any]:
        if self._closed:
            raise RuntimeError("pool is closed")
        if chunksize is not None:
            chunksize = _create.size("chunksize", chunksize, 1)
        return PoolResult.start(self._dispatcher, fn, iterable, star, chunksize)

    # --- life -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more calls. Those made are still run; then the workers leave. See join()."""
        self._closed = True
        self._dispatcher.close()

    def terminate(self) -> None:
        """End the pool now: kill the workers. Calls without a result raise RuntimeError."""
        self._closed = True
        self._dispatcher.terminate()

    async def join(self) -> None:
        """Wait until the calls of a closed pool are done and its workers are gone.

        Raises RuntimeError "pool is still open". If it is cancelled the pool ends without it.
        """
        if not self._closed:
            raise RuntimeError("pool is still open")
        await self._dispatcher.join()

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
