"""The journal of an app on a host: which release serves, and how far an unfinished deploy has come.

The journal is one file, replaced atomically. What serves is decided by the edge's flag alone; the
journal says what a crashed controller left behind, so that the next run can pick it up.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any


class Colour(StrEnum):
    """One of the app's two Compose projects on a host."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> Colour:
        return Colour.GREEN if self is Colour.BLUE else Colour.BLUE


class Phase(StrEnum):
    """How far the deploy in hand has come on this host."""

    IDLE = "idle"
    PREPARING = "preparing"
    PREPARED = "prepared"
    COMMITTING = "committing"
    COMMITTED = "committed"
    ABORTING = "aborting"
    FINISHING = "finishing"


# What may follow what. Every phase may be entered again (a rerun after a crash), and an abort is
# possible until the old colour is being taken down. What a rerun does with what a crashed run left is
# decided for the whole fleet: see `fleet.recovery`.
TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.PREPARING}),
    Phase.PREPARING: frozenset({Phase.PREPARING, Phase.PREPARED, Phase.ABORTING}),
    Phase.PREPARED: frozenset({Phase.PREPARING, Phase.COMMITTING, Phase.ABORTING}),
    Phase.COMMITTING: frozenset({Phase.COMMITTING, Phase.COMMITTED, Phase.ABORTING}),
    Phase.COMMITTED: frozenset({Phase.COMMITTING, Phase.FINISHING, Phase.ABORTING}),
    Phase.ABORTING: frozenset({Phase.ABORTING, Phase.IDLE}),
    Phase.FINISHING: frozenset({Phase.FINISHING, Phase.IDLE}),
}


class JournalError(Exception):
    """A phase was asked for that may not follow the one the journal is in."""


@dataclass(frozen=True)
class Slot:
    """A release and the colour it runs as."""

    release: str
    colour: Colour


@dataclass(frozen=True)
class Journal:
    """The state of one app on one host.

    live: what served before the deploy in hand, and serves still until its commit.
    candidate: what the deploy in hand brings; None when the phase is idle.
    moved: whether the candidate may have had traffic. It stays true through an abort.
    stop_first: the commit stops what served before and only then boots the candidate, for want of room for both.
    """

    phase: Phase = Phase.IDLE
    live: Slot | None = None
    candidate: Slot | None = None
    moved: bool = False
    stop_first: bool = False

    def enter(self, phase: Phase) -> Journal:
        """The journal in `phase`; raises `JournalError` where `TRANSITIONS` does not allow it."""
        if phase not in TRANSITIONS[self.phase]:
            raise JournalError(f"a deploy that is {self.phase} cannot become {phase}")
        return replace(self, phase=phase, moved=self.moved or phase is Phase.COMMITTING)

    def begin(self, release: str, *, stop_first: bool = False) -> Journal:
        """Start (or start again) to prepare `release`, in the colour that does not serve."""
        colour = self.live.colour.other if self.live else Colour.BLUE
        first = stop_first and self.live is not None
        return replace(self.enter(Phase.PREPARING), candidate=Slot(release, colour), moved=False, stop_first=first)

    def promote(self) -> Journal:
        """The candidate is what serves; nothing is in hand any more."""
        return replace(self.enter(Phase.IDLE), live=self.candidate, candidate=None, moved=False, stop_first=False)

    def discard(self) -> Journal:
        """The candidate is gone; what served before serves."""
        return replace(self.enter(Phase.IDLE), candidate=None, moved=False, stop_first=False)


def load(path: Path) -> Journal:
    """Read a journal; a missing file is an app that was never deployed here."""
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return Journal()
    live, candidate = _slot(data["live"]), _slot(data["candidate"])
    flags = {name: bool(data.get(name, False)) for name in ("moved", "stop_first")}
    return Journal(Phase(data["phase"]), live, candidate, **flags)


def save(path: Path, journal: Journal) -> None:
    """Replace the journal on disk, durably: after a power cut it is the old one or the new one."""
    write_atomic(path, json.dumps(asdict(journal), indent=1) + "\n", mode=0o600)


def write_atomic(path: Path, text: str, *, mode: int) -> None:
    """Write a file of the given mode through a temporary neighbour, `fsync` and `rename`."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(mode)
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and unlinks in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """One process at a time for this directory; the others wait, and the lock ends with its holder."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _slot(data: Any) -> Slot | None:
    return Slot(release=data["release"], colour=Colour(data["colour"])) if data else None
