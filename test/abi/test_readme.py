"""The examples in README.md, extracted and run as a reader would.

Environment (set by `./dev exec`): AIOMQ_INCLUDE_DIR has aiomq/aiomq.h, AIOMQ_LIBRARY_DIR has
libaiomq.so, PYTHONPATH leads to the package; without the first two the source tree's own `include`
and `build` are used. CC is the C compiler.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
README = TREE / "README.md"
INCLUDE_DIR = Path(os.environ.get("AIOMQ_INCLUDE_DIR", TREE / "include"))
LIBRARY_DIR = Path(os.environ.get("AIOMQ_LIBRARY_DIR", TREE / "build" / "lib" / "core"))
PATIENCE_SECONDS = 120


def blocks(language: str) -> list[str]:
    """The fenced blocks of README.md in one language."""
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def promised_output(example: str) -> str:
    """What the example says that it prints, in the comment behind the line that prints."""
    prints = r"(?:.*print.*|run\(main\(\)\))(?:  # |  // )(.*)$"
    promises: list[str] = re.findall(prints, example, flags=re.MULTILINE)
    assert len(promises) == 1, "one line of the example says what it prints"
    return promises[0] + "\n"


class ReadmeTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_and_compare(self, command: list[str], expected: str) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (0, expected), done.stderr)
        self.assertEqual(done.stderr, "")

    def test_python_example(self) -> None:
        example = blocks("python")[0]
        script = self.folder / "example.py"
        script.write_text(example, encoding="utf-8")
        self.run_and_compare([sys.executable, str(script)], promised_output(example))

    def test_check_of_the_demo(self) -> None:
        """The demo's loader takes it as it is, and it finds the one spike."""
        example = blocks("python")[1]
        self.assertLessEqual(len(example.splitlines()), 8)
        (self.folder / "spike.py").write_text(example, encoding="utf-8")
        script = (
            "import sys, types\n"
            "try: import numpy as np\n"
            "except ImportError: sys.exit(77)\n"
            "from pathlib import Path\n"
            "from monitor.check import load_checks\n"
            "(check,) = load_checks((Path('.'),)).samples\n"
            "samples = types.SimpleNamespace(baseline=types.SimpleNamespace(mean=np.ones(2)),\n"
            "    is_counter=np.ones(2, bool), rate=np.array([4.0, 6.0]))\n"
            "print(check.name, check.run(samples, 2).tolist())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(TREE / "examples")},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode == 77:
            self.skipTest("numpy is not installed")
        self.assertEqual(done.stdout, "rate_spike [False, True]\n", done.stderr)

    def test_c_example(self) -> None:
        (example,) = blocks("c")
        source = self.folder / "example.c"
        source.write_text(example, encoding="utf-8")
        program = self.folder / "example"
        compiler = os.environ.get("CC", "cc").split()
        flags = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror"]
        link = [f"-L{LIBRARY_DIR}", f"-Wl,-rpath,{LIBRARY_DIR}", "-laiomq"]
        subprocess.run(
            [*compiler, *flags, f"-I{INCLUDE_DIR}", str(source), "-o", str(program), *link],
            check=True,
        )
        self.run_and_compare([str(program)], promised_output(example))

    def test_cpp_example(self) -> None:
        (example,) = blocks("cpp")
        source = self.folder / "example.cpp"
        source.write_text(example, encoding="utf-8")
        program = self.folder / "example"
        compiler = os.environ.get("CXX", "c++").split()
        flags = ["-std=c++20", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror"]
        link = [f"-L{LIBRARY_DIR}", f"-Wl,-rpath,{LIBRARY_DIR}", "-laiomq"]
        command = [*compiler, *flags, f"-I{INCLUDE_DIR}", str(source)]
        subprocess.run([*command, "-o", str(program), *link], check=True)
        self.run_and_compare([str(program)], promised_output(example))
        headers = subprocess.run([*command, "-M"], check=True, capture_output=True, text=True)
        for library in ("capnp", "kj", "boost", "event2"):
            self.assertNotIn(f"/{library}/", headers.stdout)

    def test_commands_exist(self) -> None:
        """Every `./dev VERB` that the README names is one."""
        listed = subprocess.run(
            [str(TREE / "dev")], capture_output=True, text=True, check=False
        ).stdout
        for verb in set(re.findall(r"\./dev (\w+)", README.read_text(encoding="utf-8"))):
            self.assertRegex(listed, rf"\b{verb}\b")

    def test_links_lead_somewhere(self) -> None:
        for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
            if "://" not in target:
                self.assertTrue((TREE / target).exists(), target)


if __name__ == "__main__":
    unittest.main()
