"""Backups of Postgres with pgBackRest: where they go, its configuration, and what status says. For the controller."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from .inventory import Sources
from .problem import Problem
from .told import told

ACCOUNT = "flotilla-backup"
STANZA = "main"
HOW_TO = "docs/how-to/back-up.md"
# Where the container sees what the role writes.
CONFIGURATION = "/etc/pgbackrest"
# Below the directory that the account sees as its root.
HOST_PATH = "/repository"
# What status asks of an environment that says nothing else; roles/backup/defaults has the same.
LIMITS = {
    "max_age_hours": 26,
    "kept_max_age_hours": 26,
    "wal_max_age_seconds": 300,
    "drill_max_age_days": 8,
    "pg_wal_max_mb": 0,
}
# By how much the clock of a host may be another than the controller's, which asks and is answered meanwhile.
CLOCK_SECONDS = 120
# What to do next.
LOOK = f"on the host, journalctl -u 'flotilla-backup@*' and docker logs postgres; see {HOW_TO}"
PROVISION = "ansible-playbook playbooks/provision.yml{inventory}"
MAKE = "ansible-playbook playbooks/backup.yml{inventory}"
CORRUPT = f"see which, on the host: docker exec postgres pgbackrest --stanza=main --set=<label> info; then {HOW_TO}"
CLOCKS = "timedatectl, on the host and here, says which of the two is wrong"
DRILL = f"see {HOW_TO}"


def wanted(hosts: Sequence[str], s3: Mapping[str, Any]) -> bool:
    """Whether there is anywhere for backups to go. hosts: those of the group `backup`."""
    return bool(hosts or s3)


def problems(
    host: str, variables: Mapping[str, Any], hosts: Sequence[str], sources: Sources, command: str
) -> Iterator[Problem]:
    """What keeps the database of `host` from being backed up as its environment asks for. variables: the host's, raw.

    hosts: those of the group `backup`.  command: completes the secrets.
    """
    s3 = variables.get("backup_s3") or {}
    if not wanted(hosts, s3):
        return
    if set(hosts) == {host} and not s3:
        what = f"`{host}` is the only host in it, and the database's own: one lost disk would take both"
        fix = f"put another host into the group, or set backup_s3; see {HOW_TO}"
        yield Problem(sources.place("backup"), "backup", what, fix)
    if not variables.get("backup_key"):
        fix = f'add backup_key: "{{{{ vault_backup_key }}}}" to group_vars/all/backup.yml, then {command}'
        yield Problem(sources.last, "backup_key", f"is missing, and `{host}` encrypts its backups with it", fix)
    if not variables.get("backup_full_calendar", True):
        what = "is empty: without full backups none is ever removed"
        yield Problem(
            sources.place("backup_full_calendar"), "backup_full_calendar", what, f"give it a time; see {HOW_TO}"
        )


def shared_keys(buckets: Mapping[str, Mapping[str, Any]], sources: Sources) -> Iterator[Problem]:
    """Hosts that send to object storage with one access key. buckets: host → its `backup_s3`, as it is written."""
    owners: dict[str, str] = {}
    for host, s3 in sorted(buckets.items()):
        key = str(s3.get("key"))
        owner = host if "inventory_hostname" in key else owners.setdefault(key, host)
        if owner != host:
            what = f"is the same for `{owner}` and `{host}`: who breaks into one can delete what the other has sent"
            fix = f"give each a key for its own prefix, in host_vars; see {HOW_TO}#object-storage"
            yield Problem(sources.place("backup_s3"), "backup_s3.key", what, fix)


def fingerprint(host_key: str) -> str:
    """SHA-256 of a public host key (`ssh-ed25519 AAAA… …`) in hex, as pgBackRest compares it. Raises ValueError."""
    words = host_key.split()
    if len(words) < 2 or words[0] != "ssh-ed25519":
        raise ValueError(f"the host key {host_key!r} is not one of ed25519")
    return hashlib.sha256(base64.b64decode(words[1], validate=True)).hexdigest()


def repositories(hosts: Sequence[Mapping[str, Any]], s3: Mapping[str, Any]) -> list[str]:
    """What people call the repositories, in pgBackRest's order: its number 1 comes first."""
    return [str(host["name"]) for host in hosts] + ([f"bucket {s3['bucket']}"] if s3 else [])


