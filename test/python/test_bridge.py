"""The bridge, both variants on both sides: what is submitted comes back, whatever becomes of it."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bridge_worker
import pytest
from codec_variants import PLAIN, same

from aiomq import _abi, _abi_full, _bridge, _pure
from aiomq._bridge import DecodeFailure, EncodeError, RemoteFailure, TooLarge

lib = _abi_full.lib
HERE = Path(__file__).parent


class Side(NamedTuple):
    """The dispatcher's functions of one variant."""

    name: str
    submit_call: Callable[..., int]
    submit_chunk: Callable[..., int]
    collect: Callable[[int, int], list[Any]]
    encode_call: Callable[..., Any]


SIDES = [Side("pure", _pure.submit_call, _pure.submit_chunk, _pure.collect, _pure.encode_call)]
if _bridge.NATIVE:
    native = _bridge.native
    SIDES.append(
        Side("native", native.submit_call, native.submit_chunk, native.collect, native.encode_call)
    )


class Dispatcher:
    """A pool with one worker of bridge_worker.py."""

    def __init__(self, side: Side, worker: str, permits: int = 4, **options: int) -> None:
        self.side = side
        self.pure_worker = worker == "pure"
        code = (
            f"import sys; sys.path.insert(0, {os.fspath(HERE)!r});"
            f"import bridge_worker; bridge_worker.main({permits})"
        )
        environment = {**os.environ, "AIOMQ_PURE": str(int(self.pure_worker))}
        argv = (ctypes.c_char_p * 4)(sys.executable.encode(), b"-c", code.encode(), None)
        entries = [f"{name}={value}".encode() for name, value in environment.items()]
        text = ctypes.create_string_buffer(4096)
        created = _abi_full.PoolOptions()
        lib.aiomq_pool_options_init(ctypes.byref(created), ctypes.sizeof(created))
        created.workers = 1
        created.argv = argv
        created.environment = (ctypes.c_char_p * (len(entries) + 1))(*entries, None)
        created.error_text = ctypes.addressof(text)
        created.error_text_bytes = len(text)
        for name, value in options.items():
            setattr(created, name, value)
        self.handle = ctypes.c_void_p()
        outcome = lib.aiomq_pool_create(ctypes.byref(created), ctypes.byref(self.handle))
        assert outcome == 0, text.value.decode()
        assert self.handle.value is not None
        self.pool: int = self.handle.value
        self.numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        if name not in self.numbers:
            number = ctypes.c_uint32()
            assert lib.aiomq_pool_function(self.pool, name.encode(), ctypes.byref(number)) == 0
            self.numbers[name] = number.value
        return self.numbers[name]

    def wait(self) -> None:
        """Until there is something to collect, or room."""
        assert lib.aiomq_pool_wait(self.pool, 20_000_000_000) > 0, "nothing came"

    def entries(self, count: int = 1, limit: int = 64) -> list[Any]:
        """The next completions."""
        found: list[Any] = []
        while True:
            found += self.side.collect(self.pool, limit)
            if len(found) >= count:
                return found
            self.wait()

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[int, Any]:
        """(status, value) of one call."""
        task = self.side.submit_call(self.pool, self.number(name), 77, args, kwargs)
        assert task > 0, os.strerror(-task)
        ((user, left, worker, start, values, others),) = self.entries()
        assert (user, left, worker, start) == (77, 0, 0, 0)
        if others is None:
            assert len(values) == 1
            return _abi.OK, values[0]
        assert values is None
        ((index, status, value),) = others
        assert index == 0
        return status, value

    def chunk(self, name: str, items: list[Any], star: bool = False) -> Any:
        """The results of a chunk, or its (status, value) by index."""
        number = self.number(name)
        task = self.side.submit_chunk(self.pool, number, 78, items, 0, len(items), star)
        assert task > 0, os.strerror(-task)
        ((user, left, _, start, values, others),) = self.entries()
        assert (user, left, start) == (78, 0, 0)
        if others is None:
            return values
        assert values is None
        return {index: (status, value) for index, status, value in others}

    def destroy(self) -> None:
        lib.aiomq_pool_destroy(ctypes.byref(self.handle))


