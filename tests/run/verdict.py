"""What came of a run: the tests of its commands, second tries among them, and its last lines."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.run.jobs import NO_TESTS, SECOND_TRIES, Outcome, Stage, slug
from tests.run.results import Test, tests_of
from tests.run.times import Record

# More tests than these that pass at their second try only are red.
FLAKY = 2
# What pytest ends with when tests failed.
FAILED = 1
NAMES = 40
_PASSED = re.compile(r"\b(\d+) passed\b.* in [\d.]+s")


@dataclass
class Verdict:
    """The counts and names of a run's last lines. A command without tests of its own is counted when it fails."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    flaky: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Something ran, and nothing is red."""
        return self.passed > 0 and not self.failed and len(self.flaky) <= FLAKY

    def lines(self) -> list[str]:
        """The flaky ones, the failures, and the counts."""
        text = [f"FLAKY {name}" for name in self.flaky]
        if len(self.flaky) > FLAKY:
            text.append(f"more than {FLAKY} FLAKY are red")
        text += [f"FAILED {name}" for name in self.failed]
        if not self.passed and not self.failed:
            text.append("nothing ran")
        return [*text, f"{self.passed} passed, {len(self.failed)} failed"]


def may_try_again(outcome: Outcome, tests: Sequence[Test]) -> bool:
    """Whether what failed in a lab may have been the lab: no pytest that crashed or could not read its tests."""
    if not outcome.job.lab or outcome.rc in (0, None):
        return False
    failed = any(test.outcome == "failed" for test in tests)
    return (outcome.rc == FAILED and failed) if outcome.job.pytest else True


def judge(outcomes: Sequence[Outcome], records: Sequence[Record], flaky: Path) -> Verdict:
    """What is said of commands that ended or were stopped. flaky: where both outputs of second tries are written to."""
    verdict = Verdict()
    tests = _by_job(records)
    second = {outcome.job.name: outcome for outcome in outcomes if outcome.job.stage == SECOND_TRIES}
    for outcome in outcomes:
        if outcome.job.stage == SECOND_TRIES:
            continue
        ran = [test for test in tests.get(outcome.job.name, []) if test.ended]
        again = second.get(outcome.job.again().name)
        passed, failed = _counted(outcome, ran)
        if failed and again:
            ran_again = [test for test in tests.get(again.job.name, []) if test.ended]
            _keep(flaky, failed[0], outcome, ran, again, ran_again)
            # A test that was fine before and fails now is no better than one that fails twice.
            passed, failed_again = _counted(again, ran_again)
            if not failed_again:
                others = f" (and {len(failed) - 1} more of its file)" if len(failed) > 1 else ""
                verdict.flaky.append(f"{failed[0]}{others}")
            failed = failed_again
        verdict.passed += passed
        verdict.failed += failed
    return verdict


def interrupted(why: str, outcomes: Sequence[Outcome], stages: Sequence[Stage], records: Sequence[Record]) -> list[str]:
    """What is said of a run that ends before its end: what ran, what was running, what waited, and the longest ten.

    outcomes: with those that were stopped.
    """
    stage_of = {outcome.job.name: outcome.job.stage for outcome in outcomes}
    tests = tests_of(records)
    whole = [outcome for outcome in outcomes if not outcome.job.pytest]
    ran = Counter(stage_of.get(test.job, "") for test in tests if test.ended)
    ran.update(outcome.job.stage for outcome in whole if outcome.rc is not None)
    stopped = {outcome.job.name for outcome in outcomes if outcome.rc is None}
    now = time.time()
    running = [f"{test.name} ({now - test.began:.0f} s)" for test in tests if test.began and not test.ended]
    running += [f"{outcome.job.name} ({outcome.seconds:.0f} s)" for outcome in whole if outcome.rc is None]
    waiting = [test.name for test in tests if not test.began and test.job in stopped]
    waiting += [job.name for stage in stages for job in stage.jobs if job.name not in stage_of]
    took = [(test.seconds, test.name) for test in tests if test.ended]
    took += [(outcome.seconds, outcome.job.name) for outcome in whole if outcome.rc is not None]
    return [
        f"STOPPED: {why}",
        "  have run: " + (", ".join(f"{stage} {count}" for stage, count in ran.items()) or "none"),
        *_list("were running", running),
        *_list("were waiting", waiting),
        "  took longest:",
        *(f"    {seconds:7.1f} s  {name}" for seconds, name in sorted(took, reverse=True)[:10]),
    ]


def _by_job(records: Sequence[Record]) -> dict[str, list[Test]]:
    found: dict[str, list[Test]] = {}
    for test in tests_of(records):
        found.setdefault(test.job, []).append(test)
    return found


def _counted(outcome: Outcome, ran: Sequence[Test]) -> tuple[int, list[str]]:
    """How many tests of a command passed, and the names of what failed."""
    if not outcome.job.pytest:
        if outcome.rc != 0:
            return 0, [outcome.job.name]
        counts = _PASSED.findall(outcome.output.read_text(errors="replace")) if outcome.job.lab else []
        return (int(counts[-1]) if counts else int(bool(outcome.job.lab))), []
    passed = sum(test.outcome == "passed" for test in ran)
    failed = [test.name for test in ran if test.outcome == "failed"]
    allowed = (0, FAILED) if failed else (0, NO_TESTS)
    if outcome.rc not in allowed:
        failed.append(outcome.job.name)
    return passed, failed


def _keep(
    flaky: Path, name: str, first: Outcome, tests: Iterable[Test], second: Outcome, tests_again: Iterable[Test]
) -> None:
    """Both outputs of what was tried twice: what its tests printed, or all that a command said."""
    flaky.mkdir(parents=True, exist_ok=True)
    for number, outcome, ran in ((1, first, tests), (2, second, tests_again)):
        texts = [f"{test.name}: {test.outcome}, {test.seconds:.1f} s\n" + "\n".join(test.texts) for test in ran]
        said = "\n\n".join(texts) if texts else outcome.output.read_text(errors="replace")
        (flaky / f"{slug(name)}-{number}.txt").write_text(said + "\n")


def _list(what: str, names: Sequence[str]) -> list[str]:
    shown = [f"    {name}" for name in names[:NAMES]]
    more = [f"    and {len(names) - NAMES} more"] if len(names) > NAMES else []
    return [f"  {what}: {len(names)}", *shown, *more]
