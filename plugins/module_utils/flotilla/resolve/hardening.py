"""What a container may do. Silence in the user's file is read strictly, what it states is kept.

Which rules, why these, and the way out of each: docs/decisions/strict-where-a-file-is-silent.md.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..problem import did_you_mean
from .findings import Findings
from .model import Context

# Capabilities that reach past the container: the kernel, the host's files, its devices, other processes.
# NET_ADMIN is none of them: it ends at the container's own network.
REACHING = frozenset(
    {
        "ALL",
        "AUDIT_CONTROL",
        "AUDIT_READ",
        "BPF",
        "DAC_READ_SEARCH",
        "LINUX_IMMUTABLE",
        "MAC_ADMIN",
        "MAC_OVERRIDE",
        "PERFMON",
        "SYSLOG",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_MODULE",
        "SYS_PACCT",
        "SYS_PTRACE",
        "SYS_RAWIO",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
    }
)
_OF_THE_HOST = {
    "pid": "its processes",
    "ipc": "its shared memory",
    "uts": "its name",
    "cgroup": "its control groups",
    "userns_mode": "its users",
}
# What apps[…].privileges may name: a key of Compose, `unconfined`, or a capability.
PRIVILEGES = frozenset({"privileged", "devices", "unconfined", *_OF_THE_HOST, *REACHING})
_UNCONFINED = re.compile(r"(?:seccomp|apparmor|systempaths)[:=]unconfined|label[:=]disable")
_PRIVILEGE_RULE = "no-new-privileges"
SCRATCH = "/tmp"


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


def scratch(service: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A volume on /tmp for a service that `strict` makes read-only and that has nothing there.

    A volume without a name, and no tmpfs: it is on the disk, as /tmp was before, and counts against no memory limit;
    programs may run from it; the engine removes it with its container.
    """
    if service.get("read_only") is not None or SCRATCH in _targets(service):
        return []
    return [{"type": "volume", "target": SCRATCH}]


def shown(service: Mapping[str, Any]) -> tuple[str, ...]:
    """What was added to a service, as a person would have written it."""
    added = strict(service)
    lines = ["cap_drop: [ALL]"] if "cap_drop" in added else []
    lines += [f"security_opt: [{_PRIVILEGE_RULE}:true]"] if "security_opt" in added else []
    lines += ["read_only: true"] if "read_only" in added else []
    return (*lines, *(f"volumes: [{entry['target']}]" for entry in scratch(service)))


def refuse_privileges(name: str, service: Mapping[str, Any], context: Context, findings: Findings) -> None:
    """What gives a container the host, or a part of it, unless the inventory allows it this service."""
    allowed = {capability(item) for item in context.privileges.get(name, ())}
    for path, privilege, what in _privileges(service):
        if capability(privilege) not in allowed:
            findings.refuse(
                f"services.{name}.{path}",
                what,
                f"remove it, or, where the host may be this container's, write `privileges: {{{name}: [{privilege}]}}` "
                f"into apps[{context.app}] of {context.inventory}",
            )


def check_privileges(services: Mapping[str, Any], context: Context, findings: Findings) -> None:
    """`apps[…].privileges` itself: services and privileges that there are."""
    for name, privileges in sorted(context.privileges.items()):
        if name not in services:
            findings.unknown_service(f"privileges.{name}", name, services)
        for index, item in enumerate(privileges):
            if capability(item) not in {capability(known) for known in PRIVILEGES}:
                findings.refuse_inventory(
                    f"privileges.{name}[{index}]",
                    f"`{item}` is not one of them{did_you_mean(item, PRIVILEGES)}",
                    f"write one of {', '.join(sorted(PRIVILEGES))}",
                )


def capability(name: object) -> str:
    """One spelling for `cap_sys_admin`, `CAP_SYS_ADMIN` and `SYS_ADMIN`; other privileges likewise."""
    return str(name).strip().upper().removeprefix("CAP_")


def _privileges(service: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Path below the service, the privilege's name, and what it gives."""
    if str(service.get("privileged") or "").lower() == "true":
        yield "privileged", "privileged", "makes the container root on the host"
    for key, what in _OF_THE_HOST.items():
        if str(service.get(key) or "") == "host":
            yield key, key, f"shares the host's namespace, {what}"
    for key in ("devices", "device_cgroup_rules"):
        if service.get(key):
            yield key, "devices", "gives devices of the host to the container"
    for index, option in enumerate(_listed(service.get("security_opt"))):
        if _UNCONFINED.fullmatch(str(option).strip().lower()):
            yield (
                f"security_opt[{index}]",
                "unconfined",
                f"`{option}` lifts a limit that the engine gives each container",
            )
    for index, added in enumerate(_listed(service.get("cap_add"))):
        if (known := capability(added)) in REACHING:
            yield f"cap_add[{index}]", known, f"{known} reaches past the container"


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _targets(service: Mapping[str, Any]) -> set[str]:
    """Where something is mounted."""
    tmpfs = service.get("tmpfs") or []
    targets = [str(entry).partition(":")[0] for entry in ([tmpfs] if isinstance(tmpfs, str) else tmpfs)]
    targets += [str(entry.get("target", "")) for entry in service.get("volumes") or () if isinstance(entry, Mapping)]
    return {posixpath.normpath(target) for target in targets}
