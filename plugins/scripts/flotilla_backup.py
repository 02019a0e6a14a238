#!/usr/bin/python3
# MIT License, see LICENSE at the root of the project.
"""Backs up this host's Postgres: `flotilla-backup run full|diff|incr`, `… ready`, `… status`.

The role backup installs it, timers run it. pgBackRest does the work in the database's container; this says what came
of it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The role installs it there, beside this.
sys.path.append("/usr/local/lib/flotilla")

from flotilla.contained import opened
from flotilla.terminal import visible

DIRECTORY = Path("/opt/flotilla/postgres/backup")
STANZA = "main"
KINDS = ("full", "diff", "incr")
# A repository that is down is asked again for so many seconds.
INFO = ("info", "--output=json", "--log-level-console=off", "--io-timeout=10")
# pgBackRest's own answer when something else holds its lock (`ERROR: [050]`).
LOCKED = 50
# What the shell calls "try again later" (EX_TEMPFAIL).
BUSY = 75
# What it makes of a wrong key, as chance has it.
UNREADABLE = ("CryptoError", "FormatError: key/value found outside")
# SFTP's word for all that went wrong there (SSH_FX_FAILURE, draft-ietf-secsh-filexfer-02), when it is asked to write.
NOT_WRITTEN = re.compile(r"unable to (?:write|sync|move|create|open) .*sftp error \[4\]", re.DOTALL)
DISK_FULL = "the host that keeps it could not write: is its disk full? df there tells"
# Of a segment that could not be sent, in what pgBackRest keeps of it: `repo1: [FileWriteError] unable to …`.
# A line of what archive.sh writes down, which is the container's to change: when, and which segment.
DROPPED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [0-9A-F]{24}", re.ASCII)
REASON = re.compile(r"^repo\d+: (\[\w+\] .*)$", re.MULTILINE)
WRONG_KEY = "backup_key (vault_backup_key) is not the one that it was made with"
# An attempt to send a segment fails within so many seconds, where the other host answers.
REASON_SECONDS = 5
# Of what the container writes, so much is read.
ERROR_BYTES, DROPPED_BYTES = 64 * 1024, 1024 * 1024
# Of an answer to a question; a backup may take as long as it takes.
ASK_SECONDS = 150

SQL = """\
SELECT json_build_object(
  'last_archived_at', extract(epoch FROM last_archived_time), 'last_archived', last_archived_wal,
  'failed', failed_count, 'last_failed_at', extract(epoch FROM last_failed_time), 'last_failed', last_failed_wal,
  'archive_mode', current_setting('archive_mode'),
  'waiting', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),
  'oldest_waiting_seconds', (
    SELECT extract(epoch FROM now() - min(modification)) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),
  'pg_wal_bytes', (SELECT sum(size) FROM pg_ls_waldir()))
FROM pg_stat_archiver
"""


class BackupError(Exception):
    """What went wrong, for a person."""


def pgbackrest(*arguments: str, seconds: float | None = None) -> tuple[int, str]:
    """Exit code and output of pgBackRest in the container. Nothing secret is in its arguments: it reads files."""
    command = ["docker", "exec", "postgres", "pgbackrest", f"--stanza={STANZA}", *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # What is decrypted with a wrong key is no text.
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return 1, f"pgBackRest did not answer within {seconds:.0f} s"
    return done.returncode, done.stdout


def psql(sql: str) -> str:
    """What the server answers its superuser. Raises BackupError."""
    session = ["docker", "exec", "-i", "postgres", "sh", "/etc/postgresql/session.sh", "postgres"]
    command = [*session, "psql", "--no-psqlrc", "-qAt", "--dbname=postgres"]
    try:
        done = subprocess.run(command, input=sql, capture_output=True, text=True, timeout=ASK_SECONDS)
    except subprocess.TimeoutExpired:
        raise BackupError(f"the database did not answer within {ASK_SECONDS} s") from None
    if done.returncode:
        raise BackupError(f"the database does not answer: {done.stderr.strip()[:300]}")
    return done.stdout


def last_words(output: str) -> str:
    """pgBackRest's error, or else what it said last, as one line of a few hundred letters."""
    if any(sign in output for sign in UNREADABLE):
        return f"what is in the repository cannot be decrypted: {WRONG_KEY}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    start = next((index for index, line in enumerate(lines) if " ERROR: " in line), -1)
    ends = ("backup command end", "stanza-create command end", "check command end")
    words = " ".join(line for line in lines[start:] if not any(end in line for end in ends))[:600]
    return _with_hint(words) or "pgBackRest said nothing"


