"""What is kept of releases on a host: the newest proven ones, last log lines, one line of history for each run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable

from .colour import ColourProject
from .host import MIB, disk_problem
from .images import prune_images
from .journal import Journal, write_atomic
from .problem import Problem
from .resolve import ComposeFileError
from .site import Site, candidate, now
from .store import Release, Standing
from .trail import Step, TrailError

# What a release needs beside its images, which the pull itself would run out of.
DISK_BYTES = 1024 * MIB
DOCKER = "/var/lib/docker"


def previous_proven(records: Iterable[Release], live: str) -> str:
    """The last proven release before `live` (ids sort by time): what a rollback goes to. Empty when there is none."""
    older = [record.id for record in records if record.standing is Standing.PROVEN and record.id < live]
    return max(older, default="")


def protected(site: Site, journal: Journal) -> set[str]:
    """The releases that no pruning takes: the live one, the one in hand, and where a rollback would go."""
    kept = {slot.release for slot in (journal.live, journal.candidate) if slot}
    if journal.live:
        kept.add(previous_proven(site.store.releases(), journal.live.release))
    return kept - {""}


def prune(site: Site, journal: Journal, keep: int) -> list[str]:
    """Remove all but the `keep` newest proven releases, with their images and secrets. Returns their ids."""
    kept = protected(site, journal)
    gone = site.store.prunable(keep, kept)
    for record in gone:
        prune_images(site.engine, site.settings.name, record)
        site.store.remove(record.id)
    for release in set(site.store.unrecorded()) - kept:
        site.store.remove(release)
    site.store.prune_secrets()
    return [record.id for record in gone]


def no_room(site: Site) -> Problem | None:
    """Whether the disk has no room for another release."""
    return disk_problem(site.settings.host, DOCKER, shutil.disk_usage(DOCKER).free, DISK_BYTES)


def spare(site: Site, journal: Journal) -> list[Release]:
    """The releases that go under disk pressure: all that are kept for comfort."""
    return site.store.prunable(1, protected(site, journal))


def make_room(site: Site, journal: Journal) -> list[str]:
    """Under disk pressure, keep only what is protected. Raises `ComposeFileError` when that is not enough."""
    if not no_room(site):
        return []
    gone = prune(site, journal, keep=1)
    if problem := no_room(site):
        raise ComposeFileError([problem])
    return gone


def keep_last_lines(site: Site, release: str, colour: ColourProject) -> None:
    """The last log lines of a colour that goes, in its release's directory."""
    if (directory := site.store.directory(release)).is_dir():
        write_atomic(directory / "last.log", colour.last_lines(200), mode=0o600)


def write_history(site: Site, journal: Journal, outcome: str, reason: str) -> str:
    """One line about the release in hand, and an entry on the trail. `journal`: as it was before it came to its end.

    Returns what kept the entry from being written: by now the traffic has moved, and that is no reason to fail.
    """
    slot, run = candidate(journal), site.run
    record = site.store.read(slot.release)
    site.store.record(
        {
            "when": now(),
            "who": run.actor,
            "approved_by": run.approved_by,
            "action": run.action,
            "run": run.lease.token[:8],
            "outcome": outcome,
            "reason": reason,
            "from": journal.live.release if journal.live else "",
            "to": slot.release,
            "version": record.version if record else "",
            "migration": "none" if run.again or record is None else record.migration,
            "seconds": round(time.time() - run.started, 1) if run.started else 0.0,
        }
    )
    try:
        site.leave(Step.END, slot.release, record.version if record else "", outcome, reason)
    except TrailError as error:
        return str(error)
    return ""
