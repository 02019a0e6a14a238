"""What a person may ask of playbooks/upgrade-postgres.yml, and the server that its tool runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flotilla.upgrading import asked, lines

from plugins.scripts import postgres_restore
from plugins.scripts.postgres_restore import RestoreError, Target, place
from plugins.scripts.postgres_upgrade import NEW, OLD, check, instance, major_of

INVENTORY = " -i inventories/staging"
GIVEN = {"confirm": "staging"}
DONE = {
    "id": "20261122t100000z",
    "from": "15",
    "to": "17",
    "volume": "postgres-data-before-20261122t100000z",
    "bytes": 1_500_000_000,
    "rows": 12,
    "tables": 3,
    "copied_seconds": 30.1,
    "stopped_seconds": 33.0,
    "dropped": False,
}


def test_an_upgrade_with_a_place_for_backups_makes_one_first() -> None:
    found = asked(GIVEN, "staging", INVENTORY, True)
    assert found == {"problems": [], "state": "present", "backup": True, "backed_up": True}


@pytest.mark.parametrize(
    ("given", "backed_up", "problem"),
    [
        ({}, True, "command line: confirm: is not given; this is staging, and its database is replaced. Next: type"),
        ({"confirm": "production"}, True, "command line: confirm: is `production`; this is staging"),
        (
            {"state": "confirmed"},
            False,
            "confirm: is not given; this is staging, and the old data of its database is let",
        ),
        ({**GIVEN, "state": "undo"}, True, "state: is `undo`, and must be one of present, confirmed, undone (did you"),
        ({**GIVEN, "rehearsal": True}, True, "command line: --check: an upgrade cannot be rehearsed"),
        (GIVEN, False, "hosts.yml: backup: no host is in that group, and there is no backup_s3"),
    ],
)
def test_what_cannot_be_is_told(given: dict[str, Any], backed_up: bool, problem: str) -> None:
    (found,) = asked(given, "staging", INVENTORY, backed_up)["problems"]
    assert problem in found


def test_without_a_place_for_backups_it_has_to_be_said() -> None:
    found = asked({**GIVEN, "backup": "false"}, "staging", INVENTORY, False)
    assert (found["problems"], found["backup"]) == ([], False)


@pytest.mark.parametrize("state", ["confirmed", "undone"])
def test_the_way_back_needs_no_place_for_backups(state: str) -> None:
    assert asked({**GIVEN, "state": state}, "staging", INVENTORY, False)["problems"] == []


def test_what_came_of_it_says_how_to_go_back() -> None:
    told = lines(DONE, "present", "db-1", INVENTORY, "staging")
    assert told[0] == (
        "db-1: PostgreSQL 15 is 17: 12 rows in 3 tables, counted in both; 1.50 GB copied in 30.1 s, "
        "stopped for 33.0 s and the start"
    )
    assert (
        'postgres_version: "15", then ansible-playbook playbooks/upgrade-postgres.yml -i inventories/staging' in told[2]
    )
    assert "docker volume rm postgres-data-before-" in lines(DONE, "confirmed", "db-1", INVENTORY, "staging")[1]
    assert lines(DONE, "undone", "db-1", INVENTORY, "staging")[0].startswith("db-1: PostgreSQL 15 serves again")


@pytest.mark.parametrize(("version", "major"), [("17.7 (Debian 17.7-3)", "17"), ("15.14", "15"), ("18beta1", "18")])
def test_the_major_version_is_the_first_number(version: str, major: str) -> None:
    assert major_of(version) == major


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(RestoreError, match="says that its version is"):
        major_of("")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("notes", "dbname='notes'"),
        ("a b", "dbname='a b'"),
        ("it's", r"dbname='it\'s'"),
        ("host=evil", "dbname='host=evil'"),
    ],
)
def test_a_databases_name_is_no_connection_string(name: str, word: str) -> None:
    assert postgres_restore.conninfo(name) == word


def test_nobody_but_the_superuser_reaches_the_servers_of_an_upgrade() -> None:
    stack = {
        "services": {
            "postgres": {
                "image": "postgres:15",
                "user": "999:999",
                "ports": [{"target": 5432}],
                "deploy": {"resources": {"limits": {"memory": "536870912", "cpus": 1}}},
                "tmpfs": ["/tmp", "/var/run/postgresql:uid=999"],
                "volumes": [{"type": "volume", "source": "data", "target": "/var/lib/postgresql/data"}],
            }
        }
    }
    document = instance(stack, NEW, image="postgres:17", volume="fresh", memory_mb=300, options={"fsync": "off"})
    service = document["services"]["postgres"]
    assert "ports" not in service
    assert {"listen_addresses=", "archive_mode=off", "fsync=off", "hba_file=/etc/pg_hba.conf"} <= set(
        service["command"]
    )
    assert service["image"] == "postgres:17"
    assert document["volumes"] == {"data": {"name": "fresh", "external": True}}
    binds = {one["target"]: one["source"] for one in service["volumes"] if one["type"] == "bind"}
    assert binds == {
        "/var/run/postgresql": f"/run/flotilla/upgrade/{NEW}",
        "/old": f"/run/flotilla/upgrade/{OLD}",
        "/etc/pg_hba.conf": "/run/flotilla/upgrade/pg_hba.conf",
    }


def test_neither_begins_while_the_other_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restored, upgraded = tmp_path / "restored.json", tmp_path / "upgraded.json"
    monkeypatch.setattr(postgres_restore, "RESTORED", restored)
    monkeypatch.setattr(postgres_restore, "UPGRADED", upgraded)
    monkeypatch.setattr("plugins.scripts.postgres_upgrade.UPGRADED", upgraded)
    restored.write_text(json.dumps({"id": "one", "target": "the latest state", "volume": "kept"}))
    with pytest.raises(RestoreError, match="the restore one to the latest state is neither confirmed nor undone"):
        check("postgres:17", "17")
    restored.unlink()
    upgraded.write_text(json.dumps({**DONE, "phase": "done"}))
    with pytest.raises(RestoreError, match=r"the upgrade .* from 15 to 17 is neither .*-e state=confirmed, or"):
        place(Target(), "two")
    assert check("postgres:17", "17")["already"]