WORKERS = ["pure", "native"] if _bridge.NATIVE else ["pure"]


@pytest.fixture(
    params=[(side, worker) for side in SIDES for worker in WORKERS],
    ids=lambda given: f"{given[0].name}-dispatcher-{given[1]}-worker",
)
def pool(request: pytest.FixtureRequest) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(*request.param)
    yield dispatcher
    dispatcher.destroy()


@pytest.fixture(params=SIDES, ids=lambda side: side.name)
def side(request: pytest.FixtureRequest) -> Side:
    return request.param


def test_the_variants_are_those_that_were_asked_for(pool: Dispatcher) -> None:
    assert pool.call("p_native") == (_abi.OK, not pool.pure_worker)


@pytest.mark.parametrize("name", ["echo", "p_echo", "unknown_echo", "late_echo", "p_coroutine"])
def test_results_of_every_kind_come_back(pool: Dispatcher, name: str) -> None:
    values = [*PLAIN, "\ud800", bridge_worker.Functions, 2j]
    assert same(pool.chunk(name, values), values)
    for value in values[::5]:
        assert same(pool.call(name, value), (_abi.OK, value))


def test_arguments_of_every_shape_arrive(pool: Dispatcher) -> None:
    assert pool.call("p_echo", 1, "a", b="x", c=[2]) == (
        _abi.OK,
        ((1, "a"), {"b": "x", "c": [2]}),
    )
    many = tuple(range(20))
    assert pool.call("p_echo", *many) == (_abi.OK, many)
    assert pool.call("p_echo") == (_abi.OK, ())
    rows: list[Any] = [(i, str(i)) for i in range(100)]
    assert pool.chunk("p_echo", rows, star=True) == rows
    rows = [tuple(range(i % 9)) for i in range(2, 30)]
    assert pool.chunk("p_echo", rows, star=True) == [
        row[0] if len(row) == 1 else row for row in rows
    ]
    assert pool.chunk("p_echo", [(), ()], star=True) == [(), ()]
    future = pool.chunk("p_future", [1, 2, 3])
    assert future == [1, 2, 3]


def test_results_are_in_the_order_of_the_items_not_of_their_ends(pool: Dispatcher) -> None:
    naps = [0.03, 0.01, 0.0, 0.02, 0.0]
    assert pool.chunk("nap", naps) == naps


def check_failure(value: Any, kind: str, message: str) -> None:
    assert isinstance(value, RemoteFailure)
    assert value.type == kind
    assert value.message == message
    assert value.traceback.startswith("Traceback") and message in value.traceback
    assert value.pickled == b"p"
    assert (value.exit_status, value.signal, value.pid) == (-1, 0, 0)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("fail", "builtins.ValueError", "no 7"),
        ("fail_late", "builtins.KeyError", "7"),
        ("p_fail", "builtins.ValueError", "no 7"),
        ("exit", "builtins.SystemExit", "7"),
        ("p_stop", "builtins.StopIteration", "7"),
        ("interrupt", "builtins.KeyboardInterrupt", ""),
    ],
)
def test_whatever_is_raised_becomes_an_error(
    pool: Dispatcher, name: str, kind: str, message: str
) -> None:
    status, value = pool.call(name, 7)
    assert status == _abi.ERROR
    check_failure(value, kind, message)
    found = pool.chunk(name, [7, 7, 7])
    assert {index: status for index, (status, _) in found.items()} == dict.fromkeys(range(3), 2)
    assert pool.call("echo", 1) == (_abi.OK, 1)


def test_errors_and_results_of_one_chunk_are_told_apart(pool: Dispatcher) -> None:
    found = pool.chunk("odd", list(range(100)))
    for index in range(100):
        status, value = found[index]
        if index % 2:
            assert status == _abi.ERROR
            check_failure(value, "builtins.ValueError", str(index))
        else:
            assert (status, value) == (_abi.OK, index)


