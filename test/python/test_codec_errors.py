"""The errors of the codec, which name their cause, and objects that change while encoded."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from codec_variants import Codec, Number, calls, each_codec

from aiomq import _abi
from aiomq._bridge import EncodeError


def no_pickle() -> Any:
    return threading.Lock()


@each_codec
@pytest.mark.parametrize(
    ("args", "kwargs", "culprit"),
    [
        ((1, no_pickle()), {}, "argument 2"),
        ((no_pickle(),), {}, "argument 1"),
        ((1,), {"x": no_pickle()}, "keyword 'x'"),
        ((), {"x": 1, "y": [no_pickle()]}, "keyword 'y'"),
        ((lambda: 0,), {}, "argument 1"),
        (((i for i in ()),), {}, "argument 1"),
    ],
)
def test_an_argument_that_cannot_be_pickled_is_named(
    codec: Codec, args: Any, kwargs: Any, culprit: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        codec.call(args, kwargs)
    assert str(caught.value) == culprit
    assert isinstance(caught.value.__cause__, TypeError | AttributeError | Exception)
    assert str(caught.value.__cause__)


@each_codec
@pytest.mark.parametrize(
    ("items", "star", "culprit"),
    [
        ([0, 1, 2, no_pickle()], False, "item 3"),
        ([(0,), (1,), (2,), (3, no_pickle())], True, "item 3, argument 2"),
        ([(0, 0), (1, 1), (2, 2), (no_pickle(), 3)], True, "item 3, argument 1"),
        ([(0,), (1,), 2, (3,)], True, "item 2"),
    ],
)
def test_an_item_that_cannot_be_sent_is_named(
    codec: Codec, items: list[Any], star: bool, culprit: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        codec.chunk(items, 1, 4, star)
    assert str(caught.value) == culprit
    assert isinstance(caught.value.__cause__, Exception)


@each_codec
def test_the_value_and_what_went_wrong_are_named(codec: Codec) -> None:
    with pytest.raises(EncodeError, match="the value") as caught:
        codec.value(no_pickle())
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(EncodeError, match="keyword"):
        codec.call((), {"\ud800": 1})
    with pytest.raises(TypeError, match="keywords must be strings"):
        codec.call((), {1: 1})
    for start, stop in ((-1, 1), (1, 1), (0, 3)):
        with pytest.raises(ValueError, match="start and stop"):
            codec.chunk([1, 2], start, stop, False)


@each_codec
def test_what_can_never_fit_is_refused_before_it_is_copied(codec: Codec) -> None:
    large = bytes(2**29)  # never touched, so it takes no memory
    for args in ((1, large), (1, [large]), (1, {"k": large})):
        with pytest.raises(EncodeError, match="argument 2") as caught:
            codec.call(args, {})
        assert "too large" in str(caught.value.__cause__)
    with pytest.raises(EncodeError, match="item 1"):
        codec.chunk([b"", large], 0, 2, False)


class Interrupting:
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


@each_codec
def test_an_interrupt_while_pickling_is_not_an_encode_error(codec: Codec) -> None:
    with pytest.raises(KeyboardInterrupt):
        codec.call((Interrupting(),), {})
    assert gc.isenabled()


# --- objects that change while they are encoded ---------------------------------------------------


class Meddler:
    """Changes other arguments when it is pickled."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action

    def __reduce__(self) -> Any:
        self.action()
        return (int, (7,))


def meddlers() -> Iterator[tuple[Any, Callable[[], object]]]:
    big = list(range(1000))
    yield big, big.clear
    grown = ["a"] * 10
    yield grown, lambda: grown.extend(["bb"] * 10_000)
    texts = [str(i) * 3 for i in range(1000)]
    yield texts, lambda: texts.__setitem__(slice(None), [b"x"] * 5)
    table = {str(i): [str(i)] for i in range(100)}
    yield table, table.clear
    spoiled = [1, 2, 3]
    yield spoiled, lambda: spoiled.append(Number(3))
    members = {str(i) for i in range(100)}
    yield members, lambda: members.update(map(str, range(10_000)))


@each_codec
def test_arguments_that_change_while_others_are_pickled_stay_whole(codec: Codec) -> None:
    for victim, action in meddlers():
        payload = codec.call((victim, Meddler(action), victim), {"k": victim})
        ((args, kwargs),) = calls(codec, _abi.KIND_CALL, payload)
        assert args[1] == 7
        for copy in (args[0], args[2], kwargs["k"]):
            assert type(copy) is type(victim)
        if codec.name == "native":
            assert args[0] == victim  # everything was planned again after the last pickle


@each_codec
def test_a_list_of_items_that_changes_while_it_is_encoded_stays_whole(codec: Codec) -> None:
    items: list[Any] = ["a" * 50 for _ in range(100)]
    items[50] = Meddler(lambda: items.clear())
    payload = codec.chunk(items, 0, 100, False)
    decoded = [args[0] for args, _ in calls(codec, _abi.KIND_CHUNK, payload)]
    assert decoded == ["a" * 50] * 50 + [7] + ["a" * 50] * 49

    rows: list[Any] = [[i, str(i)] for i in range(20)]

    def changing() -> Iterator[int]:
        rows.clear()
        yield from (1, 2)

    rows[10] = changing()
    payload = codec.chunk(rows, 0, 20, True)
    assert len(calls(codec, _abi.KIND_CHUNK, payload)) == 20


class Saboteur:
    """Garbage whose finalizer empties what is just being encoded."""

    def __init__(self, victim: list[Any]) -> None:
        self.victim = victim
        self.me = self

    def __del__(self) -> None:
        self.victim.clear()


@each_codec
def test_a_collection_cannot_change_what_is_being_encoded(codec: Codec) -> None:
    threshold = gc.get_threshold()
    try:
        for _ in range(50):
            victim: list[Any] = [{"s": {str(i), 2**70 + i}} for i in range(20)]
            Saboteur(victim)
            gc.set_threshold(1)
            payload = codec.value(victim)
            gc.set_threshold(*threshold)
            decoded = codec.decode(payload)
            assert all(len(entry["s"]) == 2 for entry in decoded)
    finally:
        gc.set_threshold(*threshold)
        gc.collect()
    assert gc.isenabled()
