"""The two-phase deploy on one host: admit, prepare, commit, abort, finish.

Each phase is one method, safe to run again, and returns a plain dictionary; what a fleet does with
the answers is decided on the controller. The journal is written before a phase acts.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import draft as drafts
from .colour import ROUTER_PORT, ColourError, ColourProject
from .compose_cli import ComposeError, Project
from .edge import Answer, Edge, probe
from .engine import Engine, EngineError
from .host import MIB, disk_problem, memory_problem, read_memory
from .images import keep, prune_images, pull_missing
from .journal import RECOVERY, Colour, Journal, JournalError, Phase, load, save, write_atomic
from .ownership import secret_owners
from .problem import Problem
from .resolve import EDGE_NETWORK, ComposeProblems
from .settings import Settings
from .store import Release, Standing, Store, unpack


class PhaseError(Exception):
    """A phase could not do its work; nothing of it takes traffic. The message is for a person."""


class BusyError(Exception):
    """Another call works on the same app on this host."""


RELEASE_ERRORS = (PhaseError, ColourError, ComposeError, ComposeProblems, EngineError, JournalError, OSError)


@contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Only one call at a time per app and host; the kernel releases it when the process ends."""
    directory = Path("/run/flotilla")
    directory.mkdir(mode=0o700, exist_ok=True)
    with (directory / f"{settings.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"{settings.host}: another run works on {settings.name} right now. Next: wait for it, then run again"
            ) from error
        yield


