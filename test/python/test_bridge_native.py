"""Which variant of the bridge is used, and what the native one makes of wrong arguments."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiomq import _abi, _bridge
from aiomq._bridge import EncodeError

native = _bridge.native


def variant(code: str = "print(_bridge.NATIVE)", **environment: str) -> str:
    """What a fresh interpreter with this environment says."""
    found = subprocess.run(
        [sys.executable, "-c", f"from aiomq import _abi, _bridge\n{code}"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return found.stdout.strip()


def test_pure_python_can_be_forced() -> None:
    assert variant(AIOMQ_PURE="1") == "False"
    assert variant(AIOMQ_PURE="0") == variant(AIOMQ_PURE="")


def test_without_its_library_the_bridge_is_pure_python(tmp_path: Path) -> None:
    core = next(path for path in _abi.candidates("libaiomq.so") if os.path.exists(path))
    (tmp_path / "libaiomq.so").symlink_to(os.path.abspath(core))
    (tmp_path / "libaiomq_py.so").write_bytes(b"no library")
    assert variant(AIOMQ_LIBRARY_PATH=os.fspath(tmp_path), AIOMQ_PURE="0") == "False"


@pytest.mark.skipif(not _bridge.NATIVE, reason="there is no libaiomq_py")
def test_the_native_library_checks_what_it_is_given() -> None:
    library = ctypes.PyDLL(
        next(path for path in _abi.candidates("libaiomq_py.so") if os.path.exists(path))
    )
    library.aiomq_py_module.restype = ctypes.py_object
    library.aiomq_py_module.argtypes = [ctypes.py_object]
    for support in ({}, [], {"EncodeError": EncodeError}):
        with pytest.raises(ImportError, match="libaiomq_py was given no"):
            library.aiomq_py_module(support)
    assert _bridge.native.encode_call((1,), {})  # it goes on with what it was given before


@pytest.mark.skipif(not _bridge.NATIVE, reason="there is no libaiomq_py")
def test_the_native_functions_check_their_arguments() -> None:
    for call in (
        lambda: native.encode_call((1,)),
        lambda: native.encode_call((1,), {}, 3),
        lambda: native.encode_call((1,), kwargs={}, extra=1),
        lambda: native.encode_call((1,), {}, args=()),
        lambda: native.encode_call([1], {}),
        lambda: native.encode_call((1,), []),
        lambda: native.encode_chunk((1, 2), 0, 1, False),
        lambda: native.encode_chunk([1, 2], "0", 1, False),
        lambda: native.decode_value("text"),
        lambda: native.submit_call("pool", 1, 1, (), {}),
        lambda: native.Runner(1),
        lambda: native.Arguments("x", 0, 0, 0),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(OverflowError):
        native.submit_call(0, 2**32, 1, (), {})
    assert native.encode_call(kwargs={}, args=(1,)) == native.encode_call((1,), {})
