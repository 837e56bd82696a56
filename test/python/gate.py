"""Gate: lets a test see that tasks have started, and decide when they go on. No test sleeps.

In the test:      async with Gate() as gate: ...; task = pool.submit(through, gate.path, "a")
                  await gate.arrived("a"); gate.open("a")
In a worker:      `through`, or `through_blocking` for a plain function
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from types import TracebackType


class Gate:
    """A Unix socket at which tasks report and wait."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="aiomq-gate-")
        self.path = os.path.join(self._folder, "gate")
        self.pids: dict[str, int] = {}
        self.news: list[str] = []  # everything reported, in order
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Gate:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for writer in self._writers.values():
            writer.close()
        shutil.rmtree(self._folder)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name, pid = (await reader.readline()).decode().split()
        self.pids[name] = int(pid)
        self._writers[name] = writer
        await self._note(name)
        while line := (await reader.readline()).decode().strip():
            await self._note(line)
        writer.close()

    async def _note(self, text: str) -> None:
        async with self._changed:
            self.news.append(text)
            self._changed.notify_all()

    async def arrived(self, *names: str) -> None:
        """Wait until all of these were reported."""
        async with self._changed:
            await self._changed.wait_for(lambda: all(name in self.news for name in names))

    async def count(self, number: int) -> None:
        """Wait until so many reports have come in."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.news) >= number)

    def open(self, *names: str) -> None:
        """Let those that wait under these names go on."""
        for name in names:
            self._writers[name].write(b"go\n")


async def through(path: str, name: str) -> str:
    """Report, wait to be let through, return the name. Reports "<name>-cancelled" if it is."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(f"{name} {os.getpid()}\n".encode())
        try:
            if not await reader.readline():
                raise ConnectionError("the gate was taken down")
        except asyncio.CancelledError:
            writer.write(f"{name}-cancelled\n".encode())
            await writer.drain()
            raise
        return name
    finally:
        writer.close()


def through_blocking(path: str, name: str) -> str:
    """The same as a plain function, which keeps its worker busy."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        peer.sendall(f"{name} {os.getpid()}\n".encode())
        if not peer.recv(16):
            raise ConnectionError("the gate was taken down")
    return name
