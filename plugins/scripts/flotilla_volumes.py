#!/usr/bin/python3
# MIT License, see LICENSE at the root of the project.
"""Backs up this host's volumes with restic, and brings them back: `flotilla-volumes run`, `restore`, `drill` and more.

The role backup installs it; timers, playbooks/backup.yml, playbooks/restore.yml, playbooks/drill.yml and
playbooks/status.yml run it. A snapshot is the volume's directory `_data`, with its owner and mode, under the tag
`volume=<name>`. One run, restore or drill at a time.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The role installs it there, beside this.
sys.path.append("/usr/local/lib/flotilla")

from flotilla.contained import opened, seen_alone
from flotilla.terminal import visible

HOME = Path("/opt/flotilla/volumes")
CACHE = Path("/var/cache/flotilla/volumes")
LOCK = Path("/run/flotilla/volumes.lock")
DATA = "_data"
# Beside the data, in the volume's own directory: a volume that was made anew does not have it.
MARK = "flotilla-backed-up"
STAGE, DRILL = "flotilla-stage", "drill"
APPENDED = "appendonlydir"
# What the shell calls "try again later" (EX_TEMPFAIL).
BUSY = 75
# restic's own answer when some files could not be read.
INCOMPLETE = 3
ASK_SECONDS = 150
LONG_SECONDS = 86_400
SPARE_BYTES = 256 * 1024 * 1024
HEALTHY_SECONDS = 120
REWRITE_SECONDS = 600
NEXT_RESTORE = "ansible-playbook playbooks/restore.yml -e volume={volume} -e to=latest -e into=place"


class VolumeError(Exception):
    """What went wrong, for a person."""


class BusyError(VolumeError):
    """Another run is in hand."""


# -- what is worked out -----------------------------------------------------------------------------


def explain(text: str, repository: str) -> str:
    """What restic's words mean, where they are known; else its last lines."""
    if "wrong password or no key found" in text:
        return (
            f"the repository {repository} cannot be opened: backup_volumes_key (vault_backup_volumes_key) is not the "
            "one that it was made with. Next: put the old key back into the vault, then playbooks/provision.yml"
        )
    damage = (
        r"ciphertext verification failed|invalid data returned|hash does not match|does not match id|"
        r"repository contains errors|failed to decompress|unexpected pack|pack .* (?:damaged|truncated|contains)|"
        r"is damaged|load\(<[a-z]+/[0-9a-f]+>.*invalid"
    )
    if re.search(damage, text):
        return (
            f"the repository {repository} is damaged: {last_lines(text)}. Next: an older snapshot or another "
            "repository (-e label=…), and see docs/how-to/back-up.md"
        )
    if re.search(r"subprocess ssh exited|[Cc]onnection (?:refused|timed out|reset|closed)|sftp session|no route", text):
        return f"the repository {repository} cannot be reached: {last_lines(text)}"
    return f"{repository}: {last_lines(text)}"


def missing(text: str) -> bool:
    """Whether restic says that there is no repository, of a place that it can reach."""
    found = re.search(r"config: (?:stat .*no such file|.*does not exist)|config file does not exist|no such key", text)
    return bool(found or "Is there a repository at the following location?" in text) and not re.search(
        r"subprocess ssh exited|sftp session|[Cc]onnection (?:refused|timed out|reset|closed)", text
    )


def last_lines(text: str) -> str:
    """The last lines that say something, as one line; answers in JSON by their message."""
    said = []
    for line in text.splitlines():
        try:
            answer = json.loads(line)
            line = str(answer.get("message") or answer.get("error") or "") if isinstance(answer, dict) else line
        except ValueError:
            pass
        if line.strip():
            said.append(line.strip())
    return " | ".join(said[-3:])[:700] or "restic said nothing"


def unread(text: str) -> list[str]:
    """The files that a snapshot lacks, but for those that were gone by the time they were read."""
    found = []
    for line in text.splitlines():
        if not re.search(r"error|Fatal", line, re.IGNORECASE) or "no such file or directory" in line:
            continue
        if re.search(r"at least one source file could not be read", line):
            continue
        found.append(line)
    return found


