"""The arithmetic of the benchmarks, and the file that they leave."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.benchmarks.benchmark import Benchmark, Cost, Count, Growth, Pair, figure, in_turn
from tests.benchmarks.droplet import Droplet
from tests.benchmarks.picture import draw
from tests.benchmarks.record import entry, read, write

BEGAN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SURROUNDINGS = {
    "machine": {"cores": 2, "memory_mb": 4096, "processor": "a processor", "kernel": "6.1"},
    "versions": {"ansible-core": "2.19.0"},
}


def cost(seconds: float) -> Cost:
    return Cost(seconds, cpu_seconds=0.5)


def pairs(*seconds: tuple[float, float]) -> list[Pair]:
    return [Pair(cost(of), cost(over)) for of, over in seconds]


def benchmark(name: str = "noop_over_ping") -> Benchmark:
    return Benchmark(
        name,
        "a deploy",
        "a ping",
        6.0,
        place=Droplet.named,
        prepare=lambda _: None,
        measure=lambda _, number: pairs((2.0, 1.0))[number],
    )


@pytest.mark.parametrize(
    ("measured", "value"),
    [
        (pairs((6, 2)), 3),
        # A busy minute doubles both sides of a pair: its ratio stays, while a ratio of medians would be 4 / 1.
        (pairs((2, 1), (4, 2), (2, 1), (4, 2), (4, 1)), 2),
        # An even number: the mean of the middle two.
        (pairs((2, 1), (3, 1)), 2.5),
        # One outlier moves nothing.
        (pairs((2, 1), (2, 1), (90, 1)), 2),
    ],
)
def test_a_figure_is_the_median_of_the_pairs_ratios(measured: Sequence[Pair], value: float) -> None:
    assert figure(measured).value == pytest.approx(value)


def test_a_figure_says_how_far_the_pairs_spread() -> None:
    spread = figure(pairs((2, 1), (3, 1), (10, 1)))
    assert (spread.least, spread.greatest) == (2, 10)


def test_growth_is_compared_with_the_growth_of_the_floor() -> None:
    # Three times as long on more hosts, while the floor takes twice as long.
    grown = Growth(cost(30), cost(8), before=Pair(cost(10), cost(4)))
    assert figure([grown]).value == pytest.approx(1.5)
    assert str(grown) == "(30.00 s / 8.00 s) / (10.00 s / 4.00 s)"


def test_a_count_is_its_own_figure() -> None:
    assert figure([Count(5), Count(6), Count(6)]).value == 6


def test_no_pairs_give_no_figure() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        figure([])


@pytest.mark.parametrize(("number", "order"), [(0, "of over"), (1, "over of"), (2, "of over")])
def test_pairs_begin_with_either_side_in_turn(number: int, order: str) -> None:
    made: list[str] = []

    def run(name: str, seconds: float) -> Callable[[], Cost]:
        def make() -> Cost:
            made.append(name)
            return cost(seconds)

        return make

    pair = in_turn(number, run("of", 6), run("over", 2))
    assert (" ".join(made), pair.ratio) == (order, 3)


def test_the_file_has_every_run(tmp_path: Path) -> None:
    file = tmp_path / "build/benchmarks.json"
    write(file, {"noop_over_ping": entry(benchmark(), pairs((6, 2), (8, 2)), BEGAN, load=0.25)}, SURROUNDINGS)
    written = read(file)["benchmarks"]["noop_over_ping"]
    assert (written["value"], written["least"], written["greatest"], written["load"]) == (3.5, 3, 4, 0.25)
    assert [(run["of"]["seconds"], run["over"]["seconds"], run["ratio"]) for run in written["runs"]] == [
        (6, 2, 3),
        (8, 2, 4),
    ]
    assert written["machine"] == SURROUNDINGS["machine"]


def test_a_later_run_leaves_the_other_figures(tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.json"
    for name, seconds in (("noop_over_ping", 2), ("provision_over_script", 4), ("noop_over_ping", 3)):
        write(file, {name: entry(benchmark(name), pairs((seconds, 1)), BEGAN, load=0)}, SURROUNDINGS)
    assert {name: values["value"] for name, values in read(file)["benchmarks"].items()} == {
        "noop_over_ping": 3,
        "provision_over_script": 4,
    }


def test_the_picture_names_every_figure(tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.json"
    for name in ("noop_over_ping", "provision_over_script"):
        write(file, {name: entry(benchmark(name), pairs((2, 1)), BEGAN, load=0)}, SURROUNDINGS)
    picture = draw(read(file)["benchmarks"])
    labels = [label.get_text() for label in picture.axes[0].get_yticklabels()]
    assert [label.splitlines()[0] for label in labels] == ["noop_over_ping (1 pair)", "provision_over_script (1 pair)"]
    picture.savefig(io.BytesIO(), format="svg")
