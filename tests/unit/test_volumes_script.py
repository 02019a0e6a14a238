"""plugins/scripts/flotilla_volumes.py: what restic's words mean, which snapshot comes back, what is moved where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plugins.scripts import flotilla_volumes
from plugins.scripts.flotilla_volumes import VolumeError, chosen, exchange, explain, missing, snapshots_of, unread

# As restic 0.14 and 0.18 print them.
LISTING = json.dumps(
    [
        {"time": "2026-11-22T14:00:00.975080988Z", "tags": ["volume=a"], "id": "2" * 64, "hostname": "h"},
        {"time": "2026-11-22T13:00:00.5+00:00", "tags": ["volume=a"], "id": "1" * 64, "hostname": "h"},
        {"time": "2026-11-22T15:00:00Z", "tags": ["volume=b"], "id": "3" * 64, "hostname": "h"},
        {"time": "2026-11-22T15:00:00Z", "tags": None, "id": "4" * 64, "hostname": "h"},
    ]
)
THERE = snapshots_of(LISTING)
WRONG_KEY = "Fatal: wrong password or no key found"
NOT_THERE = (
    "Fatal: repository does not exist: unable to open config file: Lstat: file does not exist\n"
    "Is there a repository at the following location?\nsftp:cache-1:/volumes/x"
)
DOWN = (
    "subprocess ssh: ssh: connect to host 10.0.0.31 port 2222: Connection refused\n"
    "Fatal: unable to open repository at sftp:cache-1:/volumes/x: unable to start the sftp session, error: EOF\n"
    "Is there a repository at the following location?\nsftp:cache-1:/volumes/x"
)


def test_snapshots_are_in_the_order_of_their_time() -> None:
    assert [(one["id"], one["volume"]) for one in THERE] == [
        ("11111111", "a"),
        ("22222222", "a"),
        ("33333333", "b"),
        ("44444444", ""),
    ]


@pytest.mark.parametrize("listing", ["", "null", "[]"])
def test_an_empty_repository_has_none(listing: str) -> None:
    assert snapshots_of(listing) == []


@pytest.mark.parametrize(
    ("to", "what", "expected"),
    [
        ("latest", "", "22222222"),
        ("time", "2026-11-22T13:30:00+00:00", "11111111"),
        ("time", "2026-11-22T15:30:00+01:00", "22222222"),
        ("backup", "", "22222222"),
        ("backup", "11111111", "11111111"),
        ("backup", "1" * 64, "11111111"),
    ],
)
def test_the_snapshot_of_a_target(to: str, what: str, expected: str) -> None:
    assert chosen(THERE, "a", to, what)["id"] == expected


@pytest.mark.parametrize(
    ("volume", "to", "what", "said"),
    [
        ("c", "latest", "", "there is no snapshot of the volume c"),
        ("a", "time", "2026-11-22T12:00:00Z", "no snapshot of a is as old as"),
        ("a", "backup", "33333333", "there is no snapshot 33333333 of a. There are: 11111111"),
    ],
)
def test_what_is_not_there_is_told(volume: str, to: str, what: str, said: str) -> None:
    with pytest.raises(VolumeError, match=said):
        chosen(THERE, volume, to, what)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WRONG_KEY, "backup_volumes_key (vault_backup_volumes_key) is not the one"),
        (DOWN, "the repository cache-1 cannot be reached"),
        ("ciphertext verification failed", "the repository cache-1 is damaged"),
        ("Fatal: repository contains errors", "the repository cache-1 is damaged"),
        (
            '{"message_type":"exit_error","code":1,"message":"Fatal: load(<data/ab>): invalid data returned"}',
            "is damaged",
        ),
        ("Fatal: something else", "cache-1: Fatal: something else"),
        ("", "restic said nothing"),
    ],
)
def test_resticks_words_are_explained(text: str, said: str) -> None:
    assert said in explain(text, "cache-1")


@pytest.mark.parametrize(("text", "expected"), [(NOT_THERE, True), (DOWN, False), (WRONG_KEY, False)])
def test_a_repository_is_made_only_where_there_is_none(text: str, expected: bool) -> None:
    assert missing(text) is expected


def test_files_that_are_gone_are_not_missed() -> None:
    gone = '{"message_type":"error","error":{"message":"lstat /x: no such file or directory"},"item":"/x"}'
    denied = '{"message_type":"error","error":{"message":"open /y: input/output error"},"item":"/y"}'
    end = "Warning: at least one source file could not be read"
    assert unread(f"{gone}\n{end}") == []
    assert unread(f"{gone}\n{denied}\n{end}") == [denied]


def test_the_data_of_a_volume_is_moved_with_its_owner_and_mode(tmp_path: Path) -> None:
    source, target = tmp_path / "volume", tmp_path / "before"
    (source / "_data/d").mkdir(parents=True)
    (source / "_data").chmod(0o750)
    (target / "_data").mkdir(parents=True)
    exchange(source, target)
    assert (target / "_data/d").is_dir()
    assert (target / "_data").stat().st_mode & 0o777 == 0o750
    assert not (source / "_data").exists()


def test_two_at_once_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(flotilla_volumes, "LOCK", tmp_path / "lock")
    with (
        flotilla_volumes.alone(),
        pytest.raises(flotilla_volumes.BusyError, match="one at a time"),
        flotilla_volumes.alone(),
    ):
        pass


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host with nothing but settings."""
    monkeypatch.setattr(flotilla_volumes, "HOME", tmp_path)
    monkeypatch.setattr(flotilla_volumes, "LOCK", tmp_path / "lock")
    settings: dict[str, Any] = {"name": "h", "retention_days": 1, "volumes": [], "repositories": []}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    return tmp_path


def test_a_drill_that_cannot_run_has_failed(home: Path) -> None:
    with flotilla_volumes.alone():
        flotilla_volumes.drill()
    found = json.loads((home / "drill.json").read_text())
    assert found["outcome"] == "failed"
    assert "one at a time" in found["detail"]


def test_a_drill_that_is_cut_short_has_failed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(flotilla_volumes, "drilled", killed)
    with pytest.raises(KeyboardInterrupt):
        flotilla_volumes.drill()
    assert flotilla_volumes.status()["drill"]["detail"] == "the drill was cut short"
    assert (home / "drill.running").exists()


def test_a_drill_in_hand_has_not_failed_yet(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def looked_at(_: object) -> dict[str, Any]:
        seen.append(flotilla_volumes.status()["drill"])
        return {"outcome": "passed", "detail": ""}

    monkeypatch.setattr(flotilla_volumes, "drilled", looked_at)
    flotilla_volumes.drill()
    assert seen == [None]
    assert flotilla_volumes.status()["drill"]["outcome"] == "passed"
    assert not (home / "drill.running").exists()


@pytest.mark.usefixtures("home")
def test_a_volume_that_is_not_declared_is_told() -> None:
    with pytest.raises(VolumeError, match=r"uploads is not backed up on this host \(declared: none\)"):
        flotilla_volumes.run("uploads")
