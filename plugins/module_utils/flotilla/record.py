"""What a verb leaves on a host's trail: the entry, from what the controller and the host know of its run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .trail import Step, Trail, TrailError
from .visitor import visitor

# How much of a run's token names it; the same is in the history.
RUN = 8


def entry(run: Mapping[str, Any], verb: str, host: str, step: Step, outcome: str = "", **more: Any) -> dict[str, Any]:
    """What all verbs' entries have in common. What is empty in `more` is left out.

    run: `token` and `by` of a run, see `who.py`; either may be missing, as for a module that is called by hand.
    """
    by = dict(run.get("by") or {})
    return {
        "run": str(run.get("token", ""))[:RUN],
        "verb": verb,
        "step": str(step),
        "host": host,
        "arguments": by.pop("arguments", {}),
        "by": by,
        "session": visitor(os.getpid()),
        **{name: value for name, value in {"outcome": outcome, **more}.items() if value},
    }


def leave(trail: Trail, entry: Mapping[str, Any]) -> str:
    """Append an entry about what is done already. Returns why it could not be, for a warning, or nothing."""
    try:
        trail.append(entry)
    except TrailError as error:
        return f"{entry.get('host')}: {error}. It is done all the same, and {entry.get('host')} has no entry of it"
    return ""
