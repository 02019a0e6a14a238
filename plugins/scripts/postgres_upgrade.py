# MIT License, see LICENSE at the root of the project.
"""Takes this host's Postgres to another major version: `… -m scripts.postgres_upgrade check|upgrade|undo|confirm`.

playbooks/upgrade-postgres.yml installs it beside postgres_restore.py and runs it. All databases go through a pipe, from
the old server into a new one; both run in throw-away containers that nobody but the superuser reaches, and what is
compared before the data changes places is the number of rows of every table. The old data is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flotilla.contained import opened
from flotilla.terminal import visible

from .postgres_copy import ACCESS, SUPERUSER, Copier
from .postgres_restore import (
    KEPT,
    LIVE,
    UPGRADED,
    Backup,
    Project,
    RestoreError,
    alone,
    beside,
    clock,
    databases,
    difference,
    empty,
    ended,
    exchange,
    last_lines,
    live,
    mountpoint,
    nothing_waits,
    room,
    rows,
    run,
    running,
    session,
    sql,
    write,
)

OLD, NEW = "postgres-old", "postgres-new"
SOCKETS = Path("/run/flotilla/upgrade")
READY_SECONDS = 300
# What a dump does not carry, as lines of words.
LEFT_BEHIND = """
SELECT format('the replication slot %s: remove it, and make it again afterwards', slot_name) FROM pg_replication_slots
UNION ALL SELECT format('the prepared transaction %s: commit it or roll it back', gid) FROM pg_prepared_xacts
UNION ALL SELECT format('the tablespace %s: move what is in it', spcname) FROM pg_tablespace WHERE spcname !~ '^pg_'
UNION ALL SELECT format('the database %s, which lets nobody in: ALTER DATABASE %1$I ALLOW_CONNECTIONS true', datname)
    FROM pg_database WHERE NOT datallowconn AND datname <> 'template0'
"""
EXTENSIONS = "SELECT extname FROM pg_extension"
# What nobody but a superuser can make, and somebody else owns, as lines of words. Those of extensions come with these.
MISPLACED = """
SELECT pg_catalog.format('the %s %s of %s', what, name, rolname) FROM (
    SELECT 'function' AS what, 'pg_proc'::regclass AS class, p.oid, p.oid::regprocedure::text AS name, proowner AS owner
        FROM pg_proc AS p JOIN pg_language AS l ON l.oid = prolang WHERE NOT lanpltrusted OR proleakproof
    UNION ALL SELECT 'type', 'pg_type'::regclass, t.oid, t.oid::regtype::text, typowner
        FROM pg_type AS t WHERE typtype = 'b' AND typelem = 0) AS made
JOIN pg_roles ON pg_roles.oid = owner
WHERE NOT rolsuper AND NOT EXISTS (
    SELECT FROM pg_depend AS d WHERE d.classid = class AND d.objid = made.oid AND d.deptype = 'e')
"""
# Nothing is lost with it that a second attempt does not bring back; all is on the disk before the data changes places.
QUICKLY = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
}


def major_of(version: str) -> str:
    """`17` of `17.7 (Debian 17.7-3)`."""
    found = re.match(r"\d+", version)
    if found is None:
        raise RestoreError(f"the server says that its version is {version!r}")
    return found[0]


def limits(stack: Mapping[str, Any]) -> tuple[int, float]:
    """Memory in MiB and cores that the database may have. stack: what `docker compose config` says."""
    limited = stack["services"]["postgres"]["deploy"]["resources"]["limits"]
    return int(limited["memory"]) >> 20, float(limited["cpus"])


def instance(
    stack: Mapping[str, Any], name: str, *, image: str, volume: str, memory_mb: int, options: Mapping[str, str]
) -> dict[str, Any]:
    """The stack's Compose file as a server whose socket is in a directory of the host, and that nobody else reaches.

    volume: with its data.  options: of the server, by name. The old server's socket is in /old of every one. The
    superuser and the copy's own role are let in, over the socket.
    """
    document = beside(stack, name, memory_mb, limits(stack)[1])
    service = document["services"]["postgres"]
    service["image"] = image
    settings = {"hba_file": "/etc/pg_hba.conf", **options}
    service["command"] += [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    # Who waits for it waits for the database.
    del service["cpu_shares"]
    service["tmpfs"] = [one for one in service["tmpfs"] if not one.startswith("/var/run/postgresql")]
    own = {"type": "bind", "source": str(SOCKETS / name), "target": "/var/run/postgresql"}
    old = {"type": "bind", "source": str(SOCKETS / OLD), "target": "/old", "read_only": True}
    access = {"type": "bind", "source": str(SOCKETS / "pg_hba.conf"), "target": "/etc/pg_hba.conf", "read_only": True}
    service["volumes"] = [*service["volumes"], own, old, access]
    document["volumes"] = {key: {"name": volume, "external": True} for key in document["volumes"]}
    return document


def started(stack: Mapping[str, Any], name: str, *, image: str, volume: str, share: float, **options: str) -> Project:
    """Such a server, when it takes commands. share: of the database's memory."""
    memory = max(64, int(limits(stack)[0] * share))
    uid = int(str(stack["services"]["postgres"]["user"]).partition(":")[0])
    for one in (OLD, name):
        (SOCKETS / one).mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(SOCKETS / one, uid, uid)
    (SOCKETS / "pg_hba.conf").write_text(ACCESS)
    (SOCKETS / "pg_hba.conf").chmod(0o644)
    document = instance(stack, name, image=image, volume=volume, memory_mb=memory, options=options)
    file = KEPT / f"{name}.json"
    write(file, json.dumps(document, indent=1) + "\n")
    project = Project(name, file, volume)
    data = mountpoint(volume)
    with opened(data, below=data.parent) as place:
        fresh = place.entry("PG_VERSION") is None
    project.compose("up", "--detach", "--no-build", "--force-recreate")
    deadline = time.time() + READY_SECONDS
    while True:
        log = run("docker", "logs", name, check=False)
        # While the image makes a cluster, its server takes commands too, and ends.
        made = not fresh or "init process complete" in log
        asked = session(name, SUPERUSER, "psql", "-XAtq", "-c", "SELECT 1")
        if made and run(*asked, check=False, seconds=60).strip() == "1":
            return project
        if not running(name) or time.time() > deadline:
            raise RestoreError(f"a server of {image} does not start: {last_lines(log, 4)}")
        time.sleep(0.3)