def _with_hint(words: str) -> str:
    return f"{words} ({DISK_FULL})" if NOT_WRITTEN.search(words) else words


def archive_error(directory: Path, seconds: float) -> str:
    """Why a segment of the log could not be sent, in pgBackRest's words; empty where nothing tells.

    seconds: how long to wait for it. While it is tried again nothing is there.
    """
    end = time.monotonic() + seconds
    while True:
        for text in _errors(directory):
            found = REASON.search(text)
            return _with_hint(found[1] if found else " ".join(text.split()))[:600]
        if time.monotonic() >= end:
            return ""
        time.sleep(0.1)


def _errors(directory: Path) -> Iterator[str]:
    """What pgBackRest left of the segments that it could not send. The directory is its container's."""
    try:
        with opened(directory / "spool" / "archive" / STANZA / "out", below=directory) as out:
            for name in out.names():
                if name.endswith(".error"):
                    # While the next attempt has begun it is gone.
                    with suppress(FileNotFoundError):
                        yield out.read(name, ERROR_BYTES).decode(errors="replace")
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            yield str(error)


def failing(wal: Mapping[str, Any]) -> bool:
    """Whether the last attempt to send a segment failed."""
    return bool(wal["waiting"]) and (wal["last_failed_at"] or 0) > (wal["last_archived_at"] or 0)


def summary(info: str, repositories: Sequence[str]) -> list[dict[str, Any]]:
    """What is in each repository, from `info --output=json`: its state, newest and oldest backup, newest segment."""
    # Of a repository that cannot be decrypted it quotes what it found there.
    stanza: dict[str, Any] = next(
        (one for one in json.loads(info or "[]", strict=False) if one.get("name") == STANZA), {}
    )
    found = []
    for number, name in enumerate(repositories, start=1):
        state = next((one["status"] for one in stanza.get("repo", []) if one["key"] == number), None)
        backups = [one for one in stanza.get("backup", []) if one["database"]["repo-key"] == number]
        archives = [one for one in stanza.get("archive", []) if one["database"]["repo-key"] == number]
        newest = backups[-1] if backups else None
        found.append(
            {
                "name": name,
                # 0 all is well, 2 no backup yet, 3 not complete; 99 cannot be read.
                "code": state["code"] if state else 1,
                "message": _message(state["message"]) if state else "nothing there",
                "running": bool(stanza.get("status", {}).get("lock", {}).get("backup", {}).get("held")),
                "number": len(backups),
                "oldest_at": backups[0]["timestamp"]["stop"] if backups else None,
                "newest": newest and _backup(newest),
                "errors": sum(bool(one.get("error")) for one in backups[-1:]),
                "archived": max((one["max"] for one in archives if one.get("max")), default=None),
            }
        )
    return found


def _message(text: str) -> str:
    return last_words(text) if any(sign in text for sign in UNREADABLE) else text


def _backup(one: Mapping[str, Any]) -> dict[str, Any]:
    info = one["info"]
    return {
        "label": one["label"],
        "kind": one["type"],
        "at": one["timestamp"]["stop"],
        "seconds": one["timestamp"]["stop"] - one["timestamp"]["start"],
        "bytes": info["size"],
        "added_bytes": info["repository"]["delta"],
    }


def stored(directory: Path, name: str) -> Any:
    """What a JSON file in the directory says; None where there is none that can be read."""
    try:
        return json.loads((directory / name).read_text())
    except (OSError, ValueError):
        return None


