"""The layers of lib/core, as its meson.build lists them.

usage: test_layers.py [SOURCE_ROOT]

`core_layers` names the files of lib/core without their extension, lowest first. A file may include
only files named at or above its own line, every file must be listed, and only atomic.hpp may name
std::atomic or a memory order. Tools, examples and Python see the public headers only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
SUFFIXES = {".h", ".hpp", ".c", ".cpp"}
OUTSIDERS = ("tools", "examples", "lib/python")
# What Python's codec is built of, too.
SHARED = ("value_layout.hpp", "value_reader.hpp", "value_writer.hpp")
CODEC = "lib/python/codec"

LIST = re.compile(r"^core_layers\s*=\s*\[(.*?)^\]", re.DOTALL | re.MULTILINE)
ITEM = re.compile(r"'([^']+)'")
MESON_COMMENT = re.compile(r"#.*")
COMMENT_OR_TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
ATOMICS = re.compile(
    r"std::memory_order|\bmemory_order_\w+|std::atomic|#\s*include\s*<atomic>|\b__(?:atomic|sync)_\w+"
)


def layers_of(core: Path) -> list[str]:
    """The names in `core_layers`, lowest first."""
    found = LIST.search(MESON_COMMENT.sub("", (core / "meson.build").read_text()))
    if found is None:
        raise SystemExit(f"{core / 'meson.build'}: no list named core_layers")
    return ITEM.findall(found.group(1))


def sources_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments; strings stay only where they name an included file."""

    def blank(match: re.Match[str]) -> str:
        token = match.group()
        keep = token[0] == '"' and re.search(r"#\s*include\s*$", match.string[: match.start()])
        return token if keep else "\n" * token.count("\n")

    yield from enumerate(COMMENT_OR_TEXT.sub(blank, path.read_text()).split("\n"), 1)


def core_faults(core: Path, layers: list[str]) -> Iterator[str]:
    """Everything in lib/core that breaks a rule, as "file:line: what"."""
    height = {name: index for index, name in enumerate(layers)}
    for name in sorted({name for name in layers if layers.count(name) > 1}):
        yield f"{core / 'meson.build'}: {name} is listed twice"
    sources = sources_in(core)
    for name in sorted(set(layers) - {path.stem for path in sources}):
        yield f"{core / 'meson.build'}: {name} is listed, but there is no such file"
    for path in sources:
        own = height.get(path.stem)
        if own is None:
            yield f"{path}: {path.stem} is not in core_layers"
            continue
        for number, line in lines_of(path):
            if path.name != "atomic.hpp" and (named := ATOMICS.search(line)):
                yield f"{path}:{number}: only atomic.hpp may name {named.group()}"
            included = INCLUDE.match(line)
            if included is None or included.group(1).endswith(".capnp.h"):
                continue
            other = Path(included.group(1)).stem
            if other not in height:
                yield f"{path}:{number}: {included.group(1)} is not in core_layers"
            elif height[other] > own:
                yield f"{path}:{number}: {path.stem} lies below {other} and may not include it"


def outsider_faults(tree: Path, layers: list[str]) -> Iterator[str]:
    """Files outside the library that include a header of lib/core."""
    for folder in OUTSIDERS:
        for path in sources_in(tree / folder):
            for number, line in lines_of(path):
                included = INCLUDE.match(line)
                if included is None or (path.parent / included.group(1)).exists():
                    continue
                if included.group(1) in SHARED and path.is_relative_to(tree / CODEC):
                    continue
                if Path(included.group(1)).stem in layers:
                    yield f"{path}:{number}: {included.group(1)} is private to lib/core"


def faults(tree: Path) -> list[str]:
    core = tree / "lib" / "core"
    layers = layers_of(core)
    return [*core_faults(core, layers), *outsider_faults(tree, layers)]


def test_layers() -> None:
    assert faults(TREE) == []


def main(arguments: list[str]) -> int:
    found = faults(Path(arguments[0]) if arguments else TREE)
    print("\n".join(found) or "layers: nothing out of order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
