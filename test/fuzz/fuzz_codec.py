"""Value messages: libaiomq_py and its twin in pure Python agree about any bytes.

`fuzz_codec.py replay PLACE…` reads files and folders of them; `fuzz_codec.py fuzz OPTION…` is
libFuzzer, whose engine and sanitizer run.py has preloaded.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))


def harmless_loads(data: Any, *, buffers: Iterable[Any] = ()) -> bytes:
    """In place of pickle's: what a fuzzer writes must not become code that runs here."""
    return b"pickle ".join(map(bytes, (b"", data, *buffers)))


pickle.loads = harmless_loads  # type: ignore[assignment]

from codec_variants import CODECS, Codec, aligned, same  # noqa: E402  after the line above

from aiomq import _abi  # noqa: E402

KINDS = (_abi.KIND_VALUE, _abi.KIND_CALL, _abi.KIND_CHUNK)
MOST_CALLS = 8
"""Of a chunk; each may unfold to 65,536 elements."""


def decoded(codec: Codec, kind: int, payload: bytes) -> Any:
    """What a message means to one variant; ValueError if that is nothing."""
    if kind == _abi.KIND_VALUE:
        return codec.decode(payload)
    keep, address = aligned(payload)
    arguments = codec.arguments(kind, 0, address, len(payload))
    calls = [len(arguments)]
    calls += [arguments.get(i) for i in range(min(len(arguments), MOST_CALLS))]
    del keep
    return calls


def outcome(codec: Codec, kind: int, payload: bytes) -> tuple[str, Any]:
    """The meaning, or that there is none."""
    try:
        return "value", decoded(codec, kind, payload)
    except ValueError:
        return "damaged", None


def check_encoders(value: Any) -> None:
    """Both write the same bytes, which mean the same value."""
    written = [codec.value(value) for codec in CODECS]
    assert written[0] == written[1], "the encoders differ"
    for codec in CODECS:
        assert same(codec.decode(written[0]), value), "a value changed on its way"


def check(data: bytes) -> None:
    """One input."""
    kind = KINDS[data[0] % len(KINDS)] if data else _abi.KIND_VALUE
    first, second = (outcome(codec, kind, data[1:]) for codec in CODECS)
    assert first[0] == second[0], f"{first[0]} in pure Python, {second[0]} in the library"
    assert same(first[1], second[1]), "the decoders differ"
    if first[0] == "value" and kind == _abi.KIND_VALUE:
        check_encoders(first[1])


def replay(places: list[str]) -> int:
    """Every file once."""
    count = 0
    for place in map(Path, places):
        for path in sorted(place.iterdir()) if place.is_dir() else [place]:
            print(path.name, flush=True)
            check(path.read_bytes())
            count += 1
    print(count, "inputs")
    return 0 if count else 1


def fuzz(options: list[str]) -> int:
    """As libFuzzer does it, until it has had its time."""

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_uint8), ctypes.c_size_t)
    def target(data: Any, size: int) -> int:
        try:
            check(ctypes.string_at(data, size))
        except BaseException:
            traceback.print_exc()
            os.abort()  # so that the input is kept
        return 0

    # What libFuzzer starts again to merge; it goes through a shell.
    itself = f"{sys.executable} {sys.argv[0]} fuzz"
    arguments = [argument.encode() for argument in [itself, *options]]
    argv = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
    run = ctypes.CDLL(None).LLVMFuzzerRunDriver
    result: int = run(
        ctypes.byref(ctypes.c_int(len(arguments))),
        ctypes.byref(ctypes.cast(argv, ctypes.POINTER(ctypes.c_char_p))),
        target,
    )
    return result


def main() -> int:
    """Both variants must be there."""
    if len(CODECS) != 2:
        print("libaiomq_py can't be loaded")
        return 1
    how = {"replay": replay, "fuzz": fuzz}
    return how[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