def removed(name: str, *, volume: str = "") -> None:
    """Nothing is left of such a server, but its data unless the volume is given."""
    run("docker", "rm", "--force", name, check=False)
    run("docker", "network", "rm", f"{name}_default", check=False)
    (KEPT / f"{name}.json").unlink(missing_ok=True)
    shutil.rmtree(SOCKETS / name, ignore_errors=True)
    if volume:
        run("docker", "volume", "rm", volume, check=False)


def check(image: str, major: str) -> dict[str, Any]:
    """What is there, when it can be upgraded. Raises RestoreError; nothing was touched then."""
    if UPGRADED.exists():
        before = json.loads(UPGRADED.read_text())
        if before["phase"] == "done" and before["to"] == major:
            return {**before, "already": True}
    nothing_waits()
    if not running(LIVE):
        raise RestoreError("no database runs here. Next: docker logs postgres")
    present = major_of(sql(LIVE, "SHOW server_version"))
    if int(present) >= int(major):
        raise RestoreError(
            f"postgres_version: is {major}, and the database is of {present} already. Next: set it to the newer "
            "version, then run this again"
        )
    within = ("docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c")
    said = run(*within, "postgres --version")
    offered = re.search(r"\(PostgreSQL\) (\d+)", said)
    if offered is None or offered[1] != major:
        what = f"is of {offered[1]}" if offered else f"says {last_lines(said, 1)!r} of its version"
        raise RestoreError(
            f"postgres_image: {image} {what}, and postgres_version is {major}. Next: correct one of them"
        )
    named = databases(LIVE)
    if behind := sql(LIVE, LEFT_BEHIND).splitlines():
        raise RestoreError(f"a dump does not carry {'; nor '.join(behind)}. Next: that, then run this again")
    if made := [line for database in named for line in sql(LIVE, MISPLACED, database).splitlines()]:
        raise RestoreError(
            f"only a superuser can make {'; nor '.join(made)}, and what belongs to an app is restored as the app may. "
            "Next: ALTER … OWNER TO postgres, then run this again"
        )
    used = {line for database in named for line in sql(LIVE, EXTENSIONS, database).split()}
    listed = 'ls "/usr/share/postgresql/$PG_MAJOR/extension" 2> /dev/null || ls "$(pg_config --sharedir)/extension"'
    there = run(*within, listed).split()
    if missing := sorted(one for one in used if f"{one}.control" not in there):
        raise RestoreError(
            f"postgres_image: {image} lacks the extension {', '.join(missing)}. "
            "Next: an image that has it, or DROP EXTENSION"
        )
    size = int(sql(LIVE, "SELECT sum(pg_database_size(oid))::bigint FROM pg_database"))
    room(Backup("", 0, 0, size))
    return {"from": present, "to": major, "databases": named, "bytes": size, "already": False}


