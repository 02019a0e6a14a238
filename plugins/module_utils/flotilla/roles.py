"""Which roles a host gets, and which variables they take. For the controller only."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

EVERYWHERE = ("base", "docker", "firewall", "pki")
OF_GROUP = {
    "app": ("nginx", "acme", "app", "backup"),
    "postgres": ("postgres", "backup", "restore"),
    "redis": ("redis", "backup"),
    "loadbalancer": ("haproxy", "acme"),
    "backup": ("backup",),
}
# Variables of roles that the playbooks fill in; an inventory need not have them.
HANDED_OVER = frozenset(
    {
        "firewall_allow",
        "pki_certificates",
        "nginx_apps",
        "nginx_issued_certificate",
        "postgres_networks",
        "postgres_certificate",
        "postgres_archiving",
        "backup_hosts",
        "backup_authorized_keys",
        "backup_uid",
        "backup_volumes",
        "backup_volumes_senders",
        "redis_networks",
        "redis_certificate",
        "haproxy_apps",
        "haproxy_servers",
        "haproxy_authorities",
    }
)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def roles_of(groups: Iterable[str]) -> list[str]:
    """The roles of a host in these groups, in the order of this file, each once."""
    member = set(groups)
    found = [*EVERYWHERE, *(role for group, roles in OF_GROUP.items() if group in member for role in roles)]
    return list(dict.fromkeys(found))


@lru_cache
def options(directory: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Role → variable → specification, of every role that has argument specs. Read once a process."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for file in sorted(directory.glob("*/meta/argument_specs.yml")):
        specs = (yaml.load(file.read_bytes(), _Loader) or {}).get("argument_specs", {})
        merged = found.setdefault(file.parents[1].name, {})
        for entry_point in specs.values():
            merged.update(entry_point.get("options") or {})
    return found
