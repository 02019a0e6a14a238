"""The account of the last run, on the controller."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from flotilla import account


def write(file: Path, token: str, app: str = "notes") -> None:
    account.write(file, {"token": token}, app, {"outcome": "deployed"})


def test_a_run_adds_its_apps_and_replaces_the_run_before(tmp_path: Path) -> None:
    file = account.path(account.directory(tmp_path, "staging", {}))
    write(file, "a")
    write(file, "b", "notes")
    write(file, "b", "blog")
    assert json.loads(file.read_text())["run"] == {"token": "b"}
    assert sorted(json.loads(file.read_text())["apps"]) == ["blog", "notes"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_control_node_may_keep_it_outside_its_checkout(tmp_path: Path) -> None:
    inside = account.directory(tmp_path, "staging", {"FLOTILLA_HOME": ""})
    outside = account.directory(tmp_path, "staging", {"FLOTILLA_HOME": "~/kept"})
    assert (inside, outside) == (tmp_path / ".flotilla/staging", Path.home() / "kept/staging")


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for there in ("", str(tmp_path), str(tmp_path / "not/yet")):
        assert account.trouble({"FLOTILLA_HOME": there}) == []
    assert not (tmp_path / "not").exists()
    (problem,) = account.trouble({"FLOTILLA_HOME": f"{file}/kept"})
    assert str(problem) == (
        f"the shell: FLOTILLA_HOME: is `{file}/kept`, and {file} is no directory. "
        "Next: name another directory, or: unset FLOTILLA_HOME"
    )


def test_runs_that_end_at_once_leave_a_whole_account(tmp_path: Path) -> None:
    file = account.path(account.directory(tmp_path, "staging", {}))
    with ProcessPoolExecutor(8) as pool:
        for task in [pool.submit(write, file, f"run-{number}") for number in range(200)]:
            task.result()
    assert json.loads(file.read_text())["apps"] == {"notes": {"outcome": "deployed"}}
    assert [one.name for one in file.parent.iterdir()] == ["last.json"]
