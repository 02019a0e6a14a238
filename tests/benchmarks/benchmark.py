"""A benchmark: two things done in turn, several times, and how many times as long the one takes as the other."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.droplet import Droplet


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
class Pair:
    """Two runs, one right after the other. `of` is measured against `over`."""

    of: Cost
    over: Cost

    @property
    def ratio(self) -> float:
        """How many times as long `of` took as `over`."""
        return self.of.seconds / self.over.seconds


@dataclass(frozen=True)
class Benchmark:
    """A figure.

    name: in the output, `<of>_over_<over>`.
    of, over: what the runs of a pair are, in words, for the picture.
    target: the figure is at most this.
    prepare: brings the droplet to where the first pair can begin; not measured.
    measure: makes pair number n (from 0).
    """

    name: str
    of: str
    over: str
    target: float
    prepare: Callable[[Droplet], None]
    measure: Callable[[Droplet, int], Pair]


@dataclass(frozen=True)
class Figure:
    """The median of the ratios of some pairs, and how far they spread."""

    value: float
    least: float
    greatest: float


def figure(pairs: Sequence[Pair]) -> Figure:
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
