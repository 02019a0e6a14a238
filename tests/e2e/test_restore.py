"""A database that is backed up on another host: its restore points, restores by playbook, its drill, and its loss."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from tests.e2e.fleet import Environment, Lab
from tests.e2e.waiting import GENEROUS_SECONDS, eventually

LAB = Lab(
    overlay={
        "backup_key": "{{ vault_backup_key }}",
        "backup_retention_days": 1,
        "restore_drill_rpo_seconds": 600,
    },
    more_hosts={"backup": {"staging-backup-1": {"ansible_host": "198.51.100.20", "private_address": "10.1.0.20"}}},
)
RESTORE = "playbooks/restore.yml"
CONFIRM = ("-e", "confirm=staging")


@pytest.fixture(scope="module")
def backed_up(served: Environment) -> Environment:
    """1.0.0 serves, its database has a full backup, and a second release with a migration came after it."""
    eventually(lambda: json.loads(served.ssh("flotilla-restore look"))["backups"], why="there is a first backup")
    served.sql("CREATE TABLE kept (id int); INSERT INTO kept SELECT generate_series(1, 100)")
    served.deploy("1.1.0").succeeded()
    served.sql("INSERT INTO kept SELECT generate_series(101, 150)")

    # What a drill looks for is set each minute, and has to have been sent once.
    marked = "SELECT to_regclass('flotilla.marker') IS NOT NULL"
    eventually(lambda: served.sql(marked, "postgres") == ["t"], why="a marker is set")
    send_all(served)
    return served


def send_all(environment: Environment) -> None:
    """Close the segment of the log that is written to, and wait until it and all before it have been sent."""
    environment.sql("SELECT pg_create_restore_point('closed')", "postgres")
    (segment,) = environment.sql("SELECT pg_walfile_name(pg_switch_wal())", "postgres")
    sent = f"SELECT last_archived_wal >= '{segment}' FROM pg_stat_archiver"
    eventually(lambda: environment.sql(sent, "postgres") == ["t"], why=f"{segment} is archived")


def record(environment: Environment) -> dict[str, Any]:
    """The record of the release that serves."""
    release = environment.journal()["live"]["release"]
    found: dict[str, Any] = json.loads(environment.ssh(f"cat /opt/notes/releases/{release}/release.json"))
    return found


def test_a_deploy_with_a_migration_sets_a_restore_point_first(backed_up: Environment) -> None:
    found = record(backed_up)
    assert found["migration"] == "applied"
    assert found["restore_point"] == f"flotilla-{found['id']}"
    points = json.loads(backed_up.ssh("flotilla-restore look"))["points"]
    assert [point["name"] for point in points][-1] == found["restore_point"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "command line: to: is not given"),
        (("-e", "to=latest", "-e", "into=place"), "confirm: is not given; this is staging"),
        (("-e", "to=latest", "-e", "into=place", "-e", "confirm=production"), "confirm: is `production`"),
        (("-e", "to=time", "-e", "time=2026-11-22"), "time: is `2026-11-22`, and must be a time, with its zone"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_touched(
    backed_up: Environment, arguments: tuple[str, ...], said: str
) -> None:
    run = backed_up.playbook(RESTORE, *arguments)
    assert run.rc != 0
    assert said in run.text
    assert "nothing was touched" in run.text
    assert "postgres-scratch" not in backed_up.ssh("docker ps --all --format '{{.Names}}'")


def test_a_drill_says_what_it_reached(backed_up: Environment) -> None:
    run = backed_up.playbook("playbooks/drill.yml").succeeded()
    found = re.search(r"passed: restored within (\d+) s \(RTO\), the last (\d+) s would be lost", run.text)
    assert found, run.text
    print(f"RTO {found[1]} s, RPO {found[2]} s")


def test_a_scratch_instance_shows_what_would_be_lost(backed_up: Environment) -> None:
    point = record(backed_up)["restore_point"]
    run = backed_up.playbook(RESTORE, "-e", "to=point", "-e", f"point={point}").succeeded()
    assert "notes.public.kept: 150 rows now, 100 then (-50)" in run.text
    assert "docker exec -it postgres-scratch sh /etc/postgresql/session.sh postgres psql" in run.text
    backed_up.playbook(RESTORE, "-e", "state=absent").succeeded()
    assert "postgres-scratch" not in backed_up.ssh("docker ps --all --format '{{.Names}}'; docker volume ls")


def test_an_environment_in_use_is_not_restored(backed_up: Environment) -> None:
    run = {"token": "theirs", "owner": "bob@elsewhere"}
    backed_up.module("flotilla_lock", state="taken", host="staging-1", run=run, purpose="deploy notes 2.0.0")
    try:
        refused = backed_up.playbook(RESTORE, "-e", "to=latest", "-e", "into=place", *CONFIRM)
    finally:
        backed_up.module("flotilla_lock", state="released", host="staging-1", run=run)
    assert refused.rc != 0
    assert "the environment is locked by bob@elsewhere (deploy notes 2.0.0)" in refused.text
    assert backed_up.live().version == "1.1.0"


def test_in_place_and_back_again(backed_up: Environment) -> None:
    point = record(backed_up)["restore_point"]
    arguments = ("-e", "to=point", "-e", f"point={point}", "-e", "into=place", *CONFIRM)
    run = backed_up.playbook(RESTORE, *arguments).succeeded()
    assert "notes.public.kept: 150 rows now, 100 then (-50)" in run.text
    assert "-e state=undone -e confirm=staging" in run.text
    assert backed_up.sql("SELECT count(*) FROM kept") == ["100"]
    assert backed_up.live_within(GENEROUS_SECONDS).version == "1.1.0"
    backed_up.playbook(RESTORE, "-e", "state=undone", *CONFIRM).succeeded()
    assert backed_up.sql("SELECT count(*) FROM kept") == ["150"]
    assert backed_up.live_within(GENEROUS_SECONDS).version == "1.1.0"


def test_a_rollback_says_what_stays_in_the_database(backed_up: Environment) -> None:
    point = record(backed_up)["restore_point"]
    run = backed_up.playbook("rollback.yml").succeeded()
    assert "the database stays as it is" in run.text
    assert f"-e to=point -e point={point}" in run.text
    assert backed_up.sql("SELECT count(*) FROM kept") == ["150"]


def lose_database(backed_up: Environment) -> None:
    send_all(backed_up)
    backed_up.ssh("docker rm --force postgres && docker volume rm postgres-data")


def test_a_lost_database_is_never_replaced_by_an_empty_one(backed_up: Environment) -> None:
    lose_database(backed_up)
    run = backed_up.playbook("playbooks/provision.yml")
    assert run.rc != 0
    assert "playbooks/restore.yml -e to=latest -e into=place -e confirm=staging" in run.text


@pytest.mark.thorough
def test_a_lost_database_comes_back(backed_up: Environment) -> None:
    # The test before this one has lost it, when both are run.
    if "postgres" in backed_up.ssh("docker ps --format '{{.Names}}'").splitlines():
        lose_database(backed_up)
    release = backed_up.journal()["live"]["release"]
    began = time.monotonic()
    backed_up.playbook(RESTORE, "-e", "to=latest", "-e", "into=place", *CONFIRM).succeeded()
    print(f"back after {time.monotonic() - began:.0f} s")
    assert backed_up.sql("SELECT count(*) FROM kept") == ["150"]
    backed_up.playbook(RESTORE, "-e", "state=confirmed", *CONFIRM).succeeded()
    backed_up.playbook("playbooks/provision.yml").succeeded()
    assert release.endswith(f"-{backed_up.live_within(GENEROUS_SECONDS).version}")
