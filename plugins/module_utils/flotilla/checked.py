"""What the check of every host says of them together: who cannot be reached, and who is to be provisioned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

FACT = "preflight_host"
# Of a host where root makes the first contact: who logs in afterwards.
ACCOUNT = "preflight_account"
# What ssh says when the host knows the account or the key not.
REFUSED = "Permission denied"


def first_contact(hosts: Iterable[str], hostvars: Mapping[str, Any], user: str) -> list[str]:
    """The hosts that refused `user`, whom Ansible logs in as: bare droplets know root only."""
    chosen = []
    for host in hosts:
        found, known = hostvars[host][FACT], hostvars[host]
        refused = found.get("unreachable") and REFUSED in str(found.get("msg", ""))
        if refused and known.get("ansible_user") == user:
            chosen.append(host)
    return chosen


def unreachable(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> list[str]:
    """A line for each host that did not answer: its name, its address, why."""
    lines = []
    for host in hosts:
        found = hostvars[host][FACT]
        if found.get("unreachable"):
            address = hostvars[host].get("ansible_host", host)
            why = str(found.get("msg", "")).strip()
            if account := hostvars[host].get(ACCOUNT):
                why += f" (nor could {account} log in)"
            lines.append(f"{host}: ansible_host: {address} cannot be reached: {why}")
    return lines


def to_provision(hosts: Iterable[str], hostvars: Mapping[str, Any], *, force: bool = False) -> list[dict[str, Any]]:
    """The hosts whose stamp is not what it should be, and those that only root gets into; or all with `force`.

    Returns `host` and `groups` of each: `unprovisioned`, and `rolling` for an app host that serves behind a balancer
    and beside others, which is provisioned while they serve.
    """
    chosen = []
    for host in hosts:
        found, groups = hostvars[host][FACT], hostvars[host]["groups"]
        if not force and found["stamp_matches"] and ACCOUNT not in hostvars[host]:
            continue
        app = groups.get("app", [])
        rolls = found["serves"] and host in app and len(app) > 1 and groups.get("loadbalancer")
        chosen.append({"host": host, "groups": ["unprovisioned", *(["rolling"] if rolls else [])]})
    return chosen
