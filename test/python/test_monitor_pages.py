"""The demo's page reader against prometheus_client's on the same pages."""

from __future__ import annotations

import math
import random
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from monitor import columns  # noqa: E402
from monitor.columns import PageReader  # noqa: E402
from monitor.exposition import COUNTER, GAUGE, OTHER, PageError  # noqa: E402
from monitor.fleet_process import Fleet  # noqa: E402


def by_prometheus(page: bytes) -> list[tuple[str, float]]:
    """Series and values as the reference parser reads them, in the monitor's notation."""
    rows = []
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            pairs = [f"{name}={quoted(value)}" for name, value in sample.labels.items()]
            labels = f"{{{','.join(pairs)}}}" if pairs else ""
            rows.append((sample.name + labels, float(sample.value)))
    return rows


def quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def agree(reader: PageReader, page: bytes) -> None:
    layout, values = reader.read(page)
    expected = by_prometheus(page)
    assert list(layout.series) == [series for series, _ in expected]
    for series, value, wanted in zip(
        layout.series, values.tolist(), [value for _, value in expected], strict=True
    ):
        same = value == wanted or (math.isnan(value) and math.isnan(wanted))
        assert same, f"{series}: {value!r} is not {wanted!r}"


@pytest.fixture
def no_full_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, a page whose layout is not known is an error."""

    def forbid(page: bytes) -> None:
        raise AssertionError("read line by line")

    return lambda: monkeypatch.setattr(columns, "read_layout", forbid)


def test_pages_of_the_fleet_read_as_prometheus_reads_them() -> None:
    reader = PageReader()
    skipped = 0
    with Fleet(hosts=24, sweeps=3, seed=5) as fleet:
        for host in range(24):
            for sweep in (0, 2):
                url = f"{fleet.url}/host/{host}/metrics?sweep={sweep}"
                try:
                    with urllib.request.urlopen(url) as answer:
                        agree(reader, answer.read())
                except OSError:  # a host that fails or is silent
                    skipped += 1
    assert skipped < 10


FULL = rb"""
# HELP http_requests_total The total number of "HTTP" requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000
  # an indented comment

# Escapes, and blanks wherever they may stand:
# TYPE disk gauge
disk{path="C:\\DIR\\FILE.TXT",error="Cannot find \"FILE.TXT\"\nAt all, { or } =1 2"} 1.458255915e9
disk{ path = "a" , error = "b 7" , } 12.47
	disk{path="tab"}	-17.5
