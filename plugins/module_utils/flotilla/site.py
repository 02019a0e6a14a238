"""One app on one host: what the phases of a deploy share."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .addresses import BOOK, fixed_address, read_slots, router_addresses
from .colour import ColourProject
from .compose_cli import Project
from .edge import Edge
from .engine import Engine
from .host import MIB, memory_left, read_memory
from .journal import Journal, Slot, load, save
from .lease import LeaseFile
from .record import entry
from .resolve import EDGE_NETWORK
from .run import Run
from .settings import Settings
from .store import Release, Store
from .trail import FILE, Step, Trail

RUNTIME = Path("/run/flotilla")


class PhaseError(Exception):
    """A phase could not do its work; nothing of it takes traffic. The message is for a person."""


class BusyError(Exception):
    """Another call works on the same app on this host."""


@dataclass(frozen=True)
class Site:
    """An app on a host: its settings, its engine, the run that works on it, and what it keeps on disk."""

    settings: Settings
    engine: Engine
    run: Run

    @property
    def lease(self) -> LeaseFile:
        unlock = f"ansible-playbook playbooks/unlock.yml {self.settings.arguments}"
        return LeaseFile(self.settings.lock, RUNTIME / "lease.lock", self.settings.host, unlock)

    def hold(self) -> None:
        """Go on only while the environment's lease is this run's; raises `LeaseError`."""
        self.lease.hold(self.run.lease.token, self.run.lease_seconds)

    @property
    def trail(self) -> Trail:
        """Who did what on this host."""
        return Trail(self.settings.root / "flotilla" / FILE.name)

    def leave(self, step: Step, release: str, version: str, outcome: str = "", reason: str = "") -> None:
        """Leave an entry on the trail; raises `TrailError`."""
        run, settings = self.run, self.settings
        who = {"token": run.lease.token, "by": run.by}
        what = {"app": settings.name, "release": release, "version": version, "reason": reason}
        by_whom = {"approved_by": run.approved_by, "heads": dict(run.heads)}
        self.trail.append(entry(who, run.action, settings.host, step, outcome, **what, **by_whom))

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
        """The only variables that a resolved file uses. Addresses are missing while their network is."""
        record = self.store.read(slot.release)
        services: Mapping[str, Any] = record.services if record else {}
        return {
            "FLOTILLA_COLOUR": str(slot.colour),
            "FLOTILLA_RELEASE": slot.release,
            "FLOTILLA_HOST": self.settings.host,
            "FLOTILLA_MEMORY": str(services.get("memory_left") or self.memory_left()),
            **self._addresses(slot),
        }

    def memory_left(self) -> int:
        """Bytes for a service without a limit of its own. A release keeps the number that it was made with."""
        once = {name: megabytes * MIB for name, megabytes in self.settings.memory_once_mb.items()}
        return memory_left(read_memory(), once)

    def _addresses(self, slot: Slot) -> dict[str, str]:
        record = self.store.read(slot.release)
        services: Mapping[str, int] = record.services.get("addresses", {}) if record else {}
        found: dict[str, str] = {}
        if own := self.engine.network(f"{self.settings.name}-{slot.colour}"):
            found = {f"FLOTILLA_ADDRESS_{number}": fixed_address(own, number) for number in services.values()}
        slots = read_slots(self.settings.edge / BOOK.name)
        edge = self.engine.network(EDGE_NETWORK)
        if edge and self.settings.name in slots:
            addresses = router_addresses(edge, slots[self.settings.name])
            found["FLOTILLA_ROUTER_ADDRESS"] = addresses[str(slot.colour)]
        return found

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
        """What the journal calls live, by release, colour and version; empty strings before the first commit."""
        return self._described(journal.live)

    def serving(self) -> dict[str, str]:
        """What takes the traffic right now, by the edge's flag: the live release, the one in hand, or none."""
        journal, colour = self.journal, self.edge.live()
        slots = (journal.candidate, journal.live)
        return self._described(next((slot for slot in slots if slot and slot.colour is colour), None))

    def _described(self, slot: Slot | None) -> dict[str, str]:
        if slot is None:
            return {"release": "", "colour": "", "version": ""}
        record = self.store.read(slot.release)
        return {"release": slot.release, "colour": str(slot.colour), "version": record.version if record else ""}


@contextmanager
def exclusive(settings: Settings, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Only one call at a time per app and host; the kernel releases it when the process ends.

    What a dead controller began may still be at work: it is waited for, and then refused for its stale token.
    """
    RUNTIME.mkdir(mode=0o700, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    with (RUNTIME / f"{settings.name}.lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    what = f"{settings.host}: another run works on {settings.name} right now"
                    raise BusyError(f"{what}. Next: wait for it, then run again") from error
            time.sleep(0.1)
        yield


def candidate(journal: Journal) -> Slot:
    """The release in hand; every phase but idle has one."""
    if journal.candidate is None:
        raise PhaseError(f"there is no release in hand (the journal is {journal.phase})")
    return journal.candidate


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
