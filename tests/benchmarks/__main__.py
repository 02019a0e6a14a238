"""Make the benchmarks and print each figure as one line, `name value`.

Exit status 1: a figure is above its target, or could not be measured.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.backup import BACKUP_OVER_BASEBACKUP, RESTORE_OVER_COPY
from tests.benchmarks.benchmark import Benchmark, Measured, Place
from tests.benchmarks.droplet import BenchmarkError
from tests.benchmarks.floor import DEPLOY_OVER_FLOOR, EIGHT_OVER_TWO, ROLLBACK_OVER_FLOOR, TASKS_PER_HOST
from tests.benchmarks.noop import NOOP_OVER_PING
from tests.benchmarks.provision import PROVISION_OVER_SCRIPT
from tests.benchmarks.record import FILE, entry, now, surroundings, write

ALL = (
    NOOP_OVER_PING,
    PROVISION_OVER_SCRIPT,
    DEPLOY_OVER_FLOOR,
    ROLLBACK_OVER_FLOOR,
    EIGHT_OVER_TWO,
    TASKS_PER_HOST,
    BACKUP_OVER_BASEBACKUP,
    RESTORE_OVER_COPY,
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in ALL}
# It takes a lab of thirteen droplets beside the others, and is made when it is named.
USUAL = [name for name in BENCHMARKS if name != EIGHT_OVER_TWO.name]
RUNS = 5


def measure(benchmark: Benchmark, place: Place, runs: int) -> list[Measured]:
    """Make the pairs of one benchmark, and say on standard error what they are while they come."""
    benchmark.prepare(place)
    pairs: list[Measured] = []
    for number in range(runs):
        pair = benchmark.measure(place, number)
        pairs.append(pair)
        say(f"{benchmark.name}: {pair} = {pair.ratio:.2f}")
    return pairs


def say(text: str) -> None:
    """Tell how it goes, apart from the figures."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="pairs of runs for each figure (%(default)s)")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="measure this figure; may be repeated")
    parser.add_argument("--output", type=Path, default=FILE, help="the JSON file (build/benchmarks.json)")
    parser.add_argument(
        "--lab",
        default="bench",
        help="what the labs that it makes for itself are called (%(default)s); e2e has the snapshots of the tests",
    )
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")

    places: dict[Callable[[str, int], Place], Place] = {}
    missed = False
    try:
        for name in options.only or USUAL:
            benchmark, began, load = BENCHMARKS[name], now(), os.getloadavg()[0]
            say(f"{name}: {options.runs} pairs of {benchmark.of} / {benchmark.over}")
            if benchmark.place not in places:
                places[benchmark.place] = benchmark.place(options.lab, options.runs)
            place = places[benchmark.place]
            result = entry(benchmark, measure(benchmark, place, options.runs), began, load)
            write(options.output, {name: result}, surroundings(place))
            print(f"{name} {result['value']:.2f}", flush=True)
            if result["value"] > benchmark.target:
                missed = True
                say(f"{name}: the target is at most {benchmark.target:g}")
    except (BenchmarkError, AssertionError) as error:
        say(str(error))
        return 1
    finally:
        if not options.keep:
            for place in places.values():
                place.remove()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
