"""Another minor version of Postgres while people use the app through the pooler, and another major one, there and back.

The tests build on each other, in this order.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.fleet import DOMAIN, Environment, Lab, app_entry
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Result, Stream, Target
from tests.e2e.waiting import GENEROUS_SECONDS, eventually

pytestmark = pytest.mark.thorough

POOLED = {
    "DATABASE_HOST": "pgbouncer",
    "DATABASE_PORT": "6432",
    "MIGRATION_DATABASE_HOST": "postgres",
    "MIGRATION_DATABASE_PORT": "5432",
}
LAB = Lab(
    versions=("1.0.0",),
    overlay={
        "backup_key": "{{ vault_backup_key }}",
        "backup_retention_days": 1,
        "postgres_version": "15",
        "postgres_pooler": True,
        "apps": [
            app_entry(
                environment=POOLED,
            )
        ],
    },
    more_hosts={"backup": {"staging-backup-1": {"ansible_host": "198.51.100.20", "private_address": "10.1.0.20"}}},
    hub_images=("postgres:15",),
)
UPGRADE = "playbooks/upgrade-postgres.yml"
CONFIRM = ("-e", "confirm=staging")
WITHOUT_BACKUP = ("-e", "backup=false")
STREAMS = (
    Stream(Kind.GET, Mode.KEEPALIVE, rate=10, path="/api/notes/count"),
    Stream(Kind.POST, Mode.KEEPALIVE, rate=5),
    Stream(Kind.POST, Mode.NEW, rate=5),
)
CONSOLE = "docker exec pgbouncer psql -XAtq -h /var/run/pgbouncer -p 6432 -U pgbouncer pgbouncer -c"


@contextmanager
def load_on(served: Environment) -> Iterator[list[Result]]:
    """People who read and write notes during the block; what they saw is in the list after it."""
    seen: list[Result] = []
    plan = Plan(Target(served.url, DOMAIN, str(served.ca)), STREAMS, seconds=1800)
    with BackgroundLoad(plan) as load:
        yield seen
        seen.append(load.stop())


def version(served: Environment) -> str:
    return served.sql("SHOW server_version")[0].partition(".")[0]


def served_by(served: Environment, major: str) -> None:
    """The app reads and writes, with the server of that version behind it."""
    assert version(served) == major
    assert served.live_within(GENEROUS_SECONDS).version == "1.0.0"
    before = int(served.sql("SELECT count(*) FROM notes")[0])
    with load_on(served) as seen:
        time.sleep(2)
    assert not seen[0].failures, seen[0].summary(shown=10)
    assert int(served.sql("SELECT count(*) FROM notes")[0]) > before


def test_the_app_goes_through_the_pooler_and_its_migration_past_it(served: Environment) -> None:
    served_by(served, "15")
    clients = served.ssh(f"{CONSOLE} 'SHOW CLIENTS'")
    assert "|notes|" in clients
    direct = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'notes' AND client_addr IS NOT NULL"
    addresses = served.ssh(
        "docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' pgbouncer"
    )
    assert addresses.split()
    poolers = ", ".join(f"'{address}'" for address in addresses.split())
    assert served.sql(f"{direct} AND client_addr NOT IN ({poolers})") == ["0"]


def test_passwords_are_rotated_through_the_pooler(served: Environment) -> None:
    with load_on(served) as seen:
        served.playbook("playbooks/rotate.yml").succeeded()
    print(f"\n{seen[0].summary()}")
    assert not seen[0].failures, seen[0].summary(shown=30)


def test_another_minor_version_fails_no_request(served: Environment, tmp_path: Path) -> None:
    before = served.ssh("docker inspect --format '{{.Id}}' postgres")
    served.ssh("docker build --quiet --tag postgres:15-next -", given="FROM postgres:15\nLABEL another=minor\n")
    newer = served.over(tmp_path / "minor", {"postgres_image": "postgres:15-next"})
    with load_on(newer) as seen:
        newer.playbook("playbooks/provision.yml").succeeded()
    (result,) = seen
    print(f"\n{result.summary()}")
    assert served.ssh("docker inspect --format '{{.Id}}' postgres") != before
    assert result.requests > 300
    assert not result.failures, result.summary(shown=30)
    served.playbook("playbooks/provision.yml").succeeded()


def backups(served: Environment, major: str) -> list[str]:
    """The labels of the backups of one version, oldest first: they begin with the time."""
    (stanza,) = json.loads(served.ssh("docker exec postgres pgbackrest --stanza=main --output=json info"))
    mine = {(one["repo-key"], one["id"]) for one in stanza["db"] if one["version"] == major}
    return sorted(
        one["label"] for one in stanza["backup"] if (one["database"]["repo-key"], one["database"]["id"]) in mine
    )


def newest_backup(served: Environment) -> str:
    """Its label, when the first one has been made."""
    return eventually(lambda: backups(served, version(served)), why="there is a first backup")[-1]


def backed_up_in_full(served: Environment, major: str) -> str:
    """The label of a full backup of this version that has been made since it serves."""
    since = served.sql("SELECT to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYYMMDD-HH24MISS')")[0]

    def found() -> list[str]:
        return [one for one in backups(served, major) if one.endswith("F") and one > since]

    return eventually(found, why=f"there is a full backup of {major} since {since}")[-1]


@pytest.fixture(scope="module")
def seventeen(served: Environment, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The same environment, whose inventory asks for 17."""
    return served.over(tmp_path_factory.mktemp("seventeen"), {"postgres_version": "17"})


