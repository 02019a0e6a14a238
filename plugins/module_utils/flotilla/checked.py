"""What the check of every host says of them together: who cannot be reached, and who is to be provisioned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

FACT = "preflight_host"


def unreachable(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> list[str]:
    """A line for each host that did not answer: its name, its address, why."""
    lines = []
    for host in hosts:
        found = hostvars[host][FACT]
        if found.get("unreachable"):
            address = hostvars[host].get("ansible_host", host)
            lines.append(f"{host}: ansible_host: {address} cannot be reached: {str(found.get('msg', '')).strip()}")
    return lines


def to_provision(hosts: Iterable[str], hostvars: Mapping[str, Any], *, force: bool = False) -> list[dict[str, Any]]:
    """The hosts whose stamp is another than it should be, or all with `force`.

    Returns `host` and `groups` of each: `unprovisioned`, and `rolling` for an app host that serves behind a balancer
    and beside others, which is provisioned while they serve.
    """
    chosen = []
    for host in hosts:
        found, groups = hostvars[host][FACT], hostvars[host]["groups"]
        if not force and found["stamp_matches"]:
            continue
        app = groups.get("app", [])
        rolls = found["serves"] and host in app and len(app) > 1 and groups.get("loadbalancer")
        chosen.append({"host": host, "groups": ["unprovisioned", *(["rolling"] if rolls else [])]})
    return chosen
