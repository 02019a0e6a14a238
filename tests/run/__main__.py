"""Run the tests: all, a stage, or what changed paths affect; the last lines are a table of seconds and the counts.

Exit status 0: something ran, and nothing is red.
"""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tests.run import labs, stages
from tests.run.affected import PathError, affected
from tests.run.jobs import ROOT, SECOND_TRIES, Pool, Stage, StoppedError
from tests.run.results import tests_of
from tests.run.table import render
from tests.run.times import processors, read, write
from tests.run.verdict import interrupted, judge, may_try_again

BUILD = ROOT / "build"


def carry_out(name: str, todo: Sequence[Stage], build: Path = BUILD, minutes: float = 0, since: float = 0) -> bool:
    """Run stages one after the other; say what came of them. Whether all is good.

    name: of the directory below build/times.  minutes: after which it stops; 0 is never.
    since: when the making of the virtual environment began, in seconds since the epoch; 0 when it was not made.
    """
    times = build / "times" / name
    shutil.rmtree(times, ignore_errors=True)
    shutil.rmtree(build / "flaky", ignore_errors=True)
    times.mkdir(parents=True)
    now = time.time()
    began = since or now
    if since:
        known = {"kind": "job", "job": "virtual environment", "stage": "venv", "timed": False, "cpu": None}
        write(times, {**known, "start": began, "end": now})
    pool = Pool(times, time.monotonic() + minutes * 60 - (now - began) if minutes else math.inf)
    before = labs.standing()
    story: list[str] = []
    good = True
    worked, passed = processors()
    with _signals_stop_it() as ignore_signals:
        try:
            for stage in todo:
                outcomes = pool.run(stage)
                if stage.needed and any(outcome.rc != 0 for outcome in outcomes):
                    later = [one.name for one in todo[todo.index(stage) + 1 :]]
                    story = [f"not run, since {stage.name} failed: {', '.join(later)}"] if later else []
                    break
            pool.run(_second_tries(pool))
            ignore_signals()
        except StoppedError as error:
            ignore_signals()
            pool.stop()
            good = False
            story = interrupted(str(error), pool.outcomes, todo, read(times))
        labs.remove(labs.left(pool.outcomes, before))
        worked, passed = (now - then for now, then in zip(processors(), (worked, passed), strict=True))
        write(times, {"kind": "processors", "job": "", "worked": worked, "passed": passed or 1.0})
        records = read(times)
        verdict = judge(pool.outcomes, records, build / "flaky")
        print("\n".join(["", *story, render(records), *verdict.lines()]), flush=True)
    return good and verdict.good


def _second_tries(pool: Pool) -> Stage:
    tests = tests_of(read(pool.times))
    again = [
        outcome.job.again()
        for outcome in pool.outcomes
        if may_try_again(outcome, [test for test in tests if test.job == outcome.job.name])
    ]
    return Stage(SECOND_TRIES, again)


@contextmanager
def _signals_stop_it() -> Iterator[Callable[[], None]]:
    """SIGINT and SIGTERM are a StoppedError in the block, until what it yields is called."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedError(f"it was told to end ({signal.Signals(number).name})")

    def ignore() -> None:
        # Not SIG_IGN: what is started from now on, to take labs down, would inherit that.
        for number in numbers:
            signal.signal(number, lambda *_: None)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield ignore
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.run", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    test = commands.add_parser("test", help="everything, or what changed paths affect")
    test.add_argument("--minutes", type=float, default=0, help="stop after so many minutes and say what ran")
    test.add_argument("--since", type=float, default=0, help="when the virtual environment's making began")
    test.add_argument("--paths", default="", help="changed files and directories, with spaces between them")
    for name in ("check", "units", "thorough"):
        commands.add_parser(name, help=f"the {name} alone")
    files = commands.add_parser("e2e", help="end-to-end tests: these files, or all")
    files.add_argument("files", nargs="*", type=Path)
    roles = commands.add_parser("molecule", help="scenarios of these roles, or of all")
    roles.add_argument("roles", nargs="*")
    roles.add_argument("--scenario-name", default="", help="the scenarios of this name (default: all)")
    roles.add_argument("--all", action="store_true", help="all scenarios, as without it")
    for command in commands.choices.values():
        command.add_argument("--collect", action="store_true", help="run nothing: say what would be run, one a line")
    table = commands.add_parser("table", help="the table of a run's records")
    table.add_argument("directory", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "table":
        print(render(read(given.directory)))
        return 0
    try:
        todo = _chosen(given)
    except PathError as error:
        print(error, file=sys.stderr)
        return 2
    if given.collect:
        print(*stages.names(todo), sep="\n")
        return 0
    options = {"minutes": given.minutes, "since": given.since} if given.command == "test" else {}
    return 0 if carry_out(given.command, todo, **options) else 1


def _chosen(given: argparse.Namespace) -> list[Stage]:
    if given.command == "check":
        return [stages.check()]
    if given.command == "units":
        return [stages.units()]
    if given.command == "e2e":
        for path in given.files:
            if not path.is_file():
                raise PathError(f"FILES: {path} does not exist")
        return [stages.e2e([path.resolve() for path in given.files] or None)]
    if given.command == "thorough":
        return stages.thorough()
    if given.command == "molecule":
        return [stages.molecule(given.roles, given.scenario_name)]
    if not given.paths.split():
        labs_of_all = stages.together(stages.e2e(), stages.smoke(), stages.molecule())
        return [stages.check(), stages.images(), labs_of_all]
    found = affected(given.paths.split())
    print("\n".join([f"Affected by {given.paths}:", *(f"  {line}" for line in found.lines())]), flush=True)
    labs_wanted = [
        stages.e2e(ROOT / f"tests/e2e/{stem}.py" for stem in found.e2e),
        *([stages.molecule(found.roles)] if found.roles else []),
    ]
    chosen = [stages.check(None if found.all_units else found.units)]
    return [*chosen, *([stages.images(), stages.together(*labs_wanted)] if found.e2e or found.roles else [])]


if __name__ == "__main__":
    sys.exit(main())
