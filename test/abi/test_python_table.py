"""What the Python package believes of the C ABI (`_abi`, …) against the compiler."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aiomq import _abi, _abi_full, _abi_value

TREE = Path(__file__).resolve().parents[2]
HEADERS = sorted((TREE / "include" / "aiomq").glob("*.h"))
MODULES = (_abi, _abi_full, _abi_value)
STRUCTS = {
    name: value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, type)
    and issubclass(value, ctypes.Structure)
    and value.__module__ == module.__name__
}
FUNCTIONS = {name: row for module in MODULES for name, row in module.FUNCTIONS.items()}
SCALARS = {
    "void": None,
    "int": ctypes.c_int,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "int64_t": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "double": ctypes.c_double,
}


def headers() -> str:
    return "\n".join(header.read_text(encoding="utf-8") for header in HEADERS)


def c_name(struct: str) -> str:
    """PoolOptions → aiomq_pool_options."""
    return "aiomq" + re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), struct)


def evaluate(folder: Path, expressions: dict[str, str]) -> dict[str, int]:
    """What a C compiler makes of integer expressions over the header; keyed as given."""
    lines = [
        f'    printf("%s %lld\\n", "{key}", (long long)({text}));'
        for key, text in expressions.items()
    ]
    source = folder / "values.c"
    source.write_text(
        "#include <aiomq/aiomq.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n"
        + "\n".join(lines)
        + "\n    return 0;\n}\n",
        encoding="utf-8",
    )
    compiler = os.environ.get("CC", "cc").split()
    program = folder / "values"
    subprocess.run(
        [*compiler, "-std=c11", f"-I{TREE / 'include'}", str(source), "-o", str(program)],
        check=True,
    )
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {key: int(value) for key, value in map(str.split, output.splitlines())}


@pytest.mark.parametrize("struct", STRUCTS)
def test_a_struct_has_the_compilers_layout(tmp_path: Path, struct: str) -> None:
    kind, name = STRUCTS[struct], c_name(struct)
    expressions = {"sizeof": f"sizeof({name})"}
    expected = {"sizeof": ctypes.sizeof(kind)}
    for field in kind._fields_:
        descriptor = getattr(kind, field[0])
        expressions[f"{field[0]}.offset"] = f"offsetof({name}, {field[0]})"
        expressions[f"{field[0]}.size"] = f"sizeof((({name} *)0)->{field[0]})"
        expected[f"{field[0]}.offset"] = descriptor.offset
        expected[f"{field[0]}.size"] = descriptor.size
    assert evaluate(tmp_path, expressions) == expected


def test_every_struct_of_the_header_is_there() -> None:
    text = re.sub(r"/\*.*?\*/", " ", headers(), flags=re.DOTALL)
    defined = set(re.findall(r"^}\s*(aiomq_\w+);", text, flags=re.MULTILINE))
    assert {c_name(name) for name in STRUCTS} == defined


def test_constants_have_the_headers_values(tmp_path: Path) -> None:
    # Enumerators and macros of the header are spelt the same here, without the prefix.
    constants = {
        name: value
        for name, value in vars(_abi).items()
        if re.fullmatch(r"[A-Z][A-Z_]*", name) and isinstance(value, int)
    }
    assert len(constants) > 40
    found = evaluate(tmp_path, {name: f"AIOMQ_{name}" for name in constants})
    assert {name: value % 2**64 for name, value in found.items()} == constants


def test_every_function_is_declared_as_in_the_header() -> None:
    text = re.sub(r"/\*.*?\*/", " ", headers(), flags=re.DOTALL)
    declared = re.findall(r"^(\w[\w\s]*?[\s*]+)aiomq_(\w+)\(([^()]*)\);", text, flags=re.MULTILINE)
    header = {
        name: (result.strip(), [] if arguments.strip() == "void" else arguments.split(","))
        for result, name, arguments in declared
    }
    assert set(header) == set(FUNCTIONS)
    assert len(FUNCTIONS) == sum(len(module.FUNCTIONS) for module in MODULES)
    for name, (_, result, arguments) in FUNCTIONS.items():
        c_result, c_arguments = header[name]
        assert_same(name, c_result, result)
        assert len(c_arguments) == len(arguments), name
        for c_argument, argument in zip(c_arguments, arguments, strict=True):
            assert_same(
                name, c_argument.strip().rpartition(" ")[0] + "*" * c_argument.count("*"), argument
            )


def test_modules_take_the_library_from_where_its_functions_have_types() -> None:
    checked = 0
    for path in (TREE / "lib" / "python" / "aiomq").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        own = re.search(r"^_?lib = (_abi\w*)\.lib$", source, flags=re.MULTILINE)
        for prefix, name in re.findall(r"(?:(_abi\w*)\.)?\b_?lib\.aiomq_(\w+)", source):
            module = prefix or (own[1] if own else "")
            # _abi_full is the whole: who has it has loaded _abi, too.
            known = FUNCTIONS if module == "_abi_full" else _abi.FUNCTIONS
            assert name in known, f"{path.name}: {name} of {module or 'nothing'}"
            checked += 1
    assert checked > 50


def assert_same(function: str, c_type: str, kind: Any) -> None:
    if "*" not in c_type:
        assert kind is SCALARS[c_type.strip()], (function, c_type)
        return
    assert kind is not None and ctypes.sizeof(kind) == ctypes.sizeof(ctypes.c_void_p), function
    pointer = isinstance(kind, type) and issubclass(kind, ctypes._Pointer)
    assert pointer or kind in (ctypes.c_void_p, ctypes.c_char_p), (function, c_type)
    target = re.sub(r"\b(const|struct)\b|\*", "", c_type).strip()
    if pointer and kind._type_ in STRUCTS.values():
        assert target == c_name(kind._type_.__name__), (function, c_type)
