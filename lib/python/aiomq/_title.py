"""Title: what `ps` shows for this process."""

from __future__ import annotations

import ctypes

_PR_SET_NAME = 15
_ARG_START, _ARG_END = 45, 46  # fields of /proc/self/stat after the command's closing parenthesis


def set_title(title: str) -> None:
    """Show `title` in ps and top. Cut to the room that the command line has; never raises."""
    try:
        _set_name(title)
        _overwrite_arguments(title)
    except (OSError, ValueError, IndexError):
        pass  # no /proc, or one that hides addresses: the title is a courtesy


def _set_name(title: str) -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NAME, ctypes.c_char_p(title.encode()[:15]), 0, 0, 0)


def _overwrite_arguments(title: str) -> None:
    """Write over argv, which the kernel shows as /proc/self/cmdline; the rest becomes zeros."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    with open("/proc/self/cmdline", "rb") as file:
        room = len(file.read())
    if not 0 < start < end or end - start != room:
        return
    text = title.encode()[: room - 1]
    ctypes.memmove(start, text + b"\0" * (room - len(text)), room)
