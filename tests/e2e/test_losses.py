"""Hosts that are lost with their disks: the database's under a writer, an app's under load.

The fleet reaches its database through the pooler, across the private network.
docs/how-to/rebuild.md is what these tests do.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.e2e.fleet import Environment, Lab, ansible_process, app_entry, lab_up, run_ansible
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Stream, Target
from tests.e2e.waiting import GENEROUS_SECONDS, eventually
from tests.e2e.writing import Writer

# All of it: each host is made anew in minutes.
pytestmark = pytest.mark.thorough

PRODUCTION = Path("inventories/production")
BALANCER, DATABASE = "production-lb-1", "production-db-1"
LAB = Lab(
    versions=("1.0.0", "1.1.0"),
    inventory=PRODUCTION,
    overlay={
        "postgres_pooler": True,
        "apps": [
            app_entry(
                PRODUCTION,
                environment={"UPDATE_MONITOR": "2s", "DATABASE_PORT": "6432", "MIGRATION_DATABASE_PORT": "5432"},
            )
        ],
    },
)
CONFIRM = ("-e", "confirm=production")
MAINTENANCE = b"Under maintenance"
STREAMS = (
    Stream(Kind.GET, Mode.KEEPALIVE, rate=20),
    Stream(Kind.GET, Mode.NEW, rate=5),
    Stream(Kind.POST, Mode.KEEPALIVE, rate=5),
)
# The clients wait so long for an answer of a host that is silent.
IN_FLIGHT_SECONDS = 30
# A gigabyte in rows of 1 kB that no compression makes smaller, and a sum that tells whether all of it is there.
PARTS, ROWS_OF_A_PART = 10, 100_000
FILL = """
CREATE TABLE IF NOT EXISTS bulk (id int, data bytea);
INSERT INTO bulk SELECT one, (
    SELECT string_agg(sha512(convert_to(one || '-' || part, 'UTF8')), '') FROM generate_series(1, 15) part
) FROM generate_series({first} + 1, {first} + {rows}) one
"""
SUM = """
SELECT count(*), sum(('x' || left(md5(data), 8))::bit(32)::int), pg_table_size('bulk') >= 1000000000 FROM bulk
"""


@pytest.fixture(scope="module")
def front(production: Environment) -> Environment:
    """The environment as users see it, with a first backup of its database."""
    production.deploy("1.0.0").succeeded()
    eventually(partial(backups, production.on(DATABASE)), why="there is a first backup")
    front = production.on(BALANCER)
    front.live_within(GENEROUS_SECONDS)
    return front


def backups(database: Environment) -> list[dict[str, Any]]:
    """What the repository has, oldest first."""
    found: list[dict[str, Any]] = json.loads(database.ssh("flotilla-restore look"))["backups"]
    return found


def destroyed(host: Environment) -> float:
    """The droplet is gone, its disk too. Returns when it was, in seconds since the epoch."""
    docker.from_env(timeout=300).containers.get(f"{host.name}-{host.host}").remove(v=True, force=True)
    return time.time()


def replaced(host: Environment) -> None:
    """A bare droplet at the same address; its host key is known, as a person would have made it."""
    engine = docker.from_env(timeout=300)
    names = {one.name: one.id for one in engine.containers.list(filters={"label": f"flotilla.lab={host.name}"})}
    lab_up(host, LAB)
    kept = {one.name: one.id for one in engine.containers.list(filters={"label": f"flotilla.lab={host.name}"})}
    assert names.items() <= kept.items(), "the lab has replaced more than was lost"


def switched_off_and_on(host: Environment) -> None:
    """Without a word to what runs there, as when the power goes. The machine's own cache of the disk stays."""
    droplet = docker.from_env(timeout=300).containers.get(f"{host.name}-{host.host}")
    droplet.kill()
    time.sleep(3)
    droplet.start()


@contextmanager
def shown(front: Environment) -> Iterator[set[tuple[int, bool]]]:
    """What users saw of the front page meanwhile: its status, and whether it was the maintenance page."""
    seen: set[tuple[int, bool]] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            with suppress(OSError, http.client.HTTPException):
                answer = front.fetch("/")
                seen.add((answer.status, MAINTENANCE in answer.body))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def archived(database: Environment) -> str:
    return database.sql("SELECT last_archived_wal FROM pg_stat_archiver")[0]


def before_the_next_segment(database: Environment) -> None:
    """Wait for the worst moment: most of a minute has passed since something was archived."""
    first = archived(database)
    eventually(lambda: archived(database) != first, why="something is archived", pause=0.2)
    time.sleep(archive_seconds(database) - 2)


