"""The models of test/model are those of the code: what they name exists, every mutant is run."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

INCLUDE = Path(os.environ["AIOMQ_INCLUDE_DIR"])
ROOT = INCLUDE.parent
CORE = ROOT / "lib" / "core"
MODELS = ROOT / "test" / "model"
TABLE_HEAD = "| model | its steps | functions |"
NAMES = sorted(path.stem for path in MODELS.glob("*.pml"))
SOURCES = {path.name: path.read_text() for path in sorted(CORE.glob("*.?pp"))}


def is_function_of(name: str, source: str) -> bool:
    """Whether the text says NAME(: not in a comment alone."""
    code = re.sub(r"//[^\n]*", "", source)
    return re.search(rf"\b{name}\(", code) is not None


def table() -> list[tuple[str, str, str]]:
    """The rows of ARCHITECTURE.md's table; a row without a model is of the one above."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = text[text.index(TABLE_HEAD) :].split("\n\n")[0].splitlines()[2:]
    found = []
    model = ""
    for row in rows:
        first, steps, functions = (cell.strip() for cell in row.strip("|").split("|"))
        model = first.strip("`").removesuffix(".pml") or model
        found.append((model, steps, functions))
    return found


def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("model_runner", MODELS / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


def test_every_function_that_the_table_names_exists() -> None:
    rows = table()
    assert len(rows) > 30
    missing = [
        f"{model}: {name}()"
        for model, _steps, functions in rows
        for name in re.findall(r"`(\w+)\(\)`", functions) or ["(none)"]
        if not any(is_function_of(name, source) for source in SOURCES.values())
    ]
    assert missing == []


def test_the_table_has_every_model_and_no_other() -> None:
    assert sorted({model for model, _steps, _functions in table()}) == NAMES


@pytest.mark.parametrize("model", NAMES)
def test_the_steps_that_the_table_names_are_in_the_model(model: str) -> None:
    text = (MODELS / f"{model}.pml").read_text()
    steps = " ".join(steps for name, steps, _functions in table() if name == model)
    missing = [
        step for step in re.findall(r"`(\w+)`", steps) if not re.search(rf"\b{step}\b", text)
    ]
    assert missing == []


@pytest.mark.parametrize("model", NAMES)
def test_what_a_model_says_it_models_is_in_those_files(model: str) -> None:
    head = (MODELS / f"{model}.pml").read_text().split("*/")[0]
    modelled = re.sub(r"\s*\n \*\s*", " ", head.split("What is modelled")[1].split("Processes")[0])
    assert re.search(r"\w+\.[ch]pp", modelled), "it names no file"
    for file, functions in re.findall(r"(\w+\.[ch]pp)(?: \(([^)]*)\))?", modelled):
        assert file in SOURCES, file
        for name in re.findall(r"\b(locked_\w+|\w+_\w+)\b", functions):
            assert is_function_of(name, SOURCES[file]), f"{file}: {name}"


@pytest.mark.parametrize("model", NAMES)
def test_every_mutant_of_a_model_is_run(model: str) -> None:
    text = (MODELS / f"{model}.pml").read_text()
    in_model = set(re.findall(r"#if.*?\b(BUG_\w+)", text)) | set(
        re.findall(r"defined\((BUG_\w+)\)", text)
    )
    run = {
        option
        for options in runner().MODELS[model].mutants
        for option in options.split()
        if option.startswith("BUG_")
    }
    assert run == in_model
    assert run, "a model that can't fail shows nothing"


def test_the_read_me_tells_of_every_model() -> None:
    text = (MODELS / "README.md").read_text()
    assert sorted(re.findall(r"^\| `(\w+)\.pml`", text, re.MULTILINE)) == NAMES
