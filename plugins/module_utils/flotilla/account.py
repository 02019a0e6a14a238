"""The account of a run on the controller: one JSON file for machines, the last line for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .journal import alone, write_atomic
from .problem import Problem


def directory(root: Path, environment: str, variables: Mapping[str, str]) -> Path:
    """Where a control node keeps what it saw of an environment.

    root: the checkout.  variables: of the process; FLOTILLA_HOME is another place than the checkout's, for a machine
    that clones anew for each run.
    """
    home = variables.get("FLOTILLA_HOME", "")
    return (Path(home).expanduser() if home else root / ".flotilla") / environment


def trouble(variables: Mapping[str, str]) -> list[Problem]:
    """Why nothing could be kept where FLOTILLA_HOME says; nothing is made for that. variables: of the process."""
    home = variables.get("FLOTILLA_HOME", "")
    if not home:
        return []
    place = Path(home).expanduser().absolute()
    there = next(one for one in (place, *place.parents) if one.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return []
    what = f"is `{home}`, and {there} is {'not to be written to' if there.is_dir() else 'no directory'}"
    return [Problem("the shell", "FLOTILLA_HOME", what, "name another directory, or: unset FLOTILLA_HOME")]


def path(place: Path) -> Path:
    """The account of an environment's last run, in its `directory`."""
    return place / "last.json"


def write(file: Path, run: Mapping[str, Any], app: str, entry: Mapping[str, Any]) -> None:
    """Add what an app came to. A new run replaces the account of the one before it; the file is its owner's alone.

    Several runs from one checkout may end at once: one refuses, another ships.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(file.parent):
        try:
            found = json.loads(file.read_text())
            apps = found["apps"] if found["run"]["token"] == run["token"] else {}
        except (OSError, ValueError, KeyError, TypeError):
            apps = {}
        account = {"run": dict(run), "apps": {**apps, app: dict(entry)}}
        write_atomic(file, json.dumps(account, indent=1, sort_keys=True) + "\n", mode=0o600)
