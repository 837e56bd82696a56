"""Group: workers of one kind within a pool."""

from __future__ import annotations

import os
from collections.abc import Sequence

from aiomq import _abi, _checks
from aiomq._native import path_of


class Group:
    """Some of a pool's workers: how many, of which program, and which queues they serve.

        Pool(
            queues=["urgent", "bulk"],
            groups=[Group(2, queues=["urgent"]), Group(6, queues=["bulk", "urgent"])],
        )

    processes: how many workers.
    queues: names of the pool's queues that they serve, strictly first to last: a later one waits
        while an earlier one has work. Default: all, in the pool's order.
    childconcurrency: how many coroutines, or items of a native program, one worker runs at once at
        most. Default: the pool's; for a native program that program's own choice.
    program: argv of a native worker, a program that serves tasks through aiomq_worker_run() or the
        functions under it; searched in PATH when it has no slash. It is given functions by the name
        "module:qualified.name". Default: Python workers as the pool's other ones.
    plugins: shared libraries with tasks in C or C++, which `aiomq-worker` runs; see native(). Such
        a group has a queue of its own, unless `queues` says otherwise or all groups have plugins.
    name: what `aiomq-stat` shows. Default: the program's name.
    maxtasksperchild, max_memory_per_child: as for Pool, whose values are the default.

    Raises TypeError or ValueError naming the argument.
    """

    __slots__ = (
        "childconcurrency",
        "max_memory_per_child",
        "maxtasksperchild",
        "name",
        "plugins",
        "processes",
        "program",
        "queues",
    )

    def __init__(
        self,
        processes: int,
        *,
        queues: Sequence[str] | None = None,
        childconcurrency: int | None = None,
        program: Sequence[str | bytes | os.PathLike[str]] | None = None,
        plugins: Sequence[str | os.PathLike[str]] | None = None,
        name: str | None = None,
        maxtasksperchild: int | None = None,
        max_memory_per_child: int | None = None,
    ) -> None:
        self.processes = _checks.size("processes", processes, 1, _abi.WORKERS_MAX)
        self.queues = None if queues is None else _checks.texts("queues", queues)
        if self.queues == []:
            raise ValueError("queues must not be empty: the workers would never have work")
        self.childconcurrency = (
            None
            if childconcurrency is None
            else _checks.size("childconcurrency", childconcurrency, 1, 2**31 - 1)
        )
        self.plugins = None if plugins is None else _plugins(plugins)
        if self.plugins is not None and program is not None:
            raise ValueError("a group has a program or plugins, not both")
        self.program = None if program is None else _argv(program)
        self.name = None if name is None else _checks.text("name", name)
        self.maxtasksperchild = _limit("maxtasksperchild", maxtasksperchild)
        self.max_memory_per_child = _limit("max_memory_per_child", max_memory_per_child)

    def __repr__(self) -> str:
        given = (
            f"{slot}={value!r}"
            for slot in self.__slots__
            if (value := getattr(self, slot)) is not None
        )
        return f"aiomq.Group({', '.join(given)})"


def _argv(program: Sequence[str | bytes | os.PathLike[str]]) -> list[bytes]:
    if isinstance(program, (str, bytes)) or not isinstance(program, Sequence):
        raise TypeError(f"program must be a sequence of words, not {type(program).__name__}")
    if not program:
        raise ValueError("program must not be empty")
    try:
        words = [os.fsencode(word) for word in program]
    except TypeError as error:
        raise TypeError(f"program: {error}") from None
    if any(b"\0" in word for word in words):
        raise ValueError("program must not contain null characters")
    return words


def _plugins(given: Sequence[str | os.PathLike[str]]) -> list[str]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise TypeError(f"plugins must be a sequence of paths, not {type(given).__name__}")
    if not given:
        raise ValueError("plugins must not be empty")
    return [path_of(plugin) for plugin in given]


def _limit(name: str, value: int | None) -> int | None:
    return None if value is None else _checks.size(name, value, 1, 2**62)
