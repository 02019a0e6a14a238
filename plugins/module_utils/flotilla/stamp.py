"""The provisioning stamp: one digest over everything that decides what provisioning makes of a host."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

# Neither takes part in a run on a host.
IGNORED = frozenset({"__pycache__", "molecule", "README.md"})
# Variables that are a PEM text or the name of a file on the controller that has it.
FILES = frozenset(
    {
        "acme_directory_authority",
        "haproxy_authority",
        "haproxy_certificate",
        "haproxy_certificate_key",
        "nginx_certificate",
        "nginx_certificate_key",
    }
)
# An app's keys that provisioning uses; the others belong to a release.
PROVISIONED_KEYS = (
    "name",
    "domains",
    "readiness",
    "upload_limit_mb",
    "rate_limit",
    "security_headers",
    "waf",
    "shared",
    "backup_volumes",
)


def files_below(path: Path) -> list[Path]:
    """All files of a tree in a fixed order, without what plays no part on a host."""
    if path.is_file():
        return [path]
    return sorted(
        file for file in path.rglob("*") if file.is_file() and not IGNORED & set(file.relative_to(path).parts)
    )


@lru_cache
def digest_of_files(root: Path, paths: tuple[str, ...]) -> str:
    """SHA-256 over names, modes (executable or not) and contents below `root`. Hashed once a process."""
    digest = hashlib.sha256()
    for path in paths:
        for file in files_below(root / path):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            executable = bool(file.stat().st_mode & 0o100)
            digest.update(f"{file.relative_to(root)}\0{executable:d}\0{content}\n".encode())
    return digest.hexdigest()


def paths_for(roles: Iterable[str]) -> tuple[str, ...]:
    """The parts of the project that provision a host with these roles."""
    parts = ["playbooks/provision.yml", "plugins"]
    for role in roles:
        parts += [f"roles/{role}", f"compose/{role}"]
    return tuple(sorted(part for part in parts if part != "compose/app"))


def provisioned_apps(apps: Any) -> Any:
    """The part of `apps` that provisioning uses, so that a new version or route changes no stamp."""
    if not isinstance(apps, list):
        return apps
    return [{key: app[key] for key in PROVISIONED_KEYS if key in app} for app in apps if isinstance(app, Mapping)]


def contents(name: str, value: Any) -> Any:
    """What a variable stands for: of a file on the controller what is in it, wherever the file is."""
    if name in FILES and isinstance(value, str) and value and "-----BEGIN" not in value and Path(value).is_file():
        return {"sha256": hashlib.sha256(Path(value).read_bytes()).hexdigest()}
    return value


def stamp(files: str, values: Mapping[str, Any], key: str) -> str:
    """Hex digest of the files' digest and a host's resolved values.

    It is keyed, because values hold secrets and the stamp is stored on hosts.
    """
    text = json.dumps({"files": files, "values": values}, sort_keys=True, default=str)
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