disk{path="inf"} +Inf
disk{path="-inf"} -Inf
disk{path="nan"} NaN
# TYPE request_seconds histogram
request_seconds_bucket{le="0.05"} 24054
request_seconds_bucket{le="+Inf"} 144320
request_seconds_sum 53423
request_seconds_count 144320
something_weird -3.98e+07
no_labels_but_braces{} .5
exact_limit 9007199254740991
beyond_exact 9007199254740993
sixteen_digits 1234567890.12345
long_fraction 0.1000000000000000055511151231257827
last_line_without_end 00012"""


def test_everything_the_format_allows_reads_as_prometheus_reads_it() -> None:
    reader = PageReader()
    for page in (FULL, FULL + b"\n", FULL):
        agree(reader, page)
    layout, _ = reader.read(FULL)
    kinds = dict(zip(layout.series, layout.kind.tolist(), strict=True))
    assert kinds['http_requests_total{method="post",code="200"}'] == COUNTER
    assert kinds['request_seconds_bucket{le="0.05"}'] == COUNTER
    assert kinds["request_seconds_sum"] == OTHER
    assert kinds['disk{path="nan"}'] == GAUGE
    assert kinds["something_weird"] == OTHER


def random_value(dice: random.Random) -> str:
    number = dice.choice((0.0, 1.0, -1.0)) * dice.random() * 10 ** dice.randint(-8, 17)
    return dice.choice(
        (
            str(int(number)),
            repr(number),
            f"{number:.{dice.randint(0, 6)}f}",
            f"{number:e}",
            f"{abs(int(number)):>{dice.randint(1, 22)}}",
            f"{int(number)} {dice.randint(1, 10**12)}",
            dice.choice(("NaN", "+Inf", "-Inf", "0", "5.", ".5", "+3")),
        )
    )


def random_page(dice: random.Random, series: list[str]) -> bytes:
    return "".join(f"{name} {random_value(dice)}\n" for name in series).encode()


@pytest.mark.parametrize("seed", range(8))
def test_values_that_move_and_change_form_read_the_same_without_a_full_reading(
    seed: int, no_full_reading: Callable[[], None]
) -> None:
    dice = random.Random(seed)
    series = [
        f'metric_{dice.randint(0, 10 ** dice.randint(1, 9))}_{i}{{a="{i}"}}' for i in range(60)
    ]
    reader = PageReader()
    agree(reader, random_page(dice, series))
    no_full_reading()
    for _ in range(25):
        agree(reader, random_page(dice, series))


def test_plain_decimals_of_one_width_read_the_same_bit_for_bit(
    no_full_reading: Callable[[], None],
) -> None:
    dice = random.Random(7)
    decimals = [dice.randint(0, 9) for _ in range(300)]
    reader = PageReader()
    for turn in range(40):
        lines = []
        for row, places in enumerate(decimals):
            shown = places if dice.random() < 0.95 else dice.randint(0, 9)
            number = dice.random() * 10 ** dice.randint(0, 15 - shown)
            lines.append(f"m{row} {number:>16.{shown}f}\n")
        agree(reader, "".join(lines).encode())
        if turn == 0:
            no_full_reading()


def test_a_changed_name_of_the_same_length_is_a_new_layout() -> None:
    reader = PageReader()
    first, _ = reader.read(b'a{disk="sda"} 1\nb{disk="sda"} 2\n')
    second, values = reader.read(b'a{disk="sdb"} 3\nb{disk="sda"} 4\n')
    assert second.series == ('a{disk="sdb"}', 'b{disk="sda"}')
    assert values.tolist() == [3, 4]
    assert first.fingerprint != second.fingerprint
    again, values = reader.read(b'a{disk="sda"} 5\nb{disk="sda"} 6\n')
    assert again.series == first.series
    assert values.tolist() == [5, 6]


@pytest.mark.parametrize(
    "page",
    [
        b"a 1\nb 2\nc 3\n",  # a line more
        b"b 2\n",  # a line less
        b"a2 5\nb 2\n",  # a longer name that begins alike
        b"b 2\na 1\n",  # another order
        b"a 1\n# b\n",  # a sample that became a comment
        b"a 1\n\nb 2\n",
        b"# TYPE a gauge\na 1\nb 2\n",
    ],
)
def test_a_page_of_another_layout_is_never_read_by_an_old_one(page: bytes) -> None:
    reader = PageReader()
    reader.read(b"a 1\nb 2\n")
    agree(reader, page)


def test_a_line_break_where_a_value_was_is_a_new_layout() -> None:
    reader = PageReader()
    reader.read(b"a 1234567\nb 2\n")
    agree(reader, b"a 12\nc 45\nb 2\n")


@pytest.mark.parametrize(
    "page",
    [
        b"a\n",
        b"a \n",
        b"a one\n",
        b"a 1 2 3\n",
        b"a 1 soon\n",
        b"a 1_000\n",
        b"1a 1\n",
        b'a{b="c} 1\n',
        b"a{b=c} 1\n",
        b'a{b="c"; d="e"} 1\n',
        b"a 1\na 2\n",
        b"<html>\n",
        b'a{b="\xff"} 1\n',
    ],
)
def test_what_is_not_in_the_format_is_an_error_on_first_sight_and_later(page: bytes) -> None:
    reader = PageReader()
    with pytest.raises(PageError):
        reader.read(page)
    reader.read(b"a 1\n")
    with pytest.raises(PageError):
        reader.read(page)
