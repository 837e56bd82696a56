"""Start: the command line and the inherited descriptors with which a pool starts its workers."""

from __future__ import annotations

import errno
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from multiprocessing import spawn, util
from typing import Any, NamedTuple

from aiomq import _abi, _depot


class Descriptors(NamedTuple):
    """What a pool leaves to its workers, in the order of its extra_fds."""

    depot: int
    board: int
    stacks: int
    log: int = -1


def inherited(_worker: int) -> Descriptors:
    """In a worker of a Python pool."""
    return Descriptors(*(_abi.EXTRA_FD_BASE + place for place in range(len(Descriptors._fields))))


class Setup(NamedTuple):
    """What a worker reads first from the depot."""

    main: dict[str, Any]  # see _main.describe()
    childconcurrency: int
    objects: bytes  # pickled (initializer, initargs, loop_initializer, finalizer)
    queues: tuple[str, ...]
    workers: int
    arena_bytes: int  # what all arguments, and the results of each worker, may take
    levels: dict[str, int] | None = None  # see _logs.levels(); None: logs stay in the worker
    natives: dict[str, int] | None = None  # the queue of each plugin


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


def setup_bytes(setup: Setup) -> bytes:
    """What stands first in the depot: a size of 8 bytes, and so many bytes of pickle."""
    pickled = pickle.dumps(tuple(setup), 5)
    return len(pickled).to_bytes(8, "little") + pickled


def read_setup() -> Setup:
    """The worker's side."""
    size = int.from_bytes(_depot.read(0, 8), "little")
    return Setup(*pickle.loads(_depot.read(8, size)))


def default_label() -> str:
    """The program's name, for a pool that was given no label."""
    path = sys.argv[0] if sys.argv else ""
    if os.path.basename(path) == "__main__.py":
        path = os.path.dirname(os.path.abspath(path))
    name = os.path.basename(path).removesuffix(".py")
    return name if name and not name.startswith("-") else "python"
