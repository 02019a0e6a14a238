"""plugins/scripts/postgres_restore.py: from which backup, what a throw-away instance may do, what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from plugins.scripts import postgres_restore
from plugins.scripts.postgres_restore import (
    DRILL,
    REMOVALS,
    Backup,
    RestoreError,
    Target,
    backups_of,
    beside,
    chosen,
    difference,
    drill_ended,
    explain,
    gap,
    last_archived,
    last_lines,
    moment_of,
    present_system,
    remove,
    restore_arguments,
    stanza_trouble,
)

BACKUPS = [
    Backup("20261120-100000F", 1_795_168_800.0, 1_795_168_900.0, 1),  # ends 2026-11-20 10:01:40
    Backup("20261121-100000F", 1_795_255_200.0, 1_795_255_300.0, 1),
    Backup("20261122-100000F", 1_795_341_600.0, 1_795_341_700.0, 1),
]
POINT = "flotilla-20261121T120000Z-1.1.0"
STACK: dict[str, Any] = {
    "name": "postgres",
    "services": {
        "postgres": {
            "image": "flotilla/postgres:1",
            "container_name": "postgres",
            "user": "999:999",
            "ports": [{"target": 5432, "published": "5432"}],
            "restart": "unless-stopped",
            "networks": {"default": None},
            "deploy": {"resources": {"limits": {"memory": "4294967296"}}},
            "tmpfs": ["/tmp"],
            "secrets": [{"source": "superuser_password"}],
            "volumes": [
                {"type": "volume", "source": "data", "target": "/var/lib/postgresql/data"},
                {"type": "bind", "source": "/opt/flotilla/postgres/config", "target": "/etc/p", "read_only": True},
                {"type": "bind", "source": "/opt/flotilla/postgres/backup/spool", "target": "/var/spool/pgbackrest"},
                {"type": "bind", "source": "/mnt/repository", "target": "/mnt/repository"},
            ],
        }
    },
    "volumes": {"data": {"name": "postgres-data"}},
    "secrets": {"superuser_password": {"file": "/opt/flotilla/postgres/secrets/superuser_password"}},
}


@pytest.mark.parametrize(
    ("target", "label"),
    [
        (Target(), "20261122-100000F"),
        (Target("backup"), "20261122-100000F"),
        (Target("backup", label="20261120-100000F"), "20261120-100000F"),
        (Target("time", "2026-11-22 09:59:00+00"), "20261121-100000F"),
        (Target("time", "2026-11-22 10:01:39+00"), "20261121-100000F"),
        (Target("time", "2026-11-22 10:01:41+00"), "20261122-100000F"),
        (Target("time", "2026-11-22 12:01:39+02"), "20261121-100000F"),
        (Target("point", POINT), "20261121-100000F"),
        (Target("point", "mine"), "20261120-100000F"),
    ],
)
def test_a_restore_begins_from_the_newest_backup_that_ended_before(target: Target, label: str) -> None:
    assert chosen(BACKUPS, target, [{"name": "mine", "at": 1_795_200_000.0}], "").label == label


@pytest.mark.parametrize(
    ("backups", "target", "words"),
    [
        ([], Target(), "the repository has no backup of this database"),
        (BACKUPS, Target("time", "2026-11-19 00:00:00+00"), "no backup ended before 2026-11-19T00:00:00Z; the oldest"),
        (BACKUPS, Target("backup", label="20200101-000000F"), "It has: 20261120-100000F"),
        (BACKUPS, Target("point", "unheard-of"), "this host knows no restore point unheard-of (it knows: none)"),
    ],
)
def test_what_cannot_be_had_is_told_with_what_can(backups: list[Backup], target: Target, words: str) -> None:
    with pytest.raises(RestoreError) as told:
        chosen(backups, target, [], "")
    assert words in str(told.value)


def test_a_point_of_ours_says_its_time_where_the_host_has_forgotten_it() -> None:
    assert moment_of(Target("point", POINT), []) == 1_795_262_400.0


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        (Target(), []),
        (Target("backup"), ["--set", "x", "--type=immediate", "--target-action=promote"]),
        (Target("time", "t"), ["--set", "x", "--type=time", "--target=t", "--target-action=promote"]),
        (
            Target("point", "p", timeline="2"),
            ["--set", "x", "--target-timeline", "2", "--type=name", "--target=p", "--target-action=promote"],
        ),
    ],
)
def test_what_pgbackrest_is_told(target: Target, arguments: list[str]) -> None:
    assert restore_arguments(target, Backup("x", 0, 0, 0)) == arguments


def test_a_throw_away_instance_touches_nothing_of_the_live_one() -> None:
    made = beside(STACK, "postgres-drill", 256, 0.5)
    service = made["services"]["postgres"]
    assert service["container_name"] == "postgres-drill"
    assert not service.keys() & {"ports", "networks", "deploy", "build"}
    assert made["volumes"] == {"data": {"name": "postgres-drill-data"}}
    assert [(one["source"], one.get("read_only", False)) for one in service["volumes"]] == [
        ("data", False),
        ("/opt/flotilla/postgres/config", True),
        ("/mnt/repository", True),
    ]
    assert "/var/spool/pgbackrest:uid=999,gid=999,mode=0750" in service["tmpfs"]
    assert {"archive_mode=off", "listen_addresses="} <= set(service["command"])
    assert (service["mem_limit"], service["cpus"], service["restart"]) == ("256m", 0.5, "no")
    assert STACK["services"]["postgres"]["container_name"] == "postgres"


@pytest.mark.parametrize(
    ("archived", "missing"),
    [
        ("00000001000000000000001A", False),
        ("00000001000000000000001B", False),
        ("00000001000000000000001C", True),
        ("00000003000000010000001A", True),
        ("", False),
    ],
)
def test_a_gap_in_the_archive_is_seen_though_postgres_is_content(archived: str, missing: bool) -> None:
    assert bool(gap("LOG:  redo done at 0/1A01C4A0 system usage: CPU", archived)) is missing


def test_after_an_upgrade_backups_and_log_are_those_of_the_new_cluster() -> None:
    def of(number: int, **more: object) -> dict[str, Any]:
        return {"database": {"id": number, "repo-key": 1}, **more}

    def backup(label: str, at: int, number: int) -> dict[str, Any]:
        return of(number, label=label, timestamp={"start": at, "stop": at}, info={"size": 1}, error=None)

    stanza = {
        "db": [
            {"id": 1, "repo-key": 1, "system-id": 15015, "version": "15"},
            {"id": 2, "repo-key": 1, "system-id": 17017, "version": "17"},
        ],
        "backup": [backup("old", 10, 1), backup("new", 20, 2)],
        # The new one counts its log from the beginning.
        "archive": [of(1, max="00000001000000000000002F"), of(2, max="000000010000000000000003")],
    }
    system = present_system([stanza])
    found = backups_of([stanza])
    assert chosen(found, Target(), (), system).label == "new"
    assert chosen(found, Target(label="old"), (), system).label == "old"
    assert last_archived([stanza], system) == "000000010000000000000003"
    assert last_archived([stanza], found[0].system) == "00000001000000000000002F"
    with pytest.raises(RestoreError, match=r"no backup of this version yet\. It has of before: old"):
        chosen(found[:1], Target(), (), system)


def test_what_the_repository_says_is_read() -> None:
    backup = {"label": "b", "timestamp": {"start": 1, "stop": 2}, "info": {"size": 3}, "error": None}
    broken = {**backup, "label": "broken", "error": True}
    info = [{"backup": [backup, broken], "archive": [{"max": "1A"}, {"max": None}], "status": {"code": 0}}]
    assert backups_of(info) == [Backup("b", 1, 2, 3)]
    assert last_archived(info, "") == "1A"
    assert stanza_trouble(info) == ""
    bad = {"status": {"code": 99, "message": "other"}, "repo": [{"status": {"message": "[CryptoError] no"}}]}
    assert stanza_trouble([bad]) == "other; [CryptoError] no"


@pytest.mark.parametrize(
    ("text", "opened", "words"),
    [
        ("[FormatError] unable to load info file", False, "with the key vault_backup_key"),
        ("error restoring '/d/base/1': actual checksum 'a' does not match", True, "damaged at /d/base/1"),
        (
            "FATAL: recovery ended before configured recovery target was reached",
            True,
            "the archive ends before the time t",
        ),
        ("FATAL: WAL ends before end of online backup", True, "WAL that the backup itself needs is missing"),
        ("ERROR: [049]: unable to connect to 'db:22'", True, "cannot be reached"),
        ("one\nERROR: what\nthree", True, "ERROR: what"),
    ],
)
def test_what_went_wrong_is_said_in_words(text: str, opened: bool, words: str) -> None:
    assert words in explain(text, Target("time", "t"), opened=opened)


def test_what_is_no_text_is_left_out() -> None:
    assert last_lines("ERROR: \x00\ufffdj\x1b!", 1) == "ERROR: j!"


def test_rows_are_compared_table_by_table() -> None:
    assert difference({"a": 3, "b": 1, "c": 1}, {"a": 2, "c": 1, "d": 4}) == [
        "a: 3 rows now, 2 then (-1)",
        "b: 1 rows now, the table is not there then",
        "d: not there now, 4 rows then",
    ]


class Engine:
    """An engine that has a container of the drill's, and refuses to remove it so many times."""

    def __init__(self, busy: int, late: Sequence[str] = ()) -> None:
        self.containers, self.busy, self.late = ["first"], busy, list(late)

    def run(self, *words: str) -> str:
        if words[:2] == ("docker", "ps"):
            return "\n".join(self.containers)
        if words[:2] == ("docker", "rm"):
            self.busy -= 1
            if self.busy >= 0:
                raise RestoreError("removal of container first is already in progress")
            self.containers = [self.late.pop(0)] if self.late else []
        return ""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(postgres_restore, "KEPT", tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: None)
    return tmp_path


@pytest.mark.parametrize("engine", [Engine(0), Engine(REMOVALS - 2), Engine(1, ["made after its client was killed"])])
def test_what_the_engine_still_makes_or_removes_is_gone(
    engine: Engine, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_restore, "run", engine.run)
    assert remove(DRILL)
    assert not engine.containers
    assert not remove(DRILL)


def test_a_drill_that_was_cut_short_has_failed_also_where_it_cannot_be_removed(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_restore, "run", Engine(REMOVALS).run)
    (kept / "drill.json").write_text('{"outcome": "passed", "detail": "the one before"}')
    (kept / "drill.running").write_text('{"outcome": "failed", "detail": ""}')
    with pytest.raises(RestoreError, match="already in progress"):
        drill_ended()
    assert json.loads((kept / "drill.json").read_text()) == {"outcome": "failed", "detail": "the drill was cut short"}
    assert not (kept / "drill.running").exists()
