"""Look at a host without the app's source or the inventory's variables: everything is read from the host itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .colour import ROUTER
from .condition import condition, disk_problems
from .edge import Edge
from .engine import Engine, EngineError
from .journal import Colour, Journal, load
from .readiness import service_of
from .store import Store

DISKS = ("/var/lib/docker", "/opt")


class ViewError(Exception):
    """What was asked for is not on this host. The message is for a person."""


@dataclass(frozen=True)
class View:
    """A host's apps, read only. `root` is where they are; `edge` is the edge's directory."""

    host: str
    engine: Engine
    root: Path = Path("/opt")
    edge: Path = Path("/opt/flotilla/nginx")
    lock: Path = Path("/opt/flotilla/lock.json")

    def apps(self, wanted: str = "") -> list[str]:
        """The apps on this host, or the one that is wanted; raises `ViewError` when it is not there."""
        known = sorted(path.parent.name for path in self.root.glob("*/state.json"))
        if not wanted:
            return known
        if wanted not in known:
            raise ViewError(f"{self.host}: there is no app `{wanted}` (apps: {', '.join(known) or 'none'})")
        return [wanted]

    def one(self, wanted: str = "") -> str:
        """The app that is wanted, or the only one."""
        found = self.apps(wanted)
        if len(found) != 1:
            known = ", ".join(found) or "none"
            raise ViewError(f"{self.host}: say which app with -e app=<name> (apps: {known})")
        return found[0]

    # -- status ---------------------------------------------------------------------------------

    def status(self, wanted: str = "") -> dict[str, Any]:
        """`apps` (name → `condition`), `lock`, `disks` (path → free and total bytes), `problems` of the host."""
        disks = {path: _room(path) for path in DISKS}
        lock = self.holder()
        at_work = bool(lock) and not lock["expired"]
        return {
            "apps": {name: self._condition(name, at_work) for name in self.apps(wanted)},
            "lock": lock,
            "disks": disks,
            "problems": disk_problems(disks),
        }

    def _condition(self, app: str, at_work: bool) -> dict[str, Any]:
        store, mute = Store(self.root / app), ""
        colours: dict[Colour, list[dict[str, Any]]] = {}
        shared: list[dict[str, Any]] = []
        try:
            colours = {colour: self.engine.project(f"{app}-{colour}") for colour in Colour}
            shared = self.engine.project(f"{app}-data")
        except EngineError as error:
            mute = error.message
        edge = Edge(self.edge / "live" / app).live()
        history = self._entries(app)
        found = condition(load(store.journal), edge, store.releases(), colours, shared, history, at_work=at_work)
        # Without the engine, what its containers lack says nothing.
        return {**found, "problems": [mute]} if mute else found

    def holder(self) -> dict[str, Any]:
        """Who has the environment's lock: owner, purpose, since, expires (epoch seconds), expired. Empty for nobody."""
        try:
            lease = json.loads(self.lock.read_text())
            known = {name: lease.get(name, "") for name in ("owner", "purpose", "since", "expires")}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            return {"owner": "somebody", "purpose": f"{self.lock} cannot be read: {error}", "expired": False}
        return {**known, "expired": float(known["expires"] or 0) <= time.time()}

    # -- history --------------------------------------------------------------------------------

    def history(self, wanted: str, number: int) -> list[dict[str, Any]]:
        """The last entries of each app's history, each with its app, oldest first."""
        return [{"app": app, **entry} for app in self.apps(wanted) for entry in self._entries(app)[-number:]]

    def _entries(self, app: str) -> list[dict[str, Any]]:
        try:
            rows = (self.root / app / "history.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [entry for row in rows if (entry := _entry(row))]

    # -- the live colour ------------------------------------------------------------------------

    def live(self, app: str, service: str = "") -> list[dict[str, Any]]:
        """`inspect` of the live colour's containers, of one service or of all; raises `ViewError` for none."""
        journal: Journal = load(Store(self.root / app).journal)
        if journal.live is None:
            raise ViewError(f"{self.host}: nothing of {app} serves")
        found = self.engine.project(f"{app}-{journal.live.colour}") + self.engine.project(f"{app}-data")
        known = sorted({service_of(one) for one in found} - {ROUTER})
        chosen = [one for one in found if service_of(one) == service] if service else found
        if not chosen:
            raise ViewError(
                f"{self.host}: {app} has no service `{service}` that runs (services: {', '.join(known) or 'none'})"
            )
        return sorted(chosen, key=lambda one: str(one.get("Name", "")))

    def logs(self, app: str, service: str, lines: int) -> list[dict[str, Any]]:
        """The last log lines of each container, by name. Without a service the router's are left out."""
        return [
            {
                "container": str(one.get("Name", "")).lstrip("/"),
                "lines": self.engine.logs(one["Id"], lines).splitlines(),
            }
            for one in self.live(app, service)
            if service or service_of(one) != ROUTER
        ]

    def execute(self, app: str, service: str, command: Sequence[str], seconds: float) -> dict[str, Any]:
        """Run a command in the first running container of a service; `rc` 124 where it took too long."""
        if not service:
            known = sorted({service_of(one) for one in self.live(app)} - {ROUTER})
            raise ViewError(f"{self.host}: say in which service with -e service=<name> (services: {', '.join(known)})")
        running = [one for one in self.live(app, service) if one["State"].get("Status") == "running"]
        if not running:
            raise ViewError(f"{self.host}: no container of {app}'s {service} runs")
        name = str(running[0].get("Name", "")).lstrip("/")
        line = ["docker", "exec", running[0]["Id"], *command]
        try:
            done = subprocess.run(
                line,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            said = {"stdout": _text(error.stdout), "stderr": _text(error.stderr)}
            late = f"still ran after {seconds:g} s; it was left, and may run on in the container"
            return {"container": name, "rc": 124, **said, "note": late}
        return {"container": name, "rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr, "note": ""}


VIEW_ERRORS = (ViewError, EngineError, OSError, ValueError, KeyError)


def _room(path: str) -> dict[str, int]:
    place = Path(path)
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    return {"free": usage.free, "total": usage.total}


def _entry(row: str) -> dict[str, Any] | None:
    """A line of a history; one that a power cut broke is passed over."""
    try:
        entry = json.loads(row)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _text(said: bytes | str | None) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said or ""
