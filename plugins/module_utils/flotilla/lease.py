"""The lock of an environment: a lease with an owner, a purpose, an expiry and a token, one file on each app host.

A run takes it on the first app host by name, and only then on the others, so that of many runs at once exactly one
wins. What a run does on a host carries the token and is refused when the lease is another's: a run that was given
up for dead can do no harm when it wakes. Times are the host's own clock, seconds since the epoch.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .journal import sync_directory, write_atomic


class LeaseError(Exception):
    """The lease is not this run's. The message is for a person and has the next command."""


@dataclass(frozen=True)
class Lease:
    """Who may change an environment until when.

    token: of the run.  owner: `user@controller`.  purpose: such as `deploy notes 1.1.0`.
    machine, process: the controller and its process, so that a later run on the same controller can tell that
    the holder is dead; see `processes.py`.
    """

    token: str
    owner: str
    purpose: str
    machine: str = ""
    process: str = ""
    since: float = 0.0
    expires: float = 0.0

    def describe(self, now: float) -> str:
        """Who holds it, for what, since when, until when."""
        since = f"since {_clock(self.since)} ({max(0.0, now - self.since):.0f} s ago)"
        left = self.expires - now
        until = f"until {_clock(self.expires)} ({left:.0f} s from now)" if left > 0 else f"until {_clock(self.expires)}"
        return f"{self.owner} ({self.purpose}) {since}, {until}"


@dataclass(frozen=True)
class LeaseFile:
    """The lease on one host, `/opt/flotilla/lock.json`. `guard` serialises the calls on this host.

    unlock: the command that removes the lease, for messages.
    """

    path: Path
    guard: Path
    host: str = ""
    unlock: str = "ansible-playbook playbooks/unlock.yml"

    def read(self) -> Lease | None:
        """The lease as it is, expired or not; None where nobody has one."""
        try:
            data = json.loads(self.path.read_text())
            return Lease(**{field.name: data[field.name] for field in fields(Lease)})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise LeaseError(f"{self.host}: {self.path} cannot be read ({error}). Next: {self.unlock}") from error

    def take(
        self, wanted: Lease, seconds: float, *, superseded: Collection[str] = (), now: float | None = None
    ) -> Lease | None:
        """Take or renew the lease for `seconds`. Returns the lease that was taken over, if one was.

        Another's is taken over when it has expired, or when its token is among the `superseded` (the caller
        knows its holder to be dead). Raises `LeaseError`, which says who holds it.
        """
        with self._guarded():
            moment = time.time() if now is None else now
            current = self.read()
            if not available(current, wanted.token, superseded, moment):
                assert current is not None
                raise LeaseError(self.refusal(current, moment))
            mine = current if current and current.token == wanted.token else None
            since = mine.since if mine else moment
            self._write(replace(wanted, since=since, expires=moment + seconds))
            return None if mine else current

    def hold(self, token: str, seconds: float, *, now: float | None = None) -> None:
        """Let the lease of `token` end `seconds` from now. Raises `LeaseError` when it is gone or another's.

        One's own expired lease is renewed: nobody has taken it over.
        """
        with self._guarded():
            moment = time.time() if now is None else now
            current = self.read()
            if current is None or current.token != token:
                whose = f"it is now held by {current.describe(moment)}" if current else "it was removed"
                raise LeaseError(f"{self.host}: this run has lost the lock of the environment: {whose}")
            self._write(replace(current, expires=moment + seconds))

    def release(self, token: str) -> bool:
        """Give the lease of `token` back; another's stays. Returns whether there was one."""
        with self._guarded():
            current = self.read()
            if current is None or current.token != token:
                return False
            self._remove()
            return True

    def remove(self) -> Lease | None:
        """Take the lease away from whoever holds it, also where it cannot be read. Returns what it was."""
        with self._guarded():
            try:
                current = self.read()
            except LeaseError:
                current = Lease("", "somebody", "the lock could not be read")
            if current:
                self._remove()
            return current

    def refusal(self, holder: Lease, now: float) -> str:
        """What a run is told that did not get the lease."""
        what = f"{self.host}: the environment is locked by {holder.describe(now)}"
        return f"{what}. Next: wait for it and run again; only when that run is dead: {self.unlock}"

    def _write(self, lease: Lease) -> None:
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps(asdict(lease), indent=1) + "\n", mode=0o600)

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        sync_directory(self.path.parent)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Nobody else on this host reads or writes the lease meanwhile. Held for a few file operations only."""
        self.guard.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.guard.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def available(current: Lease | None, token: str, superseded: Collection[str], now: float) -> bool:
    """Whether the run with `token` may take the lease at the time `now`."""
    if current is None or current.token in (token, *superseded):
        return True
    return current.expires <= now


def wanted(run: Mapping[str, Any], purpose: str) -> Lease:
    """The lease that a run asks for. `run` is what `flotilla_validate` says of it."""
    return Lease(
        token=str(run.get("token", "")),
        owner=str(run.get("owner", "")),
        purpose=purpose,
        machine=str(run.get("machine", "")),
        process=str(run.get("process", "")),
    )


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
