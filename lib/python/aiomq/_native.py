"""Native: a handle for a task that is written in C or C++ and lies in a shared library."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from aiomq import _checks
from aiomq._options import NONE, Options

PROGRAM = "aiomq-worker"


class Native:
    """A task of a plugin, for the calls of a Pool that has a Group with that plugin.

    Made by native(). Two handles for the same library and name are equal.
    """

    __slots__ = ("library", "name")

    def __init__(self, library: str, name: str) -> None:
        self.library = library
        self.name = name

    def __repr__(self) -> str:
        return f"aiomq.native({self.library!r}, {self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Native) and (self.library, self.name) == (
            other.library,
            other.name,
        )

    def __hash__(self) -> int:
        return hash((self.library, self.name))

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """A native task runs in its workers only: raises TypeError."""
        raise TypeError(f"{self!r} runs in a pool's workers: give it to apply(), map() and so on")


def native(library: str | os.PathLike[str], name: str) -> Native:
    """A handle for task `name` of a plugin, to be called like a function of Python.

        pool = aiomq.Pool(groups=[aiomq.Group(2, plugins=["./libtasks.so"])])
        total = await pool.apply(aiomq.native("./libtasks.so", "add"), (1, 2))

    library: as it is given to Group(plugins=...).

    Arguments and results are plain values: None, bool, int of 64 bits, float, str, bytes, and
    lists, tuples, dicts and sets of such. What the task throws is raised as RemoteError, whose
    message begins with the task's name.

    Raises TypeError naming the argument.
    """
    return Native(path_of(library), _checks.text("name", name))


def path_of(library: Any) -> str:
    """The name of a plugin as it was given. Raises TypeError."""
    try:
        return os.fsdecode(library)
    except TypeError:
        raise TypeError(
            f"a plugin is named by a str or path, not {type(library).__name__}"
        ) from None


def command(plugins: list[str]) -> list[bytes]:
    """Argv of a worker that runs these plugins. Raises FileNotFoundError."""
    beside = os.path.join(os.path.dirname(sys.executable), PROGRAM)
    program = shutil.which(PROGRAM) or (beside if os.access(beside, os.X_OK) else None)
    if program is None:
        raise FileNotFoundError(
            f"{PROGRAM}, which runs plugins, is neither in PATH nor beside {sys.executable}"
        )
    words = [program]
    for plugin in plugins:
        # A path is the dispatcher's; a bare name is for the loader to find.
        words += ["--plugin", os.path.abspath(plugin) if os.sep in plugin else plugin]
    return [os.fsencode(word) for word in words]


def routed(function: Native, chosen: Options | None, queues: Mapping[str, int]) -> Options:
    """The options of a call, with the queue of the group that has the plugin.

    Raises ValueError if none has it, or the call names another queue.
    """
    queue = queues.get(function.library)
    if queue is None:
        raise ValueError(
            f"{function!r}: no group of this pool has that plugin: make the pool with"
            f" groups=[aiomq.Group(2, plugins=[{function.library!r}]), …]"
        )
    given = NONE if chosen is None else chosen
    if given.shared:
        raise ValueError(f"{function!r} has no context: leave isolate out")
    return given._replace(queue=given.queue or queue)