@pytest.mark.parametrize("name", ["cancelled", "cancel_self"])
def test_cancellation_is_an_outcome_of_its_own(pool: Dispatcher, name: str) -> None:
    assert pool.call(name, 7) == (_abi.CANCELLED, None)
    assert pool.chunk(name, [7, 8]) == {0: (_abi.CANCELLED, None), 1: (_abi.CANCELLED, None)}
    assert pool.chunk("echo", [1, 2, 3]) == [1, 2, 3]


def test_a_result_that_cannot_be_pickled_is_an_error_of_its_item(pool: Dispatcher) -> None:
    status, value = pool.call("lock", 1)
    assert status == _abi.ERROR
    assert value.type == "aiomq._bridge_types.EncodeError"
    assert value.message == "the result"
    assert "pickle" in value.traceback


def test_what_cannot_be_unpickled_costs_only_its_item(pool: Dispatcher) -> None:
    found = pool.chunk("echo", [1, bridge_worker.OnlyInDispatcher(), 3])
    assert found[0] == (_abi.OK, 1) and found[2] == (_abi.OK, 3)
    assert found[1][0] == _abi.ERROR and found[1][1].type == "builtins.LookupError"
    found = pool.chunk("only_in_worker", [0, 1, 2])
    assert found[0] == (_abi.OK, 0) and found[2] == (_abi.OK, 2)
    status, value = found[1]
    assert status == _abi.OK and isinstance(value, DecodeFailure)
    assert isinstance(value.error, LookupError)


def test_every_item_has_its_own_context_identity_and_name(pool: Dispatcher) -> None:
    assert pool.chunk("context", [1, 2, 3]) == [0, 0, 0]
    assert pool.chunk("p_context", [1, 2, 3]) == [0, 0, 0]
    assert pool.chunk("keep", [0] * 5) == [False] * 5
    assert pool.chunk("refer", [0] * 5) == [False] * 5
    assert pool.chunk("name", ["mine"] * 5) == [False] * 5
    assert pool.call("p_task_name") == (_abi.OK, True)
    assert pool.chunk("call_back", [0] * 3) == [5] * 3
    assert pool.call("late_echo", 1) == (_abi.OK, 1)  # meanwhile the loop ran the callbacks
    _, (called, done) = pool.call("p_kept")
    assert called == [("done", 5)] * 3
    assert done == [True] * 5


def test_permits_bound_what_runs_at_once(pool: Dispatcher) -> None:
    naps = [0.02] * 10
    assert pool.chunk("nap", naps) == naps
    _, (log, most) = pool.call("p_log")
    assert most == 4
    assert log[0] == (2, 4)
    assert [reason for reason, _ in log].count(1) == 1  # the last to start left others running
    assert sum(suspended for _, suspended in log) == 10


def test_a_slice_of_time_ends_the_loop(pool: Dispatcher) -> None:
    naps = [0.003] * 6
    assert pool.chunk("p_sleep", naps) == naps
    _, (log, _) = pool.call("p_log")
    assert log == [(3, 0)] * 6 + [(0, 0)] or log == [(3, 0)] * 5 + [(0, 0)]


def test_the_item_loop_is_not_entered_twice(pool: Dispatcher) -> None:
    assert pool.call("p_nested_run") == (_abi.OK, "the item loop is running already")
    assert pool.call("echo", 1) == (_abi.OK, 1)


def test_nothing_that_travelled_is_kept(pool: Dispatcher) -> None:
    for _ in range(3):
        probes = [bridge_worker.Probe(i) for i in range(50)]
        found = pool.chunk("probe", probes)
        assert [probe.tag for probe in found] == list(range(1, 51))
        assert pool.call("p_alive") == (_abi.OK, 0)
        del probes, found
        gc.collect()
        assert bridge_worker.Probe.alive == 0


