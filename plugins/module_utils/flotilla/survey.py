"""Survey: what a host knows of its app's releases, for a rollback to choose from."""

from __future__ import annotations

from typing import Any

from .admission import describe, look_at_lock
from .preparation import absent
from .site import Site
from .store import Release


def survey(site: Site, *, take_lock: bool) -> dict[str, Any]:
    """The releases on this host with what became of them, the journal, and who has the lock. Changes nothing else."""
    releases = site.store.releases()
    journal = site.journal
    return {
        "live": site.describe(journal),
        "journal": describe(journal),
        "releases": [held(site, record) for record in releases],
        "barriers": site.store.barriers(),
        "lock": look_at_lock(site, take=take_lock),
    }


def held(site: Site, record: Release) -> dict[str, Any]:
    """One release. `lacks`: what it would need to be booted as it was, and does not have any more."""
    return {
        "id": record.id,
        "version": record.version,
        "standing": str(record.standing),
        "proven": record.proven,
        "migration": record.migration,
        "restore_point": record.restore_point,
        "images": dict(record.images),
        "secrets_version": record.secrets_version,
        "update": record.services.get("update", {}),
        "rollback": record.services.get("rollback", {}),
        "lacks": absent(site, record),
    }
