"""One app on one host: what the phases of a deploy share."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .colour import ColourProject
from .compose_cli import Project
from .edge import Edge
from .engine import Engine
from .journal import Journal, Slot, load, save
from .settings import Settings
from .store import Release, Store


class PhaseError(Exception):
    """A phase could not do its work; nothing of it takes traffic. The message is for a person."""


class BusyError(Exception):
    """Another call works on the same app on this host."""


@dataclass(frozen=True)
class Site:
    """An app on a host: its settings, its engine, and what it keeps on disk."""

    settings: Settings
    engine: Engine

    @property
    def store(self) -> Store:
        return Store(self.settings.base)

    @property
    def edge(self) -> Edge:
        return Edge(self.settings.edge / "live" / self.settings.name)

    @property
    def journal(self) -> Journal:
        return load(self.store.journal)

    def save(self, journal: Journal) -> Journal:
        """Write the journal down before anything is done about it."""
        save(self.store.journal, journal)
        return journal

    def colour(self, slot: Slot) -> ColourProject:
        """The Compose project of a release in its colour."""
        record = self.store.read(slot.release)
        services: Mapping[str, Any] = record.services if record else {}
        file = self.store.directory(slot.release) / "compose.json"
        project = Project(f"{self.settings.name}-{slot.colour}", file, self.variables(slot))
        return ColourProject(self.engine, project, services.get("one_shots", ()), services.get("grace_seconds", {}))

    def variables(self, slot: Slot) -> dict[str, str]:
        """The only variables that a resolved file uses."""
        return {
            "FLOTILLA_COLOUR": str(slot.colour),
            "FLOTILLA_RELEASE": slot.release,
            "FLOTILLA_HOST": self.settings.host,
        }

    def release(self, name: str) -> Release:
        """The record of a release that must be there."""
        record = self.store.read(name)
        if record is None:
            raise PhaseError(f"release {name} is not on {self.settings.host} any more")
        return record

    def domain(self) -> str:
        """The name that probes ask for."""
        return self.settings.domains[0] if self.settings.domains else "localhost"

    def describe(self, journal: Journal) -> dict[str, str]:
        """What serves, by release, colour and version; empty strings before the first commit."""
        if journal.live is None:
            return {"release": "", "colour": "", "version": ""}
        record = self.store.read(journal.live.release)
        version = record.version if record else ""
        return {"release": journal.live.release, "colour": str(journal.live.colour), "version": version}


@contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Only one call at a time per app and host; the kernel releases it when the process ends."""
    directory = Path("/run/flotilla")
    directory.mkdir(mode=0o700, exist_ok=True)
    with (directory / f"{settings.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = f"{settings.host}: another run works on {settings.name} right now"
            raise BusyError(f"{what}. Next: wait for it, then run again") from error
        yield


def candidate(journal: Journal) -> Slot:
    """The release in hand; every phase but idle has one."""
    if journal.candidate is None:
        raise PhaseError(f"there is no release in hand (the journal is {journal.phase})")
    return journal.candidate


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