def archive_seconds(database: Environment) -> float:
    """How old what was written may be at most when its segment is closed."""
    return float(database.sql("SELECT setting FROM pg_settings WHERE name = 'archive_timeout'")[0])


def sending_seconds(database: Environment) -> float:
    """How long a closed segment takes to be archived, here and now."""
    (segment,) = database.sql("SELECT pg_walfile_name(pg_switch_wal())")
    began = time.monotonic()
    eventually(lambda: archived(database) >= segment, why=f"{segment} is archived", pause=0.1)
    return time.monotonic() - began


def pooled(database: Environment) -> None:
    """The app's sessions are those of the pooler, which is on this host."""
    users = "SELECT host(client_addr) FROM pg_stat_activity WHERE datname = 'notes' AND client_addr IS NOT NULL"
    format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    own = database.ssh(f"docker inspect --format '{format}' pgbouncer").split()
    assert own
    found = set(database.sql(users))
    assert found and found <= set(own), (found, own)


def test_the_fleet_goes_through_the_pooler(front: Environment) -> None:
    for _ in range(5):
        assert front.fetch("/api/notes/count").status == 200
    pooled(front.on(DATABASE))


def test_what_was_acknowledged_outlives_a_power_cut(front: Environment) -> None:
    database = front.on(DATABASE)
    with Writer(database) as writer:
        writer.wait_for(1000)
        switched_off_and_on(database)
        writer.wait_for(1000)
    times = [row.acknowledged for row in writer.rows]
    pause = max(after - before for before, after in pairwise(times))
    lost = {row.number for row in writer.rows} - writer.stored()
    print(f"{len(times)} rows acknowledged, none for {pause:.1f} s meanwhile, {len(lost)} lost")
    assert pause > 3
    assert not lost


def test_a_lost_database_is_back_from_the_repository(front: Environment) -> None:
    database = front.on(DATABASE)
    database.sql("DROP TABLE IF EXISTS bulk")
    for part in range(PARTS):
        database.sql(FILL.format(first=part * ROWS_OF_A_PART, rows=ROWS_OF_A_PART))
    whole = database.sql(SUM)
    assert whole[0].endswith("|t"), whole
    made = front.playbook("playbooks/backup.yml", "-e", "type=full").succeeded()
    print(f"a full backup: {made.seconds:.0f} s")
    with Writer(database) as writer:
        writer.wait_for(400)
        alone, allowed = writer.pace(10), archive_seconds(database) + max(10, 3 * sending_seconds(database))
        before_the_next_segment(database)
        destroyed(database)
    # Row after row was acknowledged, until the last one there was.
    gone = writer.rows[-1].acknowledged
    rate = len(writer.rows) / (gone - writer.rows[0].sent)
    replaced(database)

    began = time.monotonic()
    refused = front.playbook("playbooks/provision.yml")
    assert refused.rc != 0
    assert "playbooks/restore.yml -e to=latest -e into=place -e confirm=production" in refused.text
    arguments = ("-e", "to=latest", "-e", "into=place", *CONFIRM, "-e", "count=false")
    with shown(front) as seen:
        restored = front.playbook("playbooks/restore.yml", *arguments).succeeded()
    front.live_within(GENEROUS_SECONDS)
    back = time.monotonic() - began
    front.playbook("playbooks/restore.yml", "-e", "state=confirmed", *CONFIRM).succeeded()
    front.playbook("playbooks/provision.yml").succeeded()
    seconds = time.monotonic() - began

    stored = writer.stored()
    lost = {row.number for row in writer.rows} - stored
    since = min((row.acknowledged for row in writer.rows if row.number in lost), default=gone)
    print(
        f"{rate:.0f} rows a second, {alone:.0f} before; {len(lost)} rows of the last {gone - since:.1f} s lost, of "
        f"{allowed:.1f} s that may be; back after {back:.0f} s (restore.yml {restored.seconds:.0f} s), "
        f"all provisioned after {seconds:.0f} s"
    )
    # As many as the writer wants of this machine when nothing else happens to the database.
    assert rate >= 0.8 * alone > 0
    assert (503, True) in seen, seen
    # A minute, of which ten seconds are for the sending: more where that takes more.
    assert gone - since <= allowed
    assert database.sql(SUM) == whole
    assert front.fetch("/api/notes/count").status == 200
    pooled(database)
    # And what is written from here on is backed up again.
    front.playbook("playbooks/backup.yml", "-e", "type=full").succeeded()
    front.playbook("playbooks/status.yml").succeeded()


