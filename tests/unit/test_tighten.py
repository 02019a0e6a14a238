"""What `flotilla_tighten` finds to change, and what it does to a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flotilla.tighten import account_changes, accounts, edited, homes, tightened

from tests.unit.controller import module

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
sync:x:4:65534:sync:/bin:/bin/sync
git:x:105:105::/srv/git:/bin/sh
deploy:x:1000:1000::/home/deploy:/bin/bash
remote:x:1001:1001::/srv/remote:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
SHADOW = """\
root:{root}:20000:0:99999:7:::
daemon:*:20000:0:99999:7:::
sync:*:20000:0:99999:7:::
git:!:20000:0:99999:7:::
deploy:{deploy}:20000:0:99999:7:::
remote:*:20000:0:99999:7:::
"""


def changes(root: str = "*", deploy: str = "*", keep: tuple[str, ...] = ("git",)) -> list[str]:
    found = accounts(PASSWD, SHADOW.format(root=root, deploy=deploy))
    return [" ".join(change.command) for change in account_changes(found, keep)]


@pytest.mark.parametrize(
    ("text", "line", "after"),
    [
        ("a 1\n# UMASK says\nUMASK\t022\nb 2\n", "UMASK 027", "a 1\n# UMASK says\nUMASK 027\nb 2\n"),
        ("UMASK 022\na 1\nUMASK 077\n", "UMASK 027", "UMASK 027\na 1\n"),
        ("a 1\n", "UMASK 027", "a 1\nUMASK 027\n"),
        ("a 1", "UMASK 027", "a 1\nUMASK 027\n"),
        ("UMASK 022\na 1\nUMASK 077\n", None, "a 1\n"),
        ("a 1\n", None, "a 1\n"),
    ],
)
def test_a_line_is_there_once_and_the_others_stay(text: str, line: str | None, after: str) -> None:
    assert edited(text, r"UMASK\s.*", line) == after
    assert edited(after, r"UMASK\s.*", line) == after


def test_a_line_can_keep_a_part_of_the_old_one_and_is_not_added() -> None:
    pattern, line = r"(auth\s.*pam_unix\.so.*) nullok(.*)", r"\1\2"
    assert (
        edited("auth\t[x=1]\tpam_unix.so nullok try\n", pattern, line, append=False) == "auth\t[x=1]\tpam_unix.so try\n"
    )
    assert edited("other\n", pattern, line, append=False) == "other\n"


@pytest.mark.parametrize(
    ("have", "most", "then"), [(0o755, 0o700, 0o700), (0o600, 0o644, 0o600), (0o4755, 0o4750, 0o4750)]
)
def test_permissions_are_taken_and_never_given(have: int, most: int, then: int) -> None:
    assert tightened(have, most) == then


def test_an_account_that_is_closed_is_left_alone() -> None:
    assert changes(root="*") == changes(root="!$y$j9T$hash") == []


def test_root_loses_its_password() -> None:
    assert changes(root="$y$j9T$hash") == ["usermod --password * root"]


def test_a_person_keeps_a_password_but_not_an_empty_one() -> None:
    assert changes(deploy="$y$j9T$hash") == []
    assert changes(deploy="") == ["usermod --password * deploy"]


def test_a_system_account_loses_its_shell_unless_it_is_named() -> None:
    assert changes(keep=()) == ["usermod --shell /usr/sbin/nologin git"]


def test_homes_are_those_of_people_below_home() -> None:
    assert homes(accounts(PASSWD, "")) == ["/home/deploy"]


class Run:
    """The module itself, by Ansible's ad-hoc command on this machine."""

    def __init__(self, arguments: dict[str, Any], *flags: str) -> None:
        process = module("flotilla_tighten", arguments, *flags)
        self.output = process.stdout + process.stderr
        assert process.returncode == 0, self.output


@pytest.fixture
def loose(tmp_path: Path) -> dict[str, Any]:
    """A file with two lines to change and a directory that is open to all, and the arguments that mend both."""
    (tmp_path / "login.defs").write_text("UMASK 022\nPASS_MAX_DAYS 99999\n")
    (tmp_path / "cron.d").mkdir()
    (tmp_path / "cron.d").chmod(0o755)
    return {
        "edits": [
            {"path": str(tmp_path / "login.defs"), "pattern": r"UMASK\s.*", "line": "UMASK 027"},
            {"path": str(tmp_path / "login.defs"), "pattern": r"PASS_MAX_DAYS\s.*", "line": "PASS_MAX_DAYS 60"},
            {"path": str(tmp_path / "missing"), "pattern": "x", "line": "x"},
        ],
        "modes": [{"path": str(tmp_path / "cron*"), "mode": "0700"}, {"path": str(tmp_path / "none"), "mode": "0600"}],
    }


def test_it_tightens_what_is_there_once(tmp_path: Path, loose: dict[str, Any]) -> None:
    first = Run(loose, "--diff")
    assert "CHANGED" in first.output
    assert "+UMASK 027" in first.output
    assert (tmp_path / "login.defs").read_text() == "UMASK 027\nPASS_MAX_DAYS 60\n"
    assert (tmp_path / "cron.d").stat().st_mode & 0o7777 == 0o700
    assert not (tmp_path / "missing").exists()
    assert "CHANGED" not in Run(loose).output


def test_check_mode_tightens_nothing(tmp_path: Path, loose: dict[str, Any]) -> None:
    assert "CHANGED" in Run(loose, "--check", "--diff").output
    assert (tmp_path / "login.defs").read_text().startswith("UMASK 022")
    assert (tmp_path / "cron.d").stat().st_mode & 0o7777 == 0o755
