"""Backups of Postgres with pgBackRest: where they go, its configuration, and what status says. For the controller only."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

ACCOUNT = "flotilla-backup"
STANZA = "main"
HOW_TO = "docs/how-to/back-up.md"
# Where the container sees what the role writes.
CONFIGURATION = "/etc/pgbackrest"
# Below the directory that the account sees as its root.
HOST_PATH = "/repository"


def wanted(hosts: Sequence[str], s3: Mapping[str, Any]) -> bool:
    """Whether there is anywhere for backups to go. hosts: those of the group `backup`."""
    return bool(hosts or s3)


def only_at_home(database: Sequence[str], hosts: Sequence[str], s3: Mapping[str, Any]) -> list[str]:
    """The database's hosts whose backups would be on their own disks alone."""
    if s3 or not hosts:
        return []
    return [host for host in database if set(hosts) == {host}]


def fingerprint(host_key: str) -> str:
    """SHA-256 of a public host key (`ssh-ed25519 AAAA… comment`) in hex, as pgBackRest compares it. Raises ValueError."""
    words = host_key.split()
    if len(words) < 2 or words[0] != "ssh-ed25519":
        raise ValueError(f"the host key {host_key!r} is not one of ed25519")
    return hashlib.sha256(base64.b64decode(words[1], validate=True)).hexdigest()


def repositories(hosts: Sequence[Mapping[str, Any]], s3: Mapping[str, Any]) -> list[str]:
    """What people call the repositories, in pgBackRest's order: its number 1 comes first."""
    return [str(host["name"]) for host in hosts] + ([f"bucket {s3['bucket']}"] if s3 else [])


def configuration(settings: Mapping[str, Any], disk_mb: int) -> str:
    """pgbackrest.conf, without anything secret. settings: the role's variables.  disk_mb: size of the database's disk."""
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
    return _ini({"global": common, STANZA: database})


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


def pg_wal_max_mb(settings: Mapping[str, Any], queue_mb: int) -> int:
    """How much of the log on the database's disk is too much for status, in MB."""
    return int(settings["backup_pg_wal_max_mb"]) or queue_mb // 2


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
            "sftp-host-fingerprint": fingerprint(host["host_key"]),
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
