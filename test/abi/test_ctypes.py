"""The C ABI serves a program that has ctypes alone: no header, no compiler, no package of ours."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("ctypes_script.py")
MOST_LINES = 30
PATIENCE_SECONDS = 60


def test_a_short_script_gets_a_result() -> None:
    # -I: neither PYTHONPATH nor the script's folder, so our package can't be found by accident.
    environment = dict(os.environ)
    library = environment.get("AIOMQ_LIBRARY_DIR")
    if library is not None:
        environment["LD_LIBRARY_PATH"] = f"{library}:{environment.get('LD_LIBRARY_PATH', '')}"
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


def test_the_script_is_as_short_as_promised() -> None:
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_script_imports_the_standard_library_only() -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported <= set(sys.stdlib_module_names)
