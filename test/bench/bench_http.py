"""20,000 fetches from nginx on loopback: the pool, bare processes, and aiomultiprocess.

The bare processes run one event loop each and share nothing: they are the limit. Everybody has as
many connections in all. What is timed begins when all workers are up and ends with the last result.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import aiomultiprocess
from measure import PROCESSES, REPEATS, report

import aiomq

FETCHES = 20_000
CONCURRENCY = 32  # connections of a worker
BODY = b"x" * 1024

CONFIGURATION = """
daemon off;
pid {folder}/pid;
worker_processes 1;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/www;
    }}
}}
"""


@contextlib.contextmanager
def nginx() -> Iterator[str]:
    """A server of one file; its URL."""
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        raise SystemExit("nginx is missing: apt-get install nginx-light")
    with tempfile.TemporaryDirectory(prefix="aiomq-bench-") as folder:
        os.chmod(folder, 0o755)
        Path(folder, "www").mkdir()
        Path(folder, "www", "page").write_bytes(BODY)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        configuration = Path(folder, "nginx.conf")
        configuration.write_text(CONFIGURATION.format(folder=folder, port=port))
        server = subprocess.Popen([program, "-c", str(configuration), "-e", f"{folder}/error.log"])
        try:
            while server.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
            else:
                raise SystemExit(Path(folder, "error.log").read_text())
            yield f"http://127.0.0.1:{port}/page"
        finally:
            server.terminate()
            server.wait()


async def get(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as response:
        return len(await response.read())


def new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY))


_session: aiohttp.ClientSession | None = None


async def fetch(url: str) -> int:
    """With one session for each worker."""
    global _session
    if _session is None:
        _session = new_session()
    return await get(_session, url)


async def fetch_share(url: str, count: int) -> int:
    """A bare process's share, by as many tasks as it has connections."""
    left = iter(range(count))
    total = 0

    async def some(session: aiohttp.ClientSession) -> None:
        nonlocal total
        for _ in left:
            size = await get(session, url)  # others add to the total meanwhile
            total += size

    async with new_session() as session:
        await asyncio.gather(*(some(session) for _ in range(CONCURRENCY)))
    return total


def bare(url: str, pipe: Connection) -> None:
    """Says that it is up; then fetches as many as it is told to, each time."""
    pipe.send(None)
    while (count := pipe.recv()) is not None:
        pipe.send(asyncio.run(fetch_share(url, count)))


class Bare:
    """Processes with an event loop each."""

    def __init__(self, url: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipes = []
        for _ in range(PROCESSES):
            mine, its = spawn.Pipe()
            spawn.Process(target=bare, args=(url, its), daemon=True).start()
            self._pipes.append(mine)
        for pipe in self._pipes:
            pipe.recv()

    def fetch(self, count: int) -> int:
        for pipe in self._pipes:
            pipe.send(count // PROCESSES)
        return sum(pipe.recv() for pipe in self._pipes)

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)


async def main() -> None:
    with nginx() as url:
        urls = [url] * FETCHES
        processes = Bare(url)
        async with (
            aiomq.Pool(PROCESSES, childconcurrency=CONCURRENCY) as ours,
            aiomultiprocess.Pool(PROCESSES, childconcurrency=CONCURRENCY) as theirs,
        ):
            for repeat in range(-1, REPEATS):
                times = [time.perf_counter()]
                totals = [sum(await ours.map(fetch, urls))]
                times.append(time.perf_counter())
                totals.append(processes.fetch(FETCHES))
                times.append(time.perf_counter())
                totals.append(sum(await theirs.map(fetch, urls)))
                times.append(time.perf_counter())
                assert totals == [FETCHES * len(BODY)] * 3
                if repeat < 0:
                    continue  # warm-up
                sides = ("aiomq", "bare processes", "aiomultiprocess")
                for side, start, end in zip(sides, times, times[1:], strict=False):
                    report("HTTP fetches", side, repeat, FETCHES / (end - start), "fetches/s")
        processes.close()


if __name__ == "__main__":
    asyncio.run(main())
