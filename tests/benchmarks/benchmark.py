"""A benchmark: two things done in turn, several times, and how many times as long the one takes as the other."""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.e2e.fleet import Environment


@dataclass(frozen=True)
class Measured(ABC):
    """What one measurement gives."""

    @property
    @abstractmethod
    def ratio(self) -> float:
        """The figure of this measurement alone."""


class Place(Protocol):
    """What a benchmark works on, in a lab of its own."""

    @property
    def environment(self) -> Environment:
        """Whose versions are those of the figures."""

    def remove(self) -> None:
        """Remove it and its lab."""


@dataclass(frozen=True)
class Cost:
    """What one run took.

    seconds: wall time, of what the benchmark measures.
    cpu_seconds: CPU time of the controller's processes, user and system, to the end of the run. It moves much less
        than `seconds` when the machine is busy with other things.
    """

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Pair(Measured):
    """Two runs, one right after the other. `of` is measured against `over`."""

    of: Cost
    over: Cost

    @property
    def ratio(self) -> float:
        """How many times as long `of` took as `over`."""
        return self.of.seconds / self.over.seconds

    def __str__(self) -> str:
        return f"{self.of.seconds:.2f} s / {self.over.seconds:.2f} s"


@dataclass(frozen=True)
class Growth(Pair):
    """A pair whose runs were made on more hosts than those of `before`: how many times as much it grew as its floor.

    `of` and `before.of` are Flotilla's, `over` and `before.over` those of the floor.
    """

    before: Pair

    @property
    def ratio(self) -> float:
        """How many times as long as on fewer hosts, divided by the same of the floor."""
        return super().ratio / self.before.ratio

    def __str__(self) -> str:
        return f"({super().__str__()}) / ({self.before})"


@dataclass(frozen=True)
class Count(Measured):
    """So many, in one run."""

    number: int

    @property
    def ratio(self) -> float:
        """The number itself."""
        return float(self.number)

    def __str__(self) -> str:
        return str(self.number)


@dataclass(frozen=True)
class Benchmark:
    """A figure.

    name: in the output, `<of>_over_<over>`.
    of, over: what the runs of a pair are, in words, for the picture.
    target: the figure is at most this.
    place: what it works on, from the name of a lab and the number of pairs. Benchmarks with the same one share it.
    prepare: brings the place to where the first pair can begin; not measured.
    measure: makes pair number n (from 0), or counts.
    """

    name: str
    of: str
    over: str
    target: float
    place: Callable[[str, int], Place]
    prepare: Callable[[Any], None]
    measure: Callable[[Any, int], Measured]


@dataclass(frozen=True)
class Figure:
    """The median of the ratios of some pairs, and how far they spread."""

    value: float
    least: float
    greatest: float


def figure(pairs: Sequence[Measured]) -> Figure:
    """Return the median of the pairs' ratios: not the ratio of medians, so that a slow minute hits both sides.

    Raises:
        ValueError: there are no pairs.
    """
    if not pairs:
        raise ValueError("a figure needs at least one pair of runs")
    ratios = [pair.ratio for pair in pairs]
    return Figure(statistics.median(ratios), min(ratios), max(ratios))


def in_turn(number: int, of: Callable[[], Cost], over: Callable[[], Cost]) -> Pair:
    """Make both runs of pair `number`; every second pair begins with the other one."""
    if number % 2 == 0:
        first = of()
        return Pair(of=first, over=over())
    first = over()
    return Pair(of=of(), over=first)
