"""The programs in man/aiomq-python.7, run as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import run_python

PAGE = Path(__file__).resolve().parents[2] / "man" / "aiomq-python.7"
BLOCK = re.compile(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed$", re.DOTALL | re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    """Each program of the page, and what the page says that it prints."""
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    return list(zip(blocks[::2], blocks[1::2], strict=True))


@pytest.mark.parametrize(("program", "output"), examples())
def test_a_program_prints_what_the_page_says(program: str, output: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(program, encoding="utf-8")
    done = run_python(str(script), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.rstrip() for line in done.stdout.splitlines()] == [
        line.rstrip() for line in output.splitlines()
    ]
