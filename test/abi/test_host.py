"""Configuring for a host on which libaiomq can't run ends with the reason."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60
# What has this machine's compiler make 32-bit code: of x86-64, of 64-bit Arm.
NARROW_OPTIONS = ("-m32", "-mx32", "-mabi=ilp32")

# Without a wrapper that runs its programs Meson only compiles for a foreign machine, so that this
# needs no 32-bit C library.
CROSS_FILE = """\
[binaries]
c = {c}
cpp = {cpp}

[built-in options]
c_args = '{option}'
cpp_args = '{option}'

[host_machine]
system = '{system}'
cpu_family = '{family}'
cpu = '{family}'
endian = 'little'
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def meson() -> str:
    """The first on PATH that works: a version manager's shim may not."""
    for folder in os.get_exec_path():
        candidate = os.path.join(folder, "meson")
        if os.access(candidate, os.X_OK) and run(candidate, "--version").returncode == 0:
            return candidate
    pytest.fail("no working meson on PATH")


def compilers() -> tuple[list[str], list[str]]:
    return shlex.split(os.environ.get("CC", "cc")), shlex.split(os.environ.get("CXX", "c++"))


def narrow_option() -> str | None:
    for option in NARROW_OPTIONS:
        defines = run(*compilers()[1], option, "-E", "-dM", "-x", "c++", os.devnull)
        if defines.returncode == 0 and "#define __SIZEOF_POINTER__ 4\n" in defines.stdout:
            return option
    return None


def configuring(folder: Path, option: str, system: str = "linux", family: str = "x86") -> str:
    """What configuring in @folder says; it must fail."""
    c, cpp = compilers()
    cross = folder / "cross.ini"
    cross.write_text(
        CROSS_FILE.format(c=c, cpp=cpp, option=option, system=system, family=family),
        encoding="utf-8",
    )
    done = run(meson(), "setup", "--cross-file", str(cross), str(folder / "build"), str(TREE))
    assert done.returncode == 1, done.stdout
    return done.stdout


def test_a_32_bit_host_is_refused_with_the_reason(tmp_path: Path) -> None:
    option = narrow_option()
    if option is None:
        pytest.skip("this machine's compiler makes no 32-bit code, so nobody can ask for it either")
    said = configuring(tmp_path, option)
    assert "ERROR: Problem encountered: libaiomq needs a 64-bit host" in said
    assert "pointers have 4 bytes here" in said
    assert "address space" in said
    assert "compare-and-swap of 64 bits" in said


def test_another_system_than_linux_is_refused_with_the_reason(tmp_path: Path) -> None:
    said = configuring(tmp_path, "-DNOTHING", system="freebsd", family="x86_64")
    assert "libaiomq runs on Linux only, not on freebsd:" in said
    assert "memfd seals, pidfds and eventfds" in said
