"""Sizes of chunks, and how many of them are in flight, from the time that items take."""

from __future__ import annotations

import pytest

from aiomq._chunks import AHEAD, MAX_ITEMS, TARGET_NS, Pace, shrunk


def pace_of(item_ns: int) -> Pace:
    """What is known of items that take so long, when enough of them have run."""
    pace = Pace()
    for _ in range(10):
        pace.note(item_ns * pace.size, pace.size)
    return pace


def test_a_chunk_grows_to_its_time_step_by_step() -> None:
    pace = Pace()
    sizes = []
    while pace.size not in sizes:
        sizes.append(pace.size)
        pace.note(1000 * pace.size, pace.size)
    assert sizes == [1, 8, 64, 512, TARGET_NS // 1000]
    assert pace_of(3 * TARGET_NS).size == 1


@pytest.mark.parametrize(
    ("item_ns", "ahead"),
    [
        (5 * TARGET_NS, AHEAD),
        (TARGET_NS * 11 // 20, AHEAD),
        (1000, AHEAD),
        (122, 2 * AHEAD),
        (1, 16),
    ],
)
def test_workers_have_time_ahead_of_them(item_ns: int, ahead: int) -> None:
    pace = pace_of(item_ns)
    assert pace.ahead == ahead
    assert pace.size == max(1, min(MAX_ITEMS, TARGET_NS // item_ns))


def test_chunks_shrink_towards_the_end() -> None:
    sizes = []
    left = 10_000
    while left > 0:
        sizes.append(min(left, shrunk(400, left, 2)))
        left -= sizes[-1]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 400
    assert sizes[-1] <= 100, "a fourth: with less the last ones cost more than they balance"
    assert len([size for size in sizes if size < 400]) < 25
    assert shrunk(1, 1, 8) == 1
