"""plugins/scripts/flotilla_backup.py: what is in the repositories, what a backup came to, what was dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plugins.scripts import flotilla_backup
from plugins.scripts.flotilla_backup import BUSY, DISK_FULL, LOCKED, WRONG_KEY, BackupError

DROPPED = "2026-11-22T12:00:00Z 000000010000000000000007\n2026-11-22T13:00:00Z 000000010000000000000008\n"

UNWRITTEN = "unable to write '/repository/db-1/x.tmp': libssh2 error [-31]: sftp error [4] failure"
# As pgBackRest 2.55 leaves it for a segment that it could not send.
KEPT = f"""104
raised from local-1 protocol: archive-push command encountered error(s):
repo1: [FileWriteError] {UNWRITTEN}
    [CommandError] on retry at 630ms: archive-push command encountered error(s):
"""

DECRYPTED = f"what is in the repository cannot be decrypted: {WRONG_KEY}"


def backup(label: str, at: int, repository: int = 1) -> dict[str, Any]:
    return {
        "label": label,
        "type": "full",
        "database": {"id": 1, "repo-key": repository},
        "timestamp": {"start": at - 3, "stop": at},
        "info": {"size": 100, "repository": {"delta": 10}},
        "error": False,
    }


def info(*backups: dict[str, Any], code: int = 0) -> str:
    """As pgBackRest 2.55 prints it."""
    stanza = {
        "name": "main",
        "backup": list(backups),
        "archive": [{"database": {"repo-key": 1}, "min": "01", "max": "09"}],
        "repo": [{"key": 1, "cipher": "aes-256-cbc", "status": {"code": code, "message": "words"}}],
        "status": {"code": code, "lock": {"backup": {"held": True}}, "message": "words"},
    }
    return json.dumps([stanza])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "settings.json").write_text(json.dumps({"repositories": ["cache-1"], "queue_max_mb": 100}))
    (tmp_path / "spool").mkdir()
    return tmp_path


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, str]]:
    """What pgBackRest says to each command."""
    found = {"info": (0, info(backup("A", 100), backup("B", 200))), "backup": (0, "")}

    def pgbackrest(*arguments: str, seconds: float | None = None) -> tuple[int, str]:
        return next(found[one] for one in arguments if one in found)

    monkeypatch.setattr(flotilla_backup, "pgbackrest", pgbackrest)
    return found


def test_the_newest_and_the_oldest_of_each_repository_are_told() -> None:
    first, second = flotilla_backup.summary(info(backup("A", 100), backup("B", 200)), ["cache-1", "bucket b"])
    assert (first["newest"]["label"], first["oldest_at"], first["number"], first["archived"]) == ("B", 100, 2, "09")
    assert first["newest"] | {"label": ""} == {
        "label": "",
        "kind": "full",
        "at": 200,
        "seconds": 3,
        "bytes": 100,
        "added_bytes": 10,
    }
    assert (second["code"], second["newest"], second["number"]) == (1, None, 0)


@pytest.mark.parametrize("text", ["", "[]"])
def test_a_repository_without_anything_is_empty(text: str) -> None:
    assert flotilla_backup.summary(text, ["cache-1"])[0]["code"] == 1


@pytest.mark.parametrize(
    ("code", "outcome", "exit_code", "kept"),
    [(0, "done", 0, True), (LOCKED, "busy", BUSY, False), (32, "failed", 1, True)],
)
def test_what_came_of_a_backup_is_kept_unless_another_was_at_work(
    directory: Path,
    answers: dict[str, tuple[int, str]],
    capsys: pytest.CaptureFixture[str],
    code: int,
    outcome: str,
    exit_code: int,
    kept: bool,
) -> None:
    answers["backup"] = (code, "P00   INFO: hello\nP00  ERROR: [032]: no space\n")
    assert flotilla_backup.run("full", directory) == exit_code
    said = json.loads(capsys.readouterr().out)
    assert (said["outcome"], said["repositories"][0].get("error", "").endswith("no space")) == (outcome, code != 0)
    assert (directory / "last.json").exists() is kept
    if kept:
        assert (directory / "last.json").stat().st_mode & 0o777 == 0o600


def test_a_host_that_was_never_provisioned_says_so(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="provision"):
        flotilla_backup.run("full", tmp_path)


@pytest.mark.parametrize(
    ("before", "left"),
    [("2026-11-22T11:00:00Z", 2), ("2026-11-22T12:30:00Z", 1), ("2026-11-22T14:00:00Z", 0)],
)
def test_a_backup_makes_up_for_what_was_dropped_before_it(directory: Path, before: str, left: int) -> None:
    (directory / "spool/dropped").write_text(DROPPED)
    flotilla_backup.store(directory, "covered.json", {"at": before})
    assert len(flotilla_backup.dropped(directory)) == left
    # What the container writes is its own.
    assert (directory / "spool/dropped").read_text() == DROPPED


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("a\nP00  ERROR: [056]: no server\n  HINT: look\n", "P00  ERROR: [056]: no server HINT: look"),
        ("a\nb\n", "b"),
        ("", "pgBackRest said nothing"),
        ("P00  ERROR: [106]: clock skew?\nP00   INFO: backup command end: aborted\n", "P00  ERROR: [106]: clock skew?"),
        (f"P00  ERROR: [064]: {UNWRITTEN}\n", f"P00  ERROR: [064]: {UNWRITTEN} ({DISK_FULL})"),
        ("P00  ERROR: [029]: no file\n FormatError: key/value found outside of section: x]F\n", DECRYPTED),
    ],
)
def test_an_error_is_told_in_pgbackrests_words(output: str, words: str) -> None:
    assert flotilla_backup.last_words(output) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [(KEPT, f"[FileWriteError] {UNWRITTEN} ({DISK_FULL})"), ("25\nno such\nfile", "25 no such file"), (None, "")],
)
def test_why_a_segment_could_not_be_sent_is_told(directory: Path, text: str | None, words: str) -> None:
    out = directory / "spool/archive/main/out"
    out.mkdir(parents=True)
    if text is not None:
        (out / "000000010000000000000044.error").write_text(text)
    assert flotilla_backup.archive_error(directory, seconds=0) == words
