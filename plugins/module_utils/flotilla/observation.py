"""A release as traffic finds it: does the edge lead to it, and does it live up to its monitor window?"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .colour import ColourProject
from .contained import opened
from .edge import Answer, probe
from .journal import Slot, write_atomic
from .readiness import State, judge_container, service_of
from .site import RUNTIME, PhaseError, Site
from .store import Release
from .traffic import AccessLog, Request, Traffic
from .window import Watch, Window

VERIFY_SECONDS = 10.0
PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class Observation:
    """One committed (or nearly committed) release on one host."""

    site: Site
    slot: Slot
    record: Release

    @property
    def log(self) -> Path:
        return self.site.settings.edge / "logs" / "access.log"

    def check(self) -> None:
        """Raise `PhaseError` when a container died since it was found ready: such a release gets no traffic."""
        if wrong := self._ailing(self.record.services["start_with_colour"]):
            raise PhaseError(wrong)

    def verify(self) -> None:
        """Ask the edge for the readiness path until the release itself answers 200; `PhaseError` when it does not."""
        answer = self._through_edge()
        if answer.status != 200:
            said = f"{answer.status or 'nothing'} {answer.reason}".strip()
            raise PhaseError(f"through the edge {self._readiness} answered {said}")

    def watch(self, log: AccessLog, window: Window) -> Traffic:
        """Watch the release's traffic from a place in the log on; raises `WindowError`."""
        target = f"{self.site.settings.name}-router-{self.slot.colour}"
        paths = list(dict.fromkeys([self._readiness, *self.record.services.get("paths", ())]))
        services = self.record.services
        wanted = {*services["start_with_colour"], *services["start_at_commit"]}
        ailing = partial(self._ailing, wanted)
        watch = Watch(log, self.site.settings.name, self.slot.release, target, self._ask, paths, ailing)
        try:
            return watch.over(window)
        finally:
            self._keep_place(log)

    def from_here(self) -> AccessLog:
        """The log from now on, for a watch that begins now or with the next run of the module."""
        log = AccessLog.at_end(self.log)
        self._keep_place(log)
        return log

    def last_place(self) -> AccessLog:
        """The log from where the last watch left it, so that no request falls between two of them."""
        try:
            place: Mapping[str, Any] = json.loads(self._place.read_text())
            return AccessLog.at(self.log, place)
        except (OSError, ValueError, KeyError, TypeError):
            return AccessLog.at_end(self.log)

    # -- the edge -----------------------------------------------------------------------------

    @property
    def _readiness(self) -> str:
        """As the release had it: a rollback is not judged by today's inventory."""
        return str(self.record.services.get("readiness_path", self.site.settings.readiness_path))

    def _probe(self, path: str, timeout: float, agent: str = "flotilla") -> Answer:
        settings = self.site.settings
        return probe(
            "127.0.0.1", settings.https_port, self.site.domain(), path, tls=True, timeout=timeout, user_agent=agent
        )

    def _ask(self, path: str) -> Request:
        began = time.monotonic()
        answer = self._probe(path, PROBE_SECONDS)
        bad = path == self._readiness and answer.status != 200
        status = 503 if bad and 0 < answer.status < 500 else answer.status
        return Request(status, time.monotonic() - began)

    def _through_edge(self) -> Answer:
        agent = f"flotilla-verify/{uuid.uuid4().hex}"
        deadline = time.monotonic() + VERIFY_SECONDS
        while True:
            answer = self._probe(self._readiness, VERIFY_SECONDS, agent)
            seen = answer.release or self._logged_release(agent)
            if answer.status == 200 and seen == self.slot.release:
                return answer
            if time.monotonic() >= deadline:
                wrong = f"by release {seen or 'unknown'}, wanted {self.slot.release}"
                return answer if answer.status != 200 else Answer(0, seen, wrong)
            time.sleep(0.1)

    def _logged_release(self, agent: str) -> str:
        """The release that the edge's access log names for the last request of `agent`.

        The edge does not tell its clients which release answered, unless it is told to.
        """
        try:
            with opened(self.log.parent, below=self.log.parent) as logs, logs.open(self.log.name) as file:
                file.seek(max(0, file.seek(0, 2) - 65536))
                lines = file.read(65536).decode(errors="replace").splitlines()
        except OSError:
            return ""
        line = next((line for line in reversed(lines) if agent in line), "{}")
        try:
            return str(json.loads(line).get("release", ""))
        except ValueError:
            return ""

    # -- the containers -----------------------------------------------------------------------

    def _ailing(self, wanted: Iterable[str]) -> str:
        """What is wrong with the release's containers, explained; nothing while all are well."""
        colour = self.site.colour(self.slot)
        reasons = {service: reason for service, reason in self._failures(colour, wanted) if reason}
        return colour.explain(set(reasons), reasons) if reasons else ""

    def _failures(self, colour: ColourProject, wanted: Iterable[str]) -> list[tuple[str, str]]:
        services = self.record.services
        found = []
        for container in colour.containers():
            service = service_of(container)
            one_shot = service in services["one_shots"]
            state, reason = judge_container(container, one_shot=one_shot, uptime=0.0, stable_seconds=0.0)
            found.append((service, reason if state is State.FAILED else ""))
        missing = set(wanted) - set(services["one_shots"]) - {service for service, _ in found}
        return found + [(service, "its container is gone") for service in sorted(missing)]

    # -- the place in the log -------------------------------------------------------------------

    @property
    def _place(self) -> Path:
        return RUNTIME / f"{self.site.settings.name}.watched"

    def _keep_place(self, log: AccessLog) -> None:
        write_atomic(self._place, json.dumps(log.place()), mode=0o600)
