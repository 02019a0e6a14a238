"""Draw docs/benchmarks.svg from the file that `make bench` leaves: `python -m tests.benchmarks.picture`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.benchmarks.record import FILE, read
from tests.e2e.fleet import ROOT

PICTURE = ROOT / "docs/benchmarks.svg"
BAR, RUN, TARGET = "#9ec1e0", "#1f4e79", "#b03a2e"
INCHES_WIDE, INCHES_HIGH, INCHES_A_BAR = 8.0, 1.2, 0.9


def draw(benchmarks: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Return the picture: a bar for each median, a dot for each pair of runs, a line for each target."""
    picture = Figure(figsize=(INCHES_WIDE, INCHES_HIGH + INCHES_A_BAR * len(benchmarks)), layout="constrained")
    axes = picture.add_subplot()
    for row, (name, values) in enumerate(benchmarks.items()):
        bar(axes, row, name, values)
    axes.set_yticks(range(len(benchmarks)), [label(name, values) for name, values in benchmarks.items()])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("times as long: median (bar), each pair of runs (dots), at most (line)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(caption(next(iter(benchmarks.values()))), fontsize="small", loc="left")
    return picture


def bar(axes: Axes, row: int, name: str, values: Mapping[str, Any]) -> None:
    """Draw one benchmark into its row."""
    ratios = [run["ratio"] for run in values["runs"]]
    axes.barh(row, values["value"], height=0.5, color=BAR)
    axes.plot(ratios, [row] * len(ratios), "o", color=RUN, markersize=4)
    axes.plot([values["target"]] * 2, [row - 0.35, row + 0.35], color=TARGET, linewidth=2)
    axes.text(0.03, row, f"{values['value']:.2f}", va="center", fontweight="bold")


def label(name: str, values: Mapping[str, Any]) -> str:
    """Return what stands beside a bar."""
    runs = len(values["runs"])
    return f"{name} ({runs} pair{'s' if runs != 1 else ''})\n{values['of']}\n/ {values['over']}"


def caption(values: Mapping[str, Any]) -> str:
    """Return where and with what a figure was measured."""
    machine, versions = values["machine"], values["versions"]
    return (
        f"{machine['cores']} cores, {machine['memory_mb'] // 1024} GB, {machine['processor']}; "
        f"ansible-core {versions['ansible-core']}; {values['began'][:10]}"
    )


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.picture", description=__doc__)
    parser.add_argument("--input", type=Path, default=FILE, help="the JSON file (build/benchmarks.json)")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the picture (docs/benchmarks.svg)")
    options = parser.parse_args()
    if not options.input.exists():
        print(f"{options.input} does not exist. Next: make bench", file=sys.stderr)
        return 1
    # The same figures make the same file; text stays text.
    mpl.rcParams.update({"svg.hashsalt": "flotilla", "svg.fonttype": "none", "font.family": "sans-serif"})
    draw(read(options.input)["benchmarks"]).savefig(options.output, metadata={"Date": None})
    return 0


if __name__ == "__main__":
    sys.exit(main())