def seconds_of(text: str) -> float:
    """ISO 8601 as seconds since 1970. restic's own times have nanoseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00")).timestamp()


def snapshots_of(listing: str) -> list[dict[str, Any]]:
    """Snapshots as `{id, at, volume}`, oldest first, from `restic snapshots --json`."""
    found = []
    for one in json.loads(listing or "[]") or []:
        volume = next((tag.partition("=")[2] for tag in one.get("tags") or () if tag.startswith("volume=")), "")
        found.append({"id": str(one["id"])[:8], "at": seconds_of(one["time"]), "volume": volume})
    return sorted(found, key=lambda one: (one["at"], one["id"]))


def chosen(snapshots: Sequence[Mapping[str, Any]], volume: str, to: str, what: str) -> Mapping[str, Any]:
    """The snapshot of a volume to bring back. Raises VolumeError, which says what there is.

    to: `latest`, `time` (the last one by then) or `backup`.  what: the time (ISO 8601, with its zone), or the id.
    """
    there = [one for one in snapshots if one["volume"] == volume]
    if not there:
        raise VolumeError(f"there is no snapshot of the volume {volume}. Next: ansible-playbook playbooks/backup.yml")
    listed = ", ".join(f"{one['id']} ({clock(one['at'])})" for one in there[-8:])
    if to == "time":
        there = [one for one in there if one["at"] <= seconds_of(what)]
        if not there:
            raise VolumeError(f"time: no snapshot of {volume} is as old as {what}. There are: {listed}")
    if to == "backup" and what:
        there = [one for one in there if one["id"] == what[:8]]
        if not there:
            raise VolumeError(f"label: there is no snapshot {what} of {volume}. There are: {listed}")
    return there[-1]


def clock(moment: float) -> str:
    """A time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- the host -----------------------------------------------------------------------------------------


def command(
    *words: str, given: str = "", seconds: float = ASK_SECONDS, check: bool = True, directory: Path | None = None
) -> str:
    """What a command prints. Raises VolumeError with what it complains of."""
    done = subprocess.run(
        words, input=given, capture_output=True, text=True, errors="replace", timeout=seconds, cwd=directory
    )
    if check and done.returncode:
        raise VolumeError((done.stderr or done.stdout).strip()[:700] or f"{words[0]} ended with {done.returncode}")
    return done.stdout


def stored(name: str) -> Any:
    """What a JSON file in HOME says; None where there is none that can be read."""
    try:
        return json.loads((HOME / name).read_text())
    except (OSError, ValueError):
        return None


