"""Start: the command line and the inherited descriptors with which a pool starts its workers."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import spawn, util
from typing import Any, NamedTuple

from aiomq._board import Board
from aiomq._stuck import Stacks

# The order of the pool's extra_fds.
SETUP_FD, BOARD_FD, STACKS_FD = 0, 1, 2


class Setup(NamedTuple):
    """What a worker reads from the set-up descriptor, besides the user's own objects."""

    main: dict[str, Any]  # see _main.describe()
    childconcurrency: int
    objects: bytes  # pickled (initializer, initargs, loop_initializer, finalizer)
    queues: tuple[str, ...]
    workers: int


def command() -> list[bytes]:
    """Argv of a worker: this interpreter with the same flags, and our own module found first."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    program = f"import sys; sys.path.insert(0, {home!r}); from aiomq._worker import main; main()"
    flags: list[str] = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
    executable = os.fsdecode(spawn.get_executable() or "")
    if not os.access(executable, os.X_OK):
        raise FileNotFoundError(errno.ENOENT, "no Python interpreter for the workers", executable)
    return [os.fsencode(word) for word in (executable, *flags, "-c", program)]


def pickle_objects(
    initializer: Callable[..., Any] | None,
    initargs: tuple[Any, ...],
    loop_initializer: Callable[[], Any] | None,
    finalizer: Callable[[], Any] | None,
) -> bytes:
    """The user's objects for the worker. Raises PicklingError naming what can't be pickled."""
    try:
        return pickle.dumps((initializer, initargs, loop_initializer, finalizer), 5)
    except Exception as error:
        parts: Iterable[tuple[str, Any]] = (
            ("initializer", initializer),
            *((f"initargs[{index}]", value) for index, value in enumerate(initargs)),
            ("loop_initializer", loop_initializer),
            ("finalizer", finalizer),
        )
        for name, value in parts:
            try:
                pickle.dumps(value, 5)
            except Exception as cause:
                raise pickle.PicklingError(f"{name} can't be pickled: {cause}") from cause
        raise pickle.PicklingError(f"initargs can't be pickled: {error}") from error


@contextlib.contextmanager
def descriptors(setup: Setup, board: Board, stacks: Stacks) -> Iterator[list[int]]:
    """The extra_fds for aiomq_pool_create(), which duplicates them. Closed on leaving."""
    fd = os.memfd_create("aiomq-setup", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(pickle.dumps(tuple(setup), 5))
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        yield [fd, board.fd, stacks.fd]
    finally:
        os.close(fd)


def read_setup(fd: int) -> Setup:
    """The worker's side. Reads without moving the offset, which all workers share."""
    size = os.fstat(fd).st_size
    content = b""
    while len(content) < size:
        part = os.pread(fd, size - len(content), len(content))
        if not part:
            raise EOFError("the pool's set-up data is cut short")
        content += part
    return Setup(*pickle.loads(content))


def default_label() -> str:
    """The program's name, for a pool that was given no label."""
    path = sys.argv[0] if sys.argv else ""
    if os.path.basename(path) == "__main__.py":
        path = os.path.dirname(os.path.abspath(path))
    name = os.path.basename(path).removesuffix(".py")
    return name if name and not name.startswith("-") else "python"
