"""Functions of the user's main module work however the program was started; nothing storms."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from running import run_python, write

PROGRAM = """
    import asyncio, os, sys
    import aiomq

    class Point:
        def __init__(self, x):
            self.x = x
        def __eq__(self, other):
            return type(other) is type(self) and other.x == self.x

    class Trouble(Exception):
        pass

    async def move(point, by=1):
        return Point(point.x + by)

    def fail():
        raise Trouble("of main")

    def argv():
        return sys.argv[1:]

    factor = 1

    def set_factor(value):
        global factor
        factor = value

    def scale(x):
        return factor * x

    async def main():
        async with aiomq.Pool(2, set_factor, (3,)) as pool:
            assert await pool.apply(move, (Point(1),)) == Point(2)
            points = [Point(n) for n in range(50)]
            assert await pool.map(move, points) == [Point(n + 1) for n in range(50)]
            assert await pool.map(scale, range(50)) == [3 * n for n in range(50)]
            try:
                await pool.apply(fail)
            except Trouble as error:
                assert "in fail" in str(error.__cause__)
            assert await pool.apply(argv) == ["one", "two"], await pool.apply(argv)
        print("fine")

    if __name__ == "__main__":
        asyncio.run(main())
"""

# Without the guard, and with nothing else that would stop a worker from becoming a dispatcher.
UNGUARDED = """
    import asyncio, os, sys
    import aiomq
    print("main runs", flush=True)

    async def work(x):
        return x

    async def main():
        async with aiomq.Pool(2) as pool:
            print(await pool.map(work, range(10)))

    asyncio.run(main())
