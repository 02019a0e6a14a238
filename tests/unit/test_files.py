"""What `flotilla_files` makes of its arguments, and what it does to a directory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from flotilla.files import content_differs, difference, wanted

from tests.unit.controller import module


def entry(path: Path | str, content: str = "text\n", **more: Any) -> dict[str, Any]:
    me = {"owner": str(os.getuid()), "group": str(os.getgid()), "mode": "0640"}
    return {"path": str(path), "content": content, **me, **more}


def directory(path: Path | str) -> dict[str, Any]:
    return {"path": str(path), "owner": str(os.getuid()), "group": str(os.getgid()), "mode": "0750"}


def test_directories_come_first_and_secrets_before_the_files_that_are_validated_with_them() -> None:
    found = wanted([directory("/a")], [entry("/a/b")], [entry("/a/c")])
    assert [str(one.path) for one in found] == ["/a", "/a/c", "/a/b"]
    assert [one.secret for one in found] == [False, True, False]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"path": "relative"}, "relative is not an absolute path"),
        ({"mode": "u=rw"}, "the mode 'u=rw' is not octal digits"),
        ({"mode": ""}, "the mode '' is not octal digits"),
        ({"validate": "true"}, "validate has no %s"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        wanted([], [{**entry("/a/b"), **wrong}], [])


def test_a_path_is_given_once() -> None:
    with pytest.raises(ValueError, match="/a is given twice"):
        wanted([directory("/a")], [entry("/a")], [])


def test_only_another_content_differs(tmp_path: Path) -> None:
    (tmp_path / "same").write_text("text\n")
    (tmp_path / "other").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "same")
    found = wanted([directory(tmp_path)], [entry(tmp_path / name) for name in ("same", "other", "link", "new")], [])
    assert [one.path.name for one in found if content_differs(one)] == ["other", "link", "new"]


def test_what_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is to be a directory, and is something else"):
        content_differs(wanted([directory(tmp_path / "file")], [], [])[0])
    with pytest.raises(ValueError, match="is to be a file, and is a directory"):
        content_differs(wanted([], [entry(tmp_path)], [])[0])


def test_a_secret_is_in_no_difference(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    shown = difference(wanted([], [], [entry(tmp_path / "secret", "correct horse")])[0])
    assert "hunter2" not in str(shown)
    assert "correct horse" not in str(shown)
    assert shown["before"] != shown["after"]


class Run:
    """The module itself, by Ansible's ad-hoc command on this machine."""

    def __init__(self, arguments: dict[str, Any], *flags: str) -> None:
        self.process = module("flotilla_files", arguments, *flags)
        self.output = self.process.stdout + self.process.stderr


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_it_writes_what_differs_and_says_which(tmp_path: Path) -> None:
    arguments = {
        "directories": [directory(tmp_path / "made")],
        "files": [entry(tmp_path / "made" / "file", validate="test -s %s")],
        "secrets": [entry(tmp_path / "deep" / "below" / "secret", "hunter2", mode="0400")],
    }
    first = Run(arguments, "--diff", "-vvv")
    assert first.process.returncode == 0, first.output
    assert (tmp_path / "made" / "file").read_text() == "text\n"
    assert (tmp_path / "deep" / "below" / "secret").read_text() == "hunter2"
    assert [mode(tmp_path / name) for name in ("made", "made/file", "deep", "deep/below/secret")] == [
        *(0o750, 0o640, 0o755, 0o400),
    ]
    assert "+text" in first.output
    shown = first.output.replace(json.dumps(arguments), "")
    assert "hunter2" not in shown.split("changed:", 1)[-1]
    again = Run(arguments)
    assert "CHANGED" not in again.output
    assert '"changed_paths": []' in again.output


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("old")
    run = Run({"files": [entry(tmp_path / "there"), entry(tmp_path / "new" / "file")]}, "--check", "--diff")
    assert "CHANGED" in run.output
    assert (tmp_path / "there").read_text() == "old"
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_not_valid_stops_all_of_them(tmp_path: Path) -> None:
    run = Run({"files": [entry(tmp_path / "good"), entry(tmp_path / "bad", validate="grep -q impossible %s")]})
    assert run.process.returncode != 0
    assert f"{tmp_path}/bad would not be valid, so nothing was written" in run.output
    assert not (tmp_path / "good").exists()
    assert not (tmp_path / "bad").exists()


def test_another_mode_alone_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text\n")
    (tmp_path / "file").chmod(0o777)
    run = Run({"files": [entry(tmp_path / "file")]})
    assert "CHANGED" in run.output
    assert mode(tmp_path / "file") == 0o640