def configuration(settings: Mapping[str, Any], disk_mb: int) -> str:
    """pgbackrest.conf, without anything secret. settings: the role's variables.  disk_mb: of the database's disk."""
    common: dict[str, Any] = {
        "archive-async": "y",
        # Nobody is to wait an hour for the next checkpoint.
        "start-fast": "y",
        "archive-push-queue-max": f"{queue_max_mb(settings, disk_mb)}MB",
        "compress-type": "zst",
        "process-max": settings["backup_processes"],
        "spool-path": "/var/spool/pgbackrest",
        "lock-path": "/tmp/pgbackrest",
        # To standard output, and so to the engine's log or the journal.
        "log-level-file": "off",
        "log-level-console": "warn",
        "log-level-stderr": "off",
    }
    for number, options in enumerate(_repositories(settings), start=1):
        common |= {f"repo{number}-{name}": value for name, value in options.items()}
    database = {
        "pg1-path": "/var/lib/postgresql/data",
        "pg1-socket-path": "/var/run/postgresql",
        "pg1-user": "postgres",
    }
    # An attempt ends before Postgres gives it up (archive-timeout, 60 s), so that the reason is told; three of them end
    # before a stop of the server is enforced (postgres_stop_seconds), which waits for the archive.
    return _ini({"global": common, "global:archive-push": {"io-timeout": 10}, STANZA: database})


def keys(settings: Mapping[str, Any]) -> str:
    """What of the configuration is secret, as a file of its own."""
    s3 = settings["backup_s3"]
    count = len(repositories(settings["backup_hosts"], s3))
    options = {f"repo{number}-cipher-pass": settings["backup_key"] for number in range(1, count + 1)}
    if s3:
        options |= {f"repo{count}-s3-key": s3["key"], f"repo{count}-s3-key-secret": s3["secret"]}
    return _ini({"global": options})


