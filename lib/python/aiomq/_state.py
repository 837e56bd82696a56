"""State: what the tasks of one worker have in common."""

from __future__ import annotations

from types import SimpleNamespace

_state: SimpleNamespace | None = None  # in workers only


def worker_state() -> SimpleNamespace:
    """The worker's own object, for what its tasks share: a connection, a session, a model.

        async def start():
            aiomq.worker_state().session = aiohttp.ClientSession()

        async def fetch(url):
            async with aiomq.worker_state().session.get(url) as response:
                return await response.text()

        async def stop():
            await aiomq.worker_state().session.close()

        pool = aiomq.Pool(initializer=start, finalizer=stop)

    Empty at first; the same for the initializer, all tasks and the finalizer of one process. A
    worker that is replaced begins with an empty one. Raises RuntimeError outside of a worker.
    """
    if _state is None:
        raise RuntimeError(
            "worker_state() was called outside of a worker; call it in a task, an initializer or a"
            " finalizer"
        )
    return _state


def begin() -> None:
    """Make this process a worker."""
    global _state
    _state = SimpleNamespace()
