#!/usr/bin/python3
# MIT License, see LICENSE at the root of the project.
"""Brings back a Postgres that pgBackRest backs up: `flotilla-restore scratch`, `place`, `drill` and more, on its host.

The role restore installs it; playbooks/restore.yml, playbooks/drill.yml and timers run it. pgBackRest runs in
containers of the database's own image alone: a restore is the stack's Compose file with other volumes and another
command. One runs at a time.
"""

from __future__ import annotations

import argparse
import copy
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The role installs it there, beside this.
sys.path.append("/usr/local/lib/flotilla")

from flotilla.contained import opened
from flotilla.terminal import visible

STACK = Path("/opt/flotilla/postgres")
KEPT = STACK / "backup"
# What waits to be confirmed or undone.
RESTORED, UPGRADED = KEPT / "restored.json", KEPT / "upgraded.json"
LOCK = Path("/run/flotilla/restore.lock")
LIVE, SCRATCH, DRILL = "postgres", "postgres-scratch", "postgres-drill"
DATA = "/var/lib/postgresql/data"
AUTOMATIC = "postgresql.auto.conf"
STANZA = "main"
SERVER = ["postgres", "-c", "config_file=/etc/postgresql/postgresql.conf"]
SEGMENT = 16 * 1024 * 1024
# Free disk that a restore needs beside the size of the database: WAL that is replayed, and what Postgres writes itself.
SPARE_BYTES = 512 * 1024 * 1024
# What is restored has to be there within this time: a day, for the largest of databases.
RESTORE_SECONDS = 86_400
ARCHIVE_SECONDS = 180
# How often what the engine still makes or removes is looked for, a second apart.
REMOVALS = 5
# What a name of Postgres' may be long, without its end (src/include/pg_config_manual.h: MAXFNAMELEN is 64).
POINT_LENGTH = 63
POINT_TIME = re.compile(r"^flotilla-(\d{8}T\d{6}Z)-")
TRANSACTION = re.compile(r"last completed transaction was at log time (\S+ \S+)")
REDO = re.compile(r"redo done at ([0-9A-F]+/[0-9A-F]+)")
MARKER = """
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS flotilla;
CREATE TABLE IF NOT EXISTS flotilla.marker (one boolean PRIMARY KEY DEFAULT true CHECK (one), at timestamptz NOT NULL);
INSERT INTO flotilla.marker (at) VALUES (clock_timestamp()) ON CONFLICT (one) DO UPDATE SET at = excluded.at;
"""
# Where the server's container has what opens a session (compose/postgres/session.sh).
SESSION = "/etc/postgresql/session.sh"
# Every table of a database, and what counts its rows without a plan: for one, the server calls the immutable functions
# in the table's indexes, which are its owner's, and would do so as whoever asks. COPY plans nothing, and refuses a view
# in the place of a table. Of the columns the smallest, as they are written.
TABLES = r"""
SELECT pg_catalog.json_build_object(
    'table', pg_catalog.format('%s.%s', n.nspname, c.relname),
    'count', pg_catalog.format('COPY %I.%I%s TO %L', n.nspname, c.relname, (
        SELECT pg_catalog.format(' (%I)', a.attname) FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        ORDER BY a.attlen < 0, a.attlen, a.attnum LIMIT 1), '/dev/null'))
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p'
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'flotilla')
ORDER BY n.nspname, c.relname
"""


class RestoreError(Exception):
    """Why nothing was restored, for a person, with the next command where there is one."""


@dataclass(frozen=True)
class Target:
    """What to go back to. `to`: latest, time, point or backup; `what`: the time or the point's name.

    label: of the backup to begin from; empty for the newest that fits.  timeline: of WAL; empty for the latest.
    """

    to: str = "latest"
    what: str = ""
    label: str = ""
    timeline: str = ""

    def __str__(self) -> str:
        return {"latest": "the latest state", "backup": f"the backup {self.label or '(newest)'}"}.get(
            self.to, f"the {self.to} {self.what}"
        )


@dataclass(frozen=True)
class Backup:
    """One backup. `began`, `ended`: seconds since the epoch.  size: of the database, in bytes.

    system: the number of the cluster, which is another one after an upgrade to another major version.
    """

    label: str
    began: float
    ended: float
    size: int
    system: str = ""


# -- what is worked out -----------------------------------------------------------------------------


def backups_of(info: Sequence[Mapping[str, Any]]) -> list[Backup]:
    """The whole backups of `pgbackrest info --output=json`, oldest first."""
    found = {
        str(one["label"]): Backup(
            str(one["label"]),
            float(one["timestamp"]["start"]),
            float(one["timestamp"]["stop"]),
            int(one["info"]["size"]),
            system_of(stanza, one),
        )
        for stanza in info
        for one in stanza.get("backup", ())
        if not one.get("error")
    }
    return sorted(found.values(), key=lambda backup: (backup.ended, backup.label))