def test_calls_of_the_dispatcher_report_what_the_library_says(side: Side) -> None:
    pool = Dispatcher(side, WORKERS[-1], capacity=2, arena_max_bytes=1 << 20)
    try:
        number = pool.number("nap")
        submit = lambda seconds: side.submit_call(pool.pool, number, 1, (seconds,), {})  # noqa: E731
        assert submit(0.05) > 0 and submit(0.05) > 0
        assert submit(0.05) == -errno.EAGAIN
        assert len(pool.entries(2)) == 2
        large = bytes(2 << 20)
        with pytest.raises(TooLarge) as caught:
            side.submit_call(pool.pool, number, 1, (large,), {})
        assert len(large) < caught.value.nbytes < len(large) + 1000
        with pytest.raises(TooLarge):
            side.submit_chunk(pool.pool, number, 1, [large], 0, 1, False)
        many = [0] * (_abi.ITEMS_MAX + 1)
        assert side.submit_chunk(pool.pool, number, 1, many, 0, len(many), False) == -errno.EINVAL
        assert side.submit_call(pool.pool, 12345, 1, (), {}) == -errno.EINVAL
        assert side.submit_call(pool.pool, number, 1, (), {}, flags=1 << 20) == -errno.EINVAL
        with pytest.raises(EncodeError, match="argument 1"):
            submit(lambda: 0)
        with pytest.raises(EncodeError, match="item 2"):
            side.submit_chunk(pool.pool, number, 1, [0, 0, submit], 1, 3, False)
        assert lib.aiomq_pool_close(pool.pool, 0) == 0
        assert submit(0) == -errno.ESHUTDOWN
        with pytest.raises(OSError) as unusable:
            side.collect(0, 1)
        assert unusable.value.errno == errno.EINVAL
    finally:
        pool.destroy()


def test_collect_takes_no_more_than_it_is_asked_for(side: Side) -> None:
    pool = Dispatcher(side, WORKERS[-1])
    try:
        number = pool.number("p_echo")
        for i in range(200):
            assert side.submit_call(pool.pool, number, i, (i,), {}) > 0
        deadline = time.monotonic() + 20
        found: list[Any] = []
        while len(found) < 200 and time.monotonic() < deadline:
            some = side.collect(pool.pool, 3)
            assert len(some) <= 3
            found += some
            if not some:
                pool.wait()
        assert sorted(entry[0] for entry in found) == list(range(200))
        assert all(entry[4] == [entry[0]] for entry in found)
        assert side.collect(pool.pool, 0) == []
    finally:
        pool.destroy()


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("name", ["p_big", "big_late"])
def test_results_wait_for_room(side: Side, worker: str, name: str) -> None:
    """The worker's memory holds a few of these results: the others follow as they are collected."""
    pool = Dispatcher(side, worker, permits=8, arena_max_bytes=1 << 20)
    try:
        number = pool.number(name)
        for i in range(40):
            assert side.submit_call(pool.pool, number, i, (i,), {}) > 0
        found = {}
        deadline = time.monotonic() + 30
        while len(found) < 40:
            assert time.monotonic() < deadline, sorted(found)
            lib.aiomq_pool_wait(pool.pool, 100_000_000)
            for user, _, _, _, values, others in side.collect(pool.pool, 2):
                assert others is None, others
                found[user] = values[0]
        assert all(found[i] == bytes([i]) * 200_000 for i in range(40))
        # A chunk whose results can't all be there at once can't be delivered in one piece either.
        assert pool.call("p_echo", 1) == (_abi.OK, 1)
    finally:
        pool.destroy()


@pytest.mark.parametrize("worker", WORKERS)
def test_a_result_that_never_fits_is_an_error(side: Side, worker: str) -> None:
    pool = Dispatcher(side, worker, arena_max_bytes=1 << 20)
    try:
        status, value = pool.call("p_huge")
        assert status == _abi.ERROR
        assert value.type == "aiomq._bridge_types.TooLarge"
        assert pool.call("echo", 1) == (_abi.OK, 1)
    finally:
        pool.destroy()


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded")
def test_calls_after_a_fork_are_refused(side: Side) -> None:
    pool = Dispatcher(side, WORKERS[-1])
    try:
        number = pool.number("echo")
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            outcome = side.submit_call(pool.pool, number, 1, (1,), {})
            os.write(writer, str(outcome).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        assert select.select([reader], [], [], 10)[0]
        assert int(os.read(reader, 100)) == -errno.ECHILD
        os.close(reader)
        os.close(writer)
        assert pool.call("echo", 1) == (_abi.OK, 1)
    finally:
        pool.destroy()
