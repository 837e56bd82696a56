"""PoolCalls: the ways to call a function in a pool, with or without options."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeAlias, TypeVar, overload

from aiomq import _checks
from aiomq._map import MapOptions
from aiomq._native import Native, routed
from aiomq._options import Options, options
from aiomq._result import PoolResult
from aiomq._task import Task

if TYPE_CHECKING:
    from aiomq._dispatcher import Dispatcher
    from aiomq._stream import Stream
    from aiomq._submitter import Submitter
    from aiomq._unordered import UnorderedResult

P = ParamSpec("P")
R = TypeVar("R")
Input: TypeAlias = Iterable[Any] | AsyncIterable[Any]
Progress: TypeAlias = Callable[[int, int | None], object]

_NOT_GIVEN: Any = object()


class PoolCalls:
    """What a Pool and a view of it have in common; made by Pool.options() and current_pool()."""

    def __init__(self, dispatcher: Dispatcher, chosen: Options | None = None) -> None:
        self._dispatcher = dispatcher
        self._options = chosen

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pool can't be pickled; it belongs to the process that made it")

    def options(
        self,
        *,
        queue: str | None = None,
        key: str | bytes | int | None = None,
        retries: int = 0,
        start_within: float | None = None,
        timeout: float | None = None,
        isolate: bool = True,
    ) -> PoolCalls:
        """The same pool, for calls with these options; they hold for each call and map made there.

            await pool.options(timeout=5, retries=2).apply(fetch, (url,))

        queue: name of the queue to wait in. Default: the pool's first.
        key: calls with the same key run in the same worker, as long as that lives.
        retries: how often a call, or an item of a map, may be run again after its worker died.
            Without it what has started is never run twice.
        start_within: seconds. What has not *started* by then raises StartExpired and never runs.
        timeout: seconds, counted from a call's own start, however long it waited. Then a coroutine
            is cancelled: it sees CancelledError, `finally` runs, and the caller gets TaskTimeout.
            As with asyncio.timeout(), a coroutine that returns or raises something else
            nevertheless has that outcome. What does not end within the pool's `grace`, a plain
            function for example, is stopped by killing its worker; the caller's TaskTimeout says
            where it was stuck.
        isolate: False: plain functions run in one context of their worker, instead of each call
            in a copy of its own, which is faster for tiny ones; what a call sets in a ContextVar,
            the calls after it see. Coroutine functions have contexts of their own in any case.

        Raises TypeError or ValueError naming the argument.
        """
        chosen = options(
            self._dispatcher.queues, queue, key, retries, start_within, timeout, isolate
        )
        return PoolCalls(self._dispatcher, chosen)

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
        pickled; ValueError for a function that can't be sent, or for more than max_memory
        allows; RuntimeError "pool is closed"; PoolBroken.
        """
        return self._dispatcher.here().submit(fn, args, kwargs, True, self._chosen(fn))

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
        return self._dispatcher.here().submit(fn, args, kwargs, False, self._chosen(fn))

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
        return await self._dispatcher.here().submit(
            fn,
            () if args is None else tuple(args),
            {} if kwds is None else dict(kwds),
            True,
            self._chosen(fn),
        )

    @overload
    def stream(
        self,
        fn: Callable[..., AsyncIterable[R]],
        args: Iterable[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
        *,
        buffersize: int = 64,
    ) -> Stream[R]: ...
    @overload
    def stream(
        self,
        fn: Callable[..., Iterable[R]],
        args: Iterable[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
        *,
        buffersize: int = 64,
    ) -> Stream[R]: ...
    def stream(
        self,
        fn: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
        *,
        buffersize: int = 64,
    ) -> Stream[Any]:
        """Run a generator or asynchronous generator in a worker; gives what it yields as it does.

            async for row in pool.stream(read_rows, (path,)):
                ...

        Starts at once. The generator waits when `buffersize` values wait in its worker to be
        taken, while at most twice as many are on their way, so it never runs far ahead. It is one
        call: options hold for it as a whole, and it is not run again, so `retries` must be 0.
        close() waits for streams that have begun. Leaving an `async for` early ends the generator.

        Raises ValueError or TypeError naming what is wrong; the rest as submit(). Iterating raises
        what the generator does, after its last value; pickle.PicklingError for a value that can't
        be sent; WorkerDied.
        """
        from aiomq._stream import Stream

        return Stream(
            self._dispatcher.here(),
            fn,
            () if args is None else tuple(args),
            {} if kwds is None else dict(kwds),
            buffersize,
            self._options,
        )

    @overload
    def map(
        self,
        fn: Callable[[Any], Awaitable[R]],
        iterable: Input,
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> PoolResult[R]: ...
    @overload
    def map(
        self,
        fn: Callable[[Any], R],
        iterable: Input,
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> PoolResult[R]: ...
    def map(
        self,
        fn: Callable[[Any], Any],
        iterable: Input,
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> PoolResult[Any]:
        """Run fn(item) for each item of the iterable; returns an awaitable, iterable PoolResult.

        Starts at once if a loop is running, else when it is first awaited.

        iterable: iterable or asynchronously iterable, also endless; read as the workers need it.
        chunksize: how many items travel together; it has no influence on how many run at once
            (childconcurrency). Default: one at first, then by how long the items keep a worker
            busy.
        buffersize: how many items may be read from the input whose results are not taken yet. For
            a map that is awaited: that have no result yet. Default: enough to keep the workers
            busy, and for `async for` up to 65,536 results.
        return_exceptions: an item's error is its result instead of the end of the map.
        progress: called as results come, in the loop's thread, with how many items have one and
            how many there are, None if that is not known. What it raises ends the map.

        Raises as submit() does for the first items, and TypeError or ValueError naming the
        argument; for later items the PoolResult raises.
        """
        return PoolResult.start(
            *self._mapping(fn, iterable, False, chunksize, buffersize, return_exceptions, progress)
        )

    @overload
    def starmap(
        self,
        fn: Callable[..., Awaitable[R]],
        iterable: Input,
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> PoolResult[R]: ...
    @overload
    def starmap(
        self,
        fn: Callable[..., R],
        iterable: Input,
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> PoolResult[R]: ...
    def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Input,
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> PoolResult[Any]:
        """Like map(), but each item holds the positional arguments of one call: fn(*item)."""
        return PoolResult.start(
            *self._mapping(fn, iterable, True, chunksize, buffersize, return_exceptions, progress)
        )

    @overload
    def map_unordered(
        self,
        fn: Callable[[Any], Awaitable[R]],
        iterable: Input,
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
        index: Literal[False] = False,
        input: Literal[False] = False,
    ) -> UnorderedResult[R]: ...
    @overload
    def map_unordered(
        self,
        fn: Callable[[Any], R],
        iterable: Input,
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
        index: Literal[False] = False,
        input: Literal[False] = False,
    ) -> UnorderedResult[R]: ...
    @overload
    def map_unordered(
        self,
        fn: Callable[[Any], Any],
        iterable: Input,
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
        index: bool = False,
        input: bool = False,
    ) -> UnorderedResult[Any]: ...
    def map_unordered(
        self,
        fn: Callable[[Any], Any],
        iterable: Input,
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
        index: bool = False,
        input: bool = False,
    ) -> UnorderedResult[Any]:
        """Like map(), but gives the results as they come: iterate with `async for`.

            async for url, page in pool.map_unordered(fetch, urls, input=True):
                ...

        index, input: give the item's number, the item itself, or both, before its result, as a
            tuple. Inputs are kept until then.
        """
        from aiomq._unordered import UnorderedResult

        return UnorderedResult.start(
            *self._mapping(fn, iterable, False, chunksize, buffersize, return_exceptions, progress),
            index=index,
            input=input,
        )

    @overload
    def map_batches(
        self,
        fn: Callable[[Any], Awaitable[R]],
        iterable: Input,
        batchsize: int = 1024,
        *,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> PoolResult[R]: ...
    @overload
    def map_batches(
        self,
        fn: Callable[[Any], R],
        iterable: Input,
        batchsize: int = 1024,
        *,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> PoolResult[R]: ...
    def map_batches(
        self,
        fn: Callable[[Any], Any],
        iterable: Input,
        batchsize: int = 1024,
        *,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> PoolResult[Any]:
        """Like map(), for functions that take many items at once: one result for each batch.

            counts = await pool.map_batches(insert_rows, rows, 5000)

        iterable: as for map(). The function gets lists; from numpy arrays, whatever else has
            `__array__`, array.array and range it gets slices, so a column stays a column.
        batchsize: items of a batch; the last one may be smaller.
        buffersize, progress: count batches.

        An option such as `timeout` holds for a batch, and so does an error.
        """
        from aiomq._batches import BatchResult, batches_of

        size = _checks.size("batchsize", batchsize, 1)
        dispatcher, *others = self._mapping(
            fn,
            batches_of(iterable, size, type(fn) is Native),
            False,
            1,
            buffersize,
            return_exceptions,
            progress,
        )
        return BatchResult.start(dispatcher, *others)

    @overload
    async def map_reduce(
        self,
        fn: Callable[[Any], Awaitable[R]],
        iterable: Input,
        reduce: Callable[[R, R], R | Awaitable[R]],
        *,
        initial: R = ...,
        chunksize: int | None = None,
        progress: Progress | None = None,
    ) -> R: ...
    @overload
    async def map_reduce(
        self,
        fn: Callable[[Any], R],
        iterable: Input,
        reduce: Callable[[R, R], R | Awaitable[R]],
        *,
        initial: R = ...,
        chunksize: int | None = None,
        progress: Progress | None = None,
    ) -> R: ...
    async def map_reduce(
        self,
        fn: Callable[[Any], Any],
        iterable: Input,
        reduce: Callable[[Any, Any], Any],
        *,
        initial: Any = _NOT_GIVEN,
        chunksize: int | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """As functools.reduce(reduce, map(fn, iterable), initial), folded in the workers.

            total = await pool.map_reduce(count_words, files, Counter.__add__, initial=Counter())

        Only partial results travel: the workers fold each chunk, and this process merges those.

        reduce: function or coroutine function of two values, the left one before the right one in
            input order. It must be associative, for the values are paired in whatever way suits;
            it runs in the workers and here, and may change and return its left argument.
        initial: the leftmost value, and the result of an empty iterable. Used once, here.
        chunksize: items of a chunk, which runs its items one after another; a worker runs as many
            chunks at once as its childconcurrency. Default: as many as take about a millisecond.

        Options hold for a chunk: it has one `timeout`, and with `retries` it is run again as a
        whole. The first error of fn or reduce ends it and is raised. Raises also TypeError for an
        empty iterable without `initial`, and as map().
        """
        from aiomq._reduce import NOTHING, Reduction

        if not callable(reduce):
            raise TypeError(f"reduce must be callable, not {type(reduce).__name__}")
        dispatcher, _, _, how, chosen = self._mapping(
            fn, iterable, False, chunksize, None, False, progress
        )
        dispatcher.check_owner()
        reduction = Reduction(dispatcher, fn, iterable, reduce, how, chosen)
        return await reduction.run(NOTHING if initial is _NOT_GIVEN else initial)

    def _mapping(
        self,
        fn: Callable[..., Any],
        iterable: Any,
        star: bool,
        chunksize: int | None,
        buffersize: int | None,
        return_exceptions: bool,
        progress: Progress | None,
    ) -> tuple[Submitter, Callable[..., Any], Any, MapOptions, Options | None]:
        dispatcher = self._dispatcher.here()
        dispatcher.check_open()
        if chunksize is not None:
            chunksize = _checks.size("chunksize", chunksize, 1)
        if buffersize is not None:
            buffersize = _checks.size("buffersize", buffersize, 1)
        _checks.function("progress", progress)
        how = MapOptions(star, chunksize, buffersize, bool(return_exceptions), progress)
        return dispatcher, fn, iterable, how, self._chosen(fn)

    def _chosen(self, fn: Any) -> Options | None:
        """The options of a call of this function."""
        if type(fn) is Native:
            return routed(fn, self._options, self._dispatcher.natives())
        return self._options