def system_of(stanza: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """The cluster, by Postgres' own number, that a backup or an archive of a stanza is of."""
    mine = one.get("database", {})
    found = [
        db for db in stanza.get("db", ()) if (db.get("repo-key"), db["id"]) == (mine.get("repo-key"), mine.get("id"))
    ]
    return str(found[0].get("system-id", "")) if found else ""


def present_system(info: Sequence[Mapping[str, Any]]) -> str:
    """The cluster that the repository takes backups of: the last of those that it has known."""
    known = [one for stanza in info for one in stanza.get("db", ())]
    return str(max(known, key=lambda one: int(one["id"])).get("system-id", "")) if known else ""


def systems_of(info: Sequence[Mapping[str, Any]]) -> set[str]:
    """The clusters that the repository has, by Postgres' own number of each."""
    return {str(one["system-id"]) for stanza in info for one in stanza.get("db", ()) if one.get("system-id")}


def last_archived(info: Sequence[Mapping[str, Any]], system: str) -> str:
    """The last WAL segment that the repository has of a cluster, or nothing. Each cluster counts from the beginning."""
    ends = (
        str(one["max"])
        for stanza in info
        for one in stanza.get("archive", ())
        if one.get("max") and system_of(stanza, one) == system
    )
    return max(ends, default="")


def stanza_trouble(info: Sequence[Mapping[str, Any]]) -> str:
    """Why the repository cannot be used, in pgBackRest's words; nothing when it can."""
    for stanza in info:
        status = stanza.get("status", {})
        # 0 is well, 2 is no backups: both are told by what there is.
        if status.get("code") in (0, 2):
            continue
        details = [str(repo.get("status", {}).get("message", "")) for repo in stanza.get("repo", ())]
        return "; ".join(filter(None, [str(status.get("message", "")), *details]))
    return ""


def chosen(backups: Sequence[Backup], target: Target, points: Sequence[Mapping[str, Any]], system: str) -> Backup:
    """The backup to begin from. Raises RestoreError, which says what there is.

    system: the cluster that is wanted. One of before an upgrade has to be asked for by its label.
    """
    if not backups:
        raise RestoreError(
            "the repository has no backup of this database. Next: ansible-playbook playbooks/backup.yml -e type=full"
        )
    there = ", ".join(f"{one.label} (ended {clock(one.ended)})" for one in backups[-8:])
    if target.label:
        named = [one for one in backups if one.label == target.label]
        if not named:
            raise RestoreError(f"label: the repository has no backup {target.label}. It has: {there}")
        return named[0]
    backups = [one for one in backups if one.system == system]
    if not backups:
        raise RestoreError(
            f"the repository has no backup of this version yet. It has of before: {there}. "
            "Next: ansible-playbook playbooks/backup.yml -e type=full"
        )
    if target.to in ("latest", "backup"):
        return backups[-1]
    moment = moment_of(target, points)
    before = [one for one in backups if one.ended < moment]
    if not before:
        raise RestoreError(
            f"{target.to}: no backup ended before {clock(moment)}; the oldest is {backups[0].label}, "
            f"which ended {clock(backups[0].ended)}. Next: a later {target.to}. There are: {there}"
        )
    return before[-1]


def moment_of(target: Target, points: Sequence[Mapping[str, Any]]) -> float:
    """When a target was, in seconds since the epoch."""
    if target.to == "time":
        try:
            when = datetime.fromisoformat(target.what)
        except ValueError:
            raise RestoreError(f"time: `{target.what}` is no time. Next: such as 2026-11-22 10:00:00+00") from None
        if when.tzinfo is None:
            raise RestoreError(f"time: `{target.what}` has no zone. Next: {target.what}+00")
        return when.timestamp()
    known = [float(point["at"]) for point in points if point.get("name") == target.what]
    if known:
        return known[-1]
    if named := POINT_TIME.match(target.what):
        return datetime.strptime(named[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    names = ", ".join(str(point.get("name")) for point in points[-8:]) or "none"
    raise RestoreError(
        f"point: this host knows no restore point {target.what} (it knows: {names}). Next: another one, or "
        "-e label=<a backup from before it>"
    )


def restore_arguments(target: Target, backup: Backup) -> list[str]:
    """What pgBackRest is told."""
    common = ["--set", backup.label] if target.to != "latest" or target.label else []
    if target.timeline:
        common += ["--target-timeline", target.timeline]
    match target.to:
        case "latest":
            return common
        case "backup":
            return [*common, "--type=immediate", "--target-action=promote"]
        case "time":
            return [*common, "--type=time", f"--target={target.what}", "--target-action=promote"]
        case _:
            return [*common, "--type=name", f"--target={target.what}", "--target-action=promote"]


def beside(stack: Mapping[str, Any], name: str, memory_mb: int, cpus: float) -> dict[str, Any]:
    """The stack's Compose file as a throw-away instance: volumes of its own, no port, no archive, little of the host.

    stack: what `docker compose config --format json` says. What the live one writes to in the stack's directory (the
    spool) becomes memory of this one; any other directory of the host is only read.
    """
    service: dict[str, Any] = copy.deepcopy(stack["services"]["postgres"])
    for key in (
        "ports",
        "expose",
        "build",
        "healthcheck",
        "networks",
        "deploy",
        "depends_on",
        "container_name",
        "labels",
    ):
        service.pop(key, None)
    user = str(service.get("user", "999:999"))
    uid = user.partition(":")[0]
    mounts, memory, volumes = [], list(service.get("tmpfs") or []), {}
    for mount in service.get("volumes", ()):
        if mount["type"] == "volume":
            volumes[mount["source"]] = {"name": f"{name}-{mount['source']}"}
            mounts.append(mount)
        elif mount.get("read_only") or not Path(mount["source"]).is_relative_to(STACK):
            mounts.append({**mount, "read_only": True})
        else:
            memory.append(f"{mount['target']}:uid={uid},gid={uid},mode=0750")
    options = {
        "archive_mode": "off",
        "listen_addresses": "",
        "ssl": "off",
        "shared_buffers": f"{max(16, memory_mb // 4)}MB",
        "effective_cache_size": f"{memory_mb // 2}MB",
        "maintenance_work_mem": f"{max(8, memory_mb // 16)}MB",
        "work_mem": "4MB",
        "huge_pages": "off",
    }
    settings = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    service |= {
        "container_name": name,
        "command": [*SERVER, *settings],
        "restart": "no",
        # What pgBackRest leaves behind would be the server's child, and its failure the server's crash.
        "init": True,
        "volumes": mounts,
        "tmpfs": memory,
        "mem_limit": f"{memory_mb}m",
        "cpus": cpus,
        # Of 1024: the live one and the apps come first.
        "cpu_shares": 64,
        "oom_score_adj": 500,
        "pids_limit": 200,
    }
    used = {one["source"]: one for one in service.get("secrets", ()) if isinstance(one, Mapping)}
    secrets = {key: value for key, value in (stack.get("secrets") or {}).items() if key in used}
    document = {"name": name, "services": {"postgres": service}, "volumes": volumes, "networks": {"default": {}}}
    return document | ({"secrets": secrets} if secrets else {})


def explain(text: str, target: Target, *, opened: bool = True) -> str:
    """What pgBackRest's or the server's words mean, where they are known; else their last lines.

    opened: whether the repository's own list could be read before, so that the key is the right one.
    """
    if not opened and re.search(r"CryptoError|cipher|unable to (?:flush|decrypt)|FormatError", text):
        return (
            "the repository cannot be read with the key vault_backup_key: the backups were made with another one, "
            "or it is damaged. Next: the environment's vault as it was when they were made"
        )
    if re.search(
        r"CryptoError|ChecksumError|FormatError|actual checksum|invalid checksum|unable to (?:flush|decompress)", text
    ):
        found = re.search(r"(?:error restoring|raised from|file|path) '([^']+)'", text)
        where = f" at {found[1]}" if found else ""
        return (
            f"the repository is damaged{where}: a checksum does not fit ({last_lines(text, 1)}). "
            "Next: another backup, -e label=<label>, and a new one: ansible-playbook playbooks/backup.yml -e type=full"
        )
    if "recovery ended before configured recovery target was reached" in text:
        last = TRANSACTION.findall(text)
        upto = f", and the last transaction in it is of {last[-1]}" if last else ""
        return (
            f"the archive ends before {target}{upto}: WAL is missing, or that is yet to come. "
            "Next: an earlier one, or -e to=latest"
        )
    if re.search(r"WAL ends before (?:end of online backup|consistent recovery point)", text):
        return "WAL that the backup itself needs is missing in the repository. Next: another backup, -e label=<label>"
    if re.search(r"HostConnectError|FileOpenError|ServiceError|unable to (?:connect|open)|timeout connecting", text):
        return f"the repository cannot be reached: {last_lines(text, 3)}"
    return last_lines(text, 6)


def last_lines(text: str, number: int) -> str:
    """The last lines that say something, errors first; what was read with a wrong key is no text."""
    lines = ["".join(filter(str.isprintable, line.replace("\ufffd", ""))).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if re.search(r"ERROR|FATAL|PANIC|HINT|rror:", line)]
    return " | ".join((errors or lines)[-number:])[:1500]


def segment_of(lsn: str) -> int:
    """The number of the WAL segment that a place is in."""
    high, _, low = lsn.partition("/")
    return ((int(high, 16) << 32) | int(low, 16)) // SEGMENT


def segment_number(name: str) -> int:
    """The number of a WAL segment by its file's name, whatever its timeline."""
    return (int(name[8:16], 16) << 32 | int(name[16:24], 16) * SEGMENT) // SEGMENT


def gap(log: str, archived: str) -> str:
    """Why what was replayed to the end of the archive is not all that the archive has; nothing when it is."""
    replayed = REDO.findall(log)
    if not archived or not replayed:
        return ""
    missing = segment_number(archived) - segment_of(replayed[-1])
    # The last segment may hold nothing but the end of the one before.
    if missing <= 1:
        return ""
    return (
        f"WAL is missing in the repository: replay ended at {replayed[-1]}, {missing - 1} segments before the last one "
        f"that is there ({archived})"
    )


def difference(now: Mapping[str, int], then: Mapping[str, int]) -> list[str]:
    """Tables whose number of rows differs, in words; rows that were only changed are not seen."""
    told = []
    for table in sorted(now.keys() | then.keys()):
        here, there = now.get(table), then.get(table)
        if here == there:
            continue
        if there is None:
            told.append(f"{table}: {here} rows now, the table is not there then")
        elif here is None:
            told.append(f"{table}: not there now, {there} rows then")
        else:
            told.append(f"{table}: {here} rows now, {there} then ({there - here:+d})")
    return told


def clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- the host -----------------------------------------------------------------------------------------


def run(*words: str, given: str = "", seconds: float = 600, check: bool = True, directory: Path | None = None) -> str:
    """What a command prints, both streams. Raises RestoreError with it."""
    done = subprocess.run(
        words,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds,
        cwd=directory,
    )
    if check and done.returncode:
        raise RestoreError(done.stdout.strip() or f"{words[0]} ended with {done.returncode}")
    return done.stdout


def running(container: str) -> bool:
    """Whether a container runs."""
    return run("docker", "inspect", "--format", "{{.State.Running}}", container, check=False).strip() == "true"


def session(container: str, role: str, *words: str) -> list[str]:
    """The command for a program of libpq's in a server's container, as a role over its socket. All are opened so."""
    return ["docker", "exec", "--interactive", container, "sh", SESSION, role, *words]


def conninfo(database: str) -> str:
    """A database's name as a connection string, whatever it is called."""
    quoted = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{quoted}'"


def sql(container: str, script: str, database: str = "postgres", seconds: float = 600) -> str:
    """What psql prints as the superuser over the container's own socket."""
    words = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
    command = session(container, "postgres", *words, f"--dbname={conninfo(database)}")
    return run(*command, given=script, seconds=seconds).strip()


def databases(container: str) -> list[str]:
    return sql(
        container, "SELECT datname FROM pg_database WHERE datallowconn AND datname !~ '^template' ORDER BY 1"
    ).splitlines()


def rows(container: str) -> dict[str, int]:
    """Database, schema and table → number of rows, counted."""
    counted = {}
    for database in databases(container):
        tables = [json.loads(line) for line in sql(container, TABLES, database).splitlines()]
        script = "".join(f"{one['count']};\n\\echo :ROW_COUNT\n" for one in tables)
        numbers = sql(container, script, database, seconds=3600).splitlines()
        for one, number in zip(tables, numbers, strict=True):
            counted[f"{database}.{one['table']}"] = int(number)
    return counted


def write(path: Path, text: str) -> None:
    """A file for root alone, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


@contextmanager
def alone() -> Iterator[None]:
    """No other restore or drill on this host meanwhile. Raises RestoreError."""
    LOCK.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with LOCK.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "another one"
            raise RestoreError(
                f"{who} is in hand on this host: one at a time. Next: wait for it and run again"
            ) from None
        file.truncate(0)
        file.write(f"{' '.join(sys.argv[1:3])} since {clock(time.time())}")
        file.flush()
        yield
        file.truncate(0)


class Project:
    """A Compose project whose service `postgres` holds the data volume `volume`."""

    def __init__(self, name: str, file: Path | None, volume: str) -> None:
        self.name, self.volume = name, volume
        # Without a file it is the stack, whose .env says which files it has.
        self._base = ("docker", "compose", "--project-name", name) + (("--file", str(file)) if file else ())

    @property
    def container(self) -> str:
        return self.name

    def compose(self, *words: str, seconds: float = 600, check: bool = True) -> str:
        return run(*self._base, *words, seconds=seconds, check=check, directory=STACK)

    def pgbackrest(self, *words: str, seconds: float = 600) -> str:
        """pgBackRest in a container of its own, with the project's volumes."""
        once = ("run", "--rm", "--no-TTY", "--no-deps", "--quiet-pull", "--entrypoint", "pgbackrest", "postgres")
        return self.compose(*once, f"--stanza={STANZA}", *words, seconds=seconds)

    def info(self) -> list[dict[str, Any]]:
        """What the repository has. Raises RestoreError when it cannot be read."""
        try:
            said = self.pgbackrest("info", "--output=json", "--log-level-console=off", "--log-level-stderr=error")
        except RestoreError as error:
            raise RestoreError(explain(str(error), Target(), opened=False)) from None
        found = re.search(r"^\[.*\]$", said, re.MULTILINE | re.DOTALL)
        info: list[dict[str, Any]] = json.loads(found[0], strict=False) if found else []
        if trouble := stanza_trouble(info):
            raise RestoreError(explain(trouble, Target(), opened=False))
        return info

    def restore(self, arguments: Sequence[str], target: Target) -> None:
        """Fill the data volume."""
        try:
            self.pgbackrest("--log-level-console=info", *arguments, "restore", seconds=RESTORE_SECONDS)
        except RestoreError as error:
            raise RestoreError(explain(str(error), target)) from None

    def start(self, target: Target, seconds: float = RESTORE_SECONDS) -> str:
        """Start the server, and wait until it has replayed what it should and takes writes. Returns its log."""
        since = time.time()
        self.compose("up", "--detach", "--no-build", "--force-recreate")
        while True:
            state = run(
                "docker", "inspect", "--format", "{{.State.Status}} {{.RestartCount}}", self.container, check=False
            )
            status, _, restarts = state.strip().partition(" ")
            asked = session(self.container, "postgres", "psql", "-XAtq", "-c", "SELECT pg_is_in_recovery()")
            if status == "running" and run(*asked, check=False, seconds=60).strip() == "f":
                return self.log(since)
            if status not in ("running", "created", "restarting") or restarts not in ("", "0"):
                log = self.log(since)
                raise RestoreError(explain(log, target))
            if time.time() - since > seconds:
                raise RestoreError(f"the server was not ready within {seconds:.0f} s: {last_lines(self.log(since), 4)}")
            time.sleep(0.5)

    def log(self, since: float) -> str:
        return run("docker", "logs", "--since", f"{since - 1:.0f}", self.container, check=False)


def live() -> Project:
    return Project(LIVE, None, "postgres-data")


def throw_away(name: str, memory_mb: int, cpus: float) -> Project:
    """The project of a throw-away instance, whose file is written from what the stack is now."""
    stack = json.loads(live().compose("config", "--format", "json"))
    file = KEPT / f"{name}.json"
    write(file, json.dumps(beside(stack, name, memory_mb, cpus), indent=1) + "\n")
    return Project(name, file, f"{name}-data")


def remove(name: str) -> bool:
    """Remove a throw-away instance with its volumes, whatever is left of it. Returns whether there was one."""
    assert name in (SCRATCH, DRILL)
    there = False
    # What its client was killed over, the engine may still be making or removing.
    for tries_left in reversed(range(REMOVALS)):
        try:
            if not _removed(name):
                break
            there = True
        except RestoreError:
            if not tries_left:
                raise
            time.sleep(1)
    (KEPT / f"{name}.json").unlink(missing_ok=True)
    return there


def _removed(name: str) -> bool:
    """Remove what is there of it now. Returns whether anything was. Raises RestoreError."""
    label = f"label=com.docker.compose.project={name}"
    containers = run("docker", "ps", "--all", "--quiet", "--filter", label).split()
    volumes = [one for one in run("docker", "volume", "ls", "--quiet").split() if one.startswith(f"{name}-")]
    networks = run("docker", "network", "ls", "--quiet", "--filter", label).split()
    if containers:
        run("docker", "rm", "--force", "--volumes", *containers)
    if volumes:
        run("docker", "volume", "rm", "--force", *volumes)
    if networks:
        run("docker", "network", "rm", *networks)
    return bool(containers or volumes or networks)


def points() -> list[dict[str, Any]]:
    """The restore points that were set from here, oldest first."""
    try:
        lines = (KEPT / "points.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def foreign(info: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the live database is another one than that of the repository: a new, empty one on a new host."""
    if not running(LIVE):
        return False
    here = sql(LIVE, "SELECT system_identifier FROM pg_control_system()")
    return bool(systems_of(info)) and here not in systems_of(info)


def room(backup: Backup) -> None:
    """Raises RestoreError when the disk of the volumes is too small for a backup."""
    root = run("docker", "info", "--format", "{{.DockerRootDir}}").strip()
    free, needed = shutil.disk_usage(root).free, backup.size + SPARE_BYTES
    if free < needed:
        raise RestoreError(
            f"the disk of {root} has {free >> 20} MiB free, and a restore needs {needed >> 20} MiB. "
            "Next: make room, or a larger disk"
        )


def push_wal() -> None:
    """Have all that is committed in the live database in the repository. Raises RestoreError."""
    asked = "SELECT pg_walfile_name(pg_switch_wal())"
    segment = sql(LIVE, f"{MARKER} {asked};").splitlines()[-1]
    deadline = time.time() + ARCHIVE_SECONDS
    while time.time() < deadline:
        done = sql(LIVE, "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver")
        if done[8:24] >= segment[8:24] and done[:8] >= segment[:8]:
            return
        time.sleep(0.5)
    raise RestoreError(
        f"the live database could not archive its last WAL ({segment}) within {ARCHIVE_SECONDS} s, and what is in it "
        "would be lost. Next: ansible-playbook playbooks/status.yml says why"
    )


# -- the verbs ----------------------------------------------------------------------------------------


def prepared(project: Project, target: Target) -> tuple[Backup, list[dict[str, Any]]]:
    """The backup to begin from, when all that can be seen beforehand is well. Raises RestoreError."""
    if target.to == "time" and moment_of(target, ()) > time.time():
        raise RestoreError(f"time: {target.what} is yet to come. Next: an earlier one, or -e to=latest")
    info = project.info()
    if target.to != "backup" and running(LIVE) and not foreign(info):
        push_wal()
        info = project.info()
    backup = chosen(backups_of(info), target, points(), present_system(info))
    room(backup)
    return backup, info


def scratch(target: Target, memory_mb: int, cpus: float) -> dict[str, Any]:
    """A throw-away instance beside the live one."""
    remove(SCRATCH)
    project = throw_away(SCRATCH, memory_mb, cpus)
    began = time.time()
    try:
        backup, info = prepared(project, target)
        project.restore(restore_arguments(target, backup), target)
        log = project.start(target)
        if target.to == "latest" and (missing := gap(log, last_archived(info, backup.system))):
            raise RestoreError(f"{missing}. Next: -e to=time with a time before that, or another repository")
    except BaseException:
        remove(SCRATCH)
        raise
    last = TRANSACTION.findall(log)
    return {
        "container": SCRATCH,
        "backup": backup.label,
        "last_transaction": last[-1] if last else "",
        "seconds": round(time.time() - began, 1),
        "databases": databases(SCRATCH),
    }


def compare() -> dict[str, Any]:
    """How many rows each table has now, and has in the scratch instance."""
    if not running(LIVE):
        return {"lines": [], "counted": False}
    return {"lines": difference(rows(LIVE), rows(SCRATCH)), "counted": True}


def place(target: Target, identity: str) -> dict[str, Any]:
    """The database itself, its data kept in a volume of its own until `confirm` or `undo`."""
    state = RESTORED
    nothing_waits()
    project = live()
    backup, info = prepared(project, target)
    other = foreign(info)
    volume = f"postgres-data-before-{identity}"
    began = time.time()
    project.compose("stop", "postgres", seconds=900)
    run("docker", "volume", "create", "--label", "flotilla.kept=before a restore", project.volume)
    old = mountpoint(project.volume)
    if not other and (waiting := unsent(old)):
        project.start(Target())
        raise RestoreError(f"{waiting}. What was there before serves again")
    info = project.info()
    with opened(old, below=old.parent) as data:
        kept = bool(data.names())
    about = {
        "id": identity,
        "target": str(target),
        "volume": volume if kept else "",
        "at": clock(began),
        "backup": backup.label,
    }
    if kept:
        run("docker", "volume", "create", "--label", f"flotilla.before={identity}", volume)
        write(state, json.dumps({**about, "done": False}, indent=1) + "\n")
        exchange(old, mountpoint(volume))
    try:
        project.restore(restore_arguments(target, backup), target)
        log = project.start(target)
        if target.to == "latest" and (missing := gap(log, last_archived(info, backup.system))):
            raise RestoreError(missing)
    except BaseException as error:
        project.compose("stop", "postgres", seconds=900, check=False)
        empty(old)
        if kept:
            put_back(project, volume)
            state.unlink()
            what = "What was there before serves again, and nothing is lost"
            raise RestoreError(f"{str(error).rstrip('.') or type(error).__name__}. {what}") from error
        project.compose("rm", "--force", "postgres", check=False)
        raise
    if kept:
        write(state, json.dumps({**about, "done": True}, indent=1) + "\n")
    last = TRANSACTION.findall(log)
    return {
        **about,
        "foreign": other,
        "last_transaction": last[-1] if last else "",
        "seconds": round(time.time() - began, 1),
    }


def nothing_waits() -> None:
    """Raises RestoreError when an earlier restore or upgrade waits: the one would take what the other keeps."""
    if RESTORED.exists():
        before = json.loads(RESTORED.read_text())
        raise RestoreError(
            f"the restore {before['id']} to {before['target']} is neither confirmed nor undone, and its old data is "
            f"in the volume {before['volume']}. Next: playbooks/restore.yml -e state=confirmed, or -e state=undone"
        )
    if UPGRADED.exists():
        before = json.loads(UPGRADED.read_text())
        raise RestoreError(
            f"the upgrade {before['id']} from {before['from']} to {before['to']} is neither confirmed nor undone, and "
            f"the old data is in the volume {before['volume']}. Next: playbooks/upgrade-postgres.yml -e "
            "state=confirmed, or -e state=undone"
        )


def unsent(data: Path) -> str:
    """Why a stopped database has WAL that the repository does not have; nothing when it has all."""
    try:
        with opened(data / "pg_wal" / "archive_status", below=data.parent) as status:
            names = [name.removesuffix(".ready") for name in status.names() if name.endswith(".ready")]
    except FileNotFoundError:
        names = []
    if not names:
        return ""
    return (
        f"the database stopped before it had archived its last WAL ({', '.join(names[:3])}), and a restore would lack "
        "it. Next: ansible-playbook playbooks/status.yml says why"
    )


def undo() -> dict[str, Any]:
    """The data that was there before the last restore, instead of what it brought."""
    state = read_state()
    project = live()
    project.compose("stop", "postgres", seconds=900)
    empty(mountpoint(project.volume))
    put_back(project, state["volume"])
    RESTORED.unlink()
    return {"id": state["id"], "volume": state["volume"]}


def confirm(*, drop: bool) -> dict[str, Any]:
    """The restore is what was wanted. drop: remove the old data; else it stays until a person removes its volume."""
    state = read_state()
    if drop:
        run("docker", "volume", "rm", state["volume"])
    RESTORED.unlink()
    return {"id": state["id"], "volume": state["volume"], "dropped": drop}


def read_state() -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(RESTORED.read_text())
    except FileNotFoundError:
        raise RestoreError("state: no restore of this host waits to be confirmed or undone") from None
    return state


def put_back(project: Project, volume: str) -> None:
    """The kept data, on a timeline of its own: that of the restore is in the archive already, and would be followed."""
    data, kept = mountpoint(project.volume), mountpoint(volume)
    # The data is the container's: what is no file of its own is found before anything is moved.
    with opened(kept, below=kept.parent) as old:
        text = old.read(AUTOMATIC)
    exchange(kept, data)
    run("docker", "volume", "rm", volume)
    fetch = f"restore_command = 'pgbackrest --stanza={STANZA} archive-get %f \"%p\"'\n"
    fetch += "recovery_target_timeline = 'current'\n"
    with opened(data, below=data.parent) as place:
        mine = place.stat()
        owner, group = mine.st_uid, mine.st_gid
        place.write("recovery.signal", b"", owner=owner, group=group)
        place.write(AUTOMATIC, text + fetch.encode(), owner=owner, group=group)
        project.start(Target())
        # A server that runs cannot forget them.
        place.write(AUTOMATIC, text, owner=owner, group=group)
        project.start(Target())


def mountpoint(volume: str) -> Path:
    return Path(run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume).strip())


def exchange(source: Path, target: Path) -> None:
    """All that is in one directory into another of the same file system, with its owner and mode."""
    with opened(source, below=source.parent) as here, opened(target, below=target.parent) as there:
        here.move_all(there)


def empty(directory: Path) -> None:
    """Remove what a failed restore left in the live volume; what was there before is kept elsewhere by then."""
    with opened(directory, below=directory.parent) as place:
        for name in place.names():
            place.remove(name)


def drill(memory_mb: int, cpus: float, rpo_limit: float) -> dict[str, Any]:
    """Restore the newest backup, replay all WAL, check it, remove it; what came of it is in drill.json."""
    began = time.time()
    outcome: dict[str, Any] = {
        "at": clock(began),
        "outcome": "failed",
        "rpo_seconds": -1,
        "rto_seconds": -1,
        "detail": "",
    }
    hand = KEPT / "drill.running"
    write(hand, json.dumps(outcome) + "\n")
    try:
        with alone():
            remove(DRILL)
            try:
                outcome |= drilled(throw_away(DRILL, memory_mb, cpus), began, rpo_limit)
            finally:
                remove(DRILL)
    except (RestoreError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        outcome["detail"] = str(error) or type(error).__name__
    write(KEPT / "drill.json", json.dumps(outcome, indent=1) + "\n")
    hand.unlink(missing_ok=True)
    return outcome


def drilled(project: Project, began: float, rpo_limit: float) -> dict[str, Any]:
    """What a drill finds. Raises RestoreError."""
    target = Target()
    info = project.info()
    backup = chosen(backups_of(info), target, (), present_system(info))
    room(backup)
    project.restore(restore_arguments(target, backup), target)
    log = project.start(target)
    reached = {"rto_seconds": round(time.time() - began)}
    if missing := gap(log, last_archived(info, backup.system)):
        raise RestoreError(missing)
    try:
        marked = float(sql(DRILL, "SELECT extract(epoch FROM at) FROM flotilla.marker"))
    except (RestoreError, ValueError):
        raise RestoreError(
            "the marker that flotilla-marker.timer sets each minute is not in what was restored; of a database that is "
            "new, the first one has been sent after two minutes"
        ) from None
    reached["rpo_seconds"] = round(began - marked)
    checked = databases(DRILL)
    try:
        amcheck(DRILL)
    except RestoreError as error:
        raise RestoreError(f"amcheck finds fault with what was restored: {last_lines(str(error), 3)}") from None
    if reached["rpo_seconds"] > rpo_limit:
        what = f"{reached['rpo_seconds']} s of rows would be lost, and restore_drill_rpo_seconds allows {rpo_limit:.0f}"
        return {**reached, "outcome": "failed", "detail": what}
    detail = f"backup {backup.label}, {backup.size >> 20} MiB, databases: {', '.join(checked)}; amcheck finds no fault"
    return {**reached, "outcome": "passed", "detail": detail}


def amcheck(container: str) -> None:
    """Check all tables and indexes of a throw-away instance. Raises RestoreError with what is wrong.

    With the functions of PostgreSQL's own schema: beside one in the schema public an owner may put its own.
    """
    for database in databases(container):
        sql(container, "DROP EXTENSION IF EXISTS amcheck CASCADE", database)
    words = ["pg_amcheck", "--install-missing=pg_catalog", "--all", "--exclude-database=template0"]
    run(*session(container, "postgres", *words), seconds=RESTORE_SECONDS)


def drill_ended() -> None:
    """After the drill's unit, however it ended: nothing of it is left, and one that was cut short has failed."""
    hand = KEPT / "drill.running"
    # Before anything that can fail: what the drill before it came to is not what this one did.
    if hand.exists():
        cut = {**json.loads(hand.read_text()), "detail": "the drill was cut short"}
        write(KEPT / "drill.json", json.dumps(cut, indent=1) + "\n")
        hand.unlink()
    remove(DRILL)


def mark() -> None:
    """One row with the time, by which a drill tells how much would be lost."""
    if running(LIVE) and sql(LIVE, "SELECT pg_is_in_recovery()") == "f":
        sql(LIVE, MARKER, seconds=30)


def point(name: str) -> dict[str, Any]:
    """Set a named restore point in the live database."""
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9_.+-]{{0,{POINT_LENGTH - 1}}}", name):
        raise RestoreError(f"point: `{name}` is no name: letters, digits and _.+-, at most {POINT_LENGTH} of them")
    lsn, at = sql(LIVE, f"SELECT pg_create_restore_point('{name}'), extract(epoch FROM clock_timestamp())").split("|")
    KEPT.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(KEPT / "points.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
        file.write(json.dumps({"name": name, "at": float(at), "lsn": lsn}) + "\n")
    return {"name": name, "lsn": lsn, "at": clock(float(at))}


def look() -> dict[str, Any]:
    """What the repository has, the restore points, and a restore that waits to be confirmed."""
    found = backups_of(live().info())
    return {
        "backups": [asdict(one) | {"ended": clock(one.ended), "began": clock(one.began)} for one in found],
        "points": points(),
        "restored": json.loads(RESTORED.read_text()) if RESTORED.exists() else None,
        "scratch": running(SCRATCH),
    }


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="flotilla-restore")
    verbs = found.add_subparsers(dest="verb", required=True)
    for name in ("look", "mark", "scratch-remove", "compare", "undo", "drill-ended"):
        verbs.add_parser(name)
    verbs.add_parser("point").add_argument("name")
    verbs.add_parser("confirm").add_argument("--drop", action="store_true")
    trial = verbs.add_parser("drill")
    trial.add_argument("--rpo-limit", type=float, default=300)
    for name in ("scratch", "place"):
        one = verbs.add_parser(name)
        one.add_argument("--to", choices=["latest", "time", "point", "backup"], default="latest")
        for option in ("--what", "--label", "--timeline"):
            one.add_argument(option, default="")
        if name == "place":
            one.add_argument("--id", required=True)
    for one in (trial, verbs.choices["scratch"]):
        one.add_argument("--memory-mb", type=int, default=256)
        one.add_argument("--cpus", type=float, default=0.5)
    return found


def answer(given: argparse.Namespace) -> dict[str, Any] | None:
    """One verb."""
    match given.verb:
        case "look":
            return look()
        case "mark":
            mark()
            return None
        case "point":
            return point(given.name)
        case "compare":
            return compare()
        case "drill":
            return drill(given.memory_mb, given.cpus, given.rpo_limit)
        case "drill-ended":
            drill_ended()
            return None
    with alone():
        match given.verb:
            case "scratch-remove":
                return {"removed": remove(SCRATCH)}
            case "undo":
                return undo()
            case "confirm":
                return confirm(drop=given.drop)
        target = Target(given.to, given.what, given.label, given.timeline)
        if given.verb == "scratch":
            return scratch(target, given.memory_mb, given.cpus)
        return place(target, given.id)


def ended(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """Prints what came of it as JSON. The exit status is 1 when it failed, with the reason on standard error."""
    # So that a run that is ended tidies up.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended)
    try:
        came = answer(parser().parse_args(arguments))
    except (RestoreError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        print(visible(str(error) or type(error).__name__, lines=True), file=sys.stderr)
        return 1
    if came is not None:
        print(json.dumps(came))
    return int(came is not None and came.get("outcome") == "failed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
