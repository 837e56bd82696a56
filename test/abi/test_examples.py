"""The programs in the manual, compiled as they stand there, and run.

Environment as for test_readme.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
INCLUDE_DIR = Path(os.environ.get("AIOMQ_INCLUDE_DIR", TREE / "include"))
LIBRARY_DIR = Path(os.environ.get("AIOMQ_LIBRARY_DIR", TREE / "build" / "lib" / "core"))
PAGES = sorted((TREE / "man").glob("aiomq*.[137]"))
BLOCK = re.compile(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", flags=re.DOTALL | re.MULTILINE)
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]


def examples(page: Path) -> list[str]:
    """The C programs of a page."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [block.replace("\\e", "\\") for block in blocks if re.search(r"^ *\w.*;$", block, re.M)]


C_EXAMPLES = {page.stem: examples(page) for page in PAGES if page.stem != "aiomq-python"}
GXX = {"cc": "c++", "gcc": "g++", "clang": "clang++"}
NAMES = [name for name, found in C_EXAMPLES.items() if found]


def compiled(name: str, folder: Path, compiler: str = "cc") -> list[Path]:
    """The programs of a page."""
    programs = []
    for number, text in enumerate(C_EXAMPLES[name]):
        cpp = ".hpp>" in text
        source = folder / f"{name}{number}{'.cpp' if cpp else '.c'}"
        source.write_text(text, encoding="utf-8")
        command = [GXX[compiler] if cpp else compiler, f"-std={'c++20' if cpp else 'c11'}"]
        command += ["-Wall", "-Wextra", "-Werror", f"-I{INCLUDE_DIR}"]
        if "int main(" not in text:
            command += ["-shared", "-fPIC"]  # a plugin
        command += [str(source), "-o", str(source.with_suffix("")), f"-L{LIBRARY_DIR}", "-laiomq"]
        subprocess.run([*command, f"-Wl,-rpath,{LIBRARY_DIR}"], check=True)
        programs.append(source.with_suffix(""))
    return programs


def output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def python_worker_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `python3` this interpreter."""
    (folder / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", NAMES)
def test_an_example_compiles(name: str, compiler: str, tmp_path: Path) -> None:
    assert compiled(name, tmp_path, compiler)


def test_a_c_program_calls_a_python_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = compiled("aiomq_value_writer_create", tmp_path)[0]
    python_worker_on_path(tmp_path, monkeypatch)
    assert output(program) == "1\n2.5\n4\n"


def test_a_pool_in_a_loop_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = compiled("aiomq", tmp_path)[0]
    python_worker_on_path(tmp_path, monkeypatch)
    assert output(program, "os:getpid", "python3", "-m", "aiomq.worker") == "done\n"
    parent = compiled("aiomq_worker_submit", tmp_path)[0]
    assert output(program, "parent", parent) == "done\n"
    twice = compiled("aiomq_worker_run", tmp_path)[0]
    assert output(program, "twice", twice) == "done\n"


def test_the_cpp_example_prints_its_squares(tmp_path: Path) -> None:
    assert output(compiled("aiomq_hpp", tmp_path)[0]) == "1 4 9 16 30\n"


def test_the_plugin_is_taken(tmp_path: Path) -> None:
    plugin = compiled("aiomq-worker", tmp_path)[0]
    program = compiled("aiomq", tmp_path)[0]
    assert output(program, "twice", "aiomq-worker", "--plugin", plugin) == "done\n"
