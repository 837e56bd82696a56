"""A Python worker for pools whose dispatcher is no Python program.

    python3 -m aiomq.worker [--concurrency N] [--path FOLDER]

is a worker's argv, such as a C program's `aiomq_pool_options.argv` or the argv of one group. It
runs functions named "module:qualified.name", which it imports when they are first called: from the
folder that the dispatcher works in, from FOLDER, and from where this Python has its packages. A
worker of Python's own `Pool` is started otherwise.
"""

from __future__ import annotations

import argparse
import os
import sys

from aiomq import _start, _worker
from aiomq._board import Board
from aiomq._depot import Depot
from aiomq._stuck import Stacks

_CONCURRENCY = 16  # as Pool's childconcurrency
_ARENA_BYTES = 256 << 20  # of which views may be lent a part; what the pool allows is not known


def main(arguments: list[str] | None = None) -> None:
    """Serve the pool that has started this process; leaves through sys.exit()."""
    parser = argparse.ArgumentParser(prog="python3 -m aiomq.worker", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--concurrency",
        type=int,
        default=_CONCURRENCY,
        metavar="N",
        help=f"items that run at once, if their group does not say it (default: {_CONCURRENCY})",
    )
    parser.add_argument("--path", metavar="FOLDER", help="where modules are looked for first")
    options = parser.parse_args(arguments)
    if options.concurrency < 1:
        parser.error(f"--concurrency must be 1 or more, not {options.concurrency}")
    if "AIOMQ_WORKER" not in os.environ:
        parser.error(
            "started by hand: this is the argv of a pool's workers, see the manual aiomq(7)"
        )
    if options.path is not None:
        sys.path.insert(0, options.path)

    def own(index: int) -> _start.Descriptors:
        """What a Python pool would have left: here nobody reads it."""
        setup = _start.Setup(
            main={},
            childconcurrency=options.concurrency,
            objects=_start.pickle_objects(None, (), None, None),
            queues=(),
            workers=index + 1,
            arena_bytes=_ARENA_BYTES,
        )
        depot = Depot()
        depot.put(_start.setup_bytes(setup))
        left = _start.Descriptors(depot.reader(), Board(index + 1).fd, Stacks(index + 1).fd)
        depot.close()
        return left

    _worker.main(own)


if __name__ == "__main__":
    main()
