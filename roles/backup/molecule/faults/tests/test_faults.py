"""What befalls a repository, and what is kept after weeks.

The clock of the database's container is libfaketime's, and nobody else's: Postgres, and pgBackRest in it, believe what
a file says. The times of files stay what they are.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from flotilla import backups
from testinfra.host import Host

from roles.backup.molecule.default.tests.test_backup import status
from tests.lab.waiting import eventually

ROOT = Path(__file__).resolve().parents[5]
RESTORE = ROOT / "plugins/scripts/postgres_restore.py"
STACK = "/opt/flotilla/postgres"
CLOCK = f"{STACK}/backup/config/clock"
REPOSITORY = "/srv/flotilla/backup/repository"
SSHD = "flotilla-backup-sshd.service"
MINUTE, HOUR, DAY = 60, 3600, 86_400
# The container sees the directory as /etc/pgbackrest, and only reads it.
PRELOADED = """
services:
  postgres:
    environment:
      LD_PRELOAD: /etc/pgbackrest/clock/libfaketime.so
      FAKETIME_TIMESTAMP_FILE: /etc/pgbackrest/clock/now
      FAKETIME_NO_CACHE: "1"
      FAKETIME_DONT_FAKE_MONOTONIC: "1"
      FAKETIME_DISABLE_SHM: "1"
      NO_FAKE_STAT: "1"