def store(directory: Path, name: str, value: Any) -> None:
    """Write a JSON file for root alone, whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    Path(temporary).replace(directory / name)


def dropped(directory: Path) -> list[str]:
    """The segments that were dropped since the last backup began, one a line with its time. Raises OSError.

    The list is the container's: root reads it, and keeps for itself from when on it counts.
    """
    try:
        with opened(directory / "spool", below=directory) as spool, spool.open("dropped") as stream:
            # Of a list that is longer, its end.
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - DROPPED_BYTES))
            lines = stream.read(DROPPED_BYTES).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    since = str((stored(directory, "covered.json") or {}).get("at", ""))
    return [line for line in lines if DROPPED.fullmatch(line) and line[:20] >= since]


def run(kind: str, directory: Path = DIRECTORY) -> int:
    """Make a backup in each repository. Prints one JSON object, keeps it as `last.json`; 0, 1 or BUSY."""
    settings = stored(directory, "settings.json")
    if settings is None:
        raise BackupError(f"{directory}/settings.json cannot be read: run playbooks/provision.yml")
    started = time.time()
    began = iso(started)
    results = []
    for number, name in enumerate(settings["repositories"], start=1):
        before = time.time()
        code, output = pgbackrest(f"--type={kind}", f"--repo={number}", "--log-level-console=info", "backup")
        print(visible(output, lines=True), file=sys.stderr, flush=True)
        outcome = "done" if code == 0 else "busy" if code == LOCKED else "failed"
        results.append({"repository": name, "outcome": outcome, "seconds": round(time.time() - before, 1)})
        if code:
            results[-1]["error"] = last_words(output)
    _, info = pgbackrest(*INFO, seconds=ASK_SECONDS)
    try:
        there = {one["name"]: one["newest"] for one in summary(info, settings["repositories"])}
    except ValueError:
        there = {}
    for result in results:
        if result["outcome"] == "done":
            result["backup"] = there.get(result["repository"])
    outcomes = {result["outcome"] for result in results}
    outcome = next(one for one in ("failed", "busy", "done") if one in outcomes)
    answer = {
        "at": iso(time.time()),
        "kind": kind,
        "outcome": outcome,
        "seconds": round(time.time() - started, 1),
        "repositories": results,
    }
    if outcome == "done":
        # It makes up for segments that were dropped before it began.
        store(directory, "covered.json", {"at": began})
    if outcome != "busy":
        store(directory, "last.json", answer)
    print(json.dumps(answer))
    return {"done": 0, "busy": BUSY, "failed": 1}[outcome]


def ready(directory: Path = DIRECTORY) -> int:
    """Make what a repository needs before a first backup, and see that segments arrive. Says `made` when it was new."""
    # An existing one is left as it is, and compared with the database's.
    code, output = pgbackrest("--log-level-console=info", "stanza-create", seconds=ASK_SECONDS)
    if code:
        raise BackupError(last_words(output))
    made = "already exists" not in output
    code, output = pgbackrest("--archive-timeout=60", "check", seconds=ASK_SECONDS)
    if code:
        raise BackupError(last_words(output))
    if stored(directory, "since.json") is None:
        store(directory, "since.json", {"at": iso(time.time())})
    print("made" if made else "there")
    return 0


def status(directory: Path = DIRECTORY) -> dict[str, Any]:
    """All that can be known on this host, without a judgement. `errors` says what could not be asked."""
    settings = stored(directory, "settings.json") or {"repositories": [], "queue_max_mb": 0}
    errors = []
    code, info = pgbackrest(*INFO, seconds=ASK_SECONDS)
    repositories: list[dict[str, Any]] = []
    try:
        if code:
            raise ValueError
        repositories = summary(info, settings["repositories"])
    except ValueError:
        errors.append(f"the repositories cannot be read: {last_words(info)}")
    wal = None
    try:
        wal = json.loads(psql(SQL))
    except (BackupError, ValueError) as error:
        errors.append(str(error))
    lost: list[str] = []
    try:
        lost = dropped(directory)
    except OSError as error:
        errors.append(f"what was dropped cannot be read: {error}")
    return {
        "now": time.time(),
        "repositories": repositories,
        "queue_max_mb": settings["queue_max_mb"],
        "wal": wal,
        "archive_error": archive_error(directory, REASON_SECONDS) if wal and failing(wal) else "",
        "dropped": lost,
        "last": stored(directory, "last.json"),
        "drill": stored(directory, "drill.json"),
        "restored": stored(directory, "restored.json"),
        "upgraded": stored(directory, "upgraded.json"),
        "since": (stored(directory, "since.json") or {}).get("at"),
        "errors": errors,
    }


def iso(seconds: float) -> str:
    """A time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main(arguments: Sequence[str]) -> int:
    """One of the three verbs."""
    os.umask(0o077)
    try:
        match list(arguments):
            case ["run", kind] if kind in KINDS:
                return run(kind)
            case ["ready"]:
                return ready()
            case ["status"]:
                print(json.dumps(status()))
                return 0
    except BackupError as error:
        print(visible(f"flotilla-backup: {error}", lines=True), file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
