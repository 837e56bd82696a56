"""The examples in C and C++, run as a user would, against what coreutils say."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("AIOMQ_BUILD_DIR", TREE / "build"))
LINE_COUNT = BUILD / "examples" / "c" / "line_count"
WORD_COUNT = BUILD / "examples" / "cpp" / "word_count"
PATIENCE_SECONDS = 60


def texts() -> list[str]:
    """The licences and manuals that this machine has."""
    found = [
        *Path("/usr/share/common-licenses").glob("*"),
        *Path("/usr/share/doc").glob("*/copyright"),
    ]
    found += (TREE / "man").glob("*.*")
    return sorted(str(path) for path in found if path.is_file())


def coreutils_words(paths: list[str]) -> bytes:
    """Lines "COUNT WORD" as word_count prints them."""
    command = "xargs -0 cat | tr -s '[:space:]' '\\n' | grep -v '^$' | sort | uniq -c"
    done = subprocess.run(
        ["sh", "-c", command],
        input="\0".join(paths).encode(),
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        check=True,
    )
    return b"".join(line.lstrip(b" ") + b"\n" for line in done.stdout.splitlines())


def worker_at_work(program: subprocess.Popen[bytes]) -> int:
    """The pid of a worker that has read some of the files."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert time.monotonic() < deadline
        assert program.poll() is None, "it ended before a worker could be killed"
        for task in Path(f"/proc/{program.pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                counters = Path(f"/proc/{child}/io").read_text().split()
                if int(counters[1]) > 1_000_000:  # rchar
                    return int(child)


@pytest.mark.parametrize("lines", [0, 1, 300_000])
def test_lines_are_counted_as_by_wc(lines: int, tmp_path: Path) -> None:
    chance = random.Random(lines)
    text = b"".join(b"x" * chance.randrange(40) + b"\n" for _ in range(lines)) + b"no end"
    file = tmp_path / "text"
    file.write_bytes(text)
    with file.open("rb") as source:
        done = subprocess.run(
            [LINE_COUNT], stdin=source, capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")
    expected = subprocess.run(["wc", "-l", file], capture_output=True, check=True).stdout.split()[0]
    assert done.stdout.strip() == expected


def test_a_pipe_that_is_slow_is_read_to_its_end() -> None:
    with subprocess.Popen([LINE_COUNT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        for _ in range(5):
            program.stdin.write(b"one\ntwo\n")
            program.stdin.flush()
        output, _ = program.communicate(timeout=PATIENCE_SECONDS)
    assert (program.returncode, output) == (0, b"10\n")


def test_words_are_counted_as_by_coreutils() -> None:
    paths = texts()
    assert len(paths) > 20
    done = subprocess.run(
        [WORD_COUNT, *paths], capture_output=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == coreutils_words(paths)


def test_words_are_counted_as_by_coreutils_though_a_worker_is_killed() -> None:
    paths = texts() * 6
    with subprocess.Popen([WORD_COUNT, *paths], stdout=subprocess.PIPE) as program:
        os.kill(worker_at_work(program), signal.SIGKILL)
        output, _ = program.communicate(timeout=PATIENCE_SECONDS)
    assert program.returncode == 0
    expected: Counter[bytes] = Counter()
    for line in coreutils_words(texts()).splitlines():
        count, _, word = line.partition(b" ")
        expected[word] = 6 * int(count)
    found = dict(reversed(line.split(b" ", 1)) for line in output.splitlines())
    assert {word: int(count) for word, count in found.items()} == expected


def test_a_file_that_is_not_there_is_named() -> None:
    done = subprocess.run(
        [WORD_COUNT, "/no/such/file"], capture_output=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 1
    assert b"can't read /no/such/file" in done.stderr
