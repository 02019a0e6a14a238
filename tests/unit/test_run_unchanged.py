"""A check that passed on exactly these files is not run again; any other is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.unchanged import main


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLOTILLA_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "checkout"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    (root / ".gitignore").write_text("runs\n")
    (root / "play.yml").write_text("one")
    return root


def runs(checkout: Path, code: int = 0, *more: str) -> int:
    """How often the check has run by now, after it was asked for once more."""
    script = f"open('runs', 'a').write('.'); raise SystemExit({code})"
    assert main([sys.executable, "-c", script, *more], checkout) == code
    log = checkout / "runs"
    return len(log.read_text()) if log.exists() else 0


def test_what_passed_is_not_run_again(checkout: Path) -> None:
    assert [runs(checkout), runs(checkout)] == [1, 1]


def test_what_failed_is_run_again(checkout: Path) -> None:
    assert [runs(checkout, 1), runs(checkout, 1)] == [1, 2]


def test_another_command_is_run(checkout: Path) -> None:
    assert [runs(checkout), runs(checkout, 0, "--strict")] == [1, 2]


@pytest.mark.parametrize("change", ["content", "mode", "new", "gone"])
def test_other_files_are_checked(checkout: Path, change: str) -> None:
    assert runs(checkout) == 1
    file = checkout / "play.yml"
    if change == "content":
        file.write_text("two")
    elif change == "mode":
        file.chmod(0o755)
    elif change == "new":
        (checkout / "other.yml").write_text("one")
    else:
        file.unlink()
    assert runs(checkout) == 2


def test_prose_is_not_what_it_reads(checkout: Path) -> None:
    assert runs(checkout) == 1
    (checkout / "README.md").write_text("two")
    assert runs(checkout) == 1


def test_files_that_change_meanwhile_did_not_pass(checkout: Path) -> None:
    change = "open('runs', 'a').write('.'); open('play.yml', 'a').write('more')"
    for _ in range(2):
        assert main([sys.executable, "-c", change], checkout) == 0
    assert len((checkout / "runs").read_text()) == 2
