#!/usr/bin/python3
# MIT License, see LICENSE at the root of the project.
"""Keeps copies of what other hosts send here, where they cannot reach: `flotilla-kept run`, `status` and more.

The role backup installs it on hosts of the group `backup`; a timer, playbooks/put-back.yml and playbooks/status.yml run
it. Each account that hosts send with has a restic repository of root's. What a copy has and the account has no more,
before its time, is told until a person accepts it, and meanwhile no copy of that account is removed.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The role installs it there, beside this.
sys.path.append("/usr/local/lib/flotilla")

from flotilla.contained import Place, opened, seen_alone
from flotilla.terminal import visible

SSHD = Path("/etc/flotilla/backup")
SSHD_UNIT = "flotilla-backup-sshd.service"
SETTINGS = SSHD / "kept.json"
# sshd_config includes it.
READ_ONLY = "read-only.conf"
DATABASES = "flotilla-backup"
# What the shell calls "try again later" (EX_TEMPFAIL).
BUSY = 75
# restic's own answer when some files could not be read: they may be gone by then.
INCOMPLETE = 3
ASK_SECONDS = 150
LONG_SECONDS = 86_400
LOOK_SECONDS = 3.0
# A backup that ends while it is copied is copied again, so many times.
TRIES = 3
# What changed so shortly ago may still be on its way.
SETTLED_SECONDS = 30
HOUR, DAY = 3600, 86_400
# Each byte of the copies is read again within so many days.
CHECK_DAYS = 14
# Of the disk, so much is left to who sends: copies do not take it. Copies of an account have so many quotas at most.
SPARE, KEPT_QUOTAS = 0.1, 3
# Files of one account that are kept an eye on, and those that are told by name.
MOST_FILES, MOST_TOLD = 500_000, 3
# Of a copy: whole; of a repository that changed meanwhile; of one that has lost something.
SETTLED, UNSETTLED, DOUBTED = "settled", "unsettled", "doubted"
# A file of an account: size in bytes, ctime in ns (no account can set it), when it came in seconds since 1970.
File = tuple[int, int, float]


class KeptError(Exception):
    """What went wrong, for a person."""


class BusyError(KeptError):
    """Another run is in hand."""


# -- what is worked out -------------------------------------------------------------------------------


def watched(account: str, paths: Mapping[str, Any]) -> dict[str, bool]:
    """Of an account's files, by their paths below its directory: those that never change; whether they have to stay.

    Of pgBackRest: segments of the log and finished backups, which it removes when they are older than the retention.
    Of restic: everything but locks; `data` and `index` are packed anew now and then, its snapshots are not.
    """
    found: dict[str, bool] = {}
    for path in paths:
        parts = path.split("/")
        if account != DATABASES:
            if parts[0] in ("config", "keys", "snapshots", "data", "index") and "temp" not in parts[-1]:
                found[path] = parts[0] not in ("data", "index")
        # <name>/archive/<stanza>/<version>/…, <name>/backup/<stanza>/<label>/…
        elif len(parts) > 4 and not re.search(r"\.tmp$|\.partial$|\.info(\.copy)?$|\.manifest\.copy$", path):
            ended = parts[1] == "backup" and "/".join((*parts[:4], "backup.manifest")) in paths
            if ended or parts[1] == "archive":
                found[path] = True
    return found


def heads(account: str, files: Mapping[str, File]) -> dict[str, File]:
    """What changes when a backup has ended, or one was removed: a copy is whole when these are the same afterwards."""
    ends = r"/backup\.info$" if account == DATABASES else r"^(snapshots|index)/"
    return {path: about for path, about in files.items() if re.search(ends, path)}


def compared(
    account: str, before: Mapping[str, Any], files: Mapping[str, File], retention_days: int, now: float
) -> dict[str, Any]:
    """What is known of an account from one look to the next.

    `files`; `lost` and `changed`, path → when; `bytes`; `shrunk`.

    before: what the last look said, or nothing.  A file that is gone, and is younger than the retention, is lost.
    """
    known: Mapping[str, Sequence[Any]] = before.get("files") or {}
    lost, changed = dict(before.get("lost") or {}), dict(before.get("changed") or {})
    stays = watched(account, {**known, **files})
    # The clocks of the hosts may differ.
    young = now - retention_days * DAY + HOUR
    following: dict[str, File] = {}
    for path, must_stay in stays.items():
        old, new = known.get(path), files.get(path)
        if old is None and new is not None:
            if now - new[1] / 1e9 >= SETTLED_SECONDS:
                following[path] = new
        elif old is not None and new is None:
            # restic changes a key by adding one first.
            replaced = path.startswith("keys/") and any(other.startswith("keys/") for other in files)
            if must_stay and old[2] > young and not replaced:
                lost.setdefault(path, now)
        elif old is not None and new is not None:
            if (old[0], old[1]) != (new[0], new[1]):
                changed.setdefault(path, now)
            following[path] = (new[0], new[1], old[2])
    size = sum(about[0] for about in files.values())
    shrunk = before.get("shrunk")
    # pgBackRest's files are all known one by one; what restic packs anew is not.
    if account != DATABASES and size * 2 < before.get("bytes", 0):
        shrunk = shrunk or {"from": before["bytes"], "to": size, "at": now}
    return {
        "files": following,
        "lost": dict(sorted(lost.items())[:MOST_FILES]),
        "changed": dict(sorted(changed.items())[:MOST_FILES]),
        "bytes": size,
        "shrunk": shrunk,
    }


def findings(state: Mapping[str, Any]) -> list[str]:
    """What of an account was removed or written over that copies have, for a person; nothing where all is well."""
    found = []
    for key, what in (("lost", "are gone before their time"), ("changed", "were written over")):
        if paths := list(state.get(key) or {}):
            some = ", ".join(paths[:MOST_TOLD]) + (" …" if len(paths) > MOST_TOLD else "")
            since = clock(min(state[key].values()))
            found.append(f"{len(paths)} files that copies have {what}, seen since {since}: {some}")
    if shrunk := state.get("shrunk"):
        found.append(f"it shrank from {shrunk['from']} to {shrunk['to']} bytes, seen {clock(shrunk['at'])}")
    return found


def in_the_way(size: int, kept: int, quota: int, free: int, disk: int) -> str:
    """Why no copy is made of what an account has, for a person; empty where one is. All in bytes; quota: 0 for none."""
    if quota and size > quota:
        return (
            f"it has {size >> 20} MiB, more than its quota of {quota >> 20}, and nobody sends there until that is more"
        )
    if quota and kept > KEPT_QUOTAS * quota:
        return f"its copies have {kept >> 20} MiB, more than {KEPT_QUOTAS} times its quota of {quota >> 20}"
    if free < disk * SPARE:
        return f"the disk has {free >> 20} MiB left of {disk >> 20}, too little for copies"
    return ""


def read_only(accounts: Sequence[str]) -> str:
    """What sshd is told of accounts that may read alone."""
    lines = ["# Written by flotilla-kept; changes made here are lost."]
    if accounts:
        lines += [f"Match User {','.join(sorted(accounts))}", "    ForceCommand internal-sftp -R"]
    return "\n".join(lines) + "\n"


def copies_of(listing: str) -> list[dict[str, Any]]:
    """Copies as `{id, at, settled}`, oldest first, from `restic snapshots --json`."""
    found = [
        {"id": str(one["id"])[:8], "at": seconds_of(one["time"]), "settled": SETTLED in (one.get("tags") or ())}
        for one in json.loads(listing or "[]") or []
    ]
    return sorted(found, key=lambda one: (one["at"], one["id"]))


def chosen(copies: Sequence[Mapping[str, Any]], wanted: str) -> Mapping[str, Any]:
    """The copy of that id, or the newest whole one. Raises KeptError, which says what there is."""
    there = [one for one in copies if (one["id"] == wanted[:8] if wanted else one["settled"])]
    if there:
        return there[-1]
    listed = ", ".join(f"{one['id']} ({clock(one['at'])})" for one in copies[-8:]) or "none"
    raise KeptError(f"copy: there is no {wanted or 'whole copy'}. There are: {listed}")


def seconds_of(text: str) -> float:
    """ISO 8601 as seconds since 1970. restic's own times have nanoseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00")).timestamp()


