"""Tells a dispatcher in another language how to start this package's workers.

Writes to stdout, each ended by a null byte: the signal for workers that are stuck, the words of the
worker's command, an empty word; then the bytes for the first descriptor. The second one's size is
aiomq._board's, the third one's 64 KiB for each worker of the pool, as in aiomq._stuck.
"""

from __future__ import annotations

import contextlib
import sys

from aiomq import _main, _start, _stuck


def main() -> None:
    """python_group.py WORKERS CHILDCONCURRENCY QUEUE…"""
    workers, permits, *queues = sys.argv[1:]
    objects = _start.pickle_objects(None, (), None, None)
    setup = _start.Setup(
        _main.describe(), int(permits), objects, tuple(queues), int(workers), int(workers) << 22
    )
    words = [str(int(_stuck.SIGNAL)).encode(), *_start.command(), b""]
    answer = b"".join(word + b"\0" for word in words) + _start.setup_bytes(setup)
    with contextlib.suppress(BrokenPipeError):  # whoever asked was killed
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
