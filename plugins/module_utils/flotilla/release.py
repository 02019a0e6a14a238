"""The two-phase deploy on one host: admit, prepare, commit, abort, finish.

Each phase is one method, safe to run again, and returns a plain dictionary; what a fleet does with
the answers is decided on the controller. The journal is written before a phase acts.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .admission import admit
from .colour import ColourError, ColourProject
from .compose_cli import ComposeError
from .edge import Answer, probe
from .engine import EngineError
from .images import prune_images
from .journal import RECOVERY, Journal, JournalError, Phase, write_atomic
from .preparation import Preparation, explain
from .resolve import ComposeFileError
from .site import PhaseError, Site, candidate, now
from .store import Standing

RELEASE_ERRORS = (
    PhaseError,
    ColourError,
    ComposeError,
    ComposeFileError,
    EngineError,
    JournalError,
    OSError,
    ValueError,
)
VERIFY_SECONDS = 10.0


@dataclass(frozen=True)
class Rollout:
    """The phases of a deploy of one app on one host."""

    site: Site

    def admit(self, bundle: str, router_config: str, *, find_digests: bool) -> dict[str, Any]:
        """Check everything that can be checked before anything is touched; see `admission.admit`."""
        return admit(self.site, bundle, router_config, find_digests=find_digests)

    def recover(self) -> dict[str, Any]:
        """Bring what a crashed run left to an end: see `journal.RECOVERY`."""
        step = RECOVERY[self.site.journal.phase]
        if step is Phase.ABORTING:
            return self.abort("an earlier run was cut short")
        if step is Phase.FINISHING:
            return self.finish(actor="recovery", started=time.time())
        return {"changed": False}

    def prepare(
        self, release: str, bundle: str, router_config: str, digests: Mapping[str, str], *, migrate: bool
    ) -> dict[str, Any]:
        """Bring the release up in the idle colour. On failure that colour goes again, and the error explains."""
        site = self.site
        site.store.create()
        journal = site.journal
        if journal.candidate and journal.candidate.release != release:
            what = f"release {journal.candidate.release} is {journal.phase} on {site.settings.host}"
            raise PhaseError(f"{what} and must be ended first: deploy again")
        slot = candidate(site.save(journal.begin(release)))
        try:
            record = Preparation(site, slot, bundle, router_config, digests).run(migrate=migrate)
        except RELEASE_ERRORS as error:
            failed = site.store.read(release)
            self.abort(explain(error).splitlines()[0], standing=Standing.REFUSED)
            migration = failed.migration if failed else "none"
            raise PhaseError(f"{explain(error)}\nmigration: {migration}\n{self._unharmed()}") from error
        site.save(site.journal.enter(Phase.PREPARED))
        return {"changed": True, "release": release, "colour": str(slot.colour), "migration": record.migration}

    def commit(self) -> dict[str, Any]:
        """Switch the edge to the candidate, verify through it, and hand the work over to its workers."""
        site = self.site
        journal = site.save(site.journal.enter(Phase.COMMITTING))
        slot = candidate(journal)
        record = site.release(slot.release)
        site.edge.switch(slot.colour)
        answer = self._through_edge(slot.release)
        if answer.status != 200:
            said = f"{answer.status or 'nothing'} {answer.reason}".strip()
            raise PhaseError(f"through the edge {site.settings.readiness_path} answered {said}")
        workers = record.services["start_at_commit"]
        if journal.live:
            site.colour(journal.live).stop(self._workers(journal.live.release))
        if workers:
            deadline = time.monotonic() + site.settings.ready_seconds
            colour = site.colour(slot)
            colour.up(workers, deadline=deadline)
            colour.wait_ready(workers, deadline=deadline, stable_seconds=site.settings.stable_seconds)
        site.save(site.journal.enter(Phase.COMMITTED))
        site.store.mark(slot.release, Standing.LIVE)
        return {"changed": True, "release": slot.release, "colour": str(slot.colour)}

    def abort(self, reason: str, *, standing: Standing = Standing.REVERTED) -> dict[str, Any]:
        """Send the traffic back to what served before, and take the candidate down. Nothing is pulled or booted."""
        site = self.site
        if site.journal.phase is Phase.IDLE:
            return {"changed": False, "live": site.describe(site.journal)}
        journal = site.save(site.journal.enter(Phase.ABORTING))
        slot = candidate(journal)
        colour = site.colour(slot)
        flipped = site.edge.live() is slot.colour
        site.edge.switch(journal.live.colour if journal.live else None)
        colour.stop(self._workers(slot.release))
        if journal.live:
            site.colour(journal.live).restart(self._workers(journal.live.release))
        if flipped:
            colour.drain(site.settings.drain_seconds)
        self._keep_last_lines(slot.release, colour)
        colour.remove(graceful=flipped)
        site.store.mark(slot.release, standing)
        done = site.save(journal.discard())
        self._record(journal, "reverted" if flipped else "refused", reason)
        return {"changed": True, "release": slot.release, "flipped": flipped, "live": site.describe(done)}

    def finish(self, *, actor: str, started: float) -> dict[str, Any]:
        """Drain and remove the old colour, mark the release proven, prune, and write the history."""
        site = self.site
        journal = site.save(site.journal.enter(Phase.FINISHING))
        slot = candidate(journal)
        cut = 0
        if journal.live:
            old = site.colour(journal.live)
            cut = old.drain(site.settings.drain_seconds)
            self._keep_last_lines(journal.live.release, old)
            old.remove()
            site.store.mark(journal.live.release, Standing.PROVEN)
        site.store.mark(slot.release, Standing.LIVE, proven=now())
        done = site.save(journal.promote())
        pruned = self._prune(done)
        self._record(journal, "deployed", "", actor=actor, seconds=time.time() - started)
        return {
            "changed": True,
            "release": slot.release,
            "cut_connections": cut,
            "pruned": pruned,
            "live": site.describe(done),
        }

    def status(self) -> dict[str, Any]:
        """What serves, what is in hand, and the releases kept. Changes nothing."""
        journal = self.site.journal
        releases = self.site.store.releases()
        return {
            "live": self.site.describe(journal),
            "edge": str(self.site.edge.live() or ""),
            "unfinished": "" if journal.phase is Phase.IDLE else str(journal.phase),
            "releases": [{"id": r.id, "version": r.version, "standing": str(r.standing)} for r in releases],
        }

    # -- through the edge ---------------------------------------------------------------------

    def _through_edge(self, release: str) -> Answer:
        """Ask the edge for the readiness path until the release itself answers 200, at most `VERIFY_SECONDS`."""
        settings = self.site.settings
        agent = f"flotilla-verify/{uuid.uuid4().hex}"
        deadline = time.monotonic() + VERIFY_SECONDS
        while True:
            answer = probe(
                "127.0.0.1",
                settings.https_port,
                self.site.domain(),
                settings.readiness_path,
                tls=True,
                timeout=VERIFY_SECONDS,
                user_agent=agent,
            )
            seen = answer.release or self._logged_release(agent)
            if answer.status == 200 and seen == release:
                return answer
            if time.monotonic() >= deadline:
                wrong = f"by release {seen or 'unknown'}, wanted {release}"
                return answer if answer.status != 200 else Answer(0, seen, wrong)
            time.sleep(0.1)

    def _logged_release(self, agent: str) -> str:
        """The release that the edge's access log names for the last request of `agent`.

        The edge does not tell its clients which release answered, unless it is told to.
        """
        try:
            with (self.site.settings.edge / "logs" / "access.log").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - 65536))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        line = next((line for line in reversed(lines) if agent in line), "{}")
        try:
            return str(json.loads(line).get("release", ""))
        except ValueError:
            return ""

    def _unharmed(self) -> str:
        """What serves after a release was refused, and what to do next."""
        settings = self.site.settings
        serving = self.site.describe(self.site.journal)["release"]
        now_serves = f"{serving} serves on" if serving else "the edge keeps its 503 page"
        again = f"ansible-playbook deploy.yml -i {settings.directory} -e app={settings.name} -e version=<version>"
        return f"{now_serves}. Next: mend the release ({settings.file}, its images, its environment), then {again}"

    # -- bookkeeping --------------------------------------------------------------------------

    def _workers(self, release: str) -> list[str]:
        record = self.site.store.read(release)
        return list(record.services.get("start_at_commit", ())) if record else []

    def _keep_last_lines(self, release: str, colour: ColourProject) -> None:
        if (directory := self.site.store.directory(release)).is_dir():
            write_atomic(directory / "last.log", colour.last_lines(200), mode=0o600)

    def _prune(self, journal: Journal) -> list[str]:
        store, settings = self.site.store, self.site.settings
        protected = {slot.release for slot in (journal.live, journal.candidate) if slot}
        gone = store.prunable(settings.keep_releases, protected)
        for record in gone:
            prune_images(self.site.engine, settings.name, record)
            store.remove(record.id)
        store.prune_secrets()
        return [record.id for record in gone]

    def _record(self, journal: Journal, outcome: str, reason: str, *, actor: str = "", seconds: float = 0.0) -> None:
        slot = candidate(journal)
        record = self.site.store.read(slot.release)
        self.site.store.record(
            {
                "when": now(),
                "who": actor,
                "outcome": outcome,
                "reason": reason,
                "from": journal.live.release if journal.live else "",
                "to": slot.release,
                "version": record.version if record else "",
                "migration": record.migration if record else "none",
                "seconds": round(seconds, 1),
            }
        )