def clock(moment: float) -> str:
    """A time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def last_lines(text: str) -> str:
    """The last lines that say something, as one line."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())[-600:] or "restic said nothing"


# -- the host -----------------------------------------------------------------------------------------


def settings() -> dict[str, Any]:
    """What the role wrote. Raises KeptError."""
    try:
        found: dict[str, Any] = json.loads(SETTINGS.read_text())
    except (OSError, ValueError):
        raise KeptError(f"{SETTINGS} cannot be read. Next: ansible-playbook playbooks/provision.yml") from None
    return found


class Keeper:
    """What is kept on this host. Below `kept` everything is root's alone; what is beside it, an account's each."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.base = Path(given["directory"])
        self.kept = self.base / "kept"
        self.retention_days, self.kept_days = int(given["retention_days"]), int(given["kept_days"])
        self.quota = int(given["quota_gb"]) * 1_000_000_000

    @contextmanager
    def alone(self, wait: float = LOOK_SECONDS) -> Iterator[None]:
        """No other run or return meanwhile. wait: seconds for who only looks whether there is one. Raises BusyError."""
        end = time.monotonic() + wait
        with (self.kept / "lock").open("a+") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() < end:
                        time.sleep(0.1)
                        continue
                    what = "copies are being made or put back here: one at a time. Next: wait for it and run again"
                    raise BusyError(what) from None
            yield

    def directory(self, account: str) -> Path:
        """What an account has sent."""
        return self.base / "repository" if account == DATABASES else self.base / "volumes" / account

    def accounts(self) -> list[str]:
        """Those that have a directory. Raises OSError."""
        found = [DATABASES] if (self.base / "repository").is_dir() else []
        with opened(self.base / "volumes") as place:
            return found + place.names()

    def look(self, account: str) -> dict[str, File]:
        """The regular files of an account by their paths below its directory. Raises KeptError, OSError."""
        found: dict[str, File] = {}
        for path, about in _walk(account, self.directory(account)):
            found[path] = (about.st_size, about.st_ctime_ns, about.st_ctime)
            if len(found) > MOST_FILES:
                raise KeptError(f"it has more than {MOST_FILES} files, and nobody looks whether any is lost")
        return found

    def size(self, account: str) -> int:
        """Bytes of what an account has sent. Raises KeptError, OSError."""
        return sum(about[0] for about in self.look(account).values())

    def over(self, account: str) -> bool:
        """Whether that is more than its quota, or cannot be counted."""
        try:
            return bool(self.quota) and self.size(account) > self.quota
        except (KeptError, OSError):
            return True

    def in_the_way(self, account: str) -> str:
        """Why no copy is made; empty where one is. Raises KeptError, OSError."""
        disk = shutil.disk_usage(self.base)
        kept = self.kept / account
        copies = sum(about.st_size for _, about in _walk(account, kept)) if self.quota and kept.exists() else 0
        return in_the_way(self.size(account) if self.quota else 0, copies, self.quota, disk.free, disk.used + disk.free)

    def state(self, account: str) -> dict[str, Any]:
        """What the last run knew; nothing where none did."""
        with opened(self.kept) as place, suppress(FileNotFoundError, ValueError):
            found: dict[str, Any] = json.loads(place.read(f"{account}.json", most=1 << 30))
            return found
        return {}

    def write(self, account: str, state: Mapping[str, Any]) -> None:
        with opened(self.kept) as place:
            place.write(f"{account}.json", json.dumps(state).encode())

    def restic(self, account: str, *words: str, directory: Path | None = None, codes: Sequence[int] = (0,)) -> str:
        """What restic prints of an account's copies. directory: to work beside; its links lead nowhere.

        Raises KeptError.
        """
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "RESTIC_REPOSITORY": str(self.kept / account),
            # What is kept is encrypted by who sent it; this key stands beside it, and keeps nothing from anybody.
            "RESTIC_PASSWORD_FILE": str(self.kept / "key"),
        }
        within = seen_alone(directory) if directory else ()
        try:
            done = subprocess.run(
                [*within, "restic", "--no-cache", *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                timeout=LONG_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise KeptError(f"restic did not end within {LONG_SECONDS} s") from None
        if done.returncode not in codes:
            raise KeptError(f"the copies of {account}: {last_lines(done.stderr or done.stdout)}")
        return done.stdout

    def copies(self, account: str) -> list[dict[str, Any]]:
        """Raises KeptError."""
        if not (self.kept / account / "config").exists():
            return []
        return copies_of(self.restic(account, "snapshots", "--json", "--no-lock"))

    def copy(self, account: str, state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What was copied of what an account has sent, whole if that can be had; and what is known of it since.

        state: what was known before.  Raises KeptError, OSError.
        """
        with opened(self.kept) as place:
            if not place.entry("key"):
                place.write("key", secrets.token_hex(32).encode())
        if not (self.kept / account / "config").exists():
            self.restic(account, "init")
        self.restic(account, "unlock")
        source = self.directory(account)
        for _ in range(TRIES):
            before = heads(account, self.look(account))
            words = ("backup", "--json", "--quiet", "--compression", "off", "--host", account, source.name)
            out = self.restic(account, *words, directory=source, codes=(0, INCOMPLETE))
            summaries: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines() if '"summary"' in line]
            if not summaries:
                raise KeptError(f"restic does not say what it copied: {last_lines(out)}")
            said = summaries[-1]
            files = self.look(account)
            whole = heads(account, files) == before
            following = compared(account, state, files, self.retention_days, time.time())
            tag = DOUBTED if findings(following) else SETTLED if whole else UNSETTLED
            self.restic(account, "tag", "--set", tag, said["snapshot_id"])
            if whole:
                break
        return {
            "bytes": said["total_bytes_processed"],
            "added_bytes": said["data_added"],
            "files": said["total_files_processed"],
            "copy": tag,
        }, following

    def forget(self, account: str) -> None:
        """Remove copies that are old, of others all but one a day, and read a part of what stays. Raises KeptError."""
        kept = ("--keep-within-hourly", "2d", "--keep-within-daily", f"{self.kept_days}d", "--keep-last", "3")
        self.restic(account, "forget", "--group-by", "host", *kept, "--prune", "--quiet")
        part = int(time.time() // DAY) % CHECK_DAYS + 1
        self.restic(account, "check", "--quiet", f"--read-data-subset={part}/{CHECK_DAYS}")


def _walk(account: str, directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Each regular file below an account's directory. Raises OSError."""

    def below(place: Place, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        for name in place.names():
            found = place.entry(name)
            if found is None:
                continue
            if stat.S_ISREG(found.st_mode):
                yield f"{prefix}{name}", found
            elif stat.S_ISDIR(found.st_mode):
                # It may be gone by now, or be something else.
                with suppress(FileNotFoundError, NotADirectoryError), place.directory(name) as lower:
                    yield from below(lower, f"{prefix}{name}/")

    with opened(directory) as place:
        try:
            yield from below(place, "")
        except RecursionError:
            raise KeptError(f"{account} has directories that are too deep") from None


def run(keeper: Keeper) -> dict[str, Any]:
    """A copy of what each account has sent. One that fails keeps no other one from being made."""
    made, over = [], []
    with keeper.alone():
        for account in keeper.accounts():
            began, state = time.time(), keeper.state(account)
            one: dict[str, Any] = {"account": account, "outcome": "done"}
            if keeper.over(account):
                over.append(account)
            try:
                # Also where no copy can be made.
                state |= compared(account, state, keeper.look(account), keeper.retention_days, time.time())
                if why := keeper.in_the_way(account):
                    raise KeptError(why)
                copied, following = keeper.copy(account, state)
                one |= copied
                state |= {"tried_at": began, "error": "", **following}
                if not findings(state) and began - state.get("forgotten_at", 0) > DAY - HOUR:
                    keeper.forget(account)
                    state["forgotten_at"] = began
            except (KeptError, OSError) as error:
                one |= {"outcome": "failed", "error": str(error)}
                state |= {"tried_at": began, "error": str(error)}
            one["seconds"] = round(time.time() - began, 1)
            keeper.write(account, state)
            made.append(one)
        let_read_alone(over)
    return {"outcome": "failed" if any(one["outcome"] == "failed" for one in made) else "done", "accounts": made}


def status(keeper: Keeper) -> dict[str, Any]:
    """What is kept of each account, and what is wrong with what it has now, without a judgement."""
    found, errors = [], []
    for account in keeper.accounts():
        state = keeper.state(account)
        try:
            copies = keeper.copies(account)
        except KeptError as error:
            copies = []
            errors.append(str(error))
        whole = [one for one in copies if one["settled"]]
        found.append(
            {
                "account": account,
                "copies": len(copies),
                "newest": whole[-1] if whole else None,
                "oldest_at": whole[0]["at"] if whole else None,
                "bytes": state.get("bytes", 0),
                "error": state.get("error", ""),
                "findings": findings(state),
            }
        )
    running = False
    try:
        with keeper.alone(wait=0):
            pass
    except BusyError:
        running = True
    return {"now": time.time(), "running": running, "accounts": found, "errors": errors}


def known(keeper: Keeper, account: str) -> None:
    """Raises KeptError for an account that is none."""
    there = keeper.accounts()
    if account not in there:
        raise KeptError(f"there is no account {account} (there are: {', '.join(there) or 'none'})")


def put_back(keeper: Keeper, account: str, wanted: str) -> dict[str, Any]:
    """A copy in the place of what an account has now, which is put aside. Nobody sends with that account afterwards.

    Who had its key may have it still, so that provisioning has to let it in again.
    """
    began = time.time()
    with keeper.alone():
        known(keeper, account)
        one = chosen(keeper.copies(account), wanted)
        place = keeper.directory(account)
        incoming = keeper.kept / f"incoming-{secrets.token_hex(4)}"
        incoming.mkdir(mode=0o700)
        try:
            keeper.restic(account, "restore", one["id"], "--no-lock", "--target", str(incoming), "--verify", "--quiet")
            new, owner = incoming / place.name, place.stat()
            count = 0
            for _, _, names, descriptor in os.fwalk(new):
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
                for name in names:
                    os.chown(name, owner.st_uid, owner.st_gid, dir_fd=descriptor, follow_symlinks=False)
                count += len(names)
            new.chmod(0o700)
            shut_out(account)
            aside = keeper.kept / "aside" / f"{account}-{clock(began).replace(':', '')}"
            aside.parent.mkdir(mode=0o700, exist_ok=True)
            place.rename(aside)
            new.rename(place)
        finally:
            shutil.rmtree(incoming)
        # How old they were is what restic has kept.
        files = {path: (about.st_size, about.st_ctime_ns, about.st_mtime) for path, about in _walk(account, place)}
        fresh = {path: files[path] for path in watched(account, files)}
        kept = {"files": fresh, "bytes": sum(about[0] for about in files.values())}
        keeper.write(account, {**keeper.state(account), "lost": {}, "changed": {}, "shrunk": None, **kept})
    return {
        "account": account,
        "copy": one["id"],
        "of": clock(one["at"]),
        "files": count,
        "bytes": kept["bytes"],
        "aside": str(aside),
        "seconds": round(time.time() - began, 1),
    }


def let_read_alone(accounts: Sequence[str]) -> None:
    """These may read what they have sent, and write nothing; all others may write. A change ends what is being sent."""
    with opened(SSHD) as place:
        text = read_only(accounts).encode()
        if (place.read(READ_ONLY) if place.entry(READ_ONLY) else read_only(()).encode()) == text:
            return
        place.write(READ_ONLY, text)
    subprocess.run(["systemctl", "restart", SSHD_UNIT], check=True, capture_output=True, timeout=ASK_SECONDS)


def shut_out(account: str) -> None:
    """Take an account's key away, and end what it is sending."""
    where, name = (SSHD, "authorized_keys") if account == DATABASES else (SSHD / "volumes", account)
    with opened(where) as place:
        place.remove(name)
    subprocess.run(["systemctl", "restart", SSHD_UNIT], check=True, capture_output=True, timeout=ASK_SECONDS)


def accept(keeper: Keeper, account: str) -> dict[str, Any]:
    """What is gone or was written over is as a person wants it: it is told no more, and copies grow old again."""
    with keeper.alone():
        known(keeper, account)
        state = keeper.state(account)
        told = findings(state)
        keeper.write(account, {**state, "lost": {}, "changed": {}, "shrunk": None})
    return {"account": account, "accepted": told}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="flotilla-kept")
    verbs = found.add_subparsers(dest="verb", required=True)
    for name in ("run", "status"):
        verbs.add_parser(name)
    for name in ("put-back", "accept"):
        verbs.add_parser(name).add_argument("account")
    verbs.choices["put-back"].add_argument("copy", nargs="?", default="")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """One verb; its answer is the last line, as JSON."""
    os.umask(0o077)
    given = parser().parse_args(arguments)
    does: dict[str, Callable[[Keeper], dict[str, Any]]] = {
        "run": run,
        "status": status,
        "put-back": lambda keeper: put_back(keeper, given.account, given.copy),
        "accept": lambda keeper: accept(keeper, given.account),
    }
    try:
        said = does[given.verb](Keeper(settings()))
    except (KeptError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        print(visible(f"flotilla-kept: {error}", lines=True), file=sys.stderr)
        return BUSY if isinstance(error, BusyError) else 1
    print(json.dumps(said))
    return int(said.get("outcome") == "failed")


if __name__ == "__main__":
    sys.exit(main())
