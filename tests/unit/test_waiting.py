"""How the tests of labs wait: until something is so, and until a deploy is in a phase."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.fleet import Environment
from tests.e2e.waiting import eventually, in_phase


class Here(Environment):
    """An environment whose host is this machine."""

    def ssh_command(self, command: str, *options: str) -> list[str]:
        return ["bash", "-c", command]


def test_the_first_answer_that_is_something_is_given() -> None:
    answers = iter(["", "", "there", "later"])
    assert eventually(lambda: next(answers), pause=0) == "there"


def test_what_does_not_come_is_told_with_what_was_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: a name comes; last seen: ''"):
        eventually(lambda: "", 0.05, "a name comes", pause=0.01)


def test_it_is_asked_once_more_when_the_time_is_over() -> None:
    """A machine that stood still meanwhile has not failed."""
    moments: list[float] = []

    def asked() -> bool:
        moments.append(time.monotonic())
        time.sleep(0.05)
        return len(moments) == 2

    assert eventually(asked, 0.01, pause=0)


def test_what_a_condition_raises_is_the_tests() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        eventually(lambda: subprocess.run(["false"], check=True))


def journal(directory: Path, phase: str) -> None:
    (directory / "new").write_text(json.dumps({"phase": phase}))
    (directory / "new").rename(directory / "state.json")


def test_a_phase_is_waited_for(tmp_path: Path) -> None:
    journal(tmp_path, "preparing")
    threading.Timer(0.3, journal, (tmp_path, "prepared")).start()
    in_phase(Here("none"), "prepared", app=f"..{tmp_path}", seconds=60)
    assert json.loads((tmp_path / "state.json").read_text())["phase"] == "prepared"


def test_a_phase_that_never_comes_is_told(tmp_path: Path) -> None:
    journal(tmp_path, "idle")
    with pytest.raises(AssertionError, match="staging-1: the journal was never prepared"):
        in_phase(Here("none"), "prepared", app=f"..{tmp_path}", seconds=0.2)
