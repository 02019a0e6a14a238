"""Filters of the role firewall: what its variables declare, checked and shaped for the template."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla.exposure import allow_list, declared, lockouts
from flotilla.inventory import Sources
from flotilla.packet_filter import declared_rules, locked_out
from flotilla.problem import report
from flotilla.roles import options
from flotilla.vault import relative
from flotilla.volumes import senders

ROOT = Path(__file__).resolve().parents[2]


def flotilla_firewall_problems(declared: Mapping[str, Any], connection: str = "") -> list[str]:
    """Everything that is wrong with the role's variables, each with its variable; empty when nothing is.

    connection: the operator's, as sshd tells it in SSH_CONNECTION; empty when it is not known.
    """
    rules, problems = declared_rules(declared)
    lockout = "" if problems else locked_out(rules, connection)
    return [*problems, lockout] if lockout else problems


def flotilla_firewall_rules(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The role's variables as its template needs them. Raises AnsibleFilterError with all problems, one a line."""
    rules, problems = declared_rules(declared)
    if problems:
        raise AnsibleFilterError("\n".join(problems))
    return rules.describe()


def flotilla_firewall_allow(
    host: str, hostvars: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]
) -> Any:
    """What the groups of a host need of its firewall."""
    sending = senders(groups, hostvars[host].get("apps"), lambda one: bool(hostvars[one].get("redis_durable")))
    asked = {*sending, *(one for group in ("app", "loadbalancer", "postgres") for one in groups.get(group, []))}
    addresses = {one: str(hostvars[one].get("private_address", "")) for one in asked}
    return allow_list(hostvars[host]["group_names"], hostvars[host], groups, addresses, sending)


def flotilla_firewall_lockouts(
    hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], sources: Sequence[str], playbook: str
) -> str:
    """Why the firewall of some hosts would shut out whoever runs this, one problem a line; empty when none would.

    hostvars: with what the check of the host found as `preflight_host`.  sources: the inventory's, in order.
    """
    paths = [Path(source).absolute() for source in sources]
    places = Sources(tuple(path if path.is_dir() else path.parent for path in paths), ROOT)
    command = " ".join(["ansible-playbook", playbook, *(f"-i {relative(path, ROOT)}" for path in paths)])
    specs = options(ROOT / "roles")["firewall"]
    connected = [
        (host, declared(hostvars[host], specs), str(hostvars[host]["preflight_host"].get("ssh_connection", "")))
        for host in hosts
    ]
    return report(lockouts(connected, places, command))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "flotilla_firewall_allow": flotilla_firewall_allow,
            "flotilla_firewall_lockouts": flotilla_firewall_lockouts,
            "flotilla_firewall_problems": flotilla_firewall_problems,
            "flotilla_firewall_rules": flotilla_firewall_rules,
        }
