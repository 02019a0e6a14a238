"""The account of a run on the controller: one JSON file for machines, the last line for people."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .journal import write_atomic


def path(root: Path, environment: str) -> Path:
    """Where the account of an environment's last run is."""
    return root / ".flotilla" / environment / "last.json"


def write(file: Path, run: Mapping[str, Any], app: str, entry: Mapping[str, Any]) -> None:
    """Add what an app came to. A new run replaces the account of the one before it; the file is its owner's alone.

    Several runs from one checkout may end at once: one refuses, another ships.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(file.parent):
        try:
            found = json.loads(file.read_text())
            apps = found["apps"] if found["run"]["token"] == run["token"] else {}
        except (OSError, ValueError, KeyError, TypeError):
            apps = {}
        account = {"run": dict(run), "apps": {**apps, app: dict(entry)}}
        write_atomic(file, json.dumps(account, indent=1, sort_keys=True) + "\n", mode=0o600)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """No other process is in here for this directory; the lock ends with its holder."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