"""


def sql(host: Host, text: str, container: str = "postgres") -> str:
    return str(host.check_output("docker exec %s psql -XqAtU postgres -d notes -c %s", container, text))


def wrong(host: Host) -> str:
    """What playbooks/status.yml would fail with."""
    _, found = backups.judge(status(host), backups.LIMITS)
    return "\n".join(what for what, _ in found)


def backed_up(host: Host, kind: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(host.run(f"flotilla-backup run {kind} 2> /dev/null").stdout.splitlines()[-1])
    return made


def all_sent(host: Host) -> Callable[[], bool]:
    """Whether the segment that is closed now has been sent, and all before it."""
    # With nothing written since the last one there would be none to close.
    sql(host, "SELECT pg_create_restore_point('closed')")
    segment = sql(host, "SELECT pg_walfile_name(pg_switch_wal())")
    return lambda: sql(host, "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver") >= segment


@dataclass
class Clock:
    """The container's. `ahead`: seconds, of the machine's."""

    host: Host
    ahead: int = 0

    def forward(self, seconds: int) -> None:
        self.ahead += seconds
        self.host.check_output(f"echo '{self.ahead:+d}s' > {CLOCK}/new && mv {CLOCK}/new {CLOCK}/now")
        assert abs(self.now() - time.time() - self.ahead) < MINUTE

    def now(self) -> float:
        return float(sql(self.host, "SELECT extract(epoch FROM clock_timestamp())"))


@pytest.fixture(scope="module")
def clock(host: Host) -> Clock:
    host.check_output("apt-get update -q && apt-get install -qy --no-install-recommends libfaketime")
    host.check_output(f"mkdir -p {CLOCK} && cp /usr/lib/*/faketime/libfaketimeMT.so.1 {CLOCK}/libfaketime.so")
    # In a second run it goes on from where the first one left it: what is in the repository has those times.
    host.check_output(f"[ -e {CLOCK}/now ] || echo +0s > {CLOCK}/now; chmod -R a+rX {CLOCK}")
    host.check_output(f"cat > {STACK}/compose.faults.yaml << 'END'\n{PRELOADED}\nEND")
    files = "COMPOSE_FILE=compose.yaml:compose.override.yaml:compose.faults.yaml"
    host.check_output(f"grep -q {files} {STACK}/.env || echo {files} >> {STACK}/.env")
    eventually(lambda: status(host)["repositories"][0]["number"] > 0)
    host.check_output(f"cd {STACK} && docker compose -p postgres up --detach --wait")
    sql(host, "CREATE TABLE IF NOT EXISTS days (at timestamptz)")
    host.check_output(f"cat > /root/restore.py << 'END'\n{RESTORE.read_text()}\nEND")
    return Clock(host, int(host.check_output(f"cat {CLOCK}/now").rstrip("s")))


def test_a_repository_that_is_down_for_an_hour(host: Host, clock: Clock) -> None:
    sql(host, "INSERT INTO days VALUES (now())")
    host.check_output(f"systemctl stop {SSHD}")
    try:
        sent = all_sent(host)
        eventually(lambda: status(host)["wal"]["failed"] > 0)
        clock.forward(HOUR)
        sql(host, "INSERT INTO days VALUES (now())")
        said, waited = wrong(host), status(host)["wal"]["oldest_waiting_seconds"]
    finally:
        host.check_output(f"systemctl start {SSHD}")
    print(said)
    assert waited >= HOUR
    assert "segments of the log wait, one for" in said
    assert "is not well" in said
    eventually(sent)
    eventually(lambda: "segments of the log wait" not in wrong(host))


def test_a_clock_that_was_five_minutes_ahead(host: Host, clock: Clock) -> None:
    """What was made meanwhile has a later time than what comes next."""
    clock.forward(5 * MINUTE)
    assert backed_up(host, "incr")["outcome"] == "done"
    clock.forward(-5 * MINUTE)
    refused = backed_up(host, "incr")
    print(refused)
    assert refused["outcome"] == "failed"
    assert "is there clock skew" in json.dumps(refused)
    assert "is there clock skew" in wrong(host)
    # The log goes on, and so do backups when that time has come.
    eventually(all_sent(host))
    clock.forward(6 * MINUTE)
    assert backed_up(host, "incr")["outcome"] == "done"
    assert wrong(host) == ""


@pytest.fixture
def little_room(host: Host) -> Iterator[None]:
    """A file system of its own for the repository, with 4 MB left; and then with enough."""
    host.check_output("mkdir -p /mnt/repository && mount -t tmpfs -o size=1g,mode=0700 tmpfs /mnt/repository")
    host.check_output(f"cp -a {REPOSITORY}/. /mnt/repository && chown --reference {REPOSITORY} /mnt/repository")
    host.check_output(f"mount --bind /mnt/repository {REPOSITORY} && systemctl restart {SSHD}")
    used = int(host.check_output("df --block-size=1M --output=used /mnt/repository | tail -1"))
    host.check_output(f"mount -o remount,size={used + 4}m /mnt/repository")
    yield
    host.check_output("mount -o remount,size=1g /mnt/repository")


def test_a_full_disk_of_the_repository(host: Host, clock: Clock, little_room: None) -> None:
    sql(host, "DELETE FROM days; INSERT INTO days VALUES (now())")
    fill = "sha512(convert_to(one || '-' || part, 'UTF8'))"
    for _ in range(2):
        sql(
            host,
            f"CREATE TABLE IF NOT EXISTS bulk (data bytea); INSERT INTO bulk SELECT string_agg({fill}, '') "
            "FROM generate_series(1, 8000) one, generate_series(1, 15) part GROUP BY one",
        )
    sent = all_sent(host)
    eventually(lambda: status(host)["wal"]["failed"] > 0)
    made = backed_up(host, "full")
    clock.forward(6 * MINUTE)
    said = wrong(host)
    print(made, said)
    assert made["outcome"] == "failed"
    assert "is its disk full?" in json.dumps(made)
    assert re.search(r"segments of the log wait, .* failed .* is its disk full\?", said)
    sql(host, "INSERT INTO days VALUES (now())")
    assert sql(host, "SELECT count(*) FROM days") == "2"
    host.check_output("mount -o remount,size=1g /mnt/repository")
    eventually(sent)
    assert backed_up(host, "full")["outcome"] == "done"
    verified = host.check_output("docker exec postgres pgbackrest --stanza=main verify --output=text --verbose")
    assert "status: ok" in verified


def test_a_database_of_many_files_can_be_had_back(host: Host, clock: Clock) -> None:
    """pgBackRest has all of them open at once, at the host that keeps them."""
    for part in range(6):
        each = f"EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY)', {part} * 500 + n)"
        sql(host, f"DO $do$ BEGIN FOR n IN 1..500 LOOP {each}; END LOOP; END $do$")
    try:
        assert backed_up(host, "full")["outcome"] == "done"
        restored(host, clock, "--to=backup")
        many = sql(host, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'many_%'", "postgres-scratch")
    finally:
        host.check_output("python3 /root/restore.py scratch-remove")
    assert many == "3000"


def restored(host: Host, clock: Clock, *target: str) -> None:
    """A scratch instance; the container's time is the tool's."""
    faked = f"LD_PRELOAD={CLOCK}/libfaketime.so FAKETIME={clock.ahead:+d}s"
    host.check_output(f"{faked} python3 /root/restore.py scratch {' '.join(target)}")


def promised(environment: str) -> int:
    """The days that an inventory promises."""
    settings = yaml.safe_load((ROOT / "inventories" / environment / "group_vars/all/backup.yml").read_text())
    return int(settings["backup_retention_days"])


@pytest.mark.parametrize(
    ("days", "full_each"),
    [(promised("staging"), 1), (3, 1), (promised("production"), 7)],
    ids=["staging", "three days", "production"],
)
def test_the_promised_days_are_kept_and_no_more(host: Host, clock: Clock, days: int, full_each: int) -> None:
    """A night is a step of the clock. full_each: nights between full backups; the others are differential."""
    host.check_output(
        f"sed -i 's/^repo1-retention-full=.*/repo1-retention-full={days}/' {STACK}/backup/config/pgbackrest.conf"
    )
    for night in range(days + full_each + 2):
        clock.forward(DAY)
        sql(host, "INSERT INTO days VALUES (clock_timestamp())")
        assert backed_up(host, "diff" if night % full_each else "full")["outcome"] == "done"
        info = json.loads(host.check_output("docker exec postgres pgbackrest --stanza=main info --output=json"))[0]
        begins = clock.now() - days * DAY
        old = [one for one in info["backup"] if one["type"] == "full" and one["timestamp"]["stop"] < begins]
        assert len(old) <= 1, "more is kept than is promised"
        if night > days:
            assert info["backup"][0]["timestamp"]["stop"] < begins, "less is kept than is promised"
            assert info["archive"][0]["min"] <= info["backup"][0]["archive"]["start"]
    print([one["label"] for one in info["backup"]])
    # And the first of the promised moments can be had back.
    moment = datetime.fromtimestamp(begins + HOUR, UTC).strftime("%Y-%m-%d %H:%M:%S+0000")
    then = int(sql(host, f"SELECT count(*) FROM days WHERE at <= '{moment}'"))
    restored(host, clock, "--to=time", f"'--what={moment}'")
    try:
        assert int(sql(host, "SELECT count(*) FROM days", "postgres-scratch")) == then > 0
    finally:
        host.check_output("python3 /root/restore.py scratch-remove")
