"""What workers log and warn of comes to the dispatcher's logging and warnings."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import logs
import pytest
from running import run_script

from aiomq import Pool, WorkerDied


class Collected(logging.Handler):
    """The records that came, and a way to wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._changed = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self._changed.set()

    async def one(self, wanted: Callable[[logging.LogRecord], bool]) -> logging.LogRecord:
        """The first of these, when it is there."""
        while True:
            for record in self.records:
                if wanted(record):
                    return record
            self._changed.clear()
            await self._changed.wait()

    async def text(self, text: str) -> logging.LogRecord:
        return await self.one(lambda record: text in record.getMessage())


@pytest.fixture
def collected() -> Iterator[Collected]:
    """Everything from DEBUG on of `test.loud`, from ERROR on of `test.quiet`."""
    handler = Collected()
    logs.loud.setLevel(logging.DEBUG)
    logs.quiet.setLevel(logging.ERROR)
    logging.root.addHandler(handler)
    yield handler
    logging.root.removeHandler(handler)
    logs.loud.setLevel(logging.NOTSET)
    logs.quiet.setLevel(logging.NOTSET)


@pytest.mark.versions
async def test_records_come_with_level_logger_and_process(collected: Collected) -> None:
    async with Pool(1, label="reporter") as pool:
        pid = await pool.apply(logs.log_all, ("hello",))
        await collected.one(lambda record: record.name == "test.quiet")
        found = [
            (record.name, record.levelname, record.getMessage())
            for record in collected.records
            if record.name.startswith("test.")
        ]
        assert found == [
            ("test.loud", "DEBUG", "hello at 10"),
            ("test.loud", "INFO", "hello at 20"),
            ("test.loud", "WARNING", "hello at 30"),
            ("test.loud", "ERROR", "hello at 40"),
            ("test.quiet", "ERROR", "hello at 40"),
        ]
        record = collected.records[-1]
        assert (record.process, record.processName) == (pid, "reporter/0")
        assert record.funcName == "log_all"
        assert record.pathname == logs.__file__


async def test_extra_comes_as_it_is_or_as_text(collected: Collected) -> None:
    async with Pool(1) as pool:
        await pool.apply(logs.log_extra, ({"a": [1, 2]},))
        record: Any = await collected.text("with more")
        assert record.order == {"a": [1, 2]}
        assert record.lock.startswith("<unlocked _thread.lock")


async def test_an_exception_comes_with_its_traceback(collected: Collected) -> None:
    async with Pool(1) as pool:
        await pool.apply(logs.log_error)
        record = await collected.text("it failed")
        text = logging.Formatter().format(record)
        assert "in log_error" in text
        assert text.endswith("LookupError: inside")
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], LookupError)


async def test_what_a_worker_says_before_it_dies_comes(collected: Collected) -> None:
    async with Pool(1) as pool:
        with pytest.raises(WorkerDied):
            await pool.apply(logs.log_and_die)
        await collected.text("last words")


async def test_initializers_and_finalizers_are_heard(collected: Collected) -> None:
    async with Pool(1, initializer=logs.begin, finalizer=logs.end) as pool:
        await collected.text("begin")
        pool.close()
        await pool.join()
        assert any(record.getMessage() == "end" for record in collected.records)


async def test_a_record_that_is_too_large_is_cut(collected: Collected) -> None:
    async with Pool(1) as pool:
        await pool.apply(logs.log_long, (1 << 20,))
        record = await collected.text("xxx")
        assert set(record.getMessage()) == {"x"}
        assert 1000 < len(record.getMessage()) < 1 << 20
        await pool.apply(logs.log_long, (100_000,))
        await collected.one(lambda record: len(record.getMessage()) == 100_000)


async def test_what_comes_too_fast_is_dropped_and_counted(collected: Collected) -> None:
    count = 20_000
    async with Pool(1) as pool:
        task = pool.submit(logs.log_many, count)
        wait_without_a_loop(pool)
        assert await task is None
        dropped = await collected.one(lambda record: record.name == "aiomq")
    arrived = [record for record in collected.records if record.name == "test.loud"]
    told = sum(
        int(str(record.args[1]))
        for record in collected.records
        if record.name == "aiomq" and isinstance(record.args, tuple)
    )
    assert "log records of workers were dropped" in dropped.getMessage()
    assert told > 0
    assert len(arrived) + told == count
    numbers = [int(record.getMessage()[7:13]) for record in arrived]
    assert numbers == sorted(numbers)


def wait_without_a_loop(pool: Pool) -> None:
    """Block this thread, and so its loop, until the pool's descriptor tells of a result."""
    fd = pool._dispatcher.life.handle.fd
    assert select.select([fd], [], [], 60)[0]


async def test_warnings_come_once_for_each_place() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        async with Pool(2) as pool:
            await pool.map(logs.warn, ["careful"] * 20, chunksize=1)
            pool.close()
            await pool.join()
    assert [(str(one.message), one.category, one.filename) for one in caught] == [
        ("careful", UserWarning, logs.__file__)
    ]


async def test_a_warning_that_is_too_large_is_counted(collected: Collected) -> None:
    async with Pool(1) as pool:
        await pool.apply(logs.warn, ("x" * (1 << 20),))
        pool.close()
        await pool.join()
    assert [record.args[1] for record in collected.records if record.name == "aiomq"] == [1]  # type: ignore[index]


async def test_a_warning_that_is_an_error_here_is_shown() -> None:
    shown: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.showwarning = lambda *news: shown.append(news)  # type: ignore[assignment]
        async with Pool(1) as pool:
            await pool.apply(logs.warn, ("careful",))
            pool.close()
            await pool.join()
    assert [(str(message), category) for message, category, *_ in shown] == [
        ("careful", UserWarning)
    ]


async def test_without_forwarding_it_stays_in_the_worker(
    collected: Collected, capfd: pytest.CaptureFixture[str]
) -> None:
    async with Pool(1, forward_logs=False) as pool:
        await pool.apply(logs.log_all, ("here",))
        pool.close()
        await pool.join()
    assert not [record for record in collected.records if record.name.startswith("test.")]
    assert "here at 30" in capfd.readouterr().err


async def test_a_worker_may_have_its_own_handlers(collected: Collected, tmp_path: Path) -> None:
    path = tmp_path / "log"
    async with Pool(1, initializer=logs.configure, initargs=(str(path),)) as pool:
        await pool.apply(logs.log_all, ("own",))
    assert "WARNING:test.loud:own at 30" in path.read_text()
    assert not [record for record in collected.records if record.name.startswith("test.")]


async def test_a_wrong_format_is_reported_by_the_worker(
    collected: Collected, capfd: pytest.CaptureFixture[str]
) -> None:
    async with Pool(1) as pool:
        await pool.apply(logs.log_badly)
        assert await pool.apply(os.getpid) != os.getpid()
    assert "--- Logging error ---" in capfd.readouterr().err


async def test_nested_calls_are_heard(collected: Collected) -> None:
    async with Pool(1) as pool:
        await pool.apply(logs.log_nested)
        await collected.text("nested at 40")


def test_a_plain_program_sees_warnings_of_workers_on_stderr() -> None:
    done = run_script(
        """
        import asyncio, aiomq, logs
        async def main():
            async with aiomq.Pool(1) as pool:
                await pool.apply(logs.begin)
                pool.close()
                await pool.join()
        asyncio.run(main())
        """
    )
    assert done.stderr == "begin\n"
