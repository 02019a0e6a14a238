"""Who runs a verb, from which commit, with which arguments: what the controller tells the hosts' trails."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .processes import Identity
from .vault import texts_of

# The extra variables whose values are written down. Of all others it is their names, for one may be a secret.
SHOWN = frozenset(
    {
        "across_migration",
        "app",
        "approve",
        "backup",
        "command",
        "copy",
        "list",
        "maintenance",
        "of",
        "release",
        "service",
        "skip_hosts",
    }
    | {"confirm", "count", "into", "label", "point", "state", "time", "timeline", "timeout", "to", "type", "version"}
)
UNSHOWN = "(not written down)"
STRUCK_OUT = "********"
# A secret this short would be struck out of words that have nothing to do with it.
SHORT = 4
GIT_SECONDS = 10


def by(
    identity: Identity, root: Path, environment: str, extra: Mapping[str, Any], limit: str, secrets: Iterable[str]
) -> dict[str, Any]:
    """`operator`, `environment`, `commit`, `dirty` and, where git knows them, `name` and `email`; `arguments`.

    limit: of `--limit`.  secrets: what is struck out of the arguments.
    """
    return {
        "operator": identity.owner,
        "environment": environment,
        **checkout(root),
        "arguments": arguments({**extra, **({"limit": limit} if limit else {})}, secrets),
    }


def arguments(extra: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, str]:
    """The extra variables as a trail may have them."""
    hidden = sorted({text for text in secrets if len(text) >= SHORT}, key=len, reverse=True)
    return {
        name: _shown(name, value, hidden) for name, value in sorted(extra.items()) if not name.startswith("ansible_")
    }


def _shown(name: str, value: Any, hidden: Iterable[str]) -> str:
    if name not in SHOWN | {"limit"}:
        return UNSHOWN
    text = str(value)
    for secret in hidden:
        text = text.replace(secret, STRUCK_OUT)
    return text


def secrets_of(variables: Mapping[str, Any]) -> list[str]:
    """Every text in what is called `vault_…`."""
    return [text for name, value in variables.items() if str(name).startswith("vault_") for text in texts_of(value)]


def checkout(root: Path) -> dict[str, Any]:
    """`commit` and `dirty` of the checkout, `name` and `email` of whom git takes its user for. Without git, nothing."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain") if commit else None
    rows = (_git(root, "config", "--get-regexp", r"^user\.(name|email)$") or "").splitlines()
    user = {key.removeprefix("user."): value for key, _, value in (row.partition(" ") for row in rows)}
    return {"commit": commit or "", "dirty": bool(changes), **user}


def _git(root: Path, *words: str) -> str | None:
    """What git says; None when it fails, is not there, or takes too long. It writes nothing and runs no hook."""
    # A checkout may be another user's, as in CI.
    options = ("-c", f"safe.directory={root}", "-c", "core.fsmonitor=false", "--no-optional-locks")
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *options, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
