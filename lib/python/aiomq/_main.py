"""Main: how a worker comes to have the user's `__main__`, as multiprocessing's spawn does it.

The dispatcher describes its own state (`describe`); a worker puts itself into that state
(`prepare`). Scripts and modules run with -m are run again in the worker under the name
`__mp_main__`.

multiprocessing leaves out the `__main__.py` of packages, folders and zip archives, because such
files often run their program unconditionally. Here they are run too, but only when a function or
class of theirs is first needed.

While a worker imports the user's code no pool can be made in it (`check_not_importing`): otherwise
a script without the `__name__` guard would start processes without end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import sys
from collections.abc import Iterator
from multiprocessing import process, spawn
from types import ModuleType
from typing import Any

UNGUARDED = """\
a worker process, while it imported the main module, tried to start a pool of its own.

Workers import the main module to find the functions in it, so the part of it that makes the pool
must not run on import. Guard it:

    if __name__ == "__main__":
        asyncio.run(main())
"""


def check_not_importing() -> None:
    """Raise RuntimeError when this process is a worker that is importing the user's code."""
    if getattr(process.current_process(), "_inheriting", False):
        raise RuntimeError(UNGUARDED)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Make check_not_importing() fail inside the with block."""
    current: Any = process.current_process()
    current._inheriting = True
    try:
        yield
    finally:
        current._inheriting = False


def describe() -> dict[str, Any]:
    """What a worker needs to take this process's place: paths, arguments, main module."""
    check_not_importing()
    main = sys.modules["__main__"]
    sys.modules["__mp_main__"] = main  # where classes that come back from workers were made
    method: Any = multiprocessing.get_start_method(allow_none=True)
    try:
        data = spawn.get_preparation_data("aiomq")
    finally:
        if method is None:  # asking for it has fixed it, and that is for the user to do
            multiprocessing.set_start_method(None, force=True)
    if method is None:
        data.pop("start_method", None)
    data["authkey"] = bytes(data["authkey"])
    name = data.get("init_main_from_name")
    if not os.path.exists(data.get("init_main_from_path", "/")):
        data.pop("init_main_from_path")  # such as "<stdin>"
    if name == "__main__":  # a folder or a zip archive
        data.pop("init_main_from_name")
        path = getattr(main, "__file__", None)
        if path is not None:
            data["lazy_main_path"] = os.path.dirname(os.path.abspath(path))
    elif name is not None and name.endswith(".__main__"):
        data.pop("init_main_from_name")
        data["lazy_main_name"] = name
    return data


def prepare(data: dict[str, Any]) -> None:
    """Take over what describe() found. Raises what the user's main module raises when it is run."""
    lazy_name, lazy_path = data.pop("lazy_main_name", None), data.pop("lazy_main_path", None)
    with importing():
        spawn.prepare(data)
    if lazy_name is not None or lazy_path is not None:
        main = _LazyMain(lazy_name, lazy_path)
        sys.modules["__main__"] = sys.modules["__mp_main__"] = main


class _LazyMain(ModuleType):
    """Stands for a `__main__.py` and runs it when something in it is first asked for."""

    def __init__(self, name: str | None, path: str | None) -> None:
        super().__init__("__mp_main__")
        self.__dict__["_aiomq_source"] = (name, path)

    def __getattr__(self, attribute: str) -> Any:
        source = self.__dict__.pop("_aiomq_source", None)
        if source is None or attribute.startswith("__"):
            if source is not None:
                self.__dict__["_aiomq_source"] = source
            raise AttributeError(f"the main module has no attribute {attribute!r}")
        name, path = source
        try:
            with importing():
                if name is not None:
                    content = runpy.run_module(name, run_name="__mp_main__", alter_sys=True)
                else:
                    content = runpy.run_path(path, run_name="__mp_main__")
        except BaseException as error:
            self.__dict__["_aiomq_source"] = source  # so that the next task fails in the same way
            raise RuntimeError(f"{UNGUARDED}\n(It ended with {error!r}.)") from error
        finally:
            sys.modules["__main__"] = sys.modules["__mp_main__"] = self
        self.__dict__.update(content)
        return getattr(self, attribute)
