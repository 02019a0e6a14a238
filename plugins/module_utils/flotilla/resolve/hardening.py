"""What a container may do of itself. Silence in the user's file is read strictly, what it states is kept.

Which rules, why these, and the way out of each: docs/decisions/strict-where-a-file-is-silent.md.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

from .model import MEMORY
from .values import size

_PRIVILEGE_RULE = "no-new-privileges"
SCRATCH = "/tmp"
SCRATCH_BYTES = 256 * 1024**2


def strict(service: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a service gets where its file is silent; `[]` and `false` are no silence."""
    added: dict[str, Any] = {}
    if service.get("cap_drop") is None:
        added["cap_drop"] = ["ALL"]
    options = [str(option) for option in service.get("security_opt") or ()]
    if not any(re.split("[:=]", option)[0] == _PRIVILEGE_RULE for option in options):
        added["security_opt"] = [*options, f"{_PRIVILEGE_RULE}:true"]
    if service.get("read_only") is None:
        added["read_only"] = True
    return added


def scratch(service: Mapping[str, Any], memory_limit: object = MEMORY) -> list[str]:
    """A tmpfs on /tmp for a service that `strict` makes read-only and that has nothing there.

    No volume, which would have no limit and lie on the disk that Postgres needs. It counts against the service's
    memory, of which it has half at most; programs may run from it.
    """
    if service.get("read_only") is not None or SCRATCH in _targets(service):
        return []
    bytes_ = SCRATCH_BYTES if memory_limit == MEMORY else min(SCRATCH_BYTES, size(memory_limit) // 2)
    return [f"{SCRATCH}:exec,mode=1777,size={bytes_}"]


def shown(service: Mapping[str, Any]) -> tuple[str, ...]:
    """What was added to a service, as a person would have written it."""
    added = strict(service)
    lines = ["cap_drop: [ALL]"] if "cap_drop" in added else []
    lines += [f"security_opt: [{_PRIVILEGE_RULE}:true]"] if "security_opt" in added else []
    lines += ["read_only: true"] if "read_only" in added else []
    return (*lines, *(f"tmpfs: [{SCRATCH}]" for _ in scratch(service)))


def listed(tmpfs: object) -> list[str]:
    """`tmpfs` of a service, which may be one text."""
    return [tmpfs] if isinstance(tmpfs, str) else [str(entry) for entry in (tmpfs if isinstance(tmpfs, list) else ())]


def _targets(service: Mapping[str, Any]) -> set[str]:
    """Where something is mounted."""
    targets = [str(entry).partition(":")[0] for entry in listed(service.get("tmpfs"))]
    targets += [str(entry.get("target", "")) for entry in service.get("volumes") or () if isinstance(entry, Mapping)]
    return {posixpath.normpath(target) for target in targets}
