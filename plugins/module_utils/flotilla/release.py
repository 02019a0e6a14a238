"""The two-phase deploy on one host: admit, prepare, commit, watch, abort, finish.

Each phase is one method, safe to run again, and returns a plain dictionary; what a fleet does with
the answers is decided on the controller (`fleet.py`). The journal is written before a phase acts, and
nothing acts without the environment's lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import retention, trail
from .admission import admit, describe, look_at_lock
from .colour import ColourError
from .compose_cli import ComposeError
from .engine import EngineError
from .fleet import Step
from .journal import Journal, JournalError, Phase, Slot
from .lease import LeaseError
from .observation import Observation
from .preparation import Preparation, explain
from .resolve import ComposeFileError
from .site import PhaseError, Site, candidate, now
from .store import Release, Standing
from .survey import survey
from .trail import TrailError
from .window import Window, WindowError

RELEASE_ERRORS = (
    PhaseError,
    ColourError,
    ComposeError,
    ComposeFileError,
    EngineError,
    JournalError,
    LeaseError,
    TrailError,
    WindowError,
    OSError,
    ValueError,
)


@dataclass(frozen=True)
class Rollout:
    """The phases of a deploy, or of a rollback, of one app on one host."""

    site: Site

    # -- before anything is touched -----------------------------------------------------------

    def admit(self, bundle: str, router_config: str, *, find_digests: bool, take_lock: bool) -> dict[str, Any]:
        """Check everything that can be checked before anything is touched; see `admission.admit`."""
        return admit(self.site, bundle, router_config, find_digests=find_digests, take_lock=take_lock)

    def survey(self, *, take_lock: bool) -> dict[str, Any]:
        """What a rollback could go to; see `survey.survey`."""
        return survey(self.site, take_lock=take_lock)

    def lock(self) -> dict[str, Any]:
        """Take the environment's lease on this host."""
        return {"lock": look_at_lock(self.site, take=True)}

    def release(self) -> dict[str, Any]:
        """Give the lease back, and do nothing else."""
        return {"changed": self.site.lease.release(self.site.run.lease.token)}

    # -- the two phases -----------------------------------------------------------------------

    def recover(self, step: Step, reason: str) -> dict[str, Any]:
        """Bring what a crashed run left to the end that was decided for the fleet: see `fleet.recovery`."""
        self._take()
        ended = Rollout(replace(self.site, run=replace(self.site.run, action="recovery", started=0.0)))
        phase = self.site.journal.phase
        if step is Step.FORWARD and phase in (Phase.PREPARED, Phase.COMMITTING):
            try:
                ended.commit(None)
            except RELEASE_ERRORS as error:
                return ended.abort(f"{reason}; it could not be committed: {explain(error)}", keep_lock=True)
            phase = Phase.COMMITTED
        if phase is Phase.FINISHING or (step is Step.FORWARD and phase is Phase.COMMITTED):
            return ended.finish(keep_lock=True)
        return ended.abort(reason, keep_lock=True)

    def prepare(
        self,
        release: str,
        bundle: str,
        router_config: str,
        digests: Mapping[str, str],
        *,
        migrate: bool,
        stop_first: bool = False,
        restore_point: str = "",
    ) -> dict[str, Any]:
        """Bring the release up in the idle colour. On failure that colour goes again, and the error explains.

        stop_first: the commit boots it, when what serves has been stopped.  restore_point: of the database, which was
        set before.
        """
        slot = self._begin(release, stop_first)
        preparation = Preparation(self.site, slot, bundle, router_config, digests, restore_point)
        return self._prepared(slot, lambda: preparation.run(migrate=migrate))

    def reactivate(
        self, release: str, *, stop_first: bool = False, reissue: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Bring a release that is there already up in the idle colour, as it was but for the secrets of `reissue`."""
        slot = self._begin(release, stop_first)
        self.site.store.reissue_secrets(reissue or {})
        return self._prepared(slot, Preparation(self.site, slot).again)

    def commit(self, window: Window | None, *, delay_seconds: float = 0.0) -> dict[str, Any]:
        """Switch the edge to the candidate, verify through it, hand the work to its workers, and watch it.

        When that fails, the traffic goes back at once; the rest is the abort's. window: None for none. With
        `stop_first` what serves stops before and the candidate boots: by then a balancer sends no traffic here.
        """
        site = self.site
        site.hold()
        if delay_seconds:
            time.sleep(delay_seconds)
            site.hold()
        slot = candidate(site.journal)
        record = site.release(slot.release)
        seen = Observation(site, slot, record)
        if not (site.journal.live and site.journal.stop_first):
            seen.check()
        journal = site.save(site.journal.enter(Phase.COMMITTING))
        try:
            if journal.live and journal.stop_first:
                stopped = journal.live.release
                site.colour(journal.live).stop([*self._serving(stopped), *self._workers(stopped)])
                Preparation(site, slot).boot(record)
            # What came while nothing served here is not the candidate's.
            log = seen.from_here()
            site.edge.switch(slot.colour)
            seen.verify()
            self._hand_over(journal, slot, record)
            traffic = seen.watch(log, window).summary() if window else {}
        except RELEASE_ERRORS:
            self._send_back(journal)
            raise
        site.save(site.journal.enter(Phase.COMMITTED))
        return {"changed": True, "release": slot.release, "colour": str(slot.colour), "traffic": traffic}

    def watch(self, window: Window) -> dict[str, Any]:
        """Watch a committed release on, while other hosts commit."""
        site = self.site
        site.hold()
        if site.journal.phase is not Phase.COMMITTED:
            raise PhaseError("its commit was cut short")
        slot = candidate(site.journal)
        seen = Observation(site, slot, site.release(slot.release))
        return {"traffic": seen.watch(seen.last_place(), window).summary()}

    def abort(self, reason: str, *, keep_lock: bool = False) -> dict[str, Any]:
        """Send the traffic back to what served before, and take the candidate down. Nothing is pulled or booted."""
        site = self.site
        site.hold()
        if site.journal.phase is Phase.IDLE:
            return self._ended(keep_lock, changed=False)
        journal = site.save(site.journal.enter(Phase.ABORTING))
        slot = candidate(journal)
        colour = site.colour(slot)
        self._send_back(journal)
        colour.stop(self._workers(slot.release))
        if journal.live:
            site.colour(journal.live).restart(self._workers(journal.live.release))
        if journal.moved:
            colour.drain(site.settings.drain_seconds)
        retention.keep_last_lines(site, slot.release, colour)
        colour.remove(graceful=journal.moved)
        record = site.store.read(slot.release)
        # One that was there before this run stays what it was: going back to it again is allowed.
        if record and record.standing is Standing.PREPARED:
            site.store.mark(slot.release, Standing.REVERTED if journal.moved else Standing.REFUSED)
        site.save(journal.discard())
        lost = retention.write_history(site, journal, "reverted" if journal.moved else "refused", reason)
        return self._ended(keep_lock, changed=True, release=slot.release, moved=journal.moved, unrecorded=lost)

    def finish(self, *, keep_lock: bool = False) -> dict[str, Any]:
        """Drain and remove the old colour, mark the release proven, prune, and write the history."""
        site = self.site
        site.hold()
        if site.journal.phase is Phase.IDLE:
            return self._ended(keep_lock, changed=False)
        journal = site.save(site.journal.enter(Phase.FINISHING))
        slot = candidate(journal)
        cut = 0
        if journal.live:
            old = site.colour(journal.live)
            cut = old.drain(site.settings.drain_seconds, switched_seconds=site.edge.switched_seconds())
            retention.keep_last_lines(site, journal.live.release, old)
            old.remove()
            # Ids sort by time: what is newer than its successor was rolled back from.
            back = journal.live.release > slot.release
            site.store.mark(journal.live.release, Standing.ROLLED_BACK if back else Standing.PROVEN)
        site.store.mark(slot.release, Standing.LIVE, proven=now())
        done = site.save(journal.promote())
        pruned = retention.prune(site, done, site.settings.keep_releases)
        lost = retention.write_history(site, journal, "deployed", "")
        return self._ended(
            keep_lock, changed=True, release=slot.release, cut_connections=cut, pruned=pruned, unrecorded=lost
        )

    def amend(self, outcome: str, reason: str) -> dict[str, Any]:
        """Add to the history what the fleet came to, where that is not what this host came to."""
        site = self.site
        line = {"when": now(), "who": site.run.actor, "run": site.run.lease.token[:8], "outcome": outcome}
        site.store.record({**line, "action": site.run.action, "reason": reason})
        try:
            site.leave(trail.Step.END, "", "", outcome, reason)
        except TrailError as error:
            return {"changed": True, "unrecorded": str(error)}
        return {"changed": True}

    def status(self) -> dict[str, Any]:
        """What serves, what is in hand, who has the lock, and the releases kept. Changes nothing."""
        site = self.site
        releases = site.store.releases()
        return {
            "live": site.describe(site.journal),
            "edge": str(site.edge.live() or ""),
            "journal": describe(site.journal),
            "lock": look_at_lock(site, take=False),
            "releases": [{"id": r.id, "version": r.version, "standing": str(r.standing)} for r in releases],
        }

    # -- steps ----------------------------------------------------------------------------------

    def _take(self) -> None:
        site = self.site
        site.lease.take(site.run.lease, site.run.lease_seconds, superseded=site.run.superseded)

    def _send_back(self, journal: Journal) -> None:
        """The traffic goes to what served before, which is started again where it had been stopped."""
        site = self.site
        if journal.live and journal.stop_first and journal.moved:
            services = self._serving(journal.live.release)
            old = site.colour(journal.live)
            # There is room for one of them only.
            site.colour(candidate(journal)).stop(self._serving(candidate(journal).release))
            old.restart(services)
            deadline = time.monotonic() + site.settings.ready_seconds
            old.wait_ready(services, deadline=deadline, stable_seconds=site.settings.stable_seconds)
        site.edge.switch(journal.live.colour if journal.live else None)

    def _begin(self, release: str, stop_first: bool = False) -> Slot:
        site = self.site
        self._take()
        site.store.create()
        journal = site.journal
        if journal.candidate and journal.candidate.release != release:
            what = f"release {journal.candidate.release} is {journal.phase} on {site.settings.host}"
            raise PhaseError(f"{what} and must be ended first: deploy again")
        # What cannot be written down is not begun.
        known = site.store.read(release)
        site.leave(trail.Step.BEGIN, release, known.version if known else site.settings.version)
        return candidate(site.save(journal.begin(release, stop_first=stop_first)))

    def _prepared(self, slot: Slot, steps: Callable[[], Release]) -> dict[str, Any]:
        site = self.site
        try:
            record = steps()
        except RELEASE_ERRORS as error:
            failed = site.store.read(slot.release)
            migration = failed.migration if failed else "none"
            self.abort(explain(error).splitlines()[0], keep_lock=True)
            raise PhaseError(f"{explain(error)}\nmigration: {migration}\n{self._unharmed()}") from error
        site.save(site.journal.enter(Phase.PREPARED))
        # A release that was there already was migrated when it came, not now.
        migration = "none" if site.run.again else record.migration
        return {"changed": True, "release": slot.release, "colour": str(slot.colour), "migration": migration}

    def _hand_over(self, journal: Journal, slot: Slot, record: Release) -> None:
        """The old colour's workers stop, and only then the new one's start: work is never done by both."""
        site = self.site
        if journal.live:
            site.colour(journal.live).stop(self._workers(journal.live.release))
        if workers := record.services["start_at_commit"]:
            deadline = time.monotonic() + site.settings.ready_seconds
            colour = site.colour(slot)
            colour.up(workers, deadline=deadline)
            colour.wait_ready(workers, deadline=deadline, stable_seconds=site.settings.stable_seconds)

    def _workers(self, release: str) -> list[str]:
        record = self.site.store.read(release)
        return list(record.services.get("start_at_commit", ())) if record else []

    def _serving(self, release: str) -> list[str]:
        """The services of a release that go on running, but for its workers."""
        record = self.site.store.read(release)
        services = record.services if record else {}
        return [one for one in services.get("start_with_colour", ()) if one not in services.get("one_shots", ())]

    def _unharmed(self) -> str:
        """What serves after a release was refused, and what to do next."""
        settings = self.site.settings
        serving = self.site.describe(self.site.journal)["release"]
        now_serves = f"{serving} serves on" if serving else "the edge keeps its 503 page"
        if self.site.run.action == "rollback":
            return f"{now_serves}. Next: choose another, {settings.command('rollback.yml', '-e list=true')}"
        if self.site.run.action == "restart":
            return (
                f"{now_serves}. Next: see its logs, {settings.command('playbooks/logs.yml')}; then deploy a mended one"
            )
        again = settings.command("deploy.yml", "-e version=<version>")
        return f"{now_serves}. Next: mend the release ({settings.file}, its images, its environment), then {again}"

    def _ended(self, keep_lock: bool, **result: Any) -> dict[str, Any]:
        if not keep_lock:
            self.site.lease.release(self.site.run.lease.token)
        return {**result, "live": self.site.describe(self.site.journal)}
