"""Who runs what, as a host is told with every call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .lease import Lease, wanted


@dataclass(frozen=True)
class Run:
    """One run of a playbook.

    lease: what it asks for or holds.  lease_seconds: from now to the end of what is left to do.
    action: `deploy`, `rollback` or `restart`.  actor: who runs it.
    approved_by: who approved it, where the environment asks.
    superseded: tokens of runs that are known to be dead.  arguments: the inventories, as `-i a -i b`.
    started: seconds since the epoch.
    by: who and from which commit, for the trail; see `who.py`.  heads: of other hosts' trails, as this run saw them.
    """

    lease: Lease
    lease_seconds: float
    action: str = "deploy"
    actor: str = ""
    approved_by: str = ""
    started: float = 0.0
    superseded: tuple[str, ...] = ()
    arguments: str = ""
    by: Mapping[str, Any] = field(default_factory=dict)
    heads: Mapping[str, Any] = field(default_factory=dict)

    @property
    def again(self) -> bool:
        """Whether it is about a release that the host has already: nothing is migrated then."""
        return self.action in ("rollback", "restart")


def parse_run(params: Mapping[str, Any]) -> Run:
    """The run, from the arguments of the module `flotilla_release`."""
    run = params.get("run") or {}
    return Run(
        lease=wanted(run, params.get("purpose") or ""),
        lease_seconds=float(params.get("lease_seconds") or 120),
        action=params.get("action") or "deploy",
        actor=str(run.get("actor", "")),
        approved_by=str(run.get("approved_by", "")),
        started=float(run.get("started", 0.0)),
        superseded=tuple(params.get("superseded") or ()),
        arguments=str(run.get("arguments", "")),
        by=dict(run.get("by") or {}),
        heads=dict(params.get("heads") or {}),
    )