def both_answer(front: Environment) -> None:
    """Each app host gets its share, as soon as the balancer finds it well."""
    both = {"production-app-1", "production-app-2"}
    eventually(lambda: {front.live().host for _ in range(20)} == both, why="both hosts answer")


def test_without_a_restore_point_nothing_is_deployed(front: Environment) -> None:
    database, app = front.on(DATABASE), front.on("production-app-1")
    before = app.ssh("ls /opt/notes/releases")
    database.ssh("docker stop postgres")
    try:
        refused = front.deploy("1.1.0")
    finally:
        database.ssh("docker start postgres")
    print(refused.output.rstrip().splitlines()[-1])
    assert refused.rc != 0
    assert "notes 1.1.0: refused" in refused.text
    assert f"no restore point of the database could be set on {DATABASE}" in refused.text
    assert front.live_within(GENEROUS_SECONDS).version == "1.0.0"
    assert app.ssh("ls /opt/notes/releases") == before
    assert len(app.colours()) == 1


@pytest.mark.parametrize("first", ["backup", "deploy"])
def test_a_backup_and_a_deploy_at_once(front: Environment, first: str) -> None:
    """Neither waits for the other, and no request notices."""
    version = {"1.0.0": "1.1.0", "1.1.0": "1.0.0"}[front.live().version]
    backup = ["playbooks/backup.yml", *front.inventories, "-e", "type=full"]
    deploy = front.deploy_arguments(version)
    plan = Plan(Target(front.url, front.domain, str(front.ca)), STREAMS, seconds=1800)
    second = deploy if first == "backup" else backup
    with (
        BackgroundLoad(plan) as load,
        ansible_process("ansible-playbook", *(backup if first == "backup" else deploy)) as one,
    ):
        time.sleep(6)
        assert one.poll() is None, "it had ended before the other began"
        other = run_ansible("ansible-playbook", *second).succeeded()
        output, _ = one.communicate(timeout=1200)
        result = load.stop()
    assert one.returncode == 0, output[-3000:]
    assert result.requests > 100
    assert not result.failures, result.summary(shown=20)
    assert front.live().version == version
    print(f"{first} first; the other took {other.seconds:.0f} s; {result.requests} requests, none failed")


def test_a_lost_app_host_costs_what_was_in_flight_there(front: Environment) -> None:
    """The first of them by name: it is the canary, and the lock's."""
    app, version = front.on("production-app-1"), front.live().version
    plan = Plan(Target(front.url, front.domain, str(front.ca)), STREAMS, seconds=3000, timeout=30)
    with BackgroundLoad(plan) as load:
        time.sleep(5)
        gone = destroyed(app)
        time.sleep(10)
        replaced(app)
        began = time.monotonic()
        front.deploy(version).succeeded()
        seconds = time.monotonic() - began
        time.sleep(5)
        result = load.stop()
    for failure in result.failures:
        print(f"{failure.time - gone:+.2f} s {failure.stream} {failure.reason} {failure.detail}")
    print(f"{result.requests} requests, {len(result.failures)} failed; the host is back after {seconds:.0f} s")
    # A POST may have been carried out: it is sent once, and what the host had in hand may be lost.
    assert all(failure.stream.startswith("post") for failure in result.failures), result.summary(shown=30)
    late = result.lag / 1000
    assert all(failure.time - gone < IN_FLIGHT_SECONDS + late for failure in result.failures)
    both_answer(front)
    stored = front.on(DATABASE).sql("SELECT id FROM notes")
    assert set(result.acknowledged) <= set(stored)


def test_a_lost_balancer_is_made_anew(front: Environment) -> None:
    version = front.live().version
    destroyed(front)
    replaced(front)
    run = front.playbook("playbooks/provision.yml").succeeded()
    assert front.live_within(GENEROUS_SECONDS).version == version
    both_answer(front)
    front.playbook("playbooks/status.yml").succeeded()
    print(f"the balancer is back after {run.seconds:.0f} s")


def test_a_lost_host_of_backups_gets_a_full_backup_at_once(front: Environment) -> None:
    database, keeper = front.on(DATABASE), front.on("production-cache-1")
    newest = backups(database)[-1]["label"]
    destroyed(keeper)
    replaced(keeper)
    front.playbook("playbooks/provision.yml").succeeded()
    made = eventually(partial(backups, database), why="there is a backup")
    assert made[0]["label"] > newest
    assert made[0]["label"].endswith("F")
    front.playbook("playbooks/drill.yml").succeeded()
    front.playbook("playbooks/status.yml").succeeded()
