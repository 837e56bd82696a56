"""What a check is, what it sees, and how the files in a checks folder become checks.

A check is a function with `@check` above it, in any file of the folder. It is called once for each
shard in each sweep with all its samples, in columns, and returns a column of booleans: true where
something is wrong. `@host_check` is the same for hosts instead of samples. The function's name is
the check's name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Column = NDArray[np.float64]


@dataclass(frozen=True)
class Baseline:
    """What is normal for each sample: of a counter its rate, of a gauge its value.

    Sweeps in which a check found something wrong with a sample do not count, so an anomaly that
    lasts does not become normal.
    """

    mean: Column
    deviation: Column  # standard deviation
    sweeps: Column  # how many it rests on, at most 32


@dataclass(frozen=True)
class Samples:
    """One sweep of a shard; row i of every column is the same sample."""

    sweep: int
    value: Column
    previous: Column  # the last value to be believed; NaN if there was none
    rate: Column  # change since then, per sweep; NaN if there was none
    baseline: Baseline
    is_counter: Mask
    is_gauge: Mask
    low: Column  # what the value can be at all, by its unit
    high: Column

    @property
    def believable(self) -> Mask:
        """A number, and one that the unit allows."""
        return np.isfinite(self.value) & (self.value >= self.low) & (self.value <= self.high)


@dataclass(frozen=True)
class Hosts:
    """The hosts of a shard in one sweep."""

    sweep: int
    silent_for: NDArray[np.int64]  # sweeps without any answer, this one included


View = TypeVar("View", Samples, Hosts)


@dataclass(frozen=True)
class Check(Generic[View]):
    """A named function from what it sees to what is wrong."""

    name: str
    function: Callable[[View], Mask]

    def run(self, view: View, rows: int) -> Mask:
        """Raises what the function raises, and TypeError if it returns anything but a mask."""
        with np.errstate(all="ignore"):  # a comparison with NaN is false, which is what is meant
            mask = np.asarray(self.function(view))
        if mask.dtype != np.bool_ or mask.shape != (rows,):
            raise TypeError(f"returned {mask.dtype}{mask.shape}, not bool({rows},)")
        return mask


class SampleCheck(Check[Samples]):
    pass


class HostCheck(Check[Hosts]):
    pass


def check(function: Callable[[Samples], Mask]) -> SampleCheck:
    return SampleCheck(function.__name__, function)


def host_check(function: Callable[[Hosts], Mask]) -> HostCheck:
    return HostCheck(function.__name__, function)


@dataclass(frozen=True)
class Checks:
    samples: tuple[SampleCheck, ...]
    hosts: tuple[HostCheck, ...]

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.samples] + [one.name for one in self.hosts]


OWN_FOLDER = Path(__file__).parent / "checks"


@cache
def load_checks(folders: tuple[Path, ...] = (OWN_FOLDER,)) -> Checks:
    """Every check in the folders' files. Raises what a file raises, ValueError for a name twice."""
    found: list[object] = []
    for folder in folders:
        for path in sorted(folder.glob("*.py")):
            spec = importlib.util.spec_from_file_location(f"monitor_check_{path.stem}", path)
            assert spec
            assert spec.loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            found.extend(vars(module).values())
    checks = Checks(
        tuple(one for one in found if isinstance(one, SampleCheck)),
        tuple(one for one in found if isinstance(one, HostCheck)),
    )
    if len(set(checks.names)) != len(checks.names):
        raise ValueError(f"two checks of one name: {sorted(checks.names)}")
    return checks
