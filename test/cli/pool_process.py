"""What the tests of aiomq-stat stand on: the tool, and dispatchers that do what they are told.

Set by `./dev exec`; without it the source tree's own `include` and `build` are used:
AIOMQ_INCLUDE_DIR (the folder that has aiomq/aiomq.h), AIOMQ_LIBRARY_DIR (has libaiomq.so), CC.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60
NOBODY = 65534
LIBRARY = "libaiomq.so.0"


def library_dir() -> Path:
    return Path(os.environ.get("AIOMQ_LIBRARY_DIR", TREE / "build" / "lib" / "core"))


def include_dir() -> Path:
    return Path(os.environ.get("AIOMQ_INCLUDE_DIR", TREE / "include"))


def as_nobody(command: list[str]) -> list[str]:
    """The command run by a user without rights; only root can ask for this."""
    user = str(NOBODY)
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--", *command]


def find_stat() -> str:
    """Where aiomq-stat is."""
    program = shutil.which("aiomq-stat") or str(TREE / "build" / "tools" / "aiomq-stat")
    assert os.access(program, os.X_OK), f"{program} is missing: run this by ./dev test"
    return program


def compile_pool_fixture(program: Path) -> None:
    """As an application's author would; it looks for the library in its own folder."""
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    source = str(Path(__file__).with_name("pool_fixture.c"))
    link = [f"-L{library_dir()}", "-Wl,-rpath,$ORIGIN", "-laiomq"]
    subprocess.run(
        [*compiler, *flags, f"-I{include_dir()}", source, "-o", str(program), *link], check=True
    )


class Stat:
    """Runs aiomq-stat; for a user without rights, a copy of it in `public_folder`."""

    def __init__(self, program: str, public_folder: Path) -> None:
        self.program = program
        self.public_folder = public_folder

    def command(self, *arguments: str) -> list[str]:
        return [self.program, *arguments]

    def run(self, *arguments: str, nobody: bool = False) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments)
        if nobody:
            copy = str(self.public_folder / Path(self.program).name)
            found_by = f"LD_LIBRARY_PATH={self.public_folder}"
            command = as_nobody(["env", found_by, copy, *arguments])
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def read(self, *arguments: str) -> Any:
        """What it writes with --json, decoded; it must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def show(self, pool: int | str) -> dict[str, Any]:
        shown: dict[str, Any] = self.read("show", str(pool))
        return shown


class PoolProcess:
    """A dispatcher that does what it is told; see pool_fixture.c."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.expect("ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")

    def expect(self, answer: str) -> None:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE_SECONDS)
        assert readable, f"no answer {answer!r}"
        assert self.process.stdout.readline().decode().strip() == answer

    def do(self, command: str, answer: str) -> None:
        self.tell(command)
        self.expect(answer)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


StartPool = Callable[..., PoolProcess]
