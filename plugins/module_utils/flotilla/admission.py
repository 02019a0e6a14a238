"""Admit: everything that can be checked on a host before anything is touched."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import draft as drafts
from .host import MIB, disk_problem, memory_problem, read_memory
from .journal import Journal, Phase, load
from .problem import Problem
from .readiness import service_of
from .resolve import ComposeFileError
from .site import Site
from .store import Store, unpack

# What a release needs beside its images, which the pull itself would run out of.
DISK_BYTES = 1024 * MIB


def admit(site: Site, bundle: str, router_config: str, *, find_digests: bool) -> dict[str, Any]:
    """Judge a draft against its host.

    Returns the live release, whether it is what the draft would bring, the digests (when asked for),
    the phase that an earlier run left unfinished, and notes. Raises `ComposeFileError` with all problems.
    """
    settings = site.settings
    with tempfile.TemporaryDirectory(prefix="flotilla-", dir="/run") as scratch:
        source = Path(scratch) / "source"
        unpack(bundle, source)
        draft = drafts.read(settings, site.store, source, router_config, {})
    problems = [found for found in (_memory_problem(site, draft), _disk_problem(site)) if found]
    if problems:
        raise ComposeFileError(problems)
    digests = drafts.find_digests(site.engine, settings, draft.resolved.images) if find_digests else {}
    journal = site.journal
    live = site.store.read(journal.live.release) if journal.live else None
    return {
        "live": site.describe(journal),
        "live_images": dict(live.images) if live else {},
        "unfinished": "" if journal.phase is Phase.IDLE else str(journal.phase),
        "matches": bool(live and live.fingerprint == draft.fingerprint and serves(site, journal)),
        "digests": digests,
        "images": draft.resolved.images,
        "update": {**asdict(draft.resolved.update), "stated": sorted(draft.resolved.update.stated)},
        "notes": list(draft.resolved.notes),
    }


def serves(site: Site, journal: Journal) -> bool:
    """Whether the live colour takes the traffic and runs whole; a no-op must not hide a broken host."""
    if journal.live is None or journal.phase is not Phase.IDLE or site.edge.live() is not journal.live.colour:
        return False
    record = site.store.read(journal.live.release)
    if record is None:
        return False
    containers = site.colour(journal.live).containers()
    running = {service_of(container) for container in containers if container["State"].get("Running")}
    wanted = {*record.services["start_with_colour"], *record.services["start_at_commit"]}
    return wanted - set(record.services["one_shots"]) <= running


def _memory_problem(site: Site, draft: drafts.Draft) -> Problem | None:
    settings = site.settings
    once = {name: megabytes * MIB for name, megabytes in settings.memory_once_mb.items()}
    if draft.resolved.limits.shared_memory:
        once[f"{settings.name}-data"] = draft.resolved.limits.shared_memory
    for other in sorted(path.parent.name for path in settings.root.glob("*/state.json")):
        if other != settings.name:
            once[other] = _reserved_by(Store(settings.root / other))
    twice = {settings.name: draft.resolved.limits.colour_memory}
    return memory_problem(read_memory(), once, twice, settings.declared_swap_mb * MIB, settings.host)


def _reserved_by(store: Store) -> int:
    live = load(store.journal).live
    record = store.read(live.release) if live else None
    return int(record.services.get("reserved_memory", 0)) if record else 0


def _disk_problem(site: Site) -> Problem | None:
    free = shutil.disk_usage("/var/lib/docker").free
    return disk_problem(site.settings.host, "/var/lib/docker", free, DISK_BYTES)
