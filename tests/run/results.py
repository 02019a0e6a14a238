"""A pytest plugin: writes down at once which tests there are, which began, and what came of them.

`python -m pytest -p tests.run.results`. A pytest that is killed leaves all that was known until then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.run.times import Record, record


def pytest_configure(config: pytest.Config) -> None:
    """Where pytest has workers, their head alone writes."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Writer(), "flotilla-results")


class Writer:
    """One line for each thing that happens."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The tests of a pytest without workers."""
        record("collected", tests=[item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """The tests of a pytest with workers: each worker has all."""
        record("collected", tests=list(ids))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        record("began", test=nodeid, start=time.time())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What came of a phase (setup, call, teardown; `???` of a worker that died), with all that was printed."""
        parts = [report.longreprtext, *(f"--- {name} ---\n{content}" for name, content in report.sections)]
        text = "\n".join(part for part in parts if part)
        outcome = {"phase": report.when, "outcome": report.outcome, "seconds": report.duration, "text": text}
        record("phase", test=report.nodeid, **outcome)


@dataclass
class Test:
    """What is known of a test. outcome: passed, failed, skipped, or empty while nothing of these is certain."""

    __test__ = False
    job: str
    name: str
    began: float = 0.0
    seconds: float = 0.0
    outcome: str = ""
    ended: bool = False
    texts: list[str] = field(default_factory=list)

    def add(self, phase: Record) -> None:
        """A phase that ended. A failure of any phase is the test's; it ends with its teardown, or with its worker."""
        self.ended = self.ended or phase["phase"] not in ("setup", "call")
        self.seconds += phase["seconds"]
        if phase["text"]:
            self.texts.append(f"=== {phase['phase']} ===\n{phase['text']}")
        if phase["outcome"] != "passed" or (phase["phase"] == "call" and not self.outcome):
            self.outcome = phase["outcome"]


def tests_of(records: Sequence[Record]) -> list[Test]:
    """The tests that were collected, in their order, job by job."""
    found: dict[tuple[str, str], Test] = {}
    for line in (line for line in records if line["kind"] == "collected"):
        for name in line["tests"]:
            found.setdefault((line["job"], name), Test(line["job"], name))
    for line in records:
        key = (line["job"], line.get("test", ""))
        if line["kind"] == "began":
            found.setdefault(key, Test(*key)).began = line["start"]
        if line["kind"] == "phase":
            found.setdefault(key, Test(*key)).add(line)
    return list(found.values())
