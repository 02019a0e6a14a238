"""flotilla.backups: where backups go, what pgBackRest is told, what status says of them."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from flotilla import backups
from flotilla.inventory import Sources

ROOT = Path(__file__).resolve().parents[2]
KEY = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00 " + bytes(range(32))
HOST_KEY = f"ssh-ed25519 {base64.b64encode(KEY).decode()} cache-1"
CACHE = {"name": "cache-1", "address": "10.0.0.31", "port": 2222, "host_key": HOST_KEY}
S3 = {"bucket": "b", "endpoint": "s3.example.com", "region": "eu", "key": "access", "secret": "s3cret"}
SETTINGS: dict[str, Any] = {
    "backup_key": "the key",
    "backup_name": "db-1",
    "backup_retention_days": 7,
    "backup_processes": 2,
    "backup_queue_max_mb": 0,
    "backup_hosts": [CACHE],
    "backup_s3": {},
}
NOW = 1_800_000_000.0
HOUR, DAY = 3600, 86_400
WAL = {
    "last_archived_at": NOW - 20,
    "last_archived": "000000010000000000000006",
    "failed": 0,
    "last_failed_at": None,
    "last_failed": None,
    "archive_mode": "on",
    "waiting": 0,
    "oldest_waiting_seconds": None,
    "pg_wal_bytes": 67_108_864,
}
REPOSITORY: dict[str, Any] = {
    "name": "cache-1",
    "code": 0,
    "message": "ok",
    "running": False,
    "number": 2,
    "oldest_at": NOW - 3 * DAY,
    "newest": {"label": "20270115-020000F", "kind": "full", "at": NOW - HOUR, "seconds": 61, "bytes": 1.2e9},
    "errors": 0,
}
SAID: dict[str, Any] = {
    "now": NOW,
    "repositories": [REPOSITORY],
    "queue_max_mb": 10_000,
    "wal": WAL,
    "dropped": [],
    "last": None,
    "drill": {"at": "2027-01-15T06:00:00Z", "outcome": "passed", "rpo_seconds": 30, "rto_seconds": 90, "detail": ""},
    "since": "2027-01-01T00:00:00Z",
    "errors": [],
}


def options(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


# -- where to -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "variables", "wrong"),
    [
        ([], {}, []),
        (["cache-1"], {"backup_key": "k"}, []),
        (["db-1", "cache-1"], {"backup_key": "k"}, []),
        (["db-1"], {"backup_key": "k"}, ["backup"]),
        (["db-1"], {"backup_key": "k", "backup_s3": S3}, []),
        ([], {"backup_key": "k", "backup_s3": S3}, []),
        (["cache-1"], {}, ["backup_key"]),
        ([], {"backup_s3": S3}, ["backup_key"]),
        (["cache-1"], {"backup_key": "k", "backup_full_calendar": ""}, ["backup_full_calendar"]),
    ],
)
def test_backups_have_a_key_and_a_place_of_their_own(
    tmp_path: Path, hosts: list[str], variables: dict[str, Any], wrong: list[str]
) -> None:
    found = list(backups.problems("db-1", variables, hosts, Sources((tmp_path,), tmp_path), "secrets.yml"))
    assert [problem.variable for problem in found] == wrong
    assert all(problem.where and problem.next for problem in found)


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ({"db-1": "{{ vault_s3 }}", "app-1": "{{ vault_s3 }}"}, ["backup_s3.key: is the same for `app-1` and `db-1`"]),
        ({"db-1": "{{ vault_s3_db }}", "app-1": "{{ vault_s3_app }}"}, []),
        ({"db-1": "{{ vault_s3[inventory_hostname] }}", "app-1": "{{ vault_s3[inventory_hostname] }}"}, []),
        ({"db-1": "{{ vault_s3 }}"}, []),
    ],
)
def test_each_host_has_a_key_of_its_own_for_object_storage(keys: dict[str, str], wrong: list[str]) -> None:
    buckets = {host: {**S3, "key": key} for host, key in keys.items()}
    found = [str(one) for one in backups.shared_keys(buckets, Sources((), Path("/")))]
    assert len(found) == len(wrong)
    assert all(words in text for words, text in zip(wrong, found, strict=True))


def test_a_host_key_is_compared_by_its_digest() -> None:
    assert backups.fingerprint(HOST_KEY) == hashlib.sha256(KEY).hexdigest()


@pytest.mark.parametrize("text", ["", "ssh-rsa AAAA x", "ssh-ed25519 not-base64 x"])
def test_another_host_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        backups.fingerprint(text)


# -- what pgBackRest is told --------------------------------------------------------------------------------------


def test_each_repository_is_encrypted_and_pinned() -> None:
    found = options(backups.configuration({**SETTINGS, "backup_s3": S3}, 50_000))
    assert (found["repo1-type"], found["repo2-type"]) == ("sftp", "s3")
    assert found["repo1-cipher-type"] == found["repo2-cipher-type"] == "aes-256-cbc"
    assert found["repo1-sftp-host-key-check-type"] == "fingerprint"
    assert found["repo1-sftp-host-fingerprint"] == hashlib.sha256(KEY).hexdigest()
    assert found["repo1-retention-full-type"] == "time"
    assert found["repo1-retention-full"] == found["repo2-retention-full"] == "7"
    assert found["archive-push-queue-max"] == "12500MB"


def test_secrets_are_in_a_file_of_their_own() -> None:
    settings = {**SETTINGS, "backup_s3": S3}
    public, secret = backups.configuration(settings, 50_000), options(backups.keys(settings))
    assert not any(text in public for text in ("the key", "access", "s3cret"))
    assert secret == {
        "repo1-cipher-pass": "the key",
        "repo2-cipher-pass": "the key",
        "repo2-s3-key": "access",
        "repo2-s3-key-secret": "s3cret",
    }


@pytest.mark.parametrize("key", ["", "two\nlines", "nul\rl"])
def test_a_key_that_the_file_cannot_hold_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="repo1-cipher-pass"):
        backups.keys({**SETTINGS, "backup_key": key})


@pytest.mark.parametrize(("declared", "disk", "wanted"), [(0, 50_000, 12_500), (0, 1000, 1024), (300, 50_000, 300)])
def test_a_quarter_of_the_disk_may_wait(declared: int, disk: int, wanted: int) -> None:
    assert backups.queue_max_mb({**SETTINGS, "backup_queue_max_mb": declared}, disk) == wanted


def test_the_roles_limits_are_those_of_status() -> None:
    defaults = yaml.safe_load((ROOT / "roles/backup/defaults/main.yml").read_text())
    assert backups.limits({}) == {name: defaults[f"backup_{name}"] for name in backups.LIMITS}


# -- what status says ---------------------------------------------------------------------------------------------


def told(limits: dict[str, int] | None = None, **changes: Any) -> list[str]:
    """What is wrong with a database that is well but for these changes."""
    limit = {**backups.limits({}), **(limits or {})}
    return [what for what, _ in backups.judge({**SAID, **changes}, limit)[1]]


def repository(**changes: Any) -> dict[str, Any]:
    return {"repositories": [{**REPOSITORY, **changes}]}


def wal(**changes: Any) -> dict[str, Any]:
    return {"wal": {**WAL, **changes}}


def test_what_is_well_is_shown_and_not_complained_about() -> None:
    lines, wrong = backups.judge(SAID, backups.limits({}))
    assert wrong == []
    assert lines[0].startswith("cache-1: full 20270115-020000F, 60 min ago, 1.2 GB in 61 s; 2 kept")
    assert lines[1] == "log: sent 20 s ago, 0 segments wait, 67 MB on the disk, 0 attempts failed"
    assert lines[2].startswith("drill: passed") and lines[2].endswith("RPO 30 s, RTO 90 s")


def test_what_waits_to_be_confirmed_is_shown_with_where_the_old_data_is() -> None:
    upgraded = {"from": "15", "to": "17", "volume": "postgres-data-before-b"}
    restored = {"target": "the latest state", "at": "2027-01-15T07:00:00Z", "volume": "postgres-data-before-a"}
    lines, wrong = backups.judge({**SAID, "restored": restored, "upgraded": upgraded}, backups.limits({}))
    assert wrong == []
    assert lines[-2:] == [
        "restored to the latest state, begun 2027-01-15T07:00:00Z, neither confirmed nor undone; "
        "postgres-data-before-a has what was there before",
        "upgraded from 15 to 17, neither confirmed nor undone; postgres-data-before-b has what was there before",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            repository(newest={**REPOSITORY["newest"], "at": NOW - 27 * HOUR}),
            "the newest backup in cache-1 is 27 h old",
        ),
        (repository(newest=None, number=0, oldest_at=None, code=2), "there is no backup in cache-1"),
        (repository(code=99, message="unable to connect"), "cache-1 is not well: unable to connect"),
        (repository(errors=1), "checksums are wrong"),
        (wal(archive_mode="off"), "archive_mode is off"),
        (wal(waiting=9, oldest_waiting_seconds=301), "9 segments of the log wait"),
        (wal(waiting=9, oldest_waiting_seconds=301, last_failed="05", last_failed_at=NOW - 5), "05 failed 5 s ago"),
        (wal(pg_wal_bytes=5_001_000_000), "pg_wal has 5001 MB, more than 5000; at 10000 MB what waits is dropped"),
        ({"dropped": ["2027-01-15T07:00:00Z 000000010000000000000007"]}, "DROPPED since 2027-01-15T07:00:00Z"),
        ({"drill": {**SAID["drill"], "outcome": "failed", "detail": "no marker"}}, "drill failed: no marker"),
        ({"drill": {**SAID["drill"], "at": "2027-01-01T00:00:00Z"}}, "more than 8 days"),
        ({"drill": None}, "there was no drill"),
        ({"errors": ["the database does not answer"]}, "the database does not answer"),
        (
            {
                "last": {
                    "kind": "diff",
                    "at": "x",
                    "repositories": [{"repository": "cache-1", "outcome": "failed", "error": "no space left"}],
                }
            },
            "failed in cache-1: no space left",
        ),
    ],
)
def test_what_is_wrong_is_told(changes: dict[str, Any], words: str) -> None:
    found = told(**changes)
    assert any(words in what for what in found), found


@pytest.mark.parametrize(
    ("limits", "changes"),
    [
        ({"max_age_hours": 28}, repository(newest={**REPOSITORY["newest"], "at": NOW - 27 * HOUR})),
        ({}, repository(newest=None, number=0, oldest_at=None, code=2, running=True)),
        ({"wal_max_age_seconds": 400}, wal(waiting=9, oldest_waiting_seconds=301)),
        ({"pg_wal_max_mb": 6000}, wal(pg_wal_bytes=5_001_000_000)),
        ({"drill_max_age_days": 0}, {"drill": None}),
        ({}, {"drill": None, "since": "2027-01-14T00:00:00Z"}),
        # Nothing was written since: nothing waits, however old what was sent last is.
        ({}, wal(last_archived_at=NOW - 3 * DAY)),
    ],
)
def test_what_is_within_the_limits_is_not(limits: dict[str, int], changes: dict[str, Any]) -> None:
    assert told(limits, **changes) == []


def test_a_host_that_says_nothing_is_a_problem() -> None:
    seen = {"db-1": {"said": None, "msg": "no such file"}}
    found = backups.report(seen, {"db-1": backups.limits({})}, " -i i", NOW)
    assert "its backups cannot be looked at: no such file" in found["problems"][0]
    assert "playbooks/provision.yml -i i" in found["problems"][0]


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (300, "db-1: its clock is 5 min ahead of this machine's"),
        (-300, "db-1: its clock is 5 min behind this machine's"),
        (60, ""),
    ],
)
def test_a_clock_that_is_off_is_told(ahead: int, words: str) -> None:
    found = backups.report({"db-1": {"said": SAID}}, {"db-1": backups.limits({})}, " -i i", NOW - ahead)["problems"]
    assert [one.startswith(words) for one in found] == ([True] if words else [])


def test_why_a_segment_waits_is_told() -> None:
    waits = wal(waiting=9, oldest_waiting_seconds=301, last_failed="05", last_failed_at=NOW - 5)
    assert any("05 failed 5 s ago: no room" in what for what in told(**waits, archive_error="no room"))


def test_a_backup_that_was_made_is_told_and_one_that_was_not_is_a_problem() -> None:
    made = {"label": "x", "kind": "full", "bytes": 2e6, "added_bytes": 1e6}
    results = [
        {"repository": "cache-1", "outcome": "done", "seconds": 3.4, "backup": made},
        {"repository": "bucket b", "outcome": "busy", "seconds": 0.1},
        {"repository": "bucket c", "outcome": "failed", "seconds": 0.1, "error": "denied"},
    ]
    found = backups.made({"repositories": results}, "db-1")
    assert found["lines"] == ["cache-1: x (full), 2 MB, 1 MB sent, 3 s"]
    assert ["another backup" in found["problems"][0], "denied" in found["problems"][1]] == [True, True]
