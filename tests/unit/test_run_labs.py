"""tests/run: which labs a run takes down at its end, and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run import labs
from tests.run.jobs import Job, Outcome


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(labs, "ROOT", tmp_path)
    monkeypatch.delenv("FLOTILLA_KEEP", raising=False)
    monkeypatch.delenv("FLOTILLA_LAB", raising=False)
    for name in ("e2e-fleet", "e2e-old", "smoke-bench", "mine", "flotilla"):
        (tmp_path / ".lab" / name).mkdir(parents=True)
    (tmp_path / ".lab/.e2e-lock").touch()
    return tmp_path


def ended(lab: str, rc: int | None) -> Outcome:
    return Outcome(Job(lab, "e2e", (), lab=lab), rc, 1.0, Path("log"))


OUTCOMES = [
    ended("e2e-fleet", None),
    ended("e2e-first", 1),
    ended("molecule-redis-default", 1),
    ended("molecule-x-y", 0),
]
BEFORE = {"e2e-fleet", "e2e-old", "mine"}


def test_what_a_run_left_is_known(checkout: Path) -> None:
    assert labs.left(OUTCOMES, BEFORE) == {"e2e-fleet", "molecule-redis-default", "smoke-bench"}


def test_what_a_developer_keeps_stays(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOTILLA_LAB", "smoke-bench")
    assert labs.left(OUTCOMES, BEFORE) == {"e2e-fleet", "molecule-redis-default"}
    monkeypatch.setenv("FLOTILLA_KEEP", "1")
    assert labs.left(OUTCOMES, BEFORE) == {"molecule-redis-default"}


def test_each_is_taken_down_and_told(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = checkout / "ansible-playbook"
    program.write_text('#!/bin/sh\necho "$@"\ncase "$*" in *bad*) exit 2 ;; *slow*) sleep 600 ;; esac\n')
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(checkout / "python"))
    monkeypatch.setattr(labs, "SECONDS", 0.5)
    labs.remove(["good", "bad", "slow"])
    arguments = "playbooks/lab.yml -e lab_state=absent -e lab_name="
    assert capsys.readouterr().out.splitlines() == [
        "could not remove the lab bad:",
        f"{arguments}bad",
        "",
        "removed the lab good",
        "could not remove the lab slow:",
        f"{arguments}slow",
        "",
    ]
