"""Prepare: write the release, pull, migrate, boot the idle colour and wait for its verdict.

Traffic never notices. Each step may be run again after a crash: the release's directory is written
anew, and the idle colour is taken down before it is booted.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import contained
from . import draft as drafts
from .admission import as_data
from .colour import ROUTER_PORT, ColourProject
from .compose_cli import ComposeError, Project
from .edge import probe
from .images import keep, pull_missing
from .journal import Colour, Slot, write_atomic
from .ownership import assign_secrets, run_as_root, service_uids
from .problem import Problem
from .readiness import service_of, way_out
from .resolve import EDGE_NETWORK, ComposeFileError, Resolved
from .resolve.model import MEMORY
from .resolve.mounts import volumes_of
from .resolve.privileges import granted, harmless, kept_otherwise
from .resolve.secret_variables import started_with
from .resolve.values import unescape
from .retention import make_room
from .site import PhaseError, Site, now
from .store import Release, Standing, unpack

PREVIEW_SECONDS = 30.0


@dataclass(frozen=True)
class Preparation:
    """The making of one release in one colour. `digests`: image as written → `name@sha256:…`.

    restore_point: what the database was before the migration, by name; empty where it has none.
    """

    site: Site
    slot: Slot
    bundle: str = ""
    router_config: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    restore_point: str = ""

    def run(self, *, migrate: bool) -> Release:
        """All steps. Raises one of the phases' errors, and leaves cleaning up to the abort.

        With `stop_first` the candidate is not booted: its commit does that.
        """
        make_room(self.site, self.site.journal)
        record = self._write()
        if migrate:
            record = self._migrate(record)
        if not self.site.journal.stop_first:
            self.boot(record)
        return record

    def again(self) -> Release:
        """Boot a release that is there already, as it was: nothing is resolved, pulled or migrated."""
        record = self.site.release(self.slot.release)
        if missing := absent(self.site, record):
            raise PhaseError(f"release {record.id} is not whole any more: {missing}")
        if not self.site.journal.stop_first:
            self.boot(record)
        return record

    def boot(self, record: Release) -> None:
        """Boot the idle colour, and ask it for its readiness."""
        self._boot(record)
        self._preview(record)

    # -- the release on disk and in the engine --------------------------------------------------

    def _write(self) -> Release:
        site, settings = self.site, self.site.settings
        directory = site.store.directory(self.slot.release)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        source = directory / "source"
        unpack(self.bundle, source)
        draft = drafts.read(settings, site.store, source, self.router_config, self.digests)
        record = self._record(draft)
        self._check_volumes(draft.resolved)
        self._copy_files(source, draft.resolved)
        pull_missing(site.engine, record.images.values(), time.monotonic() + settings.pull_seconds)
        keep(site.engine, settings.name, record.id, record.images)
        if problems := run_as_root(site.engine, draft.resolved, record.images, settings.file):
            raise ComposeFileError(problems)
        documents = {
            "compose.json": draft.resolved.compose,
            "migration.json": draft.resolved.migration,
            "shared.json": draft.resolved.shared,
        }
        for document in filter(None, documents.values()):
            self._hand_over_variables(document, draft.resolved, record)
            leave_out_absent(document)
        uids = service_uids(site.engine, draft.resolved, record.images)
        written, files = assign_secrets({name: one for name, one in documents.items() if one}, uids)
        site.store.write_secrets(draft.secrets_version, settings.secrets, files)
        for name, document in written.items():
            write_atomic(directory / name, json.dumps(document, indent=1, sort_keys=True) + "\n", mode=0o600)
        write_atomic(directory / "router.conf", self.router_config, mode=0o644)
        site.store.write(record)
        self._make_networks_and_volumes(draft.resolved)
        if draft.resolved.shared:
            self._start_shared(directory / "shared.json", draft.resolved)
        shutil.rmtree(source)
        return record

    def _record(self, draft: drafts.Draft) -> Release:
        resolved = draft.resolved
        return Release(
            id=self.slot.release,
            version=self.site.settings.version,
            fingerprint=draft.fingerprint,
            secrets_version=draft.secrets_version,
            images={service: self.digests.get(image, image) for service, image in resolved.images.items()},
            created=now(),
            services={
                "start_with_colour": list(resolved.start_with_colour),
                "start_at_commit": list(resolved.start_at_commit),
                "one_shots": list(resolved.one_shots),
                "grace_seconds": dict(resolved.grace_seconds),
                "addresses": dict(resolved.addresses),
                "migration": self.site.settings.migration if resolved.migration else None,
                "hardened": {name: list(added) for name, added in resolved.hardened.items()},
                "memory_left": self.site.memory_left(),
                "reserved_memory": resolved.limits.colour_memory + resolved.limits.shared_memory,
                # What a rollback to this release goes by, whatever the inventory says then.
                "readiness_path": self.site.settings.readiness_path,
                "paths": [route.path for route in self.site.settings.routes],
                "update": as_data(resolved.update),
                "rollback": as_data(resolved.rollback),
            },
        )

    def _copy_files(self, source: Path, resolved: Resolved) -> None:
        for copy in resolved.copies:
            target = Path(copy.path(str(self.site.settings.base), self.slot.release))
            contained.copy(source / copy.source, target, below=self.site.settings.base)
        for name in resolved.shared_directories:
            # A container may have had a shared path above it to write to. What is bound may be a file that is there.
            with suppress(NotADirectoryError), contained.opened(Path(name), below=self.site.settings.base, make=0o755):
                pass

    def _hand_over_variables(self, document: dict[str, Any], resolved: Resolved, record: Release) -> None:
        for name in document["services"].keys() & resolved.secret_variables.keys():
            image = (self.site.engine.image(record.images[name]) or {}).get("Config") or {}
            document["services"][name] = started_with(
                document["services"][name], resolved.secret_variables[name], image
            )

    def _make_networks_and_volumes(self, resolved: Resolved) -> None:
        labels = {"flotilla.app": self.site.settings.name}
        for network in resolved.networks:
            for colour in Colour:
                self.site.engine.ensure_network(network.for_colour(colour), network, labels)
        for volume in resolved.volumes:
            self.site.engine.ensure_volume(volume, labels)

    def _check_volumes(self, resolved: Resolved) -> None:
        """Refuse a volume of the app's own that an earlier file, or somebody, has bound to something of the host."""
        settings, found = self.site.settings, dict[str, Problem]()
        options = {volume.name: volume.options for volume in resolved.volumes}
        for document in filter(None, (resolved.compose, resolved.shared, resolved.migration)):
            for key, entry in document.get("volumes", {}).items():
                name = unescape(entry["name"])
                users = [one for one, service in document["services"].items() if key in volumes_of(service)]
                there = (self.site.engine.volume(name) or {}).get("Options") or {}
                what, app = kept_otherwise(there, options.get(name, {}), str(settings.base)), settings.name
                lacking = [one for one in users if not granted(settings.privileges.get(one, ()), f"volume:{name}")]
                if what and lacking:
                    found[key] = Problem(
                        settings.host,
                        f"volumes.{key}",
                        f"`{name}` is there already and mounts `{what}`, which the file does not say: "
                        "the engine goes on with what a volume was made with",
                        f"docker volume rm {name} on {settings.host} (what it leads to stays there); or, where the app "
                        f"may have it, write `privileges: {{{lacking[0]}: [volume:{name}]}}` into apps[{app}]",
                    )
        if found:
            raise ComposeFileError(list(found.values()))

    def _start_shared(self, wanted: Path, resolved: Resolved) -> None:
        """Start the services that own data, and leave running ones alone unless the user changed them."""
        site = self.site
        file, stamp = site.store.base / "shared.json", site.store.base / "shared.fingerprint"
        document = json.loads(wanted.read_text())
        project = Project(f"{site.settings.name}-data", file, {"FLOTILLA_HOST": site.settings.host})
        services = set(document["services"])
        running = {service_of(c) for c in site.engine.project(project.name) if c["State"].get("Running")}
        deadline = time.monotonic() + site.settings.ready_seconds
        shared = ColourProject(site.engine, project, (), {})
        changed = not stamp.exists() or stamp.read_text() != resolved.shared_fingerprint
        if changed or not services <= running:
            if changed:
                # Written out: a running database is not made anew when the stacks beside it have grown.
                write_atomic(file, wanted.read_text().replace(MEMORY, str(site.memory_left())), mode=0o600)
            shared.up(sorted(services), deadline=deadline)
            write_atomic(stamp, resolved.shared_fingerprint, mode=0o600)
        shared.wait_ready(services, deadline=deadline, stable_seconds=site.settings.stable_seconds)

    # -- the migration --------------------------------------------------------------------------

    def _migrate(self, record: Release) -> Release:
        """Run the migration once, with a time limit, its output kept in the release."""
        service = record.services["migration"]
        if not service:
            return record
        site = self.site
        site.hold()
        if not site.settings.migration_compatible:
            site.store.add_barrier(record.id, record.version)
        directory = site.store.directory(record.id)
        project = Project(f"{site.settings.name}-migration", directory / "migration.json", self._variables())
        seconds = site.settings.migration_seconds
        try:
            output = project.run("run", "--rm", "--no-TTY", "--quiet-pull", service, timeout=seconds)
        except ComposeError as error:
            ColourProject(site.engine, project, (), {}).remove(graceful=False)
            write_atomic(directory / "migration.log", error.output + "\n", mode=0o600)
            site.store.mark(record.id, Standing.PREPARED, migration="failed", restore_point=self.restore_point)
            how = f"did not end within {seconds:g} s" if error.timed_out else "failed"
            tail = "\n".join(error.output.splitlines()[-20:])
            log = f"its whole output is in {directory}/migration.log on {site.settings.host}"
            definition = json.loads((directory / "migration.json").read_text())["services"][service]
            hints = way_out(
                service,
                tail,
                read_only=bool(definition.get("read_only")),
                drops=bool(definition.get("cap_drop")),
                user=str(definition.get("user") or ""),
            )
            tail = "\n".join([tail, *(f"perhaps: {hint}" for hint in hints)])
            raise PhaseError(f"the migration ({service}) {how}; no colour was booted; {log}:\n{tail}") from error
        write_atomic(directory / "migration.log", output, mode=0o600)
        migrated = replace(record, migration="applied", restore_point=self.restore_point)
        site.store.write(migrated)
        return migrated

    # -- the idle colour ------------------------------------------------------------------------

    def _boot(self, record: Release) -> None:
        colour = self.site.colour(self.slot)
        colour.remove(graceful=False)
        deadline = time.monotonic() + self.site.settings.ready_seconds
        services = record.services["start_with_colour"]
        colour.up(services, deadline=deadline)
        # While those boot: what may start only with the commit shall not fail there for want of a container.
        if later := record.services["start_at_commit"]:
            colour.up(later, deadline=deadline, start=False)
        colour.wait_ready(services, deadline=deadline, stable_seconds=self.site.settings.stable_seconds)

    def _preview(self, record: Release) -> None:
        """Ask the idle colour for its readiness, as traffic would, on its private address."""
        settings = self.site.settings
        path = str(record.services.get("readiness_path", settings.readiness_path))
        address = self.site.colour(self.slot).router_address(EDGE_NETWORK)
        deadline = time.monotonic() + min(PREVIEW_SECONDS, settings.ready_seconds)
        while True:
            answer = probe(address, ROUTER_PORT, self.site.domain(), path, tls=False, timeout=10)
            if answer.status == 200 and answer.release == record.id:
                return
            if time.monotonic() >= deadline:
                said = f"{answer.status or 'nothing'} {answer.reason}".strip()
                raise PhaseError(f"{path} of the new release answered {said}, wanted 200")
            time.sleep(0.1)

    def _variables(self) -> dict[str, str]:
        return self.site.variables(self.slot)


def leave_out_absent(document: dict[str, Any]) -> None:
    """Without mounts of harmless files that this host does not have, as Debian 13 has no /etc/timezone."""
    for service in document["services"].values():
        if mounts := service.get("volumes"):
            service["volumes"] = [one for one in mounts if not _is_absent(one)]


def _is_absent(mount: Mapping[str, Any]) -> bool:
    source = str(mount.get("source", ""))
    return mount["type"] == "bind" and harmless(source) and not Path(source).exists()


def absent(site: Site, record: Release) -> str:
    """What a release lacks to be booted as it was; nothing when it is whole."""
    directory = site.store.directory(record.id)
    if not (directory / "compose.json").is_file():
        return f"{directory}/compose.json is not there"
    uses_secrets = str(site.store.secrets_directory(record.secrets_version)) in (directory / "compose.json").read_text()
    if uses_secrets and not site.store.secrets_directory(record.secrets_version).is_dir():
        return f"its secrets ({record.secrets_version}) are not there"
    missing = sorted({image for image in record.images.values() if site.engine.image(image) is None})
    return f"the engine does not have {', '.join(missing)}" if missing else ""


def explain(error: Exception) -> str:
    """The message of a phase's error, never empty."""
    return str(error) or type(error).__name__
