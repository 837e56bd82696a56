"""The manual against the header: every function has a page, and no page invents one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
HEADERS = sorted((TREE / "include" / "aiomq").glob("*.h"))
MAP = TREE / "lib" / "core" / "aiomq.map"
MANUAL = TREE / "man"
PAGES = sorted(MANUAL.glob("*.[137]"))
FUNCTION_PAGES = sorted(MANUAL.glob("*.3"))
ENVIRONMENT = {"AIOMQ_WORKER", "AIOMQ_WORKER_INDEX", "AIOMQ_LIBRARY_PATH", "AIOMQ_PURE"}


def headers() -> str:
    return "\n".join(header.read_text(encoding="utf-8") for header in HEADERS)


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


def header_prototypes() -> dict[str, str]:
    """Function name → its prototype with single spaces, without names of what it returns."""
    text = without_comments(headers())
    text = re.sub(r"^\s*#.*?(?<!\\)$", "", text, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for match in re.finditer(
        r"^([a-z][\w\s*]*?)\b(aiomq_\w+)\(([^()]*)\);", text, flags=re.MULTILINE
    ):
        kind, name, arguments = (re.sub(r"\s+", " ", part).strip() for part in match.groups())
        found[name] = normalised(f"{kind} {name}({arguments})")
    return found


def normalised(prototype: str) -> str:
    """Spaces only where they separate words."""
    return re.sub(r"\s*([*(),])\s*", r"\1", re.sub(r"\s+", " ", prototype)).strip()


def page_names(page: Path) -> list[str]:
    """What the page's NAME section names."""
    section = page.read_text(encoding="utf-8").split(".Sh NAME\n")[1].split(".Nd ")[0]
    return re.findall(r"^\.Nm ([\w-]+)", section, flags=re.MULTILINE)


def page_prototypes(page: Path) -> dict[str, str]:
    """Function name → prototype, from the .Ft, .Fn and .Fo requests of the SYNOPSIS."""
    section = page.read_text(encoding="utf-8").split(".Sh SYNOPSIS\n")[1].split(".Sh ")[0]
    found: dict[str, str] = {}
    kind = name = ""
    arguments: list[str] = []
    for line in section.splitlines():
        request, _, rest = line.partition(" ")
        words = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', rest)]
        if request == ".Ft":
            kind = " ".join(words)
        elif request in (".Fn", ".Fo"):
            name, arguments = words[0], words[1:]
        elif request == ".Fa":
            arguments += words
        if request in (".Fn", ".Fc"):
            found[name] = normalised(f"{kind} {name}({','.join(arguments)})")
    return found


def exported() -> set[str]:
    return set(re.findall(r"\b(aiomq_\w+)\s*;", without_comments(MAP.read_text(encoding="utf-8"))))


def test_the_header_can_be_read() -> None:
    assert {
        "aiomq_pool_create",
        "aiomq_worker_label",
        "aiomq_view_event",
    } <= header_prototypes().keys()


def test_header_and_version_script_name_the_same_functions() -> None:
    assert exported() == header_prototypes().keys()


def test_every_function_has_one_page_and_every_page_only_functions() -> None:
    documented = [name for page in FUNCTION_PAGES for name in page_names(page)]
    assert sorted(documented) == sorted(header_prototypes())


@pytest.mark.parametrize("page", FUNCTION_PAGES, ids=lambda page: page.name)
def test_synopsis_is_what_the_header_declares(page: Path) -> None:
    declared = header_prototypes()
    assert page_prototypes(page) == {name: declared[name] for name in page_names(page)}


@pytest.mark.parametrize("page", FUNCTION_PAGES, ids=lambda page: page.name)
def test_every_function_of_a_page_is_described(page: Path) -> None:
    description = page.read_text(encoding="utf-8").split(".Sh DESCRIPTION\n")[1]
    described = set(re.findall(r"^\.Fn (\w+)", description, flags=re.MULTILINE))
    assert set(page_names(page)) <= described


@pytest.mark.parametrize("page", FUNCTION_PAGES, ids=lambda page: page.name)
def test_page_is_named_after_one_of_its_functions(page: Path) -> None:
    assert page.stem in page_names(page)
    assert f".Dt {page.stem.upper()} 3" in page.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("page", FUNCTION_PAGES, ids=lambda page: page.name)
def test_errors_of_a_page_are_those_of_the_header(page: Path) -> None:
    """Each -EXXX that the header's comments give for a group is on its page, and no other."""
    comments = function_comments()
    in_header = {
        error for name in page_names(page) for error in re.findall(r"-E[A-Z0-9]+", comments[name])
    }
    lines = page.read_text(encoding="utf-8").splitlines()
    on_page = {
        error
        for line in lines
        for error in re.findall(r"-E[A-Z0-9]+\b", line)
        if not line.startswith(".Bl")
    }
    assert in_header <= on_page
    known = {error for text in comments.values() for error in re.findall(r"-E[A-Z0-9]+", text)}
    assert on_page <= known


def function_comments() -> dict[str, str]:
    """Function name → the comment before its declaration."""
    text = headers()
    found: dict[str, str] = {}
    for match in re.finditer(
        r"/\*\*((?:(?!\*/).)*)\*/\s*([\w\s*]*?)\b(aiomq_\w+)\([^()]*\);", text, flags=re.DOTALL
    ):
        found[match.group(3)] = match.group(1)
    return found


def test_every_function_has_a_comment_that_begins_with_its_name() -> None:
    comments = function_comments()
    assert comments.keys() == header_prototypes().keys()
    for name, comment in comments.items():
        assert comment.strip(" *\n").startswith(f"{name}()"), name
        assert "Since: " in comment, name


def test_constants_of_the_header_that_pages_name_exist() -> None:
    cpp = (TREE / "include" / "aiomq").rglob("*.hpp")
    text = without_comments(headers()) + "\n".join(path.read_text("utf-8") for path in cpp)
    for page in PAGES:
        body = re.sub(r"^\.Dt .*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for name in re.findall(r"\bAIOMQ_[A-Z][A-Z_0-9]+\b", body):
            known = name in ENVIRONMENT or re.search(rf"\b{name}\b", text)
            assert known, f"{page.name}: {name}"


def test_every_page_and_alias_is_installed() -> None:
    build = (MANUAL / "meson.build").read_text(encoding="utf-8")
    for page in PAGES:
        assert f"'{page.name}'" in build, page.name
    for page in FUNCTION_PAGES:
        for name in page_names(page):
            assert f"'{name}'" in build or f"'{name}.3'" in build, name


def test_references_lead_to_pages_that_exist() -> None:
    ours = {(name, page.suffix[1:]) for page in PAGES for name in page_names(page)}
    for page in PAGES:
        for name, section in re.findall(
            r"^\.Xr (aiomq\S*) (\d)", page.read_text(encoding="utf-8"), flags=re.MULTILINE
        ):
            assert (name, section) in ours, f"{page.name}: {name}({section})"


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    # In one folder with the aliases, as installed; references to the system's pages depend on what
    # the machine has and are left out.
    for page in PAGES:
        shutil.copy(page, tmp_path)
        for name in page_names(page):
            alias = tmp_path / f"{name}{page.suffix}"
            if not alias.exists():
                alias.symlink_to(page.name)
    done = subprocess.run(
        ["mandoc", "-Tlint", *(page.name for page in PAGES)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [
        line
        for line in done.stdout.splitlines()
        if not re.search(r"referenced manual not found: Xr (?!aiomq)", line)
    ]
    assert complaints == []