def store(name: str, value: Any) -> None:
    """Write a JSON file for root alone, whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=HOME)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(value, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    Path(temporary).replace(HOME / name)


def settings() -> dict[str, Any]:
    """What the role wrote. Raises VolumeError."""
    found: dict[str, Any] | None = stored("settings.json")
    if found is None:
        raise VolumeError(f"{HOME}/settings.json cannot be read. Next: ansible-playbook playbooks/provision.yml")
    return found


@contextmanager
def alone() -> Iterator[None]:
    """No other run, restore or drill of volumes on this host meanwhile. Raises BusyError."""
    LOCK.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with LOCK.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "another one"
            raise BusyError(f"{who} is in hand on this host: one at a time. Next: wait for it and run again") from None
        file.truncate(0)
        file.write(f"{' '.join(sys.argv[1:3])} since {clock(time.time())}")
        file.flush()
        yield
        file.truncate(0)


class Repository:
    """A restic repository of this host's. The key is read from a file, what else is secret from the environment."""

    def __init__(self, about: Mapping[str, Any], host: str) -> None:
        self.name, self.host = str(about["name"]), host
        self._options = [word for option in about.get("options", ()) for word in ("-o", option)]
        # Who vouches for the service, where the public ones do not.
        self._options += ["--cacert", about["authority"]] if about.get("authority") else []
        self._environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "RESTIC_REPOSITORY": str(about["url"]),
            "RESTIC_CACHE_DIR": str(CACHE),
            **about.get("environment", {}),
        }

    def restic(
        self, *words: str, seconds: float = LONG_SECONDS, directory: Path | None = None, key: str = "key"
    ) -> tuple[int, str, str]:
        """Exit code and the two streams. directory: of a container's, to work beside: its links lead nowhere."""
        within = seen_alone(directory) if directory else ()
        try:
            done = subprocess.run(
                [*within, "restic", *self._options, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env={**self._environment, "RESTIC_PASSWORD_FILE": str(HOME / key)},
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return 1, "", f"connection timed out: restic did not answer within {seconds:.0f} s"
        return done.returncode, done.stdout, done.stderr

    def ask(self, *words: str, seconds: float = LONG_SECONDS) -> str:
        """What restic prints. Raises VolumeError."""
        code, out, complaint = self.restic(*words, seconds=seconds)
        if code:
            raise VolumeError(explain(complaint or out, self.name))
        return out

    def made(self) -> bool:
        """Make the repository where there is none; whether it was made now. Raises VolumeError."""
        code, out, complaint = self.restic("cat", "config", seconds=ASK_SECONDS)
        if code == 0:
            # A lock that a run left behind when the host went down; one of a run that lives stays.
            self.ask("unlock", seconds=ASK_SECONDS)
            return False
        if not missing(complaint or out):
            raise VolumeError(explain(complaint or out, self.name))
        self.ask("init", seconds=ASK_SECONDS)
        return True

    def renew(self) -> bool:
        """Let the key of now open it, and no more the one that the database's host can make; whether that one did.

        Where it was cut short, the next one ends it.  Raises VolumeError.
        """
        code, out, _ = self.restic("key", "list", "--json", seconds=ASK_SECONDS, key="old-key")
        if code:
            return False
        if self.restic("cat", "config", seconds=ASK_SECONDS)[0]:
            code, _, complaint = self.restic(
                "key", "add", "--new-password-file", str(HOME / "key"), seconds=ASK_SECONDS, key="old-key"
            )
            if code:
                raise VolumeError(explain(complaint, self.name))
        for one in json.loads(out):
            if one["current"]:
                self.ask("key", "remove", str(one["id"]), seconds=ASK_SECONDS)
        return True

    def snapshots(self) -> list[dict[str, Any]]:
        """This host's. Raises VolumeError."""
        return snapshots_of(self.ask("snapshots", "--json", "--no-lock", "--host", self.host, seconds=ASK_SECONDS))

    def backup(self, directory: Path, volume: str) -> dict[str, Any]:
        """A snapshot of `directory`, by its own name. Raises VolumeError."""
        words = ("backup", "--json", "--quiet", "--host", self.host, "--tag", f"volume={volume}", directory.name)
        code, out, complaint = self.restic(*words, directory=directory)
        if code not in (0, INCOMPLETE):
            raise VolumeError(explain(complaint or out, self.name))
        if code == INCOMPLETE and (lost := unread(complaint)):
            raise VolumeError(f"some files of {volume} could not be read: {last_lines(chr(10).join(lost))}")
        said = next(json.loads(line) for line in reversed(out.splitlines()) if '"summary"' in line)
        return {
            "snapshot": said["snapshot_id"][:8],
            "bytes": said["total_bytes_processed"],
            "added_bytes": said["data_added"],
            "files": said["total_files_processed"],
        }

    def forget(self, volume: str, days: int) -> None:
        """Remove what is older than the retention, and one snapshot more: any moment of the last days has one."""
        words = ("forget", "--host", self.host, "--tag", f"volume={volume}", "--group-by", "host,tags")
        self.ask(*words, "--keep-within", f"{days + 1}d", "--prune", "--quiet")

    def size(self, snapshot: str) -> tuple[int, int]:
        """Bytes of what a snapshot restores, and the number of its files and directories."""
        words = ("stats", "--no-lock", "--mode", "restore-size", "--json", snapshot)
        said = json.loads(self.ask(*words, seconds=3600))
        return int(said["total_size"]), int(said["total_file_count"])

    def restore(self, snapshot: str, directory: Path) -> None:
        """The directory `_data` of a snapshot into `directory`, each file read again and compared."""
        self.ask("restore", snapshot, "--no-lock", "--no-cache", "--target", str(directory), "--verify", "--quiet")

    def check(self) -> None:
        """Read the whole repository again. Raises VolumeError."""
        code, out, complaint = self.restic("check", "--read-data", "--no-cache")
        if code:
            raise VolumeError(explain(f"{out}\n{complaint}", self.name))


def repositories(given: Mapping[str, Any]) -> list[Repository]:
    return [Repository(about, str(given["name"])) for about in given["repositories"]]


def inspected(volume: str) -> dict[str, Any] | None:
    """What the engine says of a volume; None where there is none."""
    done = subprocess.run(["docker", "volume", "inspect", volume], capture_output=True, text=True, timeout=ASK_SECONDS)
    if done.returncode:
        if "no such volume" in done.stderr.lower():
            return None
        raise VolumeError(f"the engine does not answer: {done.stderr.strip()[:300]}")
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def root_of(volume: str) -> Path:
    """The directory that the engine keeps a volume in; the data is in `_data` below it. Raises VolumeError."""
    found = inspected(volume)
    if found is None:
        raise VolumeError(
            f"the volume {volume} does not exist on this host. Next: deploy the app that has it, correct "
            f"backup_volumes in group_vars/all/apps.yml, or bring it back: {NEXT_RESTORE.format(volume=volume)}"
        )
    point = Path(found["Mountpoint"])
    if found["Driver"] != "local" or found.get("Options") or point.name != DATA:
        raise VolumeError(f"the volume {volume} is not on this host's disk (driver {found['Driver']}): leave it out")
    return point.parent


def redis(*words: str, operator: bool = False) -> str:
    """What the durable Redis answers. The password comes from a file in its container, and is no argument."""
    who = "operator" if operator else "default"
    script = (
        f'REDISCLI_AUTH="$(cat /etc/redis/{"operator_password" if operator else "password"})" exec redis-cli --tls '
        f'--cacert /etc/flotilla/certs/current/ca.crt --user {who} "$@"'
    )
    said = command("docker", "exec", "redis", "sh", "-c", script, "redis-cli", *words)
    if re.match(r"(?:ERR|NOPERM|WRONGPASS|NOAUTH|LOADING)\b", said):
        raise VolumeError(f"Redis answers {words[0]}: {said.strip()}")
    return said


@contextmanager
def redis_files(root: Path) -> Iterator[Path]:
    """A directory with second names of the append-only files as they are at one moment. Raises OSError.

    No rewrite runs meanwhile; Redis only appends to such a file, or replaces it.
    Source: https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/#backing-up-aof-persistence
    """
    stage = root / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    before = redis("CONFIG", "GET", "auto-aof-rewrite-percentage", operator=True).split()[-1]
    redis("CONFIG", "SET", "auto-aof-rewrite-percentage", "0", operator=True)
    try:
        deadline = time.monotonic() + REWRITE_SECONDS
        while True:
            said = redis("INFO", "persistence")
            if "aof_enabled:1" not in said:
                raise VolumeError("Redis keeps no append-only file. Next: ansible-playbook playbooks/provision.yml")
            if "aof_rewrite_in_progress:0" in said and "aof_rewrite_scheduled:0" in said:
                break
            if time.monotonic() > deadline:
                raise VolumeError(f"Redis rewrites its append-only file for more than {REWRITE_SECONDS} s")
            time.sleep(0.5)
        _stage(root, stage)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    finally:
        redis("CONFIG", "SET", "auto-aof-rewrite-percentage", before, operator=True)
    try:
        yield stage / DATA
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _stage(root: Path, stage: Path) -> None:
    """What Redis has is the container's; the stage beside it is root's, and nothing but Redis' own files gets there."""
    with ExitStack() as open_places:
        for name in (DATA, f"{DATA}/{APPENDED}"):
            theirs = open_places.enter_context(opened(root / name, below=root))
            ours = open_places.enter_context(opened(stage / name, below=root, make=0o700))
            mine = theirs.stat()
            os.fchown(ours.descriptor, mine.st_uid, mine.st_gid)
            os.fchmod(ours.descriptor, stat.S_IMODE(mine.st_mode))
        for name in theirs.names():
            theirs.link_to(name, ours)


@contextmanager
def files_of(volume: Mapping[str, Any]) -> Iterator[Path]:
    """The directory `_data` of a volume as it is to be backed up."""
    root = root_of(volume["name"])
    if volume["kind"] == "redis":
        with redis_files(root) as directory:
            yield directory
    else:
        yield root / DATA


# -- backing up ---------------------------------------------------------------------------------------


def run(only: str = "") -> dict[str, Any]:
    """A snapshot of each declared volume in each repository; what came of it is kept as `last.json`.

    only: the name of the one volume to back up.
    """
    given = settings()
    volumes = [one for one in given["volumes"] if only in ("", one["name"])]
    if not volumes:
        declared = ", ".join(one["name"] for one in given["volumes"]) or "none"
        raise VolumeError(f"volume: {only} is not backed up on this host (declared: {declared})")
    began = time.time()
    with alone():
        ready = []
        results = []
        for repository in repositories(given):
            try:
                repository.made()
                ready.append((repository, {one["volume"] for one in repository.snapshots()}))
            except VolumeError as error:
                results += [failed(repository.name, one["name"], error) for one in volumes]
        for volume in volumes:
            results += backed_up(volume, ready, int(given["retention_days"]))
    outcome = "failed" if any(one["outcome"] == "failed" for one in results) else "done"
    answer = {
        "at": clock(time.time()),
        "outcome": outcome,
        "seconds": round(time.time() - began, 1),
        "volumes": results,
    }
    before = (stored("last.json") or {}).get("volumes", []) if only else []
    store("last.json", answer | {"volumes": [one for one in before if one["volume"] != only] + results})
    return answer


def failed(repository: str, volume: str, error: object) -> dict[str, Any]:
    return {"repository": repository, "volume": volume, "outcome": "failed", "error": str(error)}


def backed_up(
    volume: Mapping[str, Any], ready: Sequence[tuple[Repository, set[str]]], days: int
) -> list[dict[str, Any]]:
    """What came of one volume in each repository. ready: each with the volumes that it has snapshots of."""
    name = volume["name"]
    found = []
    try:
        root = root_of(name)
        if not (root / MARK).exists() and any(name in there for _, there in ready):
            raise VolumeError(
                f"the volume {name} was made anew, and the repository has snapshots of the old one. Next: "
                f"{NEXT_RESTORE.format(volume=name)}, or, to begin with the new one, on the host: flotilla-volumes "
                f"adopt {name}"
            )
        with files_of(volume) as directory:
            for repository, _ in ready:
                before = time.time()
                try:
                    made = repository.backup(directory, name)
                    repository.forget(name, days)
                    took = round(time.time() - before, 1)
                    found.append(
                        {"repository": repository.name, "volume": name, "outcome": "done", "seconds": took, **made}
                    )
                except VolumeError as error:
                    found.append(failed(repository.name, name, error))
        if any(one["outcome"] == "done" for one in found):
            (root / MARK).touch(mode=0o600)
    except (VolumeError, OSError, subprocess.TimeoutExpired) as error:
        return [failed(repository.name, name, error) for repository, _ in ready]
    return found


def ready() -> dict[str, Any]:
    """See that each repository is there and can be opened. Raises VolumeError."""
    given = settings()
    with alone():
        every = repositories(given)
        # An older Flotilla's key is that of the databases too.
        renewed = [repository.renew() for repository in every]
        made = [repository.made() for repository in every] + renewed
    if stored("since.json") is None:
        store("since.json", {"at": clock(time.time())})
    return {"made": any(made)}


def adopt(name: str) -> dict[str, Any]:
    """From now on the volume that is there is the one to back up."""
    (root_of(name) / MARK).touch(mode=0o600)
    return {"volume": name}


def status() -> dict[str, Any]:
    """All that can be known on this host, without a judgement. `errors` says what could not be asked."""
    given = settings()
    errors, found = [], []
    for repository in repositories(given):
        try:
            there = repository.snapshots()
        except VolumeError as error:
            errors.append(str(error))
            continue
        for volume in given["volumes"]:
            mine = [one for one in there if one["volume"] == volume["name"]]
            found.append(
                {
                    "repository": repository.name,
                    "volume": volume["name"],
                    "number": len(mine),
                    "oldest_at": mine[0]["at"] if mine else None,
                    "newest": mine[-1] if mine else None,
                }
            )
    return {
        "now": time.time(),
        "volumes": found,
        "last": stored("last.json"),
        "drill": last_drill(),
        "since": (stored("since.json") or {}).get("at"),
        "restored": [json.loads(one.read_text()) for one in sorted(HOME.glob("restored-*.json"))],
        "errors": errors,
    }


# -- bringing back ------------------------------------------------------------------------------------


def found_in(given: Mapping[str, Any], volume: str, to: str, what: str) -> tuple[Repository, Mapping[str, Any]]:
    """The snapshot to bring back and its repository: the first one that has it. Raises VolumeError."""
    reasons = []
    for repository in repositories(given):
        try:
            return repository, chosen(repository.snapshots(), volume, to, what)
        except VolumeError as error:
            reasons.append(str(error))
    raise VolumeError("; ".join(reasons))


def declared(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The declared volume of that name. Raises VolumeError."""
    for one in given["volumes"]:
        if one["name"] == name:
            return dict(one)
    there = ", ".join(one["name"] for one in given["volumes"]) or "none"
    raise VolumeError(f"volume: {name} is not backed up on this host (declared: {there})")


def room(repository: Repository, snapshot: str, directory: Path) -> tuple[int, int]:
    """Bytes and number of entries of a snapshot. Raises VolumeError when the disk of `directory` is too small."""
    size, count = repository.size(snapshot)
    free, needed = shutil.disk_usage(directory).free, size + SPARE_BYTES
    if free < needed:
        raise VolumeError(
            f"the disk of {directory} has {free >> 20} MiB free, and a restore needs {needed >> 20} MiB. "
            "Next: make room, or a larger disk"
        )
    return size, count


def made_volume(name: str, label: str) -> Path:
    """The directory of a volume that is made when it is not there."""
    command("docker", "volume", "create", "--label", label, name)
    return root_of(name)


def scratch(volume: str, to: str, what: str) -> dict[str, Any]:
    """A snapshot in a volume of its own, `<volume>-scratch`."""
    given = settings()
    declared(given, volume)
    began, name = time.time(), f"{volume}-scratch"
    with alone():
        repository, snapshot = found_in(given, volume, to, what)
        command("docker", "volume", "rm", "--force", name)
        root = made_volume(name, "flotilla.scratch=true")
        try:
            size, count = room(repository, snapshot["id"], root)
            repository.restore(snapshot["id"], root)
        except BaseException:
            command("docker", "volume", "rm", "--force", name)
            raise
    return told(volume, repository, snapshot, began) | {
        "scratch": name,
        "directory": str(root / DATA),
        "bytes": size,
        "entries": count,
    }


def told(volume: str, repository: Repository, snapshot: Mapping[str, Any], began: float) -> dict[str, Any]:
    return {
        "volume": volume,
        "repository": repository.name,
        "snapshot": snapshot["id"],
        "of": clock(snapshot["at"]),
        "seconds": round(time.time() - began, 1),
    }


def scratch_remove(volume: str) -> dict[str, Any]:
    with alone():
        command("docker", "volume", "rm", "--force", f"{volume}-scratch")
    return {"volume": volume}


def users_of(volume: str) -> list[str]:
    """The containers that run and have a volume."""
    return command("docker", "ps", "--quiet", "--no-trunc", "--filter", f"volume={volume}").split()


def start(containers: Sequence[str]) -> list[str]:
    """Start containers again; the names of those that are not well after a while."""
    there = command("docker", "ps", "--all", "--quiet", "--no-trunc").split()
    containers = [one for one in containers if one in there]
    if containers:
        command("docker", "start", *containers, seconds=600, check=False)
    form = "{{.Name}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}"
    deadline = time.monotonic() + HEALTHY_SECONDS
    while True:
        states = [command("docker", "inspect", "--format", form, one).split() for one in containers]
        bad = [state[0].lstrip("/") for state in states if state[1:] not in (["running"], ["running", "healthy"])]
        if not bad or time.monotonic() > deadline:
            return bad
        time.sleep(0.5)


def exchange(source: Path, target: Path) -> None:
    """The data of one volume's directory as that of another one's, which has nothing of its own yet."""
    shutil.rmtree(target / DATA, ignore_errors=True)
    (source / DATA).rename(target / DATA)


def state_file(volume: str) -> str:
    return f"restored-{volume}.json"


def place(volume: str, to: str, what: str, identity: str) -> dict[str, Any]:
    """A snapshot as the volume itself, whose content is kept in another one until `confirm` or `undo`.

    What uses it is stopped meanwhile. When it fails, what was there before is put back.
    """
    given = settings()
    about = declared(given, volume)
    if state := stored(state_file(volume)):
        raise VolumeError(
            f"the restore {state['id']} of {volume} is neither confirmed nor undone, and what was there before is in "
            f"the volume {state['before']}. Next: -e state=confirmed, or -e state=undone"
        )
    with alone():
        repository, snapshot = found_in(given, volume, to, what)
        new = inspected(volume) is None
        root = made_volume(volume, f"flotilla.app={about['app']}") if new else root_of(volume)
        room(repository, snapshot["id"], root)
        began, containers = time.time(), users_of(volume)
        before = f"{volume}-before-{identity}"
        kept = made_volume(before, f"flotilla.before={identity}")
        state = {"id": identity, "volume": volume, "before": before, "containers": containers, "at": clock(began)}
        store(state_file(volume), {**state, "moved": False})
        moved = False
        try:
            if containers:
                command("docker", "stop", *containers, seconds=900)
            exchange(root, kept)
            moved = True
            store(state_file(volume), {**state, "moved": True})
            repository.restore(snapshot["id"], root)
        except BaseException as error:
            if moved:
                exchange(kept, root)
            bad = start(containers)
            command("docker", "volume", "rm", "--force", before)
            (HOME / state_file(volume)).unlink()
            well = f"{', '.join(bad)} does not run well since" if bad else "nothing is lost"
            raise VolumeError(f"{error}. What was there before is in its place again, and {well}") from error
        (root / MARK).touch(mode=0o600)
        bad = start(containers)
    return told(volume, repository, snapshot, began) | {"before": before, "unwell": bad}


def waiting(volume: str) -> dict[str, Any]:
    """The restore in place that waits to be confirmed or undone. Raises VolumeError."""
    state: dict[str, Any] | None = stored(state_file(volume))
    if state is None:
        raise VolumeError(f"state: no restore of {volume} on this host waits to be confirmed or undone")
    return state


def undo(volume: str) -> dict[str, Any]:
    """What was there before the last restore, instead of what it brought."""
    with alone():
        state = waiting(volume)
        root, kept = root_of(volume), root_of(state["before"])
        containers = list(dict.fromkeys([*users_of(volume), *state["containers"]]))
        if using := users_of(volume):
            command("docker", "stop", *using, seconds=900)
        # A restore that was cut short may not have come to that.
        if state["moved"] or not (root / DATA).exists():
            exchange(kept, root)
        bad = start(containers)
        command("docker", "volume", "rm", "--force", state["before"])
        (HOME / state_file(volume)).unlink()
    return {"id": state["id"], "volume": volume, "unwell": bad}


def confirm(volume: str, *, drop: bool) -> dict[str, Any]:
    """The restore is what was wanted. drop: remove what was there before; else a person removes its volume."""
    with alone():
        state = waiting(volume)
        if drop:
            command("docker", "volume", "rm", state["before"])
        (HOME / state_file(volume)).unlink()
    return {"id": state["id"], "volume": volume, "before": state["before"], "dropped": drop}


# -- the drill ----------------------------------------------------------------------------------------


def drill() -> dict[str, Any]:
    """Check each repository, and restore the newest snapshot of each volume from it; kept as `drill.json`.

    RPO: the age of the oldest of the newest snapshots, in seconds.  RTO: how long all restores took.
    """
    began = time.time()
    outcome: dict[str, Any] = {"at": clock(began), "outcome": "failed", "rpo_seconds": -1, "rto_seconds": -1}
    # What stays when the drill is cut short.
    store("drill.running", {**outcome, "detail": "the drill was cut short"})
    try:
        with alone():
            outcome |= drilled(settings())
    except (VolumeError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        outcome["detail"] = str(error) or type(error).__name__
    store("drill.json", outcome)
    (HOME / "drill.running").unlink(missing_ok=True)
    return outcome


def last_drill() -> Any:
    """What came of the last drill; one that ended without a word has failed."""
    cut = stored("drill.running")
    if cut is None:
        return stored("drill.json")
    try:
        with alone():
            return cut
    except BusyError:
        return stored("drill.json")


def drilled(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a drill finds. Raises VolumeError."""
    place = HOME / DRILL
    details, took, oldest = [], 0.0, time.time()
    try:
        for repository in repositories(given):
            repository.check()
            there = repository.snapshots()
            for volume in given["volumes"]:
                name = volume["name"]
                snapshot = chosen(there, name, "latest", "")
                oldest = min(oldest, snapshot["at"])
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(mode=0o700)
                size, count = room(repository, snapshot["id"], place)
                before = time.time()
                repository.restore(snapshot["id"], place)
                took += time.time() - before
                number = sum(1 for _ in place.rglob("*"))
                if number != count:
                    raise VolumeError(f"{repository.name}: {name}: {number} files came back of {count}")
                loaded = f", {keys_in(place / DATA)} keys" if volume["kind"] == "redis" else ""
                details.append(f"{repository.name}: {name} {snapshot['id']}, {number} files, {size >> 10} KiB{loaded}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return {
        "outcome": "passed",
        "rpo_seconds": round(time.time() - oldest),
        "rto_seconds": round(took),
        "detail": "; ".join(details),
    }


def keys_in(directory: Path) -> int:
    """The number of keys that a throw-away Redis finds in append-only files. Raises VolumeError."""
    about = json.loads(command("docker", "inspect", "redis"))[0]
    name = "flotilla-volumes-drill"
    words = ["docker", "run", "--detach", "--name", name, "--network", "none", "--user", about["Config"]["User"]]
    words += ["--memory", str(about["HostConfig"]["Memory"] or "512m"), "--cpu-shares", "64", "--read-only"]
    words += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--volume", f"{directory}:/data"]
    words += ["--entrypoint", "redis-server", about["Image"], "--port", "0", "--unixsocket", "/dev/shm/redis"]
    words += ["--dir", "/data", "--appendonly", "yes", "--save", ""]
    command("docker", "rm", "--force", name, check=False)
    try:
        command(*words)
        deadline = time.monotonic() + 600
        while True:
            asked = ("docker", "exec", name, "redis-cli", "-s", "/dev/shm/redis", "DBSIZE")
            said = command(*asked, check=False).strip()
            if re.fullmatch(r"\d+", said):
                return int(said)
            state = command("docker", "inspect", "--format", "{{.State.Status}}", name).strip()
            if state != "running" or time.monotonic() > deadline:
                done = subprocess.run(["docker", "logs", "--tail", "5", name], capture_output=True, text=True)
                raise VolumeError(f"Redis does not load what was restored: {last_lines(done.stdout + done.stderr)}")
            time.sleep(0.5)
    finally:
        command("docker", "rm", "--force", "--volumes", name, check=False)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="flotilla-volumes")
    verbs = found.add_subparsers(dest="verb", required=True)
    for name in ("ready", "status", "drill"):
        verbs.add_parser(name)
    verbs.add_parser("run").add_argument("volume", nargs="?", default="")
    for name in ("adopt", "scratch", "place", "scratch-remove", "undo", "confirm"):
        verbs.add_parser(name).add_argument("volume")
    verbs.choices["confirm"].add_argument("--drop", action="store_true")
    verbs.choices["place"].add_argument("--id", required=True)
    for name in ("scratch", "place"):
        verbs.choices[name].add_argument("--to", choices=["latest", "time", "backup"], default="latest")
        verbs.choices[name].add_argument("--what", default="")
    return found


def answer(given: argparse.Namespace) -> dict[str, Any]:
    """One verb."""
    does: dict[str, Callable[[], dict[str, Any]]] = {
        "ready": ready,
        "status": status,
        "drill": drill,
        "run": lambda: run(given.volume),
        "adopt": lambda: adopt(given.volume),
        "scratch": lambda: scratch(given.volume, given.to, given.what),
        "scratch-remove": lambda: scratch_remove(given.volume),
        "place": lambda: place(given.volume, given.to, given.what, given.id),
        "undo": lambda: undo(given.volume),
        "confirm": lambda: confirm(given.volume, drop=given.drop),
    }
    return does[given.verb]()


def main(arguments: Sequence[str] | None = None) -> int:
    """One verb; its answer is the last line, as JSON."""
    os.umask(0o077)
    given = parser().parse_args(arguments)
    try:
        said = answer(given)
    except (VolumeError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        print(visible(f"flotilla-volumes: {error}", lines=True), file=sys.stderr)
        return BUSY if isinstance(error, BusyError) else 1
    print(json.dumps(said))
    return int(said.get("outcome") == "failed")


if __name__ == "__main__":
    sys.exit(main())