class Host:
    """One app on one host, and the phases that change it."""

    def __init__(self, settings: Settings, engine: Engine | None = None) -> None:
        self.settings = settings
        self.engine = engine or Engine()
        self.store = Store(settings.base)
        self.edge = Edge(settings.edge / "live" / settings.name)

    @property
    def journal(self) -> Journal:
        return load(self.store.journal)

    # -- admit --------------------------------------------------------------------------------

    def admit(self, bundle: str, router_config: str, *, find_digests: bool) -> dict[str, Any]:
        """Check everything that can be checked before anything is touched.

        Returns the live release, whether the draft's fingerprint equals it, the digests (when asked
        for), the phase that an earlier run left unfinished, and notes. Raises `ComposeProblems`.
        """
        with self._source(bundle) as source:
            draft = drafts.read(self.settings, self.store, source, router_config, {})
        digests = drafts.find_digests(self.engine, self.settings, draft.resolved.images) if find_digests else {}
        problems = [found for found in (self._memory_problem(draft), self._disk_problem()) if found]
        if problems:
            raise ComposeProblems(problems)
        journal = self.journal
        live = self.store.read(journal.live.release) if journal.live else None
        return {
            "live": self._describe(journal),
            "live_images": dict(live.images) if live else {},
            "unfinished": "" if journal.phase is Phase.IDLE else str(journal.phase),
            "matches": bool(live and live.fingerprint == draft.fingerprint and self._serves(journal)),
            "digests": digests,
            "images": draft.resolved.images,
            "update": {**asdict(draft.resolved.update), "stated": sorted(draft.resolved.update.stated)},
            "notes": list(draft.resolved.notes),
        }

    def recover(self) -> dict[str, Any]:
        """Bring what a crashed run left to an end: see `journal.RECOVERY`."""
        step = RECOVERY[self.journal.phase]
        if step is Phase.ABORTING:
            return self.abort("an earlier run was cut short")
        if step is Phase.FINISHING:
            return self.finish(actor="recovery", started=time.time())
        return {"changed": False}

    # -- prepare ------------------------------------------------------------------------------

    def prepare(
        self, release: str, bundle: str, router_config: str, digests: Mapping[str, str], *, migrate: bool
    ) -> dict[str, Any]:
        """Write the release, pull, migrate (on one host), boot the idle colour and wait for its verdict.

        Traffic never notices. On failure the idle colour is taken down again and `PhaseError` explains.
        """
        self.store.create()
        journal = self.journal
        if journal.candidate and journal.candidate.release != release:
            raise PhaseError(
                f"release {journal.candidate.release} is {journal.phase} on this host and must be ended first"
            )
        journal = journal.begin(release)
        save(self.store.journal, journal)
        deadline = time.monotonic() + self.settings.pull_seconds
        record = None
        try:
            record = self._write_release(release, bundle, router_config, digests, deadline)
            if migrate:
                record = self._migrate(record)
            self._boot(record)
            self._preview(record)
        except RELEASE_ERRORS as error:
            migration = record.migration if record else "none"
            self.abort(
                f"refused: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
                standing=Standing.REFUSED,
            )
            raise PhaseError(
                f"{error}\nmigration: {migration}" if migrate and migration != "none" else str(error)
            ) from error
        save(self.store.journal, self.journal.enter(Phase.PREPARED))
        return {
            "changed": True,
            "release": release,
            "colour": str(self._candidate_colour()),
            "migration": record.migration,
        }

    # -- commit, abort, finish ----------------------------------------------------------------

    def commit(self) -> dict[str, Any]:
        """Switch the edge to the candidate, verify through it, and hand the work over to its workers."""
        journal = self.journal.enter(Phase.COMMITTING)
        save(self.store.journal, journal)
        assert journal.candidate is not None
        release = self._must_read(journal.candidate.release)
        self.edge.switch(journal.candidate.colour)
        answer = self._through_edge(release.id)
        if answer.status != 200:
            said = f"{answer.status or 'nothing'} {answer.reason}".strip()
            raise PhaseError(f"through the edge {self.settings.readiness_path} answered {said}")
        workers = release.services["start_at_commit"]
        if workers:
            if journal.live:
                self._colour(journal.live.release, journal.live.colour).stop(workers)
            deadline = time.monotonic() + self.settings.ready_seconds
            colour = self._colour(release.id, journal.candidate.colour)
            colour.up(workers, deadline=deadline)
            colour.wait_ready(workers, deadline=deadline, stable_seconds=self.settings.stable_seconds)
        save(self.store.journal, self.journal.enter(Phase.COMMITTED))
        self.store.mark(release.id, Standing.LIVE)
        return {"changed": True, "release": release.id, "colour": str(journal.candidate.colour)}

    def abort(self, reason: str, *, standing: Standing = Standing.REVERTED) -> dict[str, Any]:
        """Send the traffic back to what served before, and take the candidate down. Nothing is pulled or booted."""
        journal = self.journal
        if journal.phase is Phase.IDLE:
            return {"changed": False}
        journal = journal.enter(Phase.ABORTING)
        save(self.store.journal, journal)
        assert journal.candidate is not None
        candidate = self._colour(journal.candidate.release, journal.candidate.colour)
        flipped = self.edge.live() is journal.candidate.colour
        if journal.live:
            old = self._colour(journal.live.release, journal.live.colour)
            record = self.store.read(journal.live.release)
            workers = record.services.get("start_at_commit", []) if record else []
            self.edge.switch(journal.live.colour)
            candidate.stop(workers)
            old.restart(workers)
        else:
            self.edge.switch(None)
        if flipped:
            candidate.drain(self.settings.drain_seconds)
        self._keep_last_lines(journal.candidate.release, candidate)
        candidate.remove(graceful=flipped)
        self.store.mark(journal.candidate.release, standing)
        save(self.store.journal, journal.discard())
        self._record(journal, "reverted" if flipped else "refused", reason, actor="", seconds=0.0)
        return {
            "changed": True,
            "release": journal.candidate.release,
            "flipped": flipped,
            "live": self._describe(self.journal),
        }

    def finish(self, *, actor: str, started: float) -> dict[str, Any]:
        """Drain and remove the old colour, mark the release proven, prune, and write the history."""
        journal = self.journal.enter(Phase.FINISHING)
        save(self.store.journal, journal)
        assert journal.candidate is not None
        cut = 0
        if journal.live:
            old = self._colour(journal.live.release, journal.live.colour)
            cut = old.drain(self.settings.drain_seconds)
            self._keep_last_lines(journal.live.release, old)
            old.remove()
            self.store.mark(journal.live.release, Standing.PROVEN)
        self.store.mark(journal.candidate.release, Standing.LIVE, proven=_now())
        done = journal.promote()
        save(self.store.journal, done)
        pruned = self._prune(done)
        self._record(journal, "deployed", "", actor=actor, seconds=time.time() - started)
        return {
            "changed": True,
            "release": journal.candidate.release,
            "cut_connections": cut,
            "pruned": pruned,
            "live": self._describe(done),
        }

    def status(self) -> dict[str, Any]:
        """What serves, what is in hand, and the releases kept. Changes nothing."""
        journal = self.journal
        return {
            "live": self._describe(journal),
            "edge": str(self.edge.live() or ""),
            "unfinished": "" if journal.phase is Phase.IDLE else str(journal.phase),
            "releases": [
                {"id": r.id, "version": r.version, "standing": str(r.standing)} for r in self.store.releases()
            ],
        }

    # -- the steps of prepare -----------------------------------------------------------------

    def _write_release(
        self, release: str, bundle: str, router_config: str, digests: Mapping[str, str], deadline: float
    ) -> Release:
        directory = self.store.directory(release)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        source = directory / "source"
        unpack(bundle, source)
        draft = drafts.read(self.settings, self.store, source, router_config, digests)
        resolved = draft.resolved
        images = {service: digests.get(reference, reference) for service, reference in resolved.images.items()}
        record = Release(
            id=release,
            version=self.settings.version,
            fingerprint=draft.fingerprint,
            secrets_version=draft.secrets_version,
            images=images,
            created=_now(),
            services={
                "start_with_colour": list(resolved.start_with_colour),
                "start_at_commit": list(resolved.start_at_commit),
                "one_shots": list(resolved.one_shots),
                "grace_seconds": dict(resolved.grace_seconds),
                "migration": self.settings.migration if resolved.migration else None,
                "reserved_memory": resolved.limits.colour_memory + resolved.limits.shared_memory,
            },
        )
        for copy in resolved.copies:
            _copy(source / copy.source, Path(copy.path(str(self.settings.base), release)))
        for name in resolved.shared_directories:
            Path(name).mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomic(directory / "router.conf", router_config, mode=0o644)
        write_atomic(directory / "compose.json", _json(resolved.compose), mode=0o600)
        if resolved.migration:
            write_atomic(directory / "migration.json", _json(resolved.migration), mode=0o600)
        self.store.write(record)
        pull_missing(self.engine, images.values(), deadline)
        keep(self.engine, self.settings.name, release, images)
        owners = secret_owners(self.engine, resolved, images)
        self.store.write_secrets(draft.secrets_version, self.settings.secrets, owners)
        labels = {"flotilla.app": self.settings.name}
        for network in resolved.networks:
            for colour in Colour:
                self.engine.ensure_network(network.for_colour(colour), network, labels)
        for volume in resolved.volumes:
            self.engine.ensure_volume(volume, labels)
        if resolved.shared:
            self._start_shared(directory, resolved.shared, resolved.shared_fingerprint)
        return record

    def _start_shared(self, directory: Path, shared: Mapping[str, Any], wanted: str) -> None:
        """Start the services that own data, and leave running ones alone unless the user changed them."""
        stamp = self.settings.base / "shared.fingerprint"
        file = self.settings.base / "shared.json"
        current = stamp.read_text() if stamp.exists() else ""
        project = Project(f"{self.settings.name}-data", file, {"FLOTILLA_HOST": self.settings.host})
        running = {
            str(c["Config"]["Labels"].get("com.docker.compose.service")) for c in self.engine.project(project.name)
        }
        services = set(shared["services"])
        deadline = time.monotonic() + self.settings.ready_seconds
        colour = ColourProject(self.engine, project, (), {})
        if current != wanted or not services <= running:
            write_atomic(file, _json(shared), mode=0o600)
            colour.up(sorted(services), deadline=deadline)
            write_atomic(stamp, wanted, mode=0o600)
        colour.wait_ready(services, deadline=deadline, stable_seconds=self.settings.stable_seconds)

    def _migrate(self, record: Release) -> Release:
        service = record.services["migration"]
        if not service:
            return record
        directory = self.store.directory(record.id)
        project = Project(
            f"{self.settings.name}-migration",
            directory / "migration.json",
            self._variables(record.id, self._candidate_colour()),
        )
        try:
            output = project.run(
                "run", "--rm", "--no-TTY", "--quiet-pull", service, timeout=self.settings.migration_seconds
            )
        except ComposeError as error:
            ColourProject(self.engine, project, (), {}).remove(graceful=False)
            write_atomic(directory / "migration.log", error.output + "\n", mode=0o600)
            self.store.mark(record.id, Standing.PREPARED, migration="failed")
            how = f"did not end within {self.settings.migration_seconds:g} s" if error.timed_out else "failed"
            tail = "\n".join(error.output.splitlines()[-20:])
            raise PhaseError(f"the migration ({service}) {how}:\n{tail}") from error
        write_atomic(directory / "migration.log", output, mode=0o600)
        migrated = replace(record, migration="applied")
        self.store.write(migrated)
        return migrated

    def _boot(self, record: Release) -> None:
        candidate = self._colour(record.id, self._candidate_colour())
        candidate.remove(graceful=False)
        deadline = time.monotonic() + self.settings.ready_seconds
        services = record.services["start_with_colour"]
        candidate.up(services, deadline=deadline)
        candidate.wait_ready(services, deadline=deadline, stable_seconds=self.settings.stable_seconds)

    def _preview(self, record: Release) -> None:
        """Ask the idle colour for its readiness, as traffic would, on its private address."""
        address = self._colour(record.id, self._candidate_colour()).router_address(EDGE_NETWORK)
        deadline = time.monotonic() + min(30.0, self.settings.ready_seconds)
        while True:
            answer = probe(address, ROUTER_PORT, self._domain(), self.settings.readiness_path, tls=False, timeout=10)
            if answer.status == 200 and answer.release == record.id:
                return
            if time.monotonic() >= deadline:
                said = f"{answer.status or 'nothing'} {answer.reason}".strip()
                raise PhaseError(f"{self.settings.readiness_path} of the new release answered {said}, wanted 200")
            time.sleep(0.2)

    def _through_edge(self, release: str) -> Answer:
        """Ask the edge for the readiness path until the candidate itself answers 200, at most 10 s."""
        agent = f"flotilla-verify/{uuid.uuid4().hex}"
        deadline = time.monotonic() + 10
        while True:
            answer = probe(
                "127.0.0.1",
                self.settings.https_port,
                self._domain(),
                self.settings.readiness_path,
                tls=True,
                timeout=10,
                user_agent=agent,
            )
            seen = answer.release or self._logged_release(agent)
            if answer.status == 200 and seen == release:
                return answer
            if time.monotonic() >= deadline:
                wrong = f"from release {seen or 'unknown'}, wanted {release}"
                return answer if answer.status != 200 else Answer(0, seen, wrong)
            time.sleep(0.1)

    def _logged_release(self, agent: str) -> str:
        """The release that the edge's access log names for the last request of `agent`."""
        try:
            with (self.settings.edge / "logs" / "access.log").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - 65536))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        for line in reversed(lines):
            if agent in line:
                try:
                    return str(json.loads(line).get("release", ""))
                except ValueError:
                    return ""
        return ""

    # -- small questions ----------------------------------------------------------------------

    @contextmanager
    def _source(self, bundle: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="flotilla-", dir="/run") as scratch:
            target = Path(scratch) / "source"
            unpack(bundle, target)
            yield target

    def _memory_problem(self, draft: drafts.Draft) -> Problem | None:
        once = {name: mb * MIB for name, mb in self.settings.memory_once_mb.items()}
        if draft.resolved.limits.shared_memory:
            once[f"{self.settings.name}-data"] = draft.resolved.limits.shared_memory
        for other in sorted(path.parent.name for path in self.settings.root.glob("*/state.json")):
            if other != self.settings.name:
                once[other] = self._reserved_by(other)
        twice = {self.settings.name: draft.resolved.limits.colour_memory}
        return memory_problem(read_memory(), once, twice, self.settings.declared_swap_mb * MIB, self.settings.host)

    def _reserved_by(self, app: str) -> int:
        store = Store(self.settings.root / app)
        live = load(store.journal).live
        record = store.read(live.release) if live else None
        return int(record.services.get("reserved_memory", 0)) if record else 0

    def _disk_problem(self) -> Problem | None:
        free = shutil.disk_usage("/var/lib/docker").free
        return disk_problem(self.settings.host, "/var/lib/docker", free, 1024 * MIB)

    def _serves(self, journal: Journal) -> bool:
        """Whether every service of the live colour runs; a no-op must not hide a broken host."""
        if journal.live is None or journal.phase is not Phase.IDLE or self.edge.live() is not journal.live.colour:
            return False
        record = self.store.read(journal.live.release)
        containers = self._colour(journal.live.release, journal.live.colour).containers()
        running = {
            str(c["Config"]["Labels"].get("com.docker.compose.service"))
            for c in containers
            if c["State"].get("Running")
        }
        if record is None:
            return False
        wanted = {*record.services["start_with_colour"], *record.services["start_at_commit"]}
        return wanted - set(record.services["one_shots"]) <= running

    def _colour(self, release: str, colour: Colour) -> ColourProject:
        record = self.store.read(release)
        services: Mapping[str, Any] = record.services if record else {}
        project = Project(
            f"{self.settings.name}-{colour}",
            self.store.directory(release) / "compose.json",
            self._variables(release, colour),
        )
        return ColourProject(self.engine, project, services.get("one_shots", ()), services.get("grace_seconds", {}))

    def _variables(self, release: str, colour: Colour) -> dict[str, str]:
        return {"FLOTILLA_COLOUR": str(colour), "FLOTILLA_RELEASE": release, "FLOTILLA_HOST": self.settings.host}

    def _candidate_colour(self) -> Colour:
        candidate = self.journal.candidate
        assert candidate is not None
        return candidate.colour

    def _must_read(self, release: str) -> Release:
        record = self.store.read(release)
        if record is None:
            raise PhaseError(f"release {release} is not on this host any more")
        return record

    def _domain(self) -> str:
        return self.settings.domains[0] if self.settings.domains else "localhost"

    def _keep_last_lines(self, release: str, colour: ColourProject) -> None:
        if (directory := self.store.directory(release)).is_dir():
            write_atomic(directory / "last.log", colour.last_lines(200), mode=0o600)

    def _prune(self, journal: Journal) -> list[str]:
        protected = {slot.release for slot in (journal.live, journal.candidate) if slot}
        gone = self.store.prunable(self.settings.keep_releases, protected)
        for record in gone:
            prune_images(self.engine, self.settings.name, record)
            self.store.remove(record.id)
        self.store.prune_secrets()
        return [record.id for record in gone]

    def _describe(self, journal: Journal) -> dict[str, str]:
        if journal.live is None:
            return {"release": "", "colour": "", "version": ""}
        record = self.store.read(journal.live.release)
        return {
            "release": journal.live.release,
            "colour": str(journal.live.colour),
            "version": record.version if record else "",
        }

    def _record(self, journal: Journal, outcome: str, reason: str, *, actor: str, seconds: float) -> None:
        candidate = journal.candidate
        record = self.store.read(candidate.release) if candidate else None
        self.store.record(
            {
                "when": _now(),
                "who": actor,
                "outcome": outcome,
                "reason": reason,
                "from": journal.live.release if journal.live else "",
                "to": candidate.release if candidate else "",
                "version": record.version if record else "",
                "migration": record.migration if record else "none",
                "seconds": round(seconds, 1),
            }
        )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
