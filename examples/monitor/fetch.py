"""Pages over HTTP, through one session for each process, which all its tasks share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

_CONNECTIONS: Final = 256
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_READ_BYTES: Final = 1 << 20  # above a page's size: its reading is not paused half-way


@dataclass(frozen=True)
class Failure:
    """Why there is no page."""

    reason: str
    silent: bool  # no answer at all, as against an answer that is an error


# Made in the loop that uses it: a session belongs to the loop it was made in.
_session: aiohttp.ClientSession | None = None


def _open_session() -> aiohttp.ClientSession:
    global _session
    if _session is None or _session.closed:
        _session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            timeout=_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},
            read_bufsize=_READ_BYTES,
        )
    return _session


async def fetch(url: str) -> bytes | Failure:
    """The page at `url`. Failures are returned; what is raised is a bug."""
    try:
        async with _open_session().get(URL(url, encoded=True)) as response:
            if response.status != 200:
                return Failure(f"HTTP {response.status}", silent=False)
            return await response.read()
    except asyncio.TimeoutError:
        return Failure("no answer in time", silent=True)
    except aiohttp.ClientConnectionError:
        return Failure("no answer", silent=True)
    except aiohttp.ClientError as error:
        return Failure(f"bad answer: {type(error).__name__}", silent=False)


async def close_session() -> None:
    """For a process that goes on after its last fetch."""
    if _session is not None:
        await _session.close()
