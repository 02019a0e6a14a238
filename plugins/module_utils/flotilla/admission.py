"""Admit: everything that can be checked on a host before anything is touched."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import draft as drafts
from .host import MIB, memory_problem, read_memory
from .journal import Journal, Phase, load
from .lease import LeaseError, available
from .problem import Problem
from .readiness import service_of
from .resolve import ComposeFileError, UpdateConfig
from .retention import no_room, spare
from .site import Site
from .store import Store, unpack


def admit(site: Site, bundle: str, router_config: str, *, find_digests: bool, take_lock: bool) -> dict[str, Any]:
    """Judge a draft against its host.

    Returns the live release, whether it is what the draft would bring, the digests (when asked for), the journal,
    who has the environment's lock, and notes. With `take_lock`, the lock is taken when this host has work; a host
    on which nothing would change is not locked for it. Raises `ComposeFileError` with all problems.
    """
    settings = site.settings
    with tempfile.TemporaryDirectory(prefix="flotilla-", dir="/run") as scratch:
        source = Path(scratch) / "source"
        unpack(bundle, source)
        draft = drafts.read(settings, site.store, source, router_config, {})
    update = draft.resolved.update
    problems = [_memory_problem(site, draft), _disk_problem(site), _order_problem(site, update)]
    if any(problems):
        raise ComposeFileError(filter(None, problems))
    digests = drafts.find_digests(site.engine, settings, draft.resolved.images) if find_digests else {}
    journal = site.journal
    live = site.store.read(journal.live.release) if journal.live else None
    matches = bool(live and live.fingerprint == draft.fingerprint and serves(site, journal))
    live_images = dict(live.images) if live else {}
    wanted = {service: digests.get(image, image) for service, image in draft.resolved.images.items()}
    work = not matches or journal.phase is not Phase.IDLE or (find_digests and wanted != live_images)
    return {
        "live": site.describe(journal),
        "live_images": live_images,
        "live_hardened": dict(live.services.get("hardened") or {}) if live else {},
        "hardened": draft.resolved.hardened,
        "journal": describe(journal),
        "matches": matches,
        "digests": digests,
        "images": draft.resolved.images,
        "update": as_data(update),
        "lock": look_at_lock(site, take=take_lock and work),
        "notes": list(draft.resolved.notes),
    }


def difference(answer: Mapping[str, Any], version: str) -> dict[str, str]:
    """What a deploy would change on this host, as Ansible's `diff`; empty when that is nothing.

    answer: what `admit` returned.  Configuration is compared, not shown: it may hold secrets.
    """
    wanted = {service: answer["digests"].get(image, image) for service, image in answer["images"].items()}
    known = bool(answer["digests"])
    if answer["matches"] and (not known or wanted == answer["live_images"]):
        return {}
    live = answer["live"]
    was, becomes = answer.get("live_hardened") or {}, answer.get("hardened") or {}
    before = _described(live["version"], live["release"], answer["live_images"], "as it is", was)
    configuration = "as it is" if answer["matches"] else "another one"
    after = _described(version, "a new one", wanted, configuration, becomes)
    return {"before_header": "serves", "after_header": "would serve", "before": before, "after": after}


def _described(
    version: str,
    release: str,
    images: Mapping[str, str],
    configuration: str,
    hardened: Mapping[str, Sequence[str]],
) -> str:
    if not release:
        return ""
    lines = [f"version: {version}", f"release: {release}", f"configuration: {configuration}"]
    lines += [f"image of {name}: {image}" for name, image in sorted(images.items())]
    lines += [f"added to {name}: {', '.join(added)}" for name, added in sorted(hardened.items())]
    return "\n".join(lines) + "\n"


def describe(journal: Journal) -> dict[str, Any]:
    """The journal for the controller, which decides for the whole fleet."""
    return {
        "phase": str(journal.phase),
        "live": journal.live.release if journal.live else "",
        "candidate": journal.candidate.release if journal.candidate else "",
        "stop_first": journal.stop_first,
    }


def as_data(update: UpdateConfig) -> dict[str, Any]:
    """`update_config` as plain data."""
    return {**asdict(update), "stated": sorted(update.stated)}


def look_at_lock(site: Site, *, take: bool) -> dict[str, Any]:
    """Who has the environment's lock on this host, after an attempt to take it where that is wanted.

    held: this run has it.  by: the lease of another run that is in force.  message: for this run, what to do about it.
    taken_over: whose expired or orphaned lease was taken over.
    """
    run, taken_over = site.run, ""
    if take:
        try:
            if previous := site.lease.take(run.lease, run.lease_seconds, superseded=run.superseded):
                taken_over = previous.describe(time.time())
        except LeaseError as error:
            current = site.lease.read()
            return {"held": False, "by": asdict(current) if current else None, "message": str(error), "taken_over": ""}
    current, moment = site.lease.read(), time.time()
    if current is None or available(current, run.lease.token, run.superseded, moment):
        held = current is not None and current.token == run.lease.token
        return {"held": held, "by": None, "message": "", "taken_over": taken_over}
    message = site.lease.refusal(current, moment)
    return {"held": False, "by": asdict(current), "message": message, "taken_over": ""}


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
    colour = {settings.name: draft.resolved.limits.colour_memory}
    alone = draft.resolved.update.order == "stop-first"
    once, twice = (once | colour, {}) if alone else (once, colour)
    return memory_problem(read_memory(), once, twice, settings.declared_swap_mb * MIB, settings.host)


def _reserved_by(store: Store) -> int:
    live = load(store.journal).live
    record = store.read(live.release) if live else None
    return int(record.services.get("reserved_memory", 0)) if record else 0


def _disk_problem(site: Site) -> Problem | None:
    """Whether there is room, or will be: prepare makes some from releases that are kept for comfort."""
    problem = no_room(site)
    return None if problem and spare(site, site.journal) else problem


def _order_problem(site: Site, update: UpdateConfig) -> Problem | None:
    """`stop-first` needs somebody who sends the traffic elsewhere meanwhile."""
    if update.order != "stop-first" or site.settings.others_serve:
        return None
    what = "`stop-first` would leave users without a release while the new one boots: no balancer has another app host"
    how = "write `order: start-first`, or leave it out; or add a balancer and a second app host to the inventory"
    return Problem(site.settings.file, "deploy.update_config.order", what, how)