def queue_max_mb(settings: Mapping[str, Any], disk_mb: int) -> int:
    """How much of the log may wait, in MB: as declared, or a quarter of the disk, and 1 GB at least."""
    return int(settings["backup_queue_max_mb"]) or max(disk_mb // 4, 1024)


def limits(variables: Mapping[str, Any]) -> dict[str, int]:
    """The limits of an environment, by the role's names without `backup_`."""
    return {name: int(variables.get(f"backup_{name}", default)) for name, default in LIMITS.items()}


def report(
    seen: Mapping[str, Mapping[str, Any]], limits_of: Mapping[str, Mapping[str, int]], inventory: str, here: float
) -> dict[str, list[str]]:
    """`lines` and `problems`, from what `flotilla-backup status` told on each host (`said`), or Ansible (`msg`).

    limits_of: host → what `limits` returns.  inventory: as a command takes it, with a space before.
    here: this machine's time, in seconds since the epoch.
    """

    def judged(host: str, said: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        lines, wrong = judge(said, limits_of[host])
        wrong += _clock(float(said["now"]) - here)
        return lines, [f"{what}. Next: {do.format(inventory=inventory)}" for what, do in wrong]

    return told("backups", "its backups", seen, judged, PROVISION.format(inventory=inventory))


def made(said: Mapping[str, Any], host: str) -> dict[str, list[str]]:
    """`lines` and `problems` of what one `flotilla-backup run` answered."""
    lines, found = [], []
    for one in said["repositories"]:
        backup = one.get("backup")
        if one["outcome"] == "done":
            what = (
                f"{backup['label']} ({backup['kind']}), {size(backup['bytes'])}, {size(backup['added_bytes'])} sent"
                if backup
                else "done"
            )
            lines.append(f"{one['repository']}: {what}, {one['seconds']:.0f} s")
        elif one["outcome"] == "busy":
            what = "another backup is being made at the moment"
            found.append(f"{host}: {one['repository']}: {what}. Next: wait until playbooks/status.yml shows it")
        else:
            found.append(f"{host}: {one['repository']}: {one.get('error', '')}. Next: {LOOK}")
    return {"lines": lines, "problems": found}


def judge(said: Mapping[str, Any], limit: Mapping[str, int]) -> tuple[list[str], list[tuple[str, str]]]:
    """Lines about one database, and what is wrong, each with what to do next (`{inventory}` is to be filled in)."""
    lines: list[str] = []
    wrong: list[tuple[str, str]] = [(str(error), LOOK) for error in said["errors"]]
    now = float(said["now"])
    for one in said["repositories"]:
        newest = one["newest"]
        # 2: there is none yet, which is said below.
        if one["code"] not in (0, 2):
            wrong.append((f"the repository {one['name']} is not well: {one['message']}", LOOK))
        if newest:
            age = now - newest["at"]
            lines.append(
                f"{one['name']}: {newest['kind']} {newest['label']}, {span(age)} ago, {size(newest['bytes'])} in "
                f"{span(newest['seconds'])}; {one['number']} kept, the oldest {span(now - one['oldest_at'])} old"
            )
            if age > limit["max_age_hours"] * 3600:
                what = f"the newest backup in {one['name']} is {span(age)} old, more than {limit['max_age_hours']} h"
                wrong.append((what, MAKE))
            if one["errors"]:
                wrong.append((f"the newest backup in {one['name']} has pages whose checksums are wrong", CORRUPT))
        elif one["code"] in (0, 2):
            lines.append(f"{one['name']}: no backup yet{', the first is being made' if one['running'] else ''}")
            wrong += [] if one["running"] else [(f"there is no backup in {one['name']}", MAKE)]
    wrong += _last(said["last"])
    if said["wal"]:
        line, more = _wal(said["wal"], now, limit, int(said["queue_max_mb"]), said.get("archive_error", ""))
        lines.append(line)
        wrong += more
    if said["dropped"]:
        first = str(said["dropped"][0]).partition(" ")[0]
        what = (
            f"{len(said['dropped'])} segments of the log were DROPPED since {first}, because more than "
            f"{said['queue_max_mb']} MB waited: no moment from then to the next backup can be gone back to"
        )
        wrong.append((what, f"see that the repository can be reached, then {MAKE}"))
    line, more = judge_drill(said["drill"], said["since"], now, limit["drill_max_age_days"])
    return [*lines, line, *_waiting(said)], wrong + more


def _waiting(said: Mapping[str, Any]) -> Iterator[str]:
    """A line for a restore or an upgrade that nobody has confirmed or undone."""
    if one := said.get("restored"):
        kept = f"; {one['volume']} has what was there before" if one["volume"] else ""
        yield f"restored to {one['target']}, begun {one['at']}, neither confirmed nor undone{kept}"
    if one := said.get("upgraded"):
        yield (
            f"upgraded from {one['from']} to {one['to']}, neither confirmed nor undone; {one['volume']} has what was "
            "there before"
        )


def _clock(ahead: float) -> list[tuple[str, str]]:
    """What is wrong with a clock that is so many seconds ahead of this machine's."""
    if abs(ahead) <= CLOCK_SECONDS:
        return []
    which = "ahead of" if ahead > 0 else "behind"
    what = (
        f"its clock is {span(abs(ahead))} {which} this machine's: backups are named, and moments to go back to are "
        "told, by the host's"
    )
    return [(what, CLOCKS)]


def _last(last: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What the last backup that was tried failed of."""
    return [
        (f"the last backup ({last['kind']}, {last['at']}) failed in {one['repository']}: {one.get('error', '')}", LOOK)
        for one in (last["repositories"] if last else ())
        if last and one["outcome"] == "failed"
    ]


def _wal(
    wal: Mapping[str, Any], now: float, limit: Mapping[str, int], queue_mb: int, reason: str
) -> tuple[str, list[tuple[str, str]]]:
    """The line about the log and its archive, and what is wrong with them. reason: why the last attempt failed."""
    wrong = []
    held_mb = int(wal["pg_wal_bytes"] or 0) // 1_000_000
    most_mb = limit["pg_wal_max_mb"] or queue_mb // 2
    at, failed_at = wal["last_archived_at"], wal["last_failed_at"]
    sent = f"sent {span(now - at)} ago" if at else "never sent"
    line = f"log: {sent}, {wal['waiting']} segments wait, {held_mb} MB on the disk, {wal['failed']} attempts failed"
    if wal["archive_mode"] != "on":
        wrong.append(("the log is not archived: archive_mode is off", PROVISION))
    waits = float(wal["oldest_waiting_seconds"] or 0)
    if waits > limit["wal_max_age_seconds"]:
        failing = failed_at and (not at or failed_at > at)
        why = f"; {wal['last_failed']} failed {span(now - failed_at)} ago{reason and f': {reason}'}" if failing else ""
        most = limit["wal_max_age_seconds"]
        what = f"{wal['waiting']} segments of the log wait, one for {span(waits)}, more than {most} s{why}"
        wrong.append((what, LOOK))
    if held_mb > most_mb:
        what = f"pg_wal has {held_mb} MB, more than {most_mb}; at {queue_mb} MB what waits is dropped"
        wrong.append((what, LOOK))
    return line, wrong


def judge_drill(
    drill: Mapping[str, Any] | None, since: str | None, now: float, most_days: int
) -> tuple[str, list[tuple[str, str]]]:
    """The line about the last restore drill, and what is wrong with it.

    since: when the first backup was begun (ISO 8601), of which the first drill is due.  most_days: 0 asks for none.
    """
    if not drill:
        due = most_days and since and now - seconds(since) > most_days * 86_400
        wrong = [(f"no backup has been restored in {most_days} days: there was no drill", DRILL)] if due else []
        return "drill: never", wrong
    age = now - seconds(str(drill["at"]))
    figures = "".join(
        f", {name.upper()} {span(drill[f'{name}_seconds'])}"
        for name in ("rpo", "rto")
        if drill.get(f"{name}_seconds") is not None
    )
    line = f"drill: {drill['outcome']} {span(age)} ago{figures}"
    if drill["outcome"] != "passed":
        return line, [(f"the last restore drill failed: {drill.get('detail', '')}".rstrip(": "), DRILL)]
    if most_days and age > most_days * 86_400:
        return line, [(f"the last restore drill is {span(age)} old, more than {most_days} days", DRILL)]
    return line, []


def seconds(at: str) -> float:
    """ISO 8601 as seconds since 1970."""
    return datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()


def span(seconds: float) -> str:
    """A duration for people, in its two biggest units at most."""
    whole = max(int(seconds), 0)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    if whole < 2 * 86_400:
        return f"{whole // 3600} h"
    return f"{whole // 86_400} days"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _repositories(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each repository's options by their names without `repo1-`."""
    every: dict[str, Any] = {
        "cipher-type": "aes-256-cbc",
        # Small files together, and of big ones the blocks that changed.
        "bundle": "y",
        "block": "y",
        "retention-full-type": "time",
        "retention-full": settings["backup_retention_days"],
    }
    found = [
        {
            "type": "sftp",
            "path": f"{HOST_PATH}/{settings['backup_name']}",
            "sftp-host": host["address"],
            "sftp-host-port": host["port"],
            "sftp-host-user": ACCOUNT,
            "sftp-host-key-hash-type": "sha256",
            "sftp-host-key-check-type": "fingerprint",
            # Known when the other host is there: in check mode it may not be.
            "sftp-host-fingerprint": fingerprint(host["host_key"]) if host["host_key"] else "unknown",
            "sftp-private-key-file": f"{CONFIGURATION}/ssh/id_ed25519",
            "sftp-public-key-file": f"{CONFIGURATION}/ssh/id_ed25519.pub",
            **every,
        }
        for host in settings["backup_hosts"]
    ]
    s3 = settings["backup_s3"]
    if s3:
        bucket = {
            "type": "s3",
            "path": f"/{settings['backup_name']}",
            "s3-bucket": s3["bucket"],
            "s3-endpoint": s3["endpoint"],
            "s3-region": s3["region"],
            "s3-uri-style": s3.get("uri_style") or "host",
            **every,
        }
        if s3.get("authority"):
            bucket["storage-ca-file"] = f"{CONFIGURATION}/authority.crt"
        found.append(bucket)
    return found


def _ini(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Raises ValueError for a value that would be more than one line."""
    lines = ["# Written by Flotilla's role backup; changes made here are lost."]
    for section, options in sections.items():
        lines.append(f"[{section}]")
        for name, value in options.items():
            if not str(value) or str(value).splitlines() != [str(value)]:
                raise ValueError(f"{name} is empty or has more than one line")
            lines.append(f"{name}={value}")
    return "\n".join(lines) + "\n"
