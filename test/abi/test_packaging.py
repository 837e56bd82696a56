"""libaiomq as other build systems find it: installed into a prefix, or as a subproject.

The program is the C example of the README. Nothing of Cap'n Proto, Boost or libevent is in what it
is compiled with.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_readme import blocks

TREE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ["AIOMQ_BUILD_DIR"])
CONSUMERS = TREE / "test" / "consumers"
EXPECTED = "OK: 42\n"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that everything is installed below."""
    folder = tmp_path_factory.mktemp("installed")
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", folder, cwd=folder)
    return folder


@pytest.fixture
def consumer(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the consumer of that name, with the program in it."""
    folder = tmp_path / request.param
    shutil.copytree(CONSUMERS / request.param, folder)
    (example,) = (block for block in blocks("c") if "main(" in block)
    (folder / "consumer.c").write_text(example, encoding="utf-8")
    return folder


def library_folder(installed: Path) -> Path:
    (found,) = installed.rglob("libaiomq.so.0")
    return found.parent


def prefix_option(installed: Path) -> str:
    (header,) = installed.rglob("aiomq.h")
    return f"-DCMAKE_PREFIX_PATH={header.parents[2]}"


@pytest.mark.parametrize("consumer", ["make"], indirect=True)
def test_pkg_config(installed: Path, consumer: Path) -> None:
    library = library_folder(installed)
    find = {"PKG_CONFIG_PATH": str(library / "pkgconfig"), "PKG_CONFIG_SYSROOT_DIR": str(installed)}
    run("make", cwd=consumer, **find)
    assert run("./consumer", cwd=consumer, LD_LIBRARY_PATH=str(library)) == EXPECTED
    flags = run("pkg-config", "--cflags", "--libs", "libaiomq", cwd=consumer, **find)
    assert not re.search("capnp|kj|boost|event", flags)


@pytest.mark.parametrize("consumer", ["cmake"], indirect=True)
def test_cmake(installed: Path, consumer: Path) -> None:
    library = library_folder(installed)
    run("cmake", "-S", ".", "-B", "build", prefix_option(installed), cwd=consumer)
    run("cmake", "--build", "build", cwd=consumer)
    # It knows where the library is: nothing else says so.
    assert run("build/consumer", cwd=consumer, LD_LIBRARY_PATH="") == EXPECTED
    assert str(library) in run("readelf", "-d", "build/consumer", cwd=consumer)


@pytest.mark.parametrize("consumer", ["cmake"], indirect=True)
def test_cmake_wants_a_version_that_there_is(installed: Path, consumer: Path) -> None:
    text = (consumer / "CMakeLists.txt").read_text(encoding="utf-8")
    (consumer / "CMakeLists.txt").write_text(text.replace("libaiomq 0.1", "libaiomq 7"))
    with pytest.raises(AssertionError, match=r"libaiomqConfig\.cmake, version: 0\.1\.0"):
        run("cmake", "-S", ".", "-B", "build", prefix_option(installed), cwd=consumer)


@pytest.mark.parametrize("consumer", ["meson"], indirect=True)
def test_meson_subproject(consumer: Path) -> None:
    """Without linking, which would build all of the library once more."""
    (consumer / "subprojects").mkdir()
    (consumer / "subprojects" / "libaiomq").symlink_to(TREE)
    said = run("meson", "setup", "build", cwd=consumer, PKG_CONFIG_PATH="/nowhere-else")
    assert re.search(r"Dependency libaiomq found: YES .*overridden", said)
    assert not re.search(r"GoogleTest|benchmark.* found: NO|Python.h", said)
    run("ninja", "-C", "build", "consumer.p/consumer.c.o", cwd=consumer)
