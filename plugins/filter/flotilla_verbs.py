# MIT License, see LICENSE at the root of the project.
"""Filters of the operators' verbs: what all hosts said, as one text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla import overview


def _said(hostvars: Mapping[str, Any], hosts: Iterable[str], name: str) -> dict[str, Mapping[str, Any]]:
    return {host: hostvars[host].get(name) or {} for host in hosts}


def status(
    hostvars: Mapping[str, Any],
    hosts: Iterable[str],
    name: str,
    inventories: Iterable[str],
    balancers: Iterable[Mapping[str, Any]] = (),
    certificates: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`lines` and `problems` of what the hosts registered under `name`, and of what a loop over the balancers did.

    certificates: the same of the certificates.
    """
    command = "".join(f" -i {inventory}" for inventory in inventories)
    told = overview.status(_said(hostvars, hosts, name), f", ansible-playbook deploy.yml{command}" if command else "")
    asked = {str(one["status_balancer"]): one for one in balancers if "status_balancer" in one}
    seen = overview.balanced(asked)
    lasting = certificates or {}
    return {key: [*told[key], *seen[key], *lasting.get(key, [])] for key in ("lines", "problems")}


def rooms(hostvars: Mapping[str, Any], hosts: Iterable[str], name: str) -> dict[str, Any]:
    """`lines` and `problems` of the disks of hosts without apps."""
    return overview.rooms(_said(hostvars, hosts, name))


def history(hostvars: Mapping[str, Any], hosts: Iterable[str], name: str, number: int) -> list[str]:
    """The histories of all hosts, merged."""
    return overview.history(_said(hostvars, hosts, name), int(number))


def logs(hostvars: Mapping[str, Any], hosts: Iterable[str], name: str) -> list[str]:
    """The log lines of all hosts."""
    return overview.logs(_said(hostvars, hosts, name))


def images(hostvars: Mapping[str, Any], hosts: Iterable[str], name: str) -> list[str]:
    """How old the images of all hosts are."""
    return overview.images(_said(hostvars, hosts, name))


def targets_of(hostvars: Mapping[str, Any], hosts: Iterable[str], name: str, but: str = "") -> dict[str, list[int]]:
    """Address (the variable `name`) → ports that the host listens on, as it said in `validate_host`."""
    found = {}
    for host in set(hosts) - {but}:
        if address := str(hostvars[host].get(name) or ""):
            found[address] = list((hostvars[host].get("validate_host") or {}).get("ports") or [])
    return found


class FilterModule:
    """Registers the filters with Ansible."""

    def filters(self) -> dict[str, Any]:
        """Filter names, all prefixed with the project's."""
        return {
            "flotilla_images_told": images,
            "flotilla_status": status,
            "flotilla_rooms": rooms,
            "flotilla_history": history,
            "flotilla_logs": logs,
            "flotilla_targets_of": targets_of,
        }