def upgrade(image: str, major: str, identity: str) -> dict[str, Any]:
    """The database in the new version, its old data kept until `confirm` or `undo`; the live container is stopped then.

    Raises RestoreError: what was there before serves again.
    """
    found = check(image, major)
    if found["already"]:
        return found
    stack = json.loads(live().compose("config", "--format", "json"))
    here, fresh, kept = live().volume, f"{NEW}-data", f"{live().volume}-before-{identity}"
    was = stack["services"]["postgres"]["image"]
    about = {"id": identity, "from": found["from"], "to": major, "volume": kept, "image": was, "bytes": found["bytes"]}
    removed(NEW, volume=fresh)
    run("docker", "volume", "create", "--label", f"flotilla.upgrade={identity}", fresh)
    began = time.time()
    try:
        # While the old one serves on: an image that does not start costs nobody anything.
        new = started(stack, NEW, image=image, volume=fresh, share=0.25, **QUICKLY)
        if sql(NEW, "SHOW data_checksums") != "on" and sql(LIVE, "SHOW data_checksums") == "on":
            raise RestoreError(f"postgres_image: {image} makes a cluster without page checksums")
        new.compose("stop", "postgres")
        stopped = time.time()
        live().compose("stop", "postgres", seconds=900)
        started(stack, OLD, image=was, volume=here, share=0.3, default_transaction_read_only="on")
        started(stack, NEW, image=image, volume=fresh, share=0.6, **QUICKLY)
        since = time.time()
        Copier(OLD, NEW, found["from"]).all(found["databases"])
        copied = time.time() - since
        before, after = rows(OLD), rows(NEW)
        if told := difference(before, after):
            raise RestoreError(f"not all rows came over: {'; '.join(told[:5])}")
        for name in (OLD, NEW):
            run("docker", "stop", "--time", "300", name, seconds=400)
        os.sync()
    except BaseException as error:
        removed(NEW, volume=fresh)
        removed(OLD)
        live().compose("start", "postgres", check=False)
        what = "What was there before serves again, and nothing is lost"
        raise RestoreError(f"{str(error).rstrip('.') or type(error).__name__}. {what}") from error
    removed(NEW)
    removed(OLD)
    run("docker", "volume", "create", "--label", f"flotilla.before={identity}", kept)
    remember(about, "keeping")
    exchange(mountpoint(here), mountpoint(kept))
    remember(about, "placing")
    exchange(mountpoint(fresh), mountpoint(here))
    run("docker", "volume", "rm", fresh)
    result = {
        **about,
        "at": clock(began),
        "tables": len(after),
        "rows": sum(after.values()),
        "copied_seconds": round(copied, 1),
        "stopped_seconds": round(time.time() - stopped, 1),
    }
    remember(result, "done")
    return {**result, "already": False}


def remember(about: Mapping[str, Any], phase: str) -> None:
    """How far it is, for a run that is cut short: keeping (the old data), placing (the new data), done, undoing."""
    write(UPGRADED, json.dumps({**about, "phase": phase}, indent=1) + "\n")


def state() -> dict[str, Any]:
    """The upgrade that waits. Raises RestoreError when there is none."""
    try:
        found: dict[str, Any] = json.loads(UPGRADED.read_text())
    except FileNotFoundError:
        raise RestoreError("state: no upgrade of this host waits to be confirmed or undone") from None
    return found


def undo(major: str) -> dict[str, Any]:
    """The old data in its place; the live container, still of the newer version, is stopped then."""
    found = state()
    if found["from"] != major:
        raise RestoreError(
            f'postgres_version: is {major}, and the old data is of {found["from"]}. Next: set it to "{found["from"]}" '
            "(and postgres_image, where it is set), then run this again"
        )
    live().compose("stop", "postgres", seconds=900)
    here = mountpoint(live().volume)
    kept = mountpoint(found["volume"])
    # What is there is a part of the old data while that is being kept, or being put back.
    if found["phase"] not in ("keeping", "undoing"):
        empty(here)
        remember(found, "undoing")
    exchange(kept, here)
    run("docker", "volume", "rm", found["volume"])
    run("docker", "volume", "rm", f"{NEW}-data", check=False)
    UPGRADED.unlink()
    return found


def confirm(*, drop: bool) -> dict[str, Any]:
    """The upgrade is what was wanted. drop: remove the old data; else it stays until a person removes its volume."""
    found = state()
    if drop:
        run("docker", "volume", "rm", found["volume"])
    UPGRADED.unlink()
    return {**found, "dropped": drop}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="postgres_upgrade")
    verbs = found.add_subparsers(dest="verb", required=True)
    for name in ("check", "upgrade", "undo"):
        one = verbs.add_parser(name)
        one.add_argument("--to", required=True)
        if name != "undo":
            one.add_argument("--image", required=True)
        if name == "upgrade":
            one.add_argument("--id", required=True)
    verbs.add_parser("confirm").add_argument("--drop", action="store_true")
    return found


def answer(given: argparse.Namespace) -> dict[str, Any]:
    """One verb."""
    with alone():
        match given.verb:
            case "check":
                return check(given.image, given.to)
            case "upgrade":
                return upgrade(given.image, given.to, given.id)
            case "undo":
                return undo(given.to)
            case _:
                return confirm(drop=given.drop)


def main(arguments: Sequence[str]) -> int:
    """Prints what came of it as JSON. The exit status is 1 when it failed, with the reason on standard error."""
    # So that a run that is ended tidies up.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended)
    try:
        print(json.dumps(answer(parser().parse_args(arguments))))
    except (RestoreError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        print(visible(str(error) or type(error).__name__, lines=True), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