def test_provisioning_refuses_another_major_version(seventeen: Environment) -> None:
    run = seventeen.playbook("playbooks/provision.yml")
    assert run.rc != 0
    assert "ansible-playbook playbooks/upgrade-postgres.yml -e confirm=staging" in run.text
    served_by(seventeen, "15")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "confirm: is not given; this is staging, and its database is replaced"),
        ((*CONFIRM, "--check"), "an upgrade cannot be rehearsed"),
        ((*CONFIRM, "-e", "state=undone"), "no upgrade of this host waits to be confirmed or undone"),
        (
            (*CONFIRM, *WITHOUT_BACKUP, "-e", "postgres_image=postgres:15"),
            "postgres:15 is of 15, and postgres_version is 17",
        ),
    ],
)
def test_what_cannot_be_is_refused(seventeen: Environment, arguments: tuple[str, ...], said: str) -> None:
    run = seventeen.playbook(UPGRADE, *arguments)
    assert run.rc != 0
    assert said in run.text
    served_by(seventeen, "15")


# What an app's role can plant in its own database: whoever restores the table's rows calls it.
PLANTED = """
SET ROLE {owner};
CREATE SCHEMA evil;
CREATE FUNCTION evil.act() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'ALTER ROLE {owner} SUPERUSER';
  RETURN true;
EXCEPTION WHEN OTHERS THEN RETURN true;
END $$;
CREATE TABLE evil.checked (x int CHECK (evil.act()));
INSERT INTO evil.checked VALUES (1);
"""


def test_from_15_to_17(seventeen: Environment) -> None:
    (owner,) = seventeen.sql("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'notes'")
    seventeen.sql(
        "CREATE TABLE IF NOT EXISTS kept (id int PRIMARY KEY, words text); "
        "INSERT INTO kept SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 400000) AS n ON CONFLICT DO NOTHING"
    )
    sums = "SELECT count(*), sum(hashtext(words)) FROM kept"
    before, notes = seventeen.sql(sums), int(seventeen.sql("SELECT count(*) FROM notes")[0])
    made = newest_backup(seventeen)
    seventeen.sql(PLANTED.format(owner=owner))
    run = seventeen.playbook(UPGRADE, *CONFIRM).succeeded()
    assert seventeen.sql("SELECT rolname FROM pg_roles WHERE rolsuper OR rolname ~ '^flotilla_'") == ["postgres"]
    assert seventeen.sql("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'checked'") == [owner]
    found = re.search(r"PostgreSQL 15 is 17: \d+ rows in \d+ tables, .*", run.text)
    assert found, run.text
    print(f"\n{found[0]}")
    assert seventeen.sql(sums) == before
    assert int(seventeen.sql("SELECT count(*) FROM notes")[0]) == notes
    assert seventeen.sql("SHOW data_checksums") == ["on"]
    assert seventeen.sql("SELECT count(*) FROM pg_stats WHERE tablename = 'kept'") == ["2"]
    served_by(seventeen, "17")
    # One of 15 from just before, and a full one of 17 since.
    fifteen, latest = backups(seventeen, "15"), backed_up_in_full(seventeen, "17")
    assert fifteen[-1] > made
    assert latest > fifteen[-1]
    assert seventeen.playbook("playbooks/provision.yml").succeeded()
    assert seventeen.playbook("playbooks/drill.yml").succeeded()


def test_back_to_15(seventeen: Environment, served: Environment) -> None:
    run = seventeen.playbook(UPGRADE, *CONFIRM, "-e", "state=undone")
    assert run.rc != 0
    assert 'postgres_version: is 17, and the old data is of 15. Next: set it to "15"' in run.text
    served_by(seventeen, "17")
    # A restore would keep what is there now, and the way back would put 15's data over it.
    run = seventeen.playbook("playbooks/restore.yml", "-e", "to=latest", "-e", "into=place", *CONFIRM)
    assert run.rc != 0
    assert "from 15 to 17 is neither confirmed nor undone" in run.text
    assert "upgraded from 15 to 17, neither confirmed nor undone" in seventeen.playbook("playbooks/status.yml").text
    served_by(seventeen, "17")
    written = int(seventeen.sql("SELECT count(*) FROM notes")[0])
    served.playbook(UPGRADE, *CONFIRM, "-e", "state=undone").succeeded()
    assert served.sql("SELECT count(*) FROM kept") == ["400000"]
    assert int(served.sql("SELECT count(*) FROM notes")[0]) < written
    served_by(served, "15")
    backed_up_in_full(served, "15")
    served.playbook("playbooks/provision.yml").succeeded()
    served.playbook("playbooks/drill.yml").succeeded()


def test_again_and_for_good(seventeen: Environment) -> None:
    seventeen.playbook(UPGRADE, *CONFIRM, *WITHOUT_BACKUP).succeeded()
    volumes = seventeen.ssh("docker volume ls --quiet")
    assert "postgres-data-before-" in volumes
    seventeen.playbook(UPGRADE, *CONFIRM, "-e", "state=confirmed").succeeded()
    assert "postgres-data-before-" not in seventeen.ssh("docker volume ls --quiet")
    served_by(seventeen, "17")