"""


def fine(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stdout + done.stderr


@pytest.mark.versions
def test_a_script(tmp_path: Path) -> None:
    path = write(tmp_path / "program.py", PROGRAM)
    fine(run_python(str(path), "one", "two"))
    fine(run_python("program.py", "one", "two", folder=tmp_path))


def test_a_module_run_with_m(tmp_path: Path) -> None:
    write(tmp_path / "program.py", PROGRAM)
    fine(run_python("-m", "program", "one", "two", folder=tmp_path))


@pytest.mark.versions
def test_a_module_of_a_package_run_with_m(tmp_path: Path) -> None:
    write(tmp_path / "parts" / "__init__.py", "")
    write(tmp_path / "parts" / "other.py", "value = 1")
    write(tmp_path / "parts" / "program.py", "    from . import other\n" + PROGRAM)
    fine(run_python("-m", "parts.program", "one", "two", folder=tmp_path))


def test_a_package(tmp_path: Path) -> None:
    write(tmp_path / "parts" / "__init__.py", "")
    write(tmp_path / "parts" / "other.py", "value = 1")
    write(tmp_path / "parts" / "__main__.py", "    from . import other\n" + PROGRAM)
    fine(run_python("-m", "parts", "one", "two", folder=tmp_path))


@pytest.mark.versions
def test_a_folder_and_a_zip_archive(tmp_path: Path) -> None:
    main = write(tmp_path / "folder" / "__main__.py", PROGRAM)
    fine(run_python(str(main.parent), "one", "two"))
    fine(run_python("folder", "one", "two", folder=tmp_path))
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.write(main, "__main__.py")
    fine(run_python(str(tmp_path / "program.zip"), "one", "two"))
    fine(run_python("program.zip", "one", "two", folder=tmp_path))


@pytest.mark.parametrize("flags", [["-B"], ["-O"], ["-I"], ["-X", "dev"], ["-W", "error"]])
def test_interpreter_flags(tmp_path: Path, flags: list[str]) -> None:
    path = write(
        tmp_path / "program.py",
        """
        import asyncio, sys
        if __name__ == "__main__":
            sys.path.insert(0, sys.argv[1])
        import aiomq

        def flags():
            return [*sys.flags], sys.warnoptions, sys.path

        async def main():
            async with aiomq.Pool(1) as pool:
                assert await pool.apply(flags) == flags(), (await pool.apply(flags), flags())
            print("fine")

        if __name__ == "__main__":
            asyncio.run(main())
        """,
    )
    import aiomq

    home = str(Path(aiomq.__file__).parent.parent)
    fine(run_python(*flags, str(path), home))


@pytest.mark.parametrize("how", ["script", "module"])
def test_an_unguarded_main_gets_a_clear_error_and_no_storm(tmp_path: Path, how: str) -> None:
    path = write(tmp_path / "program.py", UNGUARDED)
    arguments = [str(path)] if how == "script" else ["-m", "program"]
    done = run_python(*arguments, folder=tmp_path)
    assert done.returncode == 1
    assert 'if __name__ == "__main__":' in done.stderr
    assert "PoolBroken" in done.stderr
    # Two workers, and a few replacements at most, have run the main module.
    assert done.stdout.count("main runs") <= 8


@pytest.mark.versions
def test_an_unguarded_package_main_gets_a_clear_error_if_it_is_needed(tmp_path: Path) -> None:
    write(tmp_path / "parts" / "__init__.py", "")
    write(tmp_path / "parts" / "__main__.py", UNGUARDED)
    done = run_python("-m", "parts", folder=tmp_path)
    assert done.returncode == 1
    assert 'if __name__ == "__main__":' in done.stderr and "RuntimeError" in done.stderr
    assert done.stdout.count("main runs") <= 20


def test_an_unguarded_package_main_is_left_alone_if_it_is_not_needed(tmp_path: Path) -> None:
    write(tmp_path / "parts" / "__init__.py", "")
    write(tmp_path / "parts" / "work.py", "async def work(x):\n    return x\n")
    write(
        tmp_path / "parts" / "__main__.py",
        """
        import asyncio
        import aiomq
        from parts.work import work

        async def main():
            async with aiomq.Pool(2) as pool:
                assert await pool.map(work, range(10)) == list(range(10))
            print("fine")

        asyncio.run(main())
        """,
    )
    fine(run_python("-m", "parts", folder=tmp_path))


@pytest.mark.versions
def test_a_main_module_that_raises_breaks_the_pool(tmp_path: Path) -> None:
    path = write(
        tmp_path / "program.py",
        """
        import asyncio, sys
        import aiomq
        if __name__ != "__main__":
            raise LookupError("not importable")
        async def main():
            async with aiomq.Pool(1):
                pass
        asyncio.run(main())
        """,
    )
    done = run_python(str(path))
    assert done.returncode == 1
    assert "PoolBroken" in done.stderr and "LookupError: not importable" in done.stderr


def test_a_session_without_a_file_gets_a_clear_error() -> None:
    text = """
import asyncio, sys, aiomq
def work(): pass
sys.modules["cloudpickle"] = None
async def main():
    async with aiomq.Pool(1) as pool:
        assert await pool.apply(len, ("four",)) == 4
        try:
            pool.submit(work)
        except ValueError as error:
            print(error)
asyncio.run(main())
"""
    for done in (
        run_python("-c", text),
        subprocess.run(
            [sys.executable, "-"],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ),
    ):
        assert "work is defined in an interactive session" in done.stdout, done.stderr


def test_multiprocessing_is_left_as_it_was(tmp_path: Path) -> None:
    path = write(
        tmp_path / "program.py",
        """
        import asyncio, multiprocessing
        import aiomq

        def name():
            return multiprocessing.current_process().name

        async def main():
            async with aiomq.Pool(1, label="here") as pool:
                assert await pool.apply(name) == "here/0"
            multiprocessing.set_start_method("spawn")  # nobody has fixed it
            with multiprocessing.Pool(1) as pool:
                assert pool.apply(int) == 0
            print("fine")

        if __name__ == "__main__":
            asyncio.run(main())
        """,
    )
    fine(run_python(str(path)))
