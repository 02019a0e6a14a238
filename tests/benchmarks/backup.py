"""backup_over_basebackup, restore_over_copy: what encrypted backups on another host cost, with a gigabyte of data.

Against what a person does without them on the same droplet: pg_basebackup into a file, a copy of the data directory.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field, replace

from tests.benchmarks.benchmark import Benchmark, Cost, Pair, in_turn
from tests.benchmarks.droplet import VERSION, BenchmarkError, spent
from tests.e2e.fleet import Environment, Lab, lab_down, lab_up, write_lab_overlay

LAB = Lab(
    versions=(VERSION,),
    overlay={"backup_key": "{{ vault_backup_key }}", "backup_retention_days": 1},
    more_hosts={"backup": {"staging-backup-1": {"ansible_host": "198.51.100.20", "private_address": "10.1.0.20"}}},
)
FIRST_BACKUP_SECONDS = 180
# A gigabyte in rows of 1 kB that no compression makes smaller.
PARTS, ROWS_OF_A_PART = 10, 100_000
FILL = """
INSERT INTO bulk SELECT one, (
    SELECT string_agg(sha512(convert_to(one || '-' || part, 'UTF8')), '') FROM generate_series(1, 15) part
) FROM generate_series({first} + 1, {first} + {rows}) one
"""
# Flotilla lets nobody in who would replicate: for the measurement the container's own superuser may.
ALLOW = """
set -eu
file=/opt/flotilla/postgres/config/pg_hba.conf
grep -q replication $file || sed -i '1i local replication postgres peer' $file
docker exec postgres psql -qU postgres -c 'SELECT pg_reload_conf()' > /dev/null
"""
BASEBACKUP = """
set -eu
docker exec postgres pg_basebackup -U postgres -D - --format=tar -X fetch --checkpoint=fast > /var/lib/docker/bench.tar
sync --file-system /var/lib/docker/bench.tar
"""
COPY = """
set -eu
cp -a "$(docker volume inspect --format '{{.Mountpoint}}' postgres-data)" /var/lib/docker/bench
sync --file-system /var/lib/docker/bench
"""
TIDY = "rm -rf /var/lib/docker/bench.tar /var/lib/docker/bench; flotilla-restore scratch-remove > /dev/null"


@dataclass
class Database:
    """The droplet of inventories/staging, and another that its backups go to. `up`: it has its gigabyte."""

    environment: Environment
    up: bool = field(default=False, init=False)

    @classmethod
    def named(cls, lab: str, _: int) -> Database:
        """One that is not up yet."""
        return cls(Environment(f"{lab}-backup"))

    def filled(self) -> None:
        """Have it up, with a backup of its gigabyte."""
        if self.up:
            return
        directory = self.environment.directory.with_name(f"{self.environment.name}-overlay")
        self.environment = replace(self.environment, overlays=write_lab_overlay(directory / "hosts", LAB))
        lab_up(self.environment, LAB)
        self.environment.playbook("playbooks/provision.yml").succeeded()
        deadline = time.monotonic() + FIRST_BACKUP_SECONDS
        while not json.loads(self.environment.ssh("flotilla-restore look"))["backups"]:
            if time.monotonic() > deadline:
                raise BenchmarkError("there is no first backup")
            time.sleep(2)
        self.environment.sql("CREATE TABLE bulk (id int, data bytea)")
        for part in range(PARTS):
            self.environment.sql(FILL.format(first=part * ROWS_OF_A_PART, rows=ROWS_OF_A_PART))
        self.environment.ssh(ALLOW)
        self.run("flotilla-backup run full > /dev/null 2>&1")
        self.up = True

    def run(self, script: str) -> Cost:
        """What a script on the droplet takes. What it leaves is removed, and not measured."""
        self.environment.sql("CHECKPOINT")
        with spent() as cost:
            self.environment.ssh(script)
        self.environment.ssh(TIDY)
        return Cost(cost.seconds, cost.cpu_seconds)

    def remove(self) -> None:
        """Remove it and its lab."""
        lab_down(self.environment)
        shutil.rmtree(self.environment.directory.with_name(f"{self.environment.name}-overlay"), ignore_errors=True)


def backup_pair(database: Database, number: int) -> Pair:
    """One full backup, and one pg_basebackup."""
    return in_turn(
        number,
        lambda: database.run("flotilla-backup run full > /dev/null 2>&1"),
        lambda: database.run(BASEBACKUP),
    )


def restore_pair(database: Database, number: int) -> Pair:
    """One restore of the latest state into a scratch instance, until it takes writes; and one copy."""
    return in_turn(
        number,
        lambda: database.run("flotilla-restore scratch --to=latest > /dev/null"),
        lambda: database.run(COPY),
    )


BACKUP_OVER_BASEBACKUP = Benchmark(
    name="backup_over_basebackup",
    of="a full backup of 1 GB, compressed, encrypted, sent to another host",
    over="pg_basebackup into a file beside the database",
    target=6,
    place=Database.named,
    prepare=Database.filled,
    measure=backup_pair,
)
RESTORE_OVER_COPY = Benchmark(
    name="restore_over_copy",
    of="a restore of 1 GB, until the server takes writes",
    over="a copy of the data directory",
    target=12,
    place=Database.named,
    prepare=Database.filled,
    measure=restore_pair,
)
